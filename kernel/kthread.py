"""Threads of the kernel's own: processes that look at what has left the queues of others, while nobody is in a turn.

One a model and purpose, made when there is first something to look at. An item of work is pages of one process: the
thread asks for them, is shown those that fit with one message of the kernel's, answers, and forgets. Which item is next
is a function of the state; it begins when no process is in a turn, and gives its slot back at the next token when one
is again (dispatch.py). Nobody else has a say in a thread, and none of its ends is a process's: what it cannot do is
dropped (trap.py).
Not here: which pages wait and what a thread sees of them (paging/backlog.py), what comes of it (paging/summary.py,
paging/facts.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from kernel import life, turn, waiting
from kernel.errors import BadInput
from kernel.event import Brought, Fetch, Fetched
from kernel.memory.page import Kind, Origin, Role
from kernel.memory.times import date_of, day_of
from kernel.paging import alloc, backlog, queue, segments
from kernel.process import REFLECTION, Move, Process, State, Work
from kernel.state import Kernel


def begin(kernel: Kernel) -> None:
    """Give each thread that rests its next item, unless somebody is in a turn. O(processes that owe)."""
    if kernel.config is None or kernel.busy or not any(kernel.owing.values()):
        return
    threads = {(kernel.procs[pid].thread, kernel.model_of(pid)): kernel.procs[pid] for pid in kernel.threads}
    for what in backlog.wanted(kernel):
        for model in kernel.models:
            owner = _next(kernel, what, model)
            if owner is None:
                continue
            thread = threads.get((what, model))
            if thread is None:
                try:
                    thread = life.thread(kernel, what, model)
                except BadInput:  # no room for it in the table of processes, or in so small a window: not until more
                    kernel.owing[what] -= {pid for pid in kernel.owing[what] if kernel.model_of(pid) == model}
                    continue
            if thread.state is State.IDLE:
                _begin(kernel, thread, owner)


def _next(kernel: Kernel, what: str, model: str) -> Process | None:
    """Whose pages are looked at next: whose oldest has waited longest."""
    owing = [kernel.procs[pid] for pid in kernel.owing.get(what, ()) if kernel.model_of(pid) == model]
    living = [proc for proc in owing if proc.state is not State.ZOMBIE]
    return min(living, key=lambda proc: (proc.backlog[what][0], proc.pid), default=None)


def _begin(kernel: Kernel, thread: Process, owner: Process) -> None:
    """A turn of the thread's, which begins with asking for the pages, and for the facts beside them."""
    pages = backlog.take(kernel, owner, thread.thread)
    facts = owner.facts if thread.thread == REFLECTION else ()
    kernel.dirty(thread)
    thread.move(Move.WAKE)
    thread.in_turn, thread.work = True, Work(owner.pid, pages)
    thread.accounts.turns += 1
    wanted = tuple(dict.fromkeys((*facts, *pages)))
    waiting.block(kernel, thread, Fetch(pid=thread.pid, req=thread.req + 1, owner=owner.pid, pages=wanted))


def fetched(kernel: Kernel, event: Fetched) -> Process | None:
    """The pages are there: the thread that waited, with what it is to look at in view and told what to do with it."""
    thread = waiting.completed(kernel, event)
    if thread is None:
        return None
    assert thread.work is not None
    seen = backlog.shown(kernel, thread, event.pages)
    if not seen:
        turn.close(kernel, thread)
        return thread
    thread.accounts.recalled += sum(entry.tokens for entry in thread.space.recall)
    owner, model = kernel.procs[thread.work.owner], kernel.model_of(thread.pid)
    text = kernel.iset.alert(
        "item",
        thread.spec.calls,
        thread=thread.thread,
        facts=thread.work.shown,
        spans=spans(seen),
        blocks="" if thread.work.low else segments.render_blocks(owner.spec.blocks),
    )
    unit = kernel.budgets(thread).unit - kernel.costs(thread).role[Role.USER]
    for part in alloc.measured(kernel, model, text, unit)[:2]:  # the queue holds two beside what is answered
        entry = alloc.page(kernel, thread.pid, part, Kind.MESSAGE, Origin.KERNEL, Role.USER)
        queue.append(kernel, thread, entry)
    return thread


def spans(pages: Iterable[Brought]) -> list[tuple[int, int, str]]:
    """Pages in order as runs of numbers of one day: first, last, and the day."""
    found: list[tuple[int, int, str]] = []
    for one in pages:
        day = date_of(day_of(one.at))
        if found and found[-1][1] == one.page - 1 and found[-1][2] == day:
            found[-1] = (found[-1][0], one.page, day)
        else:
            found.append((one.page, one.page, day))
    return found
