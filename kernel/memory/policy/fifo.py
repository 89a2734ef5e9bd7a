"""First in, first out: the page resident longest goes. O(1) an access, O(victims + pinned) an eviction."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from kernel.memory.page import Kind


class Fifo:
    """Pages in the order of their admission; a hit changes nothing."""

    def __init__(self, state: Any = None) -> None:
        self.order: dict[int, int] = {page: tokens for page, tokens in state or ()}  # page -> tokens

    def miss(self, page: int) -> None:
        """Nothing to learn from a miss."""

    def admit(self, page: int, tokens: int, kind: Kind) -> None:
        """Last in."""
        self.order[page] = tokens

    def hit(self, page: int) -> None:
        """Nothing to learn from a hit."""

    def evict(self, tokens: int, pinned: Container[int]) -> list[int]:
        """The oldest pages that are not pinned, until `tokens` are free."""
        victims: list[int] = []
        for page, size in self.order.items():
            if tokens <= 0:
                break
            if page not in pinned:
                victims.append(page)
                tokens -= size
        for page in victims:
            del self.order[page]
        return victims

    def drop(self, page: int) -> None:
        """Forget."""
        self.order.pop(page, None)

    def state(self) -> list[tuple[int, int]]:
        """Pages and tokens, oldest first."""
        return list(self.order.items())
