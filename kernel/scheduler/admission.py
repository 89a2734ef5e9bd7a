"""Which processes compete for the CPU: no more than its memory holds the working sets of.

Every process in a turn is inside, unless the tokens in flight would exceed their limit or the machine thrashes, that is
spends most of its work on evaluating again what it had evaluated and lost to another process; then who matters least
waits outside until a turn ends. Denning's load control: the level of multiprogramming falls by one whenever a span of
work was mostly waste, and is forgotten when nobody waits any more. The state is not on disk: boot begins anew.
Not here: who of those inside runs next (the policies beside this file).
"""

from __future__ import annotations

from collections.abc import Callable

from kernel.limits import THRASH_SHARE

Size = Callable[[int], int]
"""Tokens that a process needs in the CPU's memory to run."""


class Admission:
    """Who is inside and who is outside, in order of arrival, with their nice values. One is inside always."""

    def __init__(self, flight: int, span: int) -> None:
        """`flight`: tokens inside, 0 for no limit; `span`: tokens of work by which thrashing is judged, 0 for never."""
        self.outside: dict[int, int] = {}
        self._inside: dict[int, int] = {}
        self._flight, self._span = flight, span
        self._most = 0  # processes inside at a time, since the machine thrashed; 0: no limit
        self._work = self._again = 0

    def enter(self, pid: int, nice: int, size: Size) -> bool:
        """Let `pid` in; False: it waits outside, for there is no room, or somebody who matters as much waits already.

        Who matters more than somebody inside enters all the same; `victim` then says who has to go. O(processes in a
        turn) where there is a limit, else O(1).
        """
        if pid in self._inside:
            return True
        if pid not in self.outside:
            behind = any(other <= nice for other in self.outside.values())
            if not behind and (self._room(pid, size) or any(other > nice for other in self._inside.values())):
                self._inside[pid] = nice
                return True
            self.outside[pid] = nice
        return False

    def inside(self, pid: int) -> bool:
        """Whether `pid` competes."""
        return pid in self._inside

    def check(self) -> None:
        """Assert that nobody is in two places, and that nobody waits for nothing; called after every step in tests."""
        assert not self._inside.keys() & self.outside.keys(), "inside and outside"
        assert self._inside or not self.outside, "all wait outside"
        assert self._most >= 0
        assert not self._span or 0 <= self._work < self._span

    def restore(self, inside: dict[int, int], outside: dict[int, int]) -> None:
        """Who stands where, with their nice values, and nothing else of what was before."""
        self._inside, self.outside = inside, outside
        self._most = self._work = self._again = 0

    def leave(self, pid: int) -> None:
        """`pid` has ended its turn or is dead."""
        self._inside.pop(pid, None)
        self.outside.pop(pid, None)
        if not self.outside:
            self._most = 0

    def next(self, size: Size) -> int | None:
        """Who of those outside comes in now, the least nice first; None: nobody can."""
        if not self.outside:
            return None
        pid = min(self.outside, key=lambda one: self.outside[one])  # the first of equals
        if not self._room(pid, size):
            return None
        self._inside[pid] = self.outside.pop(pid)
        return pid

    def victim(self, size: Size) -> int | None:
        """Who has to go outside now: of the nicest inside who came last; None: all may stay."""
        if not self._limited or len(self._inside) < 2 or not self._over(list(self._inside), size):
            return None
        pid = max(reversed(self._inside), key=lambda one: self._inside[one])
        self.outside[pid] = self._inside.pop(pid)
        assert self._inside, "one is inside always"
        return pid

    def observe(self, work: int, again: int) -> float:
        """The CPU did `work` tokens, `again` of them not for the first time; the share of these if it thrashes."""
        self._work, self._again = self._work + work, self._again + again
        if not self._span or self._work < self._span:
            return 0.0
        share = self._again / self._work
        assert share <= 1.0, "more work was done again than was done"
        self._work = self._again = 0
        if share < THRASH_SHARE or len(self._inside) < 2:
            return 0.0
        self._most = len(self._inside) - 1
        return share

    def _room(self, pid: int, size: Size) -> bool:
        return not self._limited or not self._inside or not self._over([*self._inside, pid], size)

    @property
    def _limited(self) -> bool:
        return bool(self._most or self._flight)

    def _over(self, pids: list[int], size: Size) -> bool:
        if self._most and len(pids) > self._most:
            return True
        return bool(self._flight) and sum(map(size, pids)) > self._flight
