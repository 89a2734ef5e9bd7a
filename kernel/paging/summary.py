"""Summaries of what has left a queue (`memory.on_evict=summary`): a model's words, which stand where the stub would.

A summary is made of pages and never of a summary. It waits until the next eviction, which breaks the prompt's prefix
anyway, so none waits for a model; the newest stand, as far as their share of the window goes, and the others leave.
It is never evidence: no search finds it, and it is quoted, in the frame of a user's message, by words of the kernel's
that say who wrote it. One made of a file's pages is a file's.
Not here: who writes it and when (kernel/kthread.py), the eviction (queue.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from kernel.event import What
from kernel.limits import SUMMARIES_MAX, SUMMARY_TOKENS_MAX
from kernel.memory import pager
from kernel.memory.address_space import Entry
from kernel.memory.page import Kind, Origin, Role
from kernel.memory.times import date_of, day_of
from kernel.paging import alloc
from kernel.process import Process
from kernel.state import Kernel


def _room(kernel: Kernel, proc: Process) -> int:
    """Tokens that summaries may hold of a queue: an eighth of the window, and no more than a page that arrives."""
    return min(kernel.settings.window // 8, kernel.budgets(proc).unit)


def written(kernel: Kernel, thread: Process, text: str) -> None:
    """What a thread says of its item becomes a page of the process whose pages it has seen."""
    work = thread.work
    assert work is not None
    owner, model = kernel.procs[work.owner], kernel.model_of(thread.pid)
    numbers = {
        "pages": len(work.pages),
        "since": date_of(day_of(min(work.said))),
        "until": date_of(day_of(max(work.said))),
    }
    frame = alloc.size(kernel, model, kernel.iset.alert("summary", owner.spec.calls, text="", **numbers))
    origin, costs = Origin.FILE if work.low else Origin.PROCESS, kernel.costs(owner)
    room = _room(kernel, owner) - frame - costs.role[Role.USER] - costs.labels.get(origin, 0)
    first = alloc.measured(kernel, model, text.strip(), max(1, min(SUMMARY_TOKENS_MAX, room - 1)))[0].text
    said = kernel.iset.alert("summary", owner.spec.calls, text=first, **numbers)
    part = alloc.measured(kernel, model, said, kernel.budgets(owner).unit)[0]
    kernel.dirty(owner)
    entry = alloc.page(kernel, owner.pid, part, Kind.SUMMARY, origin, Role.USER)
    owner.summaries = [*owner.summaries, entry][-SUMMARIES_MAX:]
    kernel.note(What.SUMMARY, owner, pages=work.pages, tokens=entry.tokens)


def standing(kernel: Kernel, proc: Process, stood: Sequence[Entry]) -> list[Entry]:
    """What stands after an eviction, oldest first: of the summaries that `stood` and waited the newest that fit."""
    chosen: list[Entry] = []
    room = min(_room(kernel, proc), kernel.budgets(proc).queue - proc.space.used())
    for entry in reversed([*stood, *proc.summaries]):
        room -= entry.tokens
        if room < 0:
            break
        chosen.insert(0, entry)
    proc.summaries = []
    return chosen


def overflows(kernel: Kernel, proc: Process) -> bool:
    """Whether more of them stand than there is room for, as in a smaller window than before."""
    return sum(entry.tokens for entry in proc.space.queue if entry.kind is Kind.SUMMARY) > _room(kernel, proc)


def fit(kernel: Kernel, proc: Process) -> None:
    """After a boot with another window or model: none waits whose size was another's, none stands without room."""
    proc.summaries = []
    if overflows(kernel, proc):
        pager.remove(proc.space, {entry.page for entry in proc.space.queue if entry.kind is Kind.SUMMARY})


def check(kernel: Kernel, proc: Process) -> None:
    """Assert that summaries are bounded, and wait or stand, not both."""
    assert len(proc.summaries) <= SUMMARIES_MAX
    waiting = {entry.page for entry in proc.summaries}
    assert len(waiting) == len(proc.summaries)
    assert not waiting & proc.space.resident(), "it stands, and waits"
    assert not overflows(kernel, proc), "more of them than they have room"
    assert all(entry.kind is Kind.SUMMARY for entry in proc.summaries)
