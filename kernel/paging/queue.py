"""The queue: what is appended, what leaves for it, and what an eviction leaves behind.

Invariant: the queue has at most Q tokens after every call. An eviction breaks the prompt's prefix anyway, so core
memory is folded then, and the stub is written anew.
Not here: which pages go (memory/pager.py and the policies).
"""

from __future__ import annotations

from collections.abc import Sequence

from kernel.event import What
from kernel.interrupts import Line
from kernel.memory import pager
from kernel.memory.address_space import Entry
from kernel.memory.page import HEADS, UNRANKED, Kind, Origin, Role
from kernel.memory.policy import make
from kernel.paging import alloc, backlog, segments, share, summary
from kernel.process import Process
from kernel.state import Kernel


def append(kernel: Kernel, proc: Process, entry: Entry) -> None:
    """Put a page at the end of the queue; what must leave for it does."""
    space, memory = proc.space, kernel.settings.memory
    assert entry.tokens > 0
    limits = share.making_room(kernel, proc, entry.tokens)
    victims = pager.make_room(space, kernel.policy(proc), limits, entry.tokens, memory.low)
    space.queue.append(entry)
    if entry.kind not in UNRANKED:
        kernel.policy(proc).admit(entry.page, entry.tokens, entry.kind)
    if victims:
        evicted(kernel, proc, victims)
    if pager.pressure(space, limits, memory.warn) and not proc.thread:
        kernel.raise_(proc, Line.MEMORY)


def evicted(kernel: Kernel, proc: Process, victims: list[Entry]) -> None:
    """Account for victims, fold core memory, since the prefix is broken anyway, and leave the stub."""
    space = proc.space
    kernel.seen.pop(proc.pid, None)
    left(kernel, proc, victims)
    _fold(kernel, proc, victims)
    heads = [entry for entry in space.queue if entry.kind in HEADS]
    pager.remove(space, {entry.page for entry in heads})
    leaves = kernel.settings.memory.on_evict
    if leaves == "summary":
        stood = [entry for entry in heads if entry.kind is Kind.SUMMARY]
        for place, entry in enumerate(summary.standing(kernel, proc, stood)):
            space.queue.insert(place, entry)
            space.turn += 1
    if leaves != "nothing" and space.evicted and not any(entry.kind in HEADS for entry in space.queue):
        text = kernel.iset.alert("stub", proc.spec.calls, pages=space.evicted)
        _head(kernel, proc, text, Kind.STUB)


def left(kernel: Kernel, proc: Process, victims: Sequence[Entry]) -> None:
    """Account for what has left a queue, whatever is made of the place; what was said is yet to be looked at."""
    assert victims
    proc.accounts.evictions += len(victims)
    gone = [entry for entry in victims if entry.kind not in UNRANKED]
    proc.space.evicted += len(gone)
    tokens = sum(entry.tokens for entry in victims)
    kernel.note(What.EVICT, proc, pages=tuple(entry.page for entry in gone), tokens=tokens)
    backlog.owe(kernel, proc, [entry.page for entry in gone if entry.kind in (Kind.MESSAGE, Kind.RESULT)])


def _head(kernel: Kernel, proc: Process, text: str, kind: Kind) -> None:
    """A kernel page at the front of the queue, if it fits there."""
    part = alloc.measured(kernel, kernel.model_of(proc.pid), text, kernel.budgets(proc).unit)[0]
    size = len(part.ids) + kernel.costs(proc).role[Role.SYSTEM]
    if part.text and proc.space.used() + size <= kernel.budgets(proc).queue:
        entry = alloc.page(kernel, proc.pid, part, kind, Origin.KERNEL, Role.SYSTEM)
        proc.space.queue.insert(0, entry)
        proc.space.turn += 1


def _fold(kernel: Kernel, proc: Process, victims: list[Entry]) -> None:
    """Fold, if an eviction took a write to core memory, or there is one to fold."""
    if _written(proc) or any(entry.kind is Kind.DELTA for entry in victims):
        fold(kernel, proc)


def fold(kernel: Kernel, proc: Process) -> None:
    """Bring `data` up to the core blocks and drop the writes that led there, those of this turn excepted.

    The prefix breaks, so what was thought before this turn goes, too.
    """
    space, folded = proc.space, _written(proc)
    pager.remove(space, {entry.page for entry in space.thoughts(0, space.turn)})
    for entry in folded:
        kernel.policy(proc).drop(entry.page)
    pager.remove(space, {entry.page for entry in folded})
    assert not any(entry.kind is Kind.DELTA for entry in space.queue[: space.turn])
    segments.data(kernel, proc)
    kernel.note(What.FOLD, proc, tokens=sum(entry.tokens for entry in folded))


def _written(proc: Process) -> list[Entry]:
    """Writes to core memory that are to be folded, and what stands with them: all but this turn's."""
    space = proc.space
    turn = {entry.group for entry in space.queue[space.turn :]}
    deltas = {entry.group for entry in space.queue if entry.kind is Kind.DELTA} - turn
    return [entry for entry in space.queue if entry.group in deltas]


def settled(kernel: Kernel, proc: Process) -> None:
    """Have the queue fit what its text leaves."""
    limits, policy = kernel.budgets(proc), kernel.policy(proc)
    policy.capacity = limits.queue
    victims = pager.make_room(proc.space, policy, limits, 0, kernel.settings.memory.low)
    if victims:
        evicted(kernel, proc, victims)


def check(kernel: Kernel, proc: Process) -> None:
    """Assert that the queue fits, a stub or summaries stand at its head, and the policy holds what else is in it."""
    queue = proc.space.queue
    assert proc.space.used() <= kernel.budgets(proc).queue
    heads = [entry.kind for entry in queue if entry.kind in HEADS]
    assert heads.count(Kind.STUB) == 0 or len(heads) == 1, "the stub, or summaries"
    assert [entry.kind for entry in queue[: len(heads)]] == heads, "they stand before what is left"
    assert not any(entry.kind in (Kind.TEXT, Kind.CORE) for entry in queue), "a segment of its own"
    assert all(0 <= entry.group <= proc.space.group for entry in queue), "of an instruction that is yet to come"
    assert not any(entry.shows for entry in queue if entry.kind is not Kind.RESULT)
    if proc.pid in kernel.policies and proc.pid in kernel.draft.dirty:  # asked by its verbs: a copy lets all go
        copy = make(proc.policy[0], kernel.budgets(proc).queue, proc.policy[1])
        held = sorted(copy.evict(1 << 40, ()))
        assert held == sorted(entry.page for entry in queue if entry.kind not in UNRANKED), "the policy has others"
