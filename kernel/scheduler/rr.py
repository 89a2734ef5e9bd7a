"""Round robin: ready processes in the order they became ready, a quantum of tokens each. O(1)."""

from __future__ import annotations

from collections.abc import Sequence


class RoundRobin:
    """A queue of process numbers; who has run goes to the back."""

    def __init__(self, quantum: int) -> None:
        self._quantum = quantum
        self.ready: dict[int, None] = {}

    def add(self, pid: int, nice: int, *, ran: bool) -> None:
        """To the back, or where it already stands."""
        self.ready.setdefault(pid)

    def remove(self, pid: int) -> None:
        """O(1)."""
        self.ready.pop(pid, None)

    def take(self) -> int | None:
        """The first."""
        for pid in self.ready:
            del self.ready[pid]
            return pid
        return None

    def quantum(self, pid: int) -> int:
        """The same for all."""
        return self._quantum

    def spent(self, pid: int, nice: int, tokens: int) -> None:
        """Costs nothing."""

    def displaces(self, running: Sequence[int]) -> int | None:
        """Nobody gives way before its quantum is over."""
        return None

    def bound(self, ready: int) -> int | None:
        """Whoever is ahead runs once, for a quantum; who comes later stands behind; and who runs ends its quantum."""
        return ready * self._quantum

    def __contains__(self, pid: int) -> bool:
        return pid in self.ready

    def __len__(self) -> int:
        return len(self.ready)
