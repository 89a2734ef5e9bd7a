"""The interrupt controller: what may be raised from outside, in which order it comes, when it is pushed back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.cpu.scripted import echo, play
from kernel import records
from kernel.event import Killed, Raised
from kernel.interrupts import MASKABLE, OUTSIDE, Line, Pending, take
from kernel.limits import PENDING_MAX
from tests.fakes import Rig, op


def test_lines_are_delivered_by_priority_and_one_user_message_begins_a_turn() -> None:
    pending = [
        Pending(Line.TIMER, 1, 0),
        Pending(Line.USER, 2, 0),
        Pending(Line.USER, 3, 0),
        Pending(Line.MEMORY, 4, 0),
    ]
    assert [one.n for one in take(pending, (), fresh_turn=True)] == [4, 2, 1]
    assert [one.n for one in pending] == [3]
    assert [one.n for one in take(pending, (), fresh_turn=False)] == [3]


def full(rig: Rig, pid: int) -> list[str]:
    """Messages until one is refused; what it was told."""
    errors = []
    while not errors:  # ends: a process holds so many and no more
        step = rig.say(pid, "hello", pump=False)
        errors += [step.error] if step.error else []
    return errors


def test_a_full_process_pushes_back_on_every_line_from_outside_and_changes_nothing() -> None:
    rig = Rig(echo)
    rig.answering = False
    pid = rig.spawn()
    assert full(rig, pid) == ["queue full: p has 256 undelivered interrupts; retry after 5 s"]
    before = rig.kernel.hash
    assert "queue full" in rig.do(Raised(source="device", pid=pid, line=Line.IPC, text="it rang")).error
    assert rig.kernel.hash == before
    assert len(rig.proc(pid).pending) == PENDING_MAX


def test_a_full_process_still_has_its_timers_and_another_one_its_messages() -> None:
    rig = Rig(play([op("set_timer", seconds=5, text="tea"), op("yield"), op("yield")]))
    pid, other = rig.spawn(), rig.spawn("other")
    rig.say(pid, "set it")
    rig.answering = False
    full(rig, pid)
    rig.tick(6)
    assert [one.line for one in rig.proc(pid).pending][-1] is Line.TIMER
    assert not rig.say(other, "hello").error


def test_a_process_takes_messages_again_when_it_has_had_some() -> None:
    rig = Rig(echo)
    rig.answering = False
    pid = rig.spawn()
    full(rig, pid)
    rig.answering = True
    rig.boot()
    rig.pump()
    assert rig.proc(pid).pending == []
    assert rig.proc(pid).accounts.interrupts > PENDING_MAX  # memory pressure among them
    assert not rig.say(pid, "and one more").error


@pytest.mark.parametrize("line", sorted(set(Line) - set(OUTSIDE)))
def test_a_line_with_a_source_of_its_own_cannot_be_raised_from_outside(line: Line) -> None:
    rig = Rig(echo)
    error = rig.do(Raised(source="device", pid=rig.spawn(), line=line, text="fire")).error
    assert error == f"line {line.name} has a source of its own; IPC, CHILD, DEVICE can be raised"


def test_a_dead_process_is_raised_by_nobody() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    rig.do(Killed(source="user", pid=pid, status="tired"))
    for error in (
        rig.say(pid, "hello").error,
        rig.do(Raised(source="device", pid=pid, line=Line.IPC, text="it rang")).error,
    ):
        assert error == "process p is dead (tired); spawn it again and it keeps its memory"


def test_a_message_is_on_disk_and_found_by_its_id_before_anybody_has_seen_it() -> None:
    rig = Rig(echo)
    rig.answering = False
    pid = rig.spawn()
    rig.say(pid, "the first", "m1")
    rig.say(pid, "the second, " * 40, "m2")
    row = rig.disk.get("mid", b"m2")
    assert row is not None
    owner, first = records.unkey(row)
    assert owner == pid
    assert [page for page, _ in rig.proc(pid).pending[0].pages][0] == first
    assert rig.page(first).text.startswith("the second")


@given(
    st.lists(st.sampled_from(list(Line)), max_size=30),
    st.sets(st.sampled_from(MASKABLE)),
    st.booleans(),
)
def test_a_boundary_takes_what_is_not_held_back_in_order_and_leaves_the_rest_in_order(
    raised: list[Line], held: set[Line], fresh: bool
) -> None:
    pending = [Pending(line, n, 0) for n, line in enumerate(raised)]
    before = list(pending)
    taken = take(pending, held, fresh_turn=fresh)
    assert sorted(one.n for one in taken + pending) == [one.n for one in before]
    assert taken == sorted(taken, key=lambda one: (one.line, one.n))
    assert not [one for one in taken if one.line in held]
    users = [one for one in before if one.line is Line.USER and Line.USER not in held]
    assert [one for one in taken if one.line is Line.USER] == (users[:1] if fresh else users)
    assert all(one.line in held or one in users[1:] for one in pending)
