"""Core memory, archive, search and residency."""

from __future__ import annotations

import datetime
from collections.abc import Mapping

from kernel import children
from kernel.errors import SyscallError
from kernel.limits import DAY_NS, NS, TIME_MAX
from kernel.memory.page import Area
from kernel.paging import archive, documents, faults, residency, segments, transcript
from kernel.process import Process
from kernel.state import Kernel
from syscalls.abi import CoreAppend, CoreReplace, Evict, Find, Open, Pin, Read, Remember, Search, Shared, Unpin

AREAS = {
    "all": (Area.RECALL, Area.ARCHIVE),
    "recall": (Area.RECALL,),
    "archive": (Area.ARCHIVE,),
}


def whose(kernel: Kernel, proc: Process, call: Shared) -> Process | None:
    """The process whose archive a call means; None: the caller's own. Raises SyscallError for one that is not there."""
    other = children.named(kernel, proc, call.whose) if call.whose else proc
    return None if other is proc else other


def wrote_core_append(blocks: Mapping[str, str], call: CoreAppend) -> tuple[str, str]:
    """The block, and what it says then; one that does not exist is made."""
    return call.block, f"{blocks.get(call.block, '')}\n{call.text}".strip()


def sys_core_append(kernel: Kernel, proc: Process, call: CoreAppend) -> None:
    """The process has it in view at once."""
    segments.core_write(kernel, proc, *wrote_core_append(proc.spec.blocks, call))
    transcript.answer(kernel, proc, f"ok: appended to {call.block}", delta=True)


def wrote_core_replace(blocks: Mapping[str, str], call: CoreReplace) -> tuple[str, str]:
    """Likewise: every occurrence of the old text is replaced. Raises SyscallError if there is none."""
    if call.block not in blocks:
        raise SyscallError(f"no block {call.block}; blocks are {', '.join(blocks) or 'none'}")
    if call.old not in blocks[call.block]:
        raise SyscallError(
            f"{call.old[:80]!r} does not stand in {call.block}, which reads {blocks[call.block][:200]!r}"
        )
    return call.block, blocks[call.block].replace(call.old, call.new).strip()


def sys_core_replace(kernel: Kernel, proc: Process, call: CoreReplace) -> None:
    """Likewise."""
    block, text = wrote_core_replace(proc.spec.blocks, call)
    segments.core_write(kernel, proc, block, text)
    transcript.answer(kernel, proc, f"ok: {block} now reads: {text}", delta=True)


def sys_remember(kernel: Kernel, proc: Process, call: Remember) -> None:
    """The text becomes a page of the archive."""
    owner = whose(kernel, proc, call)
    if owner is None:
        transcript.answer(kernel, proc, f"ok: page {archive.archive(kernel, proc, call.text)}")
    else:
        page = archive.add(kernel, proc, owner, call.text)
        transcript.answer(kernel, proc, f"ok: page {page} of {owner.name}")


def sys_search(kernel: Kernel, proc: Process, call: Search) -> None:
    """The turn goes on when the index has seen all that was committed before."""
    since, until = _day(call.since, "since"), _day(call.until, "until")
    if not call.query.strip() and not since and not until:
        raise SyscallError("an empty query needs since or until")
    if until:
        until += DAY_NS - 1  # the whole day
    owner = whose(kernel, proc, call)
    if owner is not None and call.area == "recall":
        raise SyscallError("of another process the archive is searched, not what was said to it; leave area out")
    faults.search(kernel, proc, call.query, AREAS[call.area], since, until, call.limit, call.cursor, owner)


def _day(text: str, field: str) -> int:
    """Nanoseconds UTC of a date, within what pages can have; 0 if none is given."""
    if not text:
        return 0
    try:
        day = int(datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC).timestamp()) * NS
        return max(1, min(day, TIME_MAX))
    except (ValueError, OverflowError) as exc:
        raise SyscallError(f"{field} {text!r} is no date; write 2026-01-31") from exc


def sys_read(kernel: Kernel, proc: Process, call: Read) -> None:
    """The pages join the turn."""
    residency.fault_in(kernel, proc, tuple(dict.fromkeys(call.pages)), whose(kernel, proc, call))


def sys_open(kernel: Kernel, proc: Process, call: Open) -> None:
    """What is there comes into view as far as there is room."""
    documents.open_(kernel, proc, call.path, call.at, call.cursor, whose(kernel, proc, call))


def sys_find(kernel: Kernel, proc: Process, call: Find) -> None:
    """As `search`, in documents alone."""
    if not call.query.strip():
        raise SyscallError("an empty query finds nothing; open shows what a document contains")
    faults.find(kernel, proc, call.query, call.path, call.limit, call.cursor, whose(kernel, proc, call))


def sys_pin(kernel: Kernel, proc: Process, call: Pin) -> None:
    """Pins are bounded in tokens."""
    residency.pin(kernel, proc, call.page, True)
    transcript.answer(kernel, proc, f"ok: page {call.page} is pinned")


def sys_unpin(kernel: Kernel, proc: Process, call: Unpin) -> None:
    """The page may leave again."""
    residency.pin(kernel, proc, call.page, False)
    transcript.answer(kernel, proc, f"ok: page {call.page} is not pinned")


def sys_evict(kernel: Kernel, proc: Process, call: Evict) -> None:
    """A syscall and its result leave together."""
    residency.evict(kernel, proc, tuple(dict.fromkeys(call.pages)))
    transcript.answer(kernel, proc, "ok")
