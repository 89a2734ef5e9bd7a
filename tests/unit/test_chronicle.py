"""What core memory and facts were at each step, as the journal tells it."""

from __future__ import annotations

import msgspec
import pytest

from drivers.cpu.scripted import echo, play
from drivers.door.desk import memories
from kernel import checkpoint
from kernel.errors import BadInput
from kernel.event import Checkpointed, Consented, CoreWritten, Forked, Killed
from kernel.machine.chronicle import Chronicle, newest
from kernel.machine.views import By, Remembered
from kernel.ports import Job
from kernel.spec import digest
from llmos.mem import log
from syscalls.table import Table
from tests.fakes import Rig, op
from tests.unit.test_family import ALL, machine
from tests.unit.test_guard import after_reading, policy
from tests.unit.test_reflection import above, answers, reflects, tell


def told(rig: Rig, pid: int, upto: int = 0) -> Chronicle:
    """The journal, read to its end."""
    found = Chronicle(rig.disk, Table(), pid, upto)
    while found.piece():
        pass
    return found


def write(rig: Rig, pid: int, block: str, text: str) -> None:
    seen = digest(rig.proc(pid).spec.blocks.get(block, ""))
    assert not rig.do(CoreWritten(source="user", pid=pid, block=block, text=text, seen=seen)).error


WRITES = (
    op("core_append", block="human", text="Has a dog."),
    op("core_replace", block="human", old="tea", new="coffee"),
    op("core_replace", block="human", old="nothing of it", new="x"),  # fails
    op("core_append", block="plans", text="Lisbon in May."),
    op("send_message", text="Noted."),
)


@pytest.mark.parametrize("encoding", ["json", "prose"])
def test_every_version_is_told_with_who_wrote_it_and_the_last_is_what_stands(encoding: str) -> None:
    mark = "" if encoding == "json" else "!"
    rig = Rig(play([mark + one for one in WRITES]), encoding=encoding)
    pid = rig.spawn(blocks={"human": "Likes tea."})
    rig.say(pid, "I have a dog, and like coffee.")
    write(rig, pid, "plans", "")
    write(rig, pid, "human", "Ana.")
    found = told(rig, pid)
    assert [(one.by, one.block, one.text) for one in found.changes] == [
        (By.BEGUN, "human", "Likes tea."),
        (By.PROCESS, "human", "Likes tea.\nHas a dog."),
        (By.PROCESS, "human", "Likes coffee.\nHas a dog."),
        (By.PROCESS, "plans", "Lisbon in May."),
        (By.OUTSIDE, "plans", ""),
        (By.OUTSIDE, "human", "Ana."),
    ]
    assert found.whole
    assert found.blocks == rig.proc(pid).spec.blocks
    second = found.changes[1].lsn
    assert told(rig, pid, second).blocks == {"human": "Likes tea.\nHas a dog."}
    assert told(rig, pid, second - 1).blocks == {"human": "Likes tea."}


def test_a_fork_begins_with_its_parents_and_who_lives_again_with_its_own() -> None:
    rig = Rig(echo)
    pid = rig.spawn(blocks={"human": "Ana."})
    write(rig, pid, "human", "Ana, of Lyon.")
    child = rig.do(Forked(source="user", pid=pid, name="child")).pid
    write(rig, child, "human", "Bea.")
    rig.do(Killed(source="user", pid=pid))
    rig.spawn()
    assert [(one.by, one.text) for one in told(rig, child).changes] == [
        (By.FORK, "Ana, of Lyon."),
        (By.OUTSIDE, "Bea."),
    ]
    assert [(one.by, one.text) for one in told(rig, pid).changes] == [
        (By.BEGUN, "Ana."),
        (By.OUTSIDE, "Ana, of Lyon."),
    ]


def test_where_the_journal_was_cut_it_goes_on_from_what_stood_there() -> None:
    rig = Rig(play(WRITES))
    pid = rig.spawn(blocks={"human": "Likes tea."})
    rig.say(pid, "I have a dog, and like coffee.")
    reading = Chronicle(rig.disk, Table(), pid)  # which is under way while the journal is cut
    at = rig.kernel.counters.lsn + 1
    rig.do(Checkpointed())
    rig.disk.commit(checkpoint.records(rig.disk, rig.kernel))
    while rows := checkpoint.cut(rig.disk):
        rig.disk.commit(rows)
    write(rig, pid, "plans", "")
    for found in (told(rig, pid), reading):
        while found.piece():
            pass
        assert not found.whole
        assert found.blocks == rig.proc(pid).spec.blocks
        assert [(one.lsn, one.by, one.block) for one in found.changes] == [
            (at, By.BEFORE, "human"),
            (at, By.BEFORE, "plans"),
            (at + 1, By.OUTSIDE, "plans"),
        ]
    with pytest.raises(BadInput, match="is in no journal any more"):
        told(rig, pid, at - 1)
    shown = log(memories(0, pid, at, told(rig, pid), 9))
    assert shown[1].split("\t")[1:4] == ["before", "before", "human"]
    assert shown[-1] == "what was before is in no journal any more"


def test_facts_and_blocks_of_reflection_stand_in_the_log_of_whom_they_are_about() -> None:
    def program(job: Job) -> str:
        done = len(answers(job)) if reflects(job) else -1
        page = above(job)[0].id if done >= 0 else 0
        fact = op("fact", subject="Ana", text="likes bread", pages=[page])
        return [fact, op("block", label="human", text=f"Ana, of page {page}"), op("yield"), echo(job)][done]

    rig = Rig(program, "window=2048", "cpu.reply=100", "memory.reflect=true", "memory.fault=false")
    other, pid = rig.spawn("other", blocks={"human": "Bea"}), rig.spawn(blocks={"human": "Ana"})
    for n in range(30):
        tell(rig, pid, n)
    found = told(rig, pid)
    kinds = [(one.by, one.block, one.subject) for one in found.changes]
    assert kinds[:3] == [
        (By.BEGUN, "human", ""),
        (By.REFLECTION, "", "Ana"),
        (By.REFLECTION, "human", ""),
    ]
    assert found.blocks == rig.proc(pid).spec.blocks
    assert found.blocks["human"].startswith("Ana, of page")
    assert [one.text for one in told(rig, other).changes] == ["Bea"]


def test_a_long_log_comes_in_parts_that_cut_no_step_in_two() -> None:
    rig = Rig(echo)
    pid = rig.spawn(blocks={"a": "1", "b": "1"})
    for n in range(5):
        write(rig, pid, "a", str(n))
    found = told(rig, pid).changes
    last, more = newest(found, 2, 1 << 20)
    assert ([one.text for one in last], more) == (["3", "4"], True)
    older, more = newest(told(rig, pid, last[0].lsn - 1).changes, 4, 1 << 20)
    assert ([one.text for one in older], more) == (["1", "1", "0", "1", "2"], False)
    one = len(msgspec.json.encode(Remembered(9, 9, By.OUTSIDE, "a", "4")))
    assert len(newest(found, 9, one)[0]) == 1


@pytest.mark.parametrize("yes", [True, False])
def test_a_call_that_waits_for_consent_is_a_version_once_it_is_given(yes: bool) -> None:
    rig, pid, _ = after_reading(op("core_append", block="human", text="Has a dog."))
    policy(rig, pid, core_append="ask")
    rig.say(pid, "read it")
    assert not told(rig, pid).changes
    wait = rig.proc(pid).wait
    assert wait is not None
    rig.do(Consented(source="user", pid=pid, req=wait.req, yes=yes))
    assert [(one.by, one.text) for one in told(rig, pid).changes] == [(By.PROCESS, "Has a dog.")] * yes
    assert told(rig, pid).blocks == rig.proc(pid).spec.blocks


def test_a_child_that_a_process_forks_begins_with_what_its_parent_has() -> None:
    rig = machine(p=[op("core_append", block="human", text="Ana."), op("fork", name="child", task="go on")])
    pid = rig.spawn("p", ALL)
    rig.say(pid, "fork")
    child = rig.kernel.names["p/child"]
    assert [(one.by, one.block, one.text) for one in told(rig, child).changes] == [(By.FORK, "human", "Ana.")]
    assert told(rig, child).blocks == rig.proc(child).spec.blocks
