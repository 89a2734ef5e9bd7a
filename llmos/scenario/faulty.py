"""Devices of a real machine that fail when a scenario says so, at the places where those of virtual time do.

Guarantee: what they are not told to do, they do as the devices that they are or are built around.
Duty of who tells them: to do so on the machine's thread, and to end each stall and each silence once.
Not here: when they are told, and what a power cut ends (real.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from drivers.disk.lmdb import LmdbDisk
from drivers.index.beside import IndexBeside
from kernel.event import Outcome, Search, Searched, Trapped
from kernel.ports import Cpu, Job, Post, Record, Sized, Streamed


class FaultyCpu:
    """ports.Cpu around another, whose next runs may fail, and which may stand still: what starts meanwhile waits."""

    def __init__(self, cpu: Cpu) -> None:
        self.slots, self.window_max, self.model = cpu.slots, cpu.window_max, cpu.model
        self.encoding, self.full_mask, self.frame = cpu.encoding, cpu.full_mask, cpu.frame
        self.manner = cpu.manner
        self.failures = 0  # how many of the next runs fail
        self._cpu = cpu
        self._stalls = 0  # that have not ended
        self._held: dict[int, Job] = {}  # by slot, in the order they came
        self._preempted: set[int] = set()  # slots of those held

    def start(self, job: Job) -> None:
        """Run it, or fail, or hold it until all stalls have ended."""
        if self.failures:
            self.failures -= 1
            self._post(
                Trapped(
                    source=f"cpu{job.slot}",
                    slot=job.slot,
                    tag=job.tag,
                    outcome=Outcome.FAILED,
                    error="the scenario says that the device fails",
                    prompt=len(job.prompt),
                )
            )
        elif self._stalls:
            self._held[job.slot] = job
        else:
            self._cpu.start(job)

    def preempt(self, slot: int) -> None:
        """Stop at the next token; what is held, at its first."""
        if slot in self._held:
            self._preempted.add(slot)
        else:
            self._cpu.preempt(slot)

    def stall(self) -> None:
        """A stall begins."""
        self._stalls += 1

    def go_on(self) -> None:
        """A stall has ended."""
        self._stalls -= 1
        if self._stalls:
            return
        held, self._held = self._held, {}
        stop, self._preempted = self._preempted, set()
        for job in held.values():
            self._cpu.start(job)
            if job.slot in stop:
                self._cpu.preempt(job.slot)

    # As the other does.

    def measure_id(self) -> str:
        return self._cpu.measure_id()

    def tokenize(self, text: str) -> tuple[int, ...]:
        return self._cpu.tokenize(text)

    def detokenize(self, ids: Sequence[int]) -> str:
        return self._cpu.detokenize(ids)

    def holds(self, grammar: str) -> str:
        return self._cpu.holds(grammar)

    def open(self, window: int, post: Post, stream: Callable[[Streamed], None]) -> None:
        self._post = post
        self._cpu.open(window, post, stream)

    def expect(self, pid: int) -> None:
        self._cpu.expect(pid)

    def fork(self, parent: int, child: int) -> None:
        self._cpu.fork(parent, child)

    def forget(self, pid: int) -> None:
        self._cpu.forget(pid)

    def close(self) -> None:
        self._cpu.close()


class FaultyIndex(IndexBeside):
    """An index that may be silent: who searches is answered when it speaks again, or late."""

    silent = False

    def start(self, post: Post, sized: Sized) -> None:
        self._answer = post
        self._unheard: dict[tuple[int, int], Search] = {}
        super().start(post, sized)

    def search(self, what: Search) -> None:
        if self.silent:
            self._unheard[what.pid, what.req] = what
        else:
            super().search(what)

    def give_up(self, what: Search) -> None:
        """The deadline of a search has passed: answer it late, if it was not heard."""
        if self._unheard.pop((what.pid, what.req), None) is not None:
            self._answer(Searched(source="index", pid=what.pid, req=what.req, late=True))

    def speak(self) -> None:
        """Answer all who wait."""
        self.silent = False
        for what in self._unheard.values():
            super().search(what)
        self._unheard.clear()


class FaultyDisk(LmdbDisk):
    """A disk whose transactions may take `slow_s` longer."""

    slow_s = 0.0

    def commit(self, records: Sequence[Record]) -> None:
        if self.slow_s:
            time.sleep(self.slow_s)  # in the machine's commit thread
        super().commit(records)
