"""The control socket: lines to a real machine over a real socket, one a trial.

Half of the lines say what the types admit, at their edges; a quarter say it wrong in one place, which must be refused;
the rest are damaged or no lines at all. After each the machine answers, on the same connection if it kept it.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Awaitable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from random import Random
from typing import Any, Final

from bench.attack import values
from bench.attack.machines import NAMES, Machines, checked
from bench.attack.mutate import mutated
from bench.attack.surface import HANG_S, Guard, Surface, Trial, Wrong, instead
from drivers.door import desk, wire
from kernel.errors import KernelError
from kernel.machine.loop import Machine

AGAIN: Final = 500  # trials after which the machine is booted again
ANEW: Final = 2_000  # and after which it is another
HELLO: Final = wire.encode(wire.Hello(version=wire.VERSION))
PROCS: Final = (*NAMES, 1, 2, 3, "nobody", 0, 99, "²", "1", "")
ASK: Final = 1 << 52  # ids of our own questions begin here


def _proc(draw: Random) -> str | int:
    return draw.choice(PROCS)


HINTS: Final[values.Hints] = {
    "proc": _proc,
    "mid": lambda draw: f"m{draw.randrange(200)}",
    "name": lambda draw: f"p{draw.randrange(40)}",
    "pid": lambda draw: draw.randint(1, 5),
    "upto": lambda draw: draw.randint(0, 9),
    "since": lambda draw: draw.randint(0, 50),
    "calls": lambda draw: draw.sample(["send_message", "yield", "read", "search"], draw.randint(0, 3)),
    "nice": lambda draw: draw.randint(-20, 19),
    "model": lambda draw: "",
    "text": lambda draw: draw.choice(values.TEXTS),
}


class _Client:
    """One connection, made again where the machine closed it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sock: socket.socket | None = None
        self.asked = 0
        self.rest = b""

    def connect(self) -> socket.socket:
        if self.sock is None:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(HANG_S / 2)
            self.sock.connect(str(self.path))
            self.rest = b""
            self.sock.sendall(HELLO)
            self._line()
        return self.sock

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def exchange(self, raw: bytes) -> list[dict[str, Any]] | None:
        """What is answered to a line, up to the answer to a question behind it; None: the machine hung up."""
        sock = self.connect()
        self.asked += 1
        number = ASK + self.asked
        try:
            sock.sendall(raw + b"\n" + json.dumps({"op": "ps", "id": number, "proc": 1}).encode() + b"\n")
            answers: list[dict[str, Any]] = []
            while True:  # until the answer to the question
                line = self._line()
                if line is None:
                    break
                one = json.loads(line)
                if one.get("id") == number:
                    return answers
                answers.append(one)
        except (BrokenPipeError, ConnectionResetError):
            pass
        self.close()
        return None

    def _line(self) -> bytes | None:
        assert self.sock is not None
        while b"\n" not in self.rest:  # until a whole line
            chunk = self.sock.recv(1 << 20)
            if not chunk:
                return None
            self.rest += chunk
        line, _, self.rest = self.rest.partition(b"\n")
        return line


class _Attack:
    def __init__(self, machines: Machines) -> None:
        self.machines, self.made = machines, 0
        self.shape = values.Shape(wire.AnyRequest, HINTS)
        self.client = _Client(machines.served.path)
        self.seen: list[bytes] = []

    def trial(self, draw: Random) -> None:
        self.made += 1
        if self.made % AGAIN == 0:
            self._again(new=self.made % ANEW == 0)
        raw, wrong = self._line(draw)
        try:
            answers = self.client.exchange(raw)
            served = self.machines.served
            if served.machine.stopping:
                served.join()
            served.look()
            if served.ended:
                self._again()
            elif answers is None:
                raise Wrong(f"the connection was closed after {raw[:80]!r}")
        except BaseException:
            self._again()
            raise
        taken = [one["op"] for one in answers or () if "id" in one and one["op"] != "failed"]
        if wrong and taken:
            raise Wrong(f"{wrong} was accepted: {raw[:120]!r} was answered {taken[0]}")

    def _line(self, draw: Random) -> tuple[bytes, str]:
        """A line, and what must be refused in it."""
        choice = draw.random()
        ascii_only = draw.random() < 0.5
        if choice < 0.5:
            value = self.shape.good(draw)
            if value["op"] == "stop" and draw.random() < 0.9:
                value = {"op": "info", "id": 1}
            raw = values.raw(value, ascii_only=ascii_only)
            self.seen = [*self.seen[-30:], raw[:2_000]]
            return raw, "another hello" if value["op"] == "hello" else ""
        if choice < 0.75:
            value, wrong = self.shape.bad(draw)
            return values.raw(value, ascii_only=ascii_only).replace(b"\n", b" "), wrong
        if choice < 0.97 and self.seen:
            return mutated(draw, draw.choice(self.seen), self.seen).replace(b"\n", b" "), ""
        if choice < 0.98:
            return b"x" * draw.choice(
                [wire.LINE_BYTES_MAX, wire.LINE_BYTES_MAX + 1, 2 * wire.LINE_BYTES_MAX]
            ), "no line"
        return draw.randbytes(draw.randint(0, 300)).replace(b"\n", b" "), ""

    def _again(self, *, new: bool = False) -> None:
        self.client.close()
        try:
            (self.machines.anew if new else self.machines.again)()
        finally:
            self.client = _Client(self.machines.served.path)


@contextmanager
def _opened(folder: Path) -> Iterator[Trial]:
    with checked() as found:
        attack = _Attack(Machines(folder, found))
        yield attack.trial
        attack.client.close()
        attack.machines.again()
        attack.machines.served.stop()


@contextmanager
def _no_catch_all() -> Iterator[None]:
    """What fails in a request as nobody foresaw goes on to end the machine; `irqs` fails like that."""

    def uncaught(number: int, exc: Exception) -> wire.Failed:
        raise exc

    def failing(machine: Machine, request: wire.AnyCommand, *more: Any) -> Awaitable[wire.AnyAnswer]:
        if isinstance(request, wire.Irqs | wire.Info):
            raise RuntimeError("nobody foresaw this")
        return carry_out(machine, request, *more)

    carry_out = desk.carry_out
    with instead(desk, "broken", uncaught), instead(desk, "carry_out", failing):
        yield


def _no_bounds() -> AbstractContextManager[None]:
    """Any number is an id."""
    decode = wire.decode_request

    def unbound(raw: bytes) -> wire.AnyRequest:
        try:
            return decode(raw)
        except KernelError:
            return decode(re.sub(rb'"id":-?\d+', b'"id":1', raw))

    return instead(wire, "decode_request", unbound)


GUARDS: Final[dict[str, Guard]] = {"connection": _no_catch_all, "protocol-bounds": _no_bounds}
SURFACE: Final = Surface(_opened, guards=GUARDS)
