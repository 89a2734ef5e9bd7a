"""What a scheduling policy is: a run queue that says who is next, for how many tokens, and in whose place.

Not here: who asks (dispatch.py), which policies there are (the files beside this one).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


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


Maker = Callable[[int], Scheduler]
"""An empty run queue with a quantum of so many tokens."""
