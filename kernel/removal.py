"""A process goes for good: its PCB, its outbox, its message ids, its pages with their token ids.

What it has on disk is found by a survey before the event, for a step reads no disk; the event carries the numbers and
their share of the state hash, so that a replay comes to the same. Pages that a fork still shows are the fork's memory
as well: they stay, and go with the last that shows them. In place of what went stands a page of kind GONE, newer than
all of them: who follows the pages in order (the indexes, an audit) learns of it there.
The caller's duty: one survey and its event at a time. Not here: what the journal says of it (docs/durability.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from kernel import naming, records
from kernel.errors import BadInput, Busy
from kernel.event import Forget, Removed, What
from kernel.limits import AUDITS_MAX
from kernel.memory.measure import Part
from kernel.memory.page import Kind, Origin, Page, Role
from kernel.paging import alloc, backlog
from kernel.ports import Reads, Record
from kernel.process import Process, State
from kernel.state import Kernel


def surveyor(kernel: Kernel, pid: int) -> Survey:
    """What is to be looked for on the disk. Raises BadInput for a process that lives."""
    proc = kernel.proc(pid)
    _dead(proc)
    others = [one for one in kernel.procs.values() if one is not proc]
    texts = {one.space.text.page for one in others if one.space.text is not None}
    return Survey(pid, proc.seq, proc.req, frozenset(one.pid for one in others), frozenset(texts))


class Survey(msgspec.Struct, frozen=True):
    """What the kernel knows before the disk is read: the process, who else there is, and text pages of theirs."""

    pid: int
    seq: int
    req: int
    others: frozenset[int]
    texts: frozenset[int]

    def made(self, disk: Reads) -> Removed:
        """The event, of what the disk has. O(all pages), on any thread."""
        alone: dict[int, int] = {}  # pages of nobody else's, with their shares
        texts: list[tuple[int, bytes]] = []
        shows: dict[int, int] = {}
        seen: list[int] = []  # what others show
        for row, value in records.rows(disk, "page"):
            page = _pages.decode(value)
            if page.of:
                shows[page.id] = page.of
                if page.pid in self.others:
                    seen.append(page.of)
            if page.pid and page.pid not in self.others:
                alone[page.id] = records.digest(Record("page", row, value))
            elif page.kind is Kind.TEXT and page.id not in self.texts:
                texts.append((page.id, _packed(records.digest(Record("page", row, value)))))
        for shown in seen:
            while shown:  # ends: a page shows an older one
                alone.pop(shown, None)
                shown = shows.get(shown, 0)
        mids = {
            row: records.digest(Record("mid", row, value))
            for row, value in records.rows(disk, "mid")
            if records.unkey(value)[0] == self.pid
        }
        return Removed(
            pid=self.pid,
            seq=self.seq,
            req=self.req,
            pages=tuple(alone),
            mids=tuple(row.decode() for row in mids),
            share=_packed(sum(alone.values()) + sum(mids.values())),
            texts=tuple(texts),
            measures=tuple(_measures(disk)),
        )


def removed(kernel: Kernel, event: Removed) -> None:
    """Let a dead process go. Raises Busy while something of it is still under way, and after another life of it."""
    proc = kernel.proc(event.pid)
    kernel.draft.about = proc.pid
    over(kernel, proc.pid)
    if (proc.seq, proc.req) != (event.seq, event.req):
        raise Busy(f"process {proc.name} has lived again meanwhile", 1)
    used = {one.space.text.page for one in kernel.procs.values() if one is not proc and one.space.text is not None}
    texts = {page: share for page, share in event.texts if page not in used}
    kernel.texts = {name: entry for name, entry in kernel.texts.items() if entry.page not in texts}
    gone = [*event.pages, *texts]
    _erase(kernel, "page", map(records.key, gone), (event.share, *texts.values()))
    _erase(kernel, "mid", (mid.encode() for mid in event.mids))
    _erase(kernel, "ids", (records.ids_key(measure, page) for measure in event.measures for page in gone))
    _erase(kernel, "said", (records.key(proc.pid, seq) for seq in range(1, proc.said + 1)))
    for seq in range(proc.acked + 1, proc.said + 1):
        kernel.write("outbox", records.key(proc.pid, seq), None)
    kernel.write("proc", records.key(proc.pid), None)
    proc.backlog = {}
    backlog.owing(kernel, proc)
    for number in range(max(1, proc.audits - AUDITS_MAX), proc.audits + 1):
        kernel.write("audit", records.key(proc.pid, number), None)
    naming.ended(kernel, proc)
    kernel.children.get(proc.parent, set()).discard(proc.pid)
    kernel.policies.pop(proc.pid, None)
    del kernel.procs[proc.pid], kernel.names[proc.name]
    kernel.note(What.REMOVE, proc, text=f"{proc.name}, with {len(event.pages)} pages")
    alloc.page(kernel, 0, Part(f"{proc.pid} {len(gone)}", ()), Kind.GONE, Origin.KERNEL, Role.SYSTEM)
    kernel.effect(Forget(proc.pid))


def forgotten(kernel: Kernel) -> None:
    """After a boot, let devices forget whoever is no more: perhaps they were not told before the machine went down."""
    for pid in range(1, kernel.counters.pid + 1):
        if pid not in kernel.procs:
            kernel.effect(Forget(pid))


def over(kernel: Kernel, pid: int) -> None:
    """Raises BadInput for a process that lives, Busy while something of a dead one is still under way."""
    proc = kernel.proc(pid)
    _dead(proc)
    if any(slot.pid == pid for slot in kernel.slots):
        raise Busy(f"what process {proc.name} ran last is being stopped", 1)
    if any(one.work is not None and one.work.owner == pid for one in kernel.procs.values()):
        raise Busy(f"the kernel is looking at what has left process {proc.name}", 2)


def _dead(proc: Process) -> None:
    if proc.state is not State.ZOMBIE:
        raise BadInput(f"process {proc.name} is {proc.state}; kill it first, and it can be removed")


def _erase(kernel: Kernel, table: str, rows: Iterable[bytes], shares: Iterable[bytes] = ()) -> None:
    """Delete rows of a table that are written once; nobody but who read them knows their share of the hash."""
    kernel.draft.written += [Record(table, row, None) for row in rows]
    share = sum(int.from_bytes(one, "little") for one in shares)
    kernel.hash = (kernel.hash - share) & records.MASK


def _packed(share: int) -> bytes:
    return (share & records.MASK).to_bytes(16, "little")


def _measures(disk: Reads) -> Iterator[str]:
    """By which models there are ids of pages: the beginnings of their keys."""
    start = b""
    while found := disk.scan("ids", start, limit=1):  # ends: a round a measure
        name = found[0][0][: -len(records.key(0)) - 1]
        yield name.decode()
        start = records.ids_key(name.decode(), (1 << 64) - 1) + b"\0"


_pages: Final = msgspec.msgpack.Decoder(Page)
