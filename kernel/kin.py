"""What the end of a process means to others: its parent is told, its children are orphans, who waited goes on.

A child that has ended is a zombie until its parent knows how: by a wait, or because it killed it itself. Then it is
reaped: it has no name any more and goes for good, with its memory. An orphan that ends is reaped at once. A process
that somebody outside has made has no parent: it stays, and keeps its memory.
Not here: how a process ends (life.py), how children are made (children.py), what leaves the disk (removal.py).
"""

from __future__ import annotations

import msgspec

from kernel import awaiting, ipc, naming, turn
from kernel.event import Reap, What
from kernel.interrupts import Line
from kernel.limits import PENDING_MAX
from kernel.memory.page import Origin
from kernel.paging import alloc
from kernel.process import ORPHAN, Await, Process, State
from kernel.state import Kernel


def ended(kernel: Kernel, dead: Process, *, told: bool = True) -> None:
    """A process is dead. `told`: its parent is; else that knows already, for it did it."""
    woken, going = ipc.undeliverable(kernel, dead), list[Process]()
    for child in [kernel.procs[pid] for pid in sorted(kernel.children.pop(dead.pid, ()))]:
        kernel.dirty(child)
        child.parent = ORPHAN
        if child.state is State.ZOMBIE:
            reap(kernel, child)
    for pid in sorted(kernel.busy):
        proc = kernel.procs[pid]
        if isinstance(proc.wait, Await) and not proc.wait.children and dead.pid in proc.awaited:
            awaiting.over(kernel, proc, f"error: {dead.name} has ended and answers no more")
            going.append(proc)
    if dead.parent == ORPHAN:
        reap(kernel, dead)
    parent = kernel.procs.get(dead.parent)
    if parent is not None and told:
        (going if _waited(kernel, parent, dead) else woken).append(parent)
    for proc in going:
        turn.go_on(kernel, proc)
    for proc in woken:
        turn.wake(kernel, proc)


def _waited(kernel: Kernel, parent: Process, dead: Process) -> bool:
    """Tell the parent by the wait that it is in (True), or by an interrupt; where none has room, its next wait does."""
    if isinstance(parent.wait, Await) and dead.pid in parent.wait.children:
        awaiting.over(kernel, parent, kernel.iset.alert("ended", parent.spec.calls, name=dead.name, status=dead.status))
        reap(kernel, dead)
        return True
    if len(parent.pending) < PENDING_MAX:
        kernel.dirty(parent)
        what = alloc.alert(kernel, parent, "ended", origin=Origin.PEER, name=dead.name, status=dead.status)
        kernel.raise_(parent, Line.CHILD, what)
    return False


def reap(kernel: Kernel, dead: Process) -> None:
    """A zombie goes for good, as soon as nothing of it is under way; its name is free at once."""
    assert dead.state is State.ZOMBIE, "it lives"
    assert not dead.reaped, "twice"
    kernel.dirty(dead)
    naming.ended(kernel, dead)
    kernel.children.get(dead.parent, set()).discard(dead.pid)
    dead.reaped = True
    del kernel.names[dead.name]
    kernel.note(What.REAP, dead, text=dead.name)
    dead.spec = msgspec.structs.replace(dead.spec, name=f"[ended {dead.pid}]")
    kernel.names[dead.name] = dead.pid
    kernel.effect(Reap(dead.pid))


def known(kernel: Kernel) -> None:
    """Find, after a boot, whose children everybody is."""
    kernel.children = {}
    for pid, proc in kernel.procs.items():
        if proc.parent > 0 and not proc.reaped:
            kernel.children.setdefault(proc.parent, set()).add(pid)


def reaping(kernel: Kernel) -> None:
    """After a boot, let those go for good who were to: perhaps the machine went down before they had."""
    for pid, proc in kernel.procs.items():
        if proc.reaped:
            kernel.effect(Reap(pid))


def check(kernel: Kernel) -> None:
    """Assert that parents and children know each other, and that a parent is older and alive."""
    found: dict[int, set[int]] = {}
    for pid, proc in kernel.procs.items():
        assert not proc.reaped or proc.state is State.ZOMBIE, "reaped, and lives"
        assert proc.parent < pid
        if proc.parent > 0 and not proc.reaped:
            found.setdefault(proc.parent, set()).add(pid)
            assert kernel.procs[proc.parent].state is not State.ZOMBIE, "its parent is dead"
        assert not (proc.parent == ORPHAN and proc.state is State.ZOMBIE) or proc.reaped, "an orphan that nobody reaps"
    assert found == {pid: children for pid, children in kernel.children.items() if children}
