"""A client of the daemon on trio: answers and pushes reach it while it waits for something else, as a chat must.

Guarantees: `ask` returns the answer to its own request or raises. A lost connection raises Disconnected in whoever
waits; subscriptions are taken up again by number, by their owner.
Not here: a command's one request, which needs no event loop (ask.py, whose words are used here).
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import trio

from drivers.door import wire
from drivers.door.lines import Lines, address
from kernel.errors import BadInput
from llmos.ask import (
    ANSWER_S,
    SOCKET,
    A,
    Disconnected,
    Refused,
    absent,
    expected,
    new_mid,
    numbered,
    turns,
    welcomed,
)

__all__ = ["SOCKET", "Client", "Disconnected", "Refused", "connect", "leaf", "new_mid", "run", "turns"]

PUSHES_MAX: Final = 256  # pushes read ahead of their reader while nobody waits for an answer that stands behind them

T = TypeVar("T")


class Client:
    """A connection to a daemon; made by `connect`."""

    def __init__(self, stream: trio.SocketStream, path: Path) -> None:
        self._stream, self._lines, self._path = stream, Lines(stream), path
        self._writing = trio.Lock()
        self._last = 0
        self._waiting: dict[int, trio.MemorySendChannel[wire.AnyAnswer]] = {}
        self._push, self._pushed = trio.open_memory_channel[wire.AnyPush](math.inf)  # bounded by `read`
        self._room = trio.Event()
        self._lost = ""

    async def greet(self) -> None:
        """Say hello. Raises BadInput if the daemon speaks another protocol."""
        try:
            with trio.fail_after(ANSWER_S):
                await self._stream.send_all(wire.encode(wire.Hello(version=wire.VERSION)))
                raw = await self._lines.next()
        except (trio.BrokenResourceError, trio.TooSlowError) as exc:
            raise Disconnected(f"{self._path}: the daemon does not answer") from exc
        if raw is None:
            raise Disconnected(f"{self._path}: the daemon hung up")
        welcomed(wire.decode_reply(raw), self._path)

    async def read(self) -> None:
        """Hand answers and pushes to those who wait, until the connection ends."""
        try:
            while (raw := await self._lines.next()) is not None:
                reply = wire.decode_reply(raw)
                if isinstance(reply, wire.AnyPush):
                    self._push.send_nowait(reply)
                    while self._push.statistics().current_buffer_used >= PUSHES_MAX and not self._waiting:
                        self._room = trio.Event()
                        await self._room.wait()
                elif not isinstance(reply, wire.Hello) and reply.id in self._waiting:
                    self._waiting[reply.id].send_nowait(reply)
            self._lost = "the daemon is gone"
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._lost = "the daemon is gone"
        except BadInput as exc:
            self._lost = str(exc)
        finally:
            self._push.close()
            for waiting in self._waiting.values():
                waiting.close()

    async def receive(self) -> wire.AnyPush:
        """The next push of the subscription. Raises Disconnected when there will be no more."""
        try:
            push = await self._pushed.receive()
        except trio.EndOfChannel as exc:
            raise Disconnected(self._lost or "the daemon is gone") from exc
        self._room.set()
        return push

    async def ask(self, request: wire.Subscribe | wire.AnyCommand, answer: type[A]) -> A:
        """Send a request (its id is set here) and wait for its answer, of the type that the request calls for.

        Raises Refused if the daemon says no, Disconnected if it goes away.
        """
        found = expected(await self._asked(request), request, answer)
        while (rest := wire.onward(request, found)) is not None:  # an answer in parts, of which each goes further
            found = expected(wire.joined(found, await self._asked(rest)), request, answer)
        return found

    async def _asked(self, request: wire.Subscribe | wire.AnyCommand) -> wire.AnyAnswer:
        """The answer to a request, or the first part of it."""
        self._last += 1
        number = self._last
        raw = numbered(request, number)
        send, receive = trio.open_memory_channel[wire.AnyAnswer](1)
        self._waiting[number] = send
        self._room.set()
        try:
            if self._lost:
                raise Disconnected(self._lost)
            with trio.fail_after(ANSWER_S):
                async with self._writing:
                    await self._stream.send_all(raw)
                reply = await receive.receive()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.EndOfChannel) as exc:
            raise Disconnected(self._lost or "the daemon is gone") from exc
        except trio.TooSlowError as exc:
            raise Disconnected(f"the daemon has not answered for {ANSWER_S:.0f} s") from exc
        finally:
            del self._waiting[number]
            send.close()
            receive.close()
        return reply


@asynccontextmanager
async def connect(path: Path) -> AsyncIterator[Client]:
    """A connection to the daemon at socket `path`. Raises Disconnected if there is none."""
    sock = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    try:
        with address(path) as name:
            await sock.connect(name)
    except OSError as exc:
        sock.close()
        raise absent(path, exc) from exc
    except BaseException:
        sock.close()
        raise
    stream = trio.SocketStream(sock)
    client = Client(stream, path)
    try:
        await client.greet()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.read)
            yield client
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:  # `read` raises nothing: what the nursery has wrapped is the caller's own
        raise next(
            (one for one in group.exceptions if not isinstance(one, trio.Cancelled)), group.exceptions[0]
        ) from None
    finally:
        await trio.aclose_forcefully(stream)


def run(function: Callable[[], Awaitable[T]]) -> T:
    """trio.run, with an error that nurseries have wrapped raised as itself."""
    try:
        return trio.run(function)
    except BaseExceptionGroup as group:
        raise leaf(group) from None


def leaf(exc: BaseException) -> BaseException:
    """The first error in a group that is not the cancellation which another caused; `exc` itself if it is none."""
    while isinstance(exc, BaseExceptionGroup):
        exc = next((one for one in exc.exceptions if not isinstance(one, trio.Cancelled)), exc.exceptions[0])
    return exc
