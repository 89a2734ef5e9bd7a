"""One connection to the daemon over a plain blocking socket: what a command needs, and no event loop.

Guarantees: `ask` returns the answer to its own request or raises; `send` keeps trying with the same message id until it
has the acknowledgement, so a message is applied once however often the connection breaks meanwhile.
The caller's duty: one thread a connection, and never inside trio, for it blocks. Not here: a client that answers and
pushes reach while it waits for something else (client.py), what the lines say (drivers/door/wire.py).
"""

from __future__ import annotations

import enum
import math
import socket
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from drivers.door import wire
from drivers.door.lines import READ_BYTES, address
from kernel.errors import BadInput, KernelError
from kernel.event import Message, What
from kernel.machine.held import Asking
from kernel.machine.replies import Standing

SOCKET: Final = "kernel.sock"  # its name in the data directory
ANSWER_S: Final = 120.0  # a daemon that takes longer to answer is stuck
WAIT_S: Final = 30.0  # of one question for a reply; below ANSWER_S
RETRY_S: Final = 0.2  # between attempts to connect or to send again
TURN_NOTES: Final = (What.RUN, What.TURN, What.EXIT)  # after which a turn may have ended

A = TypeVar("A", bound=wire.AnyAnswer)


class Disconnected(KernelError):
    """There is no daemon at the socket, or it went away; what was asked may or may not have been done."""


class Refused(KernelError):
    """The daemon said no. `retry_after_s` is set where trying again can help; `code` is one of wire.CODES, or ""."""

    def __init__(self, error: str, retry_after_s: float | None, code: str = "") -> None:
        super().__init__(error)
        self.retry_after_s, self.code = retry_after_s, code


def new_mid() -> str:
    """A message id that nobody else has made."""
    return uuid.uuid4().hex


def numbered(request: wire.Subscribe | wire.AnyCommand, number: int) -> bytes:
    """A request as a line, with its id set. Raises BadInput if it is longer than the daemon reads."""
    raw = wire.encode(msgspec.structs.replace(request, id=number))
    if len(raw) > wire.LINE_BYTES_MAX:
        raise BadInput(f"the request has {len(raw)} bytes; at most {wire.LINE_BYTES_MAX} are allowed")
    return raw


def welcomed(reply: wire.AnyReply, path: Path) -> None:
    """Look at the daemon's first line. Raises Refused, or BadInput if it speaks another protocol."""
    if isinstance(reply, wire.Failed) and reply.code in wire.CODES:
        raise Refused(reply.error, reply.retry_after_s, reply.code)
    if isinstance(reply, wire.Failed) and reply.code == wire.PROTOCOL:
        raise BadInput(f"the daemon in {path.parent} says: {reply.error}")
    if reply != wire.Hello(version=wire.VERSION):
        raise BadInput(f"the daemon in {path.parent} speaks an older protocol than {wire.VERSION}: restart it")


def expected(reply: wire.AnyAnswer, request: wire.Subscribe | wire.AnyCommand, answer: type[A]) -> A:
    """The answer, if it is of the type that the request calls for. Raises Refused if the daemon said no."""
    if isinstance(reply, wire.Failed):
        raise Refused(reply.error, reply.retry_after_s, reply.code)
    if not isinstance(reply, answer):
        raise BadInput(f"the daemon answered {type(reply).__name__} to {type(request).__name__}")
    return reply


def absent(path: Path, exc: OSError) -> Disconnected:
    """What to say where nobody listens at `path`."""
    return Disconnected(f"no llmos runs in {path.parent} ({exc.strerror}); start one with llmos boot")


def turns(push: wire.AnyPush) -> bool:
    """Whether a push tells of something after which a turn may have ended."""
    return isinstance(push, wire.Logged) and any(note.what in TURN_NOTES for note in push.entry.notes)


class Connection:
    """A connection that has been greeted; made by `connect`."""

    def __init__(self, sock: socket.socket, path: Path) -> None:
        self._sock, self._path = sock, path
        self._buffer = bytearray()
        self._last = 0
        self._pushes: deque[wire.AnyPush] = deque()  # that came before an answer; as many as one answer takes to come

    def greet(self) -> None:
        """Say hello. Raises BadInput if the daemon speaks another protocol, Disconnected if it does not answer."""
        deadline = time.monotonic() + ANSWER_S
        self._write(wire.encode(wire.Hello(version=wire.VERSION)), deadline)
        welcomed(self._reply(deadline), self._path)

    def ask(self, request: wire.Subscribe | wire.AnyCommand, answer: type[A]) -> A:
        """Send a request (its id is set here) and wait for its answer, of the type that the request calls for.

        Raises Refused if the daemon says no, Disconnected if it goes away or takes longer than ANSWER_S.
        """
        found = expected(self._asked(request), request, answer)
        while (rest := wire.onward(request, found)) is not None:  # an answer in parts, of which each goes further
            found = expected(wire.joined(found, self._asked(rest)), request, answer)
        return found

    def _asked(self, request: wire.Subscribe | wire.AnyCommand) -> wire.AnyAnswer:
        """The answer to a request, or the first part of it."""
        self._last += 1
        deadline = time.monotonic() + ANSWER_S
        self._write(numbered(request, self._last), deadline)
        while True:  # until the answer, or the deadline
            reply = self._reply(deadline)
            if isinstance(reply, wire.AnyPush):
                self._pushes.append(reply)
            elif not isinstance(reply, wire.Hello) and reply.id == self._last:
                return reply

    def receive(self) -> wire.AnyPush:
        """The next push of the subscription, however long it takes. Raises Disconnected when there will be no more."""
        while not self._pushes:  # until a push
            reply = self._reply(None)
            if isinstance(reply, wire.AnyPush):
                self._pushes.append(reply)
        return self._pushes.popleft()

    def _write(self, raw: bytes, deadline: float) -> None:
        try:
            self._wait(deadline)
            self._sock.sendall(raw)
        except TimeoutError as exc:
            raise Disconnected(f"the daemon has not answered for {ANSWER_S:.0f} s") from exc
        except OSError as exc:
            raise Disconnected("the daemon is gone") from exc

    def _reply(self, deadline: float | None) -> wire.AnyReply:
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:  # until a whole line
            searched = len(self._buffer)
            if searched > wire.LINE_BYTES_MAX:
                raise BadInput(f"the daemon's line is longer than {wire.LINE_BYTES_MAX} bytes")
            try:
                self._wait(deadline)
                chunk = self._sock.recv(READ_BYTES)
            except TimeoutError as exc:
                raise Disconnected(f"the daemon has not answered for {ANSWER_S:.0f} s") from exc
            except OSError as exc:
                raise Disconnected("the daemon is gone") from exc
            if not chunk:
                raise Disconnected("the daemon is gone")
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return wire.decode_reply(line)

    def _wait(self, deadline: float | None) -> None:
        """Let the next call on the socket take what is left. Raises TimeoutError if nothing is."""
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)


@contextmanager
def connect(path: Path) -> Iterator[Connection]:
    """A connection to the daemon at socket `path`. Raises Disconnected if there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            with address(path) as name:
                sock.connect(name)
        except OSError as exc:
            raise absent(path, exc) from exc
        found = Connection(sock, path)
        found.greet()
        yield found


def call(path: Path, request: wire.Subscribe | wire.AnyCommand, answer: type[A]) -> A:
    """One request over a connection of its own."""
    with connect(path) as daemon:
        return daemon.ask(request, answer)


def send(path: Path, proc: str | int, text: str, mid: str, patience_s: float) -> wire.Ok:
    """Send a message and return its acknowledgement, connecting and sending again for up to `patience_s`.

    The daemon drops what it has, so a message is applied once. Raises Disconnected or Refused when patience ends, and
    at once where trying again will not help.
    """
    deadline = time.monotonic() + patience_s
    while True:  # until acknowledged, refused for good, or out of patience
        try:
            return call(path, wire.Send(id=0, proc=proc, mid=mid, text=text), wire.Ok)
        except Disconnected:
            wait_s = RETRY_S
            if time.monotonic() + wait_s > deadline:
                raise
        except Refused as exc:
            wait_s = math.inf if exc.retry_after_s is None else exc.retry_after_s
            if time.monotonic() + wait_s > deadline:
                raise
        time.sleep(wait_s)


class Missing(enum.StrEnum):
    """Why there is no reply."""

    ENDED = "ended"  # the turn ended, and nothing was said
    DIED = "died"  # the process is dead
    STOPPED = "stopped"  # the kernel stopped, or is gone
    TIMEOUT = "timeout"


class Answered(msgspec.Struct, frozen=True):
    """What came of a message: the replies, and why there are none or no more of them, as a word and in words."""

    ok: wire.Ok
    messages: tuple[Message, ...] = ()
    missing: Missing | None = None
    why: str = ""


def converse(
    path: Path,
    proc: str | int,
    text: str,
    mid: str,
    patience_s: float,
    within_s: float = math.inf,
    tell: Callable[[Asking], None] = lambda asked: None,
) -> Answered:
    """Send a message and wait for what the process says in answer to it, until its turn ends or `within_s` are over.

    `tell`: called with what it asks for meanwhile, each once; that is waited for, too.
    The reply is found whoever has acknowledged it. It is acknowledged here, unless older messages wait for another
    reader. A daemon that is lost is looked for again for up to `patience_s` at a time.
    """
    ok = send(path, proc, text, mid, patience_s)
    deadline = time.monotonic() + within_s
    found = Answered(ok)
    lost_at: float | None = None
    asked: Asking | None = None
    while True:  # until the turn has ended, the kernel is gone for good, or the time is over
        left_s = deadline - time.monotonic()
        try:
            with connect(path) as daemon:
                lost_at = None
                wait_s, known = min(WAIT_S, max(0.0, left_s)), asked.req if asked is not None else 0
                replied = daemon.ask(wire.Wait(id=0, mid=mid, within_s=wait_s, asked=known), wire.Replied)
                found = _judged(ok, replied)
                if replied.asks is not None and replied.asks != asked:
                    asked = replied.asks
                    tell(asked)
                if found.missing is not Missing.TIMEOUT:
                    messages = found.messages
                    if messages and replied.reply.messages[0].seq == replied.acked + 1:
                        with suppress(Disconnected, Refused):  # it is said; who asks again finds it unread
                            daemon.ask(wire.Ack(id=0, pid=replied.pid, upto=messages[-1].seq), wire.Ok)
                    return found
        except (Disconnected, Refused) as exc:
            busy = isinstance(exc, Refused) and exc.code != "stopped"
            if isinstance(exc, Refused) and busy and exc.retry_after_s is None:
                raise
            lost_at = None if busy else lost_at or time.monotonic()
            if lost_at and (not path.exists() or time.monotonic() > lost_at + patience_s):
                return Answered(ok, found.messages, Missing.STOPPED, "the kernel stopped before there was one")
            time.sleep(RETRY_S)
        if time.monotonic() >= deadline:
            return found


def _judged(ok: wire.Ok, replied: wire.Replied) -> Answered:
    """What the kernel knows of a reply, as the sender is to be told; TIMEOUT where there may be more."""
    reply, messages = replied.reply, tuple(one for one in replied.reply.messages if not one.asks)
    match reply.standing:
        case Standing.ANSWERED:
            return Answered(ok, messages)
        case Standing.ENDED:
            return Answered(ok, messages, None if messages else Missing.ENDED, "the turn ended without a message")
        case Standing.DIED:
            return Answered(ok, messages, Missing.DIED, f"the process is dead ({reply.why})")
        case Standing.OPEN:
            return Answered(ok, messages, Missing.TIMEOUT, "the time is over; the process goes on")
