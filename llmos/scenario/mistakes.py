"""What may be wrong with a scenario, each mistake with the path to it: of types, and beyond them.

Guarantee: a mistake in one process, event or expectation hides none in another. A name that is not known is told with
the nearest that is. Not here: what a file may say (format.py), the lines (places.py, reading.py).
"""

from __future__ import annotations

import datetime
import difflib
import json
import types
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final, Literal, TypeAlias, Union, get_args, get_origin

import msgspec

from drivers.device.given import NAME, tool_name
from kernel import rights
from kernel.errors import BadInput, Illegal
from kernel.interrupts import MASKABLE, Line
from kernel.machine.clock import STEP_NS
from kernel.memory.pager import reply_max
from kernel.memory.policy import POLICIES, lookup
from kernel.scheduler import SCHEDULERS
from kernel.settings import Settings, apply, keys
from llmos.scenario.days import CALENDAR, Days
from llmos.scenario.format import (
    DST,
    EVENTS_MAX,
    KINDS,
    LOOKS,
    UNTIL_MAX,
    WHATS,
    Duration,
    EventSpec,
    Expect,
    FuzzSpec,
    MachineSpec,
    Pattern,
    ProcessSpec,
    Scenario,
    ns,
    since,
)
from llmos.scenario.places import Path
from llmos.scenario.programs import emitted
from llmos.scenario.verbs import VERBS
from syscalls.abi import SYSCALLS
from syscalls.decode import parse
from syscalls.table import Table

Mistake: TypeAlias = tuple[Path, str]

SHOWN_MAX: Final = 60  # characters of a value
DATES: Final = (datetime.datetime, datetime.date, datetime.time)  # what TOML reads as one: no text
_GOOD: Final[dict[str, Any]] = {  # in the place of what cannot be read, so that the rest can be looked at
    "title": "",
    "teaches": "",
    "until": "366d",
    "start": None,
    "seed": 0,
    "machine": MachineSpec(),
    "processes": ProcessSpec(does="yield"),
    "tools": {},
    "events": EventSpec(at="0s", fails=1),
    "expect": Expect(count=Pattern(what="boot"), least=0),
    "fuzz": FuzzSpec(),
}


def near(name: str, known: Iterable[str], *, what: str = "there are") -> str:
    """What to say of a name that is not known: the nearest, and which there are."""
    names = list(map(str, known))
    close = difflib.get_close_matches(name[:64], names, 1)
    shown = names if len(names) <= 40 else [*names[:40], "..."]
    return f"{f'did you mean {close[0]}? ' if close else ''}{what} {', '.join(shown) or 'none'}"


# Of types.


def converted(raw: dict[str, Any]) -> tuple[Scenario, list[Mistake]]:
    """A scenario from what TOML says, and what is wrong with its types; that has something harmless in its place."""
    wrong: list[Mistake] = []
    _look(raw, Scenario, (), wrong)
    kept: dict[str, Any] = {name: value for name, value in raw.items() if name in Scenario.__struct_fields__}
    bad = {path[:2] for path, _ in wrong if path}
    for name, good in _GOOD.items():
        given = kept.get(name)
        if name in ("events", "expect"):
            items = given if isinstance(given, list | tuple) else []
            kept[name] = [
                _harmless(good, one) if (name, n) in bad or (name,) in bad else one for n, one in enumerate(items)
            ]
        elif name == "processes":
            pairs = given.items() if isinstance(given, dict) else ()
            kept[name] = {
                (who or "?")[:64]: good if (name, who) in bad or (name,) in bad else one for who, one in pairs
            }
        elif name not in kept or any(path[0] == name for path in bad):
            kept[name] = good
    return msgspec.convert(msgspec.to_builtins(kept), Scenario), wrong


def _harmless(good: Any, given: Any) -> Any:
    """An event that cannot be read keeps its name: others may follow it."""
    name = given.get("name") if isinstance(good, EventSpec) and isinstance(given, dict) else None
    return msgspec.structs.replace(good, name=name) if isinstance(name, str) and 0 < len(name) <= 64 else good


def _look(value: Any, kind: Any, path: Path, wrong: list[Mistake]) -> None:
    """Find what in a value is not of its type, as deep as structs reach."""
    inner = _within(kind)
    struct, origin = _struct(inner), get_origin(inner)
    if value is None and type(None) in get_args(kind):
        return
    if struct is not None and isinstance(value, dict):
        _look_at_fields(value, struct, path, wrong)
    elif origin is tuple and _struct(get_args(inner)[0]) is not None and isinstance(value, list | tuple):
        for n, one in enumerate(value):
            _look(one, get_args(inner)[0], (*path, n), wrong)
    elif origin is dict and _struct(get_args(inner)[1]) is not None and isinstance(value, dict):
        for key, one in value.items():
            if not 0 < len(key) <= 64:
                wrong.append(((*path, key), f"{shown(key)}: a name has 1 to 64 characters"))
            _look(one, get_args(inner)[1], (*path, key), wrong)
    else:
        try:
            msgspec.convert(value, kind, builtin_types=DATES)
        except msgspec.ValidationError as exc:
            wrong.append((path, _in_words(value, kind, str(exc))))


def _look_at_fields(value: dict[str, Any], struct: type[msgspec.Struct], path: Path, wrong: list[Mistake]) -> None:
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    for key, one in value.items():
        if key not in fields:
            wrong.append(((*path, key), f"no such field; {near(key, fields, what='fields are')}"))
        else:
            _look(one, fields[key].type, (*path, key), wrong)
    for key, field in fields.items():
        if field.required and key not in value:
            wrong.append((path, f"{key} is missing"))


def _within(kind: Any) -> Any:
    """A type without its bounds, and without the None that it may be."""
    if get_origin(kind) is Annotated:
        return _within(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        rest = [one for one in get_args(kind) if one is not type(None)]
        return _within(rest[0]) if len(rest) == 1 else kind
    return kind


def _struct(kind: Any) -> type[msgspec.Struct] | None:
    return kind if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else None


def _in_words(value: Any, kind: Any, message: str) -> str:
    """A mistake of a type for people: no pattern, but what it stands for; names with the nearest."""
    for one in (kind, *get_args(kind)):
        if get_origin(one) is Annotated:
            for meta in get_args(one)[1:]:
                if isinstance(value, str) and meta.description is not None:
                    return f"{shown(value)} is not {meta.description}"
        if get_origin(one) is Literal and isinstance(value, str):
            return f"no {shown(value)}; {near(value, get_args(one))}"
    return f"{message.partition(' - at `$')[0]}; given is {shown(value)}"


def shown(value: Any) -> str:
    """A value as it is told, its head at least."""
    said = str(value) if isinstance(value, str) else repr(value) if not isinstance(value, dict | list) else "a table"
    return said if len(said) <= SHOWN_MAX else f"{said[:SHOWN_MAX]}..."


# Beyond types.


def mistakes(scenario: Scenario) -> Iterator[Mistake]:
    """What is wrong with a scenario beyond its types."""
    end = ns(scenario.until)
    if not 0 < end <= UNTIL_MAX:
        yield ("until",), f"{scenario.until}: more than 0 and at most 366d"
    yield from _too_long(("machine",), scenario.machine)
    yield from _too_long(("fuzz",), scenario.fuzz)
    if ns(scenario.machine.token) == 0:
        yield ("machine", "token"), "0: a token takes some time"
    settings = Settings()
    for n, change in enumerate(scenario.machine.set):
        try:
            settings = apply(settings, [change])
        except BadInput as exc:
            key, given, _ = change.partition("=")
            unknown = not given or (key not in keys() and not key.startswith("models."))
            said = f"{shown(key)}: no such setting; {near(key, keys(), what='settings are')}" if unknown else str(exc)
            yield ("machine", "set", n), said
    for key, chosen, known in (
        ("memory.policy", settings.memory.policy, POLICIES),
        ("sched.policy", settings.sched.policy, SCHEDULERS),
    ):
        if chosen not in known and not (known is POLICIES and lookup(chosen)):
            yield ("machine", "set"), f"{key}={shown(chosen)}: no such policy; {near(chosen, known)}"
    days = Days()
    try:
        days = Days(scenario.start or "")
    except BadInput as exc:
        yield ("start",), str(exc)
    for name, process in scenario.processes.items():
        yield from _of_process(("processes", name), process, reply_max(settings))
    for name, tool in scenario.tools.items():
        yield from _too_long(("tools", name), tool)
        server, _, rest = name.partition("/")
        if not NAME.fullmatch(server) or not tool_name(server, rest):
            yield ("tools", name), "a tool is SERVER/TOOL, in letters, digits, _ . and -, at most 64"
    yield from _of_events(scenario, days)
    for n, expect in enumerate(scenario.expect):
        yield from _too_long(("expect", n), expect)
        yield from _of_expectation(("expect", n), expect, scenario, days)


def _too_long(where: Path, one: msgspec.Struct) -> Iterator[Mistake]:
    """Durations that no scenario lasts: beyond them there are no times that a disk holds."""
    for field in msgspec.structs.fields(one):
        length = getattr(one, field.name)
        if Duration in (field.type, *get_args(field.type)) and length is not None and ns(length) > UNTIL_MAX:
            yield (*where, field.encode_name), f"{length}: at most 366d"


def _time(where: Path, when: str | None, days: Days) -> Iterator[Mistake]:
    """What is wrong with a time that may be a date."""
    if when is None:
        return
    if (when == DST or "-" in when) and not days.dated:
        yield where, f'{when}: dates need a start, such as start = "2026-10-24 20:00 Europe/Berlin"'
        return
    try:
        at = since(when, days)
    except BadInput as exc:
        yield where, str(exc)
        return
    if not 0 <= at <= UNTIL_MAX:
        yield where, f"{when}: not before the start, and at most 366d after it"


def _of_process(where: Path, process: ProcessSpec, reply: int) -> Iterator[Mistake]:
    given = [name for name in ("plays", "does", "on") if getattr(process, name)]
    if not given or "plays" in given and len(given) > 1:
        yield where, f"one of plays, does and on, or does with on; given are {', '.join(given) or 'none'}"
    if process.does == "talk" and process.tokens > reply:
        yield (*where, "tokens"), f"{process.tokens}: at most cpu.reply, {reply} here"
    for call in process.mask or ():
        if call not in (*Table.names, "all"):
            yield (*where, "mask"), f"{call} is no syscall; {near(call, Table.names, what='they are')}"
    for right in process.rights:
        yield from _right((*where, "rights"), right)
    mask = Table.names if process.child else emitted(process.mask or None)
    lists: list[tuple[Path, tuple[dict[str, Any], ...]]] = [((*where, "plays"), process.plays)]
    for n, on in enumerate(process.on):
        at = (*where, "on", n)
        lists.append(((*at, "plays"), on.plays))
        if not on.plays:
            yield at, "plays is empty"
        if on.line is not None and (on.call is not None or on.line.upper() not in Line.__members__):
            lines = [line.name.lower() for line in Line]
            yield (
                (*at, "line"),
                "line and call do not go together"
                if on.call is not None
                else f"no line {on.line}; {near(on.line, lines)}",
            )
        if on.call is not None and on.call not in mask:
            yield (*at, "call"), f"no syscall {on.call} of this process; {near(on.call, mask)}"
    for at, calls in lists:
        for n, one in enumerate(calls):
            wrong = _wrong_call(one, mask, reply, garbage=process.garbage)
            if wrong:
                yield (*at, n), wrong


def _wrong_call(call: dict[str, Any], mask: tuple[str, ...], reply: int, *, garbage: bool) -> str:
    """What is wrong with an instruction; "" if nothing is. Nonsense that is meant must be JSON at least."""
    try:
        text = json.dumps(call, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        return "it has a value that JSON has not"
    if garbage:
        return ""
    meant = ", or say garbage = true for the process"
    op = call.get("op")
    if not isinstance(op, str) or op not in mask:
        said = f"no syscall {shown(op)}" if op not in Table.names else f"{op} is not in its mask"
        return f"{said}; {near(str(op), mask, what='it may emit')}{meant}"
    fields = {field.encode_name: field for field in msgspec.structs.fields(SYSCALLS[op])}
    for key in call:
        if key not in (*fields, "op"):
            return f"{op} has no {shown(key)}; {near(key, fields, what='it takes')}{meant}"
    try:
        parse(text, "json", mask, False)
    except Illegal as exc:
        return f"{op}: {str(exc).partition('; allowed are')[0]}{meant}"
    tokens = -(-len(text) // 3)  # of the scripted CPU: three bytes each
    return f"{op} of {tokens} tokens: at most cpu.reply, {reply} here{meant}" if tokens > reply else ""


def _of_events(scenario: Scenario, days: Days) -> Iterator[Mistake]:
    names = [event.name for event in scenario.events if event.name]
    first: set[str] = set()
    total = 0
    for n, event in enumerate(scenario.events):
        where = ("events", n)
        if event.name is not None and event.name in first:
            yield (*where, "name"), f"the name {event.name} is given twice"
        first |= {event.name} if event.name else set()
        yield from _too_long(where, event)
        yield from _when(where, event, names, days)
        verbs = [verb for verb in VERBS if getattr(event, "raise_" if verb == "raise" else verb) is not None]
        if len(verbs) != 1:
            yield where, f"one of {', '.join(VERBS)}; given are {', '.join(verbs) or 'none'}"
        addressed = any(getattr(event, name) is not None for name in ("say", "raise_", "grant", "revoke", "allow"))
        if addressed != bool(event.to):
            yield where, "to goes with say, raise, grant, revoke or allow"
        for verb, right in (("grant", event.grant), ("revoke", event.revoke)):
            yield from _right((*where, verb), right)
        if bool(event.text.strip()) != (event.raise_ is not None):
            yield where, "raise and a text that is not empty go together"
        if (event.slow is not None) != (event.lasts is not None):
            yield where, "slow and lasts go together"
        if event.clock is not None and not STEP_NS < ns(event.clock) <= UNTIL_MAX:
            yield (*where, "clock"), f"{event.clock}: by more than 1s and at most 366d"
        yield from _time((*where, "jump"), event.jump, days)
        if event.say is not None and not event.say.strip():
            yield (*where, "say"), "it is empty"
        for who in (*event.to, *filter(None, (event.kill, event.start))):
            yield from _unknown(where, who, scenario)
        total += event.times * max(1, len(event.to))
    if total > EVENTS_MAX:
        yield ("events",), f"{total} of them; at most {EVENTS_MAX} are allowed"
    after = {event.name: event.after for event in scenario.events if event.name and event.after}
    for name in after:
        seen = {name}
        at: str | None = after[name]
        while at is not None and at not in seen:  # ends: each round adds a name
            seen.add(at)
            at = after.get(at)
        if at == name:
            yield (
                ("events", next(n for n, one in enumerate(scenario.events) if one.name == name)),
                (f"{name} comes after itself"),
            )


def _when(where: Path, event: EventSpec, names: list[str], days: Days) -> Iterator[Mistake]:
    """What is wrong with when an event happens."""
    if event.at is not None and event.after is not None:
        yield where, "one of at and after"
    if event.at is None and event.after is None and event.every is None:
        yield where, "one of at, every and after"
    if event.after is not None and event.after not in names:
        yield (*where, "after"), f"no event of the name {event.after}; {near(event.after, names)}"
    if event.by is not None and event.after is None:
        yield (*where, "by"), "by goes with after"
    if event.every in CALENDAR and event.at is None:
        yield (*where, "every"), f"{event.every} goes with at"
    if event.every is not None and event.every not in CALENDAR and not 0 < ns(event.every) <= UNTIL_MAX:
        yield (*where, "every"), f"{event.every}: more than 0 and at most 366d"
    yield from _time((*where, "at"), event.at, days)


def _right(where: Path, right: str | None) -> Iterator[Mistake]:
    try:
        if right is not None:
            rights.check(right)
    except BadInput as exc:
        yield where, str(exc)


def _unknown(where: Path, who: str, scenario: Scenario) -> Iterator[Mistake]:
    if who not in scenario.processes:
        yield where, f"no process {who}; {near(who, scenario.processes)}"


def _of_expectation(where: Path, expect: Expect, scenario: Scenario, days: Days) -> Iterator[Mistake]:
    given = [kind for kind in KINDS if getattr(expect, kind) not in (None, (), {})]
    if len(given) != 1:
        yield where, f"one of {', '.join(KINDS)}; given are {', '.join(given) or 'none'}"
    if expect.within is not None and expect.after is None and expect.answers is None:
        yield where, "within goes with after or answers"
    if expect.after is not None and (expect.within is None or expect.see is None or expect.answers is not None):
        yield where, "after goes with see and within, without answers"
    events = [event.name for event in scenario.events if event.name and event.say is not None]
    if expect.answers is not None and not {"see", "never", "count"} & set(given):
        yield (*where, "answers"), "it goes with see, never or count"
    if expect.answers is not None and expect.answers not in events:
        yield (*where, "answers"), f"no event {expect.answers} that says something; {near(expect.answers, events)}"
    bounds = (expect.is_, expect.least, expect.most)
    if expect.count is not None and bounds == (None, None, None):
        yield where, "count needs is, least or most"
    if set(LOOKS) & set(given) and (expect.process is None or expect.at is None):
        yield where, f"{given[0]} needs process and at"
    if expect.masked is not None and expect.masked not in [line.name.lower() for line in MASKABLE]:
        lines = [line.name.lower() for line in MASKABLE]
        yield (*where, "masked"), f"no line {expect.masked} that can be held back; {near(expect.masked, lines)}"
    yield from _time((*where, "at"), expect.at, days)
    if expect.process is not None:
        yield from _unknown((*where, "process"), expect.process, scenario)
    named = (("see", expect.see), ("after", expect.after), ("never", expect.never), ("count", expect.count))
    patterns: list[tuple[Path, Pattern]] = [((*where, name), one) for name, one in named if one is not None]
    for at, one in [*patterns, *(((*where, "order", n), one) for n, one in enumerate(expect.order))]:
        yield from _of_pattern(at, one, scenario)


def _of_pattern(where: Path, one: Pattern, scenario: Scenario) -> Iterator[Mistake]:
    if one.process is not None:
        yield from _unknown(where, one.process, scenario)
    if one.what not in WHATS:
        yield where, f"nothing of the kind {one.what}; {near(one.what, WHATS)}"
    if one.line is not None and one.line.upper() not in Line.__members__:
        yield where, f"no line {one.line}; {near(one.line, [line.name.lower() for line in Line])}"
