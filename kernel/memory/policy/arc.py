"""ARC (Megiddo and Modha, FAST 2003): pages seen once and pages seen again, with ghosts that shift the border.

All sizes are tokens where the paper counts pages; with pages of one size it is the paper's, decision for decision.
Residency is mandatory and the pager evicts before it admits, so the ghosts are trimmed at admission. O(1) an access.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Final

from kernel.memory.page import Kind
from kernel.memory.policy.contract import Described
from kernel.memory.policy.sized import Sized


class Arc:
    """T1 and T2 are resident, B1 and B2 their ghosts; `target` is the tokens T1 should have."""

    def __init__(self, capacity: int, state: Any = None) -> None:
        self.capacity = capacity
        once, often, ghosts_once, ghosts_often, target, wanted = state or ((), (), (), (), 0.0, 0)
        self.target: float = target
        self.wanted: int = wanted  # the page last missed
        self.once, self.often = Sized(once), Sized(often)
        self.ghosts_once, self.ghosts_often = Sized(ghosts_once), Sized(ghosts_often)

    def miss(self, page: int) -> None:
        """A ghost that is wanted moves the target towards the list it left."""
        self.wanted = page
        b1, b2 = self.ghosts_once, self.ghosts_often
        if page in b1:
            step = b1.pages[page] * max(1.0, b2.tokens / b1.tokens)
            self.target = min(float(self.capacity), self.target + step)
        elif page in b2:
            step = b2.pages[page] * max(1.0, b1.tokens / b2.tokens)
            self.target = max(0.0, self.target - step)

    def admit(self, page: int, tokens: int, kind: Kind) -> None:
        """A ghost comes back as seen again, anything else as seen once."""
        again = bool(self.ghosts_once.pop(page)) | bool(self.ghosts_often.pop(page))
        (self.often if again else self.once).push(page, tokens)
        self.wanted = 0
        self.ghosts_once.trim(max(0, self.capacity - self.once.tokens))
        rest = self.once.tokens + self.often.tokens + self.ghosts_once.tokens
        self.ghosts_often.trim(max(0, 2 * self.capacity - rest))

    def hit(self, page: int) -> None:
        """Seen again."""
        tokens = self.once.pop(page) or self.often.pop(page)
        if tokens:
            self.often.push(page, tokens)

    def evict(self, tokens: int, pinned: Container[int]) -> list[int]:
        """REPLACE of the paper, until `tokens` are free: T1 if it is above its target, else T2."""
        victims: list[int] = []
        while tokens > 0:
            first, second = self.once.oldest(pinned), self.often.oldest(pinned)
            if first is None and second is None:
                break
            at_target = self.once.tokens == self.target and self.wanted in self.ghosts_often
            if first is not None and (second is None or self.once.tokens > self.target or at_target):
                size = self.once.pop(first)
                self.ghosts_once.push(first, size)
                victims.append(first)
            else:
                assert second is not None
                size = self.often.pop(second)
                self.ghosts_often.push(second, size)
                victims.append(second)
            tokens -= size
        return victims

    def drop(self, page: int) -> None:
        """Forget."""
        self.once.pop(page)
        self.often.pop(page)

    def state(self) -> Any:
        """All four lists, the target and the page last missed."""
        lists = (self.once, self.often, self.ghosts_once, self.ghosts_often)
        return [*(one.items() for one in lists), self.target, self.wanted]


POLICY: Final = Described(
    Arc,
    "Two lists, seen once and seen again; ghosts of both shift the border between them.",
    "Megiddo and Modha, FAST 2003",
    "O(1)",
)
