"""What a stop of the CPU means: an instruction, an error, a failure, or nothing any more."""

import msgspec
import pytest

from drivers.cpu.scripted import echo, play
from drivers.disk.memory import MemoryDisk
from kernel.errors import KernelPanic
from kernel.event import Killed, Outcome, Tag, Trapped, What
from kernel.limits import SAME_FAILED_MAX
from kernel.machine import views
from kernel.process import State
from kernel.replay import Replay
from syscalls.abi import NAMES
from syscalls.decode import decode, in_words
from syscalls.table import Table
from tests.fakes import Rig, op


def test_garbage_for_ever_ends_the_process_with_a_status_and_never_the_kernel() -> None:
    rig = Rig(lambda job: "garbage")
    pid, other = rig.spawn(), rig.spawn("other")
    rig.say(pid, "hello")
    assert rig.proc(pid).state is State.ZOMBIE
    assert rig.proc(pid).status.startswith("5 illegal instructions in a row")
    assert rig.proc(other).state is State.IDLE


def test_an_error_names_what_was_wrong_and_what_is_allowed_and_the_process_may_mend_it() -> None:
    rig = Rig(play([op("exit"), op("send_message", text="sorry")]))
    pid = rig.spawn(mask=("send_message", "search"))
    rig.say(pid, "hello")
    assert "error: exit is not allowed here; allowed are send_message, search" in rig.texts(pid)
    assert rig.messages[-1].text == "sorry"
    assert rig.proc(pid).illegal_row == 0


def test_a_device_that_fails_thrice_in_a_row_kills_the_process_and_twice_does_not() -> None:
    for failures, state in ((2, State.IDLE), (3, State.ZOMBIE)):
        rig = Rig(echo)
        rig.cpu.failures = failures
        pid = rig.spawn()
        rig.say(pid, "hello")
        assert rig.proc(pid).state is state


def test_a_trap_of_a_run_nobody_waits_for_changes_nothing() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    rig.say(pid, "hello")
    before = rig.proc(pid)
    seen = (before.accounts.emitted, before.said, before.seq)
    rig.do(Trapped(source="cpu0", slot=0, tag=Tag(pid, 1, 1), outcome=Outcome.SYSCALL, text="x", ids=(1,)))
    after = rig.proc(pid)
    assert (after.accounts.emitted, after.said, after.seq) == seen


def test_what_a_killed_process_had_evaluated_is_forgotten_with_its_turn() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    rig.say(pid, "hello", pump=False)
    rig.do(Killed(source="user", pid=pid))
    rig.pump()  # its last run comes in, and nobody waits for it
    assert rig.kernel.seen == {}
    assert rig.kernel.slots[0].pid == 0


def test_a_run_that_fails_while_it_is_to_be_thrown_away_is_thrown_away() -> None:
    rig = Rig(lambda job: op("send_message", text="word " * 40), "sched.quantum=8")
    rig.answering = False
    pid = rig.spawn(abort=True)
    rig.say(pid, "boats", "m1")
    rig.say(pid, "trains", "m2")
    assert rig.proc(pid).discard
    rig.do(Trapped(source="cpu0", slot=0, tag=Tag(pid, 1, 1), outcome=Outcome.FAILED, error="no power"))
    assert not rig.proc(pid).discard
    assert rig.proc(pid).answers == ("m1", "m2")  # the second one is in view of what it says instead
    assert rig.proc(pid).failed_row == 1


def test_tokens_and_work_of_a_run_nobody_waits_for_are_still_accounted() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    rig.say(pid, "hello", pump=False)
    rig.do(Killed(source="user", pid=pid))
    assert rig.proc(pid).accounts.emitted == 0
    rig.pump()
    assert rig.proc(pid).accounts.emitted > 0
    assert rig.proc(pid).said == 0


def test_a_success_between_two_failures_begins_the_row_anew() -> None:
    rig = Rig(lambda job: op("core_append", block="b", text="x") if job.instr < 3 else op("yield"))
    pid = rig.spawn()
    rig.cpu.failures = 2
    rig.say(pid, "go", pump=False)
    rig.pump(3)  # failed, failed, done
    assert rig.proc(pid).failed_row == 0
    rig.cpu.failures = 2
    rig.pump()
    assert rig.proc(pid).state is State.IDLE


def test_four_illegal_instructions_are_forgiven_by_the_first_legal_one() -> None:
    rig = Rig(lambda job: op("yield") if job.instr % 5 == 0 else "garbage")
    pid = rig.spawn()
    for _ in range(3):
        rig.say(pid, "again")
    assert rig.proc(pid).state is State.IDLE
    assert (rig.proc(pid).accounts.illegal, rig.proc(pid).illegal_row) == (12, 0)


def test_a_position_beyond_the_window_stops_the_machine() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    rig.answering = False
    rig.say(pid, "hello")
    with pytest.raises(KernelPanic, match=r"process 1 reached position 2049 of window 2048"):
        rig.do(Trapped(source="cpu0", slot=0, tag=Tag(pid, 1, 1), outcome=Outcome.SYSCALL, kv=2049))


def test_a_trap_of_a_slot_that_there_is_not_any_more_changes_nothing() -> None:
    rig = Rig(echo, slots=2)
    pid = rig.spawn()
    before = msgspec.msgpack.encode(rig.proc(pid))
    rig.do(Trapped(source="cpu5", slot=5, tag=Tag(pid, 1, 1), outcome=Outcome.SYSCALL, text="x", ids=(1,)))
    assert msgspec.msgpack.encode(rig.proc(pid)) == before


FAILING = {
    "a timer that is gone": op("cancel_timer", timer=7),
    "text that is not there": op("core_replace", block="human", old="tea", new="coffee"),
    "a page that is not in view": op("pin", page=9_999),
    "pages that do not exist": op("read", pages=[9_999]),
    "a date that is none": op("set_timer", at="tomorrow", text="x"),
}


@pytest.mark.parametrize("call", FAILING.values(), ids=FAILING)
def test_the_same_failing_call_again_and_again_ends_the_turn_and_tells_the_user_what_was_tried(call: str) -> None:
    rig = Rig(lambda job: call)
    pid = rig.spawn(blocks={"human": "Likes milk."})
    for n in range(1, 4):
        rig.say(pid, "try", f"m{n}")
        assert (rig.proc(pid).state, rig.proc(pid).accounts.syscalls) == (State.IDLE, n * SAME_FAILED_MAX)
        assert rig.messages[-1].answers == (f"m{n}",), "whoever waits has an answer"
    tried = in_words(decode(call, "json", NAMES, truncated=False))
    assert rig.messages[-1].text.startswith(f"[kernel] The turn was ended: {tried} was tried 3 times and failed each")
    name = tried.split(" ", 1)[0]
    assert rig.texts(pid)[-1] == f"[kernel] The turn was ended: {name} was tried 3 times and failed each time.", (
        "the process knows it, too, and what it said stands in no frame of the kernel's"
    )
    assert rig.proc(pid).accounts.illegal == 0
    assert replayed(rig.disk)


def test_a_process_is_not_killed_for_trying() -> None:
    calls = [op("cancel_timer", timer=n) for n in range(1, 12)]
    rig = Rig(play([*calls, op("send_message", text="I gave up")]))
    pid = rig.spawn()
    rig.say(pid, "try")
    assert (rig.proc(pid).state, rig.messages[-1].text) == (State.IDLE, "I gave up")
    assert (rig.proc(pid).illegal_row, rig.proc(pid).accounts.illegal) == (0, 0)


def test_a_call_that_fails_now_and_then_or_in_another_turn_goes_on() -> None:
    wrong, right = op("cancel_timer", timer=7), op("remember", text="tea")
    rig = Rig(play([wrong, right, wrong, right, op("yield"), wrong, op("yield"), wrong, right, wrong, right, wrong]))
    pid = rig.spawn()
    for n in range(2):
        rig.say(pid, "try")
        assert (rig.messages, rig.proc(pid).tried) == ([], {}), n
    rig.say(pid, "try")
    assert [message.text.count("3 times") for message in rig.messages] == [1]


def test_a_call_that_the_mask_forbids_fails_and_is_not_illegal() -> None:
    rig = Rig(lambda job: op("exit"))
    pid = rig.spawn(mask=("send_message", "search"))
    for _ in range(3):
        rig.say(pid, "go")
    assert (rig.proc(pid).state, rig.proc(pid).accounts.illegal) == (State.IDLE, 0)


def test_what_was_tried_is_known_after_a_restart() -> None:
    rig = Rig(lambda job: op("read", pages=[9_999]))
    pid = rig.spawn()
    rig.say(pid, "try", pump=False)
    for _ in range(20):
        rig.pump(1)
        if not rig.proc(pid).in_turn:
            break
        rig.boot()
        rig.messages = []
    assert rig.proc(pid).accounts.syscalls == SAME_FAILED_MAX
    assert replayed(rig.disk)


def test_the_log_names_the_call_that_a_run_was() -> None:
    rig = Rig(play([op("set_timer", seconds=5, text="tea"), "nonsense", op("yield")]))
    pid = rig.spawn()
    rig.say(pid, "go")
    runs = [note.text for entry in views.log(rig.disk, 0) for note in entry.notes if note.what is What.RUN]
    assert [run.split(",")[0] for run in runs] == ["set_timer", "syscall", "yield"]


def replayed(disk: MemoryDisk) -> bool:
    """Whether the journal comes to the hashes that it has."""
    return not any(step.why for step in Replay(disk, Table()).steps())
