"""Plays a scenario on scripted CPUs in virtual time, and holds its timeline against what was expected.

The same scenario and seed give the same timeline, and the same hash, on every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Final

import msgspec

from drivers.cpu.scripted import KV_TOKENS
from drivers.cpu.virtual import VirtualCpu
from drivers.disk.memory import MemoryDisk
from drivers.disk.words import WordIndex
from kernel.core import Step
from kernel.errors import KernelError
from kernel.event import AnyEvent, Killed, Raised, Run, Search, Spawned, Trapped
from kernel.interrupts import Line
from kernel.limits import FAULT_DEADLINE_S
from kernel.ports import Job
from kernel.process import State
from kernel.settings import Settings, apply
from kernel.virtual import VirtualMachine
from llmos.scenario import NS, EventSpec, Expect, MachineSpec, Pattern, Scenario, ns
from syscalls.table import Table

AROUND: Final = 6  # lines of the timeline shown on either side of what broke an expectation


class Happened(msgspec.Struct, frozen=True, array_like=True):
    """An entry of the timeline."""

    at: int  # ns since the machine was switched on
    what: str
    process: str = ""
    line: str = ""
    text: str = ""

    def __str__(self) -> str:
        parts = [f"{self.at / NS:12.3f} s", f"{self.what:10}", self.process, self.line, self.text]
        return "  ".join(part for part in parts if part)


class Ran(msgspec.Struct, frozen=True):
    """What became of a scenario."""

    ok: bool
    broken: str  # the first expectation that did not hold, with the timeline around it
    events: int
    hash: str
    virtual_s: float
    timeline: tuple[Happened, ...]
    interrupts: dict[str, dict[str, float]]
    slots: tuple[tuple[int, int, int, str], ...]  # (slot, start, end, process) of every run, ns
    fill: tuple[tuple[int, str, int], ...]  # (at, process, tokens in its queue)


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

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario, self.rng = scenario, Random(seed)
        self.machine = VirtualMachine(start=1_700_000_000 * NS)
        self.start = self.machine.now
        self.disk = MemoryDisk()
        self.names: dict[int, str] = {}
        self.timeline: list[Happened] = []
        self.slots: list[tuple[int, int, int, str]] = []
        self.fill: list[tuple[int, str, int]] = []
        self.running: dict[int, int] = {}  # by slot: since when
        self.off = False
        self.said = 0
        self.states: dict[tuple[int, str], State] = {}
        self.waits: dict[str, list[EventSpec]] = {}

    def happened(self, what: str, pid: int = 0, line: Line | None = None, text: str = "") -> None:
        """Add to the timeline."""
        name = line.name.lower() if line is not None else ""
        self.timeline.append(Happened(self.machine.now - self.start, what, self.names.get(pid, ""), name, text))

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
            self.names[self.machine.kernel.counters.pid + 1] = name
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
        lines = [json.dumps(msgspec.to_builtins(one)) for one in self.timeline]
        total = hashlib.blake2b("\n".join(lines).encode(), digest_size=16)
        total.update(self.machine.kernel.hash.to_bytes(16, "little"))
        broken = next(filter(None, map(self._broken, self.scenario.expect)), "")
        return Ran(
            ok=not broken,
            broken=broken,
            events=self.machine.steps,
            hash=total.hexdigest(),
            virtual_s=(self.machine.now - self.start) / NS,
            timeline=tuple(self.timeline),
            interrupts={
                line.name.lower(): {
                    "raised": account.raised,
                    "delivered": account.delivered,
                    "coalesced": account.coalesced,
                    "p99_ms": round(account.to_delivery.quantile_ms(0.99), 3),
                }
                for line, account in self.machine.latency.lines.items()
                if account.raised
            },
            slots=tuple(self.slots),
            fill=tuple(self.fill),
        )

    # What happens.

    def _put(self, event: EventSpec, base: int) -> None:
        step = ns(event.every) if event.every is not None else 0
        first = base + (step or ns(event.at or "0s") + (ns(event.by) if event.after is not None else 0))
        for n in range(event.times):
            when = first + n * step + (self.rng.randrange(ns(event.spread)) if ns(event.spread) else 0)
            self.machine.call_at(when, "user", lambda: self._do(event))

    def _do(self, event: EventSpec) -> None:
        if self.off:
            self.happened("refused", text=f"{event.name or 'an event'}: the power is off")
            return
        if event.name:
            self.happened("event", text=event.name)
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
            self.happened("refused", text=str(exc))
        for follower in self.waits.get(event.name or "", ()):
            self._put(follower, machine.now)

    def _cut(self, length: int) -> None:
        self.happened("cut", text=f"the power is off for {length / NS:g} s")
        self.off = True
        self.running.clear()
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
            self.states[at, who] = self.machine.kernel.procs[self._pid(who)].state

        self.machine.call_at(self.start + at, "watch", look)

    def _program(self, job: Job) -> str:
        name = self.names[job.pid]
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
        machine, now = self.machine, self.machine.now - self.start
        if isinstance(event, Trapped) and event.slot in self.running:
            self.slots.append((event.slot, self.running.pop(event.slot), now, self.names.get(event.pid, "")))
        for note in step.notes:
            text = note.text
            if note.what in ("evict", "fault") and note.pages:
                text = f"{len(note.pages)} pages, {note.tokens} tokens"
            elif note.what == "delivered" and note.pages:
                page = machine.pages.page(note.pages[0])
                text = page.text[:200] if page is not None else ""
            self.happened(note.what, note.pid, note.line, text)
        for message in step.messages:
            self.happened("said", message.pid, text=message.text)
        for effect in step.effects:
            if isinstance(effect, Run):
                self.running[effect.slot] = now
            elif isinstance(effect, Search) and effect.deadline_s:
                self._deadline(effect)
        for pid in {note.pid for note in step.notes if note.pid}:
            self.fill.append((now, self.names.get(pid, ""), machine.kernel.procs[pid].space.used()))

    def _deadline(self, what: Search) -> None:
        when = self.machine.now + round(FAULT_DEADLINE_S * NS)
        self.machine.call_at(when, "index", lambda: self.index.give_up(what.pid, what.req))

    # What was expected.

    def _broken(self, expect: Expect) -> str:
        """What is wrong with the timeline by one expectation, with the entries around; "" if it holds."""
        if expect.never is not None:
            found = self._first(expect.never)
            return "" if found is None else f"never {_shown(expect.never)}, but:\n{self._around(found)}"
        if expect.count is not None:
            n = sum(_fits(one, expect.count) for one in self.timeline)
            low = expect.is_ if expect.is_ is not None else expect.least or 0
            high = expect.is_ if expect.is_ is not None else expect.most
            if n < low or (high is not None and n > high):
                wanted = f"{low}" if low == high else f"{low} or more" if high is None else f"{low} to {high}"
                return f"{wanted} of {_shown(expect.count)}, but there were {n}"
            return ""
        if expect.order:
            at = 0
            for pattern in expect.order:
                found = self._first(pattern, at)
                if found is None:
                    return f"{_shown(pattern)} after the ones before it, but:\n{self._around(max(0, at - 1))}"
                at = found + 1
            return ""
        if expect.state is not None:
            state = self.states.get((ns(expect.at or "0s"), expect.process or ""))
            if state != expect.state:
                return f"{expect.process} {expect.state} at {expect.at}, but it was {state or 'not looked at'}"
            return ""
        assert expect.see is not None
        if expect.after is None:
            return "" if self._first(expect.see) is not None else f"to see {_shown(expect.see)}, but it never happened"
        within = ns(expect.within or "0s")
        seen = False
        for at, one in enumerate(self.timeline):
            if _fits(one, expect.after):
                seen = True
                found = self._first(expect.see, at + 1)
                if found is None or self.timeline[found].at - one.at > within:
                    when = "never" if found is None else f"{(self.timeline[found].at - one.at) / NS:g} s later"
                    return f"{_shown(expect.see)} within {expect.within}, but it came {when}:\n{self._around(at)}"
        return "" if seen else f"to see {_shown(expect.after)}, but it never happened"

    def _first(self, pattern: Pattern, start: int = 0) -> int | None:
        return next((at for at in range(start, len(self.timeline)) if _fits(self.timeline[at], pattern)), None)

    def _around(self, at: int) -> str:
        first = max(0, at - AROUND)
        rows = self.timeline[first : at + AROUND + 1]
        return "\n".join(f"{'>' if first + n == at else ' '} {row}" for n, row in enumerate(rows))


def _fits(one: Happened, pattern: Pattern) -> bool:
    return (
        one.what == pattern.what
        and (pattern.process is None or one.process == pattern.process)
        and (pattern.line is None or one.line == pattern.line.lower())
        and (pattern.text is None or pattern.text in one.text)
    )


def _shown(pattern: Pattern) -> str:
    fields = (f"{name} {value!r}" for name, value in msgspec.to_builtins(pattern).items() if value is not None)
    return f"({', '.join(fields)})"


def play(scenario: Scenario, seed: int | None = None) -> Ran:
    """Run a scenario in virtual time; `seed` instead of its own."""
    return _Play(scenario, scenario.seed if seed is None else seed).run()


def trace(ran: Ran) -> Iterable[dict[str, Any]]:
    """The timeline as Trace Event JSON, which Perfetto and chrome://tracing open: slots, instants, counters."""
    yield {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": "CPU"}}
    yield {"ph": "M", "pid": 2, "name": "process_name", "args": {"name": "kernel"}}
    for slot, start, end, name in ran.slots:
        yield {
            "ph": "X",
            "pid": 1,
            "tid": slot,
            "ts": start / 1e3,
            "dur": (end - start) / 1e3,
            "name": name,
            "cat": "run",
        }
    for one in ran.timeline:
        if one.what not in ("run",):
            name = " ".join(part for part in (one.what, one.line, one.process) if part)
            args = {"text": one.text[:200]} if one.text else {}
            yield {
                "ph": "i",
                "pid": 2,
                "tid": 0,
                "ts": one.at / 1e3,
                "s": "p",
                "name": name,
                "cat": one.what,
                "args": args,
            }
    for at, name, tokens in ran.fill:
        yield {"ph": "C", "pid": 2, "ts": at / 1e3, "name": f"window of {name}", "args": {"tokens": tokens}}
