"""How long a machine with a long past takes to come back, and what a turn costs it.

A directory is filled by the real kernel: processes, each with a page, and one that has most of the pages, of 200 bytes.
Then, each on that directory: the journal is compacted; the indexes are built from nothing, and the bytes a message are
counted; the machine boots after a clean end, and after a kill; and turns are taken (message, search, demand fault,
append, commit; the CPU is scripted) by the process with the long past, beside the same with a short one. Turns are
measured when the graph of the vectors stands, which is built in idle moments after the first search of a process.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import msgspec
import trio

from drivers.cpu.scripted import ScriptedCpu
from drivers.disk.lmdb import LmdbDisk
from drivers.index.beside import IndexBeside
from kernel import core
from kernel.boot import Board, boot
from kernel.event import Filed, Message
from kernel.machine import views
from kernel.machine.loop import Machine
from kernel.ports import Job
from kernel.settings import Settings, apply
from kernel.spec import Spec
from llmos.commands.output import show
from llmos.storage import compact
from syscalls.table import Table

SHORT_MAX: int = 10_000  # pages of the machine that the long one is compared with; half as many, if that is fewer
TURNS_MAX: int = 200  # one for every 40 pages of the long machine
CHUNK: int = 200  # pages an event
TEXT_BYTES: int = 200
SYLLABLES = ("ba", "ke", "li", "mo", "nu", "pra", "sto", "tri", "vel", "zan", "cor", "dim", "fal", "gru", "hes", "jol")
WORDS = [a + b for a in SYLLABLES for b in SYLLABLES]  # common ones
LETTA_TURN_S = 2.6  # Letta 0.6.5 at 5,000 stored messages, the model at 0 ms (facts.md)


class Turns(msgspec.Struct, frozen=True):
    """Turns of a process with so many pages, in ms."""

    pages: int
    p50_ms: float
    p99_ms: float
    faults: int  # pages that demand faults brought in


class Recovery(msgspec.Struct, frozen=True):
    """What one run measured."""

    processes: int
    pages: int
    fill_s: float
    rebuild_pages_per_s: float
    graph_s: float  # until the graph of its vectors stood, after the first search of the process with the long past
    recovery_clean_s: float
    recovery_killed_s: float
    walk_s: float  # of that: the walk over data.mdb, in a process of its own
    data_bytes: int
    index_bytes: int
    bytes_per_message: float
    compact_s: float
    turn: Turns
    turn_short: Turns
    turn_ratio: float
    letta_turn_ms: float
    seconds: float


def text(rng: Random, number: int) -> str:
    """About TEXT_BYTES bytes: common words, and one that no other page has."""
    words = [f"item{number}"]
    size = len(words[0])
    while size < TEXT_BYTES - 6:
        words.append(rng.choice(WORDS))
        size += len(words[-1]) + 1
    return " ".join(words)


def program(job: Job) -> str:
    """Answers at once."""
    return '{"op":"send_message","text":"so it is"}'


async def machine_on(directory: Path) -> Machine:
    """Boot what lies in the directory."""
    settings = apply(Settings(), ["disk.sync=group"])
    disk = LmdbDisk(directory, sync="group")
    index = IndexBeside(directory, disk)
    return await boot(Board(ScriptedCpu(program), disk, index, settings), Table())


async def fill(directory: Path, processes: int, pages: int, tell: Callable[[str], None]) -> None:
    """Spawn processes and file pages: a few in each, all others in the first."""
    from drivers.index.none import NoIndex

    rng = Random(1)
    disk = LmdbDisk(directory, sync="off")
    machine = await boot(Board(ScriptedCpu(program), disk, NoIndex(), Settings()), Table())
    kernel, number = machine.kernel, 0
    from kernel.event import Spawned

    mask = ("send_message", "search")
    for n in range(processes):
        event = Spawned(source="user", at=machine.clock.now(), spec=Spec(f"p{n}", calls=mask))
        step = core.step(kernel, event)
        records = list(step.records)
        number += 1
        parts = machine.cpus(text(rng, number), 512, "")
        records += core.step(kernel, Filed(source="user", at=machine.clock.now(), pid=step.pid, parts=parts)).records
        disk.commit(records)
        if n % 1_000 == 0:
            tell(f"{n} of {processes} processes")
    while kernel.counters.page < pages:
        many = min(CHUNK, pages - kernel.counters.page)
        parts = tuple(part for n in range(many) for part in machine.cpus(text(rng, number + n + 1), 512, ""))
        number += many
        disk.commit(core.step(kernel, Filed(source="user", at=machine.clock.now(), pid=1, parts=parts)).records)
        if kernel.counters.page % 100_000 < CHUNK:
            tell(f"{kernel.counters.page} of {pages} pages")
    disk.close()


async def turns(
    machine: Machine, many: int, newest: int, proc: str, tell: Callable[[str], None]
) -> tuple[Turns, float]:
    """So many turns of one process, each asking for a page by its own word; and how long its graph took before them."""
    rng, took = Random(2), list[float]()
    pid = views.find(machine.kernel, proc)
    async with machine.feed.subscribe(-1) as published:
        for n in range(many + 10):
            if n == 1:
                built = await rest(machine, tell)
            wanted = rng.randint(1, newest)
            began = time.perf_counter()
            await machine.requests.message(
                proc, "", f"What about item{wanted} and {rng.choice(WORDS)} {rng.choice(WORDS)}?"
            )
            async for item in published:
                if isinstance(item, Message) and item.pid == pid:
                    said = item.seq
                    break
            if n >= 10:
                took.append(time.perf_counter() - began)
            await machine.requests.acknowledge(pid, said)
    took.sort()
    accounts = machine.kernel.procs[pid].accounts
    return Turns(
        machine.kernel.procs[pid].seq,
        round(1e3 * took[len(took) // 2], 2),
        round(1e3 * took[len(took) * 99 // 100], 2),
        accounts.faults,
    ), built


async def rest(machine: Machine, tell: Callable[[str], None]) -> float:
    """Wait until the index has nothing to do any more."""
    began = last = time.perf_counter()
    index = machine.index
    await trio.sleep(0.5)
    while not index.idle:
        await trio.sleep(0.1)
        if time.perf_counter() - last > 20:
            last = time.perf_counter()
            tell(f"the graph is being built, {last - began:.0f} s")
    return time.perf_counter() - began


async def build_index(directory: Path, tell: Callable[[str], None]) -> float:
    """Seconds to build it from nothing."""
    for old in (*directory.glob("index.s*"), *directory.glob("p*.hnsw")):
        old.unlink()
    disk = LmdbDisk(directory)
    index = IndexBeside(directory, disk)
    began = time.perf_counter()
    index.start(lambda event: None, list)
    last = 0.0
    while index.lag():
        await trio.sleep(0.05)
        if time.perf_counter() - last > 10:
            last = time.perf_counter()
            tell(f"index at page {index.applied}")
    applied = time.perf_counter() - began
    index.close()
    disk.close()
    return applied


async def recover(directory: Path) -> tuple[float, float]:
    """Seconds from nothing to a machine that answers, the index included; and those of the walk."""
    began = time.perf_counter()
    machine = await machine_on(directory)
    assert isinstance(machine.disk, LmdbDisk)
    walked = machine.disk.walk_s
    while not machine.index.applied:
        await trio.sleep(0.002)
    took = time.perf_counter() - began
    async with trio.open_nursery() as nursery:
        nursery.start_soon(machine.run)
        machine.stop()
    return took, walked


async def measure(processes: int, pages: int, where: Path | None, tell: Callable[[str], None]) -> Recovery:
    """All phases. `where`: a folder to use, and to leave; None: one that goes away again."""
    began = time.perf_counter()
    folder = where or Path(tempfile.mkdtemp(prefix="llmos-recovery-"))
    long, short = folder / "long", folder / "short"
    few_pages = min(SHORT_MAX, pages // 2)
    try:
        start = time.perf_counter()
        if not (long / "data.mdb").exists():
            await fill(long, processes, pages, tell)
        if not (short / "data.mdb").exists():
            await fill(short, min(processes, 100), few_pages, tell)
        filled = time.perf_counter() - start
        tell("compacting")
        start = time.perf_counter()
        compact(long, tell)
        compacted = time.perf_counter() - start
        tell("building the index")
        applied = await build_index(long, tell)
        await build_index(short, tell)
        tell("recovering")
        clean, _ = await recover(long)
        _pretend_killed(long)
        killed, walked = await recover(long)
        data = (long / "data.mdb").stat().st_size
        index = sum(f.stat().st_size for f in (*long.glob("index.s*"), *long.glob("p*.hnsw")))
        found = []
        for directory, newest in ((short, few_pages), (long, pages)):
            tell(f"turns over {newest} pages")
            machine = await machine_on(directory)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(machine.run)
                found.append(await turns(machine, min(TURNS_MAX, pages // 40), newest, "p0", tell))
                machine.stop()
        (few, _), (many, graph) = found
        return Recovery(
            processes,
            pages,
            round(filled, 1),
            round(pages / applied, 1),
            round(graph, 1),
            round(clean, 2),
            round(killed, 2),
            round(walked, 2),
            data,
            index,
            round((data + index) / pages, 1),
            round(compacted, 1),
            many,
            few,
            round(many.p50_ms / few.p50_ms, 2),
            1e3 * LETTA_TURN_S,
            round(time.perf_counter() - began, 1),
        )
    finally:
        if where is None:
            shutil.rmtree(folder, ignore_errors=True)


def _pretend_killed(directory: Path) -> None:
    """As a kernel that was killed leaves it: open on this host, and not closed."""
    disk = LmdbDisk(directory)
    left = (directory / "kernel.left").read_bytes()
    disk.close()
    (directory / "kernel.left").write_bytes(left)


def run(processes: int, pages: int, where: Path | None, as_json: bool) -> None:
    """`llmos bench recovery`: measure and print."""

    def tell(what: str) -> None:
        show(f"  {what}", error=True)

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    found = trio.run(measure, processes, pages, where, tell)
    if as_json:
        show(json.dumps(msgspec.to_builtins(found)))
        return
    for name, value in msgspec.to_builtins(found).items():
        show(f"{name:22} {value}")
