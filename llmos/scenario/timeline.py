"""What happened on a machine while a scenario was played, and whether it is what was expected.

A timeline watches the steps of a machine, virtual or real, and holds expectations against what it saw. Its entries
can be written as a trace that Perfetto and chrome://tracing open. The watcher's duty: every step, in order, after its
commit.
Not here: what makes things happen (director.py), the machine (virtual.py, real.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from kernel.event import AnyEvent, Deliver, Run, Trapped, What
from kernel.interrupts import Line
from kernel.limits import NS
from kernel.machine.latency import Latency
from kernel.memory.page import Page
from kernel.process import State
from kernel.state import Step
from llmos.scenario.format import Expect, Pattern, Scenario, ns

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


class Timeline:
    """The entries of one run. `now` is the time since the machine was first switched on, ns."""

    def __init__(self, scenario: Scenario, now: Callable[[], int], page: Callable[[int], Page | None]) -> None:
        self.scenario, self.now, self.page = scenario, now, page
        self.names = dict(enumerate(scenario.processes, 1))  # by pid: an empty machine numbers them as they are made
        self.entries: list[Happened] = []
        self._slots: list[tuple[int, int, int, str]] = []
        self._fill: list[tuple[int, str, int]] = []
        self._running: dict[int, int] = {}  # by slot: since when
        self._states: dict[tuple[int, str], State] = {}

    def happened(self, what: str, pid: int = 0, line: Line | None = None, text: str = "") -> None:
        """Add an entry of now."""
        name = line.name.lower() if line is not None else ""
        self.entries.append(Happened(self.now(), what, self.names.get(pid, ""), name, text))

    def cut(self, length: int) -> None:
        """The power goes off: nothing runs any more."""
        self._running.clear()
        self.happened("cut", text=f"the power is off for {length / NS:g} s")

    def look(self, at: int, who: str, state: State) -> None:
        """Keep the state of a process at a time at which one is expected."""
        self._states[at, who] = state

    def watch(self, event: AnyEvent, step: Step, used: Callable[[int], int]) -> None:
        """What a step did; `used` says how many tokens are in the queue of a process."""
        now = self.now()
        if isinstance(event, Trapped) and event.slot in self._running:
            self._slots.append((event.slot, self._running.pop(event.slot), now, self.names.get(event.pid, "")))
        for note in step.notes:
            text = note.text
            if note.what is What.SPAWN:
                self.names.setdefault(note.pid, text)
            if note.what in (What.EVICT, What.FAULT) and note.pages:
                text = f"{len(note.pages)} pages, {note.tokens} tokens"
            elif note.what is What.DELIVERED and note.pages:
                page = self.page(note.pages[0])
                text = page.text[:200] if page is not None else ""
            self.happened(note.what, note.pid, note.line, text)
        for effect in step.effects:
            if isinstance(effect, Deliver):
                self.happened("said", effect.message.pid, text=effect.message.text)
        for effect in step.effects:
            if isinstance(effect, Run):
                self._running[effect.slot] = now
        for pid in {note.pid for note in step.notes if note.pid}:
            self._fill.append((now, self.names.get(pid, ""), used(pid)))

    def ran(self, events: int, state_hash: int, latency: Latency) -> Ran:
        """What became of the scenario, with the hash of its timeline and of the kernel's state."""
        lines = [json.dumps(msgspec.to_builtins(one)) for one in self.entries]
        total = hashlib.blake2b("\n".join(lines).encode(), digest_size=16)
        total.update(state_hash.to_bytes(16, "little"))
        broken = next(filter(None, map(self._broken, self.scenario.expect)), "")
        return Ran(
            ok=not broken,
            broken=broken,
            events=events,
            hash=total.hexdigest(),
            virtual_s=self.now() / NS,
            timeline=tuple(self.entries),
            interrupts={
                line.name.lower(): {
                    "raised": account.raised,
                    "delivered": account.delivered,
                    "coalesced": account.coalesced,
                    "p99_ms": round(account.to_delivery.quantile_ms(0.99), 3),
                }
                for line, account in latency.lines.items()
                if account.raised
            },
            slots=tuple(self._slots),
            fill=tuple(self._fill),
        )

    # What was expected.

    def _broken(self, expect: Expect) -> str:
        """What is wrong with the timeline by one expectation, with the entries around; "" if it holds."""
        if expect.never is not None:
            found = self._first(expect.never)
            return "" if found is None else f"never {_shown(expect.never)}, but:\n{self._around(found)}"
        if expect.count is not None:
            n = sum(_fits(one, expect.count) for one in self.entries)
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
            state = self._states.get((ns(expect.at or "0s"), expect.process or ""))
            if state != expect.state:
                return f"{expect.process} {expect.state} at {expect.at}, but it was {state or 'not looked at'}"
            return ""
        assert expect.see is not None
        if expect.after is None:
            return "" if self._first(expect.see) is not None else f"to see {_shown(expect.see)}, but it never happened"
        within = ns(expect.within or "0s")
        seen = False
        for at, one in enumerate(self.entries):
            if _fits(one, expect.after):
                seen = True
                found = self._first(expect.see, at + 1)
                if found is None or self.entries[found].at - one.at > within:
                    when = "never" if found is None else f"{(self.entries[found].at - one.at) / NS:g} s later"
                    return f"{_shown(expect.see)} within {expect.within}, but it came {when}:\n{self._around(at)}"
        return "" if seen else f"to see {_shown(expect.after)}, but it never happened"

    def _first(self, pattern: Pattern, start: int = 0) -> int | None:
        return next((at for at in range(start, len(self.entries)) if _fits(self.entries[at], pattern)), None)

    def _around(self, at: int) -> str:
        first = max(0, at - AROUND)
        rows = self.entries[first : at + AROUND + 1]
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
