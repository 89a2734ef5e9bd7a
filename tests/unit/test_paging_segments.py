"""Text and data: what stands before the queue, whom it is shared with, when it is written anew."""

from drivers.cpu.scripted import play
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
