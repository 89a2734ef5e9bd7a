"""An expert of `ours`: references counted with a half-life, by the root of the size, and remembered beyond eviction.

As LRFU (Lee et al. 2001) between recency (a short half-life) and frequency (a long one). A reference's weight halves
every `half` capacities of referenced tokens; the page with the least weight over the root of its tokens goes. Weights
fade alike, so their order changes at references only: a heap with outdated entries, O(log n) an access. With windows of
10 to 200 pages a count that is lost at eviction says little, hence the memory of GHOSTS capacities.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Container
from typing import Any, Final

from kernel.memory.page import Kind
from kernel.memory.policy.sized import Sized

GHOSTS: Final = 16  # capacities of victims whose weight is remembered


class Aged:
    """`weight` maps a page to its weight at the time of its last reference, and that time in capacities."""

    def __init__(self, capacity: int, state: Any = None, half: float = 1.0) -> None:
        self.capacity = capacity
        self.half = half
        now, sizes, ghosts, weights = state or (0.0, (), (), ())
        self.now: float = now
        self.sizes: dict[int, int] = {page: tokens for page, tokens in sizes}
        self.ghosts = Sized(ghosts)
        self.weight: dict[int, tuple[float, float]] = {page: (weight, at) for page, weight, at in weights}
        self.heap = [(self._value(page), page) for page in self.sizes]
        heapq.heapify(self.heap)

    def miss(self, page: int) -> None:
        """Counted at admission."""

    def admit(self, page: int, tokens: int, kind: Kind) -> None:
        """A reference; its weight goes on if it is remembered."""
        self.sizes[page] = tokens
        if not self.ghosts.pop(page):
            self.weight.pop(page, None)
        self._reference(page)

    def hit(self, page: int) -> None:
        """A reference."""
        if page in self.sizes:
            self._reference(page)

    def evict(self, tokens: int, pinned: Container[int]) -> list[int]:
        """The least valuable pages."""
        victims: list[int] = []
        kept = []
        while tokens > 0 and self.heap:
            item = heapq.heappop(self.heap)
            value, page = item
            if page not in self.sizes or value != self._value(page):
                continue
            if page in pinned:
                kept.append(item)
                continue
            size = self.sizes.pop(page)
            self.ghosts.push(page, size)
            victims.append(page)
            tokens -= size
        for item in kept:
            heapq.heappush(self.heap, item)
        while self.ghosts.tokens > GHOSTS * self.capacity:
            oldest = self.ghosts.oldest()
            assert oldest is not None
            self.ghosts.pop(oldest)
            del self.weight[oldest]
        return victims

    def drop(self, page: int) -> None:
        """Forget."""
        if self.sizes.pop(page, 0):
            del self.weight[page]

    def state(self) -> Any:
        """The clock, the pages, the ghosts, and the weights of both."""
        weights = [(page, *weight) for page, weight in self.weight.items()]
        return [self.now, list(self.sizes.items()), self.ghosts.items(), weights]

    def _reference(self, page: int) -> None:
        self.now += self.sizes[page] / self.capacity
        weight, at = self.weight.get(page, (0.0, self.now))
        self.weight[page] = (weight * 0.5 ** ((self.now - at) / self.half) + 1.0, self.now)
        heapq.heappush(self.heap, (self._value(page), page))
        if len(self.heap) > 2 * len(self.sizes) + 64:
            self.heap = [(self._value(page), page) for page in self.sizes]
            heapq.heapify(self.heap)

    def _value(self, page: int) -> float:
        """The logarithm of weight over root of size, as of time 0: later references only add to it."""
        weight, at = self.weight[page]
        return math.log2(weight) + at / self.half - 0.5 * math.log2(self.sizes[page])
