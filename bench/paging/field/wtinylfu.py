"""W-TinyLFU (Einziger et al. 2017): an LRU window of 1 %, and a main part in two segments (SLRU, 80 % protected).

What leaves the window stays only if it was asked for more often than the main part's next victim. Counts are exact and
halved every 10 capacities of references, where the paper has a sketch that saves memory. O(1) an access, amortised.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Final

from kernel.memory.page import Kind
from kernel.memory.policy.sized import Sized

WINDOW: Final = 0.01
PROTECTED: Final = 0.8  # of the main part
SAMPLE: Final = 10  # resident pages' worth of references between halvings
COUNT_MAX: Final = 15


class WTinyLfu:
    """`window`, `probation`, `protected`: resident; `count`: references, of pages gone as well."""

    def __init__(self, capacity: int, state: Any = None) -> None:
        self.capacity = capacity
        self.window, self.probation, self.protected = Sized(), Sized(), Sized()
        self.count: dict[int, int] = {}
        self.seen = 0

    def miss(self, page: int) -> None:
        """Counted at admission."""

    def admit(self, page: int, tokens: int, kind: Kind) -> None:
        """Into the window; while the main part is not full, the window's oldest move over."""
        self._tick(page)
        self.window.push(page, tokens)
        while self.window.tokens > WINDOW * self.capacity and len(self.window) > 1 and self._main_room():
            oldest = self.window.oldest()
            assert oldest is not None
            self.probation.push(oldest, self.window.pop(oldest))

    def hit(self, page: int) -> None:
        """A page on probation becomes protected, whose oldest go on probation in turn."""
        self._tick(page)
        for part in (self.window, self.protected):
            tokens = part.pop(page)
            if tokens:
                part.push(page, tokens)
                return
        tokens = self.probation.pop(page)
        if tokens:
            self.protected.push(page, tokens)
            limit = PROTECTED * (1 - WINDOW) * self.capacity
            while self.protected.tokens > limit and len(self.protected) > 1:
                oldest = self.protected.oldest()
                assert oldest is not None
                self.probation.push(oldest, self.protected.pop(oldest))

    def evict(self, tokens: int, pinned: Container[int]) -> list[int]:
        """The window's oldest against the next victim of the main part: who was asked for less goes."""
        victims: list[int] = []
        while tokens > 0:
            candidate = self.window.oldest(pinned) if self.window.tokens > WINDOW * self.capacity else None
            victim = self.probation.oldest(pinned)
            if victim is None:
                victim = self.protected.oldest(pinned)
            if candidate is not None and (victim is None or self._of(candidate) <= self._of(victim)):
                gone = candidate
                tokens -= self.window.pop(gone)
            elif victim is not None:
                gone = victim
                tokens -= self.probation.pop(gone) + self.protected.pop(gone)
                if candidate is not None:
                    self.probation.push(candidate, self.window.pop(candidate))
            else:
                last = self.window.oldest(pinned)
                if last is None:
                    break
                gone = last
                tokens -= self.window.pop(gone)
            victims.append(gone)
        return victims

    def drop(self, page: int) -> None:
        """Forget."""
        for part in (self.window, self.probation, self.protected):
            part.pop(page)

    def state(self) -> Any:
        """None is kept."""
        return []

    def _main_room(self) -> bool:
        return self.probation.tokens + self.protected.tokens < (1 - WINDOW) * self.capacity

    def _of(self, page: int) -> int:
        return self.count.get(page, 0)

    def _tick(self, page: int) -> None:
        self.count[page] = min(COUNT_MAX, self.count.get(page, 0) + 1)
        self.seen += 1
        resident = len(self.window) + len(self.probation) + len(self.protected)
        if self.seen >= SAMPLE * max(16, resident):
            self.seen //= 2
            self.count = {page: count // 2 for page, count in self.count.items() if count > 1}
