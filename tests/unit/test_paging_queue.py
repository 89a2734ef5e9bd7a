"""The queue: what leaves for what arrives, and what an eviction leaves behind."""

from drivers.cpu.scripted import echo
from kernel.memory.page import Kind
from tests.fakes import Rig


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
