"""The two times of a machine: the state's, which only passes, and the wall clock's, which somebody may set.

State time goes on from the last commit. While the machine runs it is reckoned on a clock of the host's that cannot go
back and counts while a laptop is suspended. What passed while the machine was off is known exactly if the host did not
go down meanwhile, for that clock went on; else it is what the wall clock has gained since the last commit: never
negative, and nothing where it is more than OFF_S_MAX, for that is a clock that was wrong and was set.
The wall clock is told as so far ahead of state time, a number that changes only when it was set by more than STEP_NS;
what is less is noise of two clocks read one after the other, or a clock that is being slowed down.
Not here: what either is for (kernel/timers.py), who fires timers (loop.py, virtual.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec

from kernel.event import AnyEvent, Trapped
from kernel.limits import NS, OFF_S_MAX
from kernel.ports import Reads, Record
from kernel.records import Counters, encode

STEP_NS: Final = NS
WALL_NS_MAX: Final = (1 << 63) - 1  # year 2262: indexes keep dates as signed 64-bit numbers
ROW: Final = ("set", b"clock")


def passing() -> int:
    """Nanoseconds of the host's clock that only passes, suspension included where the host can tell."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Sources(msgspec.Struct, frozen=True):
    """What a machine's times are read from. Drivers tell theirs by `passing`."""

    wall: Callable[[], int] = time.time_ns
    passing: Callable[[], int] = passing
    host: str = ""  # names the life of the host, within which `passing` goes on; "": nobody can tell


class Anchored(msgspec.Struct, frozen=True, array_like=True):
    """What a boot leaves for the next one: in that life of the host, state time was `passing` and so much more."""

    host: str
    anchor: int


class Clock:
    """The times of one machine; `resume` it before it is read."""

    def __init__(self, sources: Sources) -> None:
        self._of = sources
        self._anchor = self._ahead = 0

    def resume(self, last: Counters, disk: Reads) -> list[Record]:
        """Go on from the last commit; returns what is to be committed with the boot."""
        began, wall = self._of.passing(), self._wall()
        if not last.lsn:
            at = wall
        else:
            at = self._gone_on(began, disk)
            if at < last.now:
                off = wall - (last.now + last.ahead)
                at = last.now + (off if 0 < off <= OFF_S_MAX * NS else 0)
        self._anchor, self._ahead = at - began, last.ahead
        self.read()
        return [Record(*ROW, encode(Anchored(self._of.host, self._anchor)))] if self._of.host else []

    def _gone_on(self, began: int, disk: Reads) -> int:
        """State time if the host has not gone down since the last boot; -1 if it has, or nobody can tell."""
        row = disk.get(*ROW)
        kept = msgspec.msgpack.decode(row, type=Anchored) if row is not None and self._of.host else None
        return began + kept.anchor if kept is not None and kept.host == self._of.host else -1

    def _wall(self) -> int:
        return min(max(0, self._of.wall()), WALL_NS_MAX)

    def now(self) -> int:
        """State time, in ns."""
        return self._of.passing() + self._anchor

    def of(self, passing: int) -> int:
        """State time when `passing` said that."""
        return passing + self._anchor

    def read(self) -> tuple[int, int]:
        """State time, and how far the wall clock is ahead of it."""
        at = self.now()
        ahead = self._wall() - at
        if abs(ahead - self._ahead) > STEP_NS:
            self._ahead = ahead
        return at, self._ahead

    def stamped(self, event: AnyEvent, ahead: int, n: int) -> AnyEvent:
        """An event with its times and its number: that of now where its source gave none."""
        if isinstance(event, Trapped) and event.first_at:
            event = msgspec.structs.replace(event, first_at=self.of(event.first_at))
        return msgspec.structs.replace(event, at=self.of(event.at) if event.at else self.now(), ahead=ahead, n=n)
