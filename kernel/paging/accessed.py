"""Pages that the turn's instructions drew on: references that the policy learns from, and what joins the queue.

A page counts once a turn. With `memory.join`, what was recalled and drawn on is kept when the turn ends, as a page at
the end of the queue; what it was recalled for may be asked again.
Not here: which pages those are (machine/accessed.py), references by a syscall (residency.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from kernel.memory.address_space import Entry, Recalled
from kernel.memory.page import UNRANKED, Kind, Role
from kernel.paging import queue
from kernel.process import Process
from kernel.state import Kernel


def drew(kernel: Kernel, proc: Process, pages: Iterable[int]) -> None:
    """What an instruction drew on is referenced: a hit in the queue, a miss of it in the recall area."""
    space = proc.space
    recalled = {entry.page for entry in space.recall}
    queued = {entry.page for entry in space.queue if entry.kind not in UNRANKED}
    for page in pages:
        if page in proc.drawn:
            continue
        if page in queued:
            kernel.policy(proc).hit(page)
        elif page in recalled:
            kernel.policy(proc).miss(page)
        else:
            continue
        proc.drawn += (page,)


def join(kernel: Kernel, proc: Process, recalled: Iterable[Recalled]) -> None:
    """Append those of the turn's recalled pages that it drew on, unless they are in the queue or too large for it."""
    costs = kernel.costs(proc)
    for entry in recalled if kernel.settings.memory.join else ():
        if entry.page not in proc.drawn or proc.space.find(entry.page) >= 0:
            continue
        assert entry.role is not Role.ASSISTANT, "it was not recalled"
        text = entry.tokens - costs.recalled[entry.role]
        if entry.end or kernel.form.number >= 6:  # in its own frame a label stands apart
            text = max(entry.whole, 0 if entry.end else text)
        tokens = text + costs.role[entry.role]
        if tokens <= kernel.budgets(proc).unit:
            queue.append(kernel, proc, Entry(entry.page, tokens, Kind.MESSAGE, entry.role))


def check(proc: Process) -> None:
    """Assert that a page counts once, and none after its turn."""
    assert len(proc.drawn) == len(set(proc.drawn)), "drawn on twice"
    assert not proc.drawn or proc.in_turn, "of a turn that is over"
