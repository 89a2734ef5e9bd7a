"""The thread on which the engines of all models compute, a step of each after the other.

Two threads that compute starve each other: OpenMP keeps workers for each, and where all of them together outnumber the
cores it no longer spins at barriers, which took a model from 150 tokens a second to 92 from the moment that a second
one had run, though only one ran at a time (docs/numbers.md). The thread lives while there is an engine.

Guarantee: an engine out of which anything is raised has a bug. It is told so, leaves, and computes no more; the others
go on. Whatever happens, whoever waits for an engine's end does not wait for ever.
Not here: what an engine does in its turn, and with its runs when it breaks down (turns.py).
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
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

    def broke(self, error: BaseException) -> None:
        """What `turn` or `rest` raised, of which it will hear no more: tell those who wait for it."""
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

    def _guarded(self, engine: Engine, call: Callable[[], bool]) -> bool:
        """A call of an engine's. One that breaks down leaves, as a thread of its own would end."""
        try:
            return call()
        except BaseException as exc:  # the last ditch, for all of an engine: a panic of llguidance's is no Exception
            traceback.print_exc()
            try:
                engine.broke(exc)
            finally:
                self.leave(engine)
            return True

    def _serve(self) -> None:
        try:
            self._take_turns()
        except BaseException:
            with self._lock:  # an engine could not even say that it broke down
                engines, self._engines, self._thread = self._engines, [], None
            for engine in engines:
                engine.ended.set()
            raise

    def _take_turns(self) -> None:
        quiet = False  # whether nothing happened for IDLE_S
        while True:  # ends when the last engine has left
            self._awake.clear()
            with self._lock:
                engines = list(self._engines)
                if not engines:
                    self._thread = None
                    return
            if any([self._guarded(engine, engine.turn) for engine in engines]):
                quiet = False
            elif not (quiet and any([self._guarded(engine, engine.rest) for engine in engines])):
                quiet = not self._awake.wait(None if quiet else IDLE_S)
