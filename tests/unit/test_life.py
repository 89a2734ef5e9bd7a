"""How processes begin and end: what is refused, what is kept, what is gone."""

import msgspec
import pytest

from drivers.cpu.scripted import echo, play
from kernel.event import Imported, Killed, Moved, MovedTimer, Spawned
from kernel.limits import NS
from kernel.memory.page import Area, Kind, Origin, Role
from kernel.process import TRANSITIONS, State
from kernel.spec import Spec
from tests.fakes import ONLY_SPEAK, Rig, op


def test_every_state_can_be_killed_but_a_zombie() -> None:
    from kernel.process import Move

    assert [state for state in State if Move.KILL not in TRANSITIONS[state]] == [State.ZOMBIE]


def test_kill_takes_the_process_at_once_and_its_trap_changes_nothing_more() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    rig.say(pid, "hello", pump=False)
    assert rig.proc(pid).state is State.RUNNING
    rig.do(Killed(source="user", pid=pid))
    rig.pump()
    assert rig.proc(pid).state is State.ZOMBIE
    assert rig.messages == []


def test_a_killed_process_keeps_its_memory_and_starts_again() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    rig.say(pid, "my name is Ada")
    rig.do(Killed(source="user", pid=pid))
    refused = rig.say(pid, "are you there?")
    assert "is dead (killed)" in refused.error
    assert rig.spawn() == pid
    assert "my name is Ada" in rig.texts(pid)
    rig.say(pid, "and now?")
    assert rig.messages[-1].text == "you said: and now?"


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (Spawned(spec=Spec("", calls=("yield",))), "process name"),
        (Spawned(spec=Spec("7", calls=("yield",))), "not a number"),
        (Spawned(spec=Spec("x", calls=())), "mask is empty"),
        (Spawned(spec=Spec("x", calls=("fly",))), "mask fly: syscalls are"),
        (Spawned(spec=Spec("p", calls=("yield",))), "exists and is idle"),
        (Spawned(spec=Spec("x", calls=("yield",), nice=20)), "nice 20: -20 to 19"),
        (Spawned(spec=Spec("x", calls=("yield",), blocks={"b": "x" * 5_000})), "core blocks of"),
        (Killed(pid=99), "no process 99; processes are p"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(event: Spawned | Killed, error: str) -> None:
    rig = Rig(echo)
    rig.spawn()
    lsn, state_hash = rig.kernel.counters.lsn, rig.kernel.hash
    step = rig.do(event)
    assert error in step.error
    assert "\n" not in step.error
    assert (rig.kernel.counters.lsn, rig.kernel.hash) == (lsn, state_hash)


def test_the_dead_leave_no_timer_no_mask_no_request_and_no_slot() -> None:
    calls = [op("set_timer", seconds=60, text="tea"), op("mask", lines=["ipc"], seconds=60), op("search", query="a")]
    rig = Rig(play(calls))
    pid = rig.spawn()
    rig.say(pid, "go", pump=False)
    while rig.proc(pid).state is not State.BLOCKED:
        rig.pump(1)
    rig.do(Killed(source="user", pid=pid))
    proc = rig.proc(pid)
    assert (proc.timers, proc.held, proc.wait, proc.in_turn) == ([], {}, None, False)
    assert (rig.kernel.timers, rig.armed, rig.disk.scan("timer")) == ({}, {}, [])
    assert not any(slot.pid for slot in rig.kernel.slots)


def test_what_was_pending_at_its_death_is_delivered_when_it_is_started_again() -> None:
    rig = Rig(echo)
    rig.answering = False
    pid = rig.spawn()
    rig.say(pid, "one", "m1")
    rig.say(pid, "two", "m2")
    rig.do(Killed(source="user", pid=pid))
    assert len(rig.proc(pid).pending) == 1
    rig.boot()
    rig.answering = True
    rig.spawn()
    assert [message.answers for message in rig.messages] == [("m2",)]
    assert "one" in rig.texts(pid)


def test_a_process_ends_itself_with_the_status_it_gives() -> None:
    for status, expected in (("all done", "all done"), ("", "exited")):
        rig = Rig(play([op("exit", status=status)] if status else [op("exit")]))
        pid = rig.spawn()
        rig.say(pid, "that is all")
        assert (rig.proc(pid).state, rig.proc(pid).status) == (State.ZOMBIE, expected)
        assert rig.texts(pid)[-1].startswith('{"op":"exit"')  # its last words are kept


def test_who_is_dead_is_killed_by_nobody() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    rig.do(Killed(source="user", pid=pid, status="tired"))
    assert rig.do(Killed(source="user", pid=pid)).error == "process p is dead already (tired)"


def test_a_second_life_begins_with_a_clean_record() -> None:
    rig = Rig(lambda job: "garbage" if job.instr <= 5 else op("send_message", text="better"))
    pid = rig.spawn()
    rig.say(pid, "hello")
    assert rig.proc(pid).status
    rig.spawn()
    rig.say(pid, "try again")
    assert (rig.proc(pid).status, rig.proc(pid).illegal_row) == ("", 0)
    assert rig.messages[-1].text == "better"


def test_calls_stand_in_the_tables_order_whatever_order_they_were_given_in() -> None:
    rig = Rig(echo)
    one, two = rig.spawn("one", ("yield", "send_message")), rig.spawn("two", ("send_message", "yield"))
    assert rig.proc(one).spec.calls == rig.proc(two).spec.calls
    assert rig.proc(one).space.text == rig.proc(two).space.text  # so they share a text


def test_an_import_has_its_timers_its_pages_and_its_messages_and_nothing_of_it_is_past_due() -> None:
    rig = Rig(echo)
    texts = ("long ago", "resident", "not heard yet")
    pages = tuple(
        Moved(Kind.MESSAGE, Origin.USER, Role.USER, Area.RECALL, n, text, where=where, ids=rig.cpu.tokenize(text))
        for n, (text, where) in enumerate(zip(texts, ("", "queue", "pending"), strict=True))
    )
    spec = Spec("guest", calls=ONLY_SPEAK)
    step = rig.do(Imported(source="user", spec=spec, pages=pages, timers=(MovedTimer(5, 60 * NS, "tea"),)))
    pid = step.pid
    rig.pump()
    assert rig.messages[-1].text == "you said: not heard yet"
    assert "resident" in rig.texts(pid)
    assert "long ago" not in rig.texts(pid)
    assert rig.proc(pid).space.evicted == 1
    assert rig.kernel.timers[1].due >= step.pages[0][0].at  # it was due before it came
    assert [rig.page(page.id).at for page, _ in step.pages if page.pid == pid] == [0, 1, 2]


def test_what_an_import_cannot_have_is_refused_before_anything_is_made() -> None:
    rig = Rig(echo)
    rig.spawn()
    before = rig.kernel.hash, rig.kernel.counters.page
    spec = Spec("p", calls=ONLY_SPEAK)
    many = tuple(MovedTimer(5, 0, "tea") for _ in range(65))
    for event, error in (
        (Imported(source="user", spec=spec, pages=()), "process p exists; import it under another name"),
        (
            Imported(source="user", spec=msgspec.structs.replace(spec, name="q"), pages=(), timers=many),
            "65 timers; at most 64 are allowed",
        ),
    ):
        assert rig.do(event).error == error
        assert (rig.kernel.hash, rig.kernel.counters.page) == before


def test_who_is_killed_while_it_waits_for_a_slot_never_has_one() -> None:
    rig = Rig(echo)
    first, pid = rig.spawn("first"), rig.spawn()
    rig.say(first, "hello", pump=False)
    rig.say(pid, "hello", pump=False)
    assert rig.proc(pid).state is State.READY
    rig.do(Killed(source="user", pid=pid))
    rig.pump()
    assert [job.pid for job in rig.jobs] == [first]
