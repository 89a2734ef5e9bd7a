"""What happens when in a scenario, and to whom: the part that virtual and real time have in common.

Guarantee: the same scenario and seed ask the same things of any stage, in the same order: processes are made in the
order of the file; what happens is written into the timeline before it is done, and what follows it is put on the
agenda after, from that time on, whether it was refused or not; while the power is off all is refused but setting the
clock, and nothing follows what is. The stage's duty: to call `happen` and `look` at the times it was asked to, one
`happen` at a time.
Not here: what a verb is (verbs.py), what was seen (timeline.py), what a machine is (virtual.py, real.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Protocol, assert_never

from kernel.errors import KernelError
from kernel.event import AnyEvent, Consented, Granted, Killed, Raised, Revoked
from kernel.interrupts import Line
from kernel.process import Process
from llmos.scenario.days import Days
from llmos.scenario.format import EventSpec, ProcessSpec, Scenario, since, times
from llmos.scenario.look import Looked
from llmos.scenario.timeline import Timeline
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


class Stage(Protocol):
    """A machine to which things can happen. Times are ns since it was first switched on, lengths ns.

    An async method may wait for a commit; in virtual time none waits. They raise KernelError for what the machine
    refuses.
    """

    def now(self) -> int:
        """The time."""
        ...

    def powered(self) -> bool:
        """Whether it is on."""
        ...

    def put(self, when: int, name: str, verb: AnyVerb) -> None:
        """Call the director's `happen` then; of one time, in the order they were put."""
        ...

    def watch_for(self, when: int, who: str) -> None:
        """Call the director's `look` then."""
        ...

    def looked(self, who: str) -> Looked:
        """A process as it stands; while the power is off, as it stood."""
        ...

    async def spawn(self, name: str, spec: ProcessSpec) -> None:
        """Make a process, or start it again if it has ended. What `spec` leaves open is as suits the machine."""
        ...

    async def say(self, who: str, text: str, mid: str) -> None:
        """A user's message."""
        ...

    async def submit(self, who: str, made: Callable[[Process], AnyEvent]) -> None:
        """Have the kernel take an event made of a process as it is now."""
        ...

    def fail(self, runs: int) -> None:
        """The CPU's next runs fail, until the power is cut."""
        ...

    def stall(self, length: int) -> None:
        """What the CPU starts meanwhile waits; of several stalls the last to end counts. A power cut ends it."""
        ...

    def silence(self, length: int) -> None:
        """The index answers nothing until the first silence ends, or the power is cut."""
        ...

    def slow(self, each: int, length: int) -> None:
        """A transaction takes so long until the first slowness ends: a power cut makes no disk faster."""
        ...

    async def cut(self, length: int) -> None:
        """The power goes, and comes back."""
        ...

    async def set_clock(self, to: Callable[[int], int]) -> None:
        """The wall clock, which says so much, is set to what `to` makes of it, in ns UTC; with the power off, too."""
        ...


class Director:
    """One run of a scenario on a stage."""

    def __init__(self, scenario: Scenario, seed: int, timeline: Timeline, stage: Stage) -> None:
        self._scenario, self._timeline, self._stage = scenario, timeline, stage
        self._rng, self._days = Random(seed), Days(scenario.start or "")
        self._said = 0
        self._followers: dict[str, list[EventSpec]] = {}
        for event in scenario.events:
            if event.after is not None:
                self._followers.setdefault(event.after, []).append(event)

    async def begin(self) -> None:
        """Make the processes, and put on the agenda what follows nothing.

        Raises BadInput for a process that cannot be.
        """
        for name, spec in self._scenario.processes.items():
            if not spec.child:
                await self._stage.spawn(name, spec)
            for right in spec.rights:
                await self._stage.submit(name, partial(_granted, right=right))
        for event in self._scenario.events:
            if event.after is None:
                self._put(event, 0)
        for expect in self._scenario.expect:
            if expect.at is not None and expect.process is not None:
                self._stage.watch_for(since(expect.at, self._days), expect.process)

    async def happen(self, name: str, verb: AnyVerb) -> None:
        """An event's time has come; `name` is "" if it has none."""
        if not self._stage.powered() and not isinstance(verb, Clock | Jump):
            self._timeline.happened("refused", text=f"{name or 'an event'}: the power is off")
            return
        if name:
            self._timeline.happened("event", text=name)
        try:
            await self._act(verb, name)
        except KernelError as exc:
            self._timeline.happened("refused", text=str(exc))
        for follower in self._followers.get(name, ()):
            self._put(follower, self._stage.now())

    def look(self, at: int, who: str) -> None:
        """Keep what a process is at a time at which something is expected of it."""
        self._timeline.look(at, who, self._stage.looked(who))

    def _put(self, event: EventSpec, base: int) -> None:
        verb = event.verb(self._days)
        for when in times(event, self._rng, self._days, base):
            self._stage.put(when, event.name or "", verb)

    async def _act(self, verb: AnyVerb, name: str) -> None:
        """Do it; of several to whom it is to happen, those after one that refuses are left out."""
        stage = self._stage
        match verb:
            case Say():
                for who in verb.to:
                    self._said += 1
                    await stage.say(who, verb.text, f"s{self._said}")
                    self._timeline.asked(name, who, f"s{self._said}")
            case Raise():
                for who in verb.to:
                    await stage.submit(who, partial(_raised, line=verb.line, text=verb.text))
            case Kill():
                await stage.submit(verb.who, lambda proc: Killed(source="user", pid=proc.pid))
            case Grant():
                for who in verb.to:
                    await stage.submit(who, partial(_granted, right=verb.right))
            case Revoke():
                for who in verb.to:
                    await stage.submit(who, partial(_revoked, right=verb.right))
            case Allow():
                for who in verb.to:
                    await stage.submit(who, partial(_consented, yes=verb.yes))
            case Start():  # all but the mask, which every spawn gives, it still has
                await stage.spawn(verb.who, ProcessSpec(mask=self._scenario.processes[verb.who].mask))
            case Fails():
                stage.fail(verb.runs)
            case Stall():
                stage.stall(verb.length)
            case Silence():
                stage.silence(verb.length)
            case Slow():
                stage.slow(verb.each, verb.length)
            case Cut():
                self._timeline.cut(verb.length)
                await stage.cut(verb.length)
            case Clock():
                by = verb.by
                await stage.set_clock(lambda wall: wall + by)
            case Jump():
                to = verb.to
                await stage.set_clock(lambda _: to)
            case _:
                assert_never(verb)


def _raised(proc: Process, line: Line, text: str) -> AnyEvent:
    return Raised(source="scenario", pid=proc.pid, line=line, text=text)


def _granted(proc: Process, right: str) -> AnyEvent:
    return Granted(source="user", pid=proc.pid, right=right)


def _revoked(proc: Process, right: str) -> AnyEvent:
    return Revoked(source="user", pid=proc.pid, right=right)


def _consented(proc: Process, yes: bool) -> AnyEvent:
    return Consented(source="user", pid=proc.pid, req=proc.req, yes=yes)
