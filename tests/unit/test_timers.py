"""Timers and masks: when they fire, how late they say they are, what is held back until when."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.cpu.scripted import play
from drivers.disk import parcel
from kernel import records
from kernel.errors import SyscallError
from kernel.event import Imported, Killed, MovedTimer, Raised, TimerFired
from kernel.interrupts import Line
from kernel.limits import NS, TIMER_S_MAX, TIMERS_MAX
from kernel.process import State
from kernel.spec import Spec
from syscalls.abi import FULL
from syscalls.decode import decode
from tests.fakes import Rig, op


def test_a_timer_wakes_an_idle_process_and_a_repeating_one_coalesces() -> None:
    rig = Rig(
        play([op("set_timer", seconds=60, text="tea", every=60), op("yield"), op("send_message", text="tea time")])
    )
    pid = rig.spawn()
    rig.say(pid, "remind me")
    rig.tick(61)
    assert rig.messages[-1].text == "tea time"
    assert any(text == "[kernel] timer 1: tea" for text in rig.texts(pid))
    assert rig.kernel.timers[1].due == rig.kernel.timers[1].due // NS * NS + rig.kernel.timers[1].due % NS
    assert len(rig.armed) == 1


def test_a_timer_that_was_due_while_the_machine_was_down_fires_once_and_says_how_late() -> None:
    rig = Rig(play([op("set_timer", seconds=60, text="tea", every=60), op("yield")]))
    pid = rig.spawn()
    rig.say(pid, "remind me")
    rig.now += 3_600 * NS
    rig.boot()
    rig.tick(0)
    late = [text for text in rig.texts(pid) if "timer 1" in text and "late" in text]
    assert late == ["[kernel] timer 1, 3540 s late: tea"]


def test_a_cancelled_timer_does_not_fire() -> None:
    rig = Rig(play([op("set_timer", seconds=60, text="tea"), op("cancel_timer", timer=1), op("yield")]))
    pid = rig.spawn()
    rig.say(pid, "remind me, no, do not")
    rig.tick(100)
    assert rig.armed == {}
    assert rig.proc(pid).accounts.interrupts == 1  # the message alone


def test_a_masked_line_wakes_nobody_until_its_time_is_over() -> None:
    rig = Rig(play([op("mask", lines=["user", "timer"], seconds=600), op("yield"), op("send_message", text="yes?")]))
    pid = rig.spawn()
    rig.say(pid, "mask yourself")
    rig.say(pid, "are you there?", "m2")
    assert (rig.proc(pid).state, len(rig.proc(pid).pending), rig.messages) == (State.IDLE, 1, [])
    rig.boot()  # masks and what they hold back survive
    rig.tick(599)
    assert not rig.messages
    rig.tick(1)
    assert [message.answers for message in rig.messages] == [("m2",)]
    assert rig.proc(pid).held == {}
    assert rig.kernel.timers == {}


def test_unmasking_delivers_what_was_held_back_and_other_lines_are_never_held() -> None:
    instructions = [op("mask", lines=["timer"], seconds=3_600), op("sleep", seconds=5), op("yield")]
    rig = Rig(play([*instructions, op("unmask", lines=["timer"]), op("send_message", text="late")]))
    pid = rig.spawn()
    rig.say(pid, "hold your timers")
    rig.tick(60)
    assert [one.line for one in rig.proc(pid).pending] == [Line.TIMER]
    rig.say(pid, "hello")
    rig.say(pid, "and now?")
    assert rig.proc(pid).pending == []
    assert any("timer 2" in text for text in rig.texts(pid))
    with pytest.raises(SyscallError, match="memory"):
        decode(op("mask", lines=["memory"], seconds=1), "json", ("mask",), False)


def test_killing_a_masked_process_ends_its_masks() -> None:
    rig = Rig(play([op("mask", lines=["user"], seconds=600), op("yield"), op("send_message", text="back")]))
    pid = rig.spawn()
    rig.say(pid, "mask yourself")
    rig.say(pid, "later")
    rig.do(Killed(source="user", pid=pid))
    assert rig.kernel.timers == {}
    rig.spawn()
    assert [message.text for message in rig.messages] == ["back"]


def test_a_timer_may_be_set_for_a_time_that_lies_ahead() -> None:
    calls = [
        op("set_timer", at="1970-01-01 01:00", text="one o'clock"),
        op("set_timer", at="1970-01-01 00:00", text="gone by"),
        op("set_timer", at="noon", text="what"),
        op("set_timer", text="when"),
    ]
    rig = Rig(play([*calls, op("yield")]), "cpu.manual=whole")
    pid = rig.spawn()
    rig.say(pid, "remind me")
    texts = rig.texts(pid)
    assert "ok: timer 1 at 1970-01-01 01:00:00 UTC" in texts
    assert any("1970-01-01 00:00 is not ahead" in text and "it is 1970-01-01 00:16 UTC" in text for text in texts)
    assert any("'noon' is no time" in text for text in texts)
    assert any("needs seconds or at" in text for text in texts)
    rig.tick(3_599 - 1_000)
    assert rig.proc(pid).accounts.interrupts == 1
    rig.tick(1)
    assert rig.proc(pid).accounts.interrupts == 2


def lines(rig: Rig, pid: int, start: str) -> list[str]:
    """What the kernel told the process that begins so."""
    return [text for text in rig.texts(pid) if text.startswith(start)]


def test_a_timer_that_fires_late_says_by_how_much() -> None:
    for late, expected in ((0, "[kernel] timer 1: tea"), (7, "[kernel] timer 1, 7 s late: tea")):
        rig = Rig(play([op("set_timer", seconds=60, text="tea"), op("yield")]))
        pid = rig.spawn()
        rig.say(pid, "remind me")
        rig.now = rig.armed[1] + late * NS
        rig.do(TimerFired(source="timer", timer=1))
        rig.pump()
        assert lines(rig, pid, "[kernel] timer") == [expected]


def test_a_timer_that_fires_before_its_time_or_after_it_was_cancelled_changes_nothing() -> None:
    rig = Rig(play([op("set_timer", seconds=60, text="tea"), op("yield")]))
    pid = rig.spawn()
    rig.say(pid, "remind me")
    before = msgspec.msgpack.encode(rig.proc(pid))
    rig.do(TimerFired(source="timer", timer=1))  # a minute early
    rig.do(TimerFired(source="timer", timer=77))
    assert msgspec.msgpack.encode(rig.proc(pid)) == before
    assert rig.kernel.timers[1].due == rig.armed[1]


def test_a_repeating_timer_keeps_its_beat_however_late_it_is_noticed() -> None:
    rig = Rig(play([op("set_timer", seconds=60, text="tea", every=60), op("yield")]))
    rig.say(rig.spawn(), "remind me")
    first = rig.kernel.timers[1].due
    for late, beat in ((0, 1), (59, 2), (61, 4), (600, 15)):  # of those that were missed one is told
        rig.now = rig.kernel.timers[1].due + late * NS
        rig.do(TimerFired(source="timer", timer=1))
        rig.pump()
        assert rig.kernel.timers[1].due == first + beat * 60 * NS


def test_a_timer_that_is_still_pending_is_counted_and_not_raised_again() -> None:
    calls = [op("set_timer", seconds=10, text="tea", every=10), op("mask", lines=["timer"], seconds=100), op("yield")]
    rig = Rig(play(calls))
    pid = rig.spawn()
    rig.say(pid, "go")
    rig.tick(59)
    assert [one.timer for one in rig.proc(pid).pending] == [1]
    assert rig.proc(pid).accounts.coalesced == 4
    rig.tick(42)
    assert rig.proc(pid).pending == []
    assert lines(rig, pid, "[kernel] timer 1: tea")[:1] == ["[kernel] timer 1: tea"]


def test_a_timer_that_fired_is_gone_and_a_repeating_one_is_not() -> None:
    calls = [op("set_timer", seconds=5, text="once"), op("set_timer", seconds=5, text="often", every=5), op("yield")]
    rig = Rig(play(calls))
    pid = rig.spawn()
    rig.say(pid, "go")
    rig.tick(6)
    assert rig.proc(pid).timers == [2]
    assert [records.unkey(key) for key, _ in rig.disk.scan("timer")] == [(2,)]
    assert list(rig.armed) == [2]


def test_the_sixty_fifth_timer_is_refused_and_the_others_stay() -> None:
    rig = Rig(lambda job: op("set_timer", seconds=600, text="tea") if job.instr <= TIMERS_MAX + 1 else op("yield"))
    pid = rig.spawn()
    for _ in range(5):
        rig.say(pid, "more")
    assert len(rig.proc(pid).timers) == TIMERS_MAX == len(rig.kernel.timers)
    assert any(text.startswith("error: 64 timers are set already") for text in rig.texts(pid))


def test_a_timer_of_another_process_cannot_be_cancelled() -> None:
    rig = Rig(
        lambda job: (
            [op("set_timer", seconds=60, text="mine"), op("cancel_timer", timer=1)][job.pid - 1]
            if job.instr == 1
            else op("yield")
        ),
        "cpu.manual=whole",
    )
    one, two = rig.spawn("one"), rig.spawn("two")
    rig.say(one, "go")
    rig.say(two, "go")
    assert rig.proc(one).timers == [1]
    assert "error: no timer 1; timers are none" in rig.texts(two)


def test_lines_that_are_held_back_for_different_times_are_let_through_one_after_the_other() -> None:
    calls = [op("mask", lines=["ipc"], seconds=50), op("mask", lines=["device"], seconds=20), op("yield")]
    rig = Rig(play(calls))
    pid = rig.spawn()
    rig.say(pid, "go")
    rig.do(Raised(source="device", pid=pid, line=Line.DEVICE, text="the door"))
    rig.do(Raised(source="device", pid=pid, line=Line.IPC, text="the bell"))
    assert len(rig.armed) == 1  # one timer stands for both
    rig.tick(21)
    assert [one.line for one in rig.proc(pid).pending] == [Line.IPC]
    assert len(rig.armed) == 1
    rig.tick(30)
    assert rig.proc(pid).pending == []
    assert rig.armed == {}


def test_a_line_that_is_held_back_again_is_held_until_the_new_time() -> None:
    rig = Rig(play([op("mask", lines=["ipc"], seconds=60), op("mask", lines=["ipc"], seconds=10), op("yield")]))
    pid = rig.spawn()
    rig.say(pid, "go")
    rig.do(Raised(source="device", pid=pid, line=Line.IPC, text="the bell"))
    rig.tick(11)
    assert rig.proc(pid).pending == []


@given(st.lists(st.tuples(st.sampled_from(["set", "cancel", "hold", "let", "tick", "kill"]), st.integers(0, 50))))
def test_what_is_armed_is_what_is_known_whatever_was_set_cancelled_held_back_or_killed(
    moves: list[tuple[str, int]],
) -> None:
    todo: list[str] = []
    rig = Rig(lambda job: todo.pop(0) if todo else op("yield"))
    pid = rig.spawn()
    for what, n in moves:
        match what:
            case "set":
                todo.append(op("set_timer", seconds=1 + n, text="tea", every=n % 3 * 7))
            case "cancel":
                todo.append(op("cancel_timer", timer=n))
            case "hold":
                todo.append(op("mask", lines=[("timer", "ipc", "user")[n % 3]], seconds=1 + n))
            case "let":
                todo.append(op("unmask", lines=[("timer", "ipc", "user")[n % 3]]))
            case "tick":
                rig.tick(n)
            case _ if n > 45:
                rig.do(Killed(source="user", pid=pid))
                rig.spawn()
        rig.do(Raised(source="device", pid=pid, line=Line.DEVICE, text="go"))
        rig.pump()
        assert rig.armed == {timer.id: timer.due for timer in rig.kernel.timers.values()}
        assert all(due > rig.now for due in rig.armed.values())


def test_timers_that_move_to_a_machine_with_another_clock_wait_for_what_they_waited_for(tmp_path: Path) -> None:
    calls = [op("set_timer", seconds=600, text="rest"), op("set_timer", at="1970-01-01 01:00", text="date")]
    rig = Rig(play([*calls, op("yield")]))
    pid = rig.spawn()
    rig.ahead = 1_200 * NS  # it is 00:36
    rig.say(pid, "remind me")
    assert parcel.write(rig.disk, pid, tmp_path / "p.jsonl", 0)
    other = Rig(play([op("yield")]))
    other.now, other.ahead = 5_000 * NS, rig.now + rig.ahead - 5_000 * NS + 60 * NS  # the same time, a minute later
    assert not other.do(parcel.read(tmp_path / "p.jsonl")).error
    other.tick(530)
    assert len(other.kernel.timers) == 2
    other.tick(20)
    assert [timer.text for timer in other.kernel.timers.values()] == ["date"]
    other.ahead += 3_600 * NS
    other.tick(0)
    assert other.kernel.timers == {}


def test_a_relative_timer_of_a_machine_whose_clock_was_years_ahead_is_due_within_a_year() -> None:
    rig = Rig(play([op("yield")]))
    moved = (
        MovedTimer(100 * 365 * 86_400 * NS, 0, "late"),
        MovedTimer(0, 0, "gone by"),
        MovedTimer(1, 0, "date", True),
    )
    rig.do(Imported(source="user", spec=Spec("guest", calls=FULL), pages=(), timers=moved))
    left = [timer.due - rig.kernel.at for timer in rig.kernel.timers.values()]
    assert left == [TIMER_S_MAX * NS, 0, 0]
