"""A stage in virtual time: scripted CPUs, a disk and an index in memory, and a clock that jumps to what comes next.

Guarantee: the same scenario and seed give the same timeline, and the same hash, on every machine.
Not here: what happens and when (director.py), the machine itself (kernel/machine/virtual.py).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial

import msgspec

from drivers.cpu.scripted import KV_TOKENS
from drivers.cpu.virtual import VirtualCpu
from drivers.device.scripted import Scripted, ScriptedTools
from drivers.disk.memory import MemoryDisk
from drivers.index.words import WordIndex
from kernel.event import AnyEvent, Search, Spawned, Tool
from kernel.limits import NS
from kernel.machine import views
from kernel.machine.virtual import VirtualMachine
from kernel.ports import Disk, Job
from kernel.process import Process
from kernel.settings import Settings, apply
from kernel.state import Step
from llmos.scenario.days import Days
from llmos.scenario.director import Director
from llmos.scenario.format import MachineSpec, ProcessSpec, Scenario, ns
from llmos.scenario.look import Looked, looked
from llmos.scenario.programs import Programs, emitted
from llmos.scenario.reading import check
from llmos.scenario.timeline import Ran, Timeline
from llmos.scenario.verbs import AnyVerb
from llmos.tracks import Tracks
from syscalls.table import Table


class _Cpu(VirtualCpu):
    """A virtual CPU that may stall: what runs ends later by as long, and what starts meanwhile waits for its end."""

    def __init__(self, program: Callable[[Job], str], clock: VirtualMachine, spec: MachineSpec) -> None:
        kv = spec.kv or KV_TOKENS
        super().__init__(program, clock, token_ns=ns(spec.token), prefill_ns=ns(spec.prefill), slots=spec.slots, kv=kv)
        self._stalled_until = 0

    def stall(self, length: int) -> None:
        """Stand still for so long."""
        self._stalled_until = max(self._stalled_until, self._clock.now + length)
        for run in self._runs:
            if run is not None:
                run.began += length
                self._call(run)

    def start(self, job: Job) -> None:
        """As a virtual CPU does, but not before the stall is over."""
        planned = self._plan(job)
        if planned is not None:
            self._begin(job, planned, max(self._clock.now, self._stalled_until))


def tools(scenario: Scenario, clock: VirtualMachine | None = None) -> ScriptedTools | None:
    """The servers of a scenario's tools; without a clock they answer at once."""
    made = [
        Scripted(Tool(name, one.purpose, reads=one.reads, again=one.again), one.answers, ns(one.takes), one.dies)
        for name, one in scenario.tools.items()
    ]
    return ScriptedTools(tuple(made), clock) if made else None


class Virtual:
    """director.Stage in virtual time; none of its methods waits."""

    def __init__(self, scenario: Scenario, seed: int, disk: Disk, tracks: Tracks | None = None) -> None:
        self.scenario, self.disk, self._tracks = scenario, disk, tracks
        self.machine = VirtualMachine(start=Days(scenario.start or "").begins)
        self._start = self.machine.now
        self.timeline = Timeline(scenario, self.now, lambda n: self.machine.pages.page(n))
        self.director = Director(scenario, seed, self.timeline, self)
        self._off = False
        self.machine.tools = tools(scenario, self.machine)
        self._programs = Programs(scenario)

    def run(self) -> Ran:
        """From the first boot to the end."""
        end = self._start + ns(self.scenario.until)
        self._boot()
        _at_once(self.director.begin())
        self.machine.run(end)
        return self.timeline.ran(self.machine.steps, self.machine.kernel.hash, self.machine.latency)

    def _boot(self) -> None:
        """Switch the machine on, with what the disk holds."""
        spec, machine = self.scenario.machine, self.machine
        self.cpu = _Cpu(self._programs.emits, machine, spec)
        self.index = WordIndex(self.disk)
        settings = apply(Settings(), list(spec.set))
        machine.watch = self._watch
        machine.boot(Table(), self.cpu, self.disk, self.index, settings)

    # What the director asks for.

    def now(self) -> int:
        return self.machine.now - self._start

    def powered(self) -> bool:
        return not self._off

    def put(self, when: int, name: str, verb: AnyVerb) -> None:
        self.machine.call_at(self._start + when, "user", lambda: _at_once(self.director.happen(name, verb)))

    def watch_for(self, when: int, who: str) -> None:
        self.machine.call_at(self._start + when, "watch", lambda: self.director.look(when, who))

    def looked(self, who: str) -> Looked:
        return looked(self.machine.kernel, who, self.machine.pages.page)

    async def spawn(self, name: str, spec: ProcessSpec) -> None:
        """Without a mask it may emit what needs no name; system instructions it has none, for no model reads them."""
        made = msgspec.structs.replace(spec.spec(name), calls=emitted(spec.mask))
        self.machine.do(Spawned(source="user", spec=made))

    async def say(self, who: str, text: str, mid: str) -> None:
        self.machine.do(self.machine.say(self._pid(who), text, mid))

    async def submit(self, who: str, made: Callable[[Process], AnyEvent]) -> None:
        self.machine.do(made(self.machine.kernel.procs[self._pid(who)]))

    def _pid(self, who: str) -> int:
        """A process by name. Raises BadInput where there is none: another has not made it yet."""
        return views.find(self.machine.kernel, who)

    def fail(self, runs: int) -> None:
        self.cpu.failures += runs

    def stall(self, length: int) -> None:
        """What runs stands still, too."""
        self.cpu.stall(length)

    def silence(self, length: int) -> None:
        self.index.silent = True
        self.machine.call_at(self.machine.now + length, "index", self.index.speak)

    def slow(self, each: int, length: int) -> None:
        def recover() -> None:
            self.machine.commit_ns = 0

        self.machine.commit_ns = each
        self.machine.call_at(self.machine.now + length, "watch", recover)

    async def cut(self, length: int) -> None:
        def restore() -> None:
            self._off = False
            self._boot()

        self._off = True
        self.machine.lose_power()
        self.machine.call_at(self.machine.now + length, "power", restore)

    async def set_clock(self, to: Callable[[int], int]) -> None:
        self.machine.set_clock(to(self.machine.wall) - self.machine.wall)
        if not self._off:
            self.machine.notice()

    # What comes of it.

    def _watch(self, event: AnyEvent, step: Step) -> None:
        self.timeline.watch(step)
        if self._tracks is not None:
            self._tracks.watch(event, step, self.machine.kernel)
        for note in step.notes:
            self._programs.heard(note, self.machine.pages.page)
        for effect in step.effects:
            if isinstance(effect, Search) and effect.deadline_s:
                when = self.machine.now + round(effect.deadline_s * NS)
                self.machine.call_at(when, "index", partial(self.index.give_up, effect.pid, effect.req))


def _at_once(what: Coroutine[object, object, None]) -> None:
    """Carry out what the director does: on this stage it waits for nothing."""
    try:
        what.send(None)
    except StopIteration:
        return
    raise AssertionError("virtual time does not wait")


def play(scenario: Scenario, seed: int | None = None, disk: Disk | None = None, tracks: Tracks | None = None) -> Ran:
    """Run a scenario in virtual time; `seed` instead of its own, on an empty `disk`, watched by `tracks`.

    Raises BadInput for mistakes.
    """
    check(scenario)
    return played(scenario, seed, disk, tracks)


def played(scenario: Scenario, seed: int | None = None, disk: Disk | None = None, tracks: Tracks | None = None) -> Ran:
    """As `play`, of a scenario that has been checked: by whoever plays one many times."""
    return Virtual(scenario, scenario.seed if seed is None else seed, disk or MemoryDisk(), tracks).run()
