"""Boots and checkpoints: what goes on, what begins anew, and what another window does to a process."""

import pytest

from drivers.cpu.scripted import echo
from kernel.ports import Job
from kernel.process import State
from kernel.settings import apply
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


def shrunk(rig: Rig, *changes: str) -> None:
    """Boot the same disk with other settings."""
    rig.settings = apply(rig.settings, list(changes))
    rig.boot()


def test_a_boot_with_a_smaller_window_lets_go_of_the_pins_that_do_not_fit_it() -> None:
    def program(job: Job) -> str:
        pages = [page.page.id for page in job.pages if page.page.text.startswith("keep")]
        return op("pin", page=pages[-1]) if job.instr % 2 else op("yield")

    rig = Rig(program, "window=8192", "cpu.reply=100")
    pid = rig.spawn(mask=("pin", "yield"))
    rig.say(pid, "keep this")
    rig.say(pid, "keep " + "a long page " * 90)
    assert sum(entry.pinned for entry in rig.proc(pid).space.queue) == 2
    shrunk(rig, "window=1024", "cpu.reply=60")
    space = rig.proc(pid).space
    assert 0 < space.pinned() <= rig.kernel.budgets(rig.proc(pid)).pinned
    assert [rig.page(entry.page).text for entry in space.queue if entry.pinned] == ["keep this"]
    rig.say(pid, "and it goes on")
    assert rig.proc(pid).state is State.IDLE
