"""Looking for what breaks a scenario: its times, orders, faults and replies changed within what its [fuzz] allows.

A scenario that holds is changed again and again, and played; the first change that breaks an expectation is made as
small as it can be, by Hypothesis, and then what it needs of the scenario: events, repetitions, processes.
Guarantee: what comes back breaks the expectation that it names, and without the change it does not; the same scenario
and seed find the same, however many are tried at once.
Not here: what a file may allow (format.py `FuzzSpec`), other settings and seeds (many.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Final, Literal, TypeAlias

import msgspec

from drivers.host import cores
from kernel.errors import BadInput
from kernel.limits import NS
from llmos.scenario.days import CALENDAR, Days, lasted
from llmos.scenario.format import Calls, EventSpec, ProcessSpec, Scenario, ns, since
from llmos.scenario.many import Case, Outcome, given, outcome, workers
from llmos.scenario.mistakes import mistakes
from llmos.scenario.reading import check
from llmos.scenario.written import duration, toml

MS: Final = NS // 1_000
CHUNK: Final = 100  # changes that are tried by one process, in a row of their own
CHANGES_MAX: Final = 8  # of a kind in one run
SHRINK_MAX: Final = 300  # runs for making what broke smaller, of Hypothesis's and then of ours
FAILS_MAX: Final = 3  # runs of the CPU in a row: after so many a process is ended


class Moved(msgspec.Struct, frozen=True):
    """An event comes earlier or later."""

    event: int
    ms: int


class Swapped(msgspec.Struct, frozen=True):
    """An event stands behind the next one in the file: of one time, it happens after it."""

    event: int


class Dropped(msgspec.Struct, frozen=True):
    """An event is left out."""

    event: int


class Fault(msgspec.Struct, frozen=True):
    """A fault happens."""

    kind: Literal["stall", "silence", "slow", "cut", "fails", "clock"]
    at_ms: int
    length: int  # in ms; of `fails`, how many runs; the clock is set back by odd ones


class Reply(msgspec.Struct, frozen=True):
    """An instruction of a list is left out, is emitted twice, or changes places with the next one."""

    process: str
    on: int  # which reaction; -1: `plays`
    call: int
    how: Literal["dropped", "twice", "swapped"]


Change: TypeAlias = Moved | Swapped | Dropped | Fault | Reply
Changes: TypeAlias = tuple[Change, ...]


class Found(msgspec.Struct, frozen=True):
    """A scenario that breaks, as small as it became; and how it differs from one that holds."""

    scenario: Scenario
    outcome: Outcome
    changes: tuple[str, ...]

    def text(self) -> str:
        """A file of it, which says at its head what was changed."""
        head = [f"breaks: {self.outcome.said}", *(f"changed: {one}" for one in self.changes)]
        return "".join(f"# {' '.join(one.split())}\n" for one in head) + toml(self.scenario)


class _Tried(msgspec.Struct, frozen=True):
    """What came of a chunk: how many changes were tried, those that break the scenario, and what they break."""

    tried: int
    changes: Changes | None
    wanted: tuple[int, str] | None


class _Part(msgspec.Struct, frozen=True):
    """A part of a scenario: which of its events, how often each, which processes, which expectations."""

    events: dict[int, int]  # number in the file: times
    processes: tuple[str, ...]
    expect: tuple[int, ...]


def fuzz(scenario: Scenario, trials: int, seed: int, told: Callable[[int], None], jobs: int = 1) -> Found | None:
    """What breaks a scenario, of so many changes tried; None if none did. `told` is how many were tried.

    They are tried CHUNK by CHUNK, `jobs` of these at a time (0: one a core), and the first that breaks it counts,
    however many are tried at once. Raises BadInput if it does not hold as it stands, or Hypothesis is not here.
    """
    try:
        import hypothesis  # noqa: F401
    except ImportError as exc:
        raise BadInput("--fuzz needs Hypothesis: pip install 'llmos[fuzz]'") from exc
    first = outcome(check(scenario), Case((), scenario.seed))
    if not first.ok:
        raise BadInput(f"it breaks as it stands: {first.said}; --fuzz changes what holds")
    search = _Search(scenario, told)
    sizes = [min(CHUNK, trials - done) for done in range(0, trials, CHUNK)]
    jobs = min(jobs or cores(), len(sizes))
    if jobs <= 1:
        chunks = (_chunk(scenario, seed, n, size, search.tells) for n, size in enumerate(sizes))
        return search.first(chunks)
    with workers(jobs, scenario) as pool:
        waiting = [pool.submit(_of_given, seed, n, size) for n, size in enumerate(sizes)]
        return search.first(one.result() for one in waiting)


def _of_given(seed: int, n: int, size: int) -> _Tried:
    return _chunk(given(), seed, n, size, lambda _: None)


def _chunk(scenario: Scenario, seed: int, n: int, size: int, told: Callable[[int], None]) -> _Tried:
    """Try changes, those of chunk `n`; what breaks first is made smaller by Hypothesis."""
    import hypothesis
    from hypothesis import HealthCheck, Phase
    from hypothesis.errors import NoSuchExample

    search, whole = _Search(scenario, told), _whole(scenario)
    known: dict[Changes, bool] = {}  # Hypothesis asks again for what it has found, when no runs may be left

    def breaks(changes: Changes) -> bool:
        if changes not in known:
            known[changes] = search.breaks(whole, changes) is not None
        return known[changes]

    settings = hypothesis.settings(
        max_examples=size,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    try:
        changes = hypothesis.find(
            _changes(scenario),
            breaks,
            settings=settings,
            random=Random(f"{seed} {n}") if n else Random(seed),
        )
    except NoSuchExample:
        changes = None
    return _Tried(search.tried, changes, search.wanted)


def _whole(scenario: Scenario) -> _Part:
    return _Part(
        {n: event.times for n, event in enumerate(scenario.events)},
        tuple(scenario.processes),
        tuple(range(len(scenario.expect))),
    )


def _changes(scenario: Scenario) -> Any:
    """What Hypothesis draws: changes within what the file allows, the smallest of them none."""
    from hypothesis import strategies as st

    allowed, events = scenario.fuzz, len(scenario.events)
    until, most = ns(scenario.until) // MS, ns(allowed.times) // MS
    drawn: list[Any] = []
    if events and most:
        moved = st.builds(Moved, st.integers(0, events - 1), st.integers(-most, most))
        drawn.append(st.lists(moved, max_size=CHANGES_MAX, unique_by=lambda one: one.event))
    if events > 1:
        drawn.append(st.lists(st.builds(Swapped, st.integers(0, events - 2)), max_size=CHANGES_MAX))
    if events and allowed.drops:
        drawn.append(st.lists(st.builds(Dropped, st.integers(0, events - 1)), max_size=CHANGES_MAX, unique=True))
    if allowed.faults and allowed.most:
        length = st.integers(1, max(1, ns(allowed.lasts) // MS))
        fault = st.builds(Fault, st.sampled_from(allowed.faults), st.integers(0, until - 1), length)
        drawn.append(st.lists(fault, max_size=allowed.most))
    calls = [(name, on, n) for name, on, plays in _lists(scenario) for n in range(len(plays))]
    if calls and allowed.replies:
        how: Any = st.sampled_from(["dropped", "twice", "swapped"])
        reply = st.builds(lambda call, how: Reply(call[0], call[1], call[2], how), st.sampled_from(calls), how)
        drawn.append(st.lists(reply, max_size=CHANGES_MAX))
    return st.tuples(*drawn).map(lambda kinds: tuple(one for kind in kinds for one in kind))


def _lists(scenario: Scenario) -> list[tuple[str, int, Calls]]:
    """All lists of instructions: whose, of which reaction (-1: `plays`)."""
    return [
        (name, on, plays)
        for name, process in scenario.processes.items()
        for on, plays in enumerate((process.plays, *(one.plays for one in process.on)), -1)
    ]


class _Search:
    """What was tried on one scenario. The first break that is found is the one that is made smaller."""

    def __init__(self, scenario: Scenario, told: Callable[[int], None]) -> None:
        self._scenario, self._told = scenario, told
        self._days = Days(scenario.start or "")
        self.tried, self._left = 0, SHRINK_MAX
        self.wanted: tuple[int, str] | None = None  # which expectation, and why
        self._held: dict[bytes, bool] = {}  # parts without a change
        self._whole: set[bytes] = set()  # parts and changes that do not break

    def tells(self, more: int) -> None:
        """So many more are tried by somebody else at the moment."""
        self._told(self.tried + more)

    def first(self, chunks: Iterable[_Tried]) -> Found | None:
        """The smallest of what the first chunk found that found anything."""
        for one in chunks:
            self.tried += one.tried
            self._told(self.tried)
            if one.changes is not None:
                self.wanted = one.wanted
                return self.smaller(_whole(self._scenario), one.changes)
        return None

    def breaks(self, part: _Part, changes: Changes) -> Outcome | None:
        """What becomes of a part under changes, if it breaks as the first one did."""
        made = self._changed(part, changes)
        if made is None or self._left == 0:
            return None
        self.tried += 1
        self._left -= self.wanted is not None
        self._told(self.tried)
        found = outcome(made, Case((), made.seed))
        if found.ok:
            return None
        where = (part.expect[found.index] if found.index >= 0 else -1, found.why)
        self.wanted = self.wanted or where
        return found if where == self.wanted else None

    def smaller(self, part: _Part, changes: Changes) -> Found:
        """The smallest part that breaks under the fewest changes, and holds without them."""
        assert self.wanted is not None, "nothing was found"
        self._left = SHRINK_MAX
        if self.wanted[0] >= 0:
            part = msgspec.structs.replace(part, expect=(self.wanted[0],))
        before = None
        while before != (part, changes):  # ends: each round is smaller than the one before
            before = (part, changes)
            for n in reversed(range(len(changes))):
                fewer = changes[:n] + changes[n + 1 :]
                if fewer and self.breaks(part, fewer) is not None:
                    changes = fewer
            while (less := next((one for one in self._less(part) if self._still(one, changes)), None)) is not None:
                part = less  # ends: each is smaller
        self._left = 1
        found = self.breaks(part, changes)
        made = self._changed(part, changes)
        assert found is not None, "it broke before"
        assert made is not None
        return Found(made, found, tuple(self._said(one) for one in changes))

    def _less(self, part: _Part) -> list[_Part]:
        """Smaller parts to be tried: an event less, fewer times, a process less."""
        replace = msgspec.structs.replace
        found = []
        for n, times in part.events.items():
            found.append(replace(part, events={one: many for one, many in part.events.items() if one != n}))
            fewer = sorted({1, times // 2, times - 1} - {0, times})
            found += [replace(part, events={**part.events, n: many}) for many in fewer]
        for name in part.processes:
            found.append(replace(part, processes=tuple(one for one in part.processes if one != name)))
        return found

    def _still(self, part: _Part, changes: Changes) -> bool:
        """Whether a part holds as it stands and breaks under changes."""
        key, both = msgspec.msgpack.encode(part), msgspec.msgpack.encode((part, [str(one) for one in changes]))
        if both in self._whole:
            return False
        if key not in self._held:
            plain = self._changed(part, ())
            self._held[key] = plain is not None and outcome(plain, Case((), plain.seed)).ok
        found = self._held[key] and self.breaks(part, changes) is not None
        if not found:
            self._whole.add(both)
        return found

    def _said(self, change: Change) -> str:
        """A change for people."""
        events = self._scenario.events
        match change:
            case Moved():
                by = lasted(abs(change.ms) * MS)
                return f"{_called(change.event, events)} comes {by} {'later' if change.ms > 0 else 'earlier'}"
            case Swapped():
                return f"{_called(change.event, events)} stands behind the next one"
            case Dropped():
                return f"{_called(change.event, events)} is left out"
            case Fault():
                return f"at {lasted(change.at_ms * MS)}: {change.kind}"
            case Reply():
                where = f"processes.{change.process}" + (f".on[{change.on}]" if change.on >= 0 else "")
                return f"{where}.plays[{change.call}] is {change.how}"

    def _changed(self, part: _Part, changes: Changes) -> Scenario | None:
        """A part of the scenario under changes; None if that is no scenario."""
        scenario = self._scenario
        moved = {one.event: one.ms for one in changes if isinstance(one, Moved)}
        dropped = {one.event for one in changes if isinstance(one, Dropped)}
        order = list(range(len(scenario.events)))
        for one in changes:
            if isinstance(one, Swapped):
                order[one.event : one.event + 2] = reversed(order[one.event : one.event + 2])
        events = [
            self._moved(msgspec.structs.replace(scenario.events[n], times=part.events[n]), moved.get(n, 0))
            for n in order
            if n in part.events and n not in dropped
        ]
        events += [_fault(one) for one in changes if isinstance(one, Fault)]
        replies = [one for one in changes if isinstance(one, Reply)]
        made = msgspec.structs.replace(
            scenario,
            events=tuple(events),
            processes={name: _replying(scenario.processes[name], name, replies) for name in part.processes},
            expect=tuple(scenario.expect[n] for n in part.expect),
        )
        return None if next(mistakes(made), None) is not None else made

    def _moved(self, event: EventSpec, ms: int) -> EventSpec:
        """An event that comes so much later, but not before the start, nor before what it follows."""
        if not ms:
            return event
        replace, by = msgspec.structs.replace, ms * MS
        step = 0 if event.every is None or event.every in CALENDAR else ns(event.every)
        if event.after is not None:
            return replace(event, by=duration(max(0, (step if event.by is None else ns(event.by)) + by)))
        at = step if event.at is None else since(event.at, self._days)
        return replace(event, at=duration(max(0, at + by)))


def _called(n: int, events: tuple[EventSpec, ...]) -> str:
    return events[n].name or f"events[{n}]"


def _fault(one: Fault) -> EventSpec:
    at, length = duration(one.at_ms * MS), duration(one.length * MS)
    match one.kind:
        case "stall":
            return EventSpec(at=at, stall=length)
        case "silence":
            return EventSpec(at=at, silence=length)
        case "slow":
            return EventSpec(at=at, slow=duration(min(one.length, 1_000) * MS), lasts=length)
        case "cut":
            return EventSpec(at=at, cut=length)
        case "fails":
            return EventSpec(at=at, fails=one.length % FAILS_MAX + 1)
        case "clock":
            sign = "-" if one.length % 2 else "+"
            return EventSpec(at=at, clock=f"{sign}{duration(one.length * MS + 1_001 * MS)}")


def _replying(process: ProcessSpec, name: str, replies: list[Reply]) -> ProcessSpec:
    """A process with its lists changed, one after the other."""
    plays, on = process.plays, list(process.on)
    for one in replies:
        if one.process != name:
            continue
        if one.on < 0:
            plays = _list(plays, one)
        else:
            on[one.on] = msgspec.structs.replace(on[one.on], plays=_list(on[one.on].plays, one))
    return msgspec.structs.replace(process, plays=plays, on=tuple(on))


def _list(plays: Calls, change: Reply) -> Calls:
    n = change.call
    match change.how:
        case "dropped":
            return plays[:n] + plays[n + 1 :]
        case "twice":
            return plays[: n + 1] + plays[n:]
        case "swapped":
            return plays[:n] + tuple(reversed(plays[n : n + 2])) + plays[n + 2 :]
