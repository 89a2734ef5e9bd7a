"""How a window is divided between the queue and what is recalled, learned from what would have been found (ghost hits).

Each time a page is drawn on, its age (tokens that entered the queue after it) and the pages that a search ranked
before it say under which divisions it would have been in view; the share that would have served the recent ones best
is the one to take. As ARC does with two lists (Megiddo and Modha 2003), with a histogram in place of a random walk.
O(STEPS + what was ranked) an observation, no randomness.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

STEPS: Final = 20  # shares are multiples of 1 / STEPS
FIRST: Final = 10  # before anything was seen: half
MOST: Final = 19
FADE: Final = 0.99  # an observation's weight after another one
PRIOR: Final = 4.0  # observations that the first share is worth
MARGIN: Final = 0.02  # of the weight seen, by which another share must be better


class Learned(msgspec.Struct, frozen=True, array_like=True):
    """What a split keeps. `served[k]`: faded sum of what the share k / STEPS would have served; `place`: its k."""

    served: tuple[float, ...] = (0.0,) * (STEPS + 1)
    weight: float = 0.0
    place: int = FIRST


class Split:
    """A budget in tokens, and what has been learned of its division."""

    def __init__(self, budget: int, state: Learned | None = None, first: int = FIRST) -> None:
        """`first` is the place before anything was seen, and the one to keep while nothing speaks against it."""
        known = state or Learned(place=first)
        self.budget, self.first = budget, first
        self.served = list(known.served)
        self.weight = known.weight
        self.place = known.place

    @property
    def share(self) -> float:
        """The part of the budget that recall should have."""
        return self.place / STEPS

    def observe(self, age: float, tokens: int, ahead: Sequence[tuple[float, int]] | None, low: float) -> None:
        """A page of `tokens` was drawn on: tokens admitted since it was (inf: longer ago than is known).

        `ahead` has age and tokens of each page that a search ranked before it (None: the search did not find it). Under
        a share those of them compete for the recall area that are too old for the queue. A queue that is emptied down
        to the `low` mark holds a page of an age between both marks part of the time.
        """
        rivals = [0] * (STEPS + 2)
        for old, size in ahead or ():
            rivals[max(0, math.ceil((1 - min(old, self.budget) / self.budget) * STEPS))] += size
        place = tokens
        for k in range(STEPS + 1):
            place += rivals[k]
            recall = self.budget * k / STEPS
            queue = self.budget - recall
            inside = min(1.0, max(0.0, (queue - age) / max(1.0, queue * (1.0 - low)))) if age < queue else 0.0
            found = ahead is not None and place <= recall
            self.served[k] = self.served[k] * FADE + (1.0 if found else inside)
        self.weight = self.weight * FADE + 1.0

    def settle(self, places: Iterable[int] = range(MOST + 1)) -> bool:
        """Take the best of the places allowed if it is clearly better; True if the share has changed."""
        scores = {k: self.served[k] - PRIOR * abs(k - self.first) / STEPS for k in places}
        best = max(scores, key=lambda k: (scores[k], -abs(k - self.place)))
        if scores[best] <= scores.get(self.place, -math.inf) + MARGIN * self.weight:
            return False
        self.place = best
        return True

    def state(self) -> Learned:
        """For the disk."""
        return Learned(tuple(self.served), self.weight, self.place)
