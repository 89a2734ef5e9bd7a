"""An expert of `ours` against thrashing: least recently used, but a page that comes back is the next to go.

A loop over slightly more than the capacity makes LRU fault on every reference, for each page leaves just before it is
wanted. Here the first page that comes back takes the place where victims are taken, the next one replaces it, and the
rest of the loop stays: about what the optimum faults. New pages enter as in LRU, so that a new working set replaces an
old one at once. The idea of insertion at the least recently used end is Qureshi et al.'s (ISCA 2007). O(1) an access.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Final

from kernel.memory.page import Kind
from kernel.memory.policy.fifo import take
from kernel.memory.policy.lru import Lru
from kernel.memory.policy.sized import Sized

GHOSTS: Final = 2  # capacities of victims that are remembered


class Refault(Lru):
    """LRU's order, with ghosts."""

    def __init__(self, capacity: int, state: Any = None) -> None:
        order, ghosts = state or ((), ())
        super().__init__(capacity, order)
        self.ghosts = Sized(ghosts)

    def admit(self, page: int, tokens: int, kind: Kind) -> None:
        """Last to go if it is new, first if it is back."""
        super().admit(page, tokens, kind)
        if self.ghosts.pop(page):
            self.order.move_to_end(page, last=False)

    def evict(self, tokens: int, pinned: Container[int]) -> list[int]:
        """As LRU; victims are remembered."""
        gone = take(self.order, tokens, pinned)
        for page, size in gone.items():
            self.ghosts.push(page, size)
        self.ghosts.trim(GHOSTS * self.capacity)
        return list(gone)

    def state(self) -> Any:
        """The order and the ghosts."""
        return [super().state(), self.ghosts.items()]
