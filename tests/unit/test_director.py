"""The director against a stage of its own: a machine that is a few sets, with an agenda that jumps."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Coroutine
from itertools import count

import pytest

from kernel.errors import BadInput
from kernel.event import AnyEvent, Consented, Granted, Killed, Raised, Revoked
from kernel.machine.latency import Latency
from kernel.memory.address_space import AddressSpace
from kernel.process import Process, State
from kernel.spec import Spec
from llmos.scenario.days import BEGINS
from llmos.scenario.director import Director
from llmos.scenario.format import UNITS, EventSpec, Expect, Pattern, ProcessSpec, Scenario
from llmos.scenario.look import Looked
from llmos.scenario.reading import check
from llmos.scenario.timeline import Timeline
from llmos.scenario.verbs import VERBS, AnyVerb

S = UNITS["s"]


class Machine:
    """A Stage whose processes live or do not, and which keeps what it was asked for, by the second.

    It refuses who is dead, and who exists already; a commit takes `commit` ns.
    """

    def __init__(self, *events: EventSpec, expect: tuple[Expect, ...] = (), seed: int = 0, commit: int = 0) -> None:
        told = Expect(count=Pattern(what="event"), least=0)
        processes = {name: ProcessSpec(does="yield", nice=nice) for nice, name in enumerate("abc")}
        scenario = Scenario(
            title="",
            teaches="",
            until="1h",
            start="2023-11-14 22:13:20 UTC",
            processes=processes,
            events=events,
            expect=expect or (told,),
        )
        self.time, self.commit = 0, commit
        self.alive: set[str] = set()
        self.dark = False
        self.done: list[tuple[float, str]] = []
        self._number = count()
        self._agenda: list[tuple[int, int, str, AnyVerb | None, str]] = []
        self.timeline = Timeline(check(scenario), self.now, lambda number: None)
        self.director = Director(scenario, seed, self.timeline, self)

    def play(self) -> Machine:
        run(self.director.begin())
        while self._agenda:
            when, _, name, verb, who = heapq.heappop(self._agenda)
            self.time = max(self.time, when)
            if verb is None:
                self.director.look(when, who)
            else:
                run(self.director.happen(name, verb))
        return self

    def entries(self, *whats: str) -> list[tuple[float, str]]:
        return [(one.at / S, one.text) for one in self.timeline.entries if one.what in whats]

    def now(self) -> int:
        return self.time

    def powered(self) -> bool:
        return not self.dark

    def put(self, when: int, name: str, verb: AnyVerb) -> None:
        heapq.heappush(self._agenda, (when, next(self._number), name, verb, ""))

    def watch_for(self, when: int, who: str) -> None:
        heapq.heappush(self._agenda, (when, next(self._number), "", None, who))

    def looked(self, who: str) -> Looked:
        return Looked(State.IDLE if who in self.alive else State.ZOMBIE)

    def _did(self, what: str) -> None:
        self.done.append((self.time / S, what))
        self.time += self.commit

    def _lives(self, who: str) -> None:
        if who not in self.alive:
            raise BadInput(f"{who} is dead")

    async def spawn(self, name: str, spec: ProcessSpec) -> None:
        if name in self.alive:
            raise BadInput(f"{name} exists")
        self.alive.add(name)
        self._did(f"spawn {name} {spec.nice}")

    async def say(self, who: str, text: str, mid: str) -> None:
        self._lives(who)
        self._did(f"{mid} {who} {text}")

    async def submit(self, who: str, made: Callable[[Process], AnyEvent]) -> None:
        self._lives(who)
        event = made(Process("abc".index(who) + 1, Spec(who), AddressSpace(), req=7))
        match event:
            case Raised():
                self._did(f"{event.line.name} {who} {event.text}")
            case Killed():
                self.alive.remove(who)
                self._did(f"kill {who}")
            case Granted() | Revoked():
                self._did(f"{type(event).__name__} {who} {event.right}")
            case Consented():
                self._did(f"{event.yes} {who} {event.req}")
            case _:
                raise AssertionError(event)

    def fail(self, runs: int) -> None:
        self._did(f"fail {runs}")

    def stall(self, length: int) -> None:
        self._did(f"stall {length / S:g}")

    def silence(self, length: int) -> None:
        self._did(f"silence {length / S:g}")

    def slow(self, each: int, length: int) -> None:
        self._did(f"slow {each / S:g} {length / S:g}")

    async def cut(self, length: int) -> None:
        self.dark = True
        self._did(f"cut {length / S:g}")

    async def set_clock(self, to: Callable[[int], int]) -> None:
        wall = BEGINS + self.time
        self._did(f"clock {(to(wall) - wall) / S:g}")


def run(what: Coroutine[object, object, None]) -> None:
    with pytest.raises(StopIteration):
        what.send(None)


def test_every_verb_of_the_format_is_done_by_the_stage_with_its_lengths_in_ns() -> None:
    written: dict[str, EventSpec] = {
        "say": EventSpec(at="1s", to=("a", "b"), say="hi"),
        "raise": EventSpec(at="2s", to=("c", "a"), raise_="device", text="ding"),
        "kill": EventSpec(at="3s", kill="b"),
        "start": EventSpec(at="4s", start="b"),
        "grant": EventSpec(at="4.1s", to=("a",), grant="send:*"),
        "revoke": EventSpec(at="4.2s", to=("a",), revoke="send:b"),
        "allow": EventSpec(at="4.3s", to=("b",), allow=False),
        "fails": EventSpec(at="5s", fails=3),
        "stall": EventSpec(at="6s", stall="1m30s"),
        "silence": EventSpec(at="7s", silence="500ms"),
        "slow": EventSpec(at="8s", slow="250ms", lasts="1h"),
        "cut": EventSpec(at="9s", cut="2s"),
        "clock": EventSpec(at="10s", clock="-1h30m"),
        "jump": EventSpec(at="11s", jump="2023-11-14 22:14:20"),
    }
    assert tuple(written) == VERBS
    machine = Machine(*written.values()).play()
    assert machine.done[:3] == [(0, "spawn a 0"), (0, "spawn b 1"), (0, "spawn c 2")]
    assert machine.done[3:] == [
        *((1, "s1 a hi"), (1, "s2 b hi"), (2, "DEVICE c ding"), (2, "DEVICE a ding"), (3, "kill b")),
        *((4, "spawn b 0"), (4.1, "Granted a send:*"), (4.2, "Revoked a send:b"), (4.3, "False b 7")),
        *((5, "fail 3"), (6, "stall 90"), (7, "silence 0.5"), (8, "slow 0.25 3600"), (9, "cut 2")),
        *((10, "clock -5400"), (11, "clock 49")),
    ]
    assert machine.entries("refused") == []
    assert machine.entries("cut") == [(9, "the power is off for 2 s")]


def test_what_follows_counts_from_the_end_of_what_it_follows() -> None:
    machine = Machine(
        EventSpec(name="slow one", at="1s", to=("a", "b"), say="x"),
        EventSpec(after="slow one", by="2s", fails=1),
        commit=S // 2,
    ).play()
    assert machine.done[-3:] == [
        (1.5, "s1 a x"),
        (2.0, "s2 b x"),
        (4.5, "fail 1"),
    ]  # spawns took 1.5 s


def test_what_is_refused_is_followed_nonetheless_and_others_after_it_are_left_out() -> None:
    machine = Machine(
        EventSpec(at="1s", kill="b"),
        EventSpec(name="call", at="2s", to=("a", "b", "c"), say="x"),
        EventSpec(after="call", by="1s", to=("c",), say="y"),
    ).play()
    assert machine.done[-2:] == [(2, "s1 a x"), (3, "s3 c y")]
    assert machine.entries("event", "refused") == [(2, "call"), (2, "b is dead")]


def test_while_the_power_is_off_all_is_refused_and_nothing_follows() -> None:
    machine = Machine(
        EventSpec(name="storm", at="1s", cut="1m"),
        EventSpec(after="storm", by="1s", fails=1),
        EventSpec(name="knock", at="3s", to=("a",), say="x"),
        EventSpec(after="knock", fails=2),
    ).play()
    assert machine.done[-1] == (1, "cut 60")
    assert machine.entries("event", "refused") == [
        *((1, "storm"), (2, "an event: the power is off"), (3, "knock: the power is off"))
    ]


def test_events_of_one_time_happen_in_the_order_of_the_file() -> None:
    machine = Machine(*(EventSpec(at="1s", fails=n) for n in range(1, 6))).play()
    assert [what for _, what in machine.done[3:]] == [f"fail {n}" for n in range(1, 6)]


def test_a_spread_is_drawn_from_the_seed() -> None:
    event = EventSpec(every="10s", times=5, spread="9s", fails=1)
    runs = [Machine(event, seed=seed).play().done for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    assert all(0 <= when - 10 * n < 9 for n, (when, _) in enumerate(runs[0][3:], 1))


def test_a_state_is_looked_at_at_its_time_and_kept_for_the_expectation() -> None:
    for at, state in (("1s", "idle"), ("3s", "zombie")):
        machine = Machine(EventSpec(at="2s", kill="a"), expect=(Expect(state=state, process="a", at=at),)).play()
        assert machine.timeline.ran(0, 0, Latency()).ok


def test_a_process_that_cannot_be_ends_the_run() -> None:
    machine = Machine()
    machine.alive.add("b")
    with pytest.raises(BadInput, match="b exists"):
        machine.play()
