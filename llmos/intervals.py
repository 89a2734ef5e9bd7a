"""95 % intervals of what was measured: of a share, and of a mean."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Final, TypeAlias

Interval: TypeAlias = tuple[float, float]

DRAWS: Final = 1_000


def wilson(right: int, n: int) -> Interval:
    """Of a share (Wilson 1927); `n` is more than 0."""
    z, p = 1.959964, right / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return round((middle - half) / (1 + z * z / n), 4), round((middle + half) / (1 + z * z / n), 4)


def bootstrap(values: Sequence[float], seed: int) -> Interval:
    """Of a mean, from draws with replacement; there is a value."""
    rng = random.Random(f"bootstrap {seed}")
    means = sorted(sum(rng.choices(values, k=len(values))) / len(values) for _ in range(DRAWS))
    return round(means[int(0.025 * DRAWS)], 4), round(means[int(0.975 * DRAWS) - 1], 4)
