"""Who was given a right over one process never holds it over another of that name: it follows, and ends with it."""

from __future__ import annotations

import pytest

from kernel.audit import audit as audited
from kernel.errors import Exists
from kernel.event import Changed, Consented, Filed, Forked, Granted, Imported, Killed, Moved, Renamed
from kernel.limits import NAME_CHARS_MAX
from kernel.machine import held
from kernel.memory.page import Area, Kind, Origin, Role
from kernel.process import Consent, State
from kernel.replay import Replay
from kernel.spec import Spec
from syscalls.abi import FULL
from syscalls.table import Table
from tests.fakes import Rig, op
from tests.unit.test_family import machine, told
from tests.unit.test_shared import ALL


def give(rig: Rig, pid: int, *rights: str) -> None:
    for right in rights:
        assert not rig.do(Granted(source="user", pid=pid, right=right)).error


def rename(rig: Rig, pid: int, name: str) -> str:
    return rig.do(Renamed(source="user", pid=pid, name=name)).error


def remove(rig: Rig, pid: int) -> None:
    rig.do(Killed(source="user", pid=pid))
    rig.reaped.append(pid)
    rig.reap()


def rights(rig: Rig, pid: int) -> list[str]:
    return [grant.right for grant in rig.proc(pid).grants]


def replayed(rig: Rig) -> None:
    assert not audited(rig.disk).findings
    assert not any(taken.why for taken in Replay(rig.disk, Table()).steps())


def letters(rig: Rig, pid: int) -> list[str]:
    """What others have sent to a process."""
    return [text for text in rig.texts(pid) if "> hello" in text]


def test_caps_say_of_a_mapped_archive_what_the_call_does() -> None:
    rig = machine(clerk=[op("search", query="oaks", whose=name) for name in ("clerk", "boss", "nobody")])
    clerk, _ = rig.spawn("clerk", ALL), rig.spawn("boss", ALL)
    give(rig, clerk, "search:*")
    assert not rig.do(Changed(source="user", pid=clerk, archives=("clerk", "boss", "nobody"))).error
    assert held.rights(rig.kernel, clerk).archives == {"clerk": True, "boss": True, "nobody": False}
    rig.proc(clerk).grants = ()
    assert held.rights(rig.kernel, clerk).archives == {"clerk": True, "boss": False, "nobody": False}
    rig.say(clerk, "go")
    own, boss, nobody = told(rig, clerk)
    assert not own.startswith("error")
    assert boss.startswith("error: you have no right search:boss")
    assert nobody.startswith("error: no process nobody")


def test_a_right_follows_the_process_that_is_renamed_and_whoever_has_the_name_next_is_not_meant() -> None:
    rig = machine(clerk=[op("send", to=name, text="hello") for name in ("ann", "bob")])
    ann, clerk = rig.spawn("ann", ALL), rig.spawn("clerk", ALL)
    give(rig, clerk, "send:ann", "search:ann", "kill:ann/*", "wait:an*")
    assert not rig.do(Changed(source="user", pid=clerk, archives=("ann",), tainted={"send:ann": "deny"})).error
    assert not rename(rig, ann, "bob")
    other = rig.spawn("ann", ALL)
    assert rights(rig, clerk) == ["send:bob", "search:bob", "kill:bob/*", "wait:an*"], "a pattern is of names"
    assert (rig.proc(clerk).spec.archives, rig.proc(clerk).spec.tainted) == (("bob",), {"send:bob": "deny"})
    rig.say(clerk, "go")
    assert told(rig, clerk)[0].startswith("error: you have no right send:ann")
    assert (len(letters(rig, ann)), len(letters(rig, other))) == (1, 0)
    replayed(rig)


def comes_back(rig: Rig, how: str) -> int:
    """Another process of the name ann; its number."""
    match how:
        case "spawned":
            return rig.spawn("ann", ALL)
        case "imported":
            pages = (Moved(Kind.MESSAGE, Origin.IMPORT, Role.USER, Area.RECALL, 0, "hello"),)
            spec = Spec("ann", FULL, archives=("clerk",))
            return rig.do(Imported(source="user", spec=spec, pages=pages)).pid
        case "forked":
            return rig.do(Forked(source="user", pid=rig.kernel.names["third"], name="ann")).pid
        case _:
            assert not rename(rig, rig.kernel.names["third"], "ann")
            return rig.kernel.names["ann"]


@pytest.mark.parametrize("how", ["spawned", "imported", "forked", "renamed"])
def test_a_right_ends_with_the_process_and_one_that_comes_back_by_its_name_is_another(how: str) -> None:
    rig = machine(clerk=[op("send", to="ann", text="hello")])
    ann, clerk, third = (rig.spawn(name, ALL) for name in ("ann", "clerk", "third"))
    give(rig, third, "send:clerk")
    give(rig, clerk, "send:ann", "remember:ann", "search:ann", "read:ann/plan", "kill:ann/*", "wait:third")
    policy = {"send:ann": "allow", "search:ann": "deny", "send": "ask"}
    assert not rig.do(Changed(source="user", pid=clerk, archives=("ann",), tainted=policy)).error
    remove(rig, ann)
    assert rights(rig, clerk) == ["wait:third"]
    assert rig.proc(clerk).spec.archives == ()
    assert rig.proc(clerk).spec.tainted == {"search:ann": "deny", "send": "ask"}, "what is stricter stays"
    new = comes_back(rig, how)
    if how != "renamed":
        assert not rights(rig, new), "of what the other held, or what it is a copy of, it has nothing"
    assert not any(held.rights(rig.kernel, new).archives.values()), "what it maps it may not search"
    rig.say(clerk, "go")
    assert told(rig, clerk) == [
        "error: you have no right send:ann any more: the end of ann took it; you hold "
        + ("wait:ann" if how == "renamed" else "wait:third")
    ]
    assert not letters(rig, new)
    replayed(rig)


def test_a_child_that_was_waited_for_takes_what_was_given_over_it_and_by_it_along() -> None:
    rig = machine(
        boss=[
            op("spawn", name="clerk", calls=["send", "yield"]),
            op("spawn", name="ann", calls=["write", "grant", "spawn", "exit"], task="go"),
            op("yield"),
            op("grant", child="clerk", right="send:boss/ann"),
            op("wait", child="ann"),
            op("spawn", name="ann", calls=["yield"]),
            op("send", to="clerk", text="go"),
        ],
        ann=[op("write", block="plan", text="oaks"), op("exit", status="over")],
        clerk=[op("send", to="boss/ann", text="hello")],
    )
    boss = rig.spawn("boss", ALL)
    give(rig, boss, "send:boss/*")
    rig.say(boss, "go")
    rig.say(boss, "go on")
    clerk = rig.kernel.names["boss/clerk"]
    assert rig.proc(rig.kernel.names["boss/ann"]).state is not State.ZOMBIE, "another one"
    assert told(rig, clerk)[-1].startswith("error: you have no right send:boss/ann any more: the end of boss/ann")
    assert not rig.kernel.shared, "its block has gone with it"
    replayed(rig)


def crew() -> tuple[Rig, int]:
    """A process with a child and a grandchild, which share a block, while a clerk holds rights over all of them."""
    rig = machine(
        crew=[op("spawn", name="ann", task="go"), op("write", block="crew/plan", text="oaks")],
        team=[op("look", block="plan"), op("send", to="ann", text="hello")],
        ann=[op("spawn", name="deep", calls=["yield"]), op("yield")],
    )  # fmt: skip
    pid, clerk = rig.spawn("crew", ALL), rig.spawn("clerk", ALL)
    rig.say(pid, "go")
    give(rig, clerk, "send:crew/ann", "send:crew/ann/deep", "read:crew/plan", "write:crew/*", "send:crew/none")
    return rig, pid


def test_children_and_blocks_follow_a_renamed_process_and_their_short_names_go_on_to_work() -> None:
    rig, pid = crew()
    clerk, ann = rig.kernel.names["clerk"], rig.kernel.names["crew/ann"]
    assert not rename(rig, pid, "team")
    assert {"team", "team/ann", "team/ann/deep", "clerk"} == set(rig.kernel.names)
    assert set(rig.kernel.shared) == {"team/plan"}
    names = ["send:team/ann", "send:team/ann/deep", "read:team/plan", "write:team/*", "send:team/none"]
    assert rights(rig, clerk) == names
    rig.say(pid, "go on")
    assert told(rig, pid)[-2:] == [
        "[block team/plan, version 1]",
        f"ok: message {rig.proc(pid).letters[-1].id} to team/ann",
    ]
    assert letters(rig, ann)
    rig.boot()
    assert set(rig.kernel.shared) == {"team/plan"}
    replayed(rig)


def test_an_orphan_keeps_its_name_and_the_rights_over_it_when_another_of_its_parents_name_comes_and_is_renamed() -> (
    None
):
    rig, pid = crew()
    clerk, ann = rig.kernel.names["clerk"], rig.kernel.names["crew/ann"]
    remove(rig, pid)
    assert rights(rig, clerk) == ["send:crew/ann", "send:crew/ann/deep"]
    assert not rename(rig, rig.spawn("crew", ALL), "other")
    assert rig.proc(ann).name == "crew/ann"
    assert rights(rig, clerk) == ["send:crew/ann", "send:crew/ann/deep"]


def test_a_name_that_a_child_could_not_have_is_refused_and_nothing_has_changed() -> None:
    rig, pid = crew()
    names, shared = dict(rig.kernel.names), dict(rig.kernel.shared)
    assert "printable characters" in rename(rig, pid, "x" * (NAME_CHARS_MAX - 1))
    rig.spawn("team/ann", ALL)
    refused = rig.do(Renamed(source="user", pid=pid, name="team"))
    assert isinstance(refused.refused, Exists)
    assert "team/ann exists" in refused.error
    assert rig.kernel.names == names | {"team/ann": rig.kernel.counters.pid}
    assert rig.kernel.shared == shared


@pytest.mark.parametrize("how", ["renamed", "removed"])
def test_a_question_that_was_answered_yes_is_not_carried_out_on_another_of_that_name(how: str) -> None:
    rig = machine(clerk=[])
    clerk, ann = rig.spawn("clerk", ALL, tainted={"send": "ask"}), rig.spawn("ann", ALL)
    give(rig, clerk, "send:*")
    rig.do(Filed(source="user", pid=clerk, parts=rig.cpus("Say hello to ann.", 100, "")))
    left = [op("read", pages=[rig.kernel.counters.page]), op("send", to="ann", text="hello")]
    rig.program = rig.cpu.program = lambda job: left.pop(0) if left and job.pid == clerk else op("yield")
    rig.say(clerk, "read it")
    asked = rig.proc(clerk).wait
    assert isinstance(asked, Consent)
    if how == "renamed":
        rename(rig, ann, "bob")
    else:
        remove(rig, ann)
    new = rig.spawn("ann", ALL)
    rig.do(Consented(source="user", pid=clerk, req=asked.req, yes=True))
    rig.pump()
    was = "bob" if how == "renamed" else f"[ended {ann}]"
    assert told(rig, clerk)[-1] == f"error: what was allowed is send:{was}, and this is send:ann by now"
    assert not letters(rig, new)
    replayed(rig)


def test_a_right_over_a_name_that_nobody_has_is_over_whoever_has_it_first() -> None:
    rig = machine(clerk=[op("send", to="press", text="hello")] * 2)
    clerk = rig.spawn("clerk", ALL)
    give(rig, clerk, "send:press")
    press = rig.spawn("press", ALL)
    rig.say(clerk, "go")
    assert letters(rig, press)
    remove(rig, press)
    assert not rights(rig, clerk)
