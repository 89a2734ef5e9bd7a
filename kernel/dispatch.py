"""Who has a slot: the run queue, who may be in it, and the effects Run and Preempt.

A process that is ready stands in the run queue of its model's lane, or outside, suspended. A slot is given back at a
token, by a trap (trap.py); `stop` only asks for it.
Not here: the policies (scheduler/), who is let in again (turn.py).
"""

from __future__ import annotations

from kernel.event import Preempt, Run, What
from kernel.memory import pager
from kernel.process import Move, Process
from kernel.scheduler import Scheduler
from kernel.state import Kernel, Slot


def ready(kernel: Kernel, proc: Process) -> None:
    """A process became ready, perhaps because the instruction that it trapped with is done; it may have to wait."""
    lane = kernel.lane_of(proc.pid)
    if lane.admission.enter(proc.pid, proc.spec.nice, kernel.working_set):
        lane.ready.add(proc.pid, proc.spec.nice, ran=proc.pid == kernel.draft.ran)
    else:
        suspend(kernel, proc)


def suspend(kernel: Kernel, proc: Process) -> None:
    """Put a process outside, until there is room for its working set."""
    proc.move(Move.SUSPEND)
    kernel.lane_of(proc.pid).ready.remove(proc.pid)
    kernel.dirty(proc)
    kernel.note(What.SUSPEND, proc, tokens=proc.space.size())


def stop(kernel: Kernel, proc: Process) -> None:
    """Ask for the slot of a running process back, at its next token."""
    for index, slot in enumerate(kernel.slots):
        if slot.tag == proc.tag and not slot.yielding:
            slot.yielding = True
            kernel.effect(Preempt(index))


def _displace(kernel: Kernel, queue: Scheduler, slots: list[Slot]) -> None:
    """Ask one slot back, at its next token, if the policy puts who waits before who runs there."""
    if not len(queue) or any(slot.yielding or not slot.pid for slot in slots):
        return
    victim = queue.displaces([slot.pid for slot in slots])
    if victim is not None:
        stop(kernel, kernel.procs[victim])


def fill(kernel: Kernel) -> None:
    """Fill free slots with ready processes, and ask for one back if the policy says so."""
    for index, slot in enumerate(kernel.slots):
        queue = kernel.lanes[slot.model].ready
        pid = None if slot.pid else queue.take()
        if pid is None:
            continue
        proc = kernel.procs[pid]
        kernel.dirty(proc)
        proc.move(Move.DISPATCH)
        if not proc.open:
            proc.open, proc.instr, proc.attempt = True, proc.instr + 1, 0
        if not proc.ids or proc.restarted:
            proc.attempt += 1
            proc.restarted = False
        slot.tag, slot.yielding = proc.tag, False
        kernel.effect(
            Run(
                slot=index,
                tag=slot.tag,
                pages=tuple(proc.space.placed()),
                calls=proc.spec.calls,
                encoding=kernel.models[slot.model].encoding,
                quantum=queue.quantum(pid),
                reply=pager.reply_max(kernel.settings),
                window=kernel.settings.window,
                ids=proc.ids,
                model=slot.model,
            )
        )
    for name, lane in kernel.lanes.items():
        _displace(kernel, lane.ready, [slot for slot in kernel.slots if slot.model == name])
