"""Pages that are searched and never resident by themselves: what a process remembers, and files from outside.

Who may may add to another's archive: the page is its owner's, counts for its limits, and is of origin peer.
"""

from __future__ import annotations

from kernel import guard, quota, records
from kernel.errors import SyscallError
from kernel.event import Filed, MovedFile
from kernel.memory.measure import Part
from kernel.memory.page import Area, Kind, Origin, Role, Source
from kernel.paging import alloc, transcript
from kernel.process import Process, State
from kernel.state import Kernel


def archive(kernel: Kernel, proc: Process, text: str) -> int:
    """Store a page that is searched and never resident by itself; returns its number."""
    quota.need_page(kernel, proc)
    origin = transcript.own(kernel)
    role = Role.USER if origin is Origin.DERIVED else Role.SYSTEM  # no frame of the kernel's for what may be others'
    transcript.emitted(kernel, proc)
    first = 0
    for part in alloc.measured(kernel, kernel.model_of(proc.pid), text, alloc.unit_text(kernel)):
        entry = alloc.page(kernel, proc.pid, part, Kind.ARCHIVE, origin, role, area=Area.ARCHIVE)
        first = first or entry.page
    proc.space.evicted += 1  # there is now something that a demand fault could bring in
    return first


def add(kernel: Kernel, proc: Process, owner: Process, text: str) -> int:
    """Store a page in another's archive, as a peer's word; returns its number. Raises SyscallError if it cannot be."""
    if owner.state is State.ZOMBIE:
        raise SyscallError(f"process {owner.name} is dead; nothing was stored")
    try:
        quota.need_page(kernel, owner)
    except SyscallError as exc:
        raise SyscallError(f"the archive of {owner.name} takes no more: {exc}") from exc
    transcript.emitted(kernel, proc)
    kernel.dirty(owner)
    entries = [
        alloc.page(kernel, owner.pid, part, Kind.ARCHIVE, Origin.PEER, Role.USER, area=Area.ARCHIVE)
        for part in alloc.measured(kernel, kernel.model_of(owner.pid), text, alloc.unit_text(kernel))
    ]
    owner.space.evicted += 1
    first = entries[0].page
    guard.stored(kernel, proc, owner, first)
    return first


def searched(text: str, source: Source | None) -> str:
    """What searches see of a part of a document: its text, and the headings that it stands under and does not say."""
    above = [one for one in source.headings if one not in text] if source is not None else []
    return f"{' / '.join(above)}: {text}" if above else ""


def taken_over(kernel: Kernel, proc: Process, files: tuple[MovedFile, ...]) -> None:
    """Pages of documents of a process that comes from another machine; they are measured when they are first wanted."""
    for file in files:
        part, fields = Part(file.text, ()), (Kind.ARCHIVE, Origin.FILE, Role.USER)
        gist = searched(file.text, file.source)
        entry = alloc.page(
            kernel, proc.pid, part, *fields, area=Area.ARCHIVE, gist=gist, at=file.at, source=file.source
        )
        if file.begins:
            mid = records.document_mid(proc.pid, file.begins)
            kernel.write("mid", mid.encode(), records.key(proc.pid, entry.page))
    proc.space.evicted += len(files)


def filed(kernel: Kernel, event: Filed) -> None:
    """A text from outside becomes pages of the archive; it wakes nobody."""
    proc = kernel.proc(event.pid)
    kernel.dirty(proc)
    sources = event.sources or (None,) * len(event.parts)
    entries = [
        alloc.page(
            kernel,
            proc.pid,
            part,
            Kind.ARCHIVE,
            Origin.FILE,
            Role.USER,
            area=Area.ARCHIVE,
            gist=searched(part.text, source),
            source=source,
        )
        for part, source in zip(event.parts, sources, strict=True)
    ]
    if event.mid and entries:
        kernel.write("mid", event.mid.encode(), records.key(proc.pid, entries[0].page))
    proc.space.evicted += len(event.parts)  # there is now something that a demand fault could bring in
