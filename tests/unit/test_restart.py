"""Boots and checkpoints: what goes on, what begins anew, and what another window does to a process."""

import msgspec
import pytest

from drivers.cpu.scripted import echo, play
from kernel import checkpoint
from kernel.event import Checkpointed, Imported, Moved, Searched
from kernel.machine.measures import booted
from kernel.memory.page import Area, Kind, Origin, Role
from kernel.ports import Job
from kernel.process import State
from kernel.settings import Settings, apply
from kernel.spec import Spec
from kernel.state import Kernel
from syscalls.table import Table
from tests.fakes import Rig, op


def test_a_window_too_small_is_refused_with_the_sum() -> None:
    with pytest.raises(AssertionError, match="the window is too small: window 512 - text 0 - data"):
        Rig(echo, "window=512", "cpu.reply=400")


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


def test_a_message_of_larger_pages_than_the_window_has_now_is_told_of_and_panics_nobody() -> None:
    rig = Rig(play([op("mask", lines=["user"], seconds=60), op("yield")]), "window=8192", "cpu.reply=100")
    pid = rig.spawn(mask=("mask", "yield", "read"))
    rig.say(pid, "mask yourself")
    rig.say(pid, "word " * 2_000)
    shrunk(rig, "window=900", "cpu.reply=60")
    assert rig.proc(pid).pending[0].pages[0][1] > rig.kernel.budgets(rig.proc(pid)).queue
    rig.tick(60)
    assert rig.proc(pid).pending == []
    assert any("The message goes on for" in text for text in rig.texts(pid))


def test_a_page_that_was_pending_elsewhere_and_is_too_large_here_is_told_of() -> None:
    rig = Rig(echo, "window=1024", "cpu.reply=60")
    text = "word " * 1_000
    ids = rig.cpu.tokenize(text)
    page = Moved(Kind.MESSAGE, Origin.USER, Role.USER, Area.RECALL, 5, text, where="pending", ids=ids)
    pid = rig.do(Imported(source="user", spec=Spec("guest", calls=("send_message", "read")), pages=(page,))).pid
    rig.pump()
    assert rig.proc(pid).state is State.IDLE
    assert any("The message goes on for" in text for text in rig.texts(pid))


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


def test_a_boot_asks_again_for_what_a_process_waits_for_and_the_old_answer_is_nobodys() -> None:
    rig = Rig(play([op("search", query="amber"), op("send_message", text="found")]))
    pid = rig.spawn()
    rig.say(pid, "look it up", pump=False)
    while rig.proc(pid).state is not State.BLOCKED:
        rig.pump(1)
    (old,) = [event for event in rig.inbox if isinstance(event, Searched)]
    rig.boot()
    rig.pump()
    assert [message.text for message in rig.messages] == ["found"]
    before = msgspec.msgpack.encode(rig.proc(pid))
    rig.do(old)
    assert msgspec.msgpack.encode(rig.proc(pid)) == before


def test_every_timer_is_armed_again_by_a_boot() -> None:
    calls = [op("set_timer", seconds=9, text="one"), op("mask", lines=["timer"], seconds=60), op("yield")]
    rig = Rig(play(calls))
    rig.say(rig.spawn(), "go")
    armed = dict(rig.armed)
    assert len(armed) == 2
    rig.boot()
    assert rig.armed == armed


def test_a_refused_boot_leaves_a_running_kernel_as_it_was() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    config, slots, lanes = rig.kernel.config, list(rig.kernel.slots), rig.kernel.lanes
    refused = booted(rig.cpus, apply(Settings(), ["memory.policy=clairvoyant"]))
    assert "no such policy" in rig.do(refused).error
    assert rig.kernel.config is config
    assert rig.kernel.slots == slots
    assert rig.kernel.lanes is lanes
    rig.say(pid, "still there?")
    assert rig.messages[-1].text == "you said: still there?"


def test_a_checkpoint_leaves_nothing_derived_that_a_replay_would_not_have() -> None:
    rig = Rig(echo, "sched.quantum=4", slots=1)
    for name in ("one", "two", "three"):
        rig.say(rig.spawn(name), "a sentence of some length", pump=False)
    rig.pump(5)
    rig.do(Checkpointed(source="user"))
    rig.disk.commit(checkpoint.records(rig.disk, rig.kernel))
    again = Kernel(Table(), rig.cpus)
    checkpoint.load(again, rig.disk)
    for kernel in (rig.kernel, again):
        assert kernel.seen == {}
        assert kernel.policies == {}
        assert not any(slot.yielding for slot in kernel.slots)
    one, other = rig.kernel.lanes[""], again.lanes[""]
    assert [one.ready.take() for _ in range(3)] == [other.ready.take() for _ in range(3)]
    assert again.hash == rig.kernel.hash
