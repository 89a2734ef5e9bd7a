"""The thread on which the engines of all models compute, a step of each after the other.

Two threads that compute starve each other: OpenMP keeps workers for each, and where all of them together outnumber the
cores it no longer spins at barriers, which took a model from 150 tokens a second to 92 from the moment that a second
one had run, though only one ran at a time (docs/numbers.md). The thread lives while there is an engine.
"""

from __future__ import annotations

import threading
import traceback
from typing import Final, Protocol

IDLE_S: Final = 5.0  # after so long without work, what rests is saved


class Engine(Protocol):
    """What computes here. Its methods are called by the thread alone."""

    ended: threading.Event  # set when it has left

    def turn(self) -> bool:
        """Take what was asked for and do one step. False: there is nothing to do until `wake`."""
        ...

    def rest(self) -> bool:
        """Do some of what can wait. False: there is none."""
        ...


class Cores:
    """The thread, and who computes on it. Its methods may be called from any other thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engines: list[Engine] = []
        self._awake = threading.Event()
        self._thread: threading.Thread | None = None

    def join(self, engine: Engine) -> None:
        """`engine` computes from now on."""
        with self._lock:
            self._engines.append(engine)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="llama", daemon=True)
                self._thread.start()
        self.wake()

    def wake(self) -> None:
        """Somebody has something to do."""
        self._awake.set()

    def leave(self, engine: Engine) -> None:
        """`engine` computes no more: to be called within its turn."""
        with self._lock:
            self._engines.remove(engine)
        engine.ended.set()

    def _turn(self, engine: Engine) -> bool:
        """An engine's turn. One that breaks down leaves, as the thread of its own would end, and the others go on."""
        try:
            return engine.turn()
        except Exception:
            traceback.print_exc()
            self.leave(engine)
            return True

    def _serve(self) -> None:
        quiet = False  # whether nothing happened for IDLE_S
        while True:  # ends when the last engine has left
            self._awake.clear()
            with self._lock:
                engines = list(self._engines)
                if not engines:
                    self._thread = None
                    return
            if any([self._turn(engine) for engine in engines]):
                quiet = False
            elif not (quiet and any([engine.rest() for engine in engines])):
                quiet = not self._awake.wait(None if quiet else IDLE_S)
