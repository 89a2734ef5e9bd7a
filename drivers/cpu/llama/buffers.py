"""Large buffers, used again: a fresh one of 41 MB costs 60 to 90 ms of page faults, one that was used before 2 ms.

A buffer comes back when nothing refers to it any more, memoryviews included; no caller gives it back by hand.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any, Final

import numpy as np

SPARE_MAX: Final = 256 << 20  # bytes that wait to be used again
GRAIN: Final = 4 << 20  # sizes are rounded up to this, for states grow


class Buffers:
    """May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spare: list[Any] = []
        self.made = 0

    def take(self, size: int) -> Any:
        """A writable array, (size,) uint8, with anything in it. Do not slice it: a slice does not keep it."""
        with self._lock:
            fits = [one for one in self._spare if one.nbytes >= size]
            if fits:
                whole = min(fits, key=lambda one: one.nbytes)
                self._spare = [one for one in self._spare if one is not whole]
            else:
                self.made += 1
                whole = np.empty(-(-size // GRAIN) * GRAIN, np.uint8)
        lent = whole[:size]
        weakref.finalize(lent, self._back, whole).atexit = False
        return lent

    def _back(self, whole: Any) -> None:
        with self._lock:
            self._spare.append(whole)
            while sum(one.nbytes for one in self._spare) > SPARE_MAX:  # ends: each pass drops one
                self._spare.pop(0)
