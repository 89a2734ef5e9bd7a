"""A stage in real time: a model, LMDB and the index in a folder of their own, and the wall clock.

The model decides what the processes emit, so `plays`, `does`, `on` and what [machine] says of the hardware are left
out, and no two runs are alike. Faults happen at the same places as in virtual time, with one difference: what a stalled
CPU runs already it runs to its end. A power cut lets go of the machine without draining it, and boots it anew from the
folder. The wall clock that is set is the machine's own view of it; the host's is left alone.
Loading the model the first time takes no time of the scenario's.
Not here: what happens and when (director.py), the devices' faults (faulty.py), the machine itself (kernel/machine).
"""

from __future__ import annotations

import heapq
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import trio

from drivers.remote.address import remote
from kernel.boot import Board, boot
from kernel.errors import BadInput
from kernel.event import AnyEvent, Search
from kernel.limits import NS
from kernel.machine import views
from kernel.machine.clock import Sources
from kernel.machine.latency import Latency
from kernel.machine.requests import Answer
from kernel.ports import Cpu
from kernel.process import Process
from kernel.settings import Settings, apply
from kernel.state import Step
from llmos.models import find
from llmos.scenario.days import Days
from llmos.scenario.director import Director
from llmos.scenario.faulty import FaultyCpu, FaultyDisk, FaultyIndex
from llmos.scenario.format import ProcessSpec, Scenario, ns
from llmos.scenario.look import Looked, looked
from llmos.scenario.reading import check
from llmos.scenario.timeline import Ran, Timeline
from llmos.scenario.verbs import AnyVerb
from llmos.scenario.virtual import tools
from llmos.tracks import Tracks
from syscalls.table import Table

PROGRESS_S: Final = 10.0

Progress = Callable[[str], None]


class Real:
    """director.Stage in real time: one run, in a folder that holds no machine yet."""

    def __init__(
        self,
        scenario: Scenario,
        cpu: Callable[[Settings], Cpu],
        folder: Path,
        seed: int,
        progress: Progress,
        tracks: Tracks | None = None,
    ) -> None:
        """`cpu` makes the CPU, in a thread, for every boot."""
        self.scenario, self.folder, self.progress, self._tracks = scenario, folder, progress, tracks
        self.timeline = Timeline(scenario, self.now, lambda n: self.machine.pages.page(n))
        self.director = Director(scenario, seed, self.timeline, self)
        self._make_cpu = cpu
        self._start = time.monotonic_ns()
        self._set = 0  # by how much the wall clock was set, all in all
        self._events = 0
        self._latency = Latency()  # over all boots
        self._agenda: list[tuple[int, int, str, AnyVerb]] = []  # by time, then in the order put there
        self._put = 0
        self._slow_s = 0.0
        self._power: trio.CancelScope | None = None  # None: off

    async def run(self) -> Ran:
        """From the first boot to the end."""
        end = ns(self.scenario.until)

        async def keep_time() -> None:
            while self._agenda:  # what follows something is put there by it
                when, _, name, verb = heapq.heappop(self._agenda)
                await trio.sleep(max(0.0, (when - self.now()) / NS))
                await self.director.happen(name, verb)

        async with trio.open_nursery() as self._nursery:
            await self._nursery.start(self._on)
            await self.director.begin()
            self._nursery.start_soon(keep_time)
            while (left := (end - self.now()) / NS) > 0:
                self.progress(f"{end / NS - left:.0f} of {end / NS:g} s, {len(self.timeline.entries)} entries")
                await trio.sleep(min(left, PROGRESS_S))
            self._nursery.cancel_scope.cancel()
        return self.timeline.ran(self._events, self.machine.kernel.hash, self._latency)

    async def _on(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Switch the machine on, with what the folder holds, until its power is cut."""
        first = not self._events
        settings = apply(Settings(), list(self.scenario.machine.set))
        self.cpu = FaultyCpu(await trio.to_thread.run_sync(self._make_cpu, settings))
        self.disk = FaultyDisk(self.folder, sync=settings.disk.sync)
        self.disk.slow_s = self._slow_s
        self.index = FaultyIndex(self.folder, self.disk, exact_max=settings.disk.exact_max)
        if first:
            self._start = time.monotonic_ns()
            if self.scenario.start is not None:
                self._set = Days(self.scenario.start).begins - time.time_ns()
        clock = Sources(wall=lambda: time.time_ns() + self._set)
        board = Board(self.cpu, self.disk, self.index, settings, clock, self._watch, tools=tools(self.scenario))
        try:
            self.machine = await boot(board, Table())
        except BaseException:
            self.disk.close()
            raise
        with trio.CancelScope() as self._power:
            task_status.started()
            await self.machine.run()

    # What the director asks for.

    def now(self) -> int:
        return time.monotonic_ns() - self._start

    def powered(self) -> bool:
        return self._power is not None

    def put(self, when: int, name: str, verb: AnyVerb) -> None:
        self._put += 1
        heapq.heappush(self._agenda, (when, self._put, name, verb))

    def watch_for(self, when: int, who: str) -> None:
        self._nursery.start_soon(_after, when - self.now(), lambda: self.director.look(when, who))

    def looked(self, who: str) -> Looked:
        return looked(self.machine.kernel, who, self.machine.pages.page)

    async def spawn(self, name: str, spec: ProcessSpec) -> None:
        """Without a mask it may emit what suits the model; its system instructions are those of `llmos spawn`."""
        _accepted(await self.machine.requests.spawn(spec.spec(name)))

    async def say(self, who: str, text: str, mid: str) -> None:
        _accepted(await self.machine.requests.message(who, mid, text))

    async def submit(self, who: str, made: Callable[[Process], AnyEvent]) -> None:
        kernel = self.machine.kernel
        _accepted(await self.machine.submit(made(kernel.procs[views.find(kernel, who)])))

    def fail(self, runs: int) -> None:
        self.cpu.failures += runs

    def stall(self, length: int) -> None:
        self.cpu.stall()
        self._while_on(length, self.cpu.go_on)

    def silence(self, length: int) -> None:
        self.index.silent = True
        self._while_on(length, self.index.speak)

    def slow(self, each: int, length: int) -> None:
        def recover() -> None:
            self._slow_s = self.disk.slow_s = 0.0

        self._slow_s = self.disk.slow_s = each / NS
        self._nursery.start_soon(_after, length, recover)

    async def cut(self, length: int) -> None:
        async def restore() -> None:
            await trio.sleep(length / NS)
            await self._nursery.start(self._on)

        assert self._power is not None
        power, self._power = self._power, None
        power.cancel()
        await self.machine.stopped()
        self._nursery.start_soon(restore)

    async def set_clock(self, to: Callable[[int], int]) -> None:
        """The machine notices by itself."""
        wall = time.time_ns() + self._set
        self._set += to(wall) - wall

    # What comes of it.

    def _while_on(self, length: int, call: Callable[[], None]) -> None:
        """Call after a while, unless the power was cut meanwhile and took the device with it."""
        power = self._power
        self._nursery.start_soon(_after, length, lambda: call() if self._power is power else None)

    def _watch(self, event: AnyEvent, step: Step) -> None:
        self._events += 1
        self._latency.observe(event, event.at, step.notes)
        self.timeline.watch(step)
        if self._tracks is not None:
            self._tracks.watch(event, step, self.machine.kernel if self._events > 1 else None)
        for effect in step.effects:
            if isinstance(effect, Search) and effect.deadline_s:
                give_up = partial(self.index.give_up, effect)
                self._nursery.start_soon(_after, round(effect.deadline_s * NS), give_up)


def _accepted(answer: Answer) -> None:
    if answer.error:
        raise BadInput(answer.error)


async def _after(length: int, call: Callable[[], None]) -> None:
    await trio.sleep(max(0, length) / NS)
    call()


def _processor(cpu: str, folder: Path) -> Callable[[Settings], Cpu]:
    """What makes the CPU of a `--cpu`: servers, or a GGUF. Raises BadInput if there is no such model."""
    if remote(cpu):
        from drivers.cpu.openai.engine import OpenAiCpu

        return lambda settings: OpenAiCpu(cpu, "", settings.cpu)
    from drivers.cpu.llama.engine import LlamaCpu

    path = find(cpu)
    return lambda settings: LlamaCpu(path, settings.cpu, folder / "kv")


def play(
    scenario: Scenario,
    cpu: str,
    seed: int | None,
    progress: Progress,
    directory: Path | None = None,
    tracks: Tracks | None = None,
) -> Ran:
    """Play a scenario with a GGUF, a file or a pulled name, or with servers, in a directory, kept if it is given.

    Raises BadInput if it cannot be played.
    """
    check(scenario)
    with tempfile.TemporaryDirectory(prefix="llmos-run-") as temporary:
        folder = directory or Path(temporary)
        stage = Real(
            scenario,
            _processor(cpu, folder),
            folder,
            scenario.seed if seed is None else seed,
            progress,
            tracks,
        )
        try:
            return trio.run(stage.run)
        except* BadInput as group:
            raise _first(group) from None


def _first(group: BaseExceptionGroup[BadInput]) -> BadInput:
    one: BaseException = group
    while isinstance(one, BaseExceptionGroup):  # ends: each is smaller
        one = one.exceptions[0]
    assert isinstance(one, BadInput)
    return one
