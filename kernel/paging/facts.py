"""Facts that a thread of the kernel's finds in pages that have left, and what it makes of core memory.

A fact is a page of the archive, found by the same search as any other; its record (`Fact` in kernel/memory/page.py)
says who or what it is about, when it was said, when it holds, and in which pages it stands. What a later fact corrects
is found no more. A fact is a model's words: at best a process's, and a file's if its pages are. Core memory is never
written of a file. Checks first: a refused call has changed nothing.
Not here: when pages are looked at (kernel/kthread.py), which (backlog.py).
"""

from __future__ import annotations

from kernel.errors import SyscallError, some
from kernel.event import What
from kernel.limits import FACTS_SHOWN_MAX, SUPERSEDED_MAX
from kernel.memory.measure import Part
from kernel.memory.page import Area, Fact, Kind, Origin, Role
from kernel.memory.times import date_of, day_of, mentioned
from kernel.paging import alloc, segments, transcript
from kernel.process import Process, Work
from kernel.state import Kernel


def _work(thread: Process) -> Work:
    if thread.work is None:
        raise SyscallError("there is nothing to look at")
    return thread.work


def noted(
    kernel: Kernel, thread: Process, subject: str, text: str, pages: tuple[int, ...], holds: str, corrects: int
) -> int:
    """Store a fact for the process whose pages stand before the thread; its number. Raises SyscallError for others."""
    work = _work(thread)
    owner = kernel.procs[work.owner]
    if strange := sorted(set(pages) - set(work.pages)):
        raise SyscallError(f"pages {some(strange)} do not stand above; these do: {some(work.pages)}")
    if corrects and (corrects not in work.shown or corrects in owner.superseded):
        raise SyscallError(f"fact {corrects} does not stand above; these do: {some(work.shown)}")
    said = min(at for page, at in zip(work.pages, work.said, strict=True) if page in pages)
    fact = Fact(subject, text, said, holds or _when(text, said), tuple(sorted(set(pages))), corrects)
    told = kernel.iset.alert(
        "fact",
        owner.spec.calls,
        subject=subject,
        text=text,
        said=date_of(day_of(said)),
        holds=fact.holds,
        rests=fact.rests,
    )
    ids = alloc.measured(kernel, kernel.model_of(owner.pid), told, 1 << 30)[0].ids
    origin, role = (Origin.FILE, Role.USER) if work.low else (Origin.PROCESS, Role.SYSTEM)
    transcript.emitted(kernel, thread)
    kernel.dirty(owner)
    entry = alloc.page(
        kernel, owner.pid, Part(told, ids), Kind.FACT, origin, role, area=Area.ARCHIVE, at=said, fact=fact
    )
    owner.space.evicted += 1  # there is now something that a demand fault could bring in
    owner.facts = tuple(one for one in (*owner.facts, entry.page) if one != corrects)[-FACTS_SHOWN_MAX:]
    if corrects:
        owner.superseded = (*owner.superseded, corrects)[-SUPERSEDED_MAX:]
    kernel.note(What.FACT, owner, pages=(entry.page, *fact.rests), tokens=entry.tokens)
    return entry.page


def _when(text: str, said: int) -> str:
    """The days that a text names, as it would have been understood when it was said; "" if it names none."""
    days = mentioned(text, said)
    if not days:
        return ""
    first, last = days[0].first, days[0].last
    return date_of(first) if first == last else f"{date_of(first)} to {date_of(last)}"


def block(kernel: Kernel, thread: Process, label: str, text: str) -> None:
    """Write a core block of that process anew, within its budget; it has the new text in view at once, as a write."""
    work = _work(thread)
    owner = kernel.procs[work.owner]
    if work.low:
        raise SyscallError("what stands above is a file's; core memory is written of what was said")
    if label not in owner.spec.blocks:
        raise SyscallError(f"no block {label}; blocks are {some(owner.spec.blocks)}")
    segments.core_write(kernel, owner, label, text)
    transcript.emitted(kernel, thread)
    kernel.dirty(owner)
    owner.space.group += 1
    told = kernel.iset.alert("block", owner.spec.calls, label=label, text=text)
    transcript.tell(kernel, owner, told, Kind.DELTA, owner.space.group)
    if not owner.in_turn:
        owner.space.turn = len(owner.space.queue)


def check(proc: Process) -> None:
    """Assert that what is shown to a pass, and what searches leave out, are bounded and not the same."""
    assert len(proc.facts) <= FACTS_SHOWN_MAX
    assert len(proc.superseded) <= SUPERSEDED_MAX
    assert not set(proc.facts) & set(proc.superseded), "corrected, and shown"
