"""The queue: what leaves for what arrives, and what an eviction leaves behind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.cpu.scripted import echo
from kernel.event import Forked
from kernel.memory.address_space import AddressSpace, Entry
from kernel.memory.page import Kind, Role
from kernel.memory.pager import Budgets, make_room, pressure
from kernel.memory.policy import POLICIES, make
from kernel.ports import Job
from tests.fakes import Rig, op


def test_eviction_goes_down_to_the_low_mark_in_one_batch_and_leaves_one_stub() -> None:
    rig = Rig(echo, "window=2048", "cpu.reply=100", "memory.low=0.5")
    pid = rig.spawn()
    before = 0
    for n in range(40):
        rig.say(pid, f"filler {n}: bread, weather, trains and again the weather")
        space = rig.proc(pid).space
        if rig.proc(pid).accounts.evictions > before:
            before = rig.proc(pid).accounts.evictions
            assert (
                space.used() <= 0.5 * rig.kernel.budgets(rig.proc(pid)).queue + 150
            )  # the stub and the turn come on top
        assert sum(entry.kind is Kind.STUB for entry in space.queue) == (1 if before else 0)
    assert before > 10


def test_on_evict_nothing_leaves_no_stub() -> None:
    rig = Rig(echo, "window=2048", "cpu.reply=100", "memory.on_evict=nothing")
    pid = rig.spawn()
    for n in range(30):
        rig.say(pid, f"filler {n}: bread, weather, trains and again the weather")
    assert rig.proc(pid).accounts.evictions
    assert all(entry.kind is not Kind.STUB for entry in rig.proc(pid).space.queue)


def test_pressure_is_raised_once_and_again_only_after_it_fell() -> None:
    rig = Rig(echo, "window=2048", "cpu.reply=100", "memory.low=0.5", "memory.warn=0.7")
    pid = rig.spawn()
    batches = 0
    for n in range(60):
        before = rig.proc(pid).accounts.evictions
        rig.say(pid, f"filler {n}: bread, weather, trains and again the weather")
        batches += rig.proc(pid).accounts.evictions > before
    alerts = [value for _, value in rig.disk.scan("page") if b"memory pressure" in value]
    assert 2 <= batches <= len(alerts) <= batches + 1  # once a rise


def filled(*changes: str, until: int = 1) -> tuple[Rig, int]:
    """A process whose queue has let pages go so many times."""
    rig = Rig(echo, "window=2048", "cpu.reply=100", *changes)
    pid = rig.spawn()
    batches = 0
    while batches < until:  # ends: a queue is finite
        before = rig.proc(pid).accounts.evictions
        rig.say(pid, "filler: bread, weather, trains and again the weather")
        batches += rig.proc(pid).accounts.evictions > before
    return rig, pid


def test_nothing_leaves_while_what_arrives_fits() -> None:
    rig = Rig(echo, "window=2048", "cpu.reply=100")
    pid = rig.spawn()
    pages: list[int] = []
    limit = rig.kernel.budgets(rig.proc(pid)).queue
    while not rig.proc(pid).accounts.evictions:
        pages = [entry.page for entry in rig.proc(pid).space.queue]
        used = rig.proc(pid).space.used()
        rig.say(pid, "filler: bread, weather, trains and again the weather")
    arrived = rig.kernel.counters.page - max(pages)
    assert arrived > 0
    assert limit - used < 120  # the two pages that did not fit
    assert pages  # and until then all were there


def test_the_stub_stands_first_counts_what_has_left_and_is_written_anew_by_each_eviction() -> None:
    rig, pid = filled()
    space = rig.proc(pid).space
    first = space.queue[0]
    assert first.kind is Kind.STUB
    assert str(space.evicted) in rig.page(first.page).text
    while rig.proc(pid).space.queue[0] == first:
        rig.say(pid, "filler: bread, weather, trains and again the weather")
    space = rig.proc(pid).space
    assert space.queue[0].kind is Kind.STUB
    assert str(space.evicted) in rig.page(space.queue[0].page).text
    assert first.page not in space.resident()


def test_what_was_evicted_is_counted_once_and_the_stub_is_not_counted() -> None:
    rig, pid = filled(until=3)
    space = rig.proc(pid).space
    own = [rig.page(number) for number in range(1, rig.kernel.counters.page + 1)]
    gone = [page for page in own if page.pid == pid and page.kind is not Kind.STUB and page.id not in space.resident()]
    assert space.evicted == len(gone)


def test_a_syscall_and_its_result_leave_together() -> None:
    instruction = op("search", query="amber and birch and cedar")
    rig = Rig(lambda job: instruction if job.instr % 2 else op("yield"), "window=2048", "cpu.reply=100")
    pid = rig.spawn()
    for n in range(60):
        rig.say(pid, f"message {n}: bread, weather, trains")
        groups: dict[int, set[Kind]] = {}
        for entry in rig.proc(pid).space.queue:
            if entry.group:
                groups.setdefault(entry.group, set()).add(entry.kind)
        searched = [kinds for kinds in groups.values() if Kind.RESULT in kinds]
        assert searched
        assert all(Kind.SYSCALL in kinds for kinds in searched)
    assert rig.proc(pid).accounts.evictions


def test_the_turns_own_pages_go_only_when_all_others_are_gone() -> None:
    rig = Rig(
        lambda job: op("core_append", block="b", text="x") if job.instr % 3 else op("yield"),
        "window=2048",
        "cpu.reply=100",
    )
    pid = rig.spawn()
    for n in range(30):
        rig.say(pid, f"message {n}: bread, weather, trains and again the weather")
        space = rig.proc(pid).space
        texts = rig.texts(pid)
        if rig.proc(pid).accounts.evictions:
            assert any(text.startswith(f"message {n}:") for text in texts)
    assert space.used() <= rig.kernel.budgets(rig.proc(pid)).queue


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_every_policy_holds_what_is_resident_after_evictions_pins_forks_and_boots(policy: str) -> None:
    def program(job: Job) -> str:
        page = job.pages[-1].page.id
        return [op("pin", page=page), op("evict", pages=[page]), op("read", pages=[3]), op("yield")][job.instr % 4]

    rig = Rig(program, "window=2048", "cpu.reply=100", f"memory.policy={policy}")
    pid = rig.spawn()
    for n in range(40):
        rig.say(pid, f"message {n}: bread, weather, trains and again the weather")
        if n == 20:
            rig.boot()
        if n == 30:
            pid = rig.do(Forked(source="user", pid=pid, name="child")).pid
    space = rig.proc(pid).space
    held = rig.kernel.policy(rig.proc(pid)).evict(1 << 40, ())
    assert sorted(held) == sorted(entry.page for entry in space.queue if entry.kind is not Kind.STUB)


@given(
    sizes=st.lists(st.integers(1, 120), min_size=1, max_size=40),
    pins=st.sets(st.integers(1, 40)),
    turn=st.sampled_from([0, 5, 40]),
    low=st.sampled_from([0.0, 0.3, 0.9]),
    policy=st.sampled_from(sorted(POLICIES)),
)
def test_after_room_was_made_the_arrival_fits_and_no_pin_has_left(
    sizes: list[int], pins: set[int], turn: int, low: float, policy: str
) -> None:
    limits = Budgets(2048, 0, 0, 0, 0, 0, queue=600, pinned=100, unit=240)
    space, chooser = AddressSpace(queue=[]), make(policy, limits.queue)
    for page, tokens in enumerate(sizes, 1):
        pinned = page in pins and space.pinned() + tokens <= limits.pinned
        space.turn = min(turn, len(space.queue))
        before = [entry.page for entry in space.queue]
        fits = space.used() + tokens <= limits.queue
        gone = make_room(space, chooser, limits, tokens, low)
        assert space.used() + tokens <= limits.queue
        assert not [entry for entry in gone if entry.pinned]
        assert bool(gone) != fits
        assert before == sorted([entry.page for entry in gone + space.queue], key=before.index)
        if gone and space.turn == len(space.queue):  # nothing of a turn, which is spared as long as the rest will do
            assert space.used() + tokens <= max(low * limits.queue, space.pinned() + tokens)
        space.queue.append(Entry(page, tokens, Kind.MESSAGE, Role.USER, pinned=pinned))
        chooser.admit(page, tokens, Kind.MESSAGE)


@given(st.lists(st.integers(0, 100), max_size=40))
def test_the_pressure_edge_is_raised_once_a_rise(levels: list[int]) -> None:
    limits, space = Budgets(0, 0, 0, 0, 0, 0, queue=100, pinned=0, unit=0), AddressSpace(queue=[])
    above = False
    for level in levels:
        space.queue = [Entry(1, level, Kind.MESSAGE, Role.USER)]
        edge = pressure(space, limits, 0.7)
        assert edge == (level >= 70 and not above)
        above = True if level >= 70 else above and level >= 60


def test_a_turn_begins_with_the_message_that_began_it_whatever_has_left_and_came_in_front() -> None:
    begins: list[str] = []

    def program(job: Job) -> str:
        space = rig.proc(job.pid).space
        begins.append(rig.page(space.queue[space.turn].page).text)
        return op("remember", text="x") if job.instr % 3 else op("yield")

    rig = Rig(program, "window=2048", "cpu.reply=100")
    pid = rig.spawn()
    for n in range(40):
        begins.clear()
        rig.say(pid, f"message {n}: bread, weather, trains and again the weather")
        assert begins
        for text in begins:  # the kernel's warning comes before any message
            assert text.startswith((f"message {n}:", "[kernel] memory pressure")), text
    assert rig.proc(pid).accounts.evictions
