"""What a process is, looked at from outside at a time at which something is expected of it.

Guarantee: looking changes nothing. Not here: what is expected (verdict.py), when it is looked at (director.py).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from kernel.memory.page import Page
from kernel.process import State
from kernel.state import Kernel


class Looked(msgspec.Struct, frozen=True):
    """A process at a time."""

    state: State
    view: tuple[str, ...] = ()  # texts of the pages in view, those of the manual and of core memory left out
    blocks: dict[str, str] = {}
    timers: tuple[str, ...] = ()
    masked: tuple[str, ...] = ()  # lines that it holds back
    tokens: int = 0  # of its queue


def looked(kernel: Kernel, who: str, page: Callable[[int], Page | None]) -> Looked:
    """A process as it stands; one that is not there, or no more, as a dead one. O(pages in view)."""
    if who not in kernel.names:
        return Looked(State.ZOMBIE)
    proc = kernel.procs[kernel.names[who]]
    pages = (page(number) for number in dict.fromkeys(entry.page for entry in (*proc.space.queue, *proc.space.recall)))
    return Looked(
        proc.state,
        tuple(one.text for one in pages if one is not None),
        dict(proc.spec.blocks),
        tuple(kernel.timers[timer].text for timer in proc.timers),
        tuple(sorted(line.name.lower() for line in proc.holding(kernel.at))),
        proc.space.used(),
    )
