"""Documents as a process sees them: opened at a place, as far as there is room, with a cursor to what follows.

Text of a document comes into view as pages of its own, which say that they are a file's (kernel/memory/prompt.py); what
the kernel says itself is which lines these are, and headings.
Not here: what a document is on disk (kernel/machine/documents.py), how one is put there (archive.py), the search in
documents (faults.py).
"""

from __future__ import annotations

import msgspec

from kernel import tried, waiting
from kernel.event import Open, Opened, OpenOf
from kernel.memory.page import Kind, Origin
from kernel.paging import alloc, residency, transcript
from kernel.process import Process
from kernel.state import Kernel


def open_(kernel: Kernel, proc: Process, path: str, at: str, cursor: int, whose: Process | None = None) -> None:
    """Ask what a document, of another's perhaps, has at a place; the turn goes on when it is there."""
    transcript.emitted(kernel, proc)
    wanted = Open(pid=proc.pid, req=proc.req + 1, path=path, at=at, cursor=cursor)
    waiting.block(kernel, proc, wanted if whose is None else OpenOf(**msgspec.structs.asdict(wanted), whose=whose.pid))


def opened(kernel: Kernel, event: Opened) -> Process | None:
    """What a document has there: told, or in view. The process that waited, if one did."""
    proc = waiting.completed(kernel, event)
    if proc is None:
        return None
    group, calls = proc.space.group, proc.spec.calls
    if event.error:
        transcript.tell(kernel, proc, f"error: {event.error}", Kind.RESULT, group)
        tried.failed(kernel, proc, event.error)
        return proc
    numbers = {"path": event.path, "version": event.version, "paged": event.paged}
    if event.headings:
        count = len(event.headings)
        while True:  # ends: fewer headings in each round, and one always fits
            more = event.cursor + count if count < len(event.headings) else event.more
            text = kernel.iset.alert("contents", calls, headings=event.headings[:count], more=more, **numbers)
            size = alloc.size(kernel, kernel.model_of(proc.pid), text)
            if size <= alloc.told_max(kernel, proc) or count == 1:
                break
            count = max(1, min(count - 1, count * alloc.told_max(kernel, proc) // size))
        transcript.tell(kernel, proc, text, Kind.RESULT, group, origin=Origin.FILE)
        return proc
    room, count = alloc.told_max(kernel, proc), 0
    for _, tokens, role, _ in event.pages:
        room -= tokens + kernel.costs(proc).role[role]
        if room < 0 and count:
            break
        count += 1
    rows = residency.lent(kernel, proc, event.pages[:count], event.lent[:count])
    found, resident = residency.bring(kernel, proc, rows, group)
    given = [source for row, source in zip(rows, event.places[:count], strict=True) if row[0] in found | resident]
    more = event.cursor + count if count < len(event.pages) else event.more
    text = kernel.iset.alert(
        "opened",
        calls,
        pages=tuple(sorted(found)),
        first=given[0].first if given else 0,
        last=given[-1].last if given else 0,
        more=more,
        **numbers,
    )
    transcript.tell(kernel, proc, text, Kind.RESULT, group)
    if not given:
        tried.failed(kernel, proc, text.removeprefix("error: "))
    return proc
