"""How a process begins (spawned, forked, imported) and ends. Every check stands above the first change.

A dead process keeps its memory and its pending messages, and is started again by its name.
Not here: what becomes of it in between (turn.py, trap.py, change.py), how it moves between machines
(drivers/disk/parcel.py).
"""

from __future__ import annotations

from typing import Final

import msgspec

from kernel import dispatch, kin, quota, timers, turn
from kernel.errors import BadInput, Exists, some
from kernel.event import Fork, Forked, Imported, Killed, Spawned, What
from kernel.interrupts import Line
from kernel.limits import (
    FAILED_MAX,
    ILLEGAL_MAX,
    NAME_CHARS_MAX,
    NICE_MAX,
    NICE_MIN,
    PENDING_MAX,
    PROCESSES_MAX,
    TIMERS_MAX,
)
from kernel.memory.address_space import AddressSpace, Entry
from kernel.memory.measure import Part
from kernel.paging import alloc, archive, queue, segments, transcript
from kernel.process import Move, Process, State
from kernel.spec import Spec, within
from kernel.state import Kernel

FIRST: Final = 4  # the format whose kernel has threads of its own
OTHERWISE: Final = {
    "calls": "`llmos set PROC mask=...`",
    "system": "`llmos set PROC system=...`",
    "blocks": "`llmos core PROC BLOCK`",
    "nice": "`llmos set PROC nice=...`",
    "abort": "`llmos set PROC abort=...`",
    "sampling": "`llmos set PROC sample=...`",
    "think": "`llmos set PROC think=...`",
    "limits": "`llmos set PROC limit.NAME=...`",
    "tainted": "`llmos set PROC tainted.CALL=...`",
    "archives": "`llmos set PROC archives=...`",
}  # what may be chosen of a process, and how it is chosen anew


def spawned(kernel: Kernel, event: Spawned) -> None:
    """Make a process, or start a dead one of that name again. Raises BadInput before anything has changed."""
    spec = event.spec
    _allowed(kernel, spec)
    if spec.name in kernel.names:
        _started_again(kernel, event)
        return
    check_think(kernel, spec.model, spec.think)
    proc = make(kernel, spec)
    segments.data(kernel, proc)
    kernel.note(What.SPAWN, proc, text=spec.name)


def _started_again(kernel: Kernel, event: Spawned) -> None:
    """A dead process lives again, as it was, with its memory; of what was chosen nothing may be another."""
    spec = event.spec
    kernel.draft.about = kernel.names[spec.name]
    proc = kernel.procs[kernel.draft.about]
    if proc.state is not State.ZOMBIE:
        raise Exists(
            f"process {proc.name} exists and is {proc.state}; take another name, or kill it first; "
            "`llmos set` changes one that is there"
        )
    if spec.model not in ("", proc.spec.model):
        own = proc.spec.model or "the first model"
        raise BadInput(f"process {proc.name} is of {own}; it cannot go to {spec.model}")
    _same(kernel, proc, event)
    kernel.dirty(proc)
    proc.move(Move.START)
    proc.status, proc.illegal_row, proc.failed_row = "", 0, 0
    kernel.note(What.SPAWN, proc, text=f"{proc.name} again, with its memory")
    turn.wake(kernel, proc)


def _same(kernel: Kernel, proc: Process, event: Spawned) -> None:
    """Refuse what was chosen for a dead process and is another than what it has."""
    wanted, has = msgspec.structs.replace(event.spec, calls=in_order(kernel, event.spec.calls)), proc.spec
    for field, how in OTHERWISE.items():
        if field == "blocks":
            other = any(has.blocks.get(block, "") != text for block, text in wanted.blocks.items())
        else:
            other = getattr(wanted, field) != getattr(has, field)
        if field in event.given and other:
            raise BadInput(f"process {proc.name} is dead and would start again as it was; {how} changes that first")


def check_name(kernel: Kernel, name: str) -> None:
    """Refuse what cannot be a process's name."""
    if not name or len(name) > NAME_CHARS_MAX or not name.isprintable() or name.isdigit():
        raise BadInput(f"process name {name[:80]!r}: 1 to {NAME_CHARS_MAX} printable characters, not a number")
    if name.startswith("[") and kernel.form.number >= FIRST:
        raise BadInput(f"process name {name!r}: what begins with a bracket is the kernel's own")


def check_calls(kernel: Kernel, calls: tuple[str, ...]) -> None:
    """Refuse a mask that is empty, or names what is no syscall."""
    wrong = [call for call in calls if call not in kernel.iset.names]
    if wrong or not calls:
        raise BadInput(f"mask {', '.join(wrong) or 'is empty'}: syscalls are {', '.join(kernel.iset.names)}")


def check_nice(nice: int) -> None:
    """Refuse a nice value that is none."""
    if not NICE_MIN <= nice <= NICE_MAX:
        raise BadInput(f"nice {nice}: {NICE_MIN} to {NICE_MAX} are allowed")


def check_think(kernel: Kernel, model: str, think: str) -> None:
    """Refuse thought from a model that has none."""
    if think not in ("auto", "off") and not kernel.models[model].thinks:
        raise BadInput(f"think {think}: {kernel.models[model].title} does not think; auto and off are allowed")


def in_order(kernel: Kernel, calls: tuple[str, ...]) -> tuple[str, ...]:
    """A mask as it stands in a PCB: each syscall once, in the order of the instruction set."""
    return tuple(call for call in kernel.iset.names if call in calls)


def _allowed(kernel: Kernel, spec: Spec) -> None:
    """Refuse a name, syscalls or a model that cannot be."""
    check_name(kernel, spec.name)
    check_calls(kernel, spec.calls)
    check_nice(spec.nice)
    if spec.model not in kernel.models:
        raise BadInput(f"model {spec.model}: beside the first there are {some(kernel.models.keys() - {''})}")
    within(spec)


def thread(kernel: Kernel, what: str, model: str) -> Process:
    """A new thread of the kernel's own, of a name that nobody else can have. Raises BadInput as `spawned` does."""
    calls, system = kernel.iset.threads[what]
    name = f"[{what} {model}]" if model else f"[{what}]"
    while name in kernel.names:  # ends: names are finite; a directory of before may have such a one
        name = f"[{name}]"
    proc = make(kernel, Spec(name, calls, system, nice=NICE_MAX, model=model), what)
    kernel.note(What.SPAWN, proc, text=name)
    return proc


def make(kernel: Kernel, spec: Spec, thread: str = "") -> Process:
    """A new process with nothing but its text in view. Raises BadInput before anything has changed."""
    if len(kernel.procs) >= PROCESSES_MAX:
        raise BadInput(f"the process table is full: {PROCESSES_MAX} processes")
    segments.blocks_fit(kernel, spec)
    assert spec.name not in kernel.names, "the caller has looked"
    kernel.counters.pid += 1
    calls = spec.calls if thread else in_order(kernel, spec.calls)
    made_of = msgspec.structs.replace(spec, calls=calls, taken={})
    proc = Process(kernel.counters.pid, made_of, AddressSpace(), thread=thread)
    kernel.procs[proc.pid], kernel.names[proc.name] = proc, proc.pid
    if thread:
        kernel.threads.append(proc.pid)
    else:
        kernel.draft.about = proc.pid
    kernel.dirty(proc)
    segments.text(kernel, proc)
    return proc


def imported(kernel: Kernel, event: Imported) -> None:
    """Make a process with a past: its pages get numbers of this machine, and what was resident is so if it fits.

    Messages that it had not been given are raised again.
    """
    name = event.spec.name
    _allowed(kernel, event.spec)
    if name in kernel.names:
        raise Exists(f"process {name} exists; import it under another name")
    allowed = quota.most(event.spec.limits.timers, TIMERS_MAX)
    if len(event.timers) > allowed:
        raise BadInput(f"{len(event.timers)} timers; at most {allowed} are allowed")
    proc = make(kernel, event.spec)
    segments.data(kernel, proc)
    kernel.note(What.SPAWN, proc, text=name)
    limits, resident = kernel.budgets(proc), 0
    for moved in event.pages:
        part = Part(moved.text, moved.ids)
        entry = alloc.page(
            kernel,
            proc.pid,
            part,
            moved.kind,
            moved.origin,
            moved.role,
            area=moved.area,
            gist=moved.gist,
            group=moved.group,
            at=moved.at,
        )
        if moved.where == "pending" and len(proc.pending) < PENDING_MAX:
            kernel.raise_(proc, Line.USER, [entry])
        elif moved.where == "queue" and entry.tokens <= limits.unit:
            pinned = moved.pinned and proc.space.pinned() + entry.tokens <= limits.pinned
            queue.append(kernel, proc, msgspec.structs.replace(entry, pinned=pinned))
            resident += 1
        else:
            proc.space.evicted += 1
        proc.space.group = max(proc.space.group, moved.group)
    proc.space.turn = len(proc.space.queue)
    archive.taken_over(kernel, proc, event.files)
    for one in event.timers:
        timers.take_over(kernel, proc, one)
    assert len(proc.pending) <= PENDING_MAX + 1  # memory pressure takes no part in the bound
    kernel.note(What.IMPORT, proc, text=f"{len(event.pages) + len(event.files)} pages, {resident} of them resident")
    turn.wake(kernel, proc)


def forked(kernel: Kernel, event: Forked) -> None:
    """Make a process that sees what its parent sees, token for token: pages that show the parent's.

    Pages never change, so both may show one; what either writes is a page of its own. Search finds them for both. Of a
    parent that is to be seen as before a page, what stands before it in the queue; its core memory is as it is now.
    """
    parent = kernel.proc(event.pid)
    if parent.state is not State.IDLE:
        raise BadInput(f"process {parent.name} is {parent.state}; it can be forked while it is idle")
    if event.name in kernel.names:
        raise Exists(f"process {event.name} exists; give the fork another name")
    assert not parent.space.recall, "idle, so no turn, so nothing recalled"
    spec = msgspec.structs.replace(parent.spec, name=event.name, model=kernel.model_of(parent.pid))
    _allowed(kernel, spec)
    child = copy(kernel, parent, spec, event.before)
    assert event.before or child.space.used() == parent.space.used(), "token for token"


def copy(kernel: Kernel, parent: Process, spec: Spec, before: int = 0) -> Process:
    """A process that sees what another one sees, but for what was recalled there. Raises BadInput as `make` does."""
    child = make(kernel, spec)
    space, seen = child.space, parent.space
    space.data = alloc.alias(kernel, child, seen.data) if seen.data is not None else None
    space.queue = [alloc.alias(kernel, child, entry) for entry in _before(seen.queue, before)]
    space.turn = len(space.queue)
    space.evicted, space.group, space.pressed = seen.evicted, seen.group, seen.pressed
    child.split = parent.split
    child.low = tuple(one for one in parent.low if one.startswith("block "))
    kernel.effect(Fork(parent.pid, child.pid))
    kernel.note(What.FORK, child, tokens=space.size(), text=f"{spec.name} from {parent.name}")
    return child


def _before(queue: list[Entry], page: int) -> list[Entry]:
    """What stands before a page in a queue; where that has left, what is older than it. 0: all."""
    place = next((at for at, entry in enumerate(queue) if entry.page == page), None)
    return queue[:place] if place is not None else [entry for entry in queue if not page or entry.page < page]


def killed(kernel: Kernel, event: Killed) -> None:
    """The line KILL, which is its own delivery."""
    by_boot = event.source == "boot" and event.pid in kernel.procs  # who panicked it twice: perhaps one of its own
    proc = kernel.procs[event.pid] if by_boot else kernel.proc(event.pid)
    members = [one for one in kernel.procs.values() if event.group and group(one) == group(proc)] or [proc]
    living = [one for one in members if one.state is not State.ZOMBIE]
    if not living:
        raise BadInput(f"process {proc.name} is dead already ({proc.status})")
    for one in living:
        if one.state is not State.ZOMBIE:  # the end of one before it may have been its own
            kernel.note(What.INTERRUPT, one, line=Line.KILL)
            kernel.dirty(one)
            end(kernel, one, event.status)


def group(proc: Process) -> int:
    """The process group: the number of its first member, which is its own unless a process has made it."""
    return proc.group or proc.pid


def end(kernel: Kernel, proc: Process, status: str, *, told: bool = True) -> None:
    """Make a zombie: its turn is over, its timers are gone, its memory and its pending messages stay.

    `told`: its parent is.
    """
    if proc.state is State.RUNNING:
        dispatch.stop(kernel, proc)
    proc.move(Move.KILL)
    proc.status = status
    dispatch.withdraw(kernel, proc)
    for timer in proc.timers:
        timers.disarm(kernel, timer)
    proc.timers = []
    timers.set_masks(kernel, proc, {})
    turn.leave(kernel, proc)
    proc.open, proc.ids, proc.discard = False, (), False
    turn.close(kernel, proc)
    kernel.note(What.EXIT, proc, text=status)
    kin.ended(kernel, proc, told=told)


def exit(kernel: Kernel, proc: Process, status: str) -> None:
    """End the process at its own wish."""
    transcript.emitted(kernel, proc)
    end(kernel, proc, status)


def check(kernel: Kernel) -> None:
    """Assert that names and numbers lead to each other, and that the dead have nothing under way."""
    assert kernel.names == {proc.name: pid for pid, proc in kernel.procs.items()}
    assert len(kernel.names) == len(kernel.procs) <= PROCESSES_MAX, "two have one name"
    assert all(pid == proc.pid for pid, proc in kernel.procs.items())
    assert max(kernel.procs, default=0) <= kernel.counters.pid
    assert kernel.threads == sorted(pid for pid, proc in kernel.procs.items() if proc.thread)
    for proc in kernel.procs.values():
        assert proc.spec.calls, "it could emit nothing"
        assert proc.illegal_row < ILLEGAL_MAX or proc.state is State.ZOMBIE
        assert proc.failed_row < FAILED_MAX or proc.state is State.ZOMBIE
        if proc.state is State.ZOMBIE:
            assert not proc.timers
            assert not proc.held
        else:
            assert not proc.status, "why it died, of one that lives"
