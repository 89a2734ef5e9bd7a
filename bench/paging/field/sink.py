"""Sink and window (StreamingLLM, Xiao et al. 2024): the first tokens ever stay, the rest slides. O(1) an access."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from typing import Any, Final

from kernel.memory.page import Kind
from kernel.memory.policy.fifo import Fifo, take

SINK: Final = 0.05  # share of the capacity; the paper keeps four tokens, here pages are what is kept


class SinkWindow(Fifo):
    """First in, first out in `order`; the sink goes when the rest is gone."""

    def __init__(self, capacity: int, state: Any = None) -> None:
        super().__init__(capacity, state)
        self.sink: OrderedDict[int, int] = OrderedDict()
        self.sunk = 0

    def admit(self, page: int, tokens: int, kind: Kind) -> None:
        """The first ones sink, as many as fit the share, but one at least; what comes back later does not."""
        if self.sunk == 0 or self.sunk + tokens <= SINK * self.capacity:
            self.sink[page] = tokens
            self.sunk += tokens
        else:
            self.sunk = max(self.sunk, int(SINK * self.capacity) + 1)
            super().admit(page, tokens, kind)

    def evict(self, tokens: int, pinned: Container[int]) -> list[int]:
        """The window first."""
        gone = take(self.order, tokens, pinned)
        rest = tokens - sum(gone.values())
        return [*gone, *(take(self.sink, rest, pinned) if rest > 0 else ())]

    def drop(self, page: int) -> None:
        """Forget."""
        super().drop(page)
        self.sink.pop(page, None)
