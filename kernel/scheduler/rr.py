"""Round robin: ready processes in the order they became ready, a quantum of tokens each. O(1) but for `remove`."""

from __future__ import annotations


class RoundRobin:
    """A queue of process numbers, each at most once."""

    def __init__(self) -> None:
        self.ready: dict[int, None] = {}

    def add(self, pid: int) -> None:
        """`pid` became ready: to the back, or where it already stands."""
        self.ready.setdefault(pid)

    def remove(self, pid: int) -> None:
        """`pid` is no longer ready; unknown ones are ignored."""
        self.ready.pop(pid, None)

    def take(self) -> int | None:
        """Who runs next, removed from the queue; None if nobody is ready."""
        for pid in self.ready:
            del self.ready[pid]
            return pid
        return None

    def __len__(self) -> int:
        return len(self.ready)
