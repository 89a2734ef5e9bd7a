"""The MemGPT paper's nested key-value look-ups (arXiv 2310.08560, section 3.2.2), on a local model.

140 pairs of UUIDs lie in the archive of a process; the value of a key may itself be a key, L look-ups deep. The process
may emit `search` and `send_message`; nothing is brought in for it, so every look-up is a search that the model emitted.
Right: the gold value stands in the final message and the others of the chain do not.
"""

from __future__ import annotations

import gzip
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import trio

from bench.asked import answer
from kernel.errors import BadInput
from kernel.machine import views
from kernel.machine.loop import Machine
from kernel.spec import Spec
from llmos.commands.output import show
from llmos.init import powered
from llmos.intervals import wilson

MASK: Final = ("send_message", "search")
ASK: Final = "What is the final value of {key}? Search every value that you find, until there are no new results."
EXAMPLE: Final = (  # a chain of two, in the words in which the kernel answers
    "7c1f09de-52ab-4e0b-9c3d-1a6f0e84b2d7",
    "b35d8e12-0f6a-49c7-8e21-d94c7a5f3b60",
    "e90a4c7b-6d18-4f52-a3be-58c2f1d7096a",
)
SYSTEM: Final = f"""\
You follow keys through an archive.

Example
user: {ASK.format(key=EXAMPLE[0])}
assistant: {{"op":"search","query":"{EXAMPLE[0]}"}}
system: 1 results:
key {EXAMPLE[0]} has value {EXAMPLE[1]} (page 31, user, 2026-05-02)
assistant: {{"op":"search","query":"{EXAMPLE[1]}"}}
system: 1 results:
key {EXAMPLE[1]} has value {EXAMPLE[2]} (page 48, user, 2026-05-02)
assistant: {{"op":"search","query":"{EXAMPLE[2]}"}}
system: no new results
assistant: {{"op":"send_message","text":"{EXAMPLE[2]}"}}"""


class Level(msgspec.Struct, frozen=True):
    """One level's figures: means over its samples, `syscalls_min` over the right ones."""

    accuracy: float
    ci95: tuple[float, float]
    syscalls: float
    syscalls_min: int
    tokens: float
    seconds: float
    right: int
    samples: int


class Sample(msgspec.Struct, frozen=True):
    """140 pairs with a chain of `look_ups` through them."""

    pairs: tuple[tuple[str, str], ...]
    key: str
    gold: str
    look_ups: int


def load(folder: Path, level: int, count: int) -> list[Sample]:
    """The first `count` orderings of a level, over record 0 as in the paper."""
    records = folder / "kv-140_rows0-49.jsonl.gz"
    orderings = folder / f"orderings_{level}.jsonl"
    for path in (records, orderings):
        if not path.exists():
            raise BadInput(f"{path} is not there; --data or LLMOS_DATA names the folder that holds nested_kv/")
    with gzip.open(records, "rt") as rows:
        base: list[list[str]] = json.loads(next(rows))["ordered_kv_records"]
    samples = []
    for line in orderings.read_text().splitlines()[:count]:
        chain: list[int] = json.loads(line)
        pairs = [list(pair) for pair in base]
        for one, other in zip(chain, chain[1:], strict=False):
            pairs[one][1] = base[other][0]
        chained = tuple((key, value) for key, value in pairs)
        samples.append(Sample(chained, base[chain[0]][0], base[chain[-1]][1], level))
    return samples


async def ask(machine: Machine, name: str, sample: Sample) -> tuple[bool, int, int]:
    """Ask one sample of a process of its own: right?, syscalls, tokens emitted."""
    pid = (await machine.requests.spawn(Spec(name, MASK, system=SYSTEM))).pid
    await machine.requests.file(pid, [f"key {key} has value {value}" for key, value in sample.pairs])
    reply = await answer(machine, pid, ASK.format(key=sample.key))
    view = views.process(machine.kernel, pid)
    chain = {value for _, value in sample.pairs} & {key for key, _ in sample.pairs}
    right = sample.gold in reply and not any(link in reply for link in chain)
    if view.state != "zombie":
        await machine.requests.kill(pid)
    return right, view.accounts.syscalls, view.accounts.emitted


async def measure(
    model: str, levels: tuple[int, ...], samples: int, window: int, data: Path, progress: Callable[[str], None]
) -> dict[str, Level]:
    """Every level, sample by sample, on one machine."""
    found: dict[str, Level] = {}
    loaded = {level: load(data, level, samples) for level in levels}
    changes = ["memory.fault=false", "memory.recall=0", "memory.data=0", "cpu.encoding=json", "cpu.reply=160"]
    changes += ["memory.on_evict=nothing", "cpu.repeat=1.0"]
    with tempfile.TemporaryDirectory(prefix="llmos-kv-") as folder:
        async with powered(Path(folder), model=model, window=window, changes=changes) as machine:
            for level, chosen in loaded.items():
                began, rows = time.perf_counter(), []
                for number, sample in enumerate(chosen):
                    rows.append(await ask(machine, f"kv-{level}-{number}", sample))
                    rights = sum(right for right, _, _ in rows)
                    progress(f"{level} look-ups: {rights} of {len(rows)} right, {rows[-1][1]} syscalls")
                found[str(level)] = _level(rows, time.perf_counter() - began)
    return found


def _level(rows: list[tuple[bool, int, int]], seconds: float) -> Level:
    n, right = len(rows), sum(right for right, _, _ in rows)
    return Level(
        accuracy=round(right / n, 4),
        ci95=wilson(right, n),
        syscalls=round(sum(calls for _, calls, _ in rows) / n, 2),
        syscalls_min=min((calls for ok, calls, _ in rows if ok), default=0),
        tokens=round(sum(tokens for _, _, tokens in rows) / n, 1),
        seconds=round(seconds / n, 2),
        right=right,
        samples=n,
    )


def folder_of(data: Path | None) -> Path:
    """The nested_kv folder: given, or below LLMOS_DATA. Raises BadInput if there is none."""
    root = data or (Path(os.environ["LLMOS_DATA"]) if os.environ.get("LLMOS_DATA") else None)
    if root is None:
        raise BadInput("no data: give --data DIR or set LLMOS_DATA to the folder that holds nested_kv/")
    return root / "nested_kv" if (root / "nested_kv").is_dir() else root


def run(model: str, levels: tuple[int, ...], samples: int, window: int, data: Path | None, as_json: bool) -> None:
    """`llmos bench nested-kv`: measure and print."""

    def progress(text: str) -> None:
        show(f"  {text}", error=True)

    found = trio.run(measure, model, levels, samples, window, folder_of(data), progress)
    if as_json:
        show(json.dumps({"levels": msgspec.to_builtins(found), "mask": list(MASK), "model": model, "window": window}))
        return
    show("look-ups  right     95 % interval     syscalls  tokens  seconds a sample")
    for name, level in found.items():
        low, high = level.ci95
        show(
            f"{name:>8}  {level.right:>2} of {level.samples:<3} {low:.2f} to {high:.2f}      "
            f"{level.syscalls:>8}  {level.tokens:>6}  {level.seconds}"
        )
