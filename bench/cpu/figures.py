"""The figures of `llmos bench cpu`, each a ratio of things measured in one run, one after the other.

Not here: whether preemption is exact (preempt.py), what a conversation's turns cost (turns.py).
"""

from __future__ import annotations

import queue
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, Final

import llama_cpp
import msgspec
import numpy as np
import trio

from bench.cpu.rig import Rig, opened
from drivers.cpu.llama.engine import LlamaCpu
from drivers.disk.lmdb import LmdbDisk
from drivers.index.none import NoIndex
from kernel.boot import Board, boot
from kernel.event import AnyEvent, Outcome, Trapped
from kernel.machine.loop import Machine
from kernel.ports import Job, Post, Streamed
from kernel.process import State
from kernel.scheduler.mlfq import Mlfq
from kernel.settings import Cpu as CpuSettings
from kernel.settings import Settings, apply
from kernel.spec import Spec
from syscalls.table import Table

Progress = Callable[[str], None]
CHUNKS: Final = (32, 64, 128, 256, 512)
CHUNKED: Final = 512
REPEATS: Final = 3
RESTORES: Final = 7
BATCHES: Final = (1, 4, 8)
SPOKEN: Final = 96  # tokens of a reply in the batch figures
PARENT: Final = 1_500
CHILDREN: Final = 8
SWITCHED: Final = 24  # processes on 4 slots
CONTEXT: Final = 1_600  # of each, at first
TURN_ENTERS, TURN_EMITS = 16, 32


def chunks(model: Path, progress: Progress) -> dict[int, float]:
    """Prefilled tokens a second by chunk, over 512 tokens; the best of six, taken in turns."""
    took: dict[int, list[float]] = {chunk: [] for chunk in CHUNKS}
    with ExitStack() as stack:
        settings = {chunk: CpuSettings(chunk=chunk, slots=1) for chunk in CHUNKS}
        rigs = {chunk: stack.enter_context(opened(model, settings[chunk], 600)) for chunk in CHUNKS}
        for again in range(2 * REPEATS):
            progress(f"prefill in chunks of {', '.join(map(str, CHUNKS))}, {again + 1} of {2 * REPEATS}")
            for chunk, rig in rigs.items():
                began = time.perf_counter()
                rig.run(1, rig.text(again, CHUNKED), reply=1)
                took[chunk].append(time.perf_counter() - began)
    return {chunk: round(CHUNKED / min(took[chunk]), 1) for chunk in CHUNKS}


def restore(model: Path, sizes: tuple[int, ...], progress: Progress) -> dict[int, dict[str, float]]:
    """Time to the first token by prefill over that by restore: reading, checking, setting, one decode; medians."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="llmos-bench-") as folder:
        settings = CpuSettings(slots=1)
        with opened(model, settings, max(sizes) + 64, Path(folder)) as rig:
            rig.run(99, rig.text(99, 64), reply=1)
            for size in sizes:
                progress(f"{size} tokens by prefill and by restore")
                prompt = rig.text(size, size)
                began = time.perf_counter()
                assert rig.run(size, prompt, reply=1).prefill == size
                prefill = time.perf_counter() - began
                took = []
                for again in range(RESTORES):
                    rig.run(100 + again, rig.text(again, 32), reply=1)  # it leaves its seat
                    rig.cpu.images.flush()
                    time.sleep(0.2)
                    began = time.perf_counter()
                    trap = rig.run(size, prompt, reply=1)
                    took.append(time.perf_counter() - began)
                    assert trap.restored == size - 1, trap
                restored = statistics.median(took)
                found[size] = {
                    "ratio": round(prefill / restored, 1),
                    "prefill_ms": round(1e3 * prefill, 1),
                    "restore_ms": round(1e3 * restored, 1),
                }
    return found


class BenchCpu(LlamaCpu):
    """A model that never ends by itself, of which some processes emit what a grammar says; dispatches are noted."""

    def __init__(self, path: Path, settings: CpuSettings) -> None:
        super().__init__(path, settings)
        self.vocabulary.banned = np.concatenate([self.vocabulary.banned, self.vocabulary.end_ids])
        self.forced: dict[int, str] = {}
        self.begun: dict[int, float] = {}  # by process, when it was last dispatched
        self.traps: list[Trapped] = []

    def open(self, window: int, post: Post, stream: Callable[[Streamed], None]) -> None:
        """As LlamaCpu's."""

        def posted(event: AnyEvent) -> None:
            if isinstance(event, Trapped):
                self.traps.append(event)
            post(event)

        super().open(window, posted, stream)

    def start(self, job: Job) -> None:
        """As LlamaCpu's."""
        self.begun[job.pid] = time.perf_counter()
        super().start(msgspec.structs.replace(job, grammar=self.forced.get(job.pid, job.grammar)))


@asynccontextmanager
async def machine_of(model: Path, changes: list[str]) -> AsyncIterator[tuple[Machine, BenchCpu]]:
    """A whole machine on a model, in a folder of its own, without an index."""
    settings = apply(Settings(), ["memory.fault=false", *changes])
    with tempfile.TemporaryDirectory(prefix="llmos-bench-") as folder:
        disk = LmdbDisk(folder)
        cpu = BenchCpu(model, settings.cpu)
        machine = await boot(Board(cpu=cpu, disk=disk, index=NoIndex(), settings=settings), Table())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(machine.run)
            yield machine, cpu
            machine.stop()


async def _forked(model: Path) -> dict[str, float]:
    changes = ["cpu.mode=throughput", f"cpu.seats={1 + CHILDREN}", "cpu.images=0", f"window={PARENT + 500}"]
    changes += ["memory.recall=0", "memory.data=0", "cpu.reply=64", "memory.warn=0.99"]
    async with machine_of(model, changes) as (machine, cpu):
        parent = (await machine.requests.spawn(Spec("parent", ("send_message",)))).pid
        cpu.forced = dict.fromkeys(range(parent, parent + 1 + CHILDREN), 'start: "yes" | "no"\n')
        n = 0
        while machine.kernel.procs[parent].accounts.kv < PARENT:  # ends: each message makes the prompt longer
            n += 1
            await _turn(machine, parent, f"{n} {' '.join(['The kernel reads a page of the old archive.'] * 12)}")
        known, cells = cpu.traps[-1].kv, await _asked(cpu, lambda: cpu.seats.cells_used)
        children = [(await machine.requests.fork(parent, f"child{n}")).pid for n in range(CHILDREN)]
        shared = await _asked(cpu, lambda: cpu.seats.cells_used)
        again = 0
        for child in children:
            await _turn(machine, child, f"You are number {child}. Are you there?")
            trap = cpu.traps[-1]
            assert trap.pid == child
            again += max(0, known - (trap.prompt - trap.prefill))
        diverged = await _asked(cpu, lambda: cpu.seats.cells_used)
    return {
        "fork_prefill_tokens": again,
        "cells_ratio": round(shared / cells, 3),
        "cells_ratio_after_a_turn": round(diverged / cells, 3),
        "parent_tokens": known,
    }


async def _turn(machine: Machine, pid: int, text: str) -> None:
    """A message to a process that rests, until it rests again."""
    await machine.requests.message(pid, "", text)
    while machine.kernel.procs[pid].state is not State.IDLE:  # ends with its turn
        await trio.sleep(0.005)


async def _asked(cpu: LlamaCpu, what: Callable[[], int]) -> int:
    """An answer of the engine's, after all that it was told before."""
    answer: queue.SimpleQueue[int] = queue.SimpleQueue()
    cpu.tell(lambda: answer.put(what()))
    return await trio.to_thread.run_sync(answer.get)


def fork(model: Path, progress: Progress) -> dict[str, float]:
    """What eight forks of a parent of 1,500 tokens evaluate of what it had evaluated, and the cells of all then."""
    progress("forks that share cells")
    return trio.run(_forked, model)


async def _spoken(model: Path, slots: int, mode: str) -> tuple[float, float]:
    """Tokens a second of so many processes that all speak; and of the bare library at the same depth and batch."""
    changes = [f"cpu.mode={mode}", f"cpu.slots={slots}", f"cpu.reply={SPOKEN}", "window=1024"]
    async with machine_of(model, changes) as (machine, cpu):
        times: dict[int, list[float]] = {}
        pids = [(await machine.requests.spawn(Spec(f"p{n}", ("send_message",)))).pid for n in range(slots)]
        async with machine.feed.subscribe(-1) as published:
            for n, pid in enumerate(pids):
                await machine.requests.message(pid, f"m{n}", f"Tell a long story about the number {n}.")
            async for item in published:  # ends when all have spoken
                if isinstance(item, Streamed):
                    times.setdefault(item.pid, []).append(time.perf_counter())
                if all(machine.kernel.procs[pid].state is State.IDLE for pid in pids):
                    break
        first = max(stamps[0] for stamps in times.values())
        last = min(stamps[-1] for stamps in times.values())
        count = sum(first < stamp <= last for stamps in times.values() for stamp in stamps)
        answer: queue.SimpleQueue[float] = queue.SimpleQueue()
        cpu.tell(lambda: answer.put(_bare(cpu, pids)))  # on the engines' thread: another would bring its own workers
        bare = await trio.to_thread.run_sync(answer.get)
    return count / (last - first), bare


def _bare(cpu: LlamaCpu, pids: list[int]) -> float:
    """Tokens a second of llama_decode alone, where the processes stood when they spoke."""
    seats = [seat for seat in cpu.seats.seats if seat.pid in pids]
    batch = cpu.context.batch
    for seat in seats:
        cpu.cells.trim(seat.number, len(seat.tokens) - SPOKEN)
    began = time.perf_counter()
    for n in range(SPOKEN):
        batch.n_tokens = len(seats)
        for i, seat in enumerate(seats):
            at = len(seat.tokens) - SPOKEN + n
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = seat.tokens[-1], at, 1, 1
            batch.seq_id[i][0] = seat.number
        if llama_cpp.llama_decode(cpu.context.handle, batch):
            raise RuntimeError("llama_decode failed")
        llama_cpp.llama_synchronize(cpu.context.handle)
    took = time.perf_counter() - began
    for seat in seats:
        cpu.seats.forget(seat.number)
    return len(seats) * SPOKEN / took


def throughput(model: Path, progress: Progress) -> dict[str, Any]:
    """Tokens a second through the whole kernel by processes, over one's; and one's overhead over the bare library.

    `bare`: what the library alone makes of the same batches.
    """
    rates: dict[int, list[float]] = {n: [] for n in BATCHES}
    bares: dict[int, list[float]] = {n: [] for n in BATCHES}
    for again in range(REPEATS):
        for slots in BATCHES:
            progress(f"{slots} processes speak, {again + 1} of {REPEATS}")
            rate, bare = trio.run(_spoken, model, slots, "throughput")
            rates[slots].append(rate)
            bares[slots].append(bare)
    one, alone = statistics.median(rates[1]), statistics.median(bares[1])
    overheads = [bare / rate - 1 for rate, bare in zip(rates[1], bares[1], strict=True)]
    return {
        "batch_throughput_ratio": {n: round(statistics.median(rates[n]) / one, 3) for n in BATCHES[1:]},
        "bare": {n: round(statistics.median(bares[n]) / alone, 3) for n in BATCHES[1:]},
        "tokens_per_s": {n: round(statistics.median(rates[n]), 1) for n in BATCHES},
        "overhead_per_token": round(statistics.median(overheads), 3),
    }


async def _preempted(model: Path, samples: int, progress: Progress) -> list[float]:
    """Seconds from a message's raising to the dispatch of the process it is for, while others fill the slots.

    Under mlfq, whose rule it is that a process which has used up its level waits like others of the level below: so
    there is another process after a few messages.
    """
    changes = [
        "sched.policy=mlfq", "sched.quantum=512", "window=2048", "cpu.slots=2", "cpu.reply=600", "cpu.images=0",
        "sched.suspend=false",
        "memory.recall=0", "memory.data=0",
    ]  # fmt: skip
    took: list[float] = []
    rng = Random(7)
    async with machine_of(model, changes) as (machine, cpu):
        batch = [(await machine.requests.spawn(Spec(f"b{n}", ("send_message",)))).pid for n in range(4)]
        text = " ".join(["The kernel reads a page of the old archive."] * 40)
        said = 0

        async def keep_busy() -> None:
            nonlocal said
            while True:  # until the bench ends
                for pid in batch:
                    if machine.kernel.procs[pid].state is State.IDLE:
                        said += 1
                        await machine.requests.message(pid, f"b{said}", f"{said} {text}")
                await trio.sleep(0.05)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_busy)
            while min(machine.kernel.procs[pid].accounts.emitted for pid in batch) < 130:  # ends: they sink a level
                await trio.sleep(0.5)
            for n in range(samples):
                if n % 20 == 0:
                    progress(f"a message while others compute, {n} of {samples}")
                    user = (await machine.requests.spawn(Spec(f"user{n}", ("send_message",)))).pid
                    cpu.forced[user] = 'start: "yes"\n'
                await trio.sleep(rng.uniform(0.05, 0.6))
                while not _above(machine, user):  # ends: they sink again. After a boost all are equal
                    await trio.sleep(0.01)
                before = cpu.begun.get(user, 0.0)
                raised = time.perf_counter()
                await machine.requests.message(user, f"u{n}", "Are you there?")
                while cpu.begun.get(user, 0.0) == before:  # ends with its dispatch
                    await trio.sleep(0.001)
                took.append(cpu.begun[user] - raised)
                while machine.kernel.procs[user].state is not State.IDLE:  # ends with its turn
                    await trio.sleep(0.005)
            nursery.cancel_scope.cancel()
    return took


def _above(machine: Machine, pid: int) -> bool:
    """Whether all slots are taken, by processes that this one goes before."""
    ready = machine.kernel.lanes[""].ready
    assert isinstance(ready, Mlfq)
    return all(slot.pid and ready.level(slot.pid) > ready.level(pid) for slot in machine.kernel.slots)


def preemption(model: Path, samples: int, progress: Progress) -> dict[str, Any]:
    """How long a USER interrupt for a waiting process takes to its dispatch, in ms."""
    took = sorted(trio.run(_preempted, model, samples, progress))
    return {
        "preempt_p99_ms": round(1e3 * took[len(took) * 99 // 100], 1),
        "preempt_p50_ms": round(1e3 * took[len(took) // 2], 1),
        "samples": samples,
    }


def switches(model: Path, turns: int, again: int, progress: Progress) -> dict[str, Any]:
    """Turns of 24 processes on 4 slots with images, beside a seat for each, and beside prefill at each switch.

    The first two take turns, a round of all processes each, for the machine is another from minute to minute.
    """
    took: dict[str, float] = {}
    said: dict[str, list[tuple[int, ...]]] = {}
    with ExitStack() as stack:
        talks: dict[str, _Talk] = {}
        for name, seats, images in (("images", 4, 4_096), ("ideal", SWITCHED, 0)):
            progress(f"{SWITCHED} processes on 4 slots, {name}")
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llmos-bench-")))
            settings = CpuSettings(slots=4, seats=seats, images=images)
            rig = stack.enter_context(opened(model, settings, 2_048, folder))
            prompt = rig.text(1, CONTEXT)
            rig.run(1, prompt, reply=1)
            for pid in range(2, 1 + SWITCHED):
                rig.cpu.fork(1, pid)
            rig.run(1, prompt, reply=1)  # all are forked when it ends
            rig.cpu.images.flush()
            talks[name] = _Talk(rig, {pid: list(prompt) for pid in range(1, 1 + SWITCHED)})
        while talks["ideal"].turns < turns:  # ends: a round each
            for talk in talks.values():
                talk.go_on(SWITCHED)
            progress(f"{talks['ideal'].turns} of {turns} turns of {SWITCHED} processes, each twice")
        for name, talk in talks.items():
            took[name], said[name] = talk.took / talk.turns, talk.said
    progress(f"{again} turns with a prefill each")
    with opened(model, CpuSettings(slots=4, images=0), 2_048) as rig:
        talk = _Talk(rig, {pid: list(rig.text(pid, CONTEXT)) for pid in range(1, 1 + again)})
        talk.go_on(again)
    return {
        "ratio_to_ideal": round(took["images"] / took["ideal"], 3),
        "turn_s": {
            "images": round(took["images"], 3),
            "ideal": round(took["ideal"], 3),
            "prefill": round(talk.took / talk.turns, 3),
        },
        "turns": len(said["ideal"]),
        "equal": said["images"] == said["ideal"],
    }


class _Talk:
    """Processes that take turns, four at a time, all once in each round, in another order."""

    def __init__(self, rig: Rig, texts: dict[int, list[int]]) -> None:
        self.rig, self.texts, self.rng = rig, texts, Random(2)
        self.turns, self.took = 0, 0.0
        self.said: list[tuple[int, ...]] = []

    def go_on(self, turns: int) -> None:
        """So many turns more."""
        rng, texts, order = self.rng, self.texts, list[int]()
        while len(order) < turns:  # ends: each pass adds all
            some = list(texts)
            rng.shuffle(some)
            order += [pid for pid in some if pid not in order[-4:]] or some
        free, running = [0, 1, 2, 3], dict[int, tuple[int, int]]()
        said: list[tuple[int, ...]] = [()] * turns
        begun = 0
        began = time.perf_counter()
        while begun < turns or running:  # ends: each pass waits for one
            while free and begun < turns and order[begun] not in {pid for _, pid in running.values()}:
                pid, slot = order[begun], free.pop()
                n = self.turns + begun
                texts[pid] += self.rig.text(n, TURN_ENTERS)
                running[slot] = (begun, pid)
                self.rig.start(slot, pid, texts[pid], reply=TURN_EMITS, instr=n + 1)
                begun += 1
            trap = self.rig.wait()
            assert trap.outcome is Outcome.SYSCALL
            n, pid = running.pop(trap.slot)
            said[n] = trap.ids
            texts[pid] += trap.ids
            free.append(trap.slot)
        self.rig.cpu.images.flush()  # what is to be written behind is written on these turns' account
        self.took += time.perf_counter() - began
        self.turns += turns
        self.said += said
