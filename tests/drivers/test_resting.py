"""A CPU that leaves memory without work comes back with the next job, and nothing is lost meanwhile."""

from __future__ import annotations

import queue
import threading
import time
from pathlib import Path

import pytest

from drivers.cpu.resting import RestingCpu
from drivers.cpu.scripted import ScriptedCpu
from kernel.errors import BadInput
from kernel.event import AnyEvent, Outcome, Tag, Trapped
from kernel.ports import Job
from kernel.settings import Cpu as CpuSettings
from llmos import models

REST_S = 0.05


def job(n: int, slot: int = 0) -> Job:
    return Job(
        slot=slot, tag=Tag(1, n, 1), pages=(), prompt=(1, 2, 3), ids=(), grammar=None, quantum=99, reply=48, window=99
    )


class World:
    """A resting CPU over scripted ones; `broken`: it cannot be made."""

    def __init__(self, token_s: float = 0.0) -> None:
        self.made: list[ScriptedCpu] = []
        self.broken = ""
        self.gate = threading.Event()
        self.gate.set()
        self.token_s = token_s
        self.traps: queue.SimpleQueue[AnyEvent] = queue.SimpleQueue()
        self.cpu = RestingCpu(self.make(), self.make, self.made[0], REST_S)
        self.cpu.open(99, self.traps.put, lambda streamed: None)

    def make(self) -> ScriptedCpu:
        self.gate.wait(10)
        if self.broken:
            raise BadInput(self.broken)
        self.made.append(ScriptedCpu(lambda one: '{"op":"yield"}', slots=2, token_s=self.token_s))
        return self.made[-1]

    def trap(self) -> Trapped:
        found = self.traps.get(timeout=10)
        assert isinstance(found, Trapped)
        return found

    def rested(self) -> None:
        until = time.monotonic() + 10
        while not self.cpu.resting:
            assert time.monotonic() < until
            time.sleep(0.005)


def test_it_rests_without_work_and_comes_back_with_a_job() -> None:
    world = World()
    world.cpu.start(job(1))
    assert world.trap().outcome is Outcome.SYSCALL
    world.rested()
    assert world.cpu.tokenize("larch") == world.made[0].tokenize("larch"), "its words stay"
    world.cpu.start(job(2))
    assert (world.trap().tag.instr, len(world.made)) == (2, 2)
    world.rested()
    world.cpu.close()


def test_jobs_that_come_while_it_does_are_all_carried_out_once() -> None:
    world = World()
    world.rested()
    world.gate.clear()
    world.cpu.start(job(1))
    world.cpu.start(job(2, slot=1))
    world.cpu.forget(7)
    world.cpu.expect(1)
    world.gate.set()
    assert {world.trap().tag.instr for _ in range(2)} == {1, 2}
    assert len(world.made) == 2
    assert world.traps.empty()
    world.cpu.close()


def test_one_that_cannot_come_back_fails_its_jobs_and_is_tried_again() -> None:
    world = World()
    world.rested()
    world.broken = "the file is gone"
    world.cpu.start(job(1))
    found = world.trap()
    assert (found.outcome, found.error) == (Outcome.FAILED, "scripted does not come back: the file is gone")
    world.broken = ""
    world.cpu.start(job(2))
    assert world.trap().outcome is Outcome.SYSCALL
    world.cpu.close()


def test_what_is_stopped_before_it_is_back_stops_at_once_then() -> None:
    world = World(token_s=0.2)
    world.rested()
    world.gate.clear()
    world.cpu.start(job(1))
    world.cpu.preempt(0)
    world.gate.set()
    assert world.trap().outcome is Outcome.PREEMPTED
    world.cpu.close()


def test_it_may_be_closed_while_it_comes_back() -> None:
    world = World()
    world.rested()
    world.gate.clear()
    world.cpu.start(job(1))
    closing = threading.Thread(target=world.cpu.close)
    closing.start()
    world.gate.set()
    closing.join(10)
    assert not closing.is_alive()


@pytest.mark.gguf
def test_a_real_model_says_after_its_rest_what_it_would_have_said_and_its_prompt_is_not_evaluated_again(
    tmp_path: Path,
) -> None:
    pytest.importorskip("llama_cpp", reason="the llama CPU is an extra")
    from drivers.cpu.llama.engine import LlamaCpu
    from drivers.cpu.llama.model import Words

    path = models.find("smollm2-135m")
    settings = CpuSettings(threads=1, images=64)
    traps: queue.SimpleQueue[AnyEvent] = queue.SimpleQueue()

    def run(cpu: RestingCpu | LlamaCpu, prompt: tuple[int, ...], n: int) -> Trapped:
        cpu.start(
            Job(
                slot=0,
                tag=Tag(1, n, 1),
                pages=(),
                prompt=prompt,
                ids=(),
                grammar=None,
                quantum=999,
                reply=12,
                window=1024,
            )
        )
        found = traps.get(timeout=300)
        assert isinstance(found, Trapped)
        return found

    words = Words(path)
    story = words.tokenize("Once upon a time there was a small kernel that dreamed of pages. " * 12)
    more = story + words.tokenize("And then it woke up, and it said:")
    cpu = RestingCpu(
        LlamaCpu(path, settings, tmp_path / "a"), lambda: LlamaCpu(path, settings, tmp_path / "a"), words, 0.2
    )
    assert cpu.measure_id() == words.measure_id
    cpu.open(1024, traps.put, lambda streamed: None)
    run(cpu, story, 1)
    until = time.monotonic() + 60
    while not cpu.resting:
        assert time.monotonic() < until
        time.sleep(0.02)
    after = run(cpu, more, 2)
    cpu.close()
    awake = LlamaCpu(path, settings, tmp_path / "b")
    awake.open(1024, traps.put, lambda streamed: None)
    run(awake, story, 1)
    same = run(awake, more, 2)
    awake.close()
    assert (after.text, after.ids) == (same.text, same.ids)
    assert after.restored > len(story) // 2
    assert after.prefill < len(more) // 2
