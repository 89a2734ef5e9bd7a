"""What a process of a scenario plays when something comes: its reactions, and how far it is with one.

Whenever it is to emit an instruction it looks at what has come since the last one: what was delivered, by line, and
the result of its own call. The first reaction that fits begins its list; where none fits, the list that was begun goes
on; where none is left, nothing is said here and the process does what it `does`.
Guarantee: an instruction that is asked for again, after a preemption, a failure or a power cut, is the same, unless
something came meanwhile. The duty of who holds this: `came` for each delivery, after its commit.
Not here: what a reaction is (format.py), who asks (virtual.py).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kernel.memory.page import Kind
from kernel.ports import Job
from llmos.scenario.format import Calls, Reaction


class Came(NamedTuple):
    """Something that came: on a line, or as the result of a call."""

    line: str
    text: str
    call: str = ""


class _Stand(NamedTuple):
    """How far a process is: what it is playing, from where, and how often each reaction has been fitted."""

    plays: Calls
    at: int
    fitted: tuple[int, ...]


class Reactions:
    """The reactions of one process."""

    def __init__(self, reactions: tuple[Reaction, ...]) -> None:
        self._reactions = reactions
        self._settled = self._stand = _Stand((), 0, (0,) * len(reactions))  # before, and with, instruction `_instr`
        self._instr = 0
        self._came: list[Came] = []  # since instruction `_instr` was first asked for, and what it was asked with
        self._seen = 0  # of `_came`, when it was asked for last
        self._called = self._last = ""  # what instruction `_instr` calls, and what the one before it did

    def came(self, line: str, text: str) -> None:
        """Something was delivered on a line."""
        self._came.append(Came(line, text))

    def forget(self) -> None:
        """The process has ended: what it was at, and what came, is no more. What was counted stays."""
        self._settled = self._stand = _Stand((), 0, self._stand.fitted)
        self._came, self._seen, self._called = [], 0, ""

    def emits(self, job: Job) -> dict[str, Any] | None:
        """The instruction that is asked for; None: none of a reaction's."""
        if job.instr != self._instr:  # the one before is complete
            self._instr, self._settled, self._last = job.instr, self._stand, self._called
            del self._came[: self._seen]
        came = list(self._came)
        self._seen = len(came)
        if self._last:
            came.append(Came("", _result(job), self._last))
        self._stand, call = self._next(came)
        self._called = str(call.get("op", "")) if call is not None else ""
        return call

    def _next(self, came: list[Came]) -> tuple[_Stand, dict[str, Any] | None]:
        """How far it will be, and what it emits, after what came."""
        plays, at, before = self._settled
        fitted = tuple(n + sum(_fits(one, on) for one in came) for on, n in zip(self._reactions, before, strict=True))
        for on, was, now in zip(self._reactions, before, fitted, strict=True):
            nth = on.nth is None or was < on.nth <= now
            if now > was and nth and (on.times is None or was < on.times):
                plays, at = on.plays, 0
                break
        if at < len(plays):
            return _Stand(plays, at + 1, fitted), plays[at]
        return _Stand((), 0, fitted), None


def _fits(one: Came, on: Reaction) -> bool:
    if (on.call or "") != one.call or (on.line is not None and on.line.lower() != one.line):
        return False
    return on.text is None or on.text in one.text


def _result(job: Job) -> str:
    """What the kernel answered last."""
    results = (one.page.text for one in reversed(job.pages) if one.page.kind in (Kind.RESULT, Kind.DELTA))
    return next(results, "")
