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

from kernel import controller, dispatch, life, outbox, restart, timers, trap, turn
from kernel.errors import BadInput, KernelPanic
from kernel.event import (
    Acked,
    AnyEvent,
    Booted,
    Checkpointed,
    Filed,
    Forked,
    Imported,
    Killed,
    Loaded,
    Messaged,
    Raised,
    Searched,
    Spawned,
    TimerFired,
    Trapped,
    Upgraded,
    What,
)
from kernel.paging import archive, faults, residency
from kernel.process import State
from kernel.state import Kernel, Step


def step(kernel: Kernel, event: AnyEvent) -> Step:
    """Apply one event. Raises KernelPanic, and nothing else, when the state turns out to be impossible."""
    try:
        return _step(kernel, event)
    except AssertionError as exc:
        raise KernelPanic(f"{type(event).__name__}: {broken(exc)}") from exc


def _step(kernel: Kernel, event: AnyEvent) -> Step:
    if kernel.config is None and not isinstance(event, Booted | Upgraded):
        raise KernelPanic(f"{type(event).__name__} before Booted")
    if event.at < kernel.counters.now:  # time never goes back: a clock set back is the machine's, not the state's
        event = msgspec.structs.replace(event, at=kernel.counters.now)
    kernel.begin(event.at)
    try:
        _handle(kernel, event)
    except BadInput as exc:
        return kernel.refused(exc)
    for lane in kernel.lanes.values():
        turn.admit(kernel, lane)
    dispatch.fill(kernel)
    if isinstance(event, Checkpointed):
        restart.derive(kernel)
    return kernel.end(event)


def broken(exc: AssertionError) -> str:
    """Which assert it was, for a panic's one line: the file and line, and what it says."""
    where = traceback.extract_tb(exc.__traceback__)[-1]
    return f"what cannot be false is, at {Path(where.filename).name}:{where.lineno}: {str(exc) or where.line}"


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
        case Killed():
            life.killed(kernel, event)
        case Messaged():
            turn.interrupt(kernel, controller.messaged(kernel, event))
        case Raised():
            turn.wake(kernel, controller.raised(kernel, event))
        case TimerFired():
            turn.wake(kernel, timers.fired(kernel, event))
        case Searched():
            turn.go_on(kernel, faults.searched(kernel, event))
        case Loaded():
            turn.go_on(kernel, residency.loaded(kernel, event))
        case Trapped():
            trap.trapped(kernel, event)
        case Filed():
            archive.filed(kernel, event)
        case Acked():
            outbox.acked(kernel, event)
        case Checkpointed():
            kernel.note(What.CHECKPOINT)
        case Upgraded():
            restart.upgraded(kernel)
        case _:
            assert_never(event)


def check(kernel: Kernel) -> None:
    """Assert the invariants of the whole machine; called after every step in tests."""
    running = [slot.tag for slot in kernel.slots if slot.pid]
    assert len(running) == len(set(running))
    for proc in kernel.procs.values():
        proc.space.check()
        limits = kernel.budgets(proc)
        assert proc.space.used() <= limits.queue
        assert sum(entry.tokens for entry in proc.space.recall) <= limits.recall
        assert (proc.space.data.tokens if proc.space.data else 0) <= limits.data
        lane = kernel.lane_of(proc.pid)
        assert (proc.pid in lane.ready) == (proc.state is State.READY), (proc.pid, proc.state)
        outside = proc.pid in lane.admission.outside
        assert outside if proc.state is State.SUSPENDED else not (outside and proc.state is State.READY)
        assert (proc.wait is not None) == (proc.state is State.BLOCKED)
        if proc.state is State.RUNNING:
            assert proc.tag in running
