"""Who has a slot: the run queue, who may be in it, and the effects Run and Preempt.

A process that is ready stands in the run queue of its model's lane, or outside, suspended. A slot is given back at a
token, by a trap (trap.py); `stop` only asks for it.
Not here: the policies (scheduler/), who is let in again (turn.py).
"""

from __future__ import annotations

from kernel import capabilities, manner, tools
from kernel.event import Preempt, Run, Thought, What
from kernel.limits import MARKS_TOKENS_MAX, SUMMARY_TOKENS_MAX
from kernel.memory import pager
from kernel.process import SUMMARY, Move, Process, State
from kernel.scheduler import Scheduler
from kernel.state import Kernel, Slot, small


def ready(kernel: Kernel, proc: Process) -> None:
    """A process became ready, perhaps because the instruction that it trapped with is done; it may have to wait."""
    assert proc.in_turn, "who has no turn has nothing to run"
    lane = kernel.lane_of(proc.pid)
    if proc.thread:
        queue_of(kernel, proc).add(proc.pid, proc.spec.nice, ran=proc.pid == kernel.draft.ran)
    elif lane.admission.enter(proc.pid, proc.spec.nice, kernel.working_set):
        lane.ready.add(proc.pid, proc.spec.nice, ran=proc.pid == kernel.draft.ran)
    else:
        suspend(kernel, proc)


def queue_of(kernel: Kernel, proc: Process) -> Scheduler:
    """The run queue that a process stands in while it is ready."""
    lane = kernel.lane_of(proc.pid)
    return lane.idle if proc.thread else lane.ready


def withdraw(kernel: Kernel, proc: Process) -> None:
    """A process competes no longer: it rests, or is dead."""
    queue_of(kernel, proc).remove(proc.pid)
    kernel.lane_of(proc.pid).admission.leave(proc.pid)


def apart(kernel: Kernel, proc: Process) -> bool:
    """Whether it runs without its queue: a small model answers better from what was recalled alone."""
    return any(one.asked for one in proc.space.recall) and small(kernel, proc, kernel.settings.memory.apart)


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
    """Fill free slots with ready processes, and ask for one back if the policy says so.

    The kernel's own threads have slots while nobody is in a turn, and are asked for them when somebody is again.
    """
    for slot in kernel.slots if kernel.busy else ():
        if slot.pid and kernel.procs[slot.pid].thread:
            stop(kernel, kernel.procs[slot.pid])
    for index, slot in enumerate(kernel.slots):
        queue = kernel.lanes[slot.model].ready if kernel.busy else kernel.lanes[slot.model].idle
        pid = None if slot.pid else queue.take()
        if pid is None:
            continue
        proc = kernel.procs[pid]
        kernel.dirty(proc)
        assert not slot.yielding, "nobody has it"
        proc.move(Move.DISPATCH)
        if not proc.open:
            proc.open, proc.instr, proc.attempt = True, proc.instr + 1, 0
        if not proc.ids or proc.restarted:
            proc.attempt += 1
            proc.restarted = False
        assert proc.attempt > 0
        slot.tag, slot.yielding = proc.tag, False
        kernel.effect(
            Run(
                slot=index,
                tag=slot.tag,
                pages=tuple(proc.space.placed(apart=apart(kernel, proc))),
                calls=proc.spec.calls,
                encoding=manner.writes(kernel, proc),
                quantum=queue.quantum(pid),
                reply=_reply(kernel, proc),
                window=kernel.settings.window,
                ids=proc.ids,
                model=slot.model,
                apart=apart(kernel, proc),
                sampling=proc.spec.sampling,
                thought=_thought(kernel, proc),
                tools=tools.held(kernel, proc),
                shared=tuple(dict.fromkeys(verb for verb, _ in capabilities.archives(proc))),
            )
        )
    for name, lane in kernel.lanes.items():
        _displace(kernel, lane.ready, [slot for slot in kernel.slots if slot.model == name])


def _thought(kernel: Kernel, proc: Process) -> Thought | None:
    """What it may think before its instruction, as far as there is room kept for that, and half of what is lent."""
    kept = kernel.budgets(proc).thought
    if proc.lent and (kept := min(kept, proc.lent // 2)) <= MARKS_TOKENS_MAX:
        return None
    return Thought(kept - MARKS_TOKENS_MAX, must=proc.spec.think != "auto") if kept else None


def _reply(kernel: Kernel, proc: Process) -> int:
    """The reply limit in tokens; what is summed up in prose may be cut off at a summary's length."""
    most = pager.reply_max(kernel.settings)
    if proc.lent:
        thought = _thought(kernel, proc)
        most = min(most, proc.lent - (thought.most + MARKS_TOKENS_MAX if thought else 0))
    prose = kernel.models[kernel.model_of(proc.pid)].encoding == "prose"
    return min(most, SUMMARY_TOKENS_MAX) if prose and proc.thread == SUMMARY else most


def check(kernel: Kernel) -> None:
    """Assert who has a slot, who stands in a run queue, and who is inside; no slot is free while somebody waits."""
    tags = [slot.tag for slot in kernel.slots if slot.pid]
    assert len(tags) == len(set(tags)), f"two slots run one instruction: {tags}"
    for slot in kernel.slots:
        if slot.pid:
            proc = kernel.procs[slot.pid]
            assert slot.model == kernel.model_of(slot.pid)
            assert (slot.tag.instr, slot.tag.attempt) <= (proc.instr, proc.attempt), "of a later life"
        else:
            assert not slot.yielding, "nobody has it"
            assert not len(kernel.lanes[slot.model].ready), "a slot is free and somebody waits"
            assert kernel.busy or not len(kernel.lanes[slot.model].idle), "a slot is free and the kernel waits"
    for name, lane in kernel.lanes.items():
        lane.admission.check()
        mine = [
            proc for proc in kernel.procs.values() if proc.state is State.READY and kernel.model_of(proc.pid) == name
        ]
        assert len(lane.ready) == sum(not proc.thread for proc in mine)
        assert len(lane.idle) == sum(bool(proc.thread) for proc in mine)
    for proc in kernel.procs.values():
        lane = kernel.lane_of(proc.pid)
        inside, outside = lane.admission.inside(proc.pid), proc.pid in lane.admission.outside
        assert (proc.pid in queue_of(kernel, proc)) == (proc.state is State.READY), proc.pid
        assert (proc.tag in tags) >= (proc.state is State.RUNNING), "it runs nowhere"
        match proc.state:
            case State.IDLE | State.ZOMBIE:
                assert not inside
                assert not outside
            case State.READY:
                assert inside != bool(proc.thread)
            case State.SUSPENDED:
                assert outside
            case State.RUNNING:  # outside once it is to stop at its next token
                assert inside or outside or proc.thread
            case State.BLOCKED:  # nowhere after a boot, until its answer comes
                pass
