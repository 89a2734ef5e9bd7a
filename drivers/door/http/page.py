"""The console's files and the form that asks a browser for the token, as a browser gets them.

All are read once, when the door is made, and have an ETag: a browser asks whether they are another and keeps what it
has. Guarantee: nothing of what others wrote can become code. The policy lets scripts, styles and requests of this
origin alone through, and no text become markup (trusted types); the form's style is let through by its hash.
Not here: who gets them (access.py), what the console does (the modules in page/).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from drivers.door.http import errors
from drivers.door.http.errors import Refusal

FOLDER: Final = Path(__file__).with_name("page")
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Kinds of files that are served; others in the folder are for people."""
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
FORM_POLICY: Final = (
    "default-src 'none'; style-src 'sha256-{style}'; img-src data:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)


class File(msgspec.Struct, frozen=True):
    """A file as it is served."""

    body: bytes
    kind: str
    etag: str


class Console:
    """The routes of the page."""

    def __init__(self, scenarios: Mapping[str, Callable[[], bytes]], folder: Path = FOLDER) -> None:
        """`scenarios`: by name, what gives the trace of one; called in a thread."""
        self._scenarios = scenarios
        self._files = {str(path.relative_to(folder)): _read(path) for path in sorted(folder.rglob("*.*"))}
        self._files = {name: file for name, file in self._files.items() if file.kind}

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/", self._index),
            Route("/page/scenarios.json", self._listed),
            Route("/page/scenarios/{name}.json", self._traced),
            Route("/page/{name:path}", self._file),
        ]

    async def _index(self, request: Request) -> Response:
        return self._answer(request, "index.html")

    async def _listed(self, request: Request) -> Response:
        return errors.json(sorted(self._scenarios))

    async def _traced(self, request: Request) -> Response:
        name = str(request.path_params["name"])
        if name not in self._scenarios:
            raise Refusal(404, f"no scenario {name[:80]!r} comes with llmos", code="no_route")
        return Response(await trio.to_thread.run_sync(self._scenarios[name]), media_type="application/json")

    async def _file(self, request: Request) -> Response:
        return self._answer(request, str(request.path_params["name"]))

    def _answer(self, request: Request, name: str) -> Response:
        file = self._files.get(name)
        if file is None:
            raise Refusal(404, f"the console has no file {name[:80]!r}", code="no_route")
        headers = {"etag": file.etag, "cache-control": "no-cache", "content-security-policy": POLICY}
        if file.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(file.body, 200, headers, file.kind)


def _read(path: Path) -> File:
    body = path.read_bytes() if path.suffix in TYPES else b""
    return File(body, TYPES.get(path.suffix, ""), f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def form(why: str = "") -> Response:
    """The form that asks for the token, with what was wrong with the last one.

    Its Referrer-Policy is another than elsewhere: with no-referrer a browser names the Origin of a form as null.
    """
    html = (FOLDER / "login.html").read_text()
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.S)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    headers = {"content-security-policy": FORM_POLICY.format(style=digest), "referrer-policy": "same-origin"}
    body = html.replace("<!--why-->", f'<p role="alert">{why}</p>' if why else "")
    return Response(body, 401, headers, TYPES[".html"])
