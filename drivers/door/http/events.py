"""Answers that last: server-sent events, and waiting that ends when the client hangs up.

Guarantees: a stream's head is sent with its first event, so what fails before that is an answer of its own; then a
comment every PING_S, so that both ends see whether the other is there. What the client hangs up on is cancelled at its
next await, and so is what it does not read (server.py).
Not here: what is told (native.py, openai/).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec
import trio
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from drivers.door.http.server import Gone

PING_S: Final = 15.0
GOODBYE_S: Final = 1.0  # for last words while the server is cancelled

T = TypeVar("T")


class Writer:
    """Where a stream's events go."""

    def __init__(self, send: Send, response: Response) -> None:
        self._send, self._response = send, response
        self._writing = trio.Lock()
        self.begun = False  # the head was sent

    @property
    def headers(self) -> MutableHeaders:
        """Of the head, before it is sent."""
        return self._response.headers

    async def event(self, value: Any, *, name: str = "", number: int | None = None) -> None:
        """An event: its data is JSON, or text as it is. Raises Gone if the client is."""
        data = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        head = (f"id: {number}\n" if number is not None else "") + (f"event: {name}\n" if name else "")
        await self.raw(f"{head}data: {data}\n\n".encode())

    async def raw(self, chunk: bytes) -> None:
        """Bytes of the stream, as they are."""
        async with self._writing:
            await self._head()
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end(self) -> None:
        """There will be no more."""
        async with self._writing:
            await self._head()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _head(self) -> None:
        if not self.begun:
            self.begun = True
            status, headers = self._response.status_code, self._response.raw_headers
            await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def ping(self) -> None:
        """Say now and then that the server is there."""
        while True:  # until the stream ends
            await trio.sleep(PING_S)
            if self.begun:
                await self.raw(b": \n\n")


class Stream(Response):
    """Events as `tell` writes them, until it returns or the client hangs up."""

    media_type = "text/event-stream"

    def __init__(self, tell: Callable[[Writer], Awaitable[None]], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no", **(headers or {})})
        self._tell = tell
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        writer = Writer(send, self)
        if scope["method"] != "HEAD":
            await _while_there(receive, self._tell(writer), writer.ping)
        await writer.end()


async def while_there(request: Request, work: Awaitable[T]) -> T:
    """What `work` gives; it is cancelled when the client hangs up. Raises Gone then."""
    return await _while_there(request.receive, work)


async def _while_there(receive: Receive, work: Awaitable[T], *beside: Callable[[], Awaitable[None]]) -> T:
    found: list[T] = []
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":  # until the client hangs up
                pass
            raise Gone("the client hung up")

        nursery.start_soon(watch)
        for one in beside:
            nursery.start_soon(one)
        found.append(await work)
        nursery.cancel_scope.cancel()
    return found[0]
