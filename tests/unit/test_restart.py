"""Boots and checkpoints: what goes on, what begins anew, and what another window does to a process."""

import pytest

from drivers.cpu.scripted import echo
from tests.fakes import Rig, op


def test_a_window_too_small_is_refused_with_the_sum() -> None:
    with pytest.raises(AssertionError, match="the window is too small: window 512 - text 0 - data"):
        Rig(echo, "window=512", "cpu.reply=400")


def test_what_was_to_be_thrown_away_is_not_gone_on_with_after_a_power_cut() -> None:
    rig = Rig(lambda job: op("send_message", text="word " * 40), "sched.quantum=8")
    pid = rig.spawn(abort=True)
    rig.say(pid, "boats", "m1", pump=False)
    rig.pump(2)
    assert rig.proc(pid).ids
    rig.say(pid, "trains", "m2", pump=False)
    assert rig.proc(pid).discard
    rig.boot()
    assert (rig.proc(pid).discard, rig.proc(pid).ids) == (False, ())
    rig.pump()
    assert [message.answers for message in rig.messages] == [("m1", "m2")]
