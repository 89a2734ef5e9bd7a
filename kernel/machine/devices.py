"""What is done with committed steps, by every machine alike: the one `match` over effects.

Guarantee: an effect that is added without a row here fails the type check; nothing here blocks or waits.
The caller's duty, for the steps of one batch: commit what `transaction` says, call `committed`, and only then `perform`
each effect, in order. A step that was refused has no records, no pages and no effects, and may stand among them.
Not here: when a batch is taken and how it is committed (loop.py, virtual.py), what an effect is for (core.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, assert_never

from kernel import failpoint
from kernel.event import (
    Act,
    Acted,
    AnyEffect,
    AnyEvent,
    Arm,
    Deliver,
    Desist,
    Disarm,
    Fetch,
    Forget,
    Fork,
    Load,
    Message,
    Open,
    Preempt,
    Reap,
    Run,
    Search,
)
from kernel.machine.cpus import Cpus
from kernel.machine.pages import Pages
from kernel.ports import Device, Index, Post, Record
from kernel.state import Step


class Alarms(Protocol):
    """What wakes the machine: it posts TimerFired when a timer is due, once."""

    def arm(self, timer: int, due: int, wall: bool) -> None:
        """Fire `timer` at `due` (ns) of the state's time or the wall clock's, instead of when it was to fire before."""
        ...

    def disarm(self, timer: int) -> None:
        """Forget `timer`; one that is not armed is no mistake."""
        ...


def unwatched(event: AnyEvent, step: Step) -> None:
    """Nobody watches."""


class Devices:
    """The devices of a machine: its CPUs, pages, index, alarms and tools, and whoever listens."""

    def __init__(
        self,
        cpus: Cpus,
        pages: Pages,
        index: Index,
        model_of: Callable[[int], str],
        *,
        post: Post,
        publish: Callable[[Message], None],
        start: Callable[[Run], None],
        alarms: Alarms,
        reap: Callable[[int], None],
        tools: Device | None = None,
    ) -> None:
        """`start` begins a run in its slot, `reap` has a dead process removed. `model_of`: by which model one runs."""
        self._tools = tools
        self._cpus, self._pages, self._index, self._model_of = cpus, pages, index, model_of
        self._post, self._publish, self._start, self._alarms, self._reap = post, publish, start, alarms, reap

    def transaction(self, steps: Sequence[Step]) -> list[Record]:
        """What to commit: the ids measured meanwhile, then of each key that the steps wrote the last value."""
        last = {(record.table, record.key): record for step in steps for record in step.records}
        return [*self._pages.measured(), *last.values()]

    def committed(self, steps: Sequence[Step]) -> None:
        """The transaction of these steps is on disk: keep their pages, and let the index have them."""
        newest = 0
        for step in steps:
            for page, ids in step.pages:
                if ids:
                    self._pages.keep(page, ids)
                newest = page.id
        if newest:
            self._index.feed(newest)

    def perform(self, effect: AnyEffect) -> None:
        """Carry out one effect of a committed step; never blocks."""
        match effect:
            case Run():
                self._start(effect)
            case Preempt():
                self._cpus.preempt(effect.slot)
            case Fork():
                self._cpus.fork(effect.parent, effect.child, self._model_of(effect.child))
            case Forget():
                self._cpus.forget(effect.pid)
            case Reap():
                self._reap(effect.pid)
            case Search():
                self._index.search(effect)
            case Open():
                self._post(self._pages.open_(effect))
            case Load():
                self._post(self._pages.load(effect))
            case Fetch():
                self._post(self._pages.fetch(effect))
            case Act():
                failpoint.passing("act.before")
                if self._tools is None:
                    gone = f"no server of {effect.tool} is configured"
                    self._post(Acted(source="device", pid=effect.pid, req=effect.req, error=gone))
                else:
                    self._tools.act(effect)
            case Desist():
                if self._tools is not None:
                    self._tools.desist(effect.pid, effect.req)
            case Arm():
                self._alarms.arm(effect.timer, effect.due, effect.wall)
            case Disarm():
                self._alarms.disarm(effect.timer)
            case Deliver():  # to those who listen; it stands in the outbox for those who come later
                failpoint.passing("publish.before")
                self._publish(effect.message)
                failpoint.passing("publish.after")
            case _:
                assert_never(effect)
