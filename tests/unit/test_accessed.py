"""Accessed bits: what a text drew on, who is told, and what joins the queue for it."""

from __future__ import annotations

import msgspec
import pytest
import trio

from drivers.cpu.scripted import ScriptedCpu
from drivers.cpu.virtual import VirtualCpu
from drivers.disk.memory import MemoryDisk
from drivers.index.words import WordIndex
from kernel import formats
from kernel.audit import audit
from kernel.boot import Board, boot
from kernel.event import Note, Spawned, Trapped, What
from kernel.limits import NS
from kernel.machine.virtual import VirtualMachine
from kernel.memory.attribution import PAGES_MAX, drawn, holders
from kernel.memory.page import Kind, Role
from kernel.memory.words import terms
from kernel.ports import Job, Reads
from kernel.replay import Replay
from kernel.settings import Settings, apply
from kernel.spec import Spec
from syscalls.table import Table
from tests.fakes import ONLY_SPEAK, PowerCut, Rig, op

FACT = "the harbour master keeps a lighthouse key under the blue stone"
ASKING = ("lighthouse key?", "lighthouse key rope?")
WINDOW = ("window=1024", "cpu.reply=100", "memory.repeat=never")


def attributed(pages: dict[int, str], asked: str, said: str) -> list[int]:
    words = {page: terms(text) for page, text in pages.items()}
    question, text = terms(asked), terms(said)
    return drawn(words, holders(words, question | text), question, text)


def test_a_page_is_drawn_on_for_a_rare_word_that_the_question_did_not_have() -> None:
    pages = {1: "boat called heron", 2: "nine parrots live lisbon", 3: "rain today", 4: "heron birds boat", 5: "rain"}
    assert attributed(pages, "parrots", "nine") == [2]
    assert attributed(pages, "boat", "heron") == [4, 1], "both, the newer one first"
    assert attributed(pages, "boat called", "heron") == [1], "which explains more than the other"
    assert attributed(pages, "nine parrots", "nine parrots") == [], "nothing was brought up"
    assert attributed(pages | {6: "heron"}, "boat", "heron") == [], "three hold it: it is not rare"
    assert attributed({}, "boat", "heron") == []


def test_at_most_three_pages_are_drawn_on() -> None:
    pages = dict(enumerate(["amber birch", "amber birch", "cedar delta", "cedar delta"], 1))
    assert len(attributed(pages, "", "amber birch cedar delta")) == PAGES_MAX


def program(job: Job) -> str:
    """It knows one thing, and only from what it sees."""
    question = [page.page.text for page in job.pages if page.role is Role.USER and not page.recalled][-1]
    known = any(page.page.text.startswith(FACT) for page in job.pages)
    text = "under the blue stone" if known and question in ASKING else "noted"
    return text if job.grammar is None else op("send_message", text=text)


def told(*changes: str, filler: int = 40, encoding: str = "prose") -> tuple[Rig, int]:
    """A process that was told a fact, which has left its queue if the filler is long."""
    rig = Rig(program, *WINDOW, *changes, encoding=encoding)
    pid = rig.spawn(mask=ONLY_SPEAK)
    rig.say(pid, FACT)
    for n in range(filler):
        rig.say(pid, f"filler {n}: bread, weather, trains and again the weather")
    return rig, pid


def reported(disk: Reads) -> list[tuple[int, ...]]:
    """What each run's end said it drew on, as it was journaled."""
    events = [formats.entry(value).event for _, value in disk.scan("journal")]
    return [event.drew for event in events if isinstance(event, Trapped)]


@pytest.mark.parametrize("encoding", ["prose", "json"])
def test_a_page_of_the_queue_that_a_reply_drew_on_is_hit(encoding: str) -> None:
    rig, pid = told("memory.policy=lru", filler=3, encoding=encoding)
    page = rig.proc(pid).space.queue[0].page
    assert rig.page(page).text == FACT
    rig.say(pid, "lighthouse key?")
    assert reported(rig.disk)[-1] == (page,)
    kept = rig.proc(pid).policy[1]
    assert [row[0] for row in kept][-2] == page, "after the question and before the answer"
    rig.say(pid, "filler again")
    assert reported(rig.disk)[-1] == (), "nor does what is not asked draw on it"
    assert not any(taken.why for taken in Replay(rig.disk, Table()).steps())


def test_what_was_recalled_and_drawn_on_joins_the_queue_with_its_exact_size() -> None:
    rig, pid = told("memory.join=true", "memory.policy=ours")
    space = rig.proc(pid).space
    assert space.find(1) < 0
    rig.say(pid, "lighthouse key?")
    (recalled,) = [page.page.id for page in rig.jobs[-1].pages if page.recalled]
    assert reported(rig.disk)[-1] == (recalled,)
    joined = rig.proc(pid).space.queue[-1]
    assert (joined.page, joined.kind, joined.role, joined.group) == (recalled, Kind.MESSAGE, Role.USER, 0)
    size = len(rig.cpu.tokenize(FACT))
    assert joined.tokens == size + rig.kernel.costs(rig.proc(pid)).role[Role.USER]
    assert rig.proc(pid).space.turn == len(rig.proc(pid).space.queue)
    faults = rig.proc(pid).accounts.faults
    rig.say(pid, "lighthouse key?")
    assert rig.proc(pid).accounts.faults == faults, "it is in view now"
    assert reported(rig.disk)[-1] == (recalled,)
    assert [entry.page for entry in rig.proc(pid).space.queue].count(recalled) == 1
    costs = rig.kernel.costs(rig.proc(pid))
    rig.say(pid, "filler")
    frames = [(costs.recalled if page.recalled else costs.role)[page.role] for page in rig.jobs[-1].pages]
    prompt = sum(len(page.ids) for page in rig.jobs[-1].pages) + sum(frames)
    assert len(rig.jobs[-1].prompt) == prompt + costs.begin + costs.generate
    assert not any(taken.why for taken in Replay(rig.disk, Table()).steps())
    assert audit(rig.disk).findings == []


def test_without_the_setting_it_is_dropped_with_the_turn_and_so_is_what_was_not_drawn_on() -> None:
    for changes, question in (((), "lighthouse key?"), (("memory.join=true",), "lighthouse key? no")):
        rig, pid = told(*changes)
        rig.say(pid, question)
        assert [page.page.text for page in rig.jobs[-1].pages if page.recalled] == [FACT]
        assert rig.proc(pid).space.find(1) < 0
        assert rig.proc(pid).drawn == ()


@pytest.mark.parametrize(("apart", "seen"), [("small", False), ("never", True)])
def test_what_stood_in_no_prompt_was_not_drawn_on(apart: str, seen: bool) -> None:
    def painter(job: Job) -> str:
        return "it was painted" if job.pages[-1].page.text == ASKING[0] else "noted"

    rig = Rig(painter, *WINDOW, f"memory.apart={apart}", "memory.repeat=never", encoding="prose")
    pid = rig.spawn(mask=ONLY_SPEAK)
    rig.say(pid, FACT)
    for n in range(40):
        rig.say(pid, f"filler {n}: bread, weather, trains and again the weather")
    rig.say(pid, "the pier was painted")
    page = rig.proc(pid).space.before()[0].page
    rig.say(pid, ASKING[0])
    assert (page in {one.page.id for one in rig.jobs[-1].pages}) == seen
    assert (page in reported(rig.disk)[-1]) == seen


def test_a_page_that_is_too_large_for_what_may_arrive_does_not_join() -> None:
    wide, pid = told("window=4096", filler=0)
    text = FACT + " beside the old rope" * 30
    wide.say(pid, text)
    rig = Rig(program, *WINDOW, "memory.join=true", disk=wide.disk, encoding="prose")
    for n in range(40):
        rig.say(pid, f"filler {n}: bread, weather, trains and again the weather")
    rig.inbox.clear()
    rig.say(pid, "lighthouse key rope?")
    large = [page.page.id for page in rig.jobs[-1].pages if page.recalled and page.page.text == text]
    assert large
    assert len(rig.cpu.tokenize(text)) > rig.kernel.budgets(rig.proc(pid)).unit
    assert set(large) <= set(reported(rig.disk)[-1])
    assert rig.proc(pid).space.find(large[0]) < 0


def test_joining_evicts_as_any_arrival_does() -> None:
    rig, pid = told("memory.join=true")
    notes: list[Note] = []
    for n in range(60):
        rig.say(pid, f"filler {n}: bread, weather, trains" if n % 3 else "lighthouse key?")
        notes += [
            note for _, value in rig.disk.scan("journal", reverse=True, limit=1) for note in formats.entry(value).notes
        ]
    assert any(note.what is What.EVICT for note in notes)
    assert rig.proc(pid).space.used() <= rig.kernel.budgets(rig.proc(pid)).queue
    assert audit(rig.disk).findings == []


def test_a_trap_that_names_pages_out_of_view_or_nobody_waits_for_changes_nothing() -> None:
    rig, pid = told("memory.policy=lru", filler=2)
    rig.say(pid, "go on", pump=False)
    (event,) = rig.inbox
    assert isinstance(event, Trapped)
    rig.inbox[:] = [msgspec.structs.replace(event, drew=(9_999, rig.proc(pid).space.queue[0].page))]
    rig.pump()
    kept = [row[0] for row in rig.proc(pid).policy[1]]
    assert kept.index(1) == len(kept) - 2, "a driver that reports pages itself is believed"
    late = msgspec.structs.replace(event, tag=msgspec.structs.replace(event.tag, instr=1))
    assert rig.accessed.marked(late) is late


@pytest.mark.parametrize("cut", range(1, 7))
def test_a_power_cut_in_the_turn_leaves_the_same_queue(cut: int) -> None:
    whole, pid = told("memory.join=true", "memory.policy=lru")
    whole.say(pid, "lighthouse key?", "m")
    rig, pid = told("memory.join=true", "memory.policy=lru")
    rig.cut_at = cut
    try:
        rig.say(pid, "lighthouse key?", "m")
    except PowerCut:
        rig.cut_at = 0
        rig.boot()
        rig.pump()
        if rig.disk.get("mid", b"m") is None:
            rig.say(pid, "lighthouse key?", "m")
    rig.cut_at = 0
    assert rig.proc(pid).space == whole.proc(pid).space
    assert rig.proc(pid).space.queue[-1].page == 1 or rig.page(rig.proc(pid).space.queue[-1].page).text == FACT
    assert not any(taken.why for taken in Replay(rig.disk, Table()).steps())


async def test_every_machine_reports_alike() -> None:
    """In virtual time, in real time, and on one stack: the same messages, the same pages drawn on."""
    settings, said = apply(Settings(), [*WINDOW, "memory.policy=lru"]), (FACT, "filler", "lighthouse key?")
    rig = Rig(program, *WINDOW, "memory.policy=lru")
    pid = rig.spawn(mask=ONLY_SPEAK)
    virtual, disk = VirtualMachine(), MemoryDisk()
    virtual.boot(Table(), VirtualCpu(program, virtual, token_ns=1_000_000), disk, WordIndex(disk), settings)
    assert virtual.do(Spawned(source="user", spec=Spec("p", ONLY_SPEAK))).pid == pid
    kept = MemoryDisk()
    real = await boot(Board(ScriptedCpu(program), kept, WordIndex(kept), settings), Table())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(real.run)
        await real.requests.spawn(Spec("p", ONLY_SPEAK))
        for n, text in enumerate(said):
            rig.say(pid, text)
            virtual.do(virtual.say(pid, text))
            virtual.run(virtual.now + 1_000 * NS)
            await real.requests.message(pid, f"m{n}", text)
            while real.kernel.procs[pid].in_turn or real._inbox:
                await trio.sleep(0.001)
        real.stop()
    found = [reported(one) for one in (rig.disk, disk, kept)]
    assert found[0][-1] == (2,), "its page of the fact; page 1 is the manual"
    assert found[0] == found[1] == found[2]
