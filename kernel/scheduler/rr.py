"""Round robin: ready processes in the order they became ready, a quantum of tokens each. O(1)."""

from __future__ import annotations

from typing import Final

from kernel.scheduler.contract import Maker
from kernel.scheduler.fifo import Fifo


class RoundRobin(Fifo):
    """A queue of process numbers; who has run goes to the back."""

    def __init__(self, quantum: int) -> None:
        super().__init__(quantum)
        self._quantum = quantum

    def add(self, pid: int, nice: int, *, ran: bool) -> None:
        """To the back, or where it already stands."""
        self.ready.setdefault(pid)

    def quantum(self, pid: int) -> int:
        """The same for all."""
        return self._quantum

    def bound(self, ready: int) -> int | None:
        """Whoever is ahead runs once, for a quantum; who comes later stands behind; and who runs ends its quantum."""
        return ready * self._quantum


SCHEDULER: Final[Maker] = RoundRobin
