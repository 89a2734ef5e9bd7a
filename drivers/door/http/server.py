"""HTTP/1.1 over trio: an ASGI application served to many clients, of whom none keeps the others out.

h11 reads and writes the protocol; here stand the bounds. Guarantees:
- Of CONNECTIONS_MAX connections the one that has asked nothing for longest makes room, one that sends its head slowly
  among them; a head takes HEAD_BYTES_MAX and HEAD_S at most, a body what the route allows and BODY_S.
- A client that does not read is dropped: a write that takes longer than WRITE_S ends its connection and raises Gone in
  the application. One that hangs up is `http.disconnect` to whoever calls `receive` after the body.
- Whatever comes in, an answer has a request id (header X-Request-Id, `state["id"]` of the scope); what is no HTTP is
  answered by `refuse`, as errors are elsewhere, and the connection ends.
Not here: who may come in (access.py), what is answered (site.py and what it names).
"""

from __future__ import annotations

import resource
import socket
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from email.utils import formatdate
from typing import Any, Final
from urllib.parse import unquote

import h11
import trio

from drivers.door import desk
from kernel.errors import BadInput, KernelPanic

CONNECTIONS_MAX: Final = 1_024  # each holds a task, a buffer and a file of the host's
FILES_MAX: Final = 4_096  # open files that the host is asked for, where it gives fewer
HEAD_BYTES_MAX: Final = 16_384
HEAD_S: Final = 10.0  # from a request's first byte to the end of its head; and for a new connection's first byte
IDLE_S: Final = 75.0  # between two requests of a connection
BODY_BYTES_MAX: Final = 4 << 20  # of a body, where its route says nothing else: a history of a thousand turns
BODY_S: Final = 30.0
WRITE_S: Final = 30.0  # a client that takes longer to read what one write has is gone or stuck
LINGER_S: Final = 2.0  # what a refused client still sends is read for so long, lest its answer be lost
LINGER_BYTES: Final = 2 * BODY_BYTES_MAX
AHEAD_BYTES: Final = 65_536  # of a next request that came before this one was answered
READ_BYTES: Final = 65_536
BACKLOG: Final = 256
WHY_CHARS: Final = 200  # of what h11 says is wrong, which may quote a whole head

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Refuse = Callable[[int, str, str], tuple[list[tuple[bytes, bytes]], bytes]]
"""Headers and body of an answer to what is no request: of a status, why, and the request's id."""


class Gone(OSError):
    """The client hung up, or does not read."""


class TooMuch(Exception):
    """The body is longer than `most` bytes."""

    def __init__(self, most: int) -> None:
        super().__init__(f"the body is longer than {most} bytes")
        self.most = most


class TooSlow(Exception):
    """The body did not come in time."""


class Malformed(Exception):
    """The body is no HTTP."""


async def listen(host: str, port: int) -> list[trio.SocketListener]:
    """Listen at `host`, which is a name or an address. Raises BadInput if the host does not let us."""
    try:
        found = await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
    except (OSError, UnicodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) and exc.strerror else exc
        raise BadInput(f"--http {host}:{port}: {why}; take another address or port") from exc
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FILES_MAX:
        most = FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, FILES_MAX)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    return found


class Server:
    """What all connections share."""

    def __init__(self, app: App, refuse: Refuse) -> None:
        self.app, self.refuse = app, refuse
        self.connections: dict[Connection, None] = {}

    async def serve(self, listeners: list[trio.SocketListener]) -> None:
        """Until cancelled."""
        await trio.serve_listeners(self.connection, listeners)

    async def connection(self, stream: trio.SocketStream) -> None:
        """A client, until either side hangs up. Raises nothing of the client's."""
        connection = Connection(self, stream)
        if len(self.connections) >= CONNECTIONS_MAX and not self._made_room():
            await connection.refused(503, f"{CONNECTIONS_MAX} clients are connected, and none is idle")
            return
        self.connections[connection] = None
        try:
            await connection.run()
        finally:
            self.connections.pop(connection, None)

    def _made_room(self) -> bool:
        """Whether one that was idle has been told to go: the one that is so for longest."""
        idle = [one for one in self.connections if not one.asking]
        if not idle:
            return False
        longest = min(idle, key=lambda one: one.since_idle)
        del self.connections[longest]
        longest.scope.cancel()
        return True


class Connection:
    """One client."""

    def __init__(self, server: Server, stream: trio.SocketStream) -> None:
        self.server, self.stream = server, stream
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        self.scope = trio.CancelScope()
        self.asking = False  # a request is there and is being answered
        self.since_idle = trio.current_time()
        self.torn = False  # half of something was written, or the client is gone: nothing can follow

    async def run(self) -> None:
        """Answer one request after the other."""
        try:
            with self.scope:
                first = True
                while await self._one(first=first):
                    first = False
        except* Gone:
            pass
        except* KernelPanic:
            raise
        except* Exception as group:  # the last ditch: what one client asks for never ends the others' machine
            desk.broken(0, group, "of HTTP")
        finally:
            await trio.aclose_forcefully(self.stream)

    async def refused(self, status: int, why: str) -> None:
        """Tell a client that is not let in."""
        with suppress(Gone), trio.move_on_after(LINGER_S):
            await self._refuse(status, why)
            await self._linger()
        await trio.aclose_forcefully(self.stream)

    async def _one(self, *, first: bool) -> bool:
        """A request and its answer; whether there may be another."""
        self.asking, self.since_idle = False, trio.current_time()
        try:
            request = await self._head(first=first)
        except h11.RemoteProtocolError as exc:
            await self._refuse(exc.error_status_hint, f"the request is no HTTP: {str(exc)[:WHY_CHARS]}")
            await self._linger()
            return False
        if request is None:
            return False
        self.asking = True
        exchange = Exchange(self, request)
        if request.http_version not in (b"1.0", b"1.1"):
            await self._refuse(505, "HTTP/1.1 is spoken here")
        elif not request.target.startswith(b"/"):
            await self._refuse(400, "the request's target must be a path")
        else:
            await exchange.run()
        if self.http.our_state is h11.DONE and self.http.their_state is h11.DONE and not self.torn:
            self.http.start_next_cycle()
            return True
        await self._linger()
        return False

    async def _head(self, *, first: bool) -> h11.Request | None:
        """The next request; None if the client hangs up or is too slow. Raises RemoteProtocolError."""
        with trio.move_on_after(HEAD_S if first else IDLE_S) as patience:
            begun = first
            while True:  # until a whole head, or patience ends
                event = self.http.next_event()
                if isinstance(event, h11.Request):
                    return event
                if isinstance(event, h11.ConnectionClosed):
                    return None
                if not await self.read():
                    return None
                if not begun:
                    begun, patience.deadline = True, trio.current_time() + HEAD_S
        return None

    async def read(self) -> bool:
        """Read what there is; False at the end."""
        try:
            chunk = await self.stream.receive_some(READ_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            chunk = b""
        try:
            self.http.receive_data(chunk)
        except h11.RemoteProtocolError:  # after the end, or in a state that it has left for good
            return False
        return bool(chunk)

    async def write(self, *events: h11.Event) -> None:
        """Send. Raises Gone if the client is, or does not read."""
        if self.torn:
            raise Gone("the client is gone")
        raw = b"".join(self.http.send(event) or b"" for event in events)
        self.torn = True
        try:
            with trio.move_on_after(WRITE_S):
                await self.stream.send_all(raw)
                self.torn = False
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise Gone("the client hung up") from exc
        if self.torn:
            raise Gone("the client does not read")

    async def _refuse(self, status: int, why: str) -> None:
        """Answer what never became a request; the connection is to end."""
        if self.http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        ident = new_id()
        headers, body = self.server.refuse(status, why, ident)
        own = [(b"content-length", b"%d" % len(body)), (b"connection", b"close"), (b"x-request-id", ident.encode())]
        response = h11.Response(status_code=status, headers=[*headers, *own])
        await self.write(response, h11.Data(data=body), h11.EndOfMessage())

    async def _linger(self) -> None:
        """Let a client that still sends read its answer: closing under it would take that away."""
        left = LINGER_BYTES
        with trio.move_on_after(LINGER_S), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.stream.send_eof()
            while left > 0:
                chunk = await self.stream.receive_some(READ_BYTES)
                if not chunk:
                    return
                left -= len(chunk)


def new_id() -> str:
    """A request's name."""
    return f"req_{uuid.uuid4().hex[:16]}"


class Exchange:
    """A request and its answer, as ASGI has them."""

    def __init__(self, connection: Connection, request: h11.Request) -> None:
        self._connection, self._http, self._request = connection, connection.http, request
        self._state: dict[str, Any] = {"id": new_id(), "body_max": BODY_BYTES_MAX, "body_s": BODY_S}
        self._began = trio.current_time()
        self._read = 0  # bytes of the body
        self._whole = False  # the body is
        self._response: h11.Response | None = None
        self._ended = False

    async def run(self) -> None:
        """Let the application answer. Raises Gone if the client is."""
        await self._connection.server.app(self._scope(), self.receive, self.send)
        if not self._ended:
            raise Gone("the answer was given up")

    def _scope(self) -> Scope:
        path, _, query = self._request.target.partition(b"?")
        sock = self._connection.stream.socket
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": self._request.http_version.decode(),
            "method": self._request.method.decode("ascii").upper(),
            "scheme": "http",
            "path": unquote(path.decode("latin-1")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(self._request.headers),
            "client": _peer(sock.getpeername) or ("", 0),
            "server": _peer(sock.getsockname) or ("", 0),
            "state": self._state,
        }

    async def receive(self) -> Message:
        """The body, piece by piece; then, when it hangs up, that the client has."""
        if not self._whole:
            return await self._body()
        while len(self._http.trailing_data[0]) < AHEAD_BYTES:
            if not await self._connection.read():
                return {"type": "http.disconnect"}
        await trio.sleep_forever()
        raise AssertionError("that never ends")

    async def _body(self) -> Message:
        most = self._state["body_max"]
        claimed = next((value for name, value in self._request.headers if name == b"content-length"), b"0")
        if int(claimed) > most:
            raise TooMuch(most)
        if self._http.their_state is h11.DONE:  # it was passed over when the answer began
            self._whole = True
            return {"type": "http.request", "body": b"", "more_body": False}
        if self._http.they_are_waiting_for_100_continue:
            await self._connection.write(h11.InformationalResponse(status_code=100, headers=[]))
        with trio.move_on_at(self._began + self._state["body_s"]):
            while True:  # until a piece of it, its end, or the time is over
                try:
                    event = self._http.next_event()
                except h11.RemoteProtocolError as exc:
                    raise Malformed(f"the body is no HTTP: {str(exc)[:WHY_CHARS]}") from exc
                if isinstance(event, h11.Data):
                    self._read += len(event.data)
                    if self._read > most:
                        raise TooMuch(most)
                    return {"type": "http.request", "body": bytes(event.data), "more_body": True}
                if isinstance(event, h11.EndOfMessage):
                    self._whole = True
                    return {"type": "http.request", "body": b"", "more_body": False}
                if isinstance(event, h11.ConnectionClosed) or not await self._connection.read():
                    self._whole = True
                    return {"type": "http.disconnect"}
        raise TooSlow(f"the body did not come within {self._state['body_s']:.0f} s")

    async def send(self, message: Message) -> None:
        """A part of the answer. Raises Gone if the client is."""
        if message["type"] == "http.response.start":
            headers = [(name, value) for name, value in message.get("headers", []) if name != b"x-request-id"]
            headers += [(b"x-request-id", self._state["id"].encode()), (b"date", formatdate(usegmt=True).encode())]
            if not self._skipped():
                headers.append((b"connection", b"close"))
            self._response = h11.Response(status_code=message["status"], headers=headers)
            return
        assert message["type"] == "http.response.body", message["type"]
        events: list[h11.Event] = []
        if self._response is not None:
            events.append(self._response)
            self._response = None
        body = message.get("body", b"")
        if body and self._request.method != b"HEAD":
            events.append(h11.Data(data=body))
        if not message.get("more_body", False):
            self._ended = True
            events.append(h11.EndOfMessage())
        await self._connection.write(*events)

    def _skipped(self) -> bool:
        """Whether the body has come, to its end: what the application did not want of it is passed over."""
        with suppress(h11.RemoteProtocolError):
            while self._http.their_state is h11.SEND_BODY:  # ends: with the body, or with what has come of it
                if self._http.next_event() is h11.NEED_DATA:
                    return False
        return self._http.their_state is h11.DONE


def _peer(name: Callable[[], Any]) -> tuple[str, int] | None:
    with suppress(OSError):
        found = name()
        return (str(found[0]), int(found[1])) if isinstance(found, tuple) else None
    return None


def addresses(listeners: list[trio.SocketListener]) -> list[tuple[str, int]]:
    """Where is listened."""
    families = (socket.AF_INET, socket.AF_INET6)
    return [one.socket.getsockname()[:2] for one in listeners if one.socket.family in families]
