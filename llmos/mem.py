"""What a process remembered when, as `llmos mem` tells it: of a machine that runs, or of a directory.

A version is a log number: core memory as it was after that step. Not here: how it is found out
(kernel/machine/chronicle.py).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from drivers.door import wire
from kernel.limits import NS
from kernel.machine.views import Remembered
from kernel.text import one_line
from llmos import ask, storage, tables

LIMIT: Final = 200  # changes that are told


def remembered(directory: Path, proc: str, upto: int = 0, limit: int = LIMIT) -> wire.Memories:
    """What the machine of a directory says, or, if none runs, what the directory does. Raises BadInput."""
    if storage.in_use(directory):
        return ask.call(directory / ask.SOCKET, wire.Mem(id=0, proc=proc, upto=upto, limit=limit), wire.Memories)
    from drivers.door.desk import memories
    from kernel.machine.chronicle import Chronicle
    from kernel.records import counters
    from syscalls.table import Table

    with storage.reader(directory) as disk:
        pid, last = storage.process(disk, proc), counters(disk).lsn
        found = Chronicle(disk, Table(), pid, upto)
        while found.piece():  # ends with the journal
            pass
        return memories(0, pid, upto or last, found, limit)


def before(directory: Path, proc: str) -> int:
    """The step before core memory or the facts last changed; 0 if that is all there is."""
    found = remembered(directory, proc, limit=1)
    return found.changes[0].lsn - 1 if found.changes else 0


def log(found: wire.Memories, *, colour: bool = False, width: int = 0) -> list[str]:
    """A line a change, oldest first."""
    rows = [[str(one.lsn), _when(one.at), one.by.value, _what(one), _text(one)] for one in found.changes]
    names = ("VERSION", "WHEN", "BY", "WHAT", "TEXT")
    shown = tables.aligned(names, rows, left=names[1:], spare=("WHEN",), colour=colour, width=width)
    older = [f"older ones: --before {found.changes[0].lsn}"] if found.more else []
    return shown + older + ([] if found.whole or found.more else ["what was before is in no journal any more"])


def diff(then: wire.Memories, now: wire.Memories) -> list[str]:
    """What differs, block by block, as `diff -u` has it; then the facts that were found since."""
    lines: list[str] = []
    for block in dict.fromkeys((*then.blocks, *now.blocks)):
        old, new = (found.blocks.get(block, "").splitlines() for found in (then, now))
        lines += difflib.unified_diff(old, new, f"{block}@{then.upto}", f"{block}@{now.upto}", lineterm="")
    lines += [f"+{_what(one)} {_text(one)}" for one in facts(then, now)]
    return [one_line(line) for line in lines]


def facts(then: wire.Memories, now: wire.Memories) -> list[Remembered]:
    """The facts that were found since, as far back as is told."""
    return [one for one in now.changes if one.page and one.lsn > then.upto]


def as_json(changes: Sequence[Remembered]) -> list[Any]:
    """Changes with all their fields."""
    return [msgspec.structs.asdict(one) for one in changes]


def _what(one: Remembered) -> str:
    return f"fact {one.page}" if one.page else one.block


def _text(one: Remembered) -> str:
    if one.page:
        return f"{one.subject}: {one.text}" + (f" (corrects {one.corrects})" if one.corrects else "")
    return " / ".join(one.text.splitlines()) if one.text else "(removed)"


def _when(at: int) -> str:
    return datetime.fromtimestamp(at / NS, UTC).isoformat(timespec="seconds")[:19] if at else "before"
