"""Who runs next: one scheduling policy a file, behind one Protocol.

Time is counted in tokens, so a policy needs no clock and comes out the same in a replay. Its state is not on disk: boot
begins a new one, with the ready processes in order of their numbers.
A file of this folder that says SCHEDULER is a policy under its own name; nothing else lists it.
"""

from __future__ import annotations

from typing import Final

from kernel.discover import discover
from kernel.errors import BadInput
from kernel.scheduler.contract import Maker, Scheduler

SCHEDULERS: Final[dict[str, Maker]] = discover(__name__, "SCHEDULER")


def make(name: str, quantum: int) -> Scheduler:
    """An empty run queue of that policy. Raises BadInput for an unknown name."""
    if name not in SCHEDULERS:
        raise BadInput(f"sched.policy {name}: no such policy; policies are {', '.join(SCHEDULERS)}")
    return SCHEDULERS[name](quantum)


__all__ = ["SCHEDULERS", "Maker", "Scheduler", "make"]
