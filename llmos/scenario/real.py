"""Plays a scenario on a real machine: a GGUF model, LMDB and the index in a folder of their own, and the wall clock.

The model decides what the processes emit, so `plays`, `does` and what [machine] says of the hardware are left out, and
no two runs are alike. Faults happen at the same places as in virtual time: the CPU's runs, the index's answers, the
disk's commits; a power cut lets go of the machine without draining it, and boots it anew from the folder.
"""

from __future__ import annotations

import heapq
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Final

import trio

from drivers.cpu.llama.engine import LlamaCpu
from drivers.disk.lmdb import LmdbDisk
from drivers.index.beside import IndexBeside
from kernel.boot import Board, boot
from kernel.errors import BadInput, KernelError
from kernel.event import AnyEvent, Outcome, Raised, Search, Searched, Trapped
from kernel.interrupts import Line
from kernel.machine import views
from kernel.machine.latency import Latency
from kernel.memory.page import Page
from kernel.ports import Job, Post, Record
from kernel.settings import Settings, apply
from kernel.state import Step
from llmos.models import find
from llmos.scenario.format import NS, EventSpec, Scenario, check, ns, times
from llmos.scenario.timeline import Ran, Timeline
from syscalls.table import Table

PROGRESS_S: Final = 10.0

Progress = Callable[[str], None]


class _Cpu(LlamaCpu):
    """A model whose next runs may fail, and which may stand still: what starts meanwhile waits."""

    failures = 0
    stalled = False

    def __init__(self, path: Path, settings: Settings, folder: Path) -> None:
        super().__init__(path, settings.cpu, folder / "kv")
        self._held: list[Job] = []

    def start(self, job: Job) -> None:
        if self.failures:
            self.failures -= 1
            said = "the scenario says that the device fails"
            self._post(
                Trapped(
                    source=f"cpu{job.slot}",
                    slot=job.slot,
                    pid=job.pid,
                    instr=job.instr,
                    attempt=job.attempt,
                    outcome=Outcome.FAILED,
                    error=said,
                )
            )
        elif self.stalled:
            self._held.append(job)
        else:
            super().start(job)

    def go_on(self) -> None:
        """The stall is over."""
        self.stalled = False
        while self._held:
            super().start(self._held.pop())


class _Index(IndexBeside):
    """An index that may be silent: who searches is answered when it speaks again, or late."""

    silent = False

    def start(self, post: Post, sizes: Callable[[Sequence[int]], list[int]]) -> None:
        self._answer = post
        self._unheard: dict[tuple[int, int], Search] = {}
        super().start(post, sizes)

    def search(self, what: Search) -> None:
        if self.silent:
            self._unheard[what.pid, what.req] = what
        else:
            super().search(what)

    def give_up(self, what: Search) -> None:
        """The deadline of a search has passed."""
        if self._unheard.pop((what.pid, what.req), None) is not None:
            self._answer(Searched(source="index", pid=what.pid, req=what.req, late=True))

    def speak(self) -> None:
        """Answer all who wait."""
        self.silent = False
        for what in self._unheard.values():
            super().search(what)
        self._unheard.clear()


class _Disk(LmdbDisk):
    """A disk whose transactions may take `slow_s` longer."""

    slow_s = 0.0

    def recover(self) -> None:
        """Be as fast as before."""
        self.slow_s = 0.0

    def commit(self, records: Sequence[Record]) -> None:
        if self.slow_s:
            time.sleep(self.slow_s)  # in the machine's commit thread
        super().commit(records)


class _Live:
    """One run of a scenario in real time."""

    def __init__(self, scenario: Scenario, model: Path, folder: Path, seed: int, progress: Progress) -> None:
        self.scenario, self.model, self.folder = scenario, model, folder
        self.rng, self.progress = Random(seed), progress
        self.timeline = Timeline(scenario, lambda: time.time_ns() - self.start, self._page)
        self.start = time.time_ns()
        self.events = 0
        self.latency = Latency()  # over all boots
        self.said = 0
        self.waits: dict[str, list[EventSpec]] = {}
        self.agenda: list[tuple[int, int, EventSpec]] = []  # by time, then in the order put there
        self.put = 0
        self.power: trio.CancelScope | None = None  # None: off

    async def run(self) -> Ran:
        """From the first boot to the end."""
        end = ns(self.scenario.until)
        for event in self.scenario.events:
            if event.after is not None:
                self.waits.setdefault(event.after, []).append(event)
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            await nursery.start(self._on)
            for name, spec in self.scenario.processes.items():
                self.timeline.names[self.machine.kernel.counters.pid + 1] = name
                await self.machine.requests.spawn(name, spec.mask, dict(spec.blocks), None, spec.nice, spec.abort)
            for event in self.scenario.events:
                if event.after is None:
                    self._put(event, 0)
            nursery.start_soon(self._keep_time)
            for expect in self.scenario.expect:
                if expect.state is not None and expect.at is not None and expect.process is not None:
                    nursery.start_soon(self._look, ns(expect.at), expect.process)
            while (left := (self.start + end - time.time_ns()) / NS) > 0:
                self.progress(f"{end / NS - left:.0f} of {end / NS:g} s, {len(self.timeline.entries)} entries")
                await trio.sleep(min(left, PROGRESS_S))
            nursery.cancel_scope.cancel()
        return self.timeline.ran(self.events, self.machine.kernel.hash, self.latency)

    async def _on(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Switch the machine on, with what the folder holds, until its power is cut."""
        first = not self.events
        settings = apply(Settings(), list(self.scenario.machine.set))
        self.cpu = await trio.to_thread.run_sync(_Cpu, self.model, settings, self.folder)
        self.disk = _Disk(self.folder, sync=settings.disk.sync)
        self.index = _Index(self.folder, self.disk, exact_max=settings.disk.exact_max)
        if first:  # loading the model the first time is no part of the scenario
            self.start = time.time_ns()
        board = Board(cpu=self.cpu, disk=self.disk, index=self.index, settings=settings, watch=self._watch)
        try:
            self.machine = await boot(board, Table())
        except BaseException:
            self.disk.close()
            raise
        with trio.CancelScope() as self.power:
            task_status.started()
            await self.machine.run()

    def _page(self, number: int) -> Page | None:
        return self.machine.pages.page(number)

    def _watch(self, event: AnyEvent, step: Step) -> None:
        self.events += 1
        self.latency.observe(event, event.at, step.notes)
        kernel = self.machine.kernel if self.events > 1 else None
        self.timeline.watch(event, step, lambda pid: kernel.procs[pid].space.used() if kernel else 0)
        for effect in step.effects:
            if isinstance(effect, Search) and effect.deadline_s:
                self.nursery.start_soon(self._deadline, self.index, effect)

    async def _deadline(self, index: _Index, what: Search) -> None:
        await trio.sleep(what.deadline_s)
        index.give_up(what)

    async def _look(self, at: int, who: str) -> None:
        await self._until(at)
        self.timeline.look(at, who, self.machine.kernel.procs[views.find(self.machine.kernel, who)].state)

    async def _until(self, at: int) -> None:
        await trio.sleep(max(0.0, (self.start + at - time.time_ns()) / NS))

    def _put(self, event: EventSpec, base: int) -> None:
        for when in times(event, self.rng):
            self.put += 1
            heapq.heappush(self.agenda, (base + when, self.put, event))

    async def _keep_time(self) -> None:
        """Let events happen, those of one time in the order of the file."""
        while self.agenda:  # followers are put there by whom they follow
            at, _, event = heapq.heappop(self.agenda)
            await self._until(at)
            await self._do(event)

    async def _do(self, event: EventSpec) -> None:
        if self.power is None:
            self.timeline.happened("refused", text=f"{event.name or 'an event'}: the power is off")
            return
        if event.name:
            self.timeline.happened("event", text=event.name)
        for follower in self.waits.get(event.name or "", ()):
            self._put(follower, time.time_ns() - self.start)
        try:
            await self._happen(event)
        except KernelError as exc:
            self.timeline.happened("refused", text=str(exc))

    async def _happen(self, event: EventSpec) -> None:
        machine = self.machine
        if event.say is not None:
            for who in event.to:
                self.said += 1
                await machine.requests.message(who, f"s{self.said}", event.say)
        elif event.raise_ is not None:
            for who in event.to:
                line = Line[event.raise_.upper()]
                await machine.submit(
                    Raised(source="scenario", pid=views.find(machine.kernel, who), line=line, text=event.text)
                )
        elif event.kill is not None:
            await machine.requests.kill(event.kill)
        elif event.start is not None:
            await machine.requests.spawn(event.start, self.scenario.processes[event.start].mask, {}, None)
        elif event.fails is not None:
            self.cpu.failures += event.fails
        elif event.stall is not None:
            self.cpu.stalled = True
            self._later(event.stall, self.cpu.go_on)
        elif event.silence is not None:
            self.index.silent = True
            self._later(event.silence, self.index.speak)
        elif event.slow is not None and event.lasts is not None:
            self.disk.slow_s = ns(event.slow) / NS
            self._later(event.lasts, self.disk.recover)
        elif event.cut is not None and self.power is not None:
            self.timeline.cut(ns(event.cut))
            power, self.power = self.power, None
            power.cancel()
            await machine.stopped()
            self.nursery.start_soon(self._restore, ns(event.cut))

    async def _restore(self, length: int) -> None:
        await trio.sleep(length / NS)
        await self.nursery.start(self._on)

    def _later(self, wait: str, call: Callable[[], None]) -> None:
        """End a fault, unless the power was cut meanwhile and took the device with it."""
        power = self.power

        async def later() -> None:
            await trio.sleep(ns(wait) / NS)
            if self.power is power:
                call()

        self.nursery.start_soon(later)


def play(scenario: Scenario, model: str, seed: int | None, progress: Progress, directory: Path | None = None) -> Ran:
    """Play a scenario with a GGUF, a file or a pulled name, in a directory that is kept if it is given.

    Raises BadInput if it cannot be played.
    """
    check(scenario)
    path = find(model)
    with tempfile.TemporaryDirectory(prefix="llmos-run-") as folder:
        live = _Live(scenario, path, directory or Path(folder), scenario.seed if seed is None else seed, progress)
        try:
            return trio.run(live.run)
        except* BadInput as group:
            raise _first(group) from None


def _first(group: BaseExceptionGroup[BadInput]) -> BadInput:
    one: BaseException = group
    while isinstance(one, BaseExceptionGroup):  # ends: each is smaller
        one = one.exceptions[0]
    assert isinstance(one, BadInput)
    return one
