"""Threads of the kernel's own on a machine where tokens take time: they run when nobody else does, and give way."""

from random import Random

import pytest

from drivers.cpu.virtual import VirtualCpu
from drivers.disk.memory import MemoryDisk
from kernel import core
from kernel.audit import audit
from kernel.event import Note, Preempt, Run, Spawned, What
from kernel.limits import NS
from kernel.machine.virtual import VirtualMachine
from kernel.memory.page import Kind
from kernel.ports import Job
from kernel.process import State
from kernel.replay import Replay
from kernel.settings import Settings, apply
from kernel.spec import Spec
from syscalls.abi import FULL
from syscalls.table import Table
from tests.fakes import WordIndex, op

TOKEN_NS = NS // 50


def program(job: Job) -> str:
    """By what is in view alone, so that whoever is interrupted says the same again."""
    if job.grammar is not None and "core_append" in job.grammar:
        return op("send_message", text=f"reply to {len(job.pages)} pages, in words enough to take a while")
    seen = [page.page for page in job.pages if page.recalled and page.page.kind is not Kind.FACT]
    if job.grammar is not None and "fact:" in job.grammar:
        noted = sum(page.page.text.startswith("ok: fact") for page in job.pages)
        if noted == min(2, len(seen)):
            return op("yield")
        return op("fact", subject="the weather", text=f"said on page {seen[noted].id}", pages=[seen[noted].id])
    return op("send_message", text=f"They spoke of pages {seen[0].id} to {seen[-1].id}, of bread and the weather.")


class Bench:
    """A machine in virtual time with both threads, whose every step is checked."""

    def __init__(self, *changes: str, slots: int = 1, disk: MemoryDisk | None = None, at: int = 0) -> None:
        self.made, self.disk = VirtualMachine(at), disk or MemoryDisk()
        settings = apply(
            Settings(),
            ["window=2048", "cpu.reply=150", "memory.on_evict=summary", "memory.reflect=true", *changes],
        )
        self.notes: list[tuple[int, Note]] = []
        self.effects: list[tuple[int, object]] = []
        self.made.watch = self._watch
        cpu = VirtualCpu(program, self.made, token_ns=TOKEN_NS, slots=slots)
        self.made.boot(Table(), cpu, self.disk, WordIndex(self.disk), settings)

    def _watch(self, event: object, step: core.Step) -> None:
        kernel = self.made.kernel
        core.check(kernel)
        begun = [kernel.procs[effect.pid] for effect in step.effects if isinstance(effect, Run)]
        assert not (kernel.busy and any(proc.thread for proc in begun)), "a thread begins while somebody is in a turn"
        self.notes += [(self.made.now, note) for note in step.notes]
        self.effects += [(self.made.now, effect) for effect in step.effects]

    def spawn(self, name: str) -> int:
        return self.made.do(Spawned(source="user", spec=Spec(name, calls=FULL))).pid

    def say(self, pid: int, text: str) -> None:
        self.made.do(self.made.say(pid, text))

    def run(self, seconds: float) -> None:
        self.made.run(self.made.now + int(seconds * NS))

    def running(self) -> set[int]:
        return {slot.pid for slot in self.made.kernel.slots if slot.pid}

    def until_a_thread_runs(self, pid: int) -> int:
        """Tell a process things until a thread of the kernel's has a slot; its number."""
        n = 0
        while True:
            for own in self.made.kernel.threads:
                if own in self.running() and self.made.kernel.procs[own].state is State.RUNNING:
                    return own
            if not self.made.kernel.busy:
                self.say(pid, f"filler {n}: bread, weather, trains and again the weather")
                n += 1
            self.run(0.01)

    def replayed(self) -> int:
        replay = Replay(self.disk, Table())
        for taken in replay.steps():
            assert not taken.why, f"diverged at {taken.entry.lsn}, {taken.entry.event}: {taken.why}"
        return replay.kernel.hash


@pytest.mark.parametrize("slots", [1, 3])
def test_an_interrupt_takes_the_slot_of_a_thread_at_its_next_token_and_it_goes_on_later(slots: int) -> None:
    bench = Bench(slots=slots)
    pid, other = bench.spawn("p"), bench.spawn("other")
    own = bench.until_a_thread_runs(pid)
    bench.run(0.1)
    began = bench.made.now
    bench.say(other, "hello")
    assert any(isinstance(effect, Preempt) for at, effect in bench.effects if at == began)
    bench.run(0.03)
    assert own not in bench.running()
    assert other in bench.running()
    thread = bench.made.kernel.procs[own]
    assert thread.state is State.READY
    assert thread.ids, "what it has emitted is kept"
    emitted = thread.ids
    while bench.made.kernel.busy:
        assert own not in bench.running()
        bench.run(0.01)
    bench.run(0.02)
    (again,) = [e for _, e in bench.effects if isinstance(e, Run) and e.pid == own and e.ids == emitted]
    assert again.tag.attempt == 1
    bench.run(60)
    assert not bench.running()
    assert not any(proc.backlog for proc in bench.made.kernel.procs.values())
    assert audit(bench.disk).findings == []
    assert bench.replayed() == bench.made.kernel.hash


def test_while_somebody_is_in_a_turn_no_thread_begins() -> None:
    bench = Bench(slots=2)
    pids = [bench.spawn(f"p{n}") for n in range(3)]
    rng = Random(3)
    for n in range(60):
        bench.say(rng.choice(pids), f"filler {n}: bread, weather, trains and again the weather")
        bench.run(rng.choice([0.1, 1.0, 5.0]))
    threads = set(bench.made.kernel.threads)
    assert len(threads) == 2
    bench.run(600)
    kinds = {note.what for _, note in bench.notes}
    assert {What.SUMMARY, What.FACT} <= kinds
    assert not any(proc.backlog for proc in bench.made.kernel.procs.values())
    assert bench.replayed() == bench.made.kernel.hash


@pytest.mark.parametrize("seed", range(6))
def test_power_may_go_at_any_time_and_nothing_is_looked_at_twice_or_never(seed: int) -> None:
    rng = Random(seed)
    bench = Bench()
    pids = [bench.spawn(f"p{n}") for n in range(2)]
    for n in range(50):
        bench.say(rng.choice(pids), f"filler {n}: bread, weather, trains and again the weather")
        bench.run(rng.choice([0.05, 1.0, 10.0]))
        if rng.random() < 0.2:
            bench = Bench(disk=bench.disk, at=bench.made.now)
    bench.run(600)
    kernel = bench.made.kernel
    assert not any(proc.backlog for proc in kernel.procs.values())
    found = [bench.made.pages.page(number) for number in range(1, kernel.counters.page + 1)]
    gone = sum(page is not None and page.kind is Kind.MESSAGE and page.pid in pids for page in found)
    gone -= sum(entry.kind is Kind.MESSAGE for pid in pids for entry in kernel.procs[pid].space.queue)
    summed = sum(
        len(note.pages)
        for _, value in bench.disk.scan("journal")
        for note in kernel.form.entry(value).notes
        if note.what is What.SUMMARY
    )
    assert summed == gone > 0
    assert audit(bench.disk).findings == []
    assert bench.replayed() == kernel.hash
