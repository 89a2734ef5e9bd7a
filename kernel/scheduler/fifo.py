"""First in, first out: who became ready first keeps its slot until it blocks or rests. No bound on waiting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kernel.limits import TURN_TOKENS_MAX
from kernel.scheduler.contract import Maker


class Fifo:
    """A queue of process numbers; one that leaves a slot and could go on does."""

    def __init__(self, quantum: int) -> None:
        """Every policy takes a quantum; this one has no use for it."""
        self.ready: dict[int, None] = {}

    def add(self, pid: int, nice: int, *, ran: bool) -> None:
        """To the back; who ran goes on."""
        if pid in self.ready:
            return
        if ran:
            self.ready = {pid: None, **self.ready}
        else:
            self.ready[pid] = None

    def remove(self, pid: int) -> None:
        """O(1)."""
        self.ready.pop(pid, None)

    def take(self) -> int | None:
        """The first."""
        for pid in self.ready:
            del self.ready[pid]
            return pid
        return None

    def peek(self) -> int | None:
        """The first."""
        return next(iter(self.ready), None)

    def quantum(self, pid: int) -> int:
        """A whole turn."""
        return TURN_TOKENS_MAX

    def spent(self, pid: int, nice: int, tokens: int) -> None:
        """Costs nothing."""

    def displaces(self, running: Sequence[int]) -> int | None:
        """Nobody gives way."""
        return None

    def bound(self, ready: int) -> int | None:
        """A turn ahead may be as long as it likes, and begin another one."""
        return None

    def __contains__(self, pid: int) -> bool:
        return pid in self.ready

    def __len__(self) -> int:
        return len(self.ready)


SCHEDULER: Final[Maker] = Fifo
