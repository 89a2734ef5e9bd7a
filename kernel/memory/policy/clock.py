"""CLOCK, or second chance (Corbato 1968): first in, first out, but a page hit since its last round goes round again.

O(1) an access; an eviction passes each page at most twice.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Final

from kernel.memory.policy.contract import Described
from kernel.memory.policy.fifo import Fifo


class Clock(Fifo):
    """A queue with one reference bit a page; the hand is the front of the queue."""

    def __init__(self, capacity: int, state: Any = None) -> None:
        order, marked = state or ((), ())
        super().__init__(capacity, order)
        self.marked = set(marked)

    def hit(self, page: int) -> None:
        """Set the reference bit."""
        if page in self.order:
            self.marked.add(page)

    def evict(self, tokens: int, pinned: Container[int]) -> list[int]:
        """From the front: unmarked pages go, marked ones lose the mark and join at the back, pinned ones stay."""
        victims: list[int] = []
        while tokens > 0:
            gone, again = [], []
            for page, size in self.order.items():
                if tokens <= 0:
                    break
                if page in pinned:
                    continue
                if page in self.marked:
                    again.append(page)
                else:
                    gone.append(page)
                    tokens -= size
            for page in gone:
                del self.order[page]
            for page in again:
                self.order.move_to_end(page)
            self.marked.difference_update(again)
            victims += gone
            if not gone and not again:
                break
        return victims

    def drop(self, page: int) -> None:
        """Forget."""
        super().drop(page)
        self.marked.discard(page)

    def state(self) -> Any:
        """The queue, and the marked pages in order."""
        return [super().state(), [page for page in self.order if page in self.marked]]


POLICY: Final = Described(
    Clock, "First in, first out, but a page hit since gets a second round.", "Corbato 1968", "O(1)"
)
