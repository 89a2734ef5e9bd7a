"""A reply is found by the id of the message that it answers: by whoever asks, whenever, whoever has read it before."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.cpu.scripted import echo, play
from kernel.errors import BadInput
from kernel.event import Acked, Killed, Message
from kernel.machine import replies
from kernel.machine.replies import SAID_MAX, Reply, Standing
from kernel.ports import Job
from tests.fakes import Rig, op


def asked(rig: Rig, mid: str) -> Reply:
    """What a client is told of a message."""
    return replies.reply(rig.disk, mid, replies.sent(rig.kernel, rig.disk, mid))


def texts(reply: Reply) -> list[str]:
    return [message.text for message in reply.messages]


def test_a_reply_is_found_by_the_id_of_its_message_whoever_has_acknowledged_it() -> None:
    rig = Rig(echo)
    pid, other = rig.spawn("a"), rig.spawn("b")
    for number in range(5):
        rig.say(pid, f"to a, {number}", f"a{number}")
        rig.say(other, f"to b, {number}", f"b{number}")
    rig.do(Acked(source="user", pid=pid, upto=5))
    rig.boot()
    for name in ("a", "b"):
        for number in range(5):
            found = asked(rig, f"{name}{number}")
            assert (found.standing, texts(found)) == (Standing.ANSWERED, [f"you said: to {name}, {number}"])


@pytest.mark.parametrize("encoding", ["json", "prose"])
def test_a_reply_is_told_as_it_was_said(encoding: str) -> None:
    text = '  "so"\n he said: {}  '
    said = op("send_message", text=text) if encoding == "json" else text
    rig = Rig(play([said]), encoding=encoding)
    pid = rig.spawn(mask=("send_message",))
    rig.say(pid, "what?", "m")
    assert list(asked(rig, "m").messages) == rig.messages


def test_one_reply_answers_all_messages_that_joined_its_turn_and_each_of_the_waiters_gets_it() -> None:
    def program(job: Job) -> str:
        return op("search", query="anything") if job.instr == 1 else op("send_message", text="to all of you")

    rig = Rig(program)
    pid = rig.spawn()
    rig.answering = False
    for mid in ("first", "second", "third"):
        rig.say(pid, f"the {mid} of them", mid)
        assert asked(rig, mid).standing is Standing.OPEN
    rig.answering = True
    rig.boot()
    rig.pump()
    for mid in ("first", "second", "third"):
        assert (asked(rig, mid).standing, texts(asked(rig, mid))) == (Standing.ANSWERED, ["to all of you"])


def test_what_was_said_before_the_end_of_a_turn_is_part_of_the_reply() -> None:
    rig = Rig(play([op("send_message", text="wait", more=True), op("send_message", text="here it is")]))
    pid = rig.spawn()
    rig.say(pid, "tell me", "m")
    assert texts(asked(rig, "m")) == ["wait", "here it is"]


def test_a_turn_that_ends_without_a_message_leaves_none_to_wait_for() -> None:
    rig = Rig(play([op("yield"), op("send_message", text="later, to another")]))
    pid = rig.spawn()
    rig.say(pid, "anything?", "m1")
    assert asked(rig, "m1") == Reply(Standing.ENDED, ())
    rig.say(pid, "and now?", "m2")
    assert asked(rig, "m1") == Reply(Standing.ENDED, ())
    assert texts(asked(rig, "m2")) == ["later, to another"]


def test_of_a_process_that_died_it_is_told_why() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    rig.answering = False
    rig.say(pid, "are you there?", "m")
    rig.do(Killed(source="user", pid=pid, status="enough"))
    assert asked(rig, "m") == Reply(Standing.DIED, (), "enough")


def test_an_id_that_nobody_has_sent_is_refused() -> None:
    rig = Rig(echo)
    with pytest.raises(BadInput, match="no message has the id 'x'"):
        asked(rig, "x")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_every_message_is_told_what_it_was_answered_and_nothing_else(seed: int) -> None:
    rng = Random(seed)

    def program(job: Job) -> str:
        draw = Random(f"{seed}/{job.pid}/{job.instr}").random()
        if draw < 0.2:
            return op("search", query="word")
        if draw < 0.3:
            return op("yield")
        return op("send_message", text=f"reply {job.pid}.{job.instr}", more=draw < 0.5)

    rig = Rig(program, slots=2)
    pids = [rig.spawn(f"p{number}") for number in range(3)]
    mids: dict[str, int] = {}
    said: list[Message] = []
    for number in range(30):
        pid = rng.choice(pids)
        mids[f"m{number}"] = pid
        rig.say(pid, f"message {number}", f"m{number}", pump=False)
        rig.pump(rng.randint(0, 6))
        if rng.random() < 0.3:
            rig.do(Acked(source="user", pid=pid, upto=rng.randint(0, rig.proc(pid).said)))
        if rng.random() < 0.1:
            said += rig.messages
            rig.boot()
    rig.pump()
    said += rig.messages
    for mid, pid in mids.items():
        found = asked(rig, mid)
        expected = {one.seq: one for one in said if one.pid == pid and mid in one.answers}
        assert list(found.messages) == [expected[seq] for seq in sorted(expected)]
        assert found.standing is (Standing.ANSWERED if any(one.ends for one in expected.values()) else Standing.ENDED)


def test_all_that_a_process_said_comes_in_pieces() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    for n in range(SAID_MAX + 20):
        rig.say(pid, "go on", f"m{n}")
        rig.do(Acked(pid=pid, upto=n + 1))
    first, more = replies.said(rig.disk, pid, 0)
    rest, no_more = replies.said(rig.disk, pid, first[-1].seq)
    assert (more, no_more) == (True, False)
    assert [one.seq for one in [*first, *rest]] == list(range(1, SAID_MAX + 21))


def test_a_piece_is_no_longer_than_a_line_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "OUTBOX_BYTES", 40)
    rig = Rig(echo)
    pid = rig.spawn()
    for n in range(9):
        rig.say(pid, f"number {n}", f"m{n}")
    found, more, pieces = list[Message](), True, 0
    while more:
        piece, more = replies.said(rig.disk, pid, found[-1].seq if found else 0)
        assert sum(len(one.text) for one in piece[:-1]) <= 40
        found, pieces = found + piece, pieces + 1
    assert [one.seq for one in found] == list(range(1, 10))
    assert pieces > 2
