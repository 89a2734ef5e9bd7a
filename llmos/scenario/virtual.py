"""Plays a scenario on scripted CPUs in virtual time.

The same scenario and seed give the same timeline, and the same hash, on every machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random

from drivers.cpu.scripted import KV_TOKENS
from drivers.cpu.virtual import VirtualCpu
from drivers.disk.memory import MemoryDisk
from drivers.index.words import WordIndex
from kernel.errors import KernelError
from kernel.event import AnyEvent, Killed, Raised, Search, Spawned
from kernel.interrupts import Line
from kernel.limits import FAULT_DEADLINE_S
from kernel.machine.virtual import VirtualMachine
from kernel.ports import Disk, Job
from kernel.settings import Settings, apply
from kernel.state import Step
from llmos.scenario.format import NS, EventSpec, MachineSpec, Scenario, check, ns, times
from llmos.scenario.timeline import Ran, Timeline
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


class _Play:
    """One run of a scenario."""

    def __init__(self, scenario: Scenario, seed: int, disk: Disk) -> None:
        self.scenario, self.rng = scenario, Random(seed)
        self.machine = VirtualMachine(start=1_700_000_000 * NS)
        self.start = self.machine.now
        self.timeline = Timeline(scenario, lambda: self.machine.now - self.start, lambda n: self.machine.pages.page(n))
        self.disk = disk
        self.off = False
        self.said = 0
        self.waits: dict[str, list[EventSpec]] = {}

    def boot(self) -> None:
        """Switch the machine on, with what the disk holds."""
        spec, machine = self.scenario.machine, self.machine
        self.cpu = _Cpu(self._program, machine, spec)
        self.index = WordIndex(self.disk)
        settings = apply(Settings(), list(spec.set))
        machine.watch = self._watch
        machine.boot(Table(), self.cpu, self.disk, self.index, settings)

    def run(self) -> Ran:
        """From the first boot to the end."""
        end = self.start + ns(self.scenario.until)
        self.boot()
        for name, spec in self.scenario.processes.items():
            mask = Table.names if spec.mask is None else spec.mask
            event = Spawned(
                source="user", name=name, mask=mask, blocks=spec.blocks, nice=spec.nice, abort=spec.abort, system=""
            )
            self.timeline.names[self.machine.kernel.counters.pid + 1] = name
            self.machine.do(event)
        for event_ in self.scenario.events:
            if event_.after is not None:
                self.waits.setdefault(event_.after, []).append(event_)
            else:
                self._put(event_, self.start)
        for expect in self.scenario.expect:
            if expect.state is not None and expect.at is not None and expect.process is not None:
                self._look(ns(expect.at), expect.process)
        self.machine.run(end)
        return self.timeline.ran(self.machine.steps, self.machine.kernel.hash, self.machine.latency)

    # What happens.

    def _put(self, event: EventSpec, base: int) -> None:
        for when in times(event, self.rng):
            self.machine.call_at(base + when, "user", lambda: self._do(event))

    def _do(self, event: EventSpec) -> None:
        if self.off:
            self.timeline.happened("refused", text=f"{event.name or 'an event'}: the power is off")
            return
        if event.name:
            self.timeline.happened("event", text=event.name)
        machine = self.machine
        try:
            if event.say is not None:
                for who in event.to:
                    self.said += 1
                    machine.do(machine.say(self._pid(who), event.say, f"s{self.said}"))
            elif event.raise_ is not None:
                for who in event.to:
                    line = Line[event.raise_.upper()]
                    machine.do(Raised(source="scenario", pid=self._pid(who), line=line, text=event.text))
            elif event.kill is not None:
                machine.do(Killed(source="user", pid=self._pid(event.kill)))
            elif event.start is not None:
                spec = self.scenario.processes[event.start]
                machine.do(Spawned(source="user", name=event.start, mask=spec.mask or Table.names))
            elif event.fails is not None:
                self.cpu.failures += event.fails
            elif event.stall is not None:
                self.cpu.stall(ns(event.stall))
            elif event.silence is not None:
                self.index.silent = True
                machine.call_at(machine.now + ns(event.silence), "index", self.index.speak)
            elif event.slow is not None and event.lasts is not None:
                machine.commit_ns = ns(event.slow)
                machine.call_at(machine.now + ns(event.lasts), "watch", self._recover)
            elif event.cut is not None:
                self._cut(ns(event.cut))
        except KernelError as exc:
            self.timeline.happened("refused", text=str(exc))
        for follower in self.waits.get(event.name or "", ()):
            self._put(follower, machine.now)

    def _cut(self, length: int) -> None:
        self.timeline.cut(length)
        self.off = True
        self.machine.lose_power()
        self.machine.call_at(self.machine.now + length, "power", self._restore)

    def _restore(self) -> None:
        self.off = False
        self.boot()

    def _recover(self) -> None:
        self.machine.commit_ns = 0

    def _pid(self, name: str) -> int:
        return self.machine.kernel.names[name]

    def _look(self, at: int, who: str) -> None:
        """See to it that the state of a process at that time is kept."""

        def look() -> None:
            self.timeline.look(at, who, self.machine.kernel.procs[self._pid(who)].state)

        self.machine.call_at(self.start + at, "watch", look)

    def _program(self, job: Job) -> str:
        name = self.timeline.names[job.pid]
        spec = self.scenario.processes[name]
        if spec.plays:
            at = job.instr - 1
            if at >= len(spec.plays) and not spec.loop:
                return '{"op":"yield"}'
            return json.dumps(spec.plays[at % len(spec.plays)], separators=(",", ":"))
        if spec.does == "talk":
            frame = '{"op":"send_message","text":""}'
            return json.dumps(
                {"op": "send_message", "text": "x" * max(1, 3 * spec.tokens - len(frame))}, separators=(",", ":")
            )
        if spec.does == "echo":
            said = [page.page.text for page in job.pages if page.role == "user" and not page.recalled]
            text = f"you said: {said[-1] if said else ''}"[:400]
            return json.dumps({"op": "send_message", "text": text}, separators=(",", ":"), ensure_ascii=False)
        return '{"op":"yield"}'

    def _watch(self, event: AnyEvent, step: Step) -> None:
        self.timeline.watch(event, step, lambda pid: self.machine.kernel.procs[pid].space.used())
        for effect in step.effects:
            if isinstance(effect, Search) and effect.deadline_s:
                self._deadline(effect)

    def _deadline(self, what: Search) -> None:
        when = self.machine.now + round(FAULT_DEADLINE_S * NS)
        self.machine.call_at(when, "index", lambda: self.index.give_up(what.pid, what.req))


def play(scenario: Scenario, seed: int | None = None, disk: Disk | None = None) -> Ran:
    """Run a scenario in virtual time; `seed` instead of its own, on an empty `disk`. Raises BadInput for mistakes."""
    check(scenario)
    return _Play(scenario, scenario.seed if seed is None else seed, disk or MemoryDisk()).run()
