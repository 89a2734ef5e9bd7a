"""Who may come in over HTTP: the token, and which Host and Origin a request may name.

Whoever has the token is the machine's owner. It is read again when its file has changed, so a new one shuts the others
out at once. It comes as `Authorization: Bearer`, or in a cookie, which is made of it and is not it.
A page of another site cannot ask: its requests name its Origin and get 403. Nor can one whose name was made to lead
here: they name its Host and get 421. A Host that is an address is no name, and is let in.
Not here: the file of the token (token.py), the routes (site.py).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from drivers.door.http import token
from drivers.door.http.errors import Refusal
from drivers.door.http.given import Live
from kernel.errors import BadInput

OPEN: Final = ("/healthz", "/login")  # which anybody may ask; /login asks for the token itself
COOKIE_S: Final = 30 * 86_400


class Access:
    """What a request is held to."""

    def __init__(self, file: Path, given: Live) -> None:
        """`file`: of the token."""
        self._file, self._given = file, given
        self._seen: tuple[int, int] = (0, 0)
        self._token = ""

    @property
    def origins(self) -> tuple[str, ...]:
        """Of pages elsewhere that may ask."""
        return self._given.now.origins

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Raises Refusal for a request that may not come in. `headers`: by names in lower case."""
        host = headers.get("host", "")
        if not self._known(host):
            raise Refusal(421, f"this is not {host[:80]!r}; `[http] hosts` names others", code="host")
        origin = headers.get("origin")
        foreign = origin is not None and origin not in self.origins and not _same(origin, host)
        if foreign or (origin is None and headers.get("sec-fetch-site") == "cross-site"):
            page = (origin or "another site")[:80]
            raise Refusal(403, f"a page of {page} may not ask; `[http] origins` names those that may", code="origin")
        if path in OPEN or (method == "OPTIONS" and origin in self.origins):
            return
        if not self._let_in(headers):
            raise Refusal(401, "a token is needed, as Authorization: Bearer; `llmos token` prints it", code="token")

    def token(self) -> str:
        """The token as its file has it now. Raises BadInput if that cannot be read."""
        try:
            found = self._file.stat()
        except OSError as exc:
            raise BadInput(f"{self._file}: {exc.strerror}") from exc
        if self._seen != (found.st_mtime_ns, found.st_ino):
            self._token = token.read(self._file)
            self._seen = (found.st_mtime_ns, found.st_ino)
        return self._token

    def matches(self, given: str) -> bool:
        """Whether that is the token; takes as long whatever is wrong with it."""
        with suppress(BadInput):
            return hmac.compare_digest(given.encode(errors="replace"), self.token().encode())
        return False

    def cookie(self, host: str) -> str:
        """A Set-Cookie header that lets a browser in; cookies know no ports, so its name has that of Host."""
        value = _pass(self.token())
        return f"{_name(_port(host))}={value}; Path=/; Max-Age={COOKIE_S}; HttpOnly; SameSite=Strict"

    def _known(self, host: str) -> bool:
        name = _host(host)
        if name in ("localhost", *(host.lower() for host in self._given.now.hosts)):
            return True
        with suppress(ValueError):
            ipaddress.ip_address(name)
            return True
        return False

    def _let_in(self, headers: Mapping[str, str]) -> bool:
        if "x-api-key" in headers and "authorization" not in headers:  # as clients of Anthropic's say it
            return self.matches(headers["x-api-key"].strip())
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self.matches(given.strip())
        if "authorization" in headers:
            return False
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        mine = cookies.get(_name(_port(headers.get("host", ""))))
        with suppress(BadInput):
            return mine is not None and hmac.compare_digest(mine.value.encode(), _pass(self.token()).encode())
        return False


def _pass(token: str) -> str:
    """What a cookie has of a token."""
    return hashlib.blake2b(b"llmos cookie", key=token.encode()[:64], digest_size=32).hexdigest()


def _name(port: int) -> str:
    return f"llmos_{port}"


def _host(host: str) -> str:
    """The name in a Host header, without its port and brackets."""
    name = host.rpartition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    return name.lower().rstrip(".")


def _port(host: str) -> int:
    port = host.rpartition("]")[2].rpartition(":")[2]
    return int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 80


def _same(origin: str, host: str) -> bool:
    """Whether a page of `origin` is one of ours."""
    try:
        seen = urlsplit(origin)
        return seen.scheme in ("http", "https") and seen.netloc.lower() == host.lower() != ""
    except ValueError:
        return False
