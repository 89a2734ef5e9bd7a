"""2Q, the full version (Johnson and Shasha 1994): A1in for new pages, A1out for ghosts, Am for those that came back.

Sizes are tokens: A1in should have a quarter of the capacity, A1out remembers half of it. O(1) an access.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Final

from kernel.memory.page import Kind
from kernel.memory.policy.sized import Sized

IN: Final = 0.25
OUT: Final = 0.5


class TwoQ:
    """Three lists."""

    def __init__(self, capacity: int, state: Any = None) -> None:
        self.capacity = capacity
        self.fresh, self.ghosts, self.main = Sized(), Sized(), Sized()

    def miss(self, page: int) -> None:
        """Nothing to learn before it is admitted."""

    def admit(self, page: int, tokens: int, kind: Kind) -> None:
        """Ghosts join the main list."""
        (self.main if self.ghosts.pop(page) else self.fresh).push(page, tokens)

    def hit(self, page: int) -> None:
        """Moves in the main list only: hits on a new page are taken for one."""
        tokens = self.main.pop(page)
        if tokens:
            self.main.push(page, tokens)

    def evict(self, tokens: int, pinned: Container[int]) -> list[int]:
        """New pages while they have more than their share, else the main list's least recent."""
        victims: list[int] = []
        while tokens > 0:
            fresh, main = self.fresh.oldest(pinned), self.main.oldest(pinned)
            if fresh is not None and (main is None or self.fresh.tokens > IN * self.capacity):
                size = self.fresh.pop(fresh)
                self.ghosts.push(fresh, size)
                self.ghosts.trim(int(OUT * self.capacity))
                victims.append(fresh)
            elif main is not None:
                size = self.main.pop(main)
                victims.append(main)
            else:
                break
            tokens -= size
        return victims

    def drop(self, page: int) -> None:
        """Forget."""
        self.fresh.pop(page)
        self.main.pop(page)

    def state(self) -> Any:
        """None is kept."""
        return []
