"""Fault pinning (Pichay, arXiv 2603.09023): a page that was evicted and wanted back is kept until nothing else is left.

A wrapper: any policy chooses among the others; in the registry it is first in, first out, as there. An
eviction passes the pages that are held.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, Final

from kernel.memory.page import Kind
from kernel.memory.policy.contract import Described
from kernel.memory.policy.fifo import Fifo
from kernel.memory.policy.sized import Sized

GHOSTS: Final = 4  # capacities of evicted pages that are remembered


class PinOnFault:
    """`held` are the pages that faulted back; `ghosts` those that were evicted."""

    def __init__(self, capacity: int, state: Any = None, inner: Callable[[int, Any], Any] = Fifo) -> None:
        inside, held, ghosts, sizes = state or (None, (), (), ())
        self.inner = inner(capacity, inside)
        self.held: dict[int, None] = dict.fromkeys(held)
        self.ghosts = Sized(ghosts)
        self.sizes: dict[int, int] = {page: tokens for page, tokens in sizes}

    @property
    def capacity(self) -> int:
        """The inner policy's."""
        return int(self.inner.capacity)

    @capacity.setter
    def capacity(self, tokens: int) -> None:
        self.inner.capacity = tokens

    def miss(self, page: int) -> None:
        """The inner policy may learn from it."""
        self.inner.miss(page)

    def admit(self, page: int, tokens: int, kind: Kind) -> None:
        """Held if it was evicted before."""
        if self.ghosts.pop(page):
            self.held[page] = None
        self.sizes[page] = tokens
        self.inner.admit(page, tokens, kind)

    def hit(self, page: int) -> None:
        """As the inner policy has it."""
        self.inner.hit(page)

    def evict(self, tokens: int, pinned: Container[int]) -> list[int]:
        """The inner policy's choice among those not held; if that is not enough, nobody is held any more."""
        victims = self.inner.evict(tokens, _Either(pinned, self.held)) if self.held else []
        freed = sum(self.sizes[page] for page in victims)
        if freed < tokens:
            self.held.clear()
            victims += self.inner.evict(tokens - freed, pinned)
        for page in victims:
            self.ghosts.push(page, self.sizes.pop(page))
        self.ghosts.trim(GHOSTS * self.capacity)
        return list(victims)

    def drop(self, page: int) -> None:
        """Forget."""
        self.inner.drop(page)
        self.held.pop(page, None)
        self.sizes.pop(page, None)

    def state(self) -> Any:
        """The inner policy's, who is held, who was evicted, and the sizes."""
        return [self.inner.state(), list(self.held), self.ghosts.items(), list(self.sizes.items())]


class _Either:
    """In one or the other."""

    def __init__(self, first: Container[int], second: Container[int]) -> None:
        self.first, self.second = first, second

    def __contains__(self, page: int) -> bool:
        return page in self.first or page in self.second


POLICY: Final = Described(
    PinOnFault,
    "First in, first out, but a page that faulted back stays until nothing else is left.",
    "Pichay, arXiv 2603.09023",
    "O(held)",
)
