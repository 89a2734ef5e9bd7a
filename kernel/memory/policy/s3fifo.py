"""S3-FIFO (Yang et al., SOSP 2023): a small queue sorts out what is seen once, a main queue goes round, ghosts return.

As in the paper from the first page on: new pages enter the small queue, ghosts the main one. Sizes are tokens. O(1) an
access; an eviction passes a page at most four times.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Final

from kernel.memory.page import Kind
from kernel.memory.policy.contract import Described
from kernel.memory.policy.sized import Sized

SMALL: Final = 0.1  # share of the capacity that the small queue should have
FREQ_MAX: Final = 3


class S3Fifo:
    """Three queues; `freq` counts hits since admission, up to 3."""

    def __init__(self, capacity: int, state: Any = None) -> None:
        self.capacity = capacity
        small, main, ghosts, freq = state or ((), (), (), ())
        self.small, self.main, self.ghosts = Sized(small), Sized(main), Sized(ghosts)
        self.freq: dict[int, int] = {page: n for page, n in freq}

    def miss(self, page: int) -> None:
        """Nothing to learn before it is admitted."""

    def admit(self, page: int, tokens: int, kind: Kind) -> None:
        """Ghosts join the main queue, others the small one."""
        (self.main if self.ghosts.pop(page) else self.small).push(page, tokens)
        self.freq[page] = 0

    def hit(self, page: int) -> None:
        """Count."""
        if page in self.freq:
            self.freq[page] = min(FREQ_MAX, self.freq[page] + 1)

    def evict(self, tokens: int, pinned: Container[int]) -> list[int]:
        """From the small queue if it is above its share, else from the main one."""
        victims: list[int] = []
        while tokens > 0:
            small, main = self.small.oldest(pinned), self.main.oldest(pinned)
            if small is not None and (main is None or self.small.tokens > SMALL * self.capacity):
                size = self.small.pop(small)
                if self.freq[small] > 1:
                    self.main.push(small, size)
                    self.freq[small] = 0
                    continue
                self.ghosts.push(small, size)
                self.ghosts.trim(self.capacity - int(SMALL * self.capacity))
                gone = small
            elif main is not None:
                size = self.main.pop(main)
                if self.freq[main] > 0:
                    self.main.push(main, size)
                    self.freq[main] -= 1
                    continue
                gone = main
            else:
                break
            del self.freq[gone]
            victims.append(gone)
            tokens -= size
        return victims

    def drop(self, page: int) -> None:
        """Forget."""
        self.small.pop(page)
        self.main.pop(page)
        self.freq.pop(page, None)

    def state(self) -> Any:
        """The queues and the counts."""
        return [self.small.items(), self.main.items(), self.ghosts.items(), list(self.freq.items())]


POLICY: Final = Described(
    S3Fifo,
    "A small queue sorts out what is seen once; the rest goes round in a main queue.",
    "Yang et al., SOSP 2023",
    "O(1)",
)
