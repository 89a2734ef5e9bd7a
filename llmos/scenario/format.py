"""Scenarios: a machine, its processes, what happens to it and what is expected of it, in one TOML file.

The structs below define the format, which docs/scenarios.md describes. A file is checked as a whole before anything
runs, and every mistake that can be told apart is named, with its place. What a file says flatly, with a field a verb,
`EventSpec.verb` gives as one value.
Not here: the verbs as values (verbs.py), who does them (director.py), on which machine (virtual.py, real.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta

from kernel.errors import BadInput
from kernel.event import What
from kernel.interrupts import Line
from kernel.limits import DAY_NS, NS
from kernel.machine.clock import STEP_NS
from kernel.settings import Settings, apply
from kernel.spec import Spec
from llmos.scenario.verbs import (
    VERBS,
    AnyVerb,
    Clock,
    Cut,
    Fails,
    Kill,
    Raise,
    Say,
    Silence,
    Slow,
    Stall,
    Start,
)
from syscalls.table import Table

UNITS: Final = {"ms": NS // 1_000, "s": NS, "m": 60 * NS, "h": 3_600 * NS, "d": DAY_NS}
UNTIL_MAX: Final = 366 * UNITS["d"]
BYTES_MAX: Final = 16 << 20  # of a file
EVENTS_MAX: Final = 1_000_000  # of one scenario, repetitions included

Duration = Annotated[
    str, Meta(pattern=r"^([0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h|d)){1,5}\Z", description="such as 250ms, 1h30m")
]
Change = Annotated[
    str, Meta(pattern=r"^[+-]([0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h|d)){1,5}\Z", description="such as +1h30m, -45s")
]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Count = Annotated[int, Meta(ge=0, le=(1 << 53))]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class MachineSpec(_Strict, frozen=True, kw_only=True):
    """The hardware and its settings."""

    slots: Annotated[int, Meta(ge=1, le=1_024)] = 1
    token: Duration = "20ms"
    prefill: Duration = "0ms"  # a prompt token that is not in KV
    kv: Count = 0  # tokens that the CPU keeps the evaluation of; 0: of every process
    set: tuple[str, ...] = ()


class ProcessSpec(_Strict, frozen=True, kw_only=True):
    """A process. `plays` is its n-th instruction for the n-th time it runs, `does` one of the built-in programs."""

    does: Literal["echo", "talk", "yield"] | None = None
    tokens: Annotated[int, Meta(ge=4, le=4_000)] = 40  # of an answer of `talk`
    plays: tuple[dict[str, Any], ...] = ()
    loop: bool = False
    mask: tuple[str, ...] | None = None
    blocks: dict[str, str] = {}
    nice: Annotated[int, Meta(ge=-20, le=19)] = 0
    abort: bool = False

    def spec(self, name: str) -> Spec:
        """What the kernel makes of it; without a mask the stage says what it may emit."""
        return Spec(name, self.mask or (), blocks=self.blocks, nice=self.nice, abort=self.abort)


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
    raise_: Literal["ipc", "child", "device"] | None = msgspec.field(name="raise", default=None)
    text: str = ""  # what the raised line brings
    kill: Name | None = None
    start: Name | None = None
    fails: Annotated[int, Meta(ge=1, le=1_000)] | None = None  # the CPU's next runs
    stall: Duration | None = None  # of the CPU
    silence: Duration | None = None  # of the index
    slow: Duration | None = None  # what a transaction takes, while it `lasts`
    lasts: Duration | None = None
    cut: Duration | None = None  # of the power
    clock: Change | None = None  # the wall clock is set by so much

    @property
    def verb(self) -> AnyVerb:
        """What happens, of an event that `check` has let pass."""
        match self:
            case EventSpec(say=str(text)):
                return Say(self.to, text)
            case EventSpec(raise_=str(line)):
                return Raise(self.to, Line[line.upper()], self.text)
            case EventSpec(kill=str(who)):
                return Kill(who)
            case EventSpec(start=str(who)):
                return Start(who)
            case EventSpec(fails=int(runs)):
                return Fails(runs)
            case EventSpec(stall=str(length)):
                return Stall(ns(length))
            case EventSpec(silence=str(length)):
                return Silence(ns(length))
            case EventSpec(slow=str(each), lasts=str(length)):
                return Slow(ns(each), ns(length))
            case EventSpec(cut=str(length)):
                return Cut(ns(length))
            case EventSpec(clock=str(by)):
                return Clock(-ns(by) if by.startswith("-") else ns(by))
        raise AssertionError(f"an event without a verb was not checked: {self}")


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
    is_: Count | None = msgspec.field(name="is", default=None)
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
    seed: Count = 0
    machine: MachineSpec = MachineSpec()
    processes: dict[Name, ProcessSpec]
    events: tuple[EventSpec, ...]
    expect: tuple[Expect, ...]


def ns(duration: str) -> int:
    """A duration in nanoseconds: "1h30m", "250ms"."""
    return sum(
        round(float(value) * UNITS[unit]) for value, _, unit in re.findall(r"(\d+(\.\d+)?)(ms|s|m|h|d)", duration)
    )


def times(event: EventSpec, rng: Random) -> list[int]:
    """When an event happens, in ns after the beginning or after the event that it follows."""
    step, spread = ns(event.every or "0s"), ns(event.spread)
    first = step or ns(event.at or "0s") + (ns(event.by) if event.after is not None else 0)
    return [first + n * step + (rng.randrange(spread) if spread else 0) for n in range(event.times)]


def read(path: Path) -> Scenario:
    """A scenario's file. Raises BadInput naming what is wrong in it, and where."""
    try:
        with path.open("rb") as file:
            raw = file.read(BYTES_MAX + 1)
        if len(raw) > BYTES_MAX:
            raise BadInput(f"{path}: more than {BYTES_MAX} bytes are no scenario")
        text = raw.decode()
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
        raise BadInput(f"{name}: {_with_lines(str(exc), text)}") from exc
    try:
        return check(scenario, name)
    except BadInput as exc:
        raise BadInput(_with_lines(str(exc), text)) from exc


def check(scenario: Scenario, name: str = "scenario") -> Scenario:
    """A scenario made in Python, or read. Raises BadInput with every mistake that can be told apart."""
    try:
        msgspec.convert(msgspec.to_builtins(scenario), Scenario)
    except msgspec.ValidationError as exc:
        raise BadInput(f"{name}: {exc}") from exc
    wrong = list(_mistakes(scenario))
    if wrong:
        raise BadInput(f"{name}: {'; '.join(wrong)}")
    return scenario


def _with_lines(message: str, text: str) -> str:
    """A message with the line of each [[events]] and [[expect]] that it names by number."""
    lines: dict[str, list[int]] = {"events": [], "expect": []}
    for number, line in enumerate(text.splitlines(), 1):
        head = re.match(r"\s*\[\[\s*(events|expect)\s*\]\]", line)
        if head:
            lines[head.group(1)].append(number)

    def line_of(found: re.Match[str]) -> str:
        heads, at = lines[found.group(1)], int(found.group(2))
        return f"{found.group()} (line {heads[at]})" if at < len(heads) else found.group()

    return re.sub(r"\b(events|expect)\[(\d+)\]", line_of, message)


def _mistakes(scenario: Scenario) -> Iterator[str]:
    """What is wrong with a scenario beyond its types."""
    end = ns(scenario.until)
    if not 0 < end <= UNTIL_MAX:
        yield f"until = {scenario.until}: more than 0 and at most 366d"
    yield from _too_long("machine", scenario.machine)
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
        yield from _too_long(f"expect[{n}]", expect)
        yield from _expectation_mistakes(f"expect[{n}]", expect, scenario)


def _too_long(where: str, one: msgspec.Struct) -> Iterator[str]:
    """Durations that no scenario lasts: beyond them there are no times that a disk holds."""
    for field in msgspec.structs.fields(one):
        length = getattr(one, field.name)
        if Duration in (field.type, *get_args(field.type)) and length is not None and ns(length) > UNTIL_MAX:
            yield f"{where}.{field.encode_name} = {length}: at most 366d"


def _event_mistakes(scenario: Scenario) -> Iterator[str]:
    names = [event.name for event in scenario.events if event.name]
    for twice in sorted({name for name in names if names.count(name) > 1}):
        yield f"events: the name {twice} is given twice"
    total = 0
    for n, event in enumerate(scenario.events):
        where = f"events[{n}]"
        yield from _too_long(where, event)
        if sum(when is not None for when in (event.at, event.every, event.after)) != 1:
            yield f"{where}: one of at, every and after"
        verbs = [verb for verb in VERBS if getattr(event, "raise_" if verb == "raise" else verb) is not None]
        if len(verbs) != 1:
            yield f"{where}: one of {', '.join(VERBS)}; given are {', '.join(verbs) or 'none'}"
        if (event.say is not None or event.raise_ is not None) != bool(event.to):
            yield f"{where}: to goes with say or raise"
        if bool(event.text.strip()) != (event.raise_ is not None):
            yield f"{where}: raise and a text that is not empty go together"
        if (event.slow is not None) != (event.lasts is not None):
            yield f"{where}: slow and lasts go together"
        if event.clock is not None and not STEP_NS < ns(event.clock) <= UNTIL_MAX:
            yield f"{where}: clock = {event.clock}: by more than 1s and at most 366d"
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
    *(what for what in What if what not in (What.IMPORT, What.FORK, What.CHECKPOINT, What.UPGRADE)),  # no verb
    *("said", "event", "refused", "cut"),  # the timeline's own
)
