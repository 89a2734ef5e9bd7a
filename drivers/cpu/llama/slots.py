"""The slots: which have a job, which of those are to stop, and whether a decode is cut off for it.

The one place where the machine's threads and the engines' thread meet, so all of it stands under one lock.
Guarantees:
- Each job that `take` let in is given back once: by `free`, or, where the engine breaks down, by `broke`.
- The flag `abort` is up only while a decode is under way that may be cut off, and not before a slot was told to stop.
- `take` lets nothing in before `open` and after `close` or `broke`.
Not here: what a stop does to a run (run.py), who is told how a job ended (turns.py).
"""

from __future__ import annotations

import ctypes
import threading

from kernel.errors import DeviceError
from kernel.ports import Job


class Slots:
    """The slots of an engine. Its methods may be called from any thread."""

    def __init__(self, number: int, model: str) -> None:
        """`model`: its name, for messages."""
        self._number, self._model = number, model
        # llama.cpp asks between two nodes of a graph whether to go on. A function of Python's would have to wait for
        # the interpreter there; libc's strlen of this is one that does not: an empty string is False.
        self.abort = ctypes.create_string_buffer(2)
        self._lock = threading.Lock()
        self._jobs: dict[int, tuple[Job, threading.Event]] = {}  # by slot with a job: whether it is to stop
        self._opened = self._closed = False
        self._broken = ""  # why the engine has broken down
        self._abortable = False  # a decode is under way that may be cut off

    def open(self) -> None:
        """Jobs are taken from now on."""
        self._opened = True

    def take(self, job: Job) -> None:
        """A job begins. Raises DeviceError if its slot cannot have it, or none can any more."""
        with self._lock:
            if self._broken:
                raise DeviceError(f"the engine of {self._model} has broken down: {self._broken}")
            if job.slot in self._jobs or not 0 <= job.slot < self._number or self._closed or not self._opened:
                raise DeviceError(f"slot {job.slot} of {self._model} is busy, closed, or does not exist")
            self._jobs[job.slot] = job, threading.Event()

    def stop(self, slot: int) -> None:
        """What runs in a slot is to stop. No effect on an idle one."""
        with self._lock:
            if slot in self._jobs:
                self._stop([slot])

    def stopped(self, slot: int) -> bool:
        """Whether the job of a slot is to stop."""
        return self._jobs[slot][1].is_set()

    def free(self, slot: int) -> bool:
        """A job has ended. False: nobody wants to hear of it any more."""
        with self._lock:
            del self._jobs[slot]
            return not self._closed

    def close(self) -> bool:
        """All are to stop, and none is taken any more. False: that was said before."""
        with self._lock:
            if self._closed:
                return False
            self._closed = True
            self._stop(list(self._jobs))
            return True

    def broke(self, why: str) -> list[Job]:
        """The engine computes no more: the jobs that have not ended, of which somebody wants to hear."""
        with self._lock:
            self._broken = why
            jobs = [] if self._closed else [job for job, _ in self._jobs.values()]
            self._jobs.clear()
            return jobs

    def begin(self, *, abortable: bool) -> bool:
        """A decode begins. False: it may be cut off, and is to be, so it need not begin."""
        with self._lock:
            if abortable and any(stop.is_set() for _, stop in self._jobs.values()):
                return False
            self._abortable = abortable
            return True

    def end(self) -> None:
        """The decode is over."""
        with self._lock:
            self._abortable = False
            self.abort.value = b""

    def _stop(self, slots: list[int]) -> None:
        """Under _lock."""
        for slot in slots:
            self._jobs[slot][1].set()
        if self._abortable:
            self.abort.value = b"x"
