"""Long strings by a part of their pages (SHARDS, Waldspurger and others 2015): sampled by hash, so that all references
to a page are in a sample or none, and simulated under a budget that is as much smaller.

A sample may by chance have the few pages that everybody wants, or lack them. So its faults are counted over as many
references as it should have, as SHARDS-adj does: what it has too many or too few is taken for hits.
Several samples that share no page are made, and what they differ by is the error that is told. A sample knows nothing
of turns as a whole: whether a question is complete is not to be had from it. What it cannot scale is the size of a
page: a budget must still hold many of a sample's pages.
"""

from __future__ import annotations

import functools
import hashlib
import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from bench.paging.trace import Part, Turn
from kernel.errors import BadInput

SAMPLES: Final = 8  # at most
SPACE: Final = 1 << 32
T95: Final = (0.0, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36)  # Student's t by degrees of freedom, two-sided


def samples(part: Part, rate: float) -> list[Part]:
    """Samples of a part, of a share `rate` of its pages each, as many as there are up to SAMPLES."""
    if not 0.0 < rate <= 0.5:
        raise BadInput(f"--sample {rate:g}: it is a share of the pages above 0 and up to 0.5")
    count = min(SAMPLES, int(1 / rate))
    stands_for = rate * sum(len(turn.refs) for turn in part.turns())
    return [
        msgspec.structs.replace(
            part,
            name=f"{part.name}#{n}",
            turns=functools.partial(_sampled, part, rate, n),
            rank=None,
            stands_for=stands_for,
        )
        for n in range(count)
    ]


def budget_of(budget: int, rate: float) -> int:
    """The budget of a sample."""
    return max(1, round(budget * rate))


def half_width(hits: Sequence[float]) -> float | None:
    """Half of the 95 % interval of the mean of what samples have shown; None for one."""
    if len(hits) < 2:
        return None
    return T95[len(hits) - 1] * statistics.stdev(hits) / math.sqrt(len(hits))


def _sampled(part: Part, rate: float, number: int) -> Iterator[Turn]:
    low, high = (round(edge * rate * SPACE) for edge in (number, number + 1))
    within = functools.cache(lambda page: low <= _hash(page) < high)
    for turn in part.turns():
        new, refs = (tuple(ref for ref in some if within(ref.page)) for some in (turn.new, turn.refs))
        if new or refs:
            yield turn._replace(new=new, refs=refs)


def _hash(page: int) -> int:
    return int.from_bytes(hashlib.blake2b(page.to_bytes(8, "big"), digest_size=4).digest(), "big")
