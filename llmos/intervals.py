"""95 % intervals of what was measured: of a share, of a mean, and of what is counted over units that were drawn."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float64]

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


class Draws:
    """Draws with replacement of `n` units, the same for all that is measured on them, so that differences are paired.

    Units are what was drawn by chance and could have been others: strings, or stretches of one.
    """

    def __init__(self, n: int, seed: int | str = 0) -> None:
        import numpy as np

        assert n > 0
        rng = np.random.default_rng(list(f"draws {seed}".encode()))
        self.n = n
        self._counts = rng.multinomial(n, np.full(n, 1 / n), DRAWS)

    def sums(self, values: Sequence[float]) -> Floats:
        """What each draw sums up to, of a value a unit."""
        import numpy as np

        assert len(values) == self.n
        return np.asarray(self._counts @ np.asarray(values, dtype=np.float64))


def between(draws: Floats) -> Interval:
    """The interval of what was measured on draws."""
    found = sorted(draws.tolist())
    return round(found[int(0.025 * len(found))], 4), round(found[int(0.975 * len(found)) - 1], 4)


def tie(difference: Interval) -> bool:
    """Whether a difference could be none."""
    return difference[0] <= 0.0 <= difference[1]
