"""What a process may use is set apart before it is used, and a tree of processes has no more than its root."""

from __future__ import annotations

import pytest

from kernel.event import Changed
from kernel.limits import DAY_NS, TURN_SYSCALLS_MAX
from kernel.machine import held
from kernel.process import State
from kernel.rights import Limits
from tests.fakes import Rig, op
from tests.unit.test_family import ALL, machine, named, told


def speaking(*texts: str, **limits: int) -> tuple[Rig, int]:
    rig = machine(p=[op("send_message", text=text) for text in texts])
    return rig, rig.spawn("p", ALL, limits=Limits(**limits))


def test_tokens_of_a_day_are_never_exceeded_and_come_back_the_next_day() -> None:
    rig, pid = speaking(*["a larch and an oak"] * 9, day_tokens=60)
    for _ in range(9):
        rig.say(pid, "speak")
        assert rig.proc(pid).day_tokens <= 60
        assert rig.proc(pid).accounts.emitted <= 60
    assert "p may emit 60 tokens a day, and has; it may again from 00:00 UTC" in rig.messages[-1].text
    assert rig.proc(pid).state is State.IDLE
    before = rig.proc(pid).accounts.emitted
    assert held.rights(rig.kernel, pid).used.day_tokens == rig.proc(pid).day_tokens > 0
    rig.now += DAY_NS
    rig.kernel.begin(rig.now)
    assert held.rights(rig.kernel, pid).used.day_tokens == 0, "of another day"
    rig.program = rig.cpu.program = lambda job: op("yield")
    rig.say(pid, "speak")
    assert rig.proc(pid).accounts.emitted > before


def test_a_tree_has_no_more_than_its_root() -> None:
    rig = machine(
        boss=[op("spawn", name="a", task="go"), op("spawn", name="b", task="go"), op("wait"), op("wait")],
        a=[op("remember", text="a larch " * 3)] * 20,
        b=[op("remember", text="an oak " * 3)] * 20,
    )
    boss = rig.spawn("boss", ALL, limits=Limits(day_tokens=400))
    rig.say(boss, "go")
    spent = sum(proc.accounts.emitted for proc in rig.kernel.procs.values())
    assert 300 < spent <= 400
    assert rig.proc(boss).day_tokens == spent
    assert any("boss may emit 400 tokens a day" in message.text for message in rig.messages)


def test_two_that_run_at_once_share_what_is_left() -> None:
    rig = machine(boss=[op("spawn", name="a"), op("spawn", name="b")], a=[], b=[])
    boss = rig.spawn("boss", ALL)
    rig.say(boss, "go")
    rig.slots = 2
    rig.boot()
    rig.program = rig.cpu.program = lambda job: op("remember", text="a larch " * 9)
    rig.do(Changed(source="user", pid=boss, limits=Limits(day_tokens=500)))
    children = [named(rig, "boss/a"), named(rig, "boss/b")]
    before = sum(proc.accounts.emitted for proc in children)
    for child in children:
        rig.say(child.pid, "go", pump=False)
    assert sum(proc.state is State.RUNNING for proc in children) == 2
    assert sum(proc.lent for proc in children) <= 500
    rig.pump()
    assert 300 < rig.proc(boss).day_tokens <= 500
    children = [named(rig, "boss/a"), named(rig, "boss/b")]
    assert sum(proc.accounts.emitted for proc in children) - before == rig.proc(boss).day_tokens


@pytest.mark.parametrize("syscalls", [1, 3, TURN_SYSCALLS_MAX + 9])
def test_a_turn_has_so_many_syscalls(syscalls: int) -> None:
    rig = machine(p=[op("remember", text=f"n{n}") for n in range(40)])
    pid = rig.spawn("p", ALL, limits=Limits(turn_syscalls=syscalls))
    rig.say(pid, "go")
    assert rig.proc(pid).accounts.syscalls == min(syscalls, TURN_SYSCALLS_MAX)
    assert any("its budget" in text for text in told(rig, pid))


def test_a_turn_has_so_many_tokens_and_not_one_more() -> None:
    rig = machine(p=[op("remember", text="a larch and an oak " * 2)] * 9)
    pid = rig.spawn("p", ALL, limits=Limits(turn_tokens=50))
    rig.say(pid, "go")
    assert 25 < rig.proc(pid).accounts.emitted <= 50


def test_pages_timers_and_a_mailbox_are_limited_and_say_so() -> None:
    rig = machine(p=[op("set_timer", seconds=60, text="a"), op("set_timer", seconds=60, text="b")])
    pid = rig.spawn("p", ALL, limits=Limits(timers=1, pages=30))
    rig.say(pid, "go")
    assert len(rig.proc(pid).timers) == 1
    assert any(text.startswith("error: 1 timers are set already") for text in told(rig, pid))
    errors = [rig.say(pid, "more").error for _ in range(20)]
    assert errors[-1].startswith("process p has ")
    assert errors[-1].endswith("pages; 30 are allowed")


def test_a_child_has_its_parents_limits() -> None:
    rig = machine(boss=[op("spawn", name="a", limits={"timers": 9, "turn_tokens": 5})], a=[])
    boss = rig.spawn("boss", ALL, limits=Limits(timers=2, turn_syscalls=4))
    rig.say(boss, "go")
    assert named(rig, "boss/a").spec.limits == Limits(timers=2, turn_syscalls=4, turn_tokens=5)
