"""Who waits for what: one request at a time, and an answer that nobody waits for is nobody's."""

import msgspec
import pytest

from drivers.cpu.scripted import play
from kernel import core, waiting
from kernel.errors import KernelPanic
from kernel.event import Hit, Killed, Load, Loaded, Search, Searched
from kernel.memory.page import Role
from kernel.process import State
from tests.fakes import Rig, op


def blocked(instruction: str, *changes: str) -> tuple[Rig, int]:
    """A process that waits, and its machine, of which nothing is answered yet."""
    rig = Rig(play([instruction, op("send_message", text="done")]), *changes)
    pid = rig.spawn()
    rig.say(pid, "go", pump=False)
    while rig.proc(pid).state is not State.BLOCKED:
        rig.pump(1)
    return rig, pid


@pytest.mark.parametrize("instruction", [op("search", query="amber"), op("read", pages=[2])])
def test_an_answer_is_taken_once(instruction: str) -> None:
    rig, pid = blocked(instruction)
    (answer,) = rig.inbox
    rig.pump()
    assert [message.text for message in rig.messages] == ["done"]
    before = msgspec.msgpack.encode(rig.proc(pid))
    rig.do(answer)
    assert msgspec.msgpack.encode(rig.proc(pid)) == before


def test_an_answer_of_another_number_or_to_nobody_changes_nothing() -> None:
    rig, pid = blocked(op("search", query="amber"))
    before = msgspec.msgpack.encode(rig.proc(pid))
    req = rig.proc(pid).req
    for event in (Searched(pid=pid, req=req - 1), Searched(pid=pid, req=req + 1), Searched(pid=99, req=req)):
        assert not rig.do(event).error
        assert msgspec.msgpack.encode(rig.proc(pid)) == before


def test_an_answer_to_a_process_that_died_or_began_anew_meanwhile_is_nobodys() -> None:
    rig, pid = blocked(op("search", query="amber"))
    (answer,) = rig.inbox
    rig.inbox.clear()
    rig.do(Killed(source="user", pid=pid))
    assert rig.proc(pid).wait is None
    for begin in (lambda: None, rig.spawn):
        begin()
        before = msgspec.msgpack.encode(rig.proc(pid))
        rig.do(answer)
        assert msgspec.msgpack.encode(rig.proc(pid)) == before


def test_the_answer_to_another_kind_of_question_is_a_panic() -> None:
    rig, pid = blocked(op("search", query="amber"))
    with pytest.raises(KernelPanic, match="the answer to another question"):
        core.step(rig.kernel, Loaded(source="disk", at=rig.now, pid=pid, req=rig.proc(pid).req))


def test_each_request_has_a_number_of_its_own_and_stands_in_the_pcb() -> None:
    rig = Rig(play([op("search", query="amber"), op("read", pages=[2]), op("search", query="birch"), op("yield")]))
    pid = rig.spawn()
    rig.say(pid, "go", pump=False)
    seen: list[Search | Load] = []
    while rig.inbox:  # ends: the process yields
        rig.pump(1)
        wait = rig.proc(pid).wait
        if wait is not None and wait not in seen:
            seen.append(wait)
    assert [(type(one), one.req, one.pid) for one in seen] == [(Search, 1, pid), (Load, 2, pid), (Search, 3, pid)]
    assert rig.proc(pid).wait is None


def test_a_process_that_waits_gives_its_slot_to_another() -> None:
    rig, pid = blocked(op("search", query="amber"))
    assert rig.kernel.slots[0].pid == 0
    rig.inbox.clear()  # the answer takes its time
    other = rig.spawn("other")
    rig.say(other, "your turn", pump=False)
    assert rig.kernel.slots[0].pid == other
    assert rig.proc(pid).state is State.BLOCKED


def test_nobody_waits_twice() -> None:
    rig, pid = blocked(op("search", query="amber"))
    proc = rig.proc(pid)
    with pytest.raises(AssertionError, match="one request at a time"):
        waiting.block(rig.kernel, proc, Load(pid=pid, req=proc.req + 1, pages=(1,)))


def test_a_search_that_comes_late_says_so_and_the_turn_goes_on() -> None:
    rig, pid = blocked(op("search", query="amber"))
    rig.inbox.clear()
    rig.do(Searched(pid=pid, req=rig.proc(pid).req, late=True))
    rig.pump()
    assert any("did not complete in time" in text for text in rig.texts(pid))
    assert rig.messages[-1].text == "done"


def test_hits_that_come_after_a_deadline_are_not_told() -> None:
    rig, pid = blocked(op("search", query="amber"))
    rig.inbox.clear()
    hit = Hit(2, 1, Role.USER, 0, 5, 1.0, 1.0, "amber is a stone")
    rig.do(Searched(pid=pid, req=rig.proc(pid).req, hits=(hit,), late=True))
    rig.pump()
    assert not any("amber is a stone" in text for text in rig.texts(pid))
