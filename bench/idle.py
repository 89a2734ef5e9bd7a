"""What processes cost that do nothing: memory, the time of a boot, and what their number costs one that works.

A machine on LMDB, with scripted CPUs and without index, as bench/kernel.py has it bare. In one run: a few processes,
then many, each in a directory of its own; turns (a message, its reply, committed) of one process in either, taken in
blocks of turns, so that what the host does meanwhile falls on both. Memory is what the boot adds to the process's own
(RssAnon): the pages of data.mdb that were read are the host's cache, and are given beside it.
"""

from __future__ import annotations

import gc
import json
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import trio

from bench.asked import answer
from drivers.cpu.scripted import ScriptedCpu
from drivers.disk.lmdb import LmdbDisk
from drivers.index.none import NoIndex
from kernel.boot import Board, boot
from kernel.machine.loop import Machine
from kernel.settings import Settings, apply
from kernel.spec import Spec
from llmos.commands.output import show
from syscalls.table import Table

FEW: Final = 10
BLOCK: Final = 50  # turns of either machine before those of the other


class Idle(msgspec.Struct, frozen=True):
    """What one run measured. `turn_ratio`: p50 of a turn among many to one among few."""

    processes: int
    bytes_each: float
    mapped_each: float
    boot_s: float
    turns: int
    turn_p50_us: float
    few_turn_p50_us: float
    turn_ratio: float


@asynccontextmanager
async def _machine(folder: Path) -> AsyncIterator[Machine]:
    cpu = ScriptedCpu(lambda job: '{"op":"send_message","text":"Yes."}', slots=1)
    settings = apply(Settings(), ["memory.fault=false", "disk.sync=off"])
    machine = await boot(Board(cpu, LmdbDisk(folder), NoIndex(), settings), Table())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(machine.run)
        try:
            yield machine
        finally:
            machine.stop()
            await machine.stopped()


async def _filled(folder: Path, processes: int) -> None:
    async with _machine(folder) as machine:
        for first in range(0, processes, 500):
            async with trio.open_nursery() as nursery:
                for n in range(first, min(processes, first + 500)):
                    nursery.start_soon(machine.requests.spawn, Spec(f"idle-{n}", calls=Table().default_mask(full=True)))


def _resident() -> tuple[int, int]:
    """Bytes of this process that are in memory: its own, and those of files."""
    rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    own, mapped = (int(rows[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))
    return own, mapped


async def measure(processes: int, turns: int, folder: Path) -> Idle:
    """Fill two machines, boot both, and have one process of each take turns."""
    few, many = folder / "few", folder / "many"
    for path, count in ((few, FEW), (many, processes)):
        path.mkdir()
        await _filled(path, count)
        show(f"{count} processes made", error=True)
    async with _machine(few) as small:
        gc.collect()
        before, began = _resident(), time.perf_counter()
        async with _machine(many) as large:
            boot_s = time.perf_counter() - began
            gc.collect()
            own, mapped = (now - then for now, then in zip(_resident(), before, strict=True))
            spent: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(max(1, turns // BLOCK)):
                for machine, much in ((small, False), (large, True)):
                    pid = machine.kernel.names[f"idle-{FEW // 2}"]
                    for _ in range(BLOCK):
                        at = time.perf_counter()
                        await answer(machine, pid, "Are you there?")
                        spent[much].append(time.perf_counter() - at)
    p50 = {much: sorted(found)[len(found) // 2] * 1e6 for much, found in spent.items()}
    return Idle(
        processes=processes,
        bytes_each=round(own / processes, 1),
        mapped_each=round(mapped / processes, 1),
        boot_s=round(boot_s, 3),
        turns=len(spent[True]),
        turn_p50_us=round(p50[True], 1),
        few_turn_p50_us=round(p50[False], 1),
        turn_ratio=round(p50[True] / p50[False], 3),
    )


def run(processes: int, turns: int, as_json: bool) -> None:
    """`llmos bench idle`."""
    with tempfile.TemporaryDirectory(prefix="llmos-idle-") as folder:
        found = trio.run(measure, processes, turns, Path(folder))
    if as_json:
        show(json.dumps(msgspec.to_builtins(found)))
        return
    each = f"{found.bytes_each:,.0f} bytes each, and {found.mapped_each:,.0f} of the mapped file"
    turn = f"a turn {found.turn_p50_us:.0f} us against {found.few_turn_p50_us:.0f} among {FEW} ({found.turn_ratio:.2f})"
    show(f"{found.processes} processes: {each}; boot {found.boot_s:.2f} s; {turn}")
