"""What happened on a machine while a scenario was played.

A timeline watches the steps of a machine, virtual or real. The watcher's duty: every step, in order, after its commit.
Not here: whether it is what was expected (verdict.py), what makes things happen (director.py), the machine (virtual.py,
real.py), a trace for Perfetto (llmos/tracks.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from json.encoder import encode_basestring_ascii as quoted
from typing import Final

import msgspec

from kernel.event import Deliver, What
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
from llmos.tracks import Tracks

TEXT_CHARS: Final = 200  # of what is shown of a page


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
        self._texts: dict[int, str] = {}  # how pages begin
        self._looked: dict[tuple[int, str], Looked] = {}
        self._asked: list[Asked] = []
        self._answers: dict[int, tuple[str, ...]] = {}  # by entry: ids of the messages that it replies to

    def happened(self, what: str, pid: int = 0, line: Line | None = None, text: str = "") -> None:
        """Add an entry of now."""
        name = line.name.lower() if line is not None else ""
        self.entries.append(Happened(self.now(), what, self.names.get(pid, ""), name, text))

    def cut(self, length: int) -> None:
        """The power goes off."""
        self.happened("cut", text=f"the power is off for {lasted(length)}")

    def look(self, at: int, who: str, found: Looked) -> None:
        """Keep what a process is at a time at which something is expected of it."""
        self._looked[at, who] = found

    def asked(self, event: str, who: str, mid: str) -> None:
        """A message of an event has been taken, under an id."""
        self._asked.append(Asked(event, who, mid, len(self.entries) - 1, self.now()))

    def watch(self, step: Step) -> None:
        """What a step did."""
        for made_, _ in step.pages:
            self._texts[made_.id] = made_.text[:TEXT_CHARS]
        for note in step.notes:
            text = note.text
            if name := made(note):
                self.names.setdefault(note.pid, name)
            if note.what in (What.EVICT, What.FAULT) and note.pages:
                text = f"{len(note.pages)} pages{' ' if text else ''}{text}, {note.tokens} tokens"
            elif note.what is What.DELIVERED and note.pages:
                text = self._text(note.pages[0])
            self.happened(note.what, note.pid, note.line, text)
        for effect in step.effects:
            if isinstance(effect, Deliver):
                self._answers[len(self.entries)] = effect.message.answers
                self.happened("said", effect.message.pid, text=effect.message.text)

    def _text(self, number: int) -> str:
        """How a page begins that was made since the machine was switched on, or that a disk has."""
        if number not in self._texts:
            page = self.page(number)
            self._texts[number] = page.text[:TEXT_CHARS] if page is not None else ""
        return self._texts[number]

    def ran(self, events: int, state_hash: int, latency: Latency) -> Ran:
        """What became of the scenario, with the hash of its timeline and of the kernel's state."""
        lines = [_json(one) for one in self.entries]
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
        )


def _json(one: Happened) -> str:
    """An entry as `json.dumps` writes it, of which a hash is made; in a third of the time."""
    return f"[{one.at}, {', '.join(map(quoted, (one.what, one.process, one.line, one.text)))}]"


def done_to(ran: Ran, tracks: Tracks) -> None:
    """What was done to the machine, into the trace of what it did."""
    for one in ran.timeline:
        if one.what in ("event", "refused", "cut"):
            tracks.happened(one.at, one.what, one.text)
