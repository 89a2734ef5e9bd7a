"""LRU-K with K = 2 (O'Neil et al. 1993): the page whose last reference but one lies furthest back goes.

Pages referenced once lie infinitely far back, the oldest of them first. History outlives residency, as the paper asks,
for RETAIN capacities of pages. O(log n) an access: a heap with outdated entries.
"""

from __future__ import annotations

import heapq
from collections.abc import Container
from typing import Any, Final

from kernel.memory.page import Kind
from kernel.memory.policy.sized import Sized

RETAIN: Final = 4  # capacities of evicted pages whose last reference is remembered


class LruK:
    """`last` holds the last reference of each page, `before` the one before it (-1: none)."""

    def __init__(self, capacity: int, state: Any = None) -> None:
        self.capacity = capacity
        self.now = 0
        self.sizes: dict[int, int] = {}
        self.last: dict[int, int] = {}
        self.before: dict[int, int] = {}
        self.ghosts = Sized()
        self.heap: list[tuple[int, int, int]] = []

    def miss(self, page: int) -> None:
        """Its history is taken up at admission."""

    def admit(self, page: int, tokens: int, kind: Kind) -> None:
        """A reference; history goes on if it is remembered."""
        if not self.ghosts.pop(page):
            self.last[page] = -1
        self.sizes[page] = tokens
        self._reference(page)

    def hit(self, page: int) -> None:
        """A reference."""
        if page in self.sizes:
            self._reference(page)

    def evict(self, tokens: int, pinned: Container[int]) -> list[int]:
        """Those whose last reference but one is oldest."""
        victims: list[int] = []
        kept = []
        while tokens > 0 and self.heap:
            item = heapq.heappop(self.heap)
            before, last, page = item
            if page not in self.sizes or (before, last) != (self.before[page], self.last[page]):
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
        while self.ghosts.tokens > RETAIN * self.capacity:
            oldest = self.ghosts.oldest()
            assert oldest is not None
            self._forget(oldest)
        return victims

    def drop(self, page: int) -> None:
        """Forget, history included."""
        if self.sizes.pop(page, 0):
            del self.last[page], self.before[page]

    def state(self) -> Any:
        """None is kept."""
        return []

    def _reference(self, page: int) -> None:
        self.now += 1
        self.before[page], self.last[page] = self.last[page], self.now
        heapq.heappush(self.heap, (self.before[page], self.now, page))
        if len(self.heap) > 2 * len(self.sizes) + 64:
            self.heap = [(self.before[page], self.last[page], page) for page in self.sizes]
            heapq.heapify(self.heap)

    def _forget(self, page: int) -> None:
        self.ghosts.pop(page)
        del self.last[page], self.before[page]
