"""No interrupt is lost, doubled or out of order, whatever is raised, masked, killed, slept through or cut off when."""

import json
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.cpu.scripted import KV_TOKENS
from kernel.event import Halted, Killed, Note, Raised
from kernel.interrupts import MASKABLE, OUTSIDE, Line
from kernel.ports import Job
from kernel.process import State
from tests.fakes import PowerCut, Rig

PROCESSES = 3
LONGEST_S = 300  # a sleep or a mask
process = st.integers(0, PROCESSES - 1)
lines = st.sets(st.sampled_from([line.name.lower() for line in MASKABLE]), min_size=1).map(sorted)
call = st.one_of(
    st.builds(lambda names, s: {"op": "mask", "lines": names, "seconds": s}, lines, st.integers(1, LONGEST_S)),
    st.builds(lambda names: {"op": "unmask", "lines": names}, lines),
    st.builds(lambda s: {"op": "sleep", "seconds": s}, st.integers(1, LONGEST_S)),
    st.builds(
        lambda s, every: {"op": "set_timer", "seconds": s, "every": every, "text": "tick"}, *[st.integers(1, 99)] * 2
    ),
    st.just({"op": "send_message", "text": "word " * 12, "more": True}),
    st.just({"op": "send_message", "text": "word " * 12}),
)
moves = st.one_of(
    st.tuples(st.just("order"), process, st.lists(call, min_size=1, max_size=4)),
    st.tuples(st.just("say"), process),
    st.tuples(st.just("raise"), process, st.sampled_from(sorted(OUTSIDE))),
    st.tuples(st.just("pump"), st.integers(1, 8)),
    st.tuples(st.just("tick"), st.integers(1, 400)),
    st.tuples(st.just("kill"), process),
    st.tuples(st.just("halt"), process),
    st.tuples(st.just("cut"), st.integers(1, 6)),
)


class World:
    """A rig whose processes emit what they are told to, and the moves against it."""

    def __init__(self, abort: bool, slots: int, policy: str, flight: int = 0, kv: int = KV_TOKENS) -> None:
        self.orders: dict[str, deque[str]] = {f"p{n}": deque() for n in range(PROCESSES)}
        self.names: dict[int, str] = {}
        changes = ("memory.fault=false", f"sched.policy={policy}", "sched.quantum=8", "window=4096")
        self.rig = Rig(self._emit, *changes, f"sched.flight={flight}", slots=slots, kv=kv)
        for n in range(PROCESSES):
            self.names[self.rig.spawn(f"p{n}", abort=abort)] = f"p{n}"
        self.pids = list(self.names)
        self.said: dict[int, list[int]] = {pid: [] for pid in self.pids}

    def _emit(self, job: Job) -> str:
        waiting = self.orders[self.names[job.pid]]
        return waiting.popleft() if waiting else '{"op":"yield"}'

    def move(self, what: str, *rest: object) -> None:
        rig = self.rig
        match what, rest:
            case "say", (int(who),):
                self.say(self.pids[who])
            case "raise", (int(who), Line() as line):
                rig.do(Raised(source="device", pid=self.pids[who], line=line, text="it is so"))
            case "pump", (int(events),):
                rig.pump(events)
            case "tick", (int(seconds),):
                rig.tick(seconds)
            case "kill", (int(who),):
                if rig.proc(self.pids[who]).state is not State.ZOMBIE:
                    rig.do(Killed(source="user", pid=self.pids[who]))
            case "halt", (int(who),):
                rig.do(Halted(source="user", pid=self.pids[who]))
            case "cut", (int(commits),):
                rig.cut_at = commits
            case "order", (int(who), list(calls)):
                self.orders[f"p{who}"] += [json.dumps(one, separators=(",", ":")) for one in calls]
                self.say(self.pids[who])
            case _:
                raise AssertionError(what)

    def say(self, pid: int) -> None:
        step = self.rig.say(pid, f"message {self.rig.kernel.counters.lsn}", pump=False)
        if not step.error:  # not a dead process
            self.said[pid].append(step.pages[0][0].id)

    def play(self, what: str, *rest: object) -> None:
        try:
            self.move(what, *rest)
        except PowerCut:
            self.rig.cut_at = 0
            self.rig.boot()

    def finish(self) -> None:
        """Let the living do what they were told, for an hour at most; then every sleep and mask ends."""
        for _ in range(36):
            if not any(
                self.orders[self.names[pid]] for pid in self.pids if self.rig.proc(pid).state is not State.ZOMBIE
            ):
                break
            self.rig.tick(100)
        for waiting in self.orders.values():
            waiting.clear()
        self.rig.tick(LONGEST_S + 1)

    def notes(self) -> list[tuple[int, Note]]:
        return [(entry.lsn, note) for entry in journal(self.rig) for note in entry.notes]


def journal(rig: Rig) -> list:
    import msgspec

    from kernel.records import JournalEntry

    return [msgspec.msgpack.decode(value, type=JournalEntry) for _, value in rig.disk.scan("journal")]


@settings(max_examples=300, deadline=None)
@given(
    played=st.lists(moves, min_size=8, max_size=40),
    abort=st.booleans(),
    slots=st.integers(1, 2),
    policy=st.sampled_from(["fifo", "rr", "mlfq", "fair"]),
    flight=st.sampled_from([0, 1, 1_500]),
    kv=st.sampled_from([KV_TOKENS, 1]),
)
def test_every_message_is_delivered_once_and_in_order(
    played: list[tuple[str, ...]], abort: bool, slots: int, policy: str, flight: int, kv: int
) -> None:
    world = World(abort, slots, policy, flight, kv)
    for what, *rest in played:
        world.play(what, *rest)
    rig = world.rig
    rig.cut_at = 0
    rig.pump()
    world.finish()
    for pid, name in world.names.items():
        if rig.proc(pid).state is State.ZOMBIE:
            rig.spawn(name)
    rig.pump()
    delivered: dict[int, list[int]] = {pid: [] for pid in world.pids}
    raised: dict[tuple[int, Line], int] = {}
    for lsn, note in world.notes():
        if note.what == "delivered" and note.line is Line.USER:
            delivered[note.pid] += note.pages
        if note.what in ("delivered", "interrupt") and note.line in (Line.USER, Line.TIMER, *OUTSIDE):
            key = (note.pid, note.line)
            raised[key] = raised.get(key, 0) + (1 if note.what == "interrupt" else -1)
            assert raised[key] >= 0, f"delivered before it was raised, at {lsn}"
    for pid in world.pids:
        assert delivered[pid] == world.said[pid]
        assert not [one for one in rig.proc(pid).pending if one.line is not Line.MEMORY]
    assert not any(raised.values())


@settings(max_examples=60, deadline=None)
@given(played=st.lists(moves, max_size=25))
def test_within_a_delivery_more_urgent_lines_come_first(played: list[tuple[str, ...]]) -> None:
    world = World(False, 1, "rr")
    for what, *rest in played:
        world.play(what, *rest)
    for entry in journal(world.rig):
        for pid in world.pids:
            order = [note.line for note in entry.notes if note.what == "delivered" and note.pid == pid]
            assert order == sorted(order)
