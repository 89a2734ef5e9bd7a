"""What a CPU's stop means: account for it, then it was preempted, it failed, or it is one instruction.

The only caller of `execute`: the instruction set's handlers come back into the functions of outbox, timers, life and
paging/. A trap of a run that nobody waits for only frees its slot.
Not here: what a syscall does (the table in syscalls/).
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from kernel import dispatch, life, manner, quota, tried, turn
from kernel.errors import Illegal, KernelPanic, SyscallError
from kernel.event import NOBODY, Outcome, Trapped, What
from kernel.limits import FAILED_MAX, ILLEGAL_MAX, ITEM_ERRORS_MAX
from kernel.paging import accessed, transcript
from kernel.process import Move, Process, State
from kernel.state import Kernel


def trapped(kernel: Kernel, event: Trapped) -> None:
    """The CPU entered the kernel; a trap of a run that nobody waits for only frees its slot."""
    slot = kernel.slots[event.slot] if event.slot < len(kernel.slots) else None
    if slot is None or slot.tag != event.tag:
        return
    slot.tag, slot.yielding = NOBODY, False
    proc = kernel.procs[event.pid]
    kernel.draft.ran = proc.pid
    if not proc.thread:  # whose work is no share of anybody's
        kernel.lane_of(proc.pid).ready.spent(proc.pid, proc.spec.nice, event.decoded)
    kernel.dirty(proc)
    if event.kv > kernel.settings.window:
        raise KernelPanic(f"process {proc.pid} reached position {event.kv} of window {kernel.settings.window}")
    counts = proc.accounts
    counts.emitted += event.decoded
    counts.prefill += event.prefill
    counts.kv = max(counts.kv, event.kv)
    counts.again += event.again
    counts.restored += event.restored
    counts.shared += event.shared
    awaited = proc.state is State.RUNNING and proc.tag == event.tag
    _worked(kernel, proc, event, awaited)
    quota.settle(kernel, proc, event.decoded, over=awaited and event.outcome in (Outcome.SYSCALL, Outcome.ILLEGAL))
    if not awaited:
        return  # killed meanwhile, and perhaps started again
    proc.turn_tokens += event.decoded
    proc.move(Move.TRAP)
    kernel.note(What.RUN, proc, tokens=event.decoded, text=f"{event.outcome}, {_evaluated(event)}")
    run = len(kernel.draft.notes) - 1
    match event.outcome:
        case Outcome.PREEMPTED:
            proc.ids = event.ids
            if proc.discard:
                turn.discard(kernel, proc)
            else:
                dispatch.ready(kernel, proc)
            return
        case Outcome.FAILED:
            _device_failed(kernel, proc, event.error)
            return
        case Outcome.SYSCALL | Outcome.ILLEGAL:
            proc.open, proc.ids, proc.failed_row, proc.discard = False, (), 0, False
            accessed.drew(kernel, proc, event.drew)
            _instruction(kernel, proc, event)
            if kernel.draft.call:  # the line of the run says what came of it
                name, note = kernel.draft.call.split(" ", 1)[0], kernel.draft.notes[run]
                kernel.draft.notes[run] = msgspec.structs.replace(note, text=f"{name}, {_evaluated(event)}")
        case _:
            assert_never(event.outcome)


def _worked(kernel: Kernel, proc: Process, event: Trapped, awaited: bool) -> None:
    """See how much of a run's work was done before, and lost to another process meanwhile.

    A run that nobody awaits was of a turn that is over: what it has seen says nothing of the prompt of now.
    """
    seen = kernel.seen.get(proc.pid, 0) if awaited else 0
    prompt = event.prompt + len(event.ids) - event.decoded
    again = max(0, event.prefill - max(1, prompt - seen)) if seen else 0
    if awaited and event.outcome is not Outcome.FAILED:
        kernel.seen[proc.pid] = event.kv
    share = 0.0 if proc.thread else kernel.lane_of(proc.pid).admission.observe(event.prefill + event.decoded, again)
    if share:
        kernel.note(What.THRASH, text=f"{100 * share:.0f} % of the CPU's work was done before")


def _device_failed(kernel: Kernel, proc: Process, error: str) -> None:
    """Run it again, or end a process on which the CPU fails time after time."""
    proc.failed_row += 1
    kernel.note(What.ERROR, proc, text=f"CPU: {error}")
    if proc.failed_row >= FAILED_MAX and proc.thread:
        proc.ids, proc.open, proc.failed_row = (), False, 0
        turn.give_up(kernel, proc, f"the CPU failed {FAILED_MAX} times in a row: {error}")
        return
    if proc.failed_row >= FAILED_MAX:
        life.end(kernel, proc, f"the CPU failed {FAILED_MAX} times in a row: {error}")
        return
    if proc.discard:  # nothing to wait for: it begins anew now
        turn.discard(kernel, proc)
    else:
        dispatch.ready(kernel, proc)


def _instruction(kernel: Kernel, proc: Process, event: Trapped) -> None:
    """Carry out what was emitted, and let the turn go on if that did not end it."""
    kernel.draft.emission, kernel.draft.low = event, event.low
    proc.space.group += 1
    proc.turn_syscalls += 1
    proc.accounts.syscalls += 1
    try:
        if event.outcome is Outcome.ILLEGAL:
            raise Illegal(event.error or "nothing was emitted")
        kernel.iset.execute(kernel, proc, event.text, manner.writes(kernel, proc), event.truncated)
        proc.illegal_row = 0
        if proc.in_turn:
            tried.begun(kernel, proc)
    except SyscallError as exc:
        page = _page(kernel, proc, event.text)
        if isinstance(exc, Illegal) or not tried.known(kernel, proc):
            _illegal(kernel, proc, str(exc), page)
        else:
            _failed(kernel, proc, str(exc), page)
    transcript.emitted(kernel, proc)
    turn.after(kernel, proc)


def _page(kernel: Kernel, proc: Process, text: str) -> str:
    """The manual's page of a call that was used wrongly, as further lines; "" where it was shown the last time."""
    again = proc.tried.get(kernel.draft.call, 0) if kernel.draft.call else proc.illegal_row
    page = "" if again else manner.page(kernel, proc, text)
    return f"\n{page}" if page else ""


def _failed(kernel: Kernel, proc: Process, why: str, page: str) -> None:
    """Tell a process why its call failed; turn.go_on ends a turn that tries the same again and again."""
    proc.illegal_row = 0
    kernel.note(What.ERROR, proc, text=why)
    tried.begun(kernel, proc)
    tried.failed(kernel, proc, why)
    transcript.answer(kernel, proc, f"error: {why}{page}")


def _illegal(kernel: Kernel, proc: Process, why: str, page: str) -> None:
    """Tell a process what was wrong and what is allowed, or end it after too many in a row."""
    proc.illegal_row += 1
    proc.accounts.illegal += 1
    kernel.note(What.ERROR, proc, text=why)
    if proc.thread and proc.illegal_row >= ITEM_ERRORS_MAX:
        transcript.emitted(kernel, proc)
        turn.give_up(kernel, proc, f"{ITEM_ERRORS_MAX} illegal instructions in a row; the last: {why}")
        return
    if proc.illegal_row >= ILLEGAL_MAX:
        transcript.emitted(kernel, proc)
        life.end(kernel, proc, f"{ILLEGAL_MAX} illegal instructions in a row; the last: {why}")
        return
    transcript.answer(kernel, proc, f"error: {why}{page}")


def _evaluated(event: Trapped) -> str:
    """Where the tokens of a run's prompt came from, in words."""
    said = f"prompt {event.prompt}, prefill {event.prefill}"
    parts = (("again", event.again), ("restored", event.restored), ("shared", event.shared))
    return said + "".join(f", {name} {tokens}" for name, tokens in parts if tokens)
