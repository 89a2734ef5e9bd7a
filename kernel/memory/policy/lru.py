"""Least recently used: the page whose last reference is oldest goes (Mattson et al. 1970). O(1) an access."""

from __future__ import annotations

from typing import Final

from kernel.memory.policy.contract import Described
from kernel.memory.policy.fifo import Fifo


class Lru(Fifo):
    """Pages in the order of their last reference: admission or hit."""

    def hit(self, page: int) -> None:
        """Referenced now: last in the order."""
        if page in self.order:
            self.order.move_to_end(page)


POLICY: Final = Described(Lru, "The page whose last reference is oldest goes.", "Mattson et al. 1970", "O(1)")
