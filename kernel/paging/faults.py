"""Pages that were searched for: by a syscall, or by the kernel when a user's message arrives (a demand fault).

What is brought into the recall area must earn its place: it is evaluated, and dropped when the turn ends.
Not here: the search itself (the index behind ports.py), reading by number (residency.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from kernel import capabilities, waiting
from kernel.errors import some
from kernel.event import Cited, Find, Hit, Lent, Search, Searched, SearchOf, What
from kernel.limits import CITED_TOKENS, FAULT_DEADLINE_S, HIT_TOKENS, NEAR_PART, RECALLED_MAX
from kernel.memory import recall
from kernel.memory.address_space import AddressSpace, Entry, Recalled
from kernel.memory.page import Area, Kind, Origin, Role
from kernel.paging import alloc, residency, share, transcript
from kernel.process import Process
from kernel.state import Kernel, small


def wanted(kernel: Kernel, proc: Process) -> bool:
    """Whether a user's message is a demand fault: pages could be brought in for it."""
    memory, space = kernel.settings.memory, proc.space
    held = space.evicted > 0 or (repeats(kernel, proc) and any(one.kind is Kind.MESSAGE for one in _earlier(space)))
    held = held or any(one.space.evicted for one in capabilities.mapped(kernel, proc))
    return memory.fault and memory.recall > 0 and held


def repeats(kernel: Kernel, proc: Process) -> bool:
    """Whether what stands further up in the queue is recalled, too: a small model answers from the user's message."""
    return not _covering(kernel) and small(kernel, proc, kernel.settings.memory.repeat)


def _earlier(space: AddressSpace) -> list[Entry]:
    """The queue before the turn."""
    return space.queue[: space.turn]


def demand(kernel: Kernel, proc: Process, asked: list[int]) -> Search:
    """The search of a demand fault: what is on disk for the user's pages `asked`, in the archives that it has mapped,
    too."""
    assert asked, "the query is what was asked"
    hidden = proc.space.resident() | proc.undelivered() | set(proc.superseded)
    learned, covering = share.learned(kernel), _covering(kernel)
    if learned or repeats(kernel, proc):  # what is in the queue is ranked, too
        hidden -= {entry.page for entry in (proc.space.queue if learned else _earlier(proc.space))}
    limit = (8 if learned else 4) * kernel.settings.memory.recall_pages if covering else RECALLED_MAX
    others = capabilities.mapped(kernel, proc)
    hidden |= {page for one in others for page in one.superseded}
    wanted = Search(
        pid=proc.pid,
        req=proc.req + 1,
        area=(Area.RECALL, Area.ARCHIVE),
        pages=tuple(asked),
        limit=limit,
        exclude=tuple(sorted(hidden | set(asked))),
        upto=kernel.counters.page,
        deadline_s=FAULT_DEADLINE_S,
        at=0 if covering else kernel.wall,
        apart=() if covering else (Role.ASSISTANT,),
        before=() if covering else tuple(entry.page for entry in proc.space.before()),
    )
    return _of(wanted, others) if others else wanted


def _of(what: Search, others: Iterable[Process]) -> SearchOf:
    """A search that looks into the archives of others, too."""
    fields: dict[str, Any] = {name: getattr(what, name) for name in Search.__struct_fields__}
    if isinstance(what, Find):
        fields |= {"documents": True, "path": what.path}
    return SearchOf(**fields, whose=tuple(one.pid for one in others))


def _fitting(kernel: Kernel, proc: Process, hits: tuple[Hit, ...], cited: Mapping[int, Cited]) -> tuple[Hit, ...]:
    """The first hits that a result has room for, one at least; the others are found with a cursor."""
    room = alloc.told_max(kernel, proc)
    for at, hit in enumerate(hits):
        room -= hit.tokens + (CITED_TOKENS if hit.page in cited else HIT_TOKENS)
        if room < 0:
            return hits[: max(1, at)]
    assert room >= 0
    return hits


def _covering(kernel: Kernel) -> bool:
    """Whether hits are judged by the words that they cover: so it was before format 4, and so it may be set."""
    return kernel.form.number < 4 or kernel.settings.memory.gate == "cover"


def _by_cover(kernel: Kernel, proc: Process, hits: Sequence[tuple[Hit, int]], resident: set[int]) -> list[Hit]:
    """Hits that cover enough of the message's rare words for their tokens, and nearly as much as the best of them.

    The page is evaluated, and when it is dropped after the turn, so is the message behind it once more.
    """
    memory = kernel.settings.memory
    near = max([0.0, *(memory.recall_near * hit.cover for hit, _ in hits if hit.page not in resident)])
    message = sum(entry.tokens for entry in proc.space.queue[proc.space.turn :])
    return [
        hit
        for hit, size in hits
        if hit.cover >= max(near, memory.recall_min * max(1.0, (message + size) / memory.recall_tokens))
    ]


def _worthy(kernel: Kernel, proc: Process, hits: Sequence[tuple[Hit, int]], resident: set[int]) -> list[Hit]:
    """Hits that earn their tokens, by `memory.gate`."""
    memory, window = kernel.settings.memory, kernel.settings.window
    if _covering(kernel):
        return _by_cover(kernel, proc, hits, resident)
    gate = recall.beside_best if memory.gate == "best" else recall.worthy
    return gate(hits, window, memory.worth)


def _overlap(one: Hit, other: Hit) -> bool:
    """Whether two hits show the same text."""
    if one.page != other.page:
        return False
    return not one.end or not other.end or (one.start < other.end and other.start < one.end)


def _one_place(hits: Sequence[Hit], cited: Mapping[int, Cited]) -> list[Hit]:
    """Of hits, the best first, those that a small model is to answer from, where the best is of a document.

    It takes the line next to the question, and what stands beside the right one costs it more answers than a wrong
    guess of the index (docs/numbers.md, "Documents"): the part of a document that the best is of, and of others what
    is nearly as likely.
    """
    best = max(hits, key=lambda hit: hit.score, default=None)
    source = None if best is None else _part(cited, best.page)
    if best is None or source is None:
        return list(hits)
    least = NEAR_PART * best.score
    return [hit for hit in hits if (own := _part(cited, hit.page)) is None or own == source or hit.score >= least]


def _part(cited: Mapping[int, Cited], page: int) -> tuple[str, int, tuple[str, ...]] | None:
    """Of which part of which document a page is; None: of none."""
    found = cited.get(page)
    source = None if found is None else found.source
    return None if source is None else (source.path, source.version, source.headings)


def _best_last(hits: Sequence[Hit], cited: Mapping[int, Cited]) -> list[Hit]:
    """Hits as they are to stand: pages of documents behind the others, the likeliest part last, each in its order."""
    parts = {hit.page: part for hit in hits if (part := _part(cited, hit.page)) is not None}
    likely: dict[object, float] = {}
    for hit in hits:
        if (part := parts.get(hit.page)) is not None:
            likely[part] = max(likely.get(part, 0.0), hit.score)
    others = [hit for hit in hits if hit.page not in parts]
    filed = [hit for hit in hits if hit.page in parts]
    return [*others, *sorted(filed, key=lambda hit: (likely[parts[hit.page]], parts[hit.page], hit.page, hit.start))]


def _bring_in(kernel: Kernel, proc: Process, found: Searched) -> None:
    """Bring what was found into the recall area: what is worth its tokens, as far as there is room, the best first.

    For a small model what is of documents is of one part of one, and stands last. Of others' archives it has copies.
    """
    cited, owners = found.cited, found.owners
    mapped = {one.pid for one in capabilities.mapped(kernel, proc)} if owners else set()  # a right may be gone by now
    hits = [hit for hit in found.hits if hit.page not in owners or owners[hit.page] in mapped]
    memory, costs = kernel.settings.memory, kernel.costs(proc)
    room = kernel.budgets(proc).recall - costs.recall
    resident = proc.space.resident() | proc.undelivered()
    if repeats(kernel, proc):
        resident -= {entry.page for entry in _earlier(proc.space)}
    # A small model says again what it said once: what it said is not recalled.
    sized = [(hit, hit.tokens + costs.recalled[hit.role]) for hit in hits if hit.role is not Role.ASSISTANT]
    most = memory.recall_pages if _covering(kernel) else len(sized)
    worthy = _worthy(kernel, proc, sized, resident)
    likely = max((hit.score for hit in worthy), default=0.0)
    sure = memory.gate != "best" or likely >= memory.sure
    share.ranked(kernel, proc, [hit for hit in worthy if hit.page not in owners])
    focused = small(kernel, proc, memory.apart) and not _covering(kernel)
    if focused:
        worthy = _one_place(worthy, cited)
    sizes = dict(sized)
    absent = [hit for hit in worthy if hit.page not in resident]
    distinct = [hit for at, hit in enumerate(absent) if not any(_overlap(hit, better) for better in absent[:at])]
    taken = recall.fitting([(hit, sizes[hit]) for hit in distinct], room, most)
    if focused:
        taken = _best_last(taken, cited)
    if not taken or proc.space.anchor() < 0:  # what came with the message pushed it out: nothing to stand with
        return
    seen = [(_copied(kernel, proc, hit, found) if hit.page in owners else hit, sizes[hit]) for hit in taken]
    proc.space.recall = [
        Recalled(
            hit.page,
            size,
            Kind.MESSAGE,
            hit.role,
            start=hit.start,
            end=hit.end,
            whole=hit.whole,
            asked=hit.asked,
            dated=hit.dated,
            follows=hit.follows or not sure,
        )
        for hit, size in seen
    ]
    kernel.seen.pop(proc.pid, None)
    tokens = sum(size for _, size in seen)
    assert tokens + costs.recall <= kernel.budgets(proc).recall
    proc.accounts.faults += len(taken)
    proc.accounts.recalled += tokens + costs.recall
    pages = tuple(entry.page for entry in proc.space.recall)
    kernel.note(What.FAULT, proc, pages=pages, tokens=tokens + costs.recall, text=_whose(kernel, taken, owners))


def _copied(kernel: Kernel, proc: Process, hit: Hit, found: Searched) -> Hit:
    """A passage of another's archive as a page of the process's own, which says whose it is, and is never searched."""
    whose = found.cited[hit.page]
    lent = Lent(hit.text, whose.origin, hit.at, whose.source)
    return msgspec.structs.replace(hit, page=residency.copied(kernel, proc, lent), start=0, end=0)


def _whose(kernel: Kernel, taken: Iterable[Hit], owners: Mapping[int, int]) -> str:
    """Of whose archives some hits are, in words; "": of the process's own."""
    pids = dict.fromkeys(owners[hit.page] for hit in taken if hit.page in owners)
    return f"of {some(kernel.procs[pid].name if pid in kernel.procs else 'nobody' for pid in pids)}" if pids else ""


def search(
    kernel: Kernel,
    proc: Process,
    query: str,
    areas: tuple[Area, ...],
    since: int,
    until: int,
    limit: int,
    cursor: int,
    whose: Process | None = None,
) -> None:
    """Search the process's pages, or the archive of `whose`; the turn goes on with the hits.

    What is in view needs no search. Pages that earlier results quote are left out, too, but not where a cursor counts
    them.
    """
    wanted = _wanted(kernel, proc, query, limit, cursor, whose)
    _ask(kernel, proc, msgspec.structs.replace(wanted, area=areas, since=since, until=until), whose)


def find(
    kernel: Kernel, proc: Process, query: str, path: str, limit: int, cursor: int, whose: Process | None = None
) -> None:
    """Search documents, or one of them, as `search` does."""
    wanted = msgspec.structs.asdict(_wanted(kernel, proc, query, limit, cursor, whose))
    _ask(kernel, proc, Find(**wanted, path=path), whose)


def _ask(kernel: Kernel, proc: Process, what: Search, whose: Process | None) -> None:
    """Let a process wait for a search of its own pages, or of another's archive alone."""
    waiting.block(kernel, proc, what if whose is None else msgspec.structs.replace(_of(what, (whose,)), area=()))


def _wanted(kernel: Kernel, proc: Process, query: str, limit: int, cursor: int, whose: Process | None) -> Search:
    """The search that a process asks for, once what it emitted is a page."""
    transcript.emitted(kernel, proc)
    seen = proc.space.resident() | proc.undelivered() | (set() if cursor else proc.space.shown())
    seen |= set((whose or proc).superseded)
    return Search(
        pid=proc.pid,
        req=proc.req + 1,
        area=(Area.ARCHIVE,),
        query=query,
        limit=limit,
        cursor=cursor,
        exclude=tuple(sorted(seen)),
        upto=kernel.counters.page,
        at=0 if _covering(kernel) else kernel.wall,
    )


def searched(kernel: Kernel, event: Searched) -> Process | None:
    """A search completed, or its deadline passed: the process that waited, if one did."""
    proc = waiting.completed(kernel, event)
    if proc is None:
        return None
    if proc.demand:
        _bring_in(kernel, proc, event)
        if event.late:
            proc.ranked = None  # it says nothing of what a search finds
            kernel.note(What.ERROR, proc, text="the fault's deadline passed; the process runs without")
    elif event.late:
        transcript.tell(
            kernel, proc, "error: the search did not complete in time; try again", Kind.RESULT, proc.space.group
        )
    else:
        shown = _fitting(kernel, proc, event.hits, event.cited)
        more = event.more or len(shown) < len(event.hits)
        lines = tuple(msgspec.structs.replace(hit, text=alloc.quoted(kernel, hit.text)) for hit in shown)
        whose = _whose(kernel, shown, event.owners)
        text = kernel.iset.alert("hits", proc.spec.calls, hits=lines, more=more, cited=event.cited, archive=whose)
        origin = Origin.PEER if whose else Origin.KERNEL
        quotes = tuple(hit.page for hit in shown)
        transcript.tell(kernel, proc, text, Kind.RESULT, proc.space.group, quotes, origin=origin)
    return proc


def check(kernel: Kernel, proc: Process) -> None:
    """Assert that what was recalled is of this turn, within its share, and stands with a user's message."""
    recalled = proc.space.recall
    assert sum(entry.tokens for entry in recalled) <= kernel.budgets(proc).recall
    assert not recalled or proc.in_turn, "dropped when the turn ends"
    assert not recalled or proc.space.anchor() >= 0, "recalled for a message that has left"
    assert proc.thread or not any(entry.role is Role.ASSISTANT for entry in recalled), (
        "it would say again what it said once"
    )
    assert not any(entry.group for entry in recalled)
