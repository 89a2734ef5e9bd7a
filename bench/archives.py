"""What a message costs a process that has mapped the archives of others: one search an archive, its own among them.

A machine on LMDB with its real index and a scripted CPU. In one run: readers that have mapped no, one, four and sixteen
archives of as many pages as their own has, asked the same questions in turn, so that what the host does meanwhile falls
on all. A turn is from the question to its reply, committed.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec
import trio

from bench.asked import answer
from bench.kernel import WEIGHTS, WORDS
from drivers.cpu.scripted import ScriptedCpu
from drivers.disk.lmdb import LmdbDisk
from drivers.index.beside import IndexBeside
from kernel.boot import Board, boot
from kernel.event import Changed, Granted
from kernel.machine.loop import Machine
from kernel.settings import Settings, apply
from kernel.spec import Spec
from llmos.commands.output import show
from llmos.tables import aligned
from syscalls.table import Table

MAPPED: Final = (0, 1, 4, 16)
TEXT_WORDS: Final = 40
FILED: Final = 100  # pages at once


class Row(msgspec.Struct, frozen=True):
    """Readers of so many archives: their turns, and how long one is beside one of who has mapped none."""

    archives: int
    searches: int  # a message
    turns: int
    turn_p50_ms: float
    ratio: float


def _text(rng: random.Random, words: int) -> str:
    """Words of which some are frequent, and a name that few pages have."""
    return f"{' '.join(rng.choices(WORDS, WEIGHTS, k=words))} name{rng.randint(0, 999)}"


async def _filled(machine: Machine, rng: random.Random, pages: int) -> dict[int, int]:
    """The readers, by how many archives each has mapped; all that is filed is indexed when it returns."""
    names = [f"ledger-{n}" for n in range(max(MAPPED))]
    readers = {n: f"reader-{n}" for n in MAPPED}
    for name in (*names, *readers.values()):
        await machine.requests.spawn(Spec(name, calls=("send_message",)))
        texts = [_text(rng, TEXT_WORDS) for _ in range(pages)]
        for first in range(0, pages, FILED):
            await machine.requests.file(name, texts[first : first + FILED])
    for n, name in readers.items():
        pid = machine.kernel.names[name]
        await machine.submit(Granted(source="user", pid=pid, right="search:*"))
        await machine.submit(Changed(source="user", pid=pid, archives=tuple(names[:n])))
    while machine.index.applied < machine.kernel.counters.page or not machine.index.idle:
        await trio.sleep(0.1)
    return {n: machine.kernel.names[name] for n, name in readers.items()}


async def measure(pages: int, turns: int, folder: Path) -> list[Row]:
    """Make the machine, and ask its readers in turn."""
    rng = random.Random("archives")
    cpu = ScriptedCpu(lambda job: '{"op":"send_message","text":"Yes."}', slots=1)
    disk = LmdbDisk(folder)
    settings = apply(Settings(), ["disk.sync=off"])
    machine = await boot(Board(cpu, disk, IndexBeside(folder, disk), settings), Table())
    spent: dict[int, list[float]] = {n: [] for n in MAPPED}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(machine.run)
        readers = await _filled(machine, rng, pages)
        show(f"{len(MAPPED) + max(MAPPED)} archives of {pages} pages made", error=True)
        for _ in range(turns):
            question = f"Where is {_text(rng, 3)}?"
            for n, pid in readers.items():
                at = time.perf_counter()
                await answer(machine, pid, question)
                spent[n].append(time.perf_counter() - at)
        machine.stop()
        await machine.stopped()
    p50 = {n: sorted(found)[len(found) // 2] * 1e3 for n, found in spent.items()}
    return [Row(n, 1 + n, turns, round(p50[n], 2), round(p50[n] / p50[0], 2)) for n in MAPPED]


def run(pages: int, turns: int, as_json: bool) -> None:
    """`llmos bench archives`."""
    with tempfile.TemporaryDirectory(prefix="llmos-archives-") as folder:
        found = trio.run(measure, pages, turns, Path(folder))
    if as_json:
        show(json.dumps({"pages": pages, "rows": msgspec.to_builtins(found)}))
        return
    rows = [[str(one.archives), str(one.searches), f"{one.turn_p50_ms:.2f}", f"{one.ratio:.2f}"] for one in found]
    for line in aligned(("archives", "searches", "turn ms", "ratio"), rows):
        show(line)
