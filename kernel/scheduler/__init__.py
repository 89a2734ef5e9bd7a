"""Who runs next: one scheduling policy a file, behind one Protocol.

Time is counted in tokens, so a policy needs no clock and comes out the same in a replay. Its state is not on disk: boot
begins a new one, with the ready processes in order of their numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from kernel.errors import BadInput
from kernel.scheduler.fair import Fair
from kernel.scheduler.fifo import Fifo
from kernel.scheduler.mlfq import Mlfq
from kernel.scheduler.rr import RoundRobin


class Scheduler(Protocol):
    """The run queue. A process is in it at most once, and never while it runs."""

    def add(self, pid: int, nice: int, *, ran: bool) -> None:
        """`pid` became ready; `ran`: it has just left a slot and could go on. One that is there already stays."""
        ...

    def remove(self, pid: int) -> None:
        """`pid` is no longer ready; unknown ones are ignored."""
        ...

    def take(self) -> int | None:
        """Who runs next, removed from the queue; None if nobody is ready."""
        ...

    def peek(self) -> int | None:
        """Who would be taken next; None if nobody is ready. A hint: who becomes ready meanwhile may go before."""
        ...

    def quantum(self, pid: int) -> int:
        """Tokens that `pid` may emit before it is preempted."""
        ...

    def spent(self, pid: int, nice: int, tokens: int) -> None:
        """`pid` has emitted `tokens` in a slot that it has left."""
        ...

    def displaces(self, running: Sequence[int]) -> int | None:
        """Which of `running` should give its slot to who runs next, at its next token; None: nobody should."""
        ...

    def bound(self, ready: int) -> int | None:
        """Tokens a ready process waits for at most, on one slot, while `ready` processes compete; None: no bound.

        For processes of equal nice.
        """
        ...

    def __contains__(self, pid: int) -> bool: ...

    def __len__(self) -> int: ...


SCHEDULERS: Final[dict[str, Callable[[int], Scheduler]]] = {
    "fifo": Fifo,
    "rr": RoundRobin,
    "mlfq": Mlfq,
    "fair": Fair,
}


def make(name: str, quantum: int) -> Scheduler:
    """An empty run queue of that policy. Raises BadInput for an unknown name."""
    if name not in SCHEDULERS:
        raise BadInput(f"sched.policy {name}: no such policy; policies are {', '.join(SCHEDULERS)}")
    return SCHEDULERS[name](quantum)
