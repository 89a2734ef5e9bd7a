"""A server of tools over HTTP: what it may answer, and when a session with it is over.

No body is longer than TOLD_BYTES_MAX, no message of a stream either, and nothing is unpacked: a server that packs
what was not to be packed is down. A redirect to another host is not followed (that is the SDK's), so that what is sent
with each request goes to the given host alone. A server that knows the session no more says so once, and a new one is
begun: else every use until the machine's end would be refused.
"""

from __future__ import annotations

import http
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
import msgspec
from mcp.client.streamable_http import MCP_SESSION_ID, streamable_http_client

from drivers.device.given import LIMIT_S_MAX, Given
from kernel.errors import DeviceError
from kernel.limits import TOLD_BYTES_MAX

CONNECT_S: Final = 30.0
HEAR_S: Final = (
    10.0  # to take what wants no answer, such as that a use is cancelled: what comes after it waits for that
)
LEAVE_S: Final = 2.0  # to say that a session is over
EVENTS: Final = "text/event-stream"


@asynccontextmanager
async def talking(given: Given, at_once: int, said: Callable[[str, bool], None]) -> AsyncIterator[tuple[Any, Any]]:
    """The streams of its messages, as the SDK's sessions take them, for so many uses at once.

    `said` gets what a refused request was refused with, in words, and whether the session is over with it. Raises
    BadInput for headers that cannot be sent; what httpx2 raises, in a group, for a server that is not there.
    """

    async def asked(request: httpx2.Request) -> None:
        if request.method == "DELETE":
            request.extensions["timeout"] = httpx2.Timeout(LEAVE_S).as_dict()
        elif request.method == "POST" and "id" not in msgspec.json.decode(request.content):
            request.extensions["timeout"] = httpx2.Timeout(HEAR_S).as_dict()

    async def answered(response: httpx2.Response) -> None:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise DeviceError("it packs its answers, though it was asked not to")
        if not response.headers.get("content-type", "").lower().startswith(EVENTS):
            response.stream = _Bounded(response.stream)
        if response.status_code >= http.HTTPStatus.BAD_REQUEST and response.request.method == "POST":
            over = response.status_code == http.HTTPStatus.NOT_FOUND and MCP_SESSION_ID in response.request.headers
            said("it has ended the session" if over else f"it answers {_status(response.status_code)}", over)

    connections = at_once + 2  # that on which the server speaks unasked, and that which ends the session
    async with (
        httpx2.AsyncClient(
            headers={"Accept-Encoding": "identity", **given.sent()},
            timeout=httpx2.Timeout(CONNECT_S, read=LIMIT_S_MAX),  # a use has its own limit
            limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
            event_hooks={"request": [asked], "response": [answered]},
        ) as client,
        streamable_http_client(given.url, http_client=client, max_sse_event_size=TOLD_BYTES_MAX) as streams,
    ):
        yield streams[0], streams[1]


def _status(code: int) -> str:
    """A status in words of ours: the server's own may say anything."""
    try:
        return f"{code} {http.HTTPStatus(code).phrase}"
    except ValueError:
        return str(code)


class _Bounded(httpx2.AsyncByteStream):
    """A body that breaks off where it is too long."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = TOLD_BYTES_MAX
        async for piece in self._inner:
            left -= len(piece)
            if left < 0:
                raise httpx2.StreamError(f"an answer of more than {TOLD_BYTES_MAX >> 20} MiB")
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()
