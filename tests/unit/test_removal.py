"""A process that is removed is gone for good: nothing of it alone stays in a table, and all hashes still agree."""

from __future__ import annotations

import pytest

from drivers.cpu.scripted import echo
from kernel import checkpoint, removal
from kernel.audit import audit
from kernel.errors import Busy
from kernel.event import Changed, Checkpointed, Forked, Killed, Removed
from kernel.machine.devices import Devices
from kernel.memory.page import Kind, gone
from kernel.ports import Record
from kernel.process import State
from kernel.records import TABLES, key
from kernel.replay import Replay
from kernel.state import Step
from syscalls.table import Table
from tests.fakes import Rig
from tests.unit.test_summary import begun, filled

SECRET = "the lighthouse key lies under the blue stone"
OTHER = "the boat lies in the harbour"


def survey(rig: Rig, pid: int) -> Removed:
    return removal.surveyor(rig.kernel, pid).made(rig.disk)


def remove(rig: Rig, pid: int) -> Step:
    if rig.proc(pid).state is not State.ZOMBIE:
        rig.do(Killed(source="user", pid=pid))
        rig.pump()
    return rig.do(survey(rig, pid))


def found(rig: Rig, text: str) -> set[str]:
    """The tables, the journal excepted, in which a text stands."""
    return {
        name
        for name in TABLES
        for row, value in rig.disk.scan(name)
        if name != "journal" and text.encode() in row + value
    }


def sound(rig: Rig) -> None:
    """The audit finds nothing, and the journal comes to the same hashes."""
    assert audit(rig.disk).findings == []
    replay = Replay(rig.disk, Table())
    assert [taken.why for taken in replay.steps() if taken.why] == []
    assert (replay.kernel.hash, replay.lsn) == (rig.kernel.hash, rig.kernel.counters.lsn)


def two(rig: Rig) -> tuple[int, int]:
    """Two processes that have been told something, the first with everything that a process may have on disk."""
    first = rig.spawn("first", system="Hush: a system of its own.", blocks={"human": SECRET})
    second = rig.spawn("second")
    rig.say(first, SECRET, "a-message-id")
    rig.say(second, OTHER)
    rig.boot()  # and another text, that of before
    rig.do(Changed(source="user", pid=first, system="Hush: another system."))
    return first, second


def test_rm_leaves_nothing_of_a_process_but_that_it_was_and_the_rest_as_it_was() -> None:
    rig = Rig(echo)
    first, second = two(rig)
    before = rig.texts(second)
    ids = len(rig.disk.scan("ids"))
    assert not remove(rig, first).error
    for text in ("lighthouse", "Hush", "a-message-id", "first"):
        assert found(rig, text) == set()
    assert rig.disk.scan("outbox", key(first))[:1] == rig.disk.scan("outbox", key(second))[:1]
    assert len(rig.disk.scan("ids")) < ids
    assert rig.kernel.names == {"second": second}
    last = rig.page(rig.kernel.counters.page)
    assert (last.kind, (gone(last) or (0,))[0]) == (Kind.GONE, first)
    assert (rig.texts(second), rig.proc(second).name) == (before, "second")
    sound(rig)
    rig.boot()
    sound(rig)
    again = rig.spawn("first")
    assert again == second + 1  # a number is given once
    rig.jobs.clear()
    rig.say(again, "lighthouse key?")
    assert not [page for page in rig.jobs[0].pages if "blue stone" in page.page.text]
    sound(rig)


def test_rm_is_replayed_from_a_checkpoint_before_it_and_after_it() -> None:
    for after in (False, True):
        rig = Rig(echo)
        first, second = two(rig)
        if after:
            assert not remove(rig, first).error
        rig.do(Checkpointed(source="user"))
        rig.disk.commit(checkpoint.records(rig.disk, rig.kernel))
        rig.disk.commit(checkpoint.cut(rig.disk))
        assert found(rig, "lighthouse") == (set() if after else {"base", "page", "proc", "outbox"})
        if not after:
            assert not remove(rig, first).error
        rig.say(second, "and now?")
        sound(rig)


def test_what_a_fork_shows_stays_the_forks_and_goes_with_it() -> None:
    rig = Rig(echo)
    pid = rig.spawn("main")
    rig.say(pid, SECRET)
    child = rig.do(Forked(source="user", pid=pid, name="child")).pid
    grandchild = rig.do(Forked(source="user", pid=child, name="grandchild")).pid
    rig.say(pid, "only main heard of the treasure")
    seen = rig.texts(grandchild)
    assert not remove(rig, pid).error
    assert found(rig, "treasure") == set()
    assert rig.texts(grandchild) == seen
    sound(rig)
    assert not remove(rig, child).error
    assert rig.texts(grandchild) == seen
    rig.boot()
    rig.say(grandchild, "lighthouse key?")
    assert seen == rig.texts(grandchild)[: len(seen)]
    sound(rig)
    assert not remove(rig, grandchild).error
    assert found(rig, "lighthouse") == set()
    sound(rig)


def test_rm_is_for_the_dead_of_whom_nothing_is_under_way_and_of_this_life() -> None:
    rig = Rig(echo)
    rig.answering = False
    pid = rig.spawn()
    with pytest.raises(Exception, match="process p is idle; kill it first"):
        survey(rig, pid)
    rig.say(pid, "hello")
    assert rig.proc(pid).state is State.RUNNING
    rig.do(Killed(source="user", pid=pid))
    early = survey(rig, pid)
    assert isinstance(rig.do(early).refused, Busy)  # its run is being stopped
    rig.answering = True
    rig.boot()
    rig.spawn()
    rig.do(Killed(source="user", pid=pid))
    rig.pump()
    assert "has lived again" in rig.do(early).error
    assert not rig.do(survey(rig, pid)).error
    assert "no process 1" in rig.do(early).error
    sound(rig)


def test_the_devices_are_told_and_after_a_boot_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(echo)
    first, second = two(rig)
    rig.say(first, "hello")
    told: list[int] = []
    perform = Devices.perform

    def heard(self: Devices, effect: object) -> None:
        if type(effect).__name__ == "Forget":
            told.append(effect.pid)  # type: ignore[attr-defined]
        perform(self, effect)  # type: ignore[arg-type]

    monkeypatch.setattr(Devices, "perform", heard)
    assert first in rig.cpu._kept
    assert not remove(rig, first).error
    assert told == [first]
    assert first not in rig.cpu._kept
    rig.boot()
    assert told == [first, first]
    assert second in rig.kernel.procs


def test_while_the_kernel_looks_at_what_has_left_a_process_it_is_not_removed() -> None:
    rig, pid = filled(turns=0)
    begun(rig, pid)
    rig.do(Killed(source="user", pid=pid))
    assert "is looking at what has left" in rig.do(survey(rig, pid)).error
    rig.pump()
    assert not rig.do(survey(rig, pid)).error
    rig.pump()
    sound(rig)


def test_the_audit_sees_a_page_that_went_with_nobody_and_one_that_nobody_shows() -> None:
    rig = Rig(echo)
    first, second = two(rig)
    pages = [number for number in range(1, rig.kernel.counters.page + 1) if rig.page(number).pid == first]
    row = rig.disk.get("page", key(pages[0]))
    assert not remove(rig, first).error
    rig.disk.commit([Record("page", key(pages[0]), row)])
    assert f"page {pages[0]}: process {first} is no more, and nobody shows it" in audit(rig.disk).findings
    rig.disk.commit([Record("page", key(pages[0]), None)])
    assert audit(rig.disk).findings == []
    other = next(number for number in range(1, rig.kernel.counters.page) if number not in pages and _of(rig, number, 0))
    rig.disk.commit([Record("page", key(other), None)])
    assert "page: 1 are missing, beside those that were removed" in audit(rig.disk).findings


def _of(rig: Rig, number: int, pid: int) -> bool:
    return rig.disk.get("page", key(number)) is not None and rig.page(number).pid == pid
