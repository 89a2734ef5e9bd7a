"""What has left a queue and is yet to be looked at by a thread of the kernel's, and what such a thread has before it.

A page waits in its process's PCB, once a thread; none is ever copied: the thread is shown the pages themselves, in its
recall area, and owns none of them. Pages of files and what was said never stand together, so that what is made of one
is as much to be trusted as the other.
Not here: when a thread begins (kernel/kthread.py), what comes of it (summary.py, facts.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kernel.event import Brought
from kernel.limits import BACKLOG_MAX, FACTS_SHOWN_MAX, ITEM_PAGES_MAX, ITEM_TOKENS_MAX, TURN_SYSCALLS_MAX
from kernel.memory.address_space import Recalled
from kernel.memory.page import LOW, Kind, Origin
from kernel.process import REFLECTION, SUMMARY, Process, Work
from kernel.state import Kernel


def wanted(kernel: Kernel) -> tuple[str, ...]:
    """The threads that this machine has, by what for."""
    memory = kernel.settings.memory
    on = ((SUMMARY, memory.on_evict == "summary"), (REFLECTION, memory.reflect))
    return tuple(what for what, is_on in on if is_on)


def owe(kernel: Kernel, proc: Process, pages: Sequence[int]) -> None:
    """Pages have left a queue: they are to be looked at. O(backlog)."""
    for what in wanted(kernel) if pages and not proc.thread else ():
        _set(kernel, proc, what, [*proc.backlog.get(what, ()), *pages])


def take(kernel: Kernel, owner: Process, what: str) -> tuple[int, ...]:
    """The oldest pages of a process that a thread is yet to look at, as many as it may be shown at once."""
    pages = owner.backlog[what]
    _set(kernel, owner, what, pages[ITEM_PAGES_MAX:])
    return tuple(pages[:ITEM_PAGES_MAX])


def _set(kernel: Kernel, proc: Process, what: str, pages: Sequence[int]) -> None:
    kernel.dirty(proc)
    proc.backlog = {**proc.backlog, what: list(pages[-BACKLOG_MAX:])}
    if not pages:
        del proc.backlog[what]
    owing(kernel, proc)


def owing(kernel: Kernel, proc: Process) -> None:
    """Keep who owes what, of one process."""
    for what in (SUMMARY, REFLECTION):
        known = kernel.owing.setdefault(what, set())
        known.discard(proc.pid)
        if what in proc.backlog:
            known.add(proc.pid)


def shown(kernel: Kernel, thread: Process, pages: Iterable[Brought]) -> list[Brought]:
    """Bring into a thread's view what it is to look at, of the pages that it asked for: the first that fit.

    Those that are left go back to where they came from. What is neither said nor stored is not looked at: answers of
    the kernel's may quote anything, and a summary is not summed up.
    """
    work = thread.work
    assert work is not None
    owner, costs = kernel.procs[work.owner], kernel.costs(thread)
    facts, room = set(owner.facts), kernel.budgets(thread).recall - costs.recall
    looked = [one for one in pages if one.kind in (Kind.MESSAGE, Kind.ARCHIVE)]
    foreign = bool(looked) and _foreign(kernel, looked[0].origin)
    beside = [one for one in pages if one.page in facts and _foreign(kernel, one.origin) == foreign]
    taken: list[Brought] = []
    half = room // 4 if thread.thread == REFLECTION else 0
    for one in reversed(beside[-FACTS_SHOWN_MAX:]):
        size = one.tokens + costs.recalled[one.role]
        if size > half:
            break
        half, room = half - size, room - size
        taken.insert(0, one)
    known, left = len(taken), list[int]()
    for at, one in enumerate(looked):
        size = one.tokens + costs.recalled[one.role]
        if _foreign(kernel, one.origin) != foreign or size > room:
            fresh = len(taken) == known  # larger than all the room there is: nobody can look at it
            left = [other.page for other in looked[at + fresh :]]
            break
        room -= size
        taken.append(one)
    if left:
        _set(kernel, owner, thread.thread, [*left, *owner.backlog.get(thread.thread, ())])
    thread.space.recall = [
        Recalled(one.page, one.tokens + costs.recalled[one.role], one.kind, one.role, whole=one.tokens) for one in taken
    ]
    thread.work = Work(
        work.owner,
        tuple(one.page for one in taken[known:]),
        tuple(one.at for one in taken[known:]),
        tuple(one.page for one in taken[:known]),
        foreign or any(one.origin is Origin.DERIVED for one in taken),
    )
    return taken[known:]


def _foreign(kernel: Kernel, origin: Origin) -> bool:
    """Whether a page is another's than the user's or the process's own; before format 6 that was a file's alone."""
    foreign = origin in LOW and origin is not Origin.DERIVED
    return foreign if kernel.form.number >= 6 else origin is Origin.FILE


def spent(kernel: Kernel, thread: Process) -> bool:
    """Whether a thread has had what it may have of an item: instructions, tokens, or room for one more."""
    limits = kernel.budgets(thread)
    full = thread.turn_syscalls > 0 and thread.space.used() + limits.unit + limits.unit // 2 > limits.queue
    return full or thread.turn_syscalls >= TURN_SYSCALLS_MAX or thread.turn_tokens >= ITEM_TOKENS_MAX


def emptied(kernel: Kernel, thread: Process) -> None:
    """An item is done with: nothing of it stays in view, and nothing adds up."""
    kernel.policies.pop(thread.pid, None)
    thread.policy, thread.work, thread.illegal_row = None, None, 0
    thread.space.queue, thread.space.pressed = [], False


def put_back(kernel: Kernel, thread: Process) -> None:
    """What a thread was about to look at is to be looked at later, from the beginning."""
    assert thread.work is not None
    owner = kernel.procs[thread.work.owner]
    _set(kernel, owner, thread.thread, [*thread.work.pages, *owner.backlog.get(thread.thread, ())])


def check(kernel: Kernel, proc: Process) -> None:
    """Assert that what waits is bounded and known, and that a thread shows what is its owner's, in a turn alone."""
    assert all(0 < len(pages) <= BACKLOG_MAX for pages in proc.backlog.values())
    for what, known in kernel.owing.items():
        assert proc.pid not in known or what in proc.backlog, "it owes nothing"
    assert bool(proc.work) == bool(proc.thread and proc.in_turn), "work without a turn, or a turn without work"
    if proc.thread:
        assert not proc.backlog
        assert not proc.pending, "nobody has a say in it"
        assert not proc.timers
        assert proc.in_turn or not proc.space.queue, "something adds up"
    if proc.work is not None:
        assert proc.work.owner in kernel.procs
        assert not kernel.procs[proc.work.owner].thread
        seen = {entry.page for entry in proc.space.recall}
        assert seen <= {*proc.work.pages, *proc.work.shown}, "shown to it by nobody"
