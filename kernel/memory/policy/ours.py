"""Ours: shadows of several policies run beside each other, and the queue follows the one that has faulted least lately.

A shadow is a policy over page numbers alone, with the capacity and the batches of the real queue; what it holds says
what it would have kept. Victims are the pages that the leader's shadow has let go, the least recently used first, so
that after a change of leader the queue grows alike eviction by eviction and is never rebuilt. The leader changes only
when another shadow is clearly better, by faded counts of faults (as experts are followed in Blum and Burch 1997, and
caches in Ari et al. 2002). O(experts) times theirs an access.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container
from typing import Any, Final

from kernel.memory.page import Kind
from kernel.memory.policy.gdsf import Gdsf
from kernel.memory.policy.lru import Lru
from kernel.memory.policy.sieve import Sieve

EXPERTS: Final[tuple[Callable[[int, Any], Any], ...]] = (Gdsf, Lru, Sieve)
FADE: Final = 0.995  # a fault's weight after another reference
MARGIN: Final = 1.0  # faults, faded, by which another shadow must be better


class _Shadow:
    """A policy, what it holds, and how it has fared."""

    def __init__(self, make: Callable[[int, Any], Any], capacity: int) -> None:
        self.policy = make(capacity, None)
        self.held: dict[int, int] = {}
        self.used = 0
        self.faults = 0.0

    def see(self, page: int, tokens: int, kind: Kind, capacity: int) -> None:
        """A reference or an arrival."""
        if page in self.held:
            self.policy.hit(page)
            return
        self.shrink(capacity - tokens)
        self.policy.admit(page, tokens, kind)
        self.held[page] = tokens
        self.used += tokens


    def shrink(self, tokens: int) -> None:
        """Hold at most so many."""
        if self.used > tokens:
            for victim in self.policy.evict(self.used - tokens, ()):
                self.used -= self.held.pop(victim)


class Ours:
    """`order` holds the pages, least recently used first."""

    def __init__(self, capacity: int, state: Any = None) -> None:
        self.capacity = capacity
        self.order: OrderedDict[int, int] = OrderedDict()
        self.shadows = [_Shadow(make, capacity) for make in EXPERTS]
        self.leader = self.shadows[0]
        self.used = 0
        self.missed = 0  # the page last missed, which is likely to be admitted next

    def miss(self, page: int) -> None:
        """Each shadow that does not hold it either has faulted, too."""
        self._count(page)
        self.missed = page
        for shadow in self.shadows:
            shadow.policy.miss(page) if page not in shadow.held else shadow.policy.hit(page)

    def _count(self, page: int) -> None:
        for shadow in self.shadows:
            shadow.faults = shadow.faults * FADE + (page not in shadow.held)
        best = min(self.shadows, key=lambda shadow: shadow.faults)
        if best.faults < self.leader.faults - MARGIN:
            self.leader = best

    def admit(self, page: int, tokens: int, kind: Kind) -> None:
        """Also by every shadow that does not hold it."""
        self.order[page] = tokens
        self.used += tokens
        self.missed = 0
        for shadow in self.shadows:
            if page not in shadow.held:
                shadow.see(page, tokens, kind, self.capacity)

    def hit(self, page: int) -> None:
        """A reference for every shadow, a fault for some."""
        if page not in self.order:
            return
        self.order.move_to_end(page)
        self._count(page)
        tokens = self.order[page]
        for shadow in self.shadows:
            if page not in shadow.held:
                shadow.policy.miss(page)
            shadow.see(page, tokens, Kind.MESSAGE, self.capacity)

    def evict(self, tokens: int, pinned: Container[int]) -> list[int]:
        """What the leader's shadow has let go, then the least recently used."""
        level = self.used - tokens
        for shadow in self.shadows:
            if self.missed not in shadow.held:
                shadow.policy.capacity = self.capacity
                shadow.shrink(level)
        victims: list[int] = []
        for held in (self.leader.held, {}):
            for page, size in self.order.items():
                if tokens <= 0:
                    break
                if page not in held and page not in pinned and page not in victims:
                    victims.append(page)
                    tokens -= size
        for page in victims:
            self.used -= self.order.pop(page)
        return victims

    def drop(self, page: int) -> None:
        """Forget."""
        self.used -= self.order.pop(page, 0)

    def state(self) -> Any:
        return []
