"""GreedyDual-Size-Frequency (Cherkasova 1998): the page with the least (references / tokens), plus the bar, goes.

The bar is the value of the last victim, so that what is not referenced any more falls behind. A fault counts 1 whatever
its size. O(log n) an access: a heap with outdated entries, which are dropped when met.
"""

from __future__ import annotations

import heapq
from collections.abc import Container
from typing import Any, Final

from kernel.memory.page import Kind
from kernel.memory.policy.contract import Described


class Gdsf:
    """`pages` maps a page to its tokens, references and value; equal values go in order of `tick`."""

    def __init__(self, capacity: int, state: Any = None) -> None:
        self.capacity = capacity
        bar, tick, pages = state or (0.0, 0, ())
        self.bar: float = bar
        self.tick: int = tick
        self.pages: dict[int, tuple[int, int, float, int]] = {page: tuple(rest) for page, *rest in pages}
        self.heap = [(value, tick, page) for page, (_, _, value, tick) in self.pages.items()]
        heapq.heapify(self.heap)

    def miss(self, page: int) -> None:
        """Nothing to learn from a miss."""

    def admit(self, page: int, tokens: int, kind: Kind) -> None:
        """Referenced once."""
        self._put(page, tokens, 1)

    def hit(self, page: int) -> None:
        """Referenced once more."""
        if page in self.pages:
            tokens, count, *_ = self.pages[page]
            self._put(page, tokens, count + 1)

    def evict(self, tokens: int, pinned: Container[int]) -> list[int]:
        """The least valuable pages; each raises the bar to its value."""
        victims: list[int] = []
        kept = []
        while tokens > 0 and self.heap:
            value, tick, page = heapq.heappop(self.heap)
            found = self.pages.get(page)
            if found is None or found[3] != tick:
                continue
            if page in pinned:
                kept.append((value, tick, page))
                continue
            self.bar = value
            del self.pages[page]
            victims.append(page)
            tokens -= found[0]
        for item in kept:
            heapq.heappush(self.heap, item)
        return victims

    def drop(self, page: int) -> None:
        """Forget; its entry in the heap is dropped when met."""
        self.pages.pop(page, None)

    def state(self) -> Any:
        """The bar, the tick, and the pages with what is known of each."""
        return [self.bar, self.tick, [(page, *rest) for page, rest in self.pages.items()]]

    def _put(self, page: int, tokens: int, count: int) -> None:
        self.tick += 1
        value = self.bar + count / tokens
        self.pages[page] = (tokens, count, value, self.tick)
        heapq.heappush(self.heap, (value, self.tick, page))
        if len(self.heap) > 2 * len(self.pages) + 64:  # more than half are outdated
            self.heap = [(value, tick, page) for page, (_, _, value, tick) in self.pages.items()]
            heapq.heapify(self.heap)


POLICY: Final = Described(
    Gdsf,
    "The page with the fewest references per token goes; what goes raises the bar for the rest.",
    "Cherkasova 1998",
    "O(log n)",
)
