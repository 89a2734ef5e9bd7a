"""Random replacement: any page, by a seed. O(1) an access."""

from __future__ import annotations

import random
from collections.abc import Container
from typing import Any

from kernel.memory.page import Kind


class Random:
    """`state` is the seed."""

    def __init__(self, capacity: int, state: Any = None) -> None:
        self.capacity = capacity
        self.draw = random.Random(state or 0)
        self.sizes: dict[int, int] = {}
        self.pages: list[int] = []
        self.place: dict[int, int] = {}

    def miss(self, page: int) -> None:
        """Nothing to learn."""

    def admit(self, page: int, tokens: int, kind: Kind) -> None:
        """Into the bag."""
        self.sizes[page] = tokens
        self.place[page] = len(self.pages)
        self.pages.append(page)

    def hit(self, page: int) -> None:
        """Nothing to learn."""

    def evict(self, tokens: int, pinned: Container[int]) -> list[int]:
        """Draw until it is enough; pinned pages are put back."""
        victims: list[int] = []
        kept: list[tuple[int, int]] = []
        while tokens > 0 and self.pages:
            page = self.pages[self.draw.randrange(len(self.pages))]
            size = self.sizes[page]
            self.drop(page)
            if page in pinned:
                kept.append((page, size))
            else:
                victims.append(page)
                tokens -= size
        for page, size in kept:
            self.admit(page, size, Kind.MESSAGE)
        return victims

    def drop(self, page: int) -> None:
        """Forget: the last one takes its place."""
        if page in self.sizes:
            del self.sizes[page]
            at, last = self.place.pop(page), self.pages.pop()
            if last != page:
                self.pages[at], self.place[last] = last, at

    def state(self) -> Any:
        """None is kept."""
        return []
