"""A client of the daemon: one connection, requests answered in order, pushes in order; and one call for commands.

Guarantees: `ask` returns the answer to its own request or raises; `send` keeps trying with the same message id until it
has the acknowledgement, so a message is applied once however often the connection breaks meanwhile.
A lost connection raises Disconnected in whoever waits; subscriptions are taken up again by number, by their owner.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import trio

from drivers.door import wire
from drivers.door.lines import Lines, address
from kernel.errors import BadInput, KernelError
from kernel.event import Message
from kernel.process import State

SOCKET: Final = "kernel.sock"  # its name in the data directory
ANSWER_S: Final = 120.0  # a daemon that takes longer to answer is stuck
RETRY_S: Final = 0.2  # between attempts to connect or to send again
PUSHES_MAX: Final = 256  # pushes read ahead of their reader while nobody waits for an answer that stands behind them

TURN_NOTES: Final = ("run", "turn", "exit")  # after which a turn may have ended

A = TypeVar("A", bound=wire.AnyAnswer)
T = TypeVar("T")


class Disconnected(KernelError):
    """There is no daemon at the socket, or it went away; what was asked may or may not have been done."""


class Refused(KernelError):
    """The daemon said no. `retry_after_s` is set where trying again can help."""

    def __init__(self, error: str, retry_after_s: float | None) -> None:
        super().__init__(error)
        self.retry_after_s = retry_after_s


def new_mid() -> str:
    """A message id that nobody else has made."""
    return uuid.uuid4().hex


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
        reply = wire.decode_reply(raw)
        if isinstance(reply, wire.Failed):
            raise Refused(reply.error, reply.retry_after_s)
        if reply != wire.Hello(version=wire.VERSION):
            raise BadInput(f"the daemon at {self._path} speaks another protocol than {wire.VERSION}; restart it")

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
        self._last += 1
        raw = wire.encode(msgspec.structs.replace(request, id=self._last))
        if len(raw) > wire.LINE_BYTES_MAX:
            raise BadInput(f"the request has {len(raw)} bytes; at most {wire.LINE_BYTES_MAX} are allowed")
        number = self._last
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
        if isinstance(reply, wire.Failed):
            raise Refused(reply.error, reply.retry_after_s)
        if not isinstance(reply, answer):
            raise BadInput(f"the daemon answered {type(reply).__name__} to {type(request).__name__}")
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
        raise Disconnected(f"no llmos runs in {path.parent} ({exc.strerror}); start one with llmos boot") from exc
    except BaseException:
        sock.close()
        raise
    stream = trio.SocketStream(sock)
    client = Client(stream, path)
    failure: Exception | None = None
    try:
        await client.greet()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.read)
            try:
                yield client
            except Exception as exc:  # noqa: BLE001 - carried past the nursery, which would wrap it in a group
                failure = exc
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
    finally:
        await trio.aclose_forcefully(stream)


async def send(path: Path, proc: str | int, text: str, mid: str, patience_s: float) -> wire.Ok:
    """Send a message and return its acknowledgement, connecting and sending again for up to `patience_s`.

    The daemon drops what it has, so a message is applied once. Raises Disconnected or Refused when patience ends, and
    at once where trying again will not help.
    """
    deadline = trio.current_time() + patience_s
    while True:  # until acknowledged, refused for good, or out of patience
        try:
            async with connect(path) as client:
                return await client.ask(wire.Send(id=0, proc=proc, mid=mid, text=text), wire.Ok)
        except Disconnected:
            wait_s = RETRY_S
            if trio.current_time() + wait_s > deadline:
                raise
        except Refused as exc:
            wait_s = math.inf if exc.retry_after_s is None else exc.retry_after_s
            if trio.current_time() + wait_s > deadline:
                raise
        await trio.sleep(wait_s)


async def converse(
    path: Path, proc: str | int, text: str, mid: str, patience_s: float
) -> tuple[wire.Ok, list[Message]]:
    """Send a message and wait for what the process says in answer to it, until its turn ends.

    The messages are acknowledged, unless older ones wait for another reader. The list is empty if the turn ended
    without a reply, or if another reader took it. Connects and sends again for up to `patience_s` at a time.
    """
    while True:  # until the turn has ended
        ok = await send(path, proc, text, mid, patience_s)
        try:
            async with connect(path) as client:
                return ok, await _replies(client, proc, mid)
        except Disconnected:
            await trio.sleep(RETRY_S)


async def _replies(client: Client, proc: str | int, mid: str) -> list[Message]:
    """The messages that answer `mid`, which is acknowledged; what came before we subscribed is in the outbox."""
    await client.ask(wire.Subscribe(id=0, proc=proc, log=True), wire.Ok)
    while True:  # until the turn has ended
        view = (await client.ask(wire.Ps(id=0, proc=proc), wire.Processes)).processes[0]
        outbox = (await client.ask(wire.Outbox(id=0, proc=proc), wire.Messages)).messages
        found = [message for message in outbox if mid in message.answers]
        resting = view.state is State.ZOMBIE or (view.state is State.IDLE and not view.pending)
        if resting or (found and found[-1].ends):
            if found and found[0].seq == view.acked + 1:
                await client.ask(wire.Ack(id=0, pid=view.pid, upto=found[-1].seq), wire.Ok)
            return found
        while not turns(push := await client.receive()):
            if isinstance(push, wire.Ended):
                raise Disconnected(push.error)


def turns(push: wire.AnyPush) -> bool:
    """Whether a push tells of something after which a turn may have ended."""
    return isinstance(push, wire.Logged) and any(note.what in TURN_NOTES for note in push.entry.notes)


def call(path: Path, request: wire.Subscribe | wire.AnyCommand, answer: type[A]) -> A:
    """One request over a connection of its own, for commands; not to be called inside trio."""

    async def asked() -> A:
        async with connect(path) as client:
            return await client.ask(request, answer)

    return run(asked)


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
