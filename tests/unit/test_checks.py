"""The checks themselves: each invariant, broken on purpose in a machine at work, is found by the file that owns it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from drivers.cpu.scripted import echo
from kernel import core, records
from kernel.errors import KernelPanic
from kernel.event import NOBODY, Imported, Killed, Load, Messaged, MovedTimer, Search, Searched, Tag, TimerFired
from kernel.interrupts import Line, Pending
from kernel.limits import ILLEGAL_MAX, NS, OUTBOX_MAX, PENDING_MAX
from kernel.memory.address_space import Entry, Recalled
from kernel.memory.page import Kind, Role
from kernel.ports import Job
from kernel.process import Process, State
from kernel.spec import Spec
from tests.fakes import Rig, op

RUNNING, READY, BLOCKED, IDLE, DEAD = 1, 2, 3, 4, 5


def chosen(proc: Process, **fields: object) -> None:
    """Give a process another spec."""
    proc.spec = msgspec.structs.replace(proc.spec, **fields)


def program(job: Job) -> str:
    """By process and instruction: the idle one has a timer, a mask, core memory and a pin; the blocked one searches."""
    calls = {
        BLOCKED: [op("search", query="amber")],
        IDLE: [
            op("set_timer", seconds=60, text="tea"),
            op("mask", lines=["user"], seconds=600),
            op("core_append", block="human", text="likes tea"),
            op("send_message", text="noted", more=True),
            op("pin", page=next((page.page.id for page in job.pages if page.page.text.startswith("keep")), 0)),
        ],
    }.get(job.pid, [])
    return calls[job.instr - 1] if job.instr <= len(calls) else op("send_message", text="word " * 30)


def busy() -> Rig:
    """A machine with a process in each state, and something of everything."""
    rig = Rig(program, "window=2048", "cpu.reply=100", "sched.quantum=8")
    pids = [rig.spawn(name) for name in ("running", "ready", "blocked", "idle", "dead")]
    assert pids == [RUNNING, READY, BLOCKED, IDLE, DEAD]
    rig.say(IDLE, "keep this in view")
    rig.say(IDLE, "and this for later")  # held back
    rig.say(DEAD, "last words")
    rig.say(READY, "something to recall")
    rig.do(Killed(source="user", pid=DEAD))
    rig.say(BLOCKED, "look it up", pump=False)
    while rig.proc(BLOCKED).state is not State.BLOCKED:
        rig.pump(1)
    rig.say(RUNNING, "go on", pump=False)
    rig.say(READY, "go on", pump=False)
    states = [rig.proc(pid).state for pid in pids]
    assert states == [State.RUNNING, State.READY, State.BLOCKED, State.IDLE, State.ZOMBIE]
    return rig


def broken(rig: Rig) -> str:
    """Which assert a check stops at: file, line, and what it says."""
    try:
        core.check(rig.kernel)
    except AssertionError as exc:
        return core.broken(exc)
    return "all is well"


def sealed(rig: Rig) -> None:
    """Write the PCBs as they are now, as if a step had changed them: it is not `dirty` that was forgotten."""
    for proc in rig.kernel.procs.values():
        if proc.pid in rig.kernel.policies:
            proc.policy = (proc.policy[0], rig.kernel.policies[proc.pid].state())
        rig.kernel.dirty(proc)
        rig.kernel.write("proc", records.key(proc.pid), records.encode(proc))


def test_a_machine_at_work_passes_every_check() -> None:
    rig = busy()
    assert broken(rig) == "all is well"
    sealed(rig)
    assert broken(rig) == "all is well"


def entry(proc: Process, index: int, **changes: object) -> None:
    """Change an entry of the queue."""
    proc.space.queue[index] = msgspec.structs.replace(proc.space.queue[index], **changes)


def add(proc: Process, page: int, tokens: int = 5, kind: Kind = Kind.MESSAGE, **fields: object) -> None:
    """Put an entry at the queue's end, as nobody does."""
    proc.space.queue.append(Entry(page, tokens, kind, Role.USER, **fields))  # type: ignore[arg-type]
    proc.space.turn += not proc.in_turn


def pend(proc: Process, line: Line, n: int = 0, at: int = 0, timer: int = 0, page: int = 0) -> None:
    """Make something pending, as nobody does; page 1 is the text, which is in no queue."""
    proc.seq += bool({page} - {0} - proc.undelivered())
    proc.raised += not n
    proc.pending.append(Pending(line, n or proc.raised, at, ((page, 5),) if page else (), "", timer))


def wait(proc: Process, **changes: object) -> None:
    """Let it wait for something else."""
    assert proc.wait is not None
    proc.wait = msgspec.structs.replace(proc.wait, **changes)


Breakage = Callable[[Rig, Process], object]
FLAGS: list[tuple[int, Breakage]] = [
    (IDLE, lambda rig, p: setattr(p, "in_turn", True)),
    (IDLE, lambda rig, p: setattr(p, "open", True)),
    (IDLE, lambda rig, p: setattr(p, "discard", True)),
    (DEAD, lambda rig, p: setattr(p, "in_turn", True)),
    (DEAD, lambda rig, p: setattr(p, "ids", (1,))),
    (READY, lambda rig, p: setattr(p, "in_turn", False)),
    (READY, lambda rig, p: setattr(p, "ids", (1,))),  # emitted by an instruction that has not begun
    (READY, lambda rig, p: setattr(p, "discard", True)),
    (RUNNING, lambda rig, p: setattr(p, "open", False)),
    (RUNNING, lambda rig, p: setattr(p, "restarted", True)),
    (BLOCKED, lambda rig, p: setattr(p, "ids", (1,))),
    (BLOCKED, lambda rig, p: setattr(p, "discard", True)),
]
BREAKAGES: list[tuple[str, int, Breakage]] = [
    *(("turn.py", pid, change) for pid, change in FLAGS),
    ("turn.py", IDLE, lambda rig, p: setattr(p, "turn_tokens", 1)),
    ("turn.py", IDLE, lambda rig, p: setattr(p, "turn_syscalls", 1)),
    ("turn.py", IDLE, lambda rig, p: setattr(p, "answers", ("m1",))),
    ("turn.py", IDLE, lambda rig, p: setattr(p.space, "turn", 0)),
    ("turn.py", READY, lambda rig, p: setattr(p, "turn_syscalls", 16)),
    ("turn.py", IDLE, lambda rig, p: pend(p, Line.IPC, page=1)),  # and nobody wakes it
    ("waiting.py", BLOCKED, lambda rig, p: setattr(p, "wait", None)),
    ("waiting.py", READY, lambda rig, p: setattr(p, "wait", Load(pid=p.pid, req=p.req, pages=(1,)))),
    ("waiting.py", BLOCKED, lambda rig, p: wait(p, pid=IDLE)),
    ("waiting.py", BLOCKED, lambda rig, p: setattr(p, "req", p.req + 1)),
    ("waiting.py", BLOCKED, lambda rig, p: setattr(p, "demand", True)),
    ("waiting.py", BLOCKED, lambda rig, p: wait(p, pages=(1,))),
    ("timers.py", IDLE, lambda rig, p: p.timers.clear()),
    ("timers.py", IDLE, lambda rig, p: p.timers.append(p.timers[0])),
    ("timers.py", IDLE, lambda rig, p: p.timers.append(p.unmask)),
    ("timers.py", IDLE, lambda rig, p: setattr(p, "unmask", 0)),
    ("timers.py", IDLE, lambda rig, p: setattr(p, "unmask", p.timers[0])),
    ("timers.py", IDLE, lambda rig, p: p.held.update({Line.IPC: 5})),  # it would end before its timer
    ("timers.py", IDLE, lambda rig, p: setattr(rig.kernel.timers[p.timers[0]], "pid", READY)),
    ("timers.py", IDLE, lambda rig, p: setattr(rig.kernel.timers[p.timers[0]], "id", 99)),
    ("timers.py", IDLE, lambda rig, p: setattr(rig.kernel.counters, "timer", 1)),
    ("dispatch.py", RUNNING, lambda rig, p: setattr(rig.kernel.slots[0], "tag", NOBODY)),
    ("dispatch.py", RUNNING, lambda rig, p: setattr(rig.kernel.slots[0], "tag", Tag(p.pid, p.instr, 9))),
    ("dispatch.py", RUNNING, lambda rig, p: setattr(p, "attempt", 9)),
    ("dispatch.py", RUNNING, lambda rig, p: rig.kernel.slots.append(msgspec.structs.replace(rig.kernel.slots[0]))),
    ("dispatch.py", READY, lambda rig, p: rig.kernel.lane_of(p.pid).ready.remove(p.pid)),
    ("dispatch.py", IDLE, lambda rig, p: rig.kernel.lane_of(p.pid).ready.add(p.pid, 0, ran=False)),
    ("dispatch.py", READY, lambda rig, p: rig.kernel.lane_of(p.pid).admission.leave(p.pid)),
    ("dispatch.py", IDLE, lambda rig, p: rig.kernel.lane_of(p.pid).admission.enter(p.pid, 0, lambda pid: 0)),
    ("dispatch.py", READY, lambda rig, p: rig.kernel.lane_of(p.pid).admission.outside.update({IDLE: 0})),
    ("admission.py", READY, lambda rig, p: rig.kernel.lane_of(p.pid).admission.outside.update({p.pid: 0})),
    ("admission.py", READY, lambda rig, p: rig.kernel.lane_of(p.pid).admission.restore({}, {p.pid: 0})),
    ("controller.py", IDLE, lambda rig, p: pend(p, Line.USER, n=p.pending[0].n, page=1)),
    ("controller.py", IDLE, lambda rig, p: pend(p, Line.USER, n=p.raised + 1, page=1)),
    ("controller.py", IDLE, lambda rig, p: pend(p, Line.USER)),  # a message without a page
    ("controller.py", IDLE, lambda rig, p: pend(p, Line.USER, at=rig.now + NS, page=1)),
    ("controller.py", DEAD, lambda rig, p: pend(p, Line.KILL, page=1)),
    ("controller.py", DEAD, lambda rig, p: pend(p, Line.TIMER, page=1)),  # of no timer
    ("controller.py", DEAD, lambda rig, p: [pend(p, Line.TIMER, timer=1, page=1) for _ in range(2)]),
    ("controller.py", DEAD, lambda rig, p: [pend(p, Line.IPC, page=1) for _ in range(PENDING_MAX + 1)]),
    ("outbox.py", IDLE, lambda rig, p: setattr(p, "acked", p.said + 1)),
    ("outbox.py", IDLE, lambda rig, p: setattr(p, "acked", -1)),
    ("outbox.py", IDLE, lambda rig, p: setattr(p, "acked", p.said)),  # and the messages are still there
    ("outbox.py", IDLE, lambda rig, p: setattr(p, "said", p.said + 1)),
    ("outbox.py", IDLE, lambda rig, p: setattr(p, "said", p.said - 1)),
    ("outbox.py", IDLE, lambda rig, p: setattr(p, "said", p.acked + OUTBOX_MAX + 1)),
    ("outbox.py", IDLE, lambda rig, p: rig.kernel.write("outbox", records.key(p.pid, 1), None)),
    ("life.py", IDLE, lambda rig, p: chosen(p, name="ready")),
    ("life.py", IDLE, lambda rig, p: rig.kernel.names.pop("idle")),
    ("life.py", IDLE, lambda rig, p: setattr(rig.kernel.counters, "pid", 3)),
    ("life.py", IDLE, lambda rig, p: setattr(p, "status", "killed")),
    ("life.py", IDLE, lambda rig, p: chosen(p, calls=())),
    ("life.py", IDLE, lambda rig, p: setattr(p, "illegal_row", ILLEGAL_MAX)),
    ("life.py", DEAD, lambda rig, p: p.timers.append(1)),
    ("life.py", DEAD, lambda rig, p: p.held.update({Line.USER: 1 << 62})),
    ("alloc.py", IDLE, lambda rig, p: add(p, rig.kernel.counters.page + 1)),
    ("alloc.py", IDLE, lambda rig, p: add(p, rig.proc(READY).space.queue[0].page)),
    ("alloc.py", IDLE, lambda rig, p: add(p, p.pending[0].pages[0][0])),  # seen before its delivery
    ("alloc.py", IDLE, lambda rig, p: setattr(p, "seq", 3)),
    ("alloc.py", IDLE, lambda rig, p: setattr(p, "seq", rig.kernel.counters.page)),
    ("alloc.py", IDLE, lambda rig, p: setattr(rig.kernel.counters, "page", rig.kernel.counters.page + 1)),
    ("segments.py", IDLE, lambda rig, p: setattr(p.space, "text", Entry(1, 7, Kind.TEXT, Role.SYSTEM))),
    ("segments.py", READY, lambda rig, p: chosen(p, blocks={"human": "seen by nobody"})),
    ("segments.py", READY, lambda rig, p: chosen(p, blocks={f"b{n}": "" for n in range(17)})),
    ("segments.py", IDLE, lambda rig, p: setattr(p.space, "data", Entry(last_own(p), 900, Kind.CORE, Role.SYSTEM))),
    ("queue.py", IDLE, lambda rig, p: entry(p, 0, tokens=3_000)),
    ("queue.py", IDLE, lambda rig, p: entry(p, 2, kind=Kind.STUB)),
    ("queue.py", IDLE, lambda rig, p: entry(p, 2, kind=Kind.TEXT)),
    ("queue.py", IDLE, lambda rig, p: entry(p, 2, group=p.space.group + 1)),
    ("queue.py", IDLE, lambda rig, p: entry(p, 0, shows=(1,))),
    ("queue.py", IDLE, lambda rig, p: entry(p, 0, kind=Kind.STUB)),  # the policy holds it
    ("queue.py", IDLE, lambda rig, p: drop(p, 1)),  # and the policy still holds it
    ("residency.py", IDLE, lambda rig, p: entry(p, 0, pinned=True, tokens=129)),
    ("residency.py", IDLE, lambda rig, p: entry(p, delta(p), pinned=True)),
    ("faults.py", READY, lambda rig, p: recall(rig, p, 700)),
    ("faults.py", IDLE, lambda rig, p: recall(rig, p, 5)),
    ("faults.py", READY, lambda rig, p: recall(rig, p, 5, role=Role.ASSISTANT)),
    ("faults.py", READY, lambda rig, p: [recall(rig, p, 5), entry(p, -1, role=Role.SYSTEM)]),
    ("address_space.py", READY, lambda rig, p: p.space.queue.append(p.space.queue[0])),
    ("address_space.py", READY, lambda rig, p: entry(p, 0, tokens=0)),
    ("address_space.py", READY, lambda rig, p: setattr(p.space, "turn", 99)),
    ("address_space.py", READY, lambda rig, p: [recall(rig, p, 5), p.space.recall.append(p.space.recall[0])]),
    ("address_space.py", READY, lambda rig, p: [recall(rig, p, 5), passage(p, (0, 9)), passage(p, (8, 20))]),
    ("state.py", READY, lambda rig, p: rig.kernel.seen.update({IDLE: 5})),
    ("state.py", READY, lambda rig, p: rig.kernel.write("timer", records.key(1), None)),
    ("state.py", READY, lambda rig, p: setattr(rig.kernel.slots[0], "model", "gone")),
    ("state.py", READY, lambda rig, p: rig.kernel.policies.update({99: rig.kernel.policies[IDLE]})),
]


def last_own(proc: Process) -> int:
    """A page of the process's that is in nobody's way."""
    return drop(proc, 0)


def drop(proc: Process, index: int) -> int:
    """Take an entry out of the queue, as nobody does."""
    gone = proc.space.queue.pop(index)
    proc.space.turn -= 1
    return gone.page


def delta(proc: Process) -> int:
    """Where the write to core memory stands."""
    return next(at for at, one in enumerate(proc.space.queue) if one.kind is Kind.DELTA)


def recall(rig: Rig, proc: Process, tokens: int, role: Role = Role.USER) -> None:
    """Have one of its own pages recalled."""
    page = drop(proc, 0)
    rig.kernel.policy(proc).drop(page)
    proc.space.recall = [Recalled(page, tokens, Kind.MESSAGE, role)]


def passage(proc: Process, span: tuple[int, int]) -> None:
    """Have a passage of the page that is recalled take its place, or stand behind it."""
    one = proc.space.recall[0]
    known = [entry for entry in proc.space.recall if entry.end]
    proc.space.recall = [*known, Recalled(one.page, 2, one.kind, one.role, start=span[0], end=span[1])]


@pytest.mark.parametrize("n", range(len(BREAKAGES)))
def test_what_is_broken_on_purpose_is_found_by_the_file_that_owns_it(n: int) -> None:
    file, pid, change = BREAKAGES[n]
    rig = busy()
    change(rig, rig.proc(pid))
    sealed(rig)
    assert f" {file}:" in broken(rig)


def test_a_change_that_nobody_called_dirty_is_found() -> None:
    rig = busy()
    chosen(rig.proc(IDLE), nice=5)
    assert "not dirty" in broken(rig)
    sealed(rig)
    assert broken(rig) == "all is well"


def test_a_free_slot_and_a_waiting_process_are_found_together() -> None:
    rig = busy()
    proc = rig.proc(RUNNING)
    rig.do(Killed(source="user", pid=READY))
    rig.kernel.lane_of(proc.pid).ready.add(proc.pid, 0, ran=False)
    rig.kernel.slots[0].tag = NOBODY
    proc.state, proc.open = State.READY, False
    sealed(rig)
    assert "a slot is free and somebody waits" in broken(rig)


def test_an_assert_that_fails_within_a_step_is_a_panic_that_names_file_and_line() -> None:
    rig = busy()
    proc = rig.proc(IDLE)
    timer, proc.timers = proc.timers[0], []
    with pytest.raises(KernelPanic, match=r"TimerFired: what cannot be false is, at timers\.py:\d+: .*proc\.timers"):
        core.step(rig.kernel, TimerFired(source="timer", timer=timer, at=rig.now + 600 * NS))


def test_a_mask_on_a_line_that_cannot_be_held_back_is_a_panic_when_it_ends() -> None:
    rig = busy()
    rig.proc(IDLE).held = {Line.MEMORY: 1 << 62}
    with pytest.raises(KernelPanic, match=r"what cannot be false is, at timers\.py"):
        core.step(rig.kernel, TimerFired(source="timer", timer=rig.proc(IDLE).unmask, at=rig.now + 601 * NS))


def test_the_answer_to_a_question_that_was_not_asked_is_a_panic() -> None:
    rig = busy()
    (answer,) = [event for event in rig.inbox if isinstance(event, Searched)]
    rig.proc(BLOCKED).wait = Load(pid=BLOCKED, req=answer.req, pages=())
    with pytest.raises(KernelPanic, match=r"at waiting\.py:\d+: the answer to another question"):
        core.step(rig.kernel, answer)


def test_a_refused_event_leaves_a_machine_that_passes() -> None:
    rig = busy()
    assert rig.do(Messaged(source="user", pid=DEAD, mid="m", parts=())).error
    assert isinstance(rig.proc(BLOCKED).wait, Search)
    assert broken(rig) == "all is well"


def test_whatever_else_breaks_within_a_step_is_a_panic_too() -> None:
    rig = Rig(echo)
    spec = Spec("guest", calls=("yield",))
    timers = (MovedTimer(0, (1 << 64) - 1, "tea"),)
    rig.do(Imported(source="user", spec=spec, pages=(), timers=timers))
    with pytest.raises(KernelPanic, match=r"TimerFired: OverflowError, at records.py:\d+: "):
        rig.tick(1)
