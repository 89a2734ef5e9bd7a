"""The kernel as one deterministic state machine: what each event does, a line each; then who is let in and who runs.

Sans-IO: no clock, no driver, no syscall names. Time comes with the event, sizes with `measure`, the instruction set is
handed in. A step returns the records it dirtied, the effects to perform once they are committed, notes for those who
watch, and its number. An event that is refused (BadInput) has changed nothing and leaves no trace.
Each mechanism is a file of functions over state.Kernel; those that only find out who goes on return the process, and
it goes on here. Not here: the loop (machine/loop.py).
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import assert_never

import msgspec

from kernel import (
    capabilities,
    change,
    controller,
    dispatch,
    external,
    guard,
    ipc,
    kin,
    kthread,
    life,
    outbox,
    quota,
    removal,
    restart,
    shared,
    timers,
    tools,
    trap,
    tried,
    turn,
    waiting,
)
from kernel.errors import BadInput, KernelPanic, in_one_line
from kernel.event import (
    Acked,
    Acted,
    AnyEvent,
    Booted,
    Changed,
    Checkpointed,
    ClockSet,
    Consented,
    CoreWritten,
    Fetched,
    Filed,
    Forked,
    Granted,
    Halted,
    Imported,
    Kept,
    Killed,
    Loaded,
    Messaged,
    Offered,
    Opened,
    Raised,
    Removed,
    Renamed,
    Revoked,
    Searched,
    Spawned,
    TimerFired,
    Trapped,
    Upgraded,
    What,
)
from kernel.paging import (
    accessed,
    alloc,
    answered,
    archive,
    backlog,
    documents,
    facts,
    faults,
    queue,
    residency,
    segments,
    share,
    summary,
    thoughts,
)
from kernel.state import Kernel, Step


def step(kernel: Kernel, event: AnyEvent) -> Step:
    """Apply one event. Raises KernelPanic, and nothing else, when the state turns out to be impossible."""
    try:
        return _step(kernel, event)
    except KernelPanic:
        raise
    except Exception as exc:  # whatever it is, what it left half done is not trusted
        raise KernelPanic(f"{type(event).__name__}: {broken(exc)}") from exc


def _step(kernel: Kernel, event: AnyEvent) -> Step:
    if kernel.config is None and not isinstance(event, Booted | Upgraded):
        raise KernelPanic(f"{type(event).__name__} before Booted")
    if event.at < kernel.counters.now:  # of a batch, the one that was noticed later
        event = msgspec.structs.replace(event, at=kernel.counters.now)
    kernel.begin(event.at, event.ahead)
    timers.clock(kernel)
    try:
        _handle(kernel, event)
    except BadInput as exc:
        return kernel.refused(exc)
    for lane in kernel.lanes.values():
        turn.admit(kernel, lane)
    kthread.begin(kernel)
    dispatch.fill(kernel)
    if isinstance(event, Checkpointed):
        restart.derive(kernel)
    return kernel.end(event)


def broken(exc: Exception) -> str:
    """What broke, for a panic's one line: the file and line, and what it says; a failed assert says so."""
    where = traceback.extract_tb(exc.__traceback__)[-1]
    failed = isinstance(exc, AssertionError)
    kind = "what cannot be false is" if failed else type(exc).__name__
    said = str(exc).partition("\n")[0] if failed else in_one_line(exc)
    if failed and said.startswith("assert "):  # pytest's words for one that has none of its own
        said = ""
    return f"{kind}, at {Path(where.filename).name}:{where.lineno}: {said or where.line}"


def _handle(kernel: Kernel, event: AnyEvent) -> None:
    match event:
        case Booted():
            restart.booted(kernel, event)
        case Spawned():
            life.spawned(kernel, event)
        case Imported():
            life.imported(kernel, event)
        case Forked():
            life.forked(kernel, event)
        case Changed():
            change.changed(kernel, event)
        case Granted():
            capabilities.granted(kernel, event)
        case Revoked():
            capabilities.revoked(kernel, event)
        case Consented():
            turn.after(kernel, guard.consented(kernel, event))
        case CoreWritten():
            change.core_written(kernel, event)
        case Kept():
            change.kept(kernel, event)
        case Renamed():
            change.renamed(kernel, event)
        case Removed():
            removal.removed(kernel, event)
        case Killed():
            life.killed(kernel, event)
        case Halted():
            turn.halted(kernel, event)
        case Messaged():
            turn.interrupt(kernel, controller.messaged(kernel, event))
        case Raised():
            turn.wake(kernel, controller.raised(kernel, event))
        case TimerFired():
            turn.wake(kernel, timers.fired(kernel, event))
        case ClockSet():
            pass  # it is noted already, and what waits for the wall clock fires by itself
        case Searched():
            turn.go_on(kernel, faults.searched(kernel, event))
        case Loaded():
            turn.go_on(kernel, residency.loaded(kernel, event))
        case Opened():
            turn.go_on(kernel, documents.opened(kernel, event))
        case Fetched():
            turn.go_on(kernel, kthread.fetched(kernel, event))
        case Trapped():
            trap.trapped(kernel, event)
        case Filed():
            archive.filed(kernel, event)
        case Offered():
            tools.offered(kernel, event)
        case Acted():
            turn.go_on(kernel, external.acted(kernel, event))
        case Acked():
            outbox.acked(kernel, event)
        case Checkpointed():
            kernel.note(What.CHECKPOINT)
        case Upgraded():
            restart.upgraded(kernel, event)
        case _:
            assert_never(event)


def check(kernel: Kernel) -> None:
    """Assert what must hold between two events, a mechanism a line; called after every step in tests.

    O(processes), and O(pages) of those that the step touched: the others are as they were, by the hash of each.
    """
    if kernel.config is None:
        return  # the first boot was refused: there is nothing yet
    kernel.check()
    life.check(kernel)
    kin.check(kernel)
    shared.check(kernel)
    timers.check(kernel)
    dispatch.check(kernel)
    tools.check(kernel)
    external.check(kernel)
    alloc.check(kernel)
    booted = any(note.what is What.BOOT for note in kernel.draft.notes)  # other budgets, and what is derived is new
    for proc in (kernel.procs if booted else kernel.draft.dirty).values():
        proc.space.check()
        turn.check(kernel, proc)
        waiting.check(proc)
        controller.check(kernel, proc)
        ipc.check(kernel, proc)
        capabilities.check(proc)
        quota.check(proc)
        guard.check(proc)
        outbox.check(kernel, proc)
        segments.check(kernel, proc)
        queue.check(kernel, proc)
        residency.check(kernel, proc)
        faults.check(kernel, proc)
        accessed.check(proc)
        answered.check(proc)
        thoughts.check(proc)
        share.check(kernel, proc)
        tried.check(proc)
        backlog.check(kernel, proc)
        summary.check(kernel, proc)
        facts.check(proc)
