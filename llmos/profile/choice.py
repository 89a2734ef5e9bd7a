"""In which manner a model is spoken to, by the figures of its probes; what a figure is.

The manner with the most right answers over all kinds is chosen, for every kind has as many probes; of equal ones that
whose worst kind is better, then the first in WAYS: whole is what a model without a profile has. One that is right in
at least FULL_SHARE of every kind has all syscalls by default. Only the probes of the half `choose` count, in both.
Not here: the probes (probes.py), where a profile is kept (drivers/cpu/profiles.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Final

import msgspec

from drivers.cpu.profiles import Encoding, Figure, Manual
from llmos.intervals import wilson
from llmos.profile.probes import KINDS, Half, Kind

FULL_SHARE: Final = 0.9


class Way(msgspec.Struct, frozen=True, order=True):
    """A manner that is measured."""

    encoding: Encoding
    manual: Manual


WAYS: Final = tuple(Way(encoding, manual) for encoding in ("json", "prose") for manual in ("whole", "worked", "short"))


class Answer(msgspec.Struct, frozen=True):
    """What became of a probe."""

    half: Half
    way: Way
    kind: Kind
    say: str
    text: str
    right: bool


def figures(answers: Iterable[Answer]) -> tuple[Figure, ...]:
    """The figures of answers, by half, manner and kind, in that order."""
    counts: dict[tuple[Half, Way, Kind], list[bool]] = {}
    for one in answers:
        counts.setdefault((one.half, one.way, one.kind), []).append(one.right)

    def order(key: tuple[Half, Way, Kind]) -> tuple[str, int, int]:
        return key[0], WAYS.index(key[1]), KINDS.index(key[2])

    found = []
    for half, way, kind in sorted(counts, key=order):
        right, n = sum(counts[half, way, kind]), len(counts[half, way, kind])
        low, high = wilson(right, n)
        found.append(Figure(half, way.encoding, way.manual, kind, n, right, low, high))
    return tuple(found)


def ranked(found: Iterable[Figure]) -> list[Way]:
    """The manners that were measured in the half `choose`, the best first."""
    shares: dict[Way, list[Fraction]] = {}
    for one in found:
        if one.half == "choose":
            shares.setdefault(Way(one.encoding, one.manual), []).append(Fraction(one.right, one.n))
    return sorted(shares, key=lambda way: (-sum(shares[way]), -min(shares[way]), WAYS.index(way)))


def full(found: Iterable[Figure], way: Way) -> bool:
    """Whether a model that is spoken to like this may have all syscalls unasked."""
    mine = [one for one in found if one.half == "choose" and (one.encoding, one.manual) == (way.encoding, way.manual)]
    return bool(mine) and all(one.right >= FULL_SHARE * one.n for one in mine)
