"""Any interleaving of sends, crashes, restarts and reconnects: a client sees each message once, in order."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel import records
from kernel.audit import audit
from kernel.event import Acked, Message
from kernel.memory.page import Origin
from tests.fakes import PowerCut, Rig
from tests.sim.test_crash import program

SENDS = st.tuples(st.just("send"), st.integers(0, 1))
ACTS = st.one_of(
    SENDS,
    SENDS,
    st.tuples(st.just("resend"), st.integers(0, 40)),  # the answer was lost: the same message id again
    st.tuples(st.just("run"), st.integers(1, 30)),
    st.tuples(st.just("tick"), st.sampled_from([1, 30, 100])),
    st.tuples(st.just("cut"), st.integers(1, 8)),  # power goes at that commit from now
    st.tuples(st.just("restart"), st.just(0)),
    st.tuples(st.just("leave"), st.just(0)),
    st.tuples(st.just("connect"), st.just(0)),
    st.tuples(st.just("ack"), st.integers(0, 3)),  # so many of what it has seen are not acknowledged yet
)


class Client:
    """What a client does: remembers, sends again what was not answered, and drops a number that it has seen."""

    def __init__(self, rig: Rig, pids: list[int]) -> None:
        self.rig, self.pids = rig, pids
        self.seen: dict[int, list[str]] = {pid: [] for pid in pids}
        self.sent: list[tuple[str, int, str]] = []  # message id, process, text
        self.answered: set[str] = set()
        self.connected = True

    def hear(self, messages: list[Message]) -> None:
        for message in messages:
            seen = self.seen[message.pid]
            if message.seq <= len(seen):
                assert seen[message.seq - 1] == message.text, "again, and another text"
                continue
            assert message.seq == len(seen) + 1, "one is missing"
            seen.append(message.text)

    def listen(self) -> None:
        """What was published while it was connected; the rest is gone for it."""
        live, self.rig.messages = list(self.rig.messages), []
        if self.connected:
            self.hear(live)

    def connect(self) -> None:
        """The outbox from after the last it saw, then live."""
        self.rig.messages = []
        self.connected = True
        for pid in self.pids:
            rows = self.rig.disk.scan("outbox", records.key(pid, len(self.seen[pid]) + 1))
            kept = [msgspec.msgpack.decode(value, type=Message) for _, value in rows]
            self.hear([message for message in kept if message.pid == pid])

    def send(self, mid: str, pid: int, text: str) -> None:
        if self.rig.disk.get("mid", mid.encode()) is None:  # as Machine.message does
            step = self.rig.say(pid, text, mid, pump=False)
            if step.error:
                return
        self.answered.add(mid)


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTS, max_size=40), st.integers(1, 3))
def test_each_message_once_and_in_order(acts: list[tuple[str, int]], slots: int) -> None:
    rig = Rig(program, "sched.quantum=25", "window=3000", slots=slots)
    pids = [rig.spawn(f"p{n}") for n in range(2)]
    client = Client(rig, pids)
    for what, number in acts:
        try:
            match what:
                case "send":
                    mid = f"m{len(client.sent)}"
                    client.sent.append((mid, pids[number], f"{mid} says hello"))
                    client.send(*client.sent[-1])
                case "resend" if client.sent:
                    client.send(*client.sent[number % len(client.sent)])
                case "run":
                    rig.pump(number)
                case "tick":
                    rig.tick(number)
                case "cut":
                    rig.cut_at = number
                case "restart":
                    raise PowerCut
                case "leave":
                    client.connected = False
                case "connect":
                    client.connect()
                case "ack":
                    for pid in pids:
                        rig.do(Acked(source="user", pid=pid, upto=max(0, len(client.seen[pid]) - number)))
            client.listen()
        except PowerCut:
            rig.cut_at = 0
            client.connected = False
            rig.boot()
    rig.cut_at = 0
    client.connect()
    for one in client.sent:
        client.send(*one)
    for _ in range(20):
        rig.pump(400)
        client.listen()
    assert audit(rig.disk).findings == []
    for pid in pids:
        assert len(client.seen[pid]) == rig.proc(pid).said
    pages = [rig.page(number) for number in range(1, rig.kernel.counters.page + 1)]
    inputs = [page.text for page in pages if page.origin is Origin.USER]
    for mid, _, text in client.sent:
        assert inputs.count(text) == (mid in client.answered)
