"""First in, first out: the page resident longest goes (Belady 1966). O(1) an access, O(victims + pinned) to evict."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from typing import Any, Final

from kernel.memory.page import Kind
from kernel.memory.policy.contract import Described


class Fifo:
    """Pages in the order of their admission; a hit changes nothing."""

    def __init__(self, capacity: int, state: Any = None) -> None:
        self.capacity = capacity
        self.order: OrderedDict[int, int] = OrderedDict((page, tokens) for page, tokens in state or ())

    def miss(self, page: int) -> None:
        """Nothing to learn from a miss."""

    def admit(self, page: int, tokens: int, kind: Kind) -> None:
        """Last in."""
        self.order[page] = tokens

    def hit(self, page: int) -> None:
        """Nothing to learn from a hit."""

    def evict(self, tokens: int, pinned: Container[int]) -> list[int]:
        """The oldest pages that are not pinned, until `tokens` are free."""
        return list(take(self.order, tokens, pinned))

    def drop(self, page: int) -> None:
        """Forget."""
        self.order.pop(page, None)

    def state(self) -> list[tuple[int, int]]:
        """Pages and tokens, oldest first."""
        return list(self.order.items())


def take(order: OrderedDict[int, int], tokens: int, pinned: Container[int]) -> dict[int, int]:
    """Take the first pages out of `order` that are not pinned, of at least `tokens` in all, with their sizes."""
    victims: dict[int, int] = {}
    for page, size in order.items():
        if tokens <= 0:
            break
        if page not in pinned:
            victims[page] = size
            tokens -= size
    for page in victims:
        del order[page]
    return victims


POLICY: Final = Described(Fifo, "The page resident longest goes.", "Belady 1966", "O(1)")
