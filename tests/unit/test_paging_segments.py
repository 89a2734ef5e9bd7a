"""Text and data: what stands before the queue, whom it is shared with, when it is written anew."""

from drivers.cpu.scripted import echo, play
from kernel.limits import BLOCKS_MAX
from kernel.memory.page import Kind
from tests.fakes import Rig, op


def test_core_memory_is_a_delta_until_the_next_eviction_folds_it() -> None:
    calls = [op("core_append", block="human", text="likes tea"), op("send_message", text="noted")]
    rig = Rig(play(calls + [op("send_message", text="ok")] * 60), "window=2048", "cpu.reply=100")
    pid = rig.spawn()
    rig.say(pid, "I like tea")
    space = rig.proc(pid).space
    assert space.data is None
    assert any(entry.kind is Kind.DELTA for entry in space.queue)
    while rig.proc(pid).accounts.evictions == 0:
        rig.say(pid, "filler: bread, weather, trains and again the weather " * 3)
    space = rig.proc(pid).space
    assert space.data is not None
    assert rig.page(space.data.page).text == "[human]\nlikes tea"
    assert all(entry.kind is not Kind.DELTA for entry in space.queue)


def test_core_memory_that_would_outgrow_its_budget_is_refused_and_unchanged() -> None:
    rig = Rig(play([op("core_append", block="human", text="x" * 1_200), op("yield")]), "window=4096", "cpu.reply=500")
    pid = rig.spawn()
    rig.say(pid, "go")
    assert rig.proc(pid).spec.blocks == {}
    assert any("core memory would have" in text for text in rig.texts(pid))


def test_processes_with_equal_calls_and_instructions_share_one_text() -> None:
    rig = Rig(echo)
    one, two = rig.spawn("one", system="be brief"), rig.spawn("two", system="be brief")
    other = rig.spawn("other", system="be long")
    texts = [rig.proc(pid).space.text for pid in (one, two, other)]
    assert texts[0] == texts[1] != texts[2]
    made = [rig.page(n) for n in range(1, rig.kernel.counters.page + 1)]
    assert sum(page.kind is Kind.TEXT for page in made) == 2
    rig.boot()
    assert rig.spawn("late", system="be brief")
    assert rig.proc(4).space.text == texts[0]


def test_instructions_stand_behind_the_manual() -> None:
    rig = Rig(echo)
    text = rig.texts(rig.spawn(system="be brief"))[0]
    assert text.endswith("\n\nbe brief")
    assert len(text) > 100


def test_a_block_that_is_emptied_is_no_more_in_view() -> None:
    calls = [op("core_replace", block="b", old="likes tea", new=""), op("yield")]
    rig = Rig(play(calls), "window=2048", "cpu.reply=100")
    pid = rig.spawn(blocks={"b": "likes tea"})
    assert rig.proc(pid).space.data is not None
    rig.say(pid, "forget it")
    for n in range(80):
        rig.say(pid, f"filler {n}: bread, weather, trains and again the weather")
    assert rig.proc(pid).accounts.evictions
    assert rig.proc(pid).space.data is None
    assert not any("likes tea" in text for text in rig.texts(pid))


def test_a_seventeenth_block_is_refused_and_the_sixteen_stay() -> None:
    rig = Rig(lambda job: op("core_append", block=f"b{job.instr}", text="x") if job.instr < 18 else op("yield"))
    pid = rig.spawn()
    for _ in range(3):
        rig.say(pid, "more")
    assert len(rig.proc(pid).spec.blocks) == BLOCKS_MAX
    assert any(text.startswith("error: no block b17") for text in rig.texts(pid))


def test_the_writes_of_the_turn_under_way_stay_in_view_when_older_ones_are_folded() -> None:
    rig = Rig(
        lambda job: op("core_append", block="b", text=f"fact {job.instr}") if job.instr % 9 else op("yield"),
        "window=2048", "cpu.reply=100",
    )  # fmt: skip
    pid = rig.spawn()
    for n in range(6):
        rig.say(pid, f"filler {n}: bread, weather, trains and again the weather")
        space = rig.proc(pid).space
        seen = "\n".join(rig.texts(pid))
        for fact in rig.proc(pid).spec.blocks["b"].splitlines():
            assert fact in seen, "what was written is in view: folded, or as it was written"
    assert space.data is not None
    assert rig.proc(pid).accounts.evictions
