"""What of what was found is worth its tokens: the gate of demand paging, for the live pager and the simulated one.

A hit says how likely it is what was asked for, and a window how many tokens it has: a page that is sure to be wanted
may cost `worth` windows, one that is as likely as not half of that. So what a message brings in depends on how its hits
score, and a larger window takes more. Talk that asks nothing is told by low scores, and brings nothing in.
Not here: the scores (drivers/index/relevance.py), pages that are in view already, roles (paging/faults.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol, TypeVar


class Found(Protocol):
    """What the gate looks at."""

    @property
    def score(self) -> float:
        """How likely it is wanted, 0 to 1."""
        ...


STANDARD: Final = 4096  # tokens of a window; in a smaller one what stands beside the best costs more than its tokens

FoundT = TypeVar("FoundT", bound=Found)
AnyT = TypeVar("AnyT")


def worthy(hits: Iterable[tuple[FoundT, int]], window: int, worth: float) -> list[FoundT]:
    """Those of `hits`, with their sizes in tokens, that are worth their place in a window, in the order given."""
    price = worth * window * min(1.0, window / STANDARD)
    return [hit for hit, size in hits if size <= hit.score * price]


def fitting(hits: Iterable[tuple[AnyT, int]], room: int, most: int) -> list[AnyT]:
    """The first of `hits` that fit into `room` tokens, `most` at most; one that does not fit is passed over."""
    taken: list[AnyT] = []
    for hit, size in hits:
        if len(taken) < most and size <= room:
            room -= size
            taken.append(hit)
    return taken
