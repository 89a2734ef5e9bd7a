"""SIEVE (Zhang et al., NSDI 2024): one queue in order of admission, and a hand that moves from its old end to its new.

What was hit is spared once and, unlike in CLOCK, stays where it is: new pages are sorted out soon. O(1) an access.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from typing import Any, Final

from kernel.memory.page import Kind
from kernel.memory.policy.contract import Described


class Sieve:
    """The queue in two parts: what the hand has passed in this round, and what is ahead of it, each oldest first."""

    def __init__(self, capacity: int, state: Any = None) -> None:
        self.capacity = capacity
        passed, ahead, marked = state or ((), (), ())
        self.passed: OrderedDict[int, int] = OrderedDict((page, tokens) for page, tokens in passed)
        self.ahead: OrderedDict[int, int] = OrderedDict((page, tokens) for page, tokens in ahead)
        self.marked = set(marked)

    def miss(self, page: int) -> None:
        """Nothing to learn from a miss."""

    def admit(self, page: int, tokens: int, kind: Kind) -> None:
        """At the new end. A hand that has come to it begins anew at the old end before anything can stand ahead."""
        if not self.ahead:
            self.ahead, self.passed = self.passed, self.ahead
        self.ahead[page] = tokens

    def hit(self, page: int) -> None:
        """Mark: spared once."""
        if page in self.ahead or page in self.passed:
            self.marked.add(page)

    def evict(self, tokens: int, pinned: Container[int]) -> list[int]:
        """The next pages ahead of the hand that are neither marked nor pinned."""
        victims: list[int] = []
        idle = 0  # rounds without a victim: one clears the marks, a second one finds only pinned pages
        while tokens > 0 and idle < 3:
            if not self.ahead:
                self.ahead, self.passed = self.passed, self.ahead
                idle += 1
                if not self.ahead:
                    break
            page, size = self.ahead.popitem(last=False)
            if page in self.marked or page in pinned:
                self.passed[page] = size
                if page not in pinned:
                    self.marked.discard(page)
            else:
                victims.append(page)
                tokens -= size
                idle = 0
        return victims

    def drop(self, page: int) -> None:
        """Forget."""
        self.ahead.pop(page, None)
        self.passed.pop(page, None)
        self.marked.discard(page)

    def state(self) -> Any:
        """Both parts, and the marked pages."""
        return [list(self.passed.items()), list(self.ahead.items()), sorted(self.marked)]


POLICY: Final = Described(
    Sieve, "One queue and a hand that spares what was hit and never moves it.", "Zhang et al., NSDI 2024", "O(1)"
)
