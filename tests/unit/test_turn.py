"""A turn on a rig: what begins it, what is delivered in it, what stops it, what ends it."""

import msgspec

from drivers.cpu.scripted import echo, play
from kernel.event import Halted, Note, Preempt, Raised
from kernel.interrupts import Line
from kernel.limits import TURN_SYSCALLS_MAX, TURN_TOKENS_MAX
from kernel.memory.page import Role
from kernel.ports import Job
from kernel.process import State
from kernel.records import JournalEntry
from tests.fakes import ONLY_SPEAK, Rig, op


def test_a_message_is_answered_and_the_answer_names_it() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    rig.say(pid, "hello", "m1")
    (message,) = rig.messages
    assert (message.text, message.answers, message.seq, message.ends) == ("you said: hello", ("m1",), 1, True)
    assert rig.proc(pid).state is State.IDLE


def test_two_messages_at_once_get_a_reply_each() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    for n in range(4):
        rig.say(pid, f"message {n}", f"m{n}", pump=False)
    rig.pump()
    assert [message.answers for message in rig.messages] == [("m0",), ("m1",), ("m2",), ("m3",)]
    assert [message.text for message in rig.messages] == [f"you said: message {n}" for n in range(4)]


def test_a_message_that_arrives_within_a_turn_is_delivered_at_the_next_instruction_boundary() -> None:
    rig = Rig(play([op("core_append", block="b", text="x"), op("send_message", text="done")]))
    pid = rig.spawn()
    rig.say(pid, "first", "m1", pump=False)
    rig.say(pid, "second", "m2", pump=False)  # the process runs its first instruction
    rig.pump()
    assert [message.answers for message in rig.messages] == [("m1", "m2")]


def test_memory_pressure_does_not_wake_an_idle_process() -> None:
    rig = Rig(play([op("send_message", text="w " * 120)] * 50), "window=2048", "memory.warn=0.3")
    pid = rig.spawn()
    while not any(one.line is Line.MEMORY for one in rig.proc(pid).pending):
        rig.say(pid, "filler about bread")
    assert rig.proc(pid).state is State.IDLE


def test_sleep_ends_the_turn_and_a_message_wakes_earlier() -> None:
    rig = Rig(play([op("sleep", seconds=600), op("send_message", text="awake")]))
    pid = rig.spawn()
    rig.say(pid, "rest a while")
    assert rig.proc(pid).state is State.IDLE
    rig.say(pid, "hello?")
    assert rig.messages[-1].text == "awake"


def test_a_turn_without_end_is_cut_at_its_budget_and_the_process_is_told() -> None:
    rig = Rig(lambda job: op("core_append", block="b", text="x"))
    pid = rig.spawn()
    rig.say(pid, "go")
    assert rig.proc(pid).state is State.IDLE
    assert rig.proc(pid).accounts.syscalls == 16
    assert any("The turn was ended after 16 syscalls" in text for text in rig.texts(pid))


def test_a_message_of_more_than_half_the_queue_enters_as_its_head_and_says_how_to_read_on() -> None:
    rig = Rig(lambda job: op("yield"), "window=2048")
    pid = rig.spawn()
    rig.say(pid, "word " * 2_000)
    texts = rig.texts(pid)
    assert any("The message goes on for" in text and "read brings them in" in text for text in texts)
    assert rig.proc(pid).space.used() <= rig.kernel.budgets(rig.proc(pid)).queue // 2
    stored = [rig.page(n).text for n in range(1, rig.kernel.counters.page + 1) if rig.page(n).role is Role.USER]
    assert "".join(stored) == "word " * 2_000


def test_a_message_stops_what_an_abortable_process_says_and_stands_in_view_of_what_it_says_instead() -> None:
    def last_words(job: Job) -> str:
        said = [page.page.text for page in job.pages if page.role is Role.USER]
        return op("send_message", text=f"about {said[-1]}: " + "word " * 100)

    for abort, expected in ((True, [("m1", "m2")]), (False, [("m1",), ("m2",)])):
        rig = Rig(last_words, "sched.quantum=16", "cpu.reply=256")
        pid = rig.spawn(mask=ONLY_SPEAK, abort=abort)
        rig.say(pid, "boats", "m1", pump=False)
        rig.pump(2)  # it has said a few words
        assert rig.proc(pid).ids
        rig.say(pid, "trains", "m2")
        assert [message.answers for message in rig.messages] == expected
        assert rig.messages[-1].text.startswith("about trains")


def test_a_masked_message_aborts_nothing() -> None:
    rig = Rig(
        play([op("mask", lines=["user"], seconds=60), op("send_message", text="word " * 100)]), "sched.quantum=16"
    )
    pid = rig.spawn(abort=True)
    rig.say(pid, "go", "m1", pump=False)
    while not rig.proc(pid).held or not rig.proc(pid).ids:
        rig.pump(1)
    step = rig.say(pid, "stop", "m2", pump=False)
    assert not [effect for effect in step.effects if isinstance(effect, Preempt)]
    rig.pump()
    assert not [note for note in told(rig) if note.what == "abort"]
    assert [message.answers for message in rig.messages] == [("m1",)]


def test_a_second_message_does_not_ask_for_the_slot_twice() -> None:
    rig = Rig(lambda job: op("send_message", text="word " * 60), "sched.quantum=8")
    pid = rig.spawn(abort=True)
    rig.say(pid, "boats", pump=False)
    asked = [
        sum(isinstance(effect, Preempt) for effect in rig.say(pid, text, pump=False).effects)
        for text in ("trains", "planes")
    ]
    assert asked == [1, 0]


def test_a_message_to_an_abortable_process_that_has_said_nothing_yet_throws_nothing_away() -> None:
    rig = Rig(echo, slots=1)
    other, pid = rig.spawn("other"), rig.spawn(abort=True)
    rig.answering = False  # the other one keeps the only slot
    rig.say(other, "stay")
    rig.say(pid, "boats", "m1")
    step = rig.say(pid, "trains", "m2")
    assert rig.proc(pid).state is State.READY
    assert [note.what for note in step.notes] == ["interrupt"]


def test_what_is_pending_comes_at_a_boundary_and_not_at_a_preemption() -> None:
    rig = Rig(lambda job: op("send_message", text="word " * 30), "sched.quantum=8")
    pid = rig.spawn()
    rig.say(pid, "boats", pump=False)
    rig.do(Raised(source="device", pid=pid, line=Line.DEVICE, text="the door"))
    rig.pump(2)
    assert rig.proc(pid).ids
    assert [one.line for one in rig.proc(pid).pending] == [Line.DEVICE]
    rig.pump()
    assert rig.proc(pid).pending == []


def test_the_tokens_of_a_turn_are_its_budget_too() -> None:
    rig = Rig(lambda job: op("send_message", text="word " * 200, more=True), "window=8192", "cpu.reply=900")
    pid = rig.spawn()
    rig.say(pid, "talk")
    turns = [note for note in told(rig) if note.what == "turn"]
    assert [note.text for note in turns] == ["budget spent"]
    assert rig.proc(pid).accounts.syscalls < TURN_SYSCALLS_MAX
    assert TURN_TOKENS_MAX <= rig.proc(pid).accounts.emitted < TURN_TOKENS_MAX + 900


def test_an_idle_process_that_is_raised_on_a_line_it_does_not_hold_back_has_a_turn() -> None:
    for line in (Line.IPC, Line.CHILD, Line.DEVICE):
        rig = Rig(play([op("mask", lines=["user"], seconds=60), op("yield"), op("send_message", text="heard")]))
        pid = rig.spawn()
        rig.say(pid, "go")
        rig.say(pid, "held back")
        rig.do(Raised(source="device", pid=pid, line=line, text="now"))
        rig.pump()
        assert [message.answers for message in rig.messages] == [()]
        assert [one.line for one in rig.proc(pid).pending] == [Line.USER]
        assert rig.proc(pid).accounts.turns == 2


def told(rig: Rig) -> list[Note]:
    """All notes of the journal."""
    rows = [msgspec.msgpack.decode(value, type=JournalEntry) for _, value in rig.disk.scan("journal")]
    return [note for row in rows for note in row.notes]


def test_who_is_suspended_and_interrupted_sees_what_was_said_meanwhile_when_it_is_let_in() -> None:
    rig = Rig(
        lambda job: op("send_message", text="word " * 60), "sched.quantum=8", "sched.flight=900", "cpu.manual=whole"
    )
    one, two = rig.spawn("one"), rig.spawn("two", abort=True)
    rig.say(one, "boats", pump=False)
    rig.say(two, "trains", "m1", pump=False)
    assert rig.proc(two).state is State.SUSPENDED
    rig.say(two, "planes", "m2", pump=False)
    rig.pump()
    assert [message.answers for message in rig.messages if message.pid == two] == [("m1", "m2")]


def test_a_turn_that_the_user_stops_says_nothing_and_the_next_message_has_its_own_reply() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    rig.say(pid, "first", "m1", pump=False)
    assert rig.proc(pid).state is State.RUNNING
    step = rig.do(Halted(source="user", pid=pid))
    assert Preempt(0) in step.effects
    assert (rig.proc(pid).state, rig.proc(pid).in_turn) == (State.IDLE, False)
    rig.pump()
    assert rig.messages == []
    assert "[kernel] The user stopped you before you had answered." in rig.texts(pid)
    rig.say(pid, "second", "m2")
    assert [(message.text, message.answers) for message in rig.messages] == [("you said: second", ("m2",))]


def test_what_waits_when_a_turn_is_stopped_begins_the_next() -> None:
    rig = Rig(echo, slots=2)
    pid = rig.spawn()
    rig.say(pid, "first", "m1", pump=False)
    rig.say(pid, "second", "m2", pump=False)
    rig.do(Halted(source="user", pid=pid))
    rig.pump()
    assert [message.answers for message in rig.messages] == [("m2",)]


def test_a_turn_that_waits_for_a_search_can_be_stopped_and_the_late_answer_changes_nothing() -> None:
    rig = Rig(play([op("search", query="anything"), op("send_message", text="awake")]))
    pid = rig.spawn()
    rig.say(pid, "look for it", pump=False)
    while rig.proc(pid).state is not State.BLOCKED:
        rig.pump(1)
    rig.do(Halted(source="user", pid=pid))
    rig.pump()
    assert (rig.proc(pid).state, rig.messages) == (State.IDLE, [])
    rig.say(pid, "hello?")
    assert [message.text for message in rig.messages] == ["awake"]


def test_who_is_in_no_turn_cannot_be_stopped() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    assert rig.do(Halted(source="user", pid=pid)).error == "process p is idle, in no turn that could be stopped"
