"""Multi-level feedback queue: who has used few tokens runs before who has used many, and all begin anew now and then.

A process starts at level 0 and sinks a level when it has used that level's allotment, in however many runs: one that
yields a token before its quantum ends sinks as fast. Quanta double from level to level. A process of a higher level
displaces a running one of a lower level. After BOOST tokens of all processes everyone is back at level 0, who has
waited longest first (Arpaci-Dusseau, Operating Systems: Three Easy Pieces, chapter 8).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kernel.scheduler.contract import Maker

LEVELS: Final = 4
QUANTA: Final = 2  # of a level that are its allotment
BOOST: Final = 16  # of the longest quantum, in tokens of all processes, between two boosts


class Mlfq:
    """`quantum` is that of the lowest level; each level above has half of it."""

    def __init__(self, quantum: int) -> None:
        self._quanta = [max(1, quantum >> (LEVELS - 1 - level)) for level in range(LEVELS)]
        self._period = BOOST * quantum
        self._queues: list[dict[int, int]] = [{} for _ in range(LEVELS)]  # process -> when it became ready, by count
        self._level: dict[int, int] = {}  # who is not here is at level 0
        self._used: dict[int, int] = {}  # tokens at the present level
        self._since = 0  # tokens since the last boost
        self._arrivals = 0

    def level(self, pid: int) -> int:
        """Where a process stands; 0 is the highest."""
        return self._level.get(pid, 0)

    def add(self, pid: int, nice: int, *, ran: bool) -> None:
        """To the back of its level."""
        if pid not in self:
            self._arrivals += 1
            self._queues[self.level(pid)][pid] = self._arrivals

    def remove(self, pid: int) -> None:
        """O(1)."""
        for queue in self._queues:
            queue.pop(pid, None)

    def take(self) -> int | None:
        """The first of the highest level that has one."""
        for queue in self._queues:
            for pid in queue:
                del queue[pid]
                return pid
        return None

    def peek(self) -> int | None:
        """The first of the highest level that has one."""
        return next((pid for queue in self._queues for pid in queue), None)

    def quantum(self, pid: int) -> int:
        """That of its level."""
        return self._quanta[self.level(pid)]

    def spent(self, pid: int, nice: int, tokens: int) -> None:
        """It may sink; and it may be time for a boost."""
        level, used = self.level(pid), self._used.get(pid, 0) + tokens
        if used >= QUANTA * self._quanta[level]:
            level, used = min(level + 1, LEVELS - 1), 0
        self._level[pid], self._used[pid] = level, used
        self._since += tokens
        if self._since >= self._period:
            self._boost()

    def displaces(self, running: Sequence[int]) -> int | None:
        """The lowest of them, if the next one stands higher."""
        if not running:
            return None
        lowest = max(running, key=self.level)
        next_one = next((level for level, queue in enumerate(self._queues) if queue), LEVELS)
        return lowest if next_one < self.level(lowest) else None

    def bound(self, ready: int) -> int | None:
        """Until the next boost, and then a quantum of level 0 for each who has waited longer; two runs may end late."""
        return self._period + ready * self._quanta[0] + 2 * self._quanta[-1]

    def _boost(self) -> None:
        waiting = sorted((since, pid) for queue in self._queues for pid, since in queue.items())
        self._queues = [{} for _ in range(LEVELS)]
        self._queues[0] = {pid: since for since, pid in waiting}
        self._level.clear()
        self._used.clear()
        self._since = 0

    def __contains__(self, pid: int) -> bool:
        return any(pid in queue for queue in self._queues)

    def __len__(self) -> int:
        return sum(map(len, self._queues))


SCHEDULER: Final[Maker] = Mlfq
