"""Turns that were answered from recalled pages, one after the other: they leave the queue again, but for the last.

Such a turn rests on pages that are not in view any more, and that can be recalled again; what it leaves behind is a
question and an answer without its reason, which a small model takes for how to answer (docs/numbers.md, "Memory"). The
last stays, for what is asked after it ("and where was that?"). They stand at the end of the queue, where what leaves
costs least; the stub is not written anew for it. On disk they stay, and are found like all else.
Not here: what was drawn on and joins the queue (accessed.py), evictions for room (queue.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from kernel.memory import pager
from kernel.memory.address_space import Entry, Recalled
from kernel.memory.page import Kind
from kernel.paging import queue
from kernel.process import Process
from kernel.state import Kernel, small


def closed(kernel: Kernel, proc: Process, recalled: Iterable[Recalled]) -> None:
    """A turn ends, for which pages were `recalled`; before it joins the queue."""
    if not any(one.asked for one in recalled) or not small(kernel, proc, kernel.settings.memory.answered):
        return
    space = proc.space
    first = space.find(proc.answered[0]) if proc.answered else space.turn
    last = space.queue[first : space.turn] if first >= 0 else []
    beside = _said(last) == proc.answered and not any(entry.pinned for entry in last)
    going = last if beside else []  # where more was said since, its place costs too much
    for page in _said(going):
        kernel.policy(proc).drop(page)
    if going:
        pager.remove(space, {entry.page for entry in going})
        queue.left(kernel, proc, going)
    turn = space.queue[space.turn :]
    plain = all(entry.kind in (Kind.MESSAGE, Kind.THOUGHT) for entry in turn)  # a syscall, or its answer, says why
    proc.answered = _said(turn) if plain else ()


def _said(entries: Iterable[Entry]) -> tuple[int, ...]:
    """The pages among them that are no thought."""
    return tuple(entry.page for entry in entries if entry.kind is not Kind.THOUGHT)


def check(proc: Process) -> None:
    """Assert that what is to leave is a page of an earlier turn, or has left already."""
    turn = {entry.page for entry in proc.space.queue[proc.space.turn :]}
    assert turn.isdisjoint(proc.answered), "of this turn"
