"""What of what was found is worth its tokens: the gate of demand paging, for the live pager and the simulated one.

A hit says how likely it is what was asked for, and a window how many tokens it has: a page that is sure to be wanted
may cost `worth` windows, one that is as likely as not half of that. So what a message brings in depends on how its hits
score, and a larger window takes more. What stands behind the best of them is wanted as far as that one is not it
(`beside_best`): a question whose answer is plain brings in little, a vague one much. Talk that asks nothing is told by
low scores, and brings nothing in.
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
LEAST: Final = 0.01  # how likely the best must be; below it the message asks for nothing that was said
NEAR: Final = 0.01  # of the best's score that others must have at STANDARD; four times as much in half of it

FoundT = TypeVar("FoundT", bound=Found)
AnyT = TypeVar("AnyT")


def price(window: int, worth: float) -> float:
    """Tokens that a surely wanted page may cost."""
    return worth * window * min(1.0, window / STANDARD)


def worthy(hits: Iterable[tuple[FoundT, int]], window: int, worth: float) -> list[FoundT]:
    """Those of `hits`, with their sizes in tokens, that are worth their place in a window, each by itself, in order."""
    most = price(window, worth)
    return [hit for hit, size in hits if size <= hit.score * most]


def beside_best(hits: Iterable[tuple[FoundT, int]], window: int, worth: float) -> list[FoundT]:
    """Those of `hits` that are worth their place beside the best of them, the best included, in order."""
    sized = list(hits)
    at = max(range(len(sized)), key=lambda at: sized[at][0].score, default=-1)  # the first of equal ones
    if at < 0 or sized[at][0].score < LEAST:
        return []
    best, most = sized[at][0].score, price(window, worth)
    least = best * min(1.0, NEAR * (STANDARD / window) ** 2)
    return [
        hit
        for nth, (hit, size) in enumerate(sized)
        if hit.score >= least and size <= hit.score * most * (1.0 if nth == at else 1.0 - best)
    ]


def fitting(hits: Iterable[tuple[AnyT, int]], room: int, most: int) -> list[AnyT]:
    """The first of `hits` that fit into `room` tokens, `most` at most; one that does not fit is passed over."""
    taken: list[AnyT] = []
    for hit, size in hits:
        if len(taken) < most and size <= room:
            room -= size
            taken.append(hit)
    return taken
