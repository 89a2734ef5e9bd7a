"""The outbox: messages in order, kept until their reader has them, and no more than there is room for."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from drivers.cpu.scripted import echo, play
from kernel import outbox, records
from kernel.event import Acked, Message
from kernel.limits import OUTBOX_MAX
from kernel.ports import Job
from kernel.process import State
from tests.fakes import Rig, op


def kept(rig: Rig, pid: int) -> list[int]:
    """Numbers of the messages that stand on disk."""
    rows = [msgspec.msgpack.decode(value, type=Message) for _, value in rig.disk.scan("outbox", records.key(pid, 0))]
    return [message.seq for message in rows if message.pid == pid]


def talked(messages: int) -> tuple[Rig, int]:
    """A process that has answered so many messages."""
    rig = Rig(echo)
    pid = rig.spawn()
    for n in range(messages):
        rig.say(pid, f"message {n}")
    return rig, pid


def test_what_is_acknowledged_goes_and_the_rest_stays() -> None:
    rig, pid = talked(5)
    rig.do(Acked(source="user", pid=pid, upto=2))
    assert kept(rig, pid) == [3, 4, 5]
    rig.boot()
    assert kept(rig, pid) == [3, 4, 5]
    assert rig.proc(pid).acked == 2


def test_an_acknowledgement_of_more_than_was_said_acknowledges_what_was_said() -> None:
    rig, pid = talked(2)
    rig.do(Acked(source="user", pid=pid, upto=99))
    rig.say(pid, "one more")
    assert kept(rig, pid) == [3]
    assert (rig.proc(pid).said, rig.proc(pid).acked) == (3, 2)


@given(st.lists(st.integers(-3, 9), max_size=8))
def test_acknowledgements_in_any_order_and_twice_acknowledge_up_to_the_highest(order: list[int]) -> None:
    rig, pid = talked(6)
    for upto in order:
        rig.do(Acked(source="user", pid=pid, upto=upto))
    assert kept(rig, pid) == list(range(max(0, min(6, max(order, default=0))) + 1, 7))


def test_an_acknowledgement_of_another_process_s_messages_leaves_ours() -> None:
    rig, pid = talked(2)
    other = rig.spawn("other")
    rig.say(other, "hello")
    rig.do(Acked(source="user", pid=other, upto=1))
    assert (kept(rig, pid), kept(rig, other)) == ([1, 2], [])
    assert rig.do(Acked(source="user", pid=77, upto=1)).error == "no process 77; processes are p, other"


def test_a_full_outbox_refuses_the_next_message_and_an_acknowledgement_makes_room() -> None:
    rig, pid = talked(1)
    proc = rig.proc(pid)
    rig.kernel.begin(rig.now)
    for _ in range(OUTBOX_MAX - 1):
        outbox.say(rig.kernel, proc, "again", more=True, truncated=False)
    rig.kernel.dirty(proc)
    rig.disk.commit(rig.kernel.end(Acked(at=rig.now, pid=pid, upto=0)).records)
    rig.say(pid, "hello?")
    assert proc.said == OUTBOX_MAX
    assert any("outbox full: 4096 messages wait for their reader" in text for text in rig.texts(pid))
    assert rig.proc(pid).state is State.IDLE, "its turn was ended, and nobody could be told; it lives"
    rig.do(Acked(source="user", pid=pid, upto=1))
    rig.say(pid, "and now?")
    assert rig.messages[-1].text == "you said: and now?"


def test_only_the_last_message_of_a_turn_says_that_it_ends() -> None:
    rig = Rig(play([op("send_message", text=text, more=text != "c") for text in "abc"]))
    pid = rig.spawn()
    rig.say(pid, "go", "m1")
    assert [(message.text, message.ends) for message in rig.messages] == [("a", False), ("b", False), ("c", True)]
    assert {message.answers for message in rig.messages} == {("m1",)}


def test_a_message_that_the_limit_cut_off_says_so() -> None:
    rig = Rig(lambda job: "word " * 200, "cpu.reply=100", encoding="prose")
    pid = rig.spawn()
    rig.say(pid, "talk")
    assert [message.truncated for message in rig.messages] == [True]


def test_what_was_said_is_a_page_that_is_found_by_what_it_says_and_not_by_its_syntax() -> None:
    def program(job: Job) -> str:
        return op("send_message", text="the vault opens at noon")

    rig = Rig(program)
    pid = rig.spawn()
    rig.say(pid, "when?")
    page = rig.page(rig.kernel.counters.page)
    assert page.searched == "the vault opens at noon"
    assert page.text.startswith("{")
