"""The interrupt controller's inlet: what raises a line from outside. A full process pushes back on who raises.

What is raised is on disk and pending before anybody goes on; this file returns the process that may be woken.
Not here: the order of delivery (interrupts.py), what a delivery does (turn.py), timers (timers.py).
"""

from __future__ import annotations

from kernel import interrupts, quota, records
from kernel.errors import BadInput, Busy
from kernel.event import Messaged, Raised
from kernel.interrupts import Line
from kernel.limits import PENDING_MAX
from kernel.memory.page import Area, Kind, Origin, Role
from kernel.paging import alloc
from kernel.process import Process, State
from kernel.state import Kernel


def _target(kernel: Kernel, pid: int) -> Process:
    """A process that something from outside interrupts. Raises BadInput if it is dead or can take no more."""
    proc = kernel.proc(pid)
    if proc.state is State.ZOMBIE:
        raise BadInput(f"process {proc.name} is dead ({proc.status}); spawn it again and it keeps its memory")
    allowed = quota.most(proc.spec.limits.mailbox, PENDING_MAX)
    if len(proc.pending) >= allowed:
        raise Busy(f"queue full: {proc.name} has {allowed} undelivered interrupts", 5)
    if proc.spec.limits.pages and proc.seq >= proc.spec.limits.pages:
        raise BadInput(f"process {proc.name} has {proc.seq} pages; {proc.spec.limits.pages} are allowed")
    kernel.dirty(proc)
    return proc


def raised(kernel: Kernel, event: Raised) -> Process:
    """Something happened on a line that brings a text of the machine's: the process, to be woken."""
    if event.line not in interrupts.OUTSIDE:
        allowed = ", ".join(line.name for line in interrupts.OUTSIDE)
        raise BadInput(f"line {event.line.name} has a source of its own; {allowed} can be raised")
    proc = _target(kernel, event.pid)
    kernel.raise_(
        proc,
        event.line,
        alloc.alert(kernel, proc, "raised", line=event.line.name.lower(), text=alloc.quoted(kernel, event.text)),
    )
    return proc


def messaged(kernel: Kernel, event: Messaged) -> Process:
    """A user's message, stored and pending: the process, to be interrupted."""
    proc = _target(kernel, event.pid)
    entries = [
        alloc.page(kernel, proc.pid, part, Kind.MESSAGE, Origin.USER, Role.USER, area=Area.RECALL)
        for part in event.parts
    ]
    assert entries, "a message has text"
    if event.mid:
        kernel.write("mid", event.mid.encode(), records.key(proc.pid, entries[0].page))
    kernel.raise_(proc, Line.USER, entries, event.mid)
    return proc


def check(kernel: Kernel, proc: Process) -> None:
    """Assert that what is pending was raised once, by a line that can be, and that who raises is held to the bound."""
    numbers = [one.n for one in proc.pending]
    assert len(numbers) == len(set(numbers)), "raised twice"
    assert max(numbers, default=0) <= proc.raised
    assert min(numbers, default=1) > 0
    for one in proc.pending:
        assert one.line is not Line.KILL, "it is its own delivery"
        assert one.at <= kernel.at
        assert bool(one.timer) == (one.line is Line.TIMER)
        assert bool(one.pages) == (one.line is not Line.MEMORY), "there is something to read, or nothing but a number"
    timers = [one.timer for one in proc.pending if one.timer]
    assert len(timers) == len(set(timers)), "not coalesced"
    outside = sum(one.line in (Line.USER, *interrupts.OUTSIDE) for one in proc.pending)
    assert outside <= PENDING_MAX
