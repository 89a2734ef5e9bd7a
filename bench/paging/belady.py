"""Belady's MIN as a policy: the page that is wanted furthest in the future goes (Belady 1966).

It knows the string, so it can be asked for one and not for a machine; it is the optimum where pages have one size, and
is refused for a string of several. Not here: the optimum of those (bounds.py).
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Container
from typing import Final

from bench.paging.trace import Part
from kernel.errors import BadInput
from kernel.memory.page import Kind

NAME: Final = "belady"


class Belady:
    """The policy for one string: each reference of it is told once, as a hit or as a miss."""

    def __init__(self, capacity: int, uses: dict[int, list[int]]) -> None:
        self.capacity = capacity
        self._ahead = {page: deque(places) for page, places in uses.items()}
        self._place = 0  # references so far
        self._tokens: dict[int, int] = {}
        self._heap: list[tuple[float, int]] = []  # the next use, negated, of who is resident or was

    def miss(self, page: int) -> None:
        """`page` is wanted now, and is not here."""
        self._place += 1

    def admit(self, page: int, tokens: int, kind: Kind) -> None:
        """`page` becomes resident."""
        self._tokens[page] = tokens
        heapq.heappush(self._heap, (-self._next(page), page))

    def hit(self, page: int) -> None:
        """`page` is wanted now, and is here."""
        self._place += 1
        heapq.heappush(self._heap, (-self._next(page), page))

    def evict(self, tokens: int, pinned: Container[int]) -> list[int]:
        """Those that are wanted last, of at least `tokens` tokens in all. O(log references) each."""
        victims: list[int] = []
        kept: list[tuple[float, int]] = []
        while tokens > 0 and self._heap:  # ends with the heap
            due, page = heapq.heappop(self._heap)
            if page not in self._tokens or -due != self._next(page):
                continue
            if page in pinned:
                kept.append((due, page))
                continue
            tokens -= self._tokens.pop(page)
            victims.append(page)
        for one in kept:
            heapq.heappush(self._heap, one)
        return victims

    def drop(self, page: int) -> None:
        """`page` has left."""
        self._tokens.pop(page, None)

    def state(self) -> None:
        """It has none that could go to a disk."""

    def _next(self, page: int) -> float:
        """The place of the next reference to `page`."""
        places = self._ahead.get(page)
        while places and places[0] < self._place:
            places.popleft()
        return places[0] if places else math.inf


def maker(part: Part) -> Callable[[int], Belady]:
    """What makes the policy for a string. Raises BadInput for one of several sizes."""
    uses: dict[int, list[int]] = {}
    sizes: set[int] = set()
    place = 0
    for turn in part.turns():
        sizes.update(ref.tokens for ref in (*turn.new, *turn.refs))
        for ref in turn.refs:
            uses.setdefault(ref.page, []).append(place)
            place += 1
    if len(sizes) > 1:
        raise BadInput(
            f"--policy {NAME}: {part.name} has pages of {min(sizes):,} to {max(sizes):,} tokens, and Belady's MIN needs"
            " one size; --unit makes each 1, and the column `optimum` has what is possible"
        )
    return lambda capacity: Belady(capacity, uses)
