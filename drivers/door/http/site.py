"""The site: all that is served over HTTP, behind one check of who asks, and how it is served.

Guarantees: nothing but /healthz is answered to whom access.py refuses, a browser excepted, which is asked for the token
(a 401, too); every answer but the console's files is JSON or events, errors in the form of errors.py, and says that it
is not to be kept, framed, or taken for anything else; what nobody foresaw is a 500 with the request's id, and the
machine goes on.
Not here: HTTP itself (server.py), the routes' own files (native.py, page.py, openai/).
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

import msgspec
import trio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import Message, Receive, Scope, Send

from drivers.door import desk
from drivers.door.http import errors, metrics, openapi, page, server, token
from drivers.door.http.access import Access
from drivers.door.http.anthropic import Messages
from drivers.door.http.errors import Refusal
from drivers.door.http.events import GOODBYE_S
from drivers.door.http.given import Live, Userland, address
from drivers.door.http.log import Log
from drivers.door.http.native import Native
from drivers.door.http.openai.asking import Asking
from drivers.door.http.openai.chat import Chat
from drivers.door.http.openai.models import Embeddings, Models
from drivers.door.http.openai.responses import Responses
from drivers.door.http.server import Gone
from kernel.errors import KernelPanic, Stopped
from kernel.machine.loop import Machine

ALWAYS: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""Headers of every answer that has no such one of its own."""
FORM_BYTES_MAX: Final = 4_096
METHODS: Final = "GET, POST, DELETE, OPTIONS"
MAY_SEND: Final = "authorization, content-type, last-event-id"


class Site:
    """The application, as ASGI has it."""

    def __init__(self, machine: Machine, access: Access, routes: list[BaseRoute], log: Log) -> None:
        self._machine, self._access, self._log = machine, access, log
        self._answers: Counter[int] = Counter()  # by status
        own = [
            Route("/healthz", self._health),
            Route("/login", self._login, methods=["GET", "POST"]),
            Route("/metrics", self._metrics, methods=["GET"]),
        ]
        self._router = Router([*own, *routes], redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = Request(scope)
        scope["app"] = self  # a router that stands alone would answer in plain text
        begun, status, since = False, 0, trio.current_time()

        async def told(message: Message) -> None:
            nonlocal begun, status
            if message["type"] == "http.response.start":
                begun, status = True, message["status"]
                has = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(one for one in self._own(request) if one[0] not in has)]
            await send(message)

        try:
            try:
                await self._answered(request, receive, told)
            except* (Gone, KernelPanic):
                raise
            except* Exception as group:
                if begun:
                    raise Gone("the answer was given up") from group
                await self._refused(_only(group), request)(scope, receive, told)
        except BaseException:
            if self._machine.stopping and not begun:  # the server is cancelled when the machine has come to rest
                stopped = Stopped("the kernel is stopping; ask again when it is up")
                with trio.move_on_after(GOODBYE_S, shield=True), suppress(Gone):
                    await self._refused(stopped, request)(scope, receive, told)
            raise
        finally:
            if status:
                self._answers[status] += 1
                took, client = trio.current_time() - since, str(scope["client"][0])
                self._log.answered(errors.ident(request), scope["method"], scope["path"], status, took, client)

    async def _answered(self, request: Request, receive: Receive, send: Send) -> None:
        """Let a request in, to its route. Raises what it is refused with."""
        scope = request.scope
        self._access.check(scope["method"], scope["path"], dict(request.headers.items()))
        if scope["method"] == "OPTIONS" and request.headers.get("origin") in self._access.origins:
            await Response(status_code=204)(scope, receive, send)
            return
        await self._router(scope, receive, send)

    def _own(self, request: Request) -> list[tuple[bytes, bytes]]:
        origin = request.headers.get("origin")
        if origin is None or origin not in self._access.origins:
            return list(ALWAYS)
        more = {
            b"access-control-allow-origin": origin.encode(),
            b"access-control-allow-methods": METHODS.encode(),
            b"access-control-allow-headers": MAY_SEND.encode(),
            b"access-control-expose-headers": b"x-request-id, retry-after",
            b"cross-origin-resource-policy": b"cross-origin",
            b"vary": b"origin",
        }
        return [*(one for one in ALWAYS if one[0] not in more), *more.items()]

    def _refused(self, exc: Exception, request: Request) -> Response:
        """What went wrong, as an answer."""
        name = errors.ident(request)
        if isinstance(exc, HTTPException):
            what = f"{request.method[:20]} {request.url.path[:200]}"
            said = {404: f"there is no {what}", 405: f"{what} is not allowed"}.get(exc.status_code, exc.detail)
            return errors.answer(Refusal(exc.status_code, said, code="no_route"), name, exc.headers)
        try:
            found = errors.refusal(exc)
        except Exception:  # a bug: it is logged with the request's name, and told as one
            return errors.answer(Refusal(500, desk.broken(0, exc, name).error, code="broken"), name)
        if found.status == 401 and "text/html" in request.headers.get("accept", ""):
            tried = request.method == "POST" or bool(request.query_params.get("token"))
            return page.form("That is not the token." if tried else "")
        return errors.answer(found, name, {"www-authenticate": "Bearer"} if found.status == 401 else None)

    async def _health(self, request: Request) -> Response:
        stopping = self._machine.stopping
        return errors.json({"status": "stopping" if stopping else "ok"}, 503 if stopping else 200)

    async def _metrics(self, request: Request) -> Response:
        return Response(metrics.exposition(self._machine, self._answers), media_type=metrics.TYPE)

    async def _login(self, request: Request) -> Response:
        """Let a browser in that comes with the token, in the query or from the form."""
        given = request.query_params.get("token", "")
        if request.method == "POST":
            request.state.body_max = FORM_BYTES_MAX
            given = parse_qs((await errors.read(request)).decode("latin-1")).get("token", [""])[0]
        if not self._access.matches(given.strip()):
            raise Refusal(401, "a token is needed, as ?token=...; `llmos token` prints it", code="token")
        cookie = self._access.cookie(request.headers.get("host", ""))
        return Response(status_code=303, headers={"location": "/", "set-cookie": cookie})


def _only(group: BaseExceptionGroup[Exception]) -> Exception:
    """The error of a group of one: what is done for a request has one that matters."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, Exception)
    return found


def routes(machine: Machine, asking: Asking, userland: Userland) -> list[BaseRoute]:
    """All that is served."""
    document = msgspec.json.encode(openapi.document())

    async def described(request: Request) -> Response:
        return Response(document, media_type="application/json")

    models, responses = Models(asking), Responses(asking)
    return [
        *page.Console(userland.scenarios).routes(),
        *Native(machine).routes(),
        Route("/openapi.json", described),
        Route("/v1/models", models.list, methods=["GET"]),
        Route("/v1/models/{id:path}", models.get, methods=["GET"]),
        Route("/v1/chat/completions", Chat(asking).create, methods=["POST"]),
        Route("/v1/messages", Messages(asking).create, methods=["POST"]),
        Route("/v1/embeddings", Embeddings(userland).create, methods=["POST"]),
        Route("/v1/responses", responses.create, methods=["POST"]),
        Route("/v1/responses/{id}", responses.get, methods=["GET"]),
        Route("/v1/conversations", responses.begin, methods=["POST"]),
        Route("/v1/conversations/{id}", responses.conversation, methods=["GET"]),
        Route("/v1/conversations/{id}/items", responses.items, methods=["GET"]),
    ]


async def serve(
    machine: Machine,
    directory: Path,
    given: Live,
    userland: Userland,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `machine` as `given` says, now and when it says otherwise, until cancelled.

    Started, with the URLs, once clients can connect.
    Raises BadInput in one line if the host does not let us.
    """
    file = directory / token.FILE
    token.made(file)
    host, port = address(given.now.listen)
    listeners = await server.listen(host, port)
    access = Access(file, given)
    asking = Asking(machine, given, userland.spoken, access.token)
    await asking.making.swept()
    site = Site(machine, access, routes(machine, asking, userland), Log(given))
    found = [f"http://{f'[{name}]' if ':' in name else name}:{number}" for name, number in server.addresses(listeners)]
    task_status.started(found)
    await server.Server(site, errors.before).serve(listeners)
