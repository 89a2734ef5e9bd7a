"""Ours: shadows of six policies run beside each other, and the queue follows the one that has faulted least lately.

A shadow is a policy over page numbers alone, with the capacity of the real queue and its batches; what it holds says
what it would have kept. Victims are the pages that the leader's shadow has let go, the least recently used first, so
that after a change of leader the queue grows alike eviction by eviction and is never rebuilt. The leader changes only
when another shadow is clearly better by faded counts of faults (experts: Blum and Burch 1997; of caches: Ari et al.
2002). They fail in different places: LRU on loops and on what is wanted often, GDSF where size says nothing, counts
with a long half-life where interest moves, SIEVE in small queues, Refault everywhere but in loops. O(log n) an access,
six times; an eviction passes the pages that the leader still wants.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Container
from typing import Any, Final

from kernel.memory.page import Kind
from kernel.memory.policy.aged import Aged
from kernel.memory.policy.contract import Described
from kernel.memory.policy.gdsf import Gdsf
from kernel.memory.policy.lru import Lru
from kernel.memory.policy.refault import Refault
from kernel.memory.policy.sieve import Sieve

EXPERTS: Final[tuple[Callable[[int, Any], Any], ...]] = (  # the first one leads at first
    Lru,
    Aged,
    functools.partial(Aged, half=10.0),
    Gdsf,
    Sieve,
    Refault,
)
FADE: Final = 0.998  # a fault's weight after another reference
MARGIN: Final = 0.5  # faults, faded, by which another shadow must be better


class Ours:
    """`order` holds the pages, least recently used first."""

    def __init__(self, capacity: int, state: Any = None) -> None:
        self.capacity = capacity
        order, shadows, leader, missed = state or ((), [None] * len(EXPERTS), 0, 0)
        self.order: OrderedDict[int, int] = OrderedDict((page, tokens) for page, tokens in order)
        self.used = sum(self.order.values())
        self.shadows = [_Shadow(make, capacity, one) for make, one in zip(EXPERTS, shadows, strict=True)]
        self.leader = self.shadows[leader]
        self.missed: int = missed  # the page last missed, which is likely to be admitted next

    def miss(self, page: int) -> None:
        """A reference, for some shadows a hit."""
        self.missed = page
        self._score(page)
        for shadow in self.shadows:
            if page in shadow.held:
                shadow.policy.hit(page)
            else:
                shadow.policy.miss(page)

    def admit(self, page: int, tokens: int, kind: Kind) -> None:
        """Also by every shadow that does not hold it."""
        self.order[page] = tokens
        self.used += tokens
        self.missed = 0
        for shadow in self.shadows:
            if page not in shadow.held:
                shadow.admit(page, tokens, kind, self.capacity)

    def hit(self, page: int) -> None:
        """A reference, for some shadows a fault."""
        if page not in self.order:
            return
        self.order.move_to_end(page)
        self._score(page)
        for shadow in self.shadows:
            if page in shadow.held:
                shadow.policy.hit(page)
            else:
                shadow.policy.miss(page)
                shadow.admit(page, self.order[page], Kind.MESSAGE, self.capacity)

    def evict(self, tokens: int, pinned: Container[int]) -> list[int]:
        """What the leader's shadow has let go, the least recently used first; then the others in that order."""
        level = self.used - tokens
        for shadow in self.shadows:
            if self.missed not in shadow.held:
                shadow.shrink(level, self.capacity)
        victims: dict[int, int] = {}
        for held in (self.leader.held, {}):
            for page, size in self.order.items():
                if tokens <= 0:
                    break
                if page not in held and page not in pinned and page not in victims:
                    victims[page] = size
                    tokens -= size
        for page in victims:
            self.drop(page)
        return list(victims)

    def drop(self, page: int) -> None:
        """Forget; the shadows let it go in their own time."""
        self.used -= self.order.pop(page, 0)

    def state(self) -> Any:
        """The pages, every shadow, and who leads."""
        shadows = [shadow.state() for shadow in self.shadows]
        return [list(self.order.items()), shadows, self.shadows.index(self.leader), self.missed]

    def _score(self, page: int) -> None:
        for shadow in self.shadows:
            shadow.faults = shadow.faults * FADE + (page not in shadow.held)
        best = min(self.shadows, key=lambda shadow: shadow.faults)
        if best.faults < self.leader.faults - MARGIN:
            self.leader = best


class _Shadow:
    """A policy, what it holds, and how it has fared."""

    def __init__(self, make: Callable[[int, Any], Any], capacity: int, state: Any) -> None:
        inside, held, faults = state or (None, (), 0.0)
        self.policy = make(capacity, inside)
        self.held: dict[int, int] = {page: tokens for page, tokens in held}
        self.used = sum(self.held.values())
        self.faults: float = faults

    def admit(self, page: int, tokens: int, kind: Kind, capacity: int) -> None:
        """A page that it does not hold."""
        self.shrink(capacity - tokens, capacity)
        self.policy.admit(page, tokens, kind)
        self.held[page] = tokens
        self.used += tokens

    def shrink(self, tokens: int, capacity: int) -> None:
        """Hold at most so many."""
        self.policy.capacity = capacity
        if self.used > tokens:
            for victim in self.policy.evict(self.used - tokens, ()):
                self.used -= self.held.pop(victim)

    def state(self) -> Any:
        """For the disk."""
        return [self.policy.state(), list(self.held.items()), self.faults]


POLICY: Final = Described(
    Ours,
    "Six policies run as shadows, and the queue follows the one that has faulted least lately.",
    "experts: Blum and Burch 1997, Ari et al. 2002",
    "O(log n); O(n) to evict",
)
