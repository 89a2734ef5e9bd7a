"""A turn: from the interrupt that begins it to its end. Knows no CPU and no syscall.

A process delivers what is pending at its instruction boundaries. A turn begins there when something wakes it, and ends
when the process rests or its budget is spent; then it joins the queue, and what was recalled for it is dropped.
Six flags of the PCB stand beside its state; FLAGS says which of them go together.
Not here: what raises (controller.py, timers.py), what an instruction does (trap.py), who gets a slot (dispatch.py).
"""

from __future__ import annotations

from typing import Final

from kernel import awaiting, capabilities, dispatch, external, interrupts, ipc, outbox, quota, tried, waiting
from kernel.errors import BadInput
from kernel.event import Halted, What
from kernel.interrupts import Line, Pending
from kernel.limits import TURN_SYSCALLS_MAX
from kernel.memory.address_space import Entry
from kernel.memory.page import Kind, Role
from kernel.paging import accessed, answered, backlog, faults, head, queue, segments, share, thoughts, transcript
from kernel.process import Move, Process, State
from kernel.state import Kernel, Lane

_BEGUN: Final = ("in_turn open", "in_turn open ids")  # an instruction that was dispatched, and what it has emitted
_AGAIN: Final = tuple(f"{flags} restarted" for flags in _BEGUN)  # the next dispatch is a new attempt, after a boot
FLAGS: Final[dict[State, frozenset[str]]] = {
    State.IDLE: frozenset({""}),
    State.ZOMBIE: frozenset({""}),
    State.BLOCKED: frozenset({"in_turn", "in_turn open", "in_turn open restarted"}),  # open: delivered to while begun
    State.READY: frozenset({"in_turn", *_BEGUN, *_AGAIN}),
    State.SUSPENDED: frozenset({"in_turn", *_BEGUN, *_AGAIN, *(f"{ids} discard" for ids in (_BEGUN[1], _AGAIN[1]))}),
    State.RUNNING: frozenset({*_BEGUN, *(f"{flags} discard" for flags in _BEGUN)}),
}
"""By state, the flags (NAMES, in their order) that may be set together. `wait` goes with BLOCKED (waiting.py).

No row has `ids` without `open`, nor `open` without `in_turn`: an instruction is of a turn. `restarted` never runs: the
dispatch takes it back; who died in between keeps it, and without `open` it says nothing. `discard` is a wish about a
run, carried out when that stops, so nobody who is ready has it. `demand` says what `wait` is for, and later what the
last one was for.
"""
NAMES: Final = ("in_turn", "open", "ids", "restarted", "discard")


def flags(proc: Process) -> str:
    """The flags that are set, as FLAGS writes them."""
    return " ".join(name for name in NAMES if getattr(proc, name) and (name != "restarted" or proc.open))


def wake(kernel: Kernel, proc: Process | None) -> None:
    """Something became pending for a process; if it is idle, or waits for others, it looks. None: for nobody."""
    if proc is None:
        return
    if proc.state is State.IDLE:
        _boundary(kernel, proc)
    elif awaiting.looked(kernel, proc):
        go_on(kernel, proc)


def interrupt(kernel: Kernel, proc: Process) -> None:
    """A user's message became pending: wakes the process, or stops what it is emitting if it asked for that."""
    if proc.state is State.IDLE:
        _boundary(kernel, proc)
    elif awaiting.looked(kernel, proc):
        go_on(kernel, proc)
    elif proc.spec.abort and Line.USER not in proc.holding(kernel.at):
        _abort(kernel, proc)


def _boundary(kernel: Kernel, proc: Process) -> None:
    """An instruction boundary: deliver what is pending, begin a turn if that wakes the process, or let it rest."""
    held, lane = proc.holding(kernel.at), kernel.lane_of(proc.pid)
    waking = any(one.line is not Line.MEMORY and one.line not in held for one in proc.pending)
    if not proc.in_turn and not waking:
        if proc.state is State.READY:
            proc.move(Move.REST)
            dispatch.withdraw(kernel, proc)
        return
    fresh = not proc.in_turn
    if fresh:
        assert not proc.answers
        assert not proc.space.recall
        if kernel.iset.acting in proc.spec.calls or capabilities.sharing(proc):  # these may be others now
            segments.text(kernel, proc)
            queue.settled(kernel, proc)
        proc.in_turn = True
        kernel.busy.add(proc.pid)
        lane.admission.leave(proc.pid)  # a turn that follows another one at once waits behind who waits already
        proc.accounts.turns += 1
        proc.space.turn = len(proc.space.queue)
        if proc.state is State.IDLE:
            proc.move(Move.WAKE)
    delivered = interrupts.take(proc.pending, held, fresh_turn=fresh)
    asked: list[int] = []
    for one in delivered:
        asked += _deliver(kernel, proc, one)
    memory = kernel.settings.memory
    if asked and memory.tell_time:
        transcript.tell(kernel, proc, kernel.iset.alert("now", proc.spec.calls, at=kernel.wall))
    if asked and faults.wanted(kernel, proc):
        waiting.block(kernel, proc, faults.demand(kernel, proc, asked), demand=True)
    elif why := quota.reserve(kernel, proc):
        _limited(kernel, proc, why)
    else:
        dispatch.ready(kernel, proc)


def _limited(kernel: Kernel, proc: Process, why: str) -> None:
    """A turn ends before its next instruction, for which nothing is left of what the process may use."""
    kernel.note(What.LIMIT, proc, text=why)
    transcript.tell(kernel, proc, kernel.iset.alert("limit", proc.spec.calls, why=why))
    outbox.tell(kernel, proc, kernel.iset.alert("limit", proc.spec.calls, why=why))
    close(kernel, proc)
    _boundary(kernel, proc)


def _deliver(kernel: Kernel, proc: Process, one: Pending) -> list[int]:
    """Append what an interrupt brings; returns the user's pages among it."""
    assert one.at <= kernel.at, "delivered before it was raised"
    proc.accounts.interrupts += 1
    if one.line is not Line.MEMORY:
        tried.news(proc)
    pages = tuple(page for page, _ in one.pages)
    kernel.note(What.DELIVERED, proc, line=one.line, pages=pages, ns=kernel.at - one.at)
    if one.line is Line.MEMORY:
        limits = kernel.budgets(proc)
        share = round(100 * proc.space.used() / limits.queue)
        transcript.tell(
            kernel,
            proc,
            kernel.iset.alert("pressure", proc.spec.calls, percent=share, free=limits.queue - proc.space.used()),
        )
        return []
    user = one.line is Line.USER
    said = user or ipc.is_letter(kernel, one)
    kind, role = (Kind.MESSAGE, Role.USER) if said else (Kind.ALERT, Role.SYSTEM)
    entries = [Entry(page, tokens, kind, role) for page, tokens in one.pages]
    ipc.delivered(kernel, one)
    if user and one.mid:
        proc.answers += (one.mid,)
    limits, total = kernel.budgets(proc), sum(entry.tokens for entry in entries)
    if total > limits.queue // 2:  # enters as its head; the rest is on disk already
        total = head.enter(kernel, proc, entries)
    else:
        for entry in entries:
            queue.append(kernel, proc, entry)
    if user:
        proc.accounts.entered += total
    return [entry.page for entry in entries] if said else []


def go_on(kernel: Kernel, proc: Process | None) -> None:
    """After an instruction or a completion: end a turn whose budget is spent, deliver what is pending, go on."""
    if proc is None:
        return
    if proc.thread:
        if proc.in_turn and backlog.spent(kernel, proc):
            give_up(kernel, proc, "budget spent")
            return
    elif proc.in_turn and quota.spent(proc):
        transcript.tell(
            kernel,
            proc,
            kernel.iset.alert("budget", proc.spec.calls, syscalls=proc.turn_syscalls, tokens=proc.turn_tokens),
        )
        kernel.note(What.TURN, proc, text="budget spent")
        close(kernel, proc)
    elif proc.tried:
        _stuck(kernel, proc)
    _boundary(kernel, proc)


def _stuck(kernel: Kernel, proc: Process) -> None:
    """End a turn that tries again and again what fails, or is done."""
    call, times, done = tried.stuck(proc)
    if not call:
        return
    said = {"times": times, "done": done}
    # What the call said is a model's, and of others' texts: it stands in no frame of the kernel's.
    transcript.tell(kernel, proc, kernel.iset.alert("stuck", proc.spec.calls, call=call.split(" ", 1)[0], **said))
    told = kernel.iset.alert("tried", proc.spec.calls, call=call, why=kernel.draft.failed, **said)
    outbox.tell(kernel, proc, told)
    kernel.note(What.TURN, proc, text=f"ended: {call} {'was repeated' if done else 'failed'} {times} times")
    close(kernel, proc)


def after(kernel: Kernel, proc: Process) -> None:
    """An instruction is done: the turn goes on, unless that ended it or has the process wait."""
    if proc.state is State.READY:
        go_on(kernel, proc)


def close(kernel: Kernel, proc: Process) -> None:
    """The turn joins the queue, and what was recalled for it is dropped, or joins, too, if it was drawn on."""
    assert not proc.ids, "an instruction is under way"
    proc.in_turn = False
    kernel.busy.discard(proc.pid)
    kernel.seen.pop(proc.pid, None)
    proc.turn_syscalls = proc.turn_tokens = proc.lent = 0
    external.closed(kernel, proc)
    proc.answers = ()
    if proc.tried:
        proc.tried = {}
    recalled, proc.space.recall = proc.space.recall, []
    if proc.thread:
        backlog.emptied(kernel, proc)
    elif proc.state is not State.ZOMBIE:
        thoughts.closed(kernel, proc, recalled)
        answered.closed(kernel, proc, recalled)
        share.closed(kernel, proc)
        accessed.join(kernel, proc, recalled)
    proc.drawn, proc.ranked = (), None
    proc.space.turn = len(proc.space.queue)


def halted(kernel: Kernel, event: Halted) -> None:
    """End the turn under way as the user wishes: what it was emitting is thrown away, and the process is told.

    Its slot is asked for, and what that still brings is an old run's. Raises BadInput if the process is in no turn.
    """
    proc = kernel.proc(event.pid)
    if proc.thread or not proc.in_turn:
        raise BadInput(f"process {proc.name} is {proc.state}, in no turn that could be stopped")
    kernel.dirty(proc)
    match proc.state:
        case State.RUNNING:
            dispatch.stop(kernel, proc)
            proc.move(Move.TRAP)
        case State.BLOCKED:
            leave(kernel, proc)
            proc.move(Move.WAKE)
        case State.SUSPENDED:
            proc.move(Move.RESUME)
    dispatch.withdraw(kernel, proc)
    proc.open, proc.ids, proc.discard = False, (), False
    kernel.note(What.TURN, proc, text="stopped by the user")
    transcript.tell(kernel, proc, kernel.iset.alert("stopped", proc.spec.calls))
    close(kernel, proc)
    _boundary(kernel, proc)


def leave(kernel: Kernel, proc: Process) -> None:
    """A process waits no more for what it waits for, if it does; what may still come is an old number's."""
    awaiting.cancel(kernel, proc)
    external.cancel(kernel, proc)
    proc.wait = None
    proc.req += 1


def give_up(kernel: Kernel, thread: Process, why: str) -> None:
    """A thread of the kernel's has done with an item, whatever has come of it; it is ready, and rests."""
    kernel.note(What.TURN, thread, text=why)
    close(kernel, thread)
    _boundary(kernel, thread)


def _abort(kernel: Kernel, proc: Process) -> None:
    """Stop the instruction under way at its next token, to be begun anew with what is pending in view."""
    if proc.state is State.RUNNING and not proc.discard:
        proc.discard = True
        dispatch.stop(kernel, proc)
    elif proc.state is State.READY and proc.ids:
        discard(kernel, proc)
    elif proc.state is State.SUSPENDED:
        proc.discard = bool(proc.ids)


def discard(kernel: Kernel, proc: Process) -> None:
    """Throw away what the instruction under way emitted, and begin it anew."""
    assert proc.open, "there is none"
    kernel.note(What.ABORT, proc, tokens=len(proc.ids))
    proc.ids, proc.discard = (), False
    _boundary(kernel, proc)


def rest(kernel: Kernel, proc: Process) -> None:
    """End the turn; the process is idle until an interrupt."""
    assert proc.in_turn
    transcript.emitted(kernel, proc)
    close(kernel, proc)


def admit(kernel: Kernel, lane: Lane) -> None:
    """Suspend whom the CPU's memory has no room for, and let in whom it has room for again."""
    while (pid := lane.admission.victim(kernel.working_set)) is not None:  # ends: one goes outside each time
        proc = kernel.procs[pid]
        if proc.state is State.READY:
            dispatch.suspend(kernel, proc)
        elif proc.state is State.RUNNING:  # suspended when it has come to its next token
            dispatch.stop(kernel, proc)
    while (pid := lane.admission.next(kernel.working_set)) is not None:  # ends: one comes in each time
        proc = kernel.procs[pid]
        if proc.state is State.SUSPENDED:
            proc.move(Move.RESUME)
            kernel.dirty(proc)
            kernel.note(What.RESUME, proc, tokens=proc.space.size())
            if proc.discard:
                discard(kernel, proc)
            elif proc.ids:
                dispatch.ready(kernel, proc)
            else:
                _boundary(kernel, proc)


def check(kernel: Kernel, proc: Process) -> None:
    """Assert that the flags go together, and that nothing of a turn outlives it."""
    assert flags(proc) in FLAGS[proc.state], f"process {proc.pid}: {proc.state} and {flags(proc) or 'no flag'}"
    assert (proc.pid in kernel.busy) == (proc.in_turn and not proc.thread), "whether it is in a turn is forgotten"
    assert proc.turn_syscalls <= TURN_SYSCALLS_MAX
    assert proc.turn_syscalls < TURN_SYSCALLS_MAX or proc.state is State.BLOCKED, "its budget was spent"
    if not proc.in_turn:
        assert not proc.turn_syscalls
        assert not proc.turn_tokens
        assert not proc.answers
        assert proc.space.turn == len(proc.space.queue), "pages of a turn that is over"
        waking = [one for one in proc.pending if one.line is not Line.MEMORY and one.line not in proc.held]
        assert not waking or proc.state is State.ZOMBIE, "it sleeps, and something is to be delivered"
