"""Whether what happened is what was expected, and if not, why: the entries that show it.

Guarantee: a broken expectation names the entry that came too late or should not have come, where there is one, and the
errors and exits of the process that it is about. Judging is a function of what was seen.
Not here: what an expectation may say (format.py), who saw it (timeline.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Final, Literal, NamedTuple

import msgspec

from kernel.limits import NS
from kernel.text import one_line
from llmos.scenario.days import Days, lasted
from llmos.scenario.format import LOOKS, Expect, Pattern, Scenario, ns, since
from llmos.scenario.look import Looked

AROUND: Final = 6  # entries on either side of one that broke an expectation
CONCERNED_MAX: Final = 5  # errors and exits that are told

NONE: Final = Days()  # no dates

Why = Literal["late", "missing", "came", "count", "order", "looked", "unseen"]


class Happened(msgspec.Struct, frozen=True, array_like=True):
    """An entry of the timeline."""

    at: int  # ns since the machine was switched on
    what: str
    process: str = ""
    line: str = ""
    text: str = ""

    def shown(self, days: Days) -> str:
        """As a timeline shows it."""
        parts = [days.stamp(self.at), f"{self.what:10}", self.process, self.line, one_line(self.text)]
        return "  ".join(part for part in parts if part)

    def __str__(self) -> str:
        return self.shown(NONE)


class Row(msgspec.Struct, frozen=True):
    """An entry that shows why an expectation is broken; `n` is its place in the timeline."""

    n: int
    at_s: float
    what: str
    process: str
    line: str
    text: str
    mark: bool  # it is the one, or one of the two, that the expectation is about
    said: str  # as the timeline shows it


class Broken(msgspec.Struct, frozen=True):
    """An expectation that did not hold."""

    index: int  # of the file's
    why: Why
    said: str  # what was expected and what came of it, in a line
    at_s: float | None  # when it was broken, where that can be said
    entries: tuple[Row, ...]  # in order; where some are left out between two, their places say so
    concerned: tuple[Row, ...]  # errors and exits of the process that it is about, of those not among `entries`

    def __str__(self) -> str:
        rows = [f"{self.said}{':' if self.entries else ''}"]
        for before, one in pairwise((None, *self.entries)):
            if before is not None and one is not None and one.n > before.n + 1:
                rows.append("  ...")
            assert one is not None
            rows.append(f"{'>' if one.mark else ' '} {one.said}")
        if self.concerned:
            rows += ["  what else went wrong there:", *(f"  {one.said}" for one in self.concerned)]
        return "\n".join(rows)


class Asked(NamedTuple):
    """A message that was taken: of which event, to whom, its id, after which entry, when."""

    event: str
    who: str
    mid: str
    entry: int
    at: int


class Seen:
    """All that was seen of a run."""

    def __init__(
        self,
        scenario: Scenario,
        entries: tuple[Happened, ...],
        looked: Mapping[tuple[int, str], Looked],
        asked: tuple[Asked, ...],
        answers: Mapping[int, tuple[str, ...]],
    ) -> None:
        self._scenario, self._entries, self._looked = scenario, entries, looked
        self._asked, self._answers = asked, answers
        self._days = Days(scenario.start or "")
        self._places: defaultdict[str, list[int]] = defaultdict(list)  # by what happened
        for n, one in enumerate(entries):
            self._places[one.what].append(n)
        self._replies: defaultdict[str, list[int]] = defaultdict(list)  # by message
        for n, mids in answers.items():
            for mid in mids:
                self._replies[mid].append(n)

    def waited(self) -> tuple[int, ...]:
        """How long each message that was answered waited for its first reply, ns."""
        first = ((one, self._replies.get(one.mid)) for one in self._asked)
        return tuple(self._entries[found[0]].at - one.at for one, found in first if found)

    def failed(self) -> tuple[Broken, ...]:
        """The expectations that do not hold, in the file's order."""
        found = (self._broken(n, expect) for n, expect in enumerate(self._scenario.expect))
        return tuple(one for one in found if one is not None)

    def _broken(self, n: int, expect: Expect) -> Broken | None:
        if expect.never is not None:
            for found in self._fitting(expect.never, expect.answers):
                return self._told(n, "came", f"never {_shown(expect.never)}{_of(expect)}, but", expect, found)
            return None
        if expect.count is not None:
            return self._counted(n, expect, expect.count)
        if expect.order:
            return self._ordered(n, expect)
        if expect.see is None:
            return self._as_looked(n, expect)
        if expect.answers is not None:
            return self._answered(n, expect, expect.see, expect.answers)
        if expect.after is not None:
            return self._after(n, expect, expect.see, expect.after)
        if next(self._fitting(expect.see), None) is not None:
            return None
        return self._told(n, "missing", f"to see {_shown(expect.see)}, but it never happened", expect)

    def _counted(self, n: int, expect: Expect, pattern: Pattern) -> Broken | None:
        found = list(self._fitting(pattern, expect.answers))
        low = expect.is_ if expect.is_ is not None else expect.least or 0
        high = expect.is_ if expect.is_ is not None else expect.most
        if low <= len(found) and (high is None or len(found) <= high):
            return None
        wanted = f"{low}" if low == high else f"{low} or more" if high is None else f"{low} to {high}"
        said = f"{wanted} of {_shown(pattern)}{_of(expect)}, but there were {len(found)}"
        if high is not None and len(found) > high:
            return self._told(n, "count", said, expect, found[high])
        return self._told(n, "count", said, expect, *found[-1:])

    def _ordered(self, n: int, expect: Expect) -> Broken | None:
        at, last = 0, None
        for pattern in expect.order:
            found = next(self._fitting(pattern, start=at), None)
            if found is None:
                before = next(self._fitting(pattern), None)
                where = [one for one in (before, last) if one is not None]
                said = f"{_shown(pattern)} after the ones before it, but"
                said += " it came before" if before is not None else " it never happened"
                return self._told(n, "order", said, expect, *where)
            at, last = found + 1, found
        return None

    def _after(self, n: int, expect: Expect, see: Pattern, after: Pattern) -> Broken | None:
        seen = False
        for at in self._fitting(after):
            seen = True
            found = next(self._fitting(see, start=at + 1), None)
            late = self._late(n, expect, see, at, self._entries[at].at, found)
            if late is not None:
                return late
        return None if seen else self._told(n, "unseen", f"to see {_shown(after)}, but it never happened", expect)

    def _answered(self, n: int, expect: Expect, see: Pattern, event: str) -> Broken | None:
        asked = [one for one in self._asked if one.event == event and see.process in (None, one.who)]
        for one in asked:
            replies = (at for at in self._replies.get(one.mid, ()) if _fits(self._entries[at], see))
            late = self._late(n, expect, see, one.entry, one.at, next(replies, None), one.who)
            if late is not None:
                return late
        if asked:
            return None
        return self._told(n, "unseen", f"to see a message of {event}, but none was taken", expect)

    def _late(
        self, n: int, expect: Expect, see: Pattern, at: int, since: int, found: int | None, who: str = ""
    ) -> Broken | None:
        """What is wrong with what was found of what should follow the entry `at`, counted from `since`."""
        if found is not None and (expect.within is None or self._entries[found].at - since <= ns(expect.within)):
            return None
        within = f" within {expect.within}" if expect.within is not None else ""
        if found is None:
            return self._told(
                n, "missing", f"{_shown(see)}{_of(expect)}{within}, but it never came", expect, at, who=who
            )
        after = lasted(self._entries[found].at - since)
        said = f"{_shown(see)}{_of(expect)}{within}, but it came {after} later"
        return self._told(n, "late", said, expect, at, found, who=who)

    def _as_looked(self, n: int, expect: Expect) -> Broken | None:
        """One of LOOKS: what a process was at a time."""
        kind = next(one for one in LOOKS if getattr(expect, one) not in (None, {}))
        at = since(expect.at or "0s", self._days)
        found = self._looked.get((at, expect.process or ""))
        wrong = "it was not looked at" if found is None else _differs(kind, expect, found)
        if not wrong:
            return None
        wanted = getattr(expect, kind)
        said = f"{expect.process} {'' if kind == 'state' else f'{kind} '}{_text(wanted)} at {expect.at}, but {wrong}"
        last = next((n for n in reversed(range(len(self._entries))) if self._entries[n].at <= at), None)
        return self._told(n, "looked", said, expect, *(() if last is None else (last,)), at=at)

    def _fitting(self, pattern: Pattern, answers: str | None = None, start: int = 0) -> Iterator[int]:
        """The places of entries that fit, and reply to a message of the event `answers`, if one is named."""
        mids = {one.mid for one in self._asked if one.event == answers} if answers is not None else None
        for at in self._places.get(pattern.what, ()):
            fits = at >= start and _fits(self._entries[at], pattern)
            if fits and (mids is None or not mids.isdisjoint(self._answers.get(at, ()))):
                yield at

    def _told(
        self, index: int, why: Why, said: str, expect: Expect, *marks: int, who: str = "", at: int | None = None
    ) -> Broken:
        """A broken expectation with the entries around its marks."""
        near = {n for mark in marks for n in range(mark - AROUND, mark + AROUND + 1) if 0 <= n < len(self._entries)}
        whom = {name for name in (who, expect.process, *(one.process for one in _patterns(expect))) if name}
        wrong = [*self._places["error"], *self._places["exit"]]
        concerned = [n for n in sorted(wrong) if n not in near and (not whom or self._entries[n].process in whom)]
        when = self._entries[marks[-1]].at if marks and at is None else at
        return Broken(
            index,
            why,
            said,
            None if when is None else when / NS,
            tuple(self._row(n, n in marks) for n in sorted(near)),
            tuple(self._row(n, False) for n in concerned[:CONCERNED_MAX]),
        )

    def _row(self, n: int, mark: bool) -> Row:
        one = self._entries[n]
        return Row(n, one.at / NS, one.what, one.process, one.line, one.text, mark, one.shown(self._days))


def _patterns(expect: Expect) -> Iterable[Pattern]:
    named = (expect.see, expect.after, expect.never, expect.count)
    return (one for one in (*named, *expect.order) if one is not None)


def _differs(kind: str, expect: Expect, found: Looked) -> str:
    """What a process was instead, by one of LOOKS; "" if it was as expected."""
    match kind:
        case "state":
            return "" if found.state == expect.state else f"it was {found.state}"
        case "view":
            return "" if _stands(expect.view, found.view) else f"it stood in none of {len(found.view)} pages in view"
        case "gone":
            return f"it stood in view: {_text(expect.gone)}" if _stands(expect.gone, found.view) else ""
        case "block":
            wanted = (expect.block or {}).items()
            other = [name for name, text in wanted if text not in found.blocks.get(name, "\0")]
            return "" if not other else f"{other[0]} held {_text(found.blocks.get(other[0], 'nothing'))}"
        case "timer":
            timers = [text for text in found.timers if (expect.timer or "") in text]
            enough = len(timers) == expect.is_ if expect.is_ is not None else bool(timers)
            return "" if enough else f"its timers were {', '.join(map(_text, found.timers)) or 'none'}"
        case "masked":
            return "" if expect.masked in found.masked else f"it held back {', '.join(found.masked) or 'nothing'}"
        case _:
            assert expect.below is not None
            return "" if found.tokens < expect.below else f"its queue had {found.tokens} tokens"


def _stands(wanted: str | None, texts: Iterable[str]) -> bool:
    return any((wanted or "") in text for text in texts)


def _text(value: object) -> str:
    said = one_line(str(value))
    return said if len(said) <= 60 else f"{said[:60]}..."


def _fits(one: Happened, pattern: Pattern) -> bool:
    return (
        one.what == pattern.what
        and (pattern.process is None or one.process == pattern.process)
        and (pattern.line is None or one.line == pattern.line.lower())
        and (pattern.text is None or pattern.text in one.text)
    )


def _of(expect: Expect) -> str:
    return f" in answer to {expect.answers}" if expect.answers is not None else ""


def _shown(pattern: Pattern) -> str:
    fields = (f"{name} {value!r}" for name, value in msgspec.to_builtins(pattern).items() if value is not None)
    return f"({', '.join(fields)})"
