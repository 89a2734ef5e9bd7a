"""Classes by kind, as context editing does it: results and calls go before what was said. O(1) an access."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from typing import Any, Final

from kernel.memory.page import Kind
from kernel.memory.policy.fifo import take

ORDER: Final = (Kind.RESULT, Kind.SYSCALL, Kind.ALERT, Kind.DELTA)  # the others go last


class Classes:
    """A first-in, first-out list for each class."""

    def __init__(self, capacity: int, state: Any = None) -> None:
        self.capacity = capacity
        self.lists: list[OrderedDict[int, int]] = [OrderedDict() for _ in range(len(ORDER) + 1)]

    def miss(self, page: int) -> None:
        """Nothing to learn from a miss."""

    def admit(self, page: int, tokens: int, kind: Kind) -> None:
        """Last of its class."""
        self.lists[ORDER.index(kind) if kind in ORDER else len(ORDER)][page] = tokens

    def hit(self, page: int) -> None:
        """Nothing to learn from a hit."""

    def evict(self, tokens: int, pinned: Container[int]) -> list[int]:
        """Class by class, the oldest first."""
        victims: list[int] = []
        for pages in self.lists:
            if tokens <= 0:
                break
            gone = take(pages, tokens, pinned)
            victims += gone
            tokens -= sum(gone.values())
        return victims

    def drop(self, page: int) -> None:
        """Forget."""
        for pages in self.lists:
            pages.pop(page, None)

    def state(self) -> Any:
        """None is kept."""
        return []
