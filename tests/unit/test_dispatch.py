"""Who has a slot: one at a time, for a quantum, and the instruction goes on where it was."""

from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.cpu.scripted import echo
from kernel.event import Killed, Preempt, Raised, Run
from kernel.interrupts import Line
from kernel.process import State
from kernel.scheduler import SCHEDULERS
from kernel.state import Step
from tests.fakes import Rig, op


def test_a_quantum_preempts_and_the_instruction_goes_on_where_it_was() -> None:
    rig = Rig(echo, "sched.quantum=5", slots=1)
    one, two = rig.spawn("one"), rig.spawn("two")
    rig.say(one, "a sentence of some length", "a", pump=False)
    rig.say(two, "another sentence of the same sort", "b", pump=False)
    rig.pump()
    assert {message.text for message in rig.messages} == {
        "you said: a sentence of some length",
        "you said: another sentence of the same sort",
    }
    order = [job.pid for job in rig.jobs]
    assert order[:6] == [one, two, one, two, one, two]  # round robin
    assert all(job.instr == 1 and job.tag.attempt == 1 for job in rig.jobs)


def runs(step: Step) -> list[Run]:
    """What a step starts."""
    return [effect for effect in step.effects if isinstance(effect, Run)]


def test_a_slot_that_becomes_free_is_given_away_in_the_same_step() -> None:
    rig = Rig(echo, "sched.quantum=8", slots=2)
    pids = [rig.spawn(f"p{n}") for n in range(3)]
    begun = [run.pid for pid in pids for run in runs(rig.say(pid, "a sentence of some length", pump=False))]
    assert begun == pids[:2]
    step = rig.do(rig.inbox.pop(0))
    assert [(run.pid, run.slot) for run in runs(step)] == [(pids[2], 0)]


def test_a_run_says_what_was_emitted_before_and_is_the_same_attempt() -> None:
    rig = Rig(echo, "sched.quantum=5")
    pid = rig.spawn()
    rig.say(pid, "a sentence of some length")
    assert [len(job.ids) for job in rig.jobs] == [5 * n for n in range(len(rig.jobs))]
    assert {(job.instr, job.tag.attempt) for job in rig.jobs} == {(1, 1)}
    assert len(rig.jobs) > 2


def test_an_attempt_is_numbered_anew_after_a_boot_although_what_was_emitted_stays() -> None:
    rig = Rig(echo, "sched.quantum=5")
    pid = rig.spawn()
    rig.say(pid, "a sentence of some length", pump=False)
    rig.pump(2)
    rig.jobs.clear()
    rig.boot()
    (job,) = rig.jobs
    assert (job.instr, job.tag.attempt, len(job.ids)) == (1, 2, 10)


def test_a_process_killed_and_started_again_runs_beside_its_former_life_until_that_stops() -> None:
    rig = Rig(echo, "sched.quantum=8", slots=2)
    pid = rig.spawn()
    rig.say(pid, "the first life", pump=False)
    old = rig.inbox.pop(0)
    step = rig.do(Killed(source="user", pid=pid))
    assert Preempt(0) in step.effects
    rig.spawn()
    rig.say(pid, "the second life", pump=False)
    assert [(slot.pid, slot.tag.instr) for slot in rig.kernel.slots] == [(pid, 1), (pid, 2)]
    rig.do(old)
    assert [(slot.pid, slot.tag.instr) for slot in rig.kernel.slots] == [(0, 0), (pid, 2)]
    rig.pump()
    assert [message.text for message in rig.messages] == ["you said: the second life"]


def test_a_process_of_a_higher_level_displaces_a_running_one_and_asks_once() -> None:
    rig = Rig(lambda job: op("send_message", text="word " * 150), "sched.policy=mlfq", "cpu.reply=300", "window=4096")
    low, high = rig.spawn("low"), rig.spawn("high")
    rig.say(low, "talk", pump=False)
    rig.pump(5)  # it has sunk
    assert rig.proc(low).state is State.RUNNING
    asked = rig.say(high, "hello", pump=False).effects
    assert [effect for effect in asked if isinstance(effect, Preempt)] == [Preempt(0)]
    assert rig.kernel.slots[0].yielding
    again = rig.do(Raised(source="device", pid=low, line=Line.IPC, text="it rang")).effects
    assert not [effect for effect in again if isinstance(effect, Preempt)]
    rig.do(rig.inbox.pop(0))
    assert rig.kernel.slots[0].pid == high
    assert not rig.kernel.slots[0].yielding


def test_a_slot_that_is_asked_back_already_is_not_asked_back_again() -> None:
    rig = Rig(lambda job: op("send_message", text="word " * 40), "sched.quantum=8")
    pid = rig.spawn(abort=True)
    rig.say(pid, "boats", pump=False)
    assert Preempt(0) in rig.say(pid, "trains", pump=False).effects
    assert Preempt(0) not in rig.do(Killed(source="user", pid=pid)).effects


def test_a_slot_that_was_asked_back_and_came_back_otherwise_is_nobodys() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    rig.say(pid, "hello", pump=False)
    rig.do(Killed(source="user", pid=pid))
    assert rig.kernel.slots[0].yielding
    rig.pump()
    assert (rig.kernel.slots[0].pid, rig.kernel.slots[0].yielding) == (0, False)


def test_who_waits_outside_comes_in_when_a_turn_ends_and_each_is_answered_once() -> None:
    rig = Rig(echo, "sched.flight=700", "sched.quantum=8", "cpu.manual=whole", slots=3)
    pids = [rig.spawn(f"p{n}") for n in range(3)]
    for pid in pids:
        rig.say(pid, "a sentence of some length", pump=False)
    lane = rig.kernel.lanes[""]
    assert [rig.proc(pid).state for pid in pids] == [State.RUNNING, State.SUSPENDED, State.SUSPENDED]
    assert list(lane.admission.outside) == pids[1:]
    rig.pump()
    assert sorted(message.pid for message in rig.messages) == pids
    assert not lane.admission.outside


@settings(max_examples=40, deadline=None)
@given(
    moves=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["say", "pump", "kill", "boot"])), max_size=30),
    policy=st.sampled_from(sorted(SCHEDULERS)),
    slots=st.integers(1, 3),
)
def test_no_slot_is_idle_while_somebody_is_ready(moves: list[tuple[int, str]], policy: str, slots: int) -> None:
    rig = Rig(echo, "sched.quantum=6", f"sched.policy={policy}", slots=slots)
    pids = [rig.spawn(f"p{n}") for n in range(4)]
    for who, what in moves:
        match what:
            case "say":
                rig.say(pids[who], "a sentence of some length", pump=False)
            case "pump":
                rig.pump(1 + who)
            case "boot" if who == 0:
                rig.boot()
            case "kill" if rig.proc(pids[who]).state is not State.ZOMBIE:
                rig.do(Killed(source="user", pid=pids[who]))
        busy = sum(slot.pid != 0 for slot in rig.kernel.slots)
        ready = sum(proc.state is State.READY for proc in rig.kernel.procs.values())
        assert busy == slots or not ready
