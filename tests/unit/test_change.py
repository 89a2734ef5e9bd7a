"""What a process is made of is changed between two turns, whole or not at all, and a replay comes to the same."""

import pytest

from drivers.cpu.scripted import echo, play
from kernel.audit import audit
from kernel.errors import Busy, Exists
from kernel.event import AnyEvent, Changed, CoreWritten, Filed, Keeping, Kept, Killed, Renamed, Spawned, What
from kernel.machine.pages import kept
from kernel.memory.page import Kind
from kernel.process import State
from kernel.replay import Replay
from kernel.sampling import Sampling
from kernel.spec import Spec, digest
from syscalls.table import Table
from tests.fakes import ONLY_SPEAK, Rig, op


def refused(rig: Rig, event: AnyEvent) -> str:
    before = rig.kernel.hash
    error = rig.do(event).error
    assert rig.kernel.hash == before
    assert error
    assert "\n" not in error
    return error


def replayed(rig: Rig) -> None:
    replay = Replay(rig.disk, Table())
    assert [taken.why for taken in replay.steps() if taken.why] == []
    assert (replay.kernel.hash, replay.lsn) == (rig.kernel.hash, rig.kernel.counters.lsn)
    assert audit(rig.disk).findings == []


def core(rig: Rig, pid: int, block: str, text: str) -> CoreWritten:
    seen = digest(rig.proc(pid).spec.blocks.get(block, ""))
    return CoreWritten(source="user", pid=pid, block=block, text=text, seen=seen)


def test_set_changes_instructions_mask_and_share_and_the_next_prompt_has_them() -> None:
    rig = Rig(echo)
    pid = rig.spawn(system="Be brief.")
    other = rig.spawn("q", system="Be brief.")
    rig.say(pid, "hello")
    rig.do(Changed(source="user", pid=pid, system="Be kind.", calls=("yield", "send_message"), nice=3, abort=True))
    rig.jobs.clear()
    rig.say(pid, "and now?")
    spec = rig.proc(pid).spec
    assert (spec.system, spec.nice, spec.abort) == ("Be kind.", 3, True)
    assert spec.calls == tuple(name for name in Table.names if name in ("yield", "send_message"))
    text = rig.jobs[0].pages[0].page.text
    assert text.endswith("Be kind.")
    assert '"op":"search"' not in text
    assert "Be brief." in rig.texts(other)[0]
    rig.boot()
    assert rig.texts(pid)[0] == text
    replayed(rig)


def test_set_is_for_the_dead_too_and_they_start_again_with_it() -> None:
    rig = Rig(echo)
    pid = rig.spawn(system="Be brief.")
    rig.say(pid, "my name is Ada")
    rig.do(Killed(source="user", pid=pid))
    rig.do(Changed(source="user", pid=pid, system="Be kind."))
    assert rig.spawn(system="Be kind.") == pid
    rig.say(pid, "who am I?")
    assert rig.texts(pid)[0].endswith("Be kind.")
    assert "my name is Ada" in rig.texts(pid)
    replayed(rig)


def test_a_text_for_which_the_window_is_too_small_is_refused_with_the_sum() -> None:
    rig = Rig(echo, "window=1024", "cpu.reply=100")
    pid = rig.spawn(mask=ONLY_SPEAK)
    error = refused(rig, Changed(source="user", pid=pid, system="word " * 1_000))
    assert error.startswith("the window is too small: window 1024 - text ")
    assert "= queue" in error
    for event, said in (
        (Changed(pid=pid, calls=("fly",)), "mask fly: syscalls are"),
        (Changed(pid=pid, calls=()), "mask is empty"),
        (Changed(pid=pid, nice=20), "nice 20: -20 to 19"),
        (Changed(pid=99, nice=1), "no process 99"),
    ):
        assert said in refused(rig, event)


def test_where_the_text_grows_what_must_leave_leaves_and_is_found_again() -> None:
    rig = Rig(echo, "window=1024", "cpu.reply=60", "memory.policy=lru", "memory.low=0.9", "memory.worth=64")
    pid = rig.spawn(mask=ONLY_SPEAK)
    rig.say(pid, "the lighthouse key lies under the blue stone")
    while rig.proc(pid).space.used() < rig.kernel.budgets(rig.proc(pid)).queue * 0.85:
        rig.say(pid, "bread, weather, trains and again the weather")
    evicted = rig.proc(pid).space.evicted
    assert not rig.do(Changed(source="user", pid=pid, system="word " * 60)).error
    assert rig.proc(pid).space.evicted > evicted
    rig.jobs.clear()
    rig.say(pid, "lighthouse key?")
    assert ("the lighthouse key lies under the blue stone", True) in [
        (page.page.text, page.recalled) for page in rig.jobs[0].pages
    ]
    replayed(rig)


def test_what_stands_in_the_prompt_does_not_change_within_a_turn() -> None:
    rig = Rig(echo)
    pid = rig.spawn(blocks={"human": "likes tea"})
    rig.say(pid, "hello", pump=False)
    assert rig.proc(pid).state is State.RUNNING
    for event in (Changed(pid=pid, system="x"), Changed(pid=pid, calls=ONLY_SPEAK), core(rig, pid, "human", "x")):
        step = rig.do(event)
        assert isinstance(step.refused, Busy)
    assert not rig.do(Changed(source="user", pid=pid, nice=5)).error  # is in no prompt
    rig.pump()
    assert not rig.do(Changed(source="user", pid=pid, system="x")).error
    replayed(rig)


def test_a_core_block_is_written_at_once_and_only_over_what_was_seen() -> None:
    rig = Rig(play([op("core_append", block="human", text="and milk"), op("send_message", text="ok")]))
    pid = rig.spawn(blocks={"human": "likes tea"})
    early = core(rig, pid, "human", "likes coffee")
    rig.say(pid, "I like milk")  # the process writes it meanwhile
    assert any(entry.kind is Kind.DELTA for entry in rig.proc(pid).space.queue)
    assert "was written meanwhile" in refused(rig, early)
    assert not rig.do(core(rig, pid, "human", "likes coffee")).error
    assert rig.proc(pid).spec.blocks == {"human": "likes coffee"}
    assert not any(entry.kind is Kind.DELTA for entry in rig.proc(pid).space.queue)
    assert rig.texts(pid)[1] == "[human]\nlikes coffee"
    assert not rig.do(core(rig, pid, "human", "")).error
    assert (rig.proc(pid).spec.blocks, rig.proc(pid).space.data) == ({}, None)
    assert "core memory would have" in refused(rig, core(rig, pid, "human", "word " * 2_000))
    assert "1 to 64 printable characters" in refused(rig, core(rig, pid, "a\nb", "x"))
    replayed(rig)


def test_a_renamed_process_is_the_same_by_another_name() -> None:
    rig = Rig(echo)
    pid = rig.spawn("main")
    rig.spawn("other")
    rig.say(pid, "my name is Ada")
    assert isinstance(rig.do(Renamed(pid=pid, name="other")).refused, Exists)
    assert "not a number" in refused(rig, Renamed(pid=pid, name="12"))
    assert not rig.do(Renamed(source="user", pid=pid, name="ada")).error
    assert rig.kernel.names == {"ada": pid, "other": 2}
    assert rig.spawn("main") == 3  # the name is free
    rig.boot()
    assert rig.proc(pid).name == "ada"
    assert "my name is Ada" in rig.texts(pid)
    replayed(rig)


HOW = {
    "system": ({"system": "Be rude."}, "llmos set PROC system="),
    "calls": ({"calls": ("yield",)}, "llmos set PROC mask="),
    "blocks": ({"blocks": {"human": "likes rain"}}, "llmos core PROC BLOCK"),
    "nice": ({"nice": 0}, "llmos set PROC nice="),
    "abort": ({"abort": False}, "llmos set PROC abort="),
    "sampling": ({"sampling": None}, "llmos set PROC sample="),
}


@pytest.mark.parametrize("field", HOW)
def test_spawn_of_a_dead_process_with_another_choice_is_refused_and_says_how(field: str) -> None:
    rig = Rig(echo)
    chosen = Spec("p", ONLY_SPEAK, "Be brief.", {"human": "likes tea"}, 4, True, sampling=Sampling(temperature=0.5))
    pid = rig.do(Spawned(source="user", spec=chosen)).pid
    rig.do(Killed(source="user", pid=pid))
    other, how = HOW[field]
    spec = Spec(**{"name": "p", "calls": ONLY_SPEAK, **other})  # type: ignore[arg-type]  # fields by name
    error = refused(rig, Spawned(source="user", spec=spec, given=(field,)))
    assert how in error
    assert "is dead and would start again as it was" in error
    assert not rig.do(Spawned(source="user", spec=chosen, given=tuple(HOW))).error  # all the same
    assert rig.proc(pid).state is State.IDLE
    replayed(rig)


def keep(pid: int, page: int, how: Keeping) -> Kept:
    return Kept(source="user", pid=pid, page=page, how=how)


def test_a_page_is_pinned_unpinned_and_evicted_from_outside_and_a_replay_comes_to_the_same() -> None:
    rig = Rig(echo, "window=2048")
    pid = rig.spawn()
    rig.say(pid, "the boat lies in Ghent")
    rig.say(pid, "and the car in Bruges")
    boat, answer, car = (entry.page for entry in rig.proc(pid).space.queue[:3])
    rig.do(keep(pid, boat, Keeping.PIN))
    assert [entry.page for entry in rig.proc(pid).space.queue if entry.pinned] == [boat]
    assert "not evictable" in refused(rig, keep(pid, boat, Keeping.EVICT))
    rig.do(keep(pid, boat, Keeping.UNPIN))
    step = rig.do(keep(pid, boat, Keeping.EVICT))
    assert [(note.what, note.pages) for note in step.notes if note.pages] == [(What.EVICT, (boat,))]
    space = rig.proc(pid).space
    assert (space.find(boat), space.evicted) == (-1, 1)
    assert space.find(answer) >= 0
    assert "is not resident" in refused(rig, keep(pid, boat, Keeping.PIN))
    assert "not evictable" in refused(rig, keep(pid, 999, Keeping.EVICT))
    stub = next(entry.page for entry in space.queue if entry.kind is Kind.STUB)
    assert "is the kernel's" in refused(rig, keep(pid, stub, Keeping.PIN))
    rig.boot()
    rig.do(keep(pid, car, Keeping.PIN))
    replayed(rig)


def test_a_page_that_has_left_is_brought_back_from_outside_and_so_is_one_of_the_archive() -> None:
    rig = Rig(echo, "window=2048")
    pid, other = rig.spawn(), rig.spawn("other")
    rig.say(pid, "the boat lies in Ghent")
    rig.say(pid, "and the car in Bruges")
    boat = rig.proc(pid).space.queue[0].page
    rig.do(keep(pid, boat, Keeping.EVICT))
    step = rig.do(kept(rig.pages, pid, boat, Keeping.BRING))
    assert [note.pages for note in step.notes if note.what is What.FAULT] == [(boat,)]
    assert rig.proc(pid).space.queue[-1].page == boat
    assert rig.proc(pid).state is State.IDLE
    rig.do(Filed(source="user", pid=pid, parts=rig.cpus("the mooring is let until May", 60, "")))
    page = rig.kernel.counters.page
    rig.do(kept(rig.pages, pid, page, Keeping.BRING))
    rig.do(kept(rig.pages, pid, page, Keeping.BRING))  # it is there
    assert [entry.page for entry in rig.proc(pid).space.queue[-2:]] == [boat, page]
    assert rig.texts(pid)[-1] == "the mooring is let until May"
    assert "has no page" in refused(rig, kept(rig.pages, other, page, Keeping.BRING))
    assert "has no page" in refused(rig, kept(rig.pages, pid, 999, Keeping.BRING))
    rig.say(pid, "go on")
    rig.boot()
    replayed(rig)


def test_pages_that_are_brought_in_make_room_as_any_do() -> None:
    rig = Rig(echo, "window=2048")
    pid = rig.spawn()
    for number in range(40):
        rig.do(Filed(source="user", pid=pid, parts=rig.cpus(f"berth {number} " * 20, 200, "")))
        rig.do(kept(rig.pages, pid, rig.kernel.counters.page, Keeping.BRING))
    assert rig.proc(pid).accounts.evictions
    rig.say(pid, "which berths?")
    assert rig.proc(pid).state is State.IDLE
    replayed(rig)


def test_in_a_turn_a_page_may_be_pinned_and_is_not_evicted() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    rig.say(pid, "hello")
    hello = rig.proc(pid).space.queue[0].page
    rig.say(pid, "and now?", pump=False)
    assert rig.proc(pid).in_turn
    assert isinstance(rig.do(keep(pid, hello, Keeping.EVICT)).refused, Busy)
    assert not rig.do(keep(pid, hello, Keeping.PIN)).error
    rig.pump()
    replayed(rig)
