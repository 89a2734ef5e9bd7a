"""Clocks that are set, restarts in between: relative timers fire when their time has passed, those of a date at it."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from drivers.cpu.virtual import VirtualCpu
from drivers.disk.memory import MemoryDisk
from drivers.index.words import WordIndex
from kernel.event import AnyEvent, Spawned, TimerFired
from kernel.limits import NS, OFF_S_MAX
from kernel.machine.clock import STEP_NS, Clock, Sources
from kernel.machine.virtual import VirtualMachine
from kernel.ports import Job
from kernel.replay import Replay
from kernel.settings import Settings
from kernel.spec import Spec
from kernel.state import Step
from syscalls.abi import FULL
from syscalls.table import Table
from tests.fakes import op

START = 1_700_000_000 * NS
YEAR_1971, YEAR_2200 = (at * NS for at in (31_536_000, 7_258_118_400))
YEARS = 50 * 365 * 86_400
SLACK = STEP_NS + NS // 100  # a clock that is off by no more was not set; the CPU takes its time

seconds = st.integers(1, 7_200)
jumps = st.one_of(st.integers(-7_200, 7_200), st.sampled_from([-YEARS, YEARS, -OFF_S_MAX, OFF_S_MAX - 60]))
Act = tuple[str, int, int]
acts = st.lists(
    st.one_of(
        st.tuples(st.just("passes"), seconds, st.just(0)),
        st.tuples(st.just("set"), jumps, st.just(0)),
        st.tuples(st.just("relative"), seconds, st.just(0)),
        st.tuples(st.just("absolute"), seconds, st.just(0)),
        st.tuples(st.sampled_from(["restart", "reboot"]), seconds, st.one_of(st.just(0), jumps)),
    ),
    max_size=14,
)


def obeys(job: Job) -> str:
    """It emits what its user says, once."""
    last = job.pages[-1]
    return last.page.text if last.role == "user" else op("yield")


@dataclass
class Set:
    """A timer as the test sees it: due at a time of the wall clock's, or after so long.

    `more`, `less`: by how much the machine may count more or less of what has passed than there was.
    """

    wall: bool
    due: int
    since: int
    more: int = 0
    less: int = 0
    reached: bool = False  # the machine was on when it was due beyond doubt
    early: list[int] = field(default_factory=list)  # each time it fired: before it could be due by so much


class World:
    """A machine whose host is restarted, goes down, and has its clock set."""

    def __init__(self, wrong: int) -> None:
        self.disk, self.life, self.up = MemoryDisk(), 0, START - NS
        self.made = VirtualMachine(START)
        self.made.set_clock(wrong * NS)
        self.offset = wrong * NS
        self.timers: dict[int, Set] = {}
        self.boot(down=True)
        self.pid = self.made.do(Spawned(source="user", spec=Spec("p", calls=FULL))).pid

    def boot(self, *, down: bool) -> None:
        if down:  # the host's own clock begins anew
            self.life, self.up = self.life + 1, self.made.now - NS
        up, made = self.up, self.made
        made.clock = Clock(Sources(lambda: made.now + self.offset, lambda: made.now - up, f"life {self.life}"))
        made.watch = self.saw
        made.boot(Table(), VirtualCpu(obeys, made, token_ns=1), self.disk, WordIndex(self.disk), Settings())

    def saw(self, event: AnyEvent, step: Step) -> None:
        if isinstance(event, TimerFired) and step.notes:
            one = self.timers[event.timer]
            one.early.append(
                one.due - (self.made.now + self.offset if one.wall else self.made.now - one.since + one.more)
            )

    def passes(self, ns: int) -> None:
        """The machine is on: afterwards, what is due by more than the doubt must have fired."""
        self.made.run(self.made.now + ns)
        for one in self.timers.values():
            past = self.made.now + self.offset if one.wall else self.made.now - one.since - one.less
            one.reached = one.reached or past >= one.due + SLACK

    def turned(self, jump: int) -> int:
        """Set the clock, if that leads to a year that a host may have; by how much, in ns."""
        if not YEAR_1971 < self.made.now + self.offset + jump * NS < YEAR_2200:
            return 0
        self.offset += jump * NS
        return jump * NS

    def act(self, what: str, number: int, jump: int) -> None:
        match what:
            case "passes":
                self.passes(number * NS)
            case "set":
                self.turned(number)
                self.made.notice()
                self.passes(1_000)
            case "relative":
                self.arm(op("set_timer", seconds=number, text="tea"), Set(False, number * NS, self.made.now))
            case "absolute":
                at = (self.made.now + self.offset) // NS + 1 + number
                when = datetime.datetime.fromtimestamp(at, datetime.UTC)
                self.arm(op("set_timer", at=f"{when:%Y-%m-%d %H:%M:%S}", text="date"), Set(True, at * NS, 0))
            case "restart" | "reboot":
                self.made.lose_power()
                self.made.now += number * NS
                by = self.turned(jump)
                if what == "reboot":  # what passed since the last commit is what the wall clock says
                    passed = self.made.clock.now() - self.made.kernel.counters.now
                    believed = 0 < passed + by <= OFF_S_MAX * NS
                    for one in self.timers.values():
                        one.more += max(0, by)
                        one.less += max(0, -by) if believed else passed
                self.boot(down=what == "reboot")
                self.passes(1_000)

    def arm(self, call: str, one: Set) -> None:
        before = self.made.kernel.counters.timer
        self.made.do(self.made.say(self.pid, call))
        self.made.run(self.made.now + 1_000)
        assert self.made.kernel.counters.timer == before + 1, "it was set"
        self.timers[before + 1] = one


@settings(max_examples=100, deadline=None)
@given(acts, st.sampled_from([0, -YEARS, YEARS]))
@example([("relative", 10, 0), ("set", -3_600, 0), ("passes", 11, 0), ("relative", 10, 0), ("passes", 11, 0)], 0)
@example([("absolute", 600, 0), ("relative", 600, 0), ("restart", 60, 7_200), ("passes", 600, 0)], 0)
@example([("relative", 600, 0), ("reboot", 60, YEARS), ("passes", 600, 0)], -YEARS)
@example([("absolute", 60, 0), ("passes", 61, 0), ("set", -3_600, 0), ("reboot", 60, 0), ("passes", 7_200, 0)], 0)
def test_a_relative_timer_fires_when_its_time_has_passed_one_of_a_date_at_it_and_neither_twice(
    story: list[Act], wrong: int
) -> None:
    world = World(wrong)
    for one in story:
        world.act(*one)
    for timer in world.timers.values():
        assert len(timer.early) <= 1, "twice"
        assert timer.early or not timer.reached, "it was due, and did not fire"
        assert all(early <= SLACK for early in timer.early), "before its time"
    assert [step.why for step in Replay(world.disk, Table()).steps() if step.why] == []
