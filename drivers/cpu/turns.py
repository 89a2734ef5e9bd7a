"""Engines of one process take turns at the cores: two that compute at once wait for each other's threads in vain.

A lock that goes to whoever asked first, so that an engine which always has work does not keep it (docs/numbers.md).
"""

from __future__ import annotations

import threading
from collections import deque


class Turns:
    """Use it in a `with` statement, from any thread; it cannot be entered twice."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._taken = False

    def __enter__(self) -> None:
        with self._mutex:
            if not self._taken:
                self._taken = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        turn.acquire()  # until it is handed over

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False
