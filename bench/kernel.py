"""How many durable syscalls a second the whole kernel does: step, one transaction a batch, perform, indexes behind it.

Scripted CPUs emit, in equal parts: send_message, core_append, remember, search, read, set_timer + cancel_timer,
pin + unpin, yield; texts of 20 to 60 words from a seed. A process that yields gets the next message of its user, which
is looked for as every message is (a demand fault). Three phases in one run: `bare`, the same loop on the same disk
without index and search; then with the indexes; then again after 50,000 more stored messages.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random
from typing import Literal

import msgspec
import trio

from drivers.cpu.scripted import ScriptedCpu
from drivers.disk.lmdb import LmdbDisk
from drivers.index.beside import IndexBeside
from drivers.index.none import NoIndex
from kernel.boot import Board, boot
from kernel.event import Acked, Messaged
from kernel.machine.loop import Machine
from kernel.ports import Index, Job
from kernel.process import State
from kernel.settings import Settings, apply
from kernel.spec import Spec
from llmos.commands.output import show
from syscalls.table import Table

STORED = 50_000
WORDS = [
    a + b
    for a in ["bal", "cor", "den", "fal", "gim", "hol", "jun", "kar", "lop", "mer"]
    for b in ["an", "eb", "ic", "od", "uf", "ara", "este", "iko", "onu", "umi"]
]  # 100 words of which a text draws with Zipf's weights, and names that are rare
WEIGHTS = [1 / (rank + 1) for rank in range(len(WORDS))]


class Bench(msgspec.Struct, frozen=True):
    """What one run measured. Latency is from an instruction's dispatch to the next dispatch of its process."""

    processes: int
    sync: str
    syscalls_per_s: float
    bare_syscalls_per_s: float
    of_bare: float
    syscalls_per_s_after_50k: float
    after_50k_ratio: float
    p50_us: float
    p99_us: float
    commit_p50_ms: float
    commit_p99_ms: float
    index_lag_s: float
    index_lag_pages: int  # at the end of the longest phase
    stored: int
    stolen: float  # of the machine's CPU time, by its host, over the whole run; 0 where nothing tells
    seconds: float


class Mix:
    """The program of all processes: a cycle of the ten instructions, started at a place of each process's own."""

    machine: Machine  # set when it has booted

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.at: dict[int, int] = {}
        self.block: dict[int, list[str]] = {}
        self.doing: Literal["mix", "fill", "rest"] = "mix"
        self.began: dict[int, float] = {}
        self.spent: list[float] = []
        self.done = 0

    def text(self) -> str:
        """20 to 60 words, one of them rare."""
        words = self.rng.choices(WORDS, WEIGHTS, k=self.rng.randint(19, 59))
        words.insert(self.rng.randint(0, len(words)), f"name{self.rng.randint(0, 20_000)}")
        return " ".join(words)

    def __call__(self, job: Job) -> str:
        now = time.perf_counter()
        if job.pid in self.began:
            self.spent.append(now - self.began[job.pid])
        self.began[job.pid] = now
        self.done += 1
        if self.doing == "rest":
            return '{"op":"yield"}'
        if self.doing == "fill":
            if job.instr % 12 == 0:  # within the turn's budget
                self.say(job.pid)
                return '{"op":"yield"}'
            return f'{{"op":"send_message","text":"{self.text()}","more":true}}'
        at = self.at[job.pid] = self.at.get(job.pid, job.pid) + 1
        last = job.pages[-1].page
        match at % 10:
            case 0:
                return f'{{"op":"send_message","text":"{self.text()}","more":true}}'
            case 1:
                return self._append(job.pid)
            case 2:
                return f'{{"op":"remember","text":"{self.text()}"}}'
            case 3:
                return f'{{"op":"read","pages":[{_number(last.text)}]}}'
            case 4:
                return f'{{"op":"search","query":"name{self.rng.randint(0, 20_000)} {self.rng.choice(WORDS)}"}}'
            case 5:
                small = min(job.pages[-4:], key=lambda page: len(page.ids)).page.id  # pins are bounded
                return f'{{"op":"pin","page":{small}}}'
            case 6:
                return f'{{"op":"unpin","page":{_number(last.text)}}}'
            case 7:
                return '{"op":"set_timer","seconds":86400,"text":"later"}'
            case 8:
                return f'{{"op":"cancel_timer","timer":{_number(last.text)}}}'
            case _:
                self.say(job.pid)  # the user's next message; delivered when the turn has ended
                return '{"op":"yield"}'

    def say(self, pid: int) -> None:
        """A message of the user's, and the acknowledgement of all that was heard."""
        machine = self.machine
        machine.post(Acked(source="user", pid=pid, upto=machine.kernel.procs[pid].said))
        machine.post(Messaged(source="user", pid=pid, mid="", parts=machine.cpus(self.text(), 128, "")))

    def _append(self, pid: int) -> str:
        """core_append, or the core_replace that takes the older text out before the block outgrows its budget."""
        block = self.block.setdefault(pid, [])
        if len(block) == 2:
            return f'{{"op":"core_replace","block":"notes","old":"{block.pop(0)}","new":""}}'
        block.append(self.text())
        return f'{{"op":"core_append","block":"notes","text":"{block[-1]}"}}'


def _number(text: str) -> int:
    """The first number of a result: of a page or a timer."""
    digits = "".join(c if c.isdigit() else " " for c in text.partition(":")[2]).split()
    return int(digits[0]) if digits else 1


async def _phase(
    machine: Machine, mix: Mix, seconds: float, until: Callable[[], bool] | None = None
) -> tuple[float, float]:
    """Let it run; syscalls a second, and the largest lag of the index in seconds."""
    lag = 0.0
    behind: deque[tuple[int, float]] = deque()  # (newest page, when it was the newest)
    start, first = time.perf_counter(), mix.done
    while time.perf_counter() - start < seconds and not (until and until()):
        now = time.perf_counter()
        behind.append((machine.kernel.counters.page, now))
        while behind and behind[0][0] <= machine.index.applied:
            behind.popleft()
        lag = max(lag, now - behind[0][1] if behind else 0.0)
        await trio.sleep(0.02)
    return (mix.done - first) / (time.perf_counter() - start), lag


async def _machine(directory: Path, processes: int, sync: str, mix: Mix, index: bool) -> Machine:
    settings = apply(Settings(), ["memory.data=0.2", "memory.recall=0.1", f"disk.sync={sync}"])
    disk = LmdbDisk(directory, sync=settings.disk.sync)
    chosen: Index = IndexBeside(directory, disk) if index else NoIndex()
    cpu = ScriptedCpu(mix, slots=processes)
    mix.machine = await boot(Board(cpu=cpu, disk=disk, index=chosen, settings=settings), Table())
    return mix.machine


def _timed(machine: Machine) -> list[float]:
    """The seconds that each commit of a machine takes from now on, the hop to its thread included."""
    took: list[float] = []

    @contextmanager
    def timed() -> Iterator[None]:
        began = time.perf_counter()
        yield
        took.append(time.perf_counter() - began)

    machine.around_commit = timed
    return took


async def measure(
    processes: int,
    sync: str,
    seconds: float,
    stored: int = STORED,
    seed: int = 1,
    progress: Callable[[str], None] = print,
) -> Bench:
    """All phases, one after the other, each `seconds` long (the bare one a third of it).

    Before the last one `stored` pages are made.
    """
    began, ticks = time.perf_counter(), _ticks()
    with tempfile.TemporaryDirectory(prefix="llmos-bench-") as folder:
        progress(f"bare loop, {seconds / 3:.0f} s")
        mix = Mix(seed)
        machine = await _machine(Path(folder) / "bare", processes, sync, mix, index=False)
        async with _running(mix, processes):
            bare, _ = await _phase(machine, mix, seconds / 3)
        progress(f"whole kernel, {seconds:.0f} s")
        mix = Mix(seed)
        machine = await _machine(Path(folder) / "whole", processes, sync, mix, index=True)
        commits = _timed(machine)
        async with _running(mix, processes):
            await _phase(machine, mix, 1.0)  # warm
            mix.spent.clear()
            commits.clear()
            whole, lag = await _phase(machine, mix, seconds)
            spent, took, lag_pages = sorted(mix.spent), sorted(commits), machine.index.lag()
            progress(f"storing {stored} messages")
            mix.doing, target = "fill", machine.kernel.counters.page + stored
            await _phase(machine, mix, 600.0, lambda: machine.kernel.counters.page >= target)
            mix.doing = "rest"  # all wait for their users, who say nothing until the index has caught up
            while machine.index.lag() or any(p.state is not State.IDLE for p in machine.kernel.procs.values()):
                await trio.sleep(0.1)
            mix.doing = "mix"
            for pid in machine.kernel.procs:
                mix.say(pid)
            progress(f"whole kernel with {machine.kernel.counters.page} pages, {seconds:.0f} s")
            await _phase(machine, mix, 1.0)
            after, lag_after = await _phase(machine, mix, seconds)
            lag_pages_after = machine.index.lag()
            pages = machine.kernel.counters.page
    return Bench(
        processes,
        sync,
        round(whole, 1),
        round(bare, 1),
        round(whole / bare, 3),
        round(after, 1),
        round(after / whole, 3),
        round(1e6 * spent[len(spent) // 2], 1),
        round(1e6 * spent[len(spent) * 99 // 100], 1),
        round(1e3 * took[len(took) // 2], 2),
        round(1e3 * took[len(took) * 99 // 100], 2),
        round(max(lag, lag_after), 3),
        max(lag_pages, lag_pages_after),
        pages,
        round((_ticks()[1] - ticks[1]) / max(1, _ticks()[0] - ticks[0]), 4),
        round(time.perf_counter() - began, 1),
    )


def _ticks() -> tuple[int, int]:
    """All CPU time of the machine since it started, and what its host took of it (proc(5), `steal`)."""
    try:
        times = [int(one) for one in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return 0, 0
    return sum(times), times[7]


@asynccontextmanager
async def _running(mix: Mix, processes: int) -> AsyncIterator[None]:
    """The machine's life around the phases, with its processes spawned."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mix.machine.run)
        for n in range(processes):
            mix.say((await mix.machine.requests.spawn(Spec(f"p{n}"))).pid)
        yield
        mix.machine.stop()


def run(processes: int, sync: str, seconds: float, stored: int, as_json: bool) -> None:
    """`llmos bench kernel`: measure and print."""

    def progress(text: str) -> None:
        show(f"  {text}", error=True)

    found = trio.run(measure, processes, sync, seconds, stored, 1, progress)
    if as_json:
        show(json.dumps(msgspec.to_builtins(found)))
        return
    for name, value in msgspec.to_builtins(found).items():
        show(f"{name:26} {value}")
