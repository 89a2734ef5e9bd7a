"""Timers and masks: when they fire, how late they say they are, what is held back until when."""

import pytest

from drivers.cpu.scripted import play
from kernel.errors import SyscallError
from kernel.event import Killed
from kernel.interrupts import Line
from kernel.process import State
from syscalls.decode import decode
from tests.fakes import NS, Rig, op


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
    rig = Rig(play([*calls, op("yield")]))
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
