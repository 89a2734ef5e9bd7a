"""What a process may ask about its own queue, and somebody outside of it: read, pin, unpin, evict.

Checks first: a refused call has changed nothing. Pages that the kernel wrote (stubs, deltas) are not the process's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import msgspec

from kernel import tried, waiting
from kernel.errors import SyscallError, some
from kernel.event import Lent, Load, Loaded, LoadOf, What
from kernel.memory import pager
from kernel.memory.address_space import Entry
from kernel.memory.measure import Part
from kernel.memory.page import UNRANKED, Kind, Role
from kernel.paging import alloc, queue, transcript
from kernel.process import Process
from kernel.state import Kernel

Row: TypeAlias = tuple[int, int, Role, str]
"""A page with its tokens, role and kind, as in Loaded."""


def pin(kernel: Kernel, proc: Process, page: int, pinned: bool) -> None:
    """Keep a resident page from eviction, or let it go again."""
    space, index = proc.space, proc.space.find(page)
    if index < 0:
        raise SyscallError(f"page {page} is not resident; resident are {some(e.page for e in space.queue)}")
    entry = space.queue[index]
    if entry.kind in (*UNRANKED, Kind.DELTA):
        raise SyscallError(f"page {page} is the kernel's ({entry.kind}) and cannot be pinned")
    limit = kernel.budgets(proc).pinned
    if pinned and not entry.pinned and space.pinned() + entry.tokens > limit:
        raise SyscallError(f"pins would hold {space.pinned() + entry.tokens} tokens; {limit} are allowed")
    space.queue[index] = msgspec.structs.replace(entry, pinned=pinned)
    assert not pinned or space.pinned() <= limit
    kernel.policy(proc).hit(page)


def evict(kernel: Kernel, proc: Process, pages: tuple[int, ...]) -> None:
    """Let resident pages go; they stay on disk and in the indexes."""
    known = evictable(proc, pages)
    transcript.emitted(kernel, proc)
    let_go(kernel, proc, pages, known)


def evictable(proc: Process, pages: tuple[int, ...]) -> set[int]:
    """All pages of a queue that may leave. Raises SyscallError if one of `pages` may not."""
    known = {e.page for e in proc.space.queue if not e.pinned and e.kind not in (*UNRANKED, Kind.DELTA)}
    wrong = sorted(set(pages) - known)
    if wrong:
        raise SyscallError(f"pages {some(wrong)} are not evictable; these are: {some(sorted(known))}")
    return known


def let_go(kernel: Kernel, proc: Process, pages: tuple[int, ...], known: set[int]) -> None:
    """Take pages out of the queue, with what of `known` belongs to them."""
    space, wanted = proc.space, set(pages)
    groups = {e.group for e in space.queue if e.page in wanted and e.group}
    victims = [e for e in space.queue if e.page in wanted or (e.group in groups and e.page in known)]
    for entry in victims:
        kernel.policy(proc).drop(entry.page)
    pager.remove(space, {entry.page for entry in victims})
    if victims:
        queue.evicted(kernel, proc, victims)
    pager.pressure(space, kernel.budgets(proc), kernel.settings.memory.warn)


def fault_in(kernel: Kernel, proc: Process, pages: tuple[int, ...], whose: Process | None = None) -> None:
    """Bring pages, of another's archive copies, into the queue by number; the turn goes on when they are there."""
    transcript.emitted(kernel, proc)
    wanted = Load(pid=proc.pid, req=proc.req + 1, pages=pages)
    waiting.block(kernel, proc, wanted if whose is None else LoadOf(**msgspec.structs.asdict(wanted), whose=whose.pid))


def loaded(kernel: Kernel, event: Loaded) -> Process | None:
    """Pages asked for by number are there: they join the queue. The process that waited, if one did."""
    proc = waiting.completed(kernel, event)
    if proc is None:
        return None
    group = proc.space.group
    found, resident = bring(kernel, proc, lent(kernel, proc, event.pages, event.lent), group)
    text = kernel.iset.alert(
        "loaded", proc.spec.calls, found=tuple(sorted(found)), resident=tuple(sorted(found & resident))
    )
    transcript.tell(kernel, proc, text, Kind.RESULT, group)
    if not found:
        tried.failed(kernel, proc, text.removeprefix("error: "))
    return proc


def check_brought(kernel: Kernel, proc: Process, page: int, rows: Sequence[Row]) -> None:
    """Raises SyscallError for a page that cannot come into the queue."""
    if not rows:
        raise SyscallError(f"{proc.name} has no page {page} that could be shown")
    size, limit = sum(tokens + kernel.costs(proc).role[role] for _, tokens, role, _ in rows), kernel.budgets(proc).unit
    if size > limit:
        raise SyscallError(f"page {page} has {size} tokens; {limit} can be shown at once")
    if page in proc.undelivered():
        raise SyscallError(f"page {page} is of a message that is yet to be delivered")


def lent(kernel: Kernel, proc: Process, pages: tuple[Row, ...], texts: tuple[Lent, ...]) -> list[Row]:
    """Pages that are to be in view; of another's archive, which have their texts with them, copies of them."""
    if not texts:
        return [*pages]
    return [(copied(kernel, proc, text), *row[1:]) for row, text in zip(pages, texts, strict=True)]


def copied(kernel: Kernel, proc: Process, what: Lent) -> int:
    """A text of another's archive as a page of the process's own: it says whose it is, and no search finds it."""
    part, kind = Part(what.text, ()), Kind.RESULT  # measured by the machine, as a page that is imported
    return alloc.page(kernel, proc.pid, part, kind, what.origin, Role.USER, at=what.at, source=what.source).page


def bring(kernel: Kernel, proc: Process, pages: Iterable[Row], group: int) -> tuple[set[int], set[int]]:
    """Bring pages into the queue, as of a group: those that are in view now, and those that were before."""
    resident = proc.space.resident()
    early = proc.undelivered()
    pages = [row for row in pages if row[0] not in early]
    found = {page for page, *_ in pages}
    for page, tokens, role, kind in pages:
        if page in resident:
            kernel.policy(proc).hit(page)
            continue
        kernel.policy(proc).miss(page)
        size = tokens + kernel.costs(proc).role[role]
        if size > kernel.budgets(proc).unit:
            found.discard(page)
            continue
        proc.accounts.faults += 1
        kernel.note(What.FAULT, proc, pages=(page,), tokens=size)
        queue.append(kernel, proc, Entry(page, size, Kind(kind), role, group))
    return found, resident


def check(kernel: Kernel, proc: Process) -> None:
    """Assert that pins are within their share, and that no page of the kernel's is pinned."""
    assert proc.space.pinned() <= kernel.budgets(proc).pinned, "pins leave too little to run in"
    assert not any(entry.pinned for entry in proc.space.queue if entry.kind in (*UNRANKED, Kind.DELTA))
    assert not any(entry.pinned for entry in proc.space.recall), "it goes with the turn"
