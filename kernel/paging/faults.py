"""Pages that were searched for: by a syscall, or by the kernel when a user's message arrives (a demand fault).

What is brought into the recall area must earn its place: it is evaluated, and dropped when the turn ends.
Not here: the search itself (the index behind ports.py), reading by number (residency.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from kernel import waiting
from kernel.event import Hit, Search, Searched, What
from kernel.limits import FAULT_DEADLINE_S, HIT_TOKENS
from kernel.memory.address_space import Entry
from kernel.memory.page import Area, Kind, Role
from kernel.paging import alloc, transcript
from kernel.process import Process
from kernel.state import Kernel


def demand(kernel: Kernel, proc: Process, asked: list[int]) -> Search:
    """The search of a demand fault: what is on disk for the user's pages `asked`."""
    assert asked, "the query is what was asked"
    memory, resident = kernel.settings.memory, proc.space.resident() | proc.undelivered()
    return Search(
        pid=proc.pid,
        req=proc.req + 1,
        area=(Area.RECALL, Area.ARCHIVE),
        pages=tuple(asked),
        limit=4 * memory.recall_pages,
        exclude=tuple(sorted(resident | set(asked))),
        upto=kernel.counters.page,
        deadline_s=FAULT_DEADLINE_S,
    )


def _fitting(kernel: Kernel, proc: Process, hits: tuple[Hit, ...]) -> tuple[Hit, ...]:
    """The first hits that a result has room for, one at least; the others are found with a cursor."""
    room = alloc.told_max(kernel, proc)
    for at, hit in enumerate(hits):
        room -= hit.tokens + HIT_TOKENS
        if room < 0:
            return hits[: max(1, at)]
    assert room >= 0
    return hits


def _bring_in(kernel: Kernel, proc: Process, hits: Iterable[Hit]) -> None:
    """Bring what was found into the recall area: the best that fit, the best one first."""
    memory, costs = kernel.settings.memory, kernel.costs(proc)
    room = kernel.budgets(proc).recall - costs.recall
    resident = proc.space.resident() | proc.undelivered()
    chosen: list[Entry] = []
    hits = [hit for hit in hits if hit.role is not Role.ASSISTANT]  # a small model says again what it said once
    near = max([0.0, *(memory.recall_near * hit.cover for hit in hits)])
    message = sum(entry.tokens for entry in proc.space.queue[proc.space.turn :])
    for hit in hits:
        size = hit.tokens + costs.recalled[hit.role]
        # The page is evaluated, and when it is dropped after the turn, so is the message behind it once more.
        earned = memory.recall_min * max(1.0, (message + size) / memory.recall_tokens)
        wanted = hit.cover >= max(near, earned)
        if len(chosen) < memory.recall_pages and hit.page not in resident and wanted:
            if size > room:
                continue
            room -= size
            chosen.append(Entry(hit.page, size, Kind.MESSAGE, hit.role))
            resident.add(hit.page)
    if not chosen or proc.space.anchor() < 0:  # what came with the message pushed it out: nothing to stand with
        return
    proc.space.recall = chosen
    kernel.seen.pop(proc.pid, None)
    tokens = sum(entry.tokens for entry in chosen)
    assert tokens + costs.recall <= kernel.budgets(proc).recall
    proc.accounts.faults += len(chosen)
    proc.accounts.recalled += tokens + costs.recall
    kernel.note(What.FAULT, proc, pages=tuple(entry.page for entry in proc.space.recall), tokens=tokens + costs.recall)


def search(
    kernel: Kernel, proc: Process, query: str, areas: tuple[Area, ...], since: int, until: int, limit: int, cursor: int
) -> None:
    """Search the process's pages; the turn goes on with the hits. What is in view needs no search.

    Pages that earlier results quote are left out, too, but not where a cursor counts them.
    """
    transcript.emitted(kernel, proc)
    seen = proc.space.resident() | proc.undelivered() | (set() if cursor else proc.space.shown())
    what = Search(
        pid=proc.pid,
        req=proc.req + 1,
        area=areas,
        query=query,
        since=since,
        until=until,
        limit=limit,
        cursor=cursor,
        exclude=tuple(sorted(seen)),
        upto=kernel.counters.page,
    )
    waiting.block(kernel, proc, what)


def searched(kernel: Kernel, event: Searched) -> Process | None:
    """A search completed, or its deadline passed: the process that waited, if one did."""
    proc = waiting.completed(kernel, event)
    if proc is None:
        return None
    if proc.demand:
        _bring_in(kernel, proc, event.hits)
        if event.late:
            kernel.note(What.ERROR, proc, text="the fault's deadline passed; the process runs without")
    elif event.late:
        transcript.tell(
            kernel, proc, "error: the search did not complete in time; try again", Kind.RESULT, proc.space.group
        )
    else:
        shown = _fitting(kernel, proc, event.hits)
        more = event.more or len(shown) < len(event.hits)
        text = kernel.iset.alert("hits", proc.spec.calls, hits=shown, more=more)
        transcript.tell(kernel, proc, text, Kind.RESULT, proc.space.group, tuple(hit.page for hit in shown))
    return proc


def check(kernel: Kernel, proc: Process) -> None:
    """Assert that what was recalled is of this turn, within its share, and stands with a user's message."""
    recall = proc.space.recall
    assert sum(entry.tokens for entry in recall) <= kernel.budgets(proc).recall
    assert not recall or proc.in_turn, "dropped when the turn ends"
    assert not recall or proc.space.anchor() >= 0, "recalled for a message that has left"
    assert not any(entry.role is Role.ASSISTANT for entry in recall), "it would say again what it said once"
    assert not any(entry.group for entry in recall)
