"""Scenarios: a machine, its processes, what happens to it and what is expected of it, in one TOML file.

With scripted CPUs a scenario runs in virtual time: the same file and seed give the same timeline, and the same hash, on
every machine. A file is checked as a whole before anything runs; every mistake that can be told apart is named. The
format is described in docs/scenarios.md; the structs below are its definition.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from drivers.cpu.virtual import VirtualCpu
from drivers.disk.memory import MemoryDisk
from drivers.disk.words import WordIndex
from kernel.core import Step
from kernel.errors import BadInput, KernelError
from kernel.event import AnyEvent, Killed, Run, Search, Spawned, Trapped
from kernel.interrupts import Line
from kernel.limits import FAULT_DEADLINE_S
from kernel.ports import Job
from kernel.process import State
from kernel.settings import Settings, apply
from kernel.virtual import VirtualMachine
from syscalls.table import Table

NS: Final = 1_000_000_000
UNITS: Final = {"ms": NS // 1_000, "s": NS, "m": 60 * NS, "h": 3_600 * NS, "d": 86_400 * NS}
UNTIL_MAX: Final = 366 * UNITS["d"]
EVENTS_MAX: Final = 1_000_000  # of one scenario, repetitions included
AROUND: Final = 6  # lines of the timeline shown on either side of what broke an expectation

Duration = Annotated[str, Meta(pattern=r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$", description="such as 250ms, 1h30m")]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Count = Annotated[int, Meta(ge=0)]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class MachineSpec(_Strict, frozen=True, kw_only=True):
    """The hardware and its settings."""

    slots: Annotated[int, Meta(ge=1, le=1_024)] = 1
    token: Duration = "20ms"
    set: tuple[str, ...] = ()


class ProcessSpec(_Strict, frozen=True, kw_only=True):
    """A process. `plays` is its n-th instruction for the n-th time it runs, `does` one of the built-in programs."""

    does: Literal["echo", "talk", "yield"] | None = None
    tokens: Annotated[int, Meta(ge=4, le=4_000)] = 40  # of an answer of `talk`
    plays: tuple[dict[str, Any], ...] = ()
    loop: bool = False
    mask: tuple[str, ...] | None = None
    blocks: dict[str, str] = {}
    nice: int = 0
    abort: bool = False


class EventSpec(_Strict, frozen=True, kw_only=True):
    """Something that happens: when (`at`, `every`, `after`), and one of the verbs."""

    name: Name | None = None
    at: Duration | None = None
    every: Duration | None = None
    times: Annotated[int, Meta(ge=1, le=EVENTS_MAX)] = 1
    after: Name | None = None
    by: Duration = "0s"
    spread: Duration = "0s"  # each time is later by a random share of this
    to: tuple[Name, ...] = ()
    say: str | None = None
    kill: Name | None = None
    start: Name | None = None
    fails: Annotated[int, Meta(ge=1, le=1_000)] | None = None  # the CPU's next runs
    stall: Duration | None = None  # of the CPU
    silence: Duration | None = None  # of the index
    cut: Duration | None = None  # of the power


VERBS: Final = ("say", "kill", "start", "fails", "stall", "silence", "cut")


class Pattern(_Strict, frozen=True, kw_only=True):
    """What an entry of the timeline must have; what is not given may be anything."""

    what: str
    process: Name | None = None
    line: str | None = None
    text: str | None = None  # stands in the entry's text


class Expect(_Strict, frozen=True, kw_only=True):
    """One expectation: `see` (within a time after each `after`, if given), `never`, `order`, `count` or `state`."""

    see: Pattern | None = None
    after: Pattern | None = None
    within: Duration | None = None
    never: Pattern | None = None
    order: tuple[Pattern, ...] = ()
    count: Pattern | None = None
    is_: Annotated[int, Meta(ge=0)] | None = msgspec.field(name="is", default=None)
    least: Count | None = None
    most: Count | None = None
    state: Literal["ready", "running", "blocked", "idle", "suspended", "zombie"] | None = None
    process: Name | None = None
    at: Duration | None = None


KINDS: Final = ("see", "never", "order", "count", "state")


class Scenario(_Strict, frozen=True, kw_only=True):
    """A whole file."""

    title: str
    teaches: str
    until: Duration
    seed: int = 0
    machine: MachineSpec = MachineSpec()
    processes: dict[Name, ProcessSpec]
    events: tuple[EventSpec, ...]
    expect: tuple[Expect, ...]


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


def ns(duration: str) -> int:
    """A duration in nanoseconds: "1h30m", "250ms"."""
    return sum(
        round(float(value) * UNITS[unit]) for value, _, unit in re.findall(r"(\d+(\.\d+)?)(ms|s|m|h|d)", duration)
    )


def read(path: Path) -> Scenario:
    """A scenario's file. Raises BadInput naming what is wrong in it, and where."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise BadInput(f"{path}: {exc.strerror}; name a scenario's TOML file") from exc
    except UnicodeDecodeError as exc:
        raise BadInput(f"{path}: it is no UTF-8 text (byte {exc.start + 1})") from exc
    return parse(text, str(path))


def parse(text: str, name: str = "scenario") -> Scenario:
    """A scenario from TOML. Raises BadInput with every mistake that can be told apart."""
    try:
        scenario = msgspec.toml.decode(text, type=Scenario)
    except (msgspec.DecodeError, RecursionError) as exc:  # tomllib's own message names line and column
        raise BadInput(f"{name}: {exc}") from exc
    wrong = list(_mistakes(scenario))
    if wrong:
        raise BadInput(f"{name}: {'; '.join(wrong)}")
    return scenario


def _mistakes(scenario: Scenario) -> Iterator[str]:
    """What is wrong with a scenario beyond its types."""
    end = ns(scenario.until)
    if not 0 < end <= UNTIL_MAX:
        yield f"until = {scenario.until}: more than 0 and at most 366d"
    if ns(scenario.machine.token) == 0:
        yield "machine.token = 0: a token takes some time"
    try:
        apply(Settings(), list(scenario.machine.set))
    except BadInput as exc:
        yield f"machine.set: {exc}"
    for name, process in scenario.processes.items():
        if bool(process.plays) == (process.does is not None):
            yield f"processes.{name}: one of does and plays"
        for call in process.mask or ():
            if call not in Table.names:
                yield f"processes.{name}.mask: {call} is no syscall; they are {', '.join(Table.names)}"
    yield from _event_mistakes(scenario)
    for n, expect in enumerate(scenario.expect):
        yield from _expectation_mistakes(f"expect[{n}]", expect, scenario)


def _event_mistakes(scenario: Scenario) -> Iterator[str]:
    names = [event.name for event in scenario.events if event.name]
    for twice in sorted({name for name in names if names.count(name) > 1}):
        yield f"events: the name {twice} is given twice"
    total = 0
    for n, event in enumerate(scenario.events):
        where = f"events[{n}]"
        if sum(when is not None for when in (event.at, event.every, event.after)) != 1:
            yield f"{where}: one of at, every and after"
        verbs = [verb for verb in VERBS if getattr(event, verb) is not None]
        if len(verbs) != 1:
            yield f"{where}: one of {', '.join(VERBS)}; given are {', '.join(verbs) or 'none'}"
        if (event.say is not None) != bool(event.to):
            yield f"{where}: say and to go together"
        if event.say is not None and not event.say.strip():
            yield f"{where}: say is empty"
        for who in (*event.to, *filter(None, (event.kill, event.start))):
            if who not in scenario.processes:
                yield f"{where}: no process {who}; there are {', '.join(scenario.processes) or 'none'}"
        if event.after is not None and event.after not in names:
            yield f"{where}: after = {event.after}: no event of that name"
        if event.every is not None and ns(event.every) == 0:
            yield f"{where}: every 0"
        total += event.times * max(1, len(event.to))
    if total > EVENTS_MAX:
        yield f"events: {total} of them; at most {EVENTS_MAX} are allowed"
    after = {event.name: event.after for event in scenario.events if event.name and event.after}
    for name in after:
        seen = {name}
        at: str | None = after[name]
        while at is not None and at not in seen:  # ends: each round adds a name
            seen.add(at)
            at = after.get(at)
        if at == name:
            yield f"events: {name} comes after itself"


def _expectation_mistakes(where: str, expect: Expect, scenario: Scenario) -> Iterator[str]:
    given = [kind for kind in KINDS if getattr(expect, kind)]
    if len(given) != 1:
        yield f"{where}: one of {', '.join(KINDS)}; given are {', '.join(given) or 'none'}"
    if (expect.within is not None) != (expect.after is not None):
        yield f"{where}: within and after go together"
    if expect.after is not None and expect.see is None:
        yield f"{where}: after needs see"
    if expect.count is not None and expect.is_ is None and expect.least is None and expect.most is None:
        yield f"{where}: count needs is, least or most"
    if expect.state is not None and (expect.process is None or expect.at is None):
        yield f"{where}: state needs process and at"
    patterns = [one for one in (expect.see, expect.after, expect.never, expect.count, *expect.order) if one is not None]
    for who in filter(None, (*(one.process for one in patterns), expect.process)):
        if who not in scenario.processes:
            yield f"{where}: no process {who}; there are {', '.join(scenario.processes) or 'none'}"
    for one in patterns:
        if one.what not in WHATS:
            yield f"{where}: nothing of the kind {one.what}; there are {', '.join(WHATS)}"
        if one.line is not None and one.line.upper() not in Line.__members__:
            yield f"{where}: no line {one.line}; there are {', '.join(line.name.lower() for line in Line)}"


WHATS: Final = (
    *("boot", "spawn", "interrupt", "delivered", "coalesced", "abort", "said", "run", "fault", "evict", "fold", "turn"),
    *("exit", "error", "event", "refused", "cut"),
)


class _Cpu(VirtualCpu):
    """A virtual CPU that may stall: what runs ends later by as long, and what starts meanwhile waits for its end."""

    def __init__(self, program: Callable[[Job], str], clock: VirtualMachine, *, token_ns: int, slots: int) -> None:
        super().__init__(program, clock, token_ns=token_ns, slots=slots)
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
        self.cpu = _Cpu(self._program, machine, token_ns=ns(spec.token), slots=spec.slots)
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
