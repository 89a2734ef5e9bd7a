"""The two times of a machine, and a machine in trio whose clocks are the test's."""

from __future__ import annotations

import datetime
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from drivers.cpu.scripted import ScriptedCpu
from drivers.disk.memory import MemoryDisk
from drivers.index.words import WordIndex
from kernel.boot import Board, boot
from kernel.event import What
from kernel.limits import CLOCK_LOOK_S, NS, OFF_S_MAX
from kernel.machine import views
from kernel.machine.clock import STEP_NS, WALL_NS_MAX, Clock, Sources
from kernel.machine.loop import Machine
from kernel.ports import Job
from kernel.records import Counters
from kernel.settings import Settings
from kernel.spec import Spec
from syscalls.abi import FULL
from syscalls.table import Table
from tests.fakes import op

HOUR = 3_600 * NS
YEAR = 365 * 24 * HOUR


class Host:
    """Clocks that go on, are set, and begin anew."""

    def __init__(self, wall: int, life: str = "first") -> None:
        self.set, self.up, self.life = wall, 5 * NS, life

    def wall(self) -> int:
        return self.set

    def goes_on(self, ns: int) -> None:
        self.set, self.up = self.set + ns, self.up + ns

    def clock(self, last: Counters, disk: MemoryDisk) -> Clock:
        """The machine's, booted on what it has committed."""
        made = Clock(Sources(self.wall, lambda: self.up, self.life))
        disk.commit(made.resume(last, disk))
        return made


def committed(clock: Clock) -> Counters:
    at, ahead = clock.read()
    return Counters(lsn=1, now=at, ahead=ahead)


def test_state_time_begins_as_the_wall_clock_and_only_passes() -> None:
    host = Host(20 * YEAR)
    clock = host.clock(Counters(), MemoryDisk())
    assert clock.read() == (20 * YEAR, 0)
    for by in (-HOUR, 3 * HOUR, -30 * YEAR, WALL_NS_MAX * 2):
        before, _ = clock.read()
        host.set += by
        host.goes_on(10 * NS)
        at, ahead = clock.read()
        assert at == before + 10 * NS
        assert at + ahead == min(max(0, host.set), WALL_NS_MAX), "within what a date may be"


def test_a_clock_that_is_off_by_no_more_than_a_second_was_not_set() -> None:
    host = Host(20 * YEAR)
    clock = host.clock(Counters(), MemoryDisk())
    for by in (STEP_NS, -2 * STEP_NS, STEP_NS // 2):
        host.set += by
        assert clock.read()[1] == 0
    host.set += 2 * STEP_NS
    assert clock.read()[1] == STEP_NS + STEP_NS // 2


@pytest.mark.parametrize("by", [0, -HOUR, HOUR, -30 * YEAR])
def test_what_passed_between_two_boots_is_known_exactly_while_the_host_lives(by: int) -> None:
    host, disk = Host(40 * YEAR), MemoryDisk()
    last = committed(host.clock(Counters(), disk))
    host.goes_on(HOUR)
    host.set += by
    at, ahead = host.clock(last, disk).read()
    assert (at - last.now, at + ahead) == (HOUR, host.set)


@pytest.mark.parametrize(
    ("by", "passed"), [(0, 2 * HOUR), (HOUR, 3 * HOUR), (-HOUR, HOUR), (-5 * HOUR, 0), (50 * YEAR, 0), (-30 * YEAR, 0)]
)
def test_when_the_host_went_down_it_is_what_the_wall_clock_gained_never_negative_and_bounded(
    by: int, passed: int
) -> None:
    host, disk = Host(40 * YEAR), MemoryDisk()
    last = committed(host.clock(Counters(), disk))
    after = Host(host.set + 2 * HOUR + by, "second")
    at, ahead = after.clock(last, disk).read()
    assert (at - last.now, at + ahead) == (passed, after.set)
    assert passed <= OFF_S_MAX * NS


def test_a_machine_that_was_made_with_a_wrong_clock_goes_on_when_it_is_right() -> None:
    host, disk = Host(0), MemoryDisk()
    clock = host.clock(Counters(), disk)
    host.goes_on(HOUR)
    host.set = 56 * YEAR
    last = committed(clock)
    assert (last.now, last.now + last.ahead) == (HOUR, 56 * YEAR)
    after = Host(56 * YEAR + HOUR, "second")
    at, ahead = after.clock(last, disk).read()
    assert (at, at + ahead) == (2 * HOUR, 56 * YEAR + HOUR)


class World:
    """The clocks of a machine in trio's virtual time."""

    def __init__(self) -> None:
        self.set = self.slept = 0
        self.disk = MemoryDisk()

    def passing(self) -> int:
        return int(trio.current_time() * NS) + self.slept

    def wall(self) -> int:
        return 40 * YEAR + self.passing() + self.set

    def date(self, seconds: int) -> str:
        when = datetime.datetime.fromtimestamp(self.wall() // NS + seconds, datetime.UTC)
        return f"{when:%Y-%m-%d %H:%M:%S}"

    @asynccontextmanager
    async def on(self):  # type: ignore[no-untyped-def]
        """A machine, running; what its user says it emits."""
        sources = Sources(self.wall, self.passing, "host")
        board = Board(ScriptedCpu(obeys), self.disk, WordIndex(self.disk), Settings(), sources)
        machine = await boot(board, Table())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(machine.run)
            yield machine
            machine.stop()


def obeys(job: Job) -> str:
    last = job.pages[-1]
    return last.page.text if last.role == "user" else op("yield")


async def told(machine: Machine, *calls: str) -> None:
    for call in calls:
        assert not (await machine.requests.message("p", "", call)).error
        await trio.sleep(0.01)


def fired(world: World) -> list[tuple[str, float]]:
    """What timers said, by when: in seconds after the beginning."""
    pages = [page for page in views_of(world) if page.text.startswith("[kernel] timer")]
    return [(page.text.removeprefix("[kernel] "), round((page.at - 40 * YEAR - world.set) / NS)) for page in pages]


def views_of(world: World) -> list[views.Page]:
    from kernel.records import page_of

    return [page_of(row, world.disk.get) for _, row in world.disk.scan("page")]


async def test_set_back_an_hour_while_it_runs_a_timer_of_ten_seconds_fires_in_ten_seconds(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with world.on() as machine:
        await machine.requests.spawn(Spec("p", calls=FULL))
        await told(machine, op("set_timer", seconds=10, text="before"))
        world.set = -HOUR
        await told(machine, op("set_timer", seconds=20, text="after"))
        await trio.sleep(30)
    assert fired(world) == [("timer 1: before", 10), ("timer 2: after", 20)]
    notes = [note.text for entry in views.log(world.disk, 0) for note in entry.notes if note.what is What.CLOCK]
    assert notes == ["set back by 3,600 s"]


async def test_a_timer_of_a_date_goes_by_the_wall_clock_ahead_and_back(autojump_clock: MockClock) -> None:
    world = World()
    async with world.on() as machine:
        await machine.requests.spawn(Spec("p", calls=FULL))
        await told(machine, op("set_timer", at=world.date(60), text="date"), op("set_timer", seconds=50, text="rest"))
        world.set = -HOUR
        await trio.sleep(100)
        assert [text for text, _ in fired(world)] == ["timer 2: rest"]
        world.set = 0
        await trio.sleep(CLOCK_LOOK_S + 1)
        world.set = -HOUR
        await trio.sleep(2 * HOUR / NS)
    assert len(fired(world)) == 2, "neither twice"
    assert fired(world)[1][0].endswith("s late: date"), "as soon as it is noticed"


async def test_a_laptop_that_was_suspended_fires_at_once_when_it_is_back(autojump_clock: MockClock) -> None:
    world = World()
    async with world.on() as machine:
        await machine.requests.spawn(Spec("p", calls=FULL))
        await told(machine, op("set_timer", seconds=3_600, text="tea"))
        await trio.sleep(5)
        world.slept = 2 * HOUR
        await trio.sleep(CLOCK_LOOK_S + 0.5)
    assert [text[:12] for text, _ in fired(world)] == ["timer 1, 360"], "it says how late, in seconds"


@pytest.mark.parametrize("by", [-HOUR, 5 * HOUR])
async def test_set_while_it_was_off_a_timer_fires_when_its_time_has_passed(autojump_clock: MockClock, by: int) -> None:
    world = World()
    async with world.on() as machine:
        await machine.requests.spawn(Spec("p", calls=FULL))
        await told(machine, op("set_timer", seconds=600, text="tea"))
    await trio.sleep(300)
    world.set = by
    async with world.on():
        await trio.sleep(298)
        assert fired(world) == []
        await trio.sleep(4)
    assert fired(world) == [("timer 1: tea", 600)]
