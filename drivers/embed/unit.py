"""Unit length, for every embedder.

Guarantee: a vector's bits depend on it alone, not on its batch nor on the host's vector instructions: all is done by
operations of one element each, whose results IEEE 754 fixes, in an order that is fixed here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


def to_unit(vectors: Vectors) -> None:
    """Bring `vectors` (n, dim) to length 1, in place; zeros stay zeros."""
    squares = np.square(vectors, dtype=np.float64)
    while (width := squares.shape[1]) > 1:  # one half is laid on the other; numpy's own sums take the host's order
        half = (width + 1) // 2
        squares[:, : width - half] += squares[:, half:]
        squares = squares[:, :half]
    length = np.sqrt(squares).astype(np.float32)
    vectors /= np.where(length > 0, length, np.float32(1))
