"""What happened on a machine while a scenario was played.

A timeline watches the steps of a machine, virtual or real. Its entries can be written as a trace that Perfetto and
chrome://tracing open. The watcher's duty: every step, in order, after its commit.
Not here: whether it is what was expected (verdict.py), what makes things happen (director.py), the machine (virtual.py,
real.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from kernel.event import AnyEvent, Deliver, Run, Trapped, What
from kernel.interrupts import Line
from kernel.limits import NS
from kernel.machine.latency import Latency
from kernel.memory.page import Page
from kernel.state import Step
from llmos.scenario.days import lasted
from llmos.scenario.format import Scenario
from llmos.scenario.look import Looked
from llmos.scenario.programs import made
from llmos.scenario.verdict import Asked, Broken, Happened, Seen


class Ran(msgspec.Struct, frozen=True):
    """What became of a scenario."""

    failed: tuple[Broken, ...]  # the expectations that did not hold
    events: int
    hash: str
    virtual_s: float
    timeline: tuple[Happened, ...]
    interrupts: dict[str, dict[str, float]]
    waited: tuple[int, ...]  # ns from each message to its first reply, in the order of the messages
    unanswered: int  # messages without one
    slots: tuple[tuple[int, int, int, str], ...]  # (slot, start, end, process) of every run, ns
    fill: tuple[tuple[int, str, int], ...]  # (at, process, tokens in its queue)

    @property
    def ok(self) -> bool:
        """Whether all expectations hold."""
        return not self.failed

    @property
    def broken(self) -> str:
        """The first expectation that did not hold, with the entries around it; "" if all do."""
        return str(self.failed[0]) if self.failed else ""


class Timeline:
    """The entries of one run. `now` is the time since the machine was first switched on, ns."""

    def __init__(self, scenario: Scenario, now: Callable[[], int], page: Callable[[int], Page | None]) -> None:
        self.scenario, self.now, self.page = scenario, now, page
        own = (name for name, spec in scenario.processes.items() if not spec.child)
        self.names = dict(enumerate(own, 1))  # by pid: an empty machine numbers them as they are made
        self.entries: list[Happened] = []
        self._slots: list[tuple[int, int, int, str]] = []
        self._fill: list[tuple[int, str, int]] = []
        self._running: dict[int, int] = {}  # by slot: since when
        self._looked: dict[tuple[int, str], Looked] = {}
        self._asked: list[Asked] = []
        self._answers: dict[int, tuple[str, ...]] = {}  # by entry: ids of the messages that it replies to

    def happened(self, what: str, pid: int = 0, line: Line | None = None, text: str = "") -> None:
        """Add an entry of now."""
        name = line.name.lower() if line is not None else ""
        self.entries.append(Happened(self.now(), what, self.names.get(pid, ""), name, text))

    def cut(self, length: int) -> None:
        """The power goes off: nothing runs any more."""
        self._running.clear()
        self.happened("cut", text=f"the power is off for {lasted(length)}")

    def look(self, at: int, who: str, found: Looked) -> None:
        """Keep what a process is at a time at which something is expected of it."""
        self._looked[at, who] = found

    def asked(self, event: str, who: str, mid: str) -> None:
        """A message of an event has been taken, under an id."""
        self._asked.append(Asked(event, who, mid, len(self.entries) - 1, self.now()))

    def watch(self, event: AnyEvent, step: Step, used: Callable[[int], int]) -> None:
        """What a step did; `used` says how many tokens are in the queue of a process."""
        now = self.now()
        if isinstance(event, Trapped) and event.slot in self._running:
            self._slots.append((event.slot, self._running.pop(event.slot), now, self.names.get(event.pid, "")))
        for note in step.notes:
            text = note.text
            if name := made(note):
                self.names.setdefault(note.pid, name)
            if note.what in (What.EVICT, What.FAULT) and note.pages:
                text = f"{len(note.pages)} pages, {note.tokens} tokens"
            elif note.what is What.DELIVERED and note.pages:
                page = self.page(note.pages[0])
                text = page.text[:200] if page is not None else ""
            self.happened(note.what, note.pid, note.line, text)
        for effect in step.effects:
            if isinstance(effect, Deliver):
                self._answers[len(self.entries)] = effect.message.answers
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
        seen = Seen(self.scenario, tuple(self.entries), self._looked, tuple(self._asked), self._answers)
        waited = seen.waited()
        return Ran(
            failed=seen.failed(),
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
            waited=waited,
            unanswered=len(self._asked) - len(waited),
            slots=tuple(self._slots),
            fill=tuple(self._fill),
        )


def written(ran: Ran) -> bytes:
    """The trace as a file."""
    return msgspec.json.encode({"traceEvents": list(trace(ran))})


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
