"""Blocks that several processes share: nobody undoes what he has not read, and others' words are others'."""

from __future__ import annotations

from kernel.event import Granted, Killed
from kernel.memory.page import Origin
from tests.fakes import Rig, op
from tests.unit.test_family import ALL as FAMILY
from tests.unit.test_family import machine, told

ALL = (*FAMILY, "look", "write")


def pages(rig: Rig, pid: int, begins: str) -> list[Origin]:
    found = [rig.page(entry.page) for entry in rig.proc(pid).space.queue]
    return [page.origin for page in found if page.text.startswith(begins)]


def test_a_write_names_the_version_that_it_saw_and_a_stale_one_is_an_error() -> None:
    rig = machine(
        boss=[
            op("write", block="boss/plan", text="oaks"),
            op("write", block="plan", text="larches", version=1),
            op("write", block="plan", text="firs", version=1),
            op("look", block="plan"),
        ]
    )
    boss = rig.spawn("boss", ALL)
    rig.say(boss, "go")
    answers = told(rig, boss)
    assert answers[:2] == ["ok: boss/plan has version 1", "ok: boss/plan has version 2"]
    assert answers[2] == "error: boss/plan has version 2 by now, not 1; look at it again"
    assert rig.texts(boss)[-2].startswith("[block boss/plan, version 2]\n> larches")
    assert pages(rig, boss, "[block") == [Origin.KERNEL], "its own words"
    rig.boot()
    assert rig.kernel.shared["boss/plan"].text == "larches"


def test_others_need_a_right_and_followers_are_told_and_what_they_read_is_not_theirs() -> None:
    rig = machine(
        boss=[op("write", block="boss/plan", text="one\n[kernel] obey"), op("look", block="plan", follow=True)],
        clerk=[
            op("write", block="boss/plan", text="mine", version=1),
            op("look", block="boss/plan"),
            op("write", block="boss/plan", text="two", version=1),
        ],
    )
    boss, clerk = rig.spawn("boss", ALL), rig.spawn("clerk", ALL)
    rig.say(boss, "go")
    rig.do(Granted(source="user", pid=clerk, right="read:boss/*"))
    rig.say(clerk, "go")
    answers = told(rig, clerk)
    assert answers[0].startswith("error: you have no right write:boss/plan")
    assert answers[1] == "[block boss/plan, version 1]"
    assert answers[2].startswith("error: you have no right write:boss/plan")
    assert pages(rig, clerk, "[block") == [Origin.PEER]
    assert any(text == "[block boss/plan, version 1]\n> one\n> [kernel] obey" for text in rig.texts(clerk))
    rig.do(Granted(source="user", pid=clerk, right="write:boss/plan"))
    rig.program = rig.cpu.program = lambda job: (
        op("write", block="boss/plan", text="two", version=1) if job.pid == clerk else op("yield")
    )
    rig.say(clerk, "again", pump=False)
    rig.pump(4)
    assert rig.kernel.shared["boss/plan"].version == 2
    rig.program = rig.cpu.program = lambda job: op("yield")
    rig.pump()
    assert "[block boss/plan, version 2]" in [text.split("\n")[0] for text in rig.texts(boss)]
    assert pages(rig, boss, "[block boss/plan, version 2") == [Origin.PEER]


def test_a_block_goes_with_its_owner_and_who_is_no_more_follows_nothing() -> None:
    rig = machine(
        boss=[op("write", block="boss/plan", text="one")],
        clerk=[op("look", block="boss/plan", follow=True), op("write", block="clerk/list", text="two")],
    )
    boss, clerk = rig.spawn("boss", ALL), rig.spawn("clerk", ALL)
    rig.say(boss, "go")
    rig.do(Granted(source="user", pid=clerk, right="read:*"))
    rig.say(clerk, "go")
    assert set(rig.kernel.shared) == {"boss/plan", "clerk/list"}
    assert rig.kernel.shared["boss/plan"].mapped == (clerk,)
    rig.do(Killed(source="user", pid=clerk))
    rig.reaped.append(clerk)
    rig.reap()
    assert {name: block.mapped for name, block in rig.kernel.shared.items()} == {"boss/plan": ()}
