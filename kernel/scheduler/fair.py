"""Fair shares by stride scheduling: each process's pass grows with the tokens it emits, slower the lower its nice is,
and who has the smallest pass runs next (Waldspurger, Stride Scheduling, 1995).

A slice is an eighth of the quantum, for shares are only as even as slices are short: over 500 tokens of 8 processes
Jain's index is 0.50 with slices of 128 tokens, 0.996 with 16 (`llmos bench sched`). A process that was away comes back
with the pass of who ran last: it gets its share from now on and no arrears. All in integers, the same on every machine.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Final

from kernel.limits import NICE_MAX, NICE_MIN
from kernel.scheduler.contract import Maker

SLICES: Final = 8  # of a quantum
ONE: Final = 1 << 20  # stride of weight 1
WEIGHT: Final = 1_024  # of nice 0; each step of nice is a factor of 1.25, as in Linux
STRIDES: Final = {nice: ONE // max(1, round(WEIGHT * 1.25**-nice)) for nice in range(NICE_MIN, NICE_MAX + 1)}


class Fair:
    """A heap of (pass, arrival, process); entries of processes that have left are skipped."""

    def __init__(self, quantum: int) -> None:
        self._slice = max(1, quantum // SLICES)
        self._pass: dict[int, int] = {}
        self._heap: list[tuple[int, int, int]] = []
        self._ready: dict[int, int] = {}  # process -> arrival, which says which entry of the heap holds
        self._clock = 0  # the pass of who was taken last
        self._arrivals = 0

    def add(self, pid: int, nice: int, *, ran: bool) -> None:
        """With its own pass, or the present one if it was away. O(log ready)."""
        if pid in self._ready:
            return
        self._arrivals += 1
        self._ready[pid] = self._arrivals
        self._pass[pid] = max(self._pass.get(pid, 0), self._clock)
        heapq.heappush(self._heap, (self._pass[pid], self._arrivals, pid))

    def remove(self, pid: int) -> None:
        """Its entry stays in the heap and counts for nothing."""
        self._ready.pop(pid, None)

    def take(self) -> int | None:
        """The smallest pass; of equal ones who came first."""
        head = self._head()
        if head is None:
            return None
        heapq.heappop(self._heap)
        self._clock, _, pid = head
        del self._ready[pid]
        return pid

    def peek(self) -> int | None:
        """The smallest pass; of equal ones who came first."""
        head = self._head()
        return None if head is None else head[2]

    def quantum(self, pid: int) -> int:
        """The same for all: shares come from how often a process runs."""
        return self._slice

    def spent(self, pid: int, nice: int, tokens: int) -> None:
        """Its pass moves on."""
        self._pass[pid] = self._pass.get(pid, self._clock) + tokens * STRIDES[nice]

    def displaces(self, running: Sequence[int]) -> int | None:
        """Nobody gives way before its quantum is over."""
        return None

    def bound(self, ready: int) -> int | None:
        """Nobody is ahead by more than a slice, so each other runs twice at most; and who runs ends its slice."""
        return (2 * ready + 1) * self._slice

    def _head(self) -> tuple[int, int, int] | None:
        while self._heap:  # ends: each round takes one out
            if self._ready.get(self._heap[0][2]) == self._heap[0][1]:
                return self._heap[0]
            heapq.heappop(self._heap)
        return None

    def __contains__(self, pid: int) -> bool:
        return pid in self._ready

    def __len__(self) -> int:
        return len(self._ready)


SCHEDULER: Final[Maker] = Fair
