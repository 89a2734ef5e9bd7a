"""Least frequently used, counted since admission; among equals the one that came to its count first. O(1) an access."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from typing import Any

from kernel.memory.page import Kind


class Lfu:
    """A list of pages for each count, oldest first."""

    def __init__(self, capacity: int, state: Any = None) -> None:
        self.capacity = capacity
        self.count: dict[int, int] = {}
        self.lists: dict[int, OrderedDict[int, int]] = {}
        for count, pages in state or ():
            for page, tokens in pages:
                self._put(page, tokens, count)

    def miss(self, page: int) -> None:
        """Nothing to learn from a miss."""

    def admit(self, page: int, tokens: int, kind: Kind) -> None:
        """Referenced once."""
        self._put(page, tokens, 1)

    def hit(self, page: int) -> None:
        """Referenced once more."""
        if page in self.count:
            self._put(page, self._take(page), self.count[page] + 1)

    def evict(self, tokens: int, pinned: Container[int]) -> list[int]:
        """From the lowest count up."""
        victims: list[int] = []
        while tokens > 0:
            found = False
            for count in sorted(self.lists) if len(self.lists) > 1 else list(self.lists):
                page = next((page for page in self.lists[count] if page not in pinned), None)
                if page is not None:
                    tokens -= self._take(page)
                    del self.count[page]
                    victims.append(page)
                    found = True
                    break
            if not found:
                break
        return victims

    def drop(self, page: int) -> None:
        """Forget."""
        if page in self.count:
            self._take(page)
            del self.count[page]

    def state(self) -> Any:
        """The lists, by count."""
        return [(count, list(pages.items())) for count, pages in sorted(self.lists.items())]

    def _put(self, page: int, tokens: int, count: int) -> None:
        self.count[page] = count
        self.lists.setdefault(count, OrderedDict())[page] = tokens

    def _take(self, page: int) -> int:
        count = self.count[page]
        tokens = self.lists[count].pop(page)
        if not self.lists[count]:
            del self.lists[count]
        return tokens
