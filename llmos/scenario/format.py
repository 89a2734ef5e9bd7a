"""Scenarios: a machine, its processes, what happens to it and what is expected of it, in one TOML file.

The structs below define the format, which docs/scenarios.md describes. What a file says flatly, with a field a verb,
`EventSpec.verb` gives as one value.
Not here: files (reading.py), what may be wrong with them (mistakes.py), dates (days.py), the verbs as values
(verbs.py), who does them (director.py), on which machine (virtual.py, real.py).
"""

from __future__ import annotations

import re
from random import Random
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from kernel.event import What
from kernel.interrupts import Line
from kernel.limits import DAY_NS, NS
from kernel.rights import Limits
from kernel.spec import Policy, Spec
from llmos.scenario.days import CALENDAR, Days
from llmos.scenario.verbs import (
    Allow,
    AnyVerb,
    Clock,
    Cut,
    Fails,
    Grant,
    Jump,
    Kill,
    Raise,
    Revoke,
    Say,
    Silence,
    Slow,
    Stall,
    Start,
)

UNITS: Final = {"ms": NS // 1_000, "s": NS, "m": 60 * NS, "h": 3_600 * NS, "d": DAY_NS}
UNTIL_MAX: Final = 366 * UNITS["d"]
EVENTS_MAX: Final = 1_000_000  # of one scenario, repetitions included
DST: Final = "dst"

_LENGTH: Final = r"([0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h|d)){1,5}"
_DATE: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}(:[0-9]{2})?"

Duration = Annotated[str, Meta(pattern=rf"^{_LENGTH}\Z", description="a duration, such as 250ms, 1h30m, 7d")]
Change = Annotated[str, Meta(pattern=rf"^[+-]{_LENGTH}\Z", description="a change, such as +1h30m, -45s")]
When = Annotated[
    str,
    Meta(
        pattern=rf"^({_LENGTH}|{_DATE}|{DST})\Z",
        description="a time since the start, such as 250ms, 1h30m, a date, such as 2026-10-25 08:00, or dst",
    ),
]
Date = Annotated[str, Meta(pattern=rf"^({_DATE}|{DST})\Z", description="a date, such as 2026-10-25 08:00, or dst")]
Begins = Annotated[
    str,
    Meta(
        pattern=rf"^{_DATE}( [A-Za-z0-9_+/-]{{1,64}})?\Z",
        description="a date and a zone, such as 2026-10-24 20:00 Europe/Berlin",
    ),
]
Every = Annotated[str, Meta(pattern=rf"^({_LENGTH}|day|week)\Z", description="a duration, such as 5m, or day, or week")]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Count = Annotated[int, Meta(ge=0, le=(1 << 53))]
Calls: TypeAlias = tuple[dict[str, Any], ...]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class MachineSpec(_Strict, frozen=True, kw_only=True):
    """The hardware and its settings."""

    slots: Annotated[int, Meta(ge=1, le=1_024)] = 1
    token: Duration = "20ms"
    prefill: Duration = "0ms"  # a prompt token that is not in KV
    kv: Count = 0  # tokens that the CPU keeps the evaluation of; 0: of every process
    set: tuple[str, ...] = ()


class Reaction(_Strict, frozen=True, kw_only=True):
    """What a process plays when something comes: on a line, with a text in it, or as the result of its own `call`.

    Of what is not given all fits. It is counted by what has come: `nth` is the one time, `times` the first so many.
    """

    line: str | None = None
    text: str | None = None  # stands in what came
    call: str | None = None
    nth: Annotated[int, Meta(ge=1, le=EVENTS_MAX)] | None = None
    times: Annotated[int, Meta(ge=1, le=EVENTS_MAX)] | None = None
    plays: Calls


class ProcessSpec(_Strict, frozen=True, kw_only=True):
    """A process. `plays` is its n-th instruction for the n-th time it runs, `does` one of the built-in programs.

    `on` are its reactions, the first that fits; where none does, it does what it `does`. `garbage`: its instructions
    may be nonsense, and are not checked.
    """

    does: Literal["echo", "talk", "yield"] | None = None
    tokens: Annotated[int, Meta(ge=4, le=4_000)] = 40  # of an answer of `talk`
    plays: Calls = ()
    on: tuple[Reaction, ...] = ()
    loop: bool = False
    garbage: bool = False
    mask: tuple[str, ...] | None = None
    blocks: dict[str, str] = {}
    nice: Annotated[int, Meta(ge=-20, le=19)] = 0
    abort: bool = False
    child: bool = False  # another process makes it; what it is made of that one says, and this what it plays
    rights: tuple[str, ...] = ()
    limits: Limits = Limits()
    tainted: Policy = {}
    archives: tuple[str, ...] = ()

    def spec(self, name: str) -> Spec:
        """What the kernel makes of it; without a mask the stage says what it may emit."""
        return Spec(
            name,
            self.mask or (),
            blocks=self.blocks,
            nice=self.nice,
            abort=self.abort,
            limits=self.limits,
            tainted=self.tainted,
            archives=self.archives,
        )


class ToolSpec(_Strict, frozen=True, kw_only=True):
    """A tool, SERVER/TOOL: its n-th answer for the n-th use, the last again and again, each after a time.

    `dies`: uses by number at which its server ends. What it does is done as soon as it is used.
    """

    answers: Annotated[tuple[str, ...], Meta(min_length=1)] = ("ok",)
    takes: Duration = "0s"
    dies: tuple[Annotated[int, Meta(ge=1, le=EVENTS_MAX)], ...] = ()
    purpose: Annotated[str, Meta(max_length=120)] = ""
    reads: bool = False  # it changes nothing
    again: bool = False  # done twice is as done once


class EventSpec(_Strict, frozen=True, kw_only=True):
    """Something that happens: when (`at`, `after`, `every`), and one of the verbs."""

    name: Name | None = None
    at: When | None = None
    every: Every | None = None
    times: Annotated[int, Meta(ge=1, le=EVENTS_MAX)] = 1
    after: Name | None = None
    by: Duration | None = None
    spread: Duration = "0s"  # each time is later by a random share of this
    to: tuple[Name, ...] = ()
    say: str | None = None
    raise_: Literal["ipc", "child", "device"] | None = msgspec.field(name="raise", default=None)
    text: str = ""  # what the raised line brings
    kill: Name | None = None
    start: Name | None = None
    grant: str | None = None  # a right, of those whom it is given to
    revoke: str | None = None
    allow: bool | None = None  # of those who ask for a call
    fails: Annotated[int, Meta(ge=1, le=1_000)] | None = None  # the CPU's next runs
    stall: Duration | None = None  # of the CPU
    silence: Duration | None = None  # of the index
    slow: Duration | None = None  # what a transaction takes, while it `lasts`
    lasts: Duration | None = None
    cut: Duration | None = None  # of the power
    clock: Change | None = None  # the wall clock is set by so much
    jump: Date | None = None  # the wall clock is set to a date, or as those of the zone are

    def verb(self, days: Days) -> AnyVerb:
        """What happens, of an event that was checked."""
        match self:
            case EventSpec(say=str(text)):
                return Say(self.to, text)
            case EventSpec(raise_=str(line)):
                return Raise(self.to, Line[line.upper()], self.text)
            case EventSpec(kill=str(who)):
                return Kill(who)
            case EventSpec(start=str(who)):
                return Start(who)
            case EventSpec(grant=str(right)):
                return Grant(self.to, right)
            case EventSpec(revoke=str(right)):
                return Revoke(self.to, right)
            case EventSpec(allow=bool(yes)):
                return Allow(self.to, yes)
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
            case EventSpec(jump="dst"):
                return Clock(days.change()[1])
            case EventSpec(jump=str(date)):
                return Jump(days.wall(date))
        raise AssertionError(f"an event without a verb was not checked: {self}")


class Pattern(_Strict, frozen=True, kw_only=True):
    """What an entry of the timeline must have; what is not given may be anything."""

    what: str
    process: Name | None = None
    line: str | None = None
    text: str | None = None  # stands in the entry's text


class Expect(_Strict, frozen=True, kw_only=True):
    """One expectation, by one of KINDS. Those of LOOKS are of a `process`, and of the time `at`.

    `see` may be wanted within a time after each `after`, or for each message of the event that it `answers`.
    """

    see: Pattern | None = None
    after: Pattern | None = None
    answers: Name | None = None
    within: Duration | None = None
    never: Pattern | None = None
    order: tuple[Pattern, ...] = ()
    count: Pattern | None = None
    is_: Count | None = msgspec.field(name="is", default=None)
    least: Count | None = None
    most: Count | None = None
    state: Literal["ready", "running", "blocked", "idle", "suspended", "zombie"] | None = None
    view: str | None = None  # stands in a page in view
    gone: str | None = None  # stands in none
    block: dict[Name, str] | None = None  # core memory: texts that stand in blocks
    timer: str | None = None  # stands in the text of a timer that is set
    masked: str | None = None  # a line that is held back
    below: Count | None = None  # its queue has fewer tokens
    process: Name | None = None
    at: When | None = None


LOOKS: Final = ("state", "view", "gone", "block", "timer", "masked", "below")
KINDS: Final = ("see", "never", "order", "count", *LOOKS)


class FuzzSpec(_Strict, frozen=True, kw_only=True):
    """What `llmos run --fuzz` may change: when events come, which of `faults` happen, what is said and when."""

    times: Duration = "1s"  # each event comes earlier or later by up to this
    faults: tuple[Literal["stall", "silence", "slow", "cut", "fails", "clock"], ...] = ()
    lasts: Duration = "10s"  # a fault at most; the clock is set by so much at most
    most: Annotated[int, Meta(ge=0, le=100)] = 3  # faults
    drops: bool = False  # an event may be left out
    replies: bool = False  # an instruction may be left out, emitted twice, or change places with the next


class Scenario(_Strict, frozen=True, kw_only=True):
    """A whole file."""

    title: str
    teaches: str
    until: Duration
    start: Begins | None = None
    seed: Count = 0
    machine: MachineSpec = MachineSpec()
    processes: dict[Name, ProcessSpec]
    tools: dict[Name, ToolSpec] = {}
    events: tuple[EventSpec, ...]
    expect: tuple[Expect, ...] = ()
    fuzz: FuzzSpec = FuzzSpec()


def ns(duration: str) -> int:
    """A duration in nanoseconds: "1h30m", "250ms"."""
    return sum(
        round(float(value) * UNITS[unit]) for value, _, unit in re.findall(r"(\d+(\.\d+)?)(ms|s|m|h|d)", duration)
    )


def since(when: str, days: Days) -> int:
    """A time of a scenario in ns since its start: a duration, a date, or when the clocks of its zone change."""
    if when == DST:
        return days.change()[0]
    return days.since(when) if "-" in when else ns(when)


def times(event: EventSpec, rng: Random, days: Days, base: int = 0) -> list[int]:
    """When an event happens, in ns since the start; `base` is when what it follows happened."""
    spread = ns(event.spread)
    every = event.every or "0s"
    step = 0 if every in CALENDAR else ns(every)
    if event.at is not None:
        first = since(event.at, days)
    elif event.after is not None:
        first = base + (ns(event.by) if event.by is not None else step)
    else:
        first = step
    steps = (
        [days.later(first, n * CALENDAR[every]) for n in range(event.times)]
        if every in CALENDAR
        else [first + n * step for n in range(event.times)]
    )
    return [when + (rng.randrange(spread) if spread else 0) for when in steps]


def draws(scenario: Scenario) -> bool:
    """Whether a seed changes anything: an event has a spread."""
    return any(ns(event.spread) for event in scenario.events)


WHATS: Final = (
    *(what for what in What if what not in (What.IMPORT, What.CHECKPOINT, What.UPGRADE)),  # no verb
    *("said", "event", "refused", "cut"),  # the timeline's own
)
