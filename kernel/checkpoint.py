"""Checkpoints: a consistent copy of the state from which replay can start, so that the journal before it can go.

Table `base` holds the rows of records.STATE, all that changes in place, as they stood after one step, and beside them
what a running kernel needs to go on from there (Base). Pages and message ids are written once and never change: those
of a checkpoint are the ones with numbers up to its counters, and are not copied. A running kernel takes a checkpoint
after a Checkpointed event, whose step makes everything that no record holds a function of the records (restart.derive);
one that does not run, at its last commit, for the next event is Booted, which does the same.
Not here: who asks for it (machine/loop.py, llmos/storage.py), replay (replay.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from kernel import formats, restart
from kernel.event import Booted, Tag
from kernel.ports import Reads, Record
from kernel.records import FORMAT_ROW, STATE, JournalEntry, encode, key, unkey
from kernel.state import Kernel

HEAD: Final = b"at"
CUT: Final = 1_000  # journal entries that one transaction deletes


class Base(msgspec.Struct, frozen=True, array_like=True):
    """Where a checkpoint stands: its log number, the state hash there, and what a kernel that ran had in its slots."""

    lsn: int
    hash: bytes
    booted: Booted | None = None  # None: no kernel ran; the next event is Booted
    slots: tuple[Tag, ...] = ()


def base(disk: Reads) -> Base | None:
    """The checkpoint of a disk, if there is one."""
    row = disk.get("base", HEAD)
    return None if row is None else msgspec.msgpack.decode(row, type=Base)


def last_entry(disk: Reads) -> JournalEntry | None:
    """The newest entry of the journal; None if it is empty."""
    rows = disk.scan("journal", reverse=True, limit=1)
    return formats.entry(rows[0][1]) if rows else None


def state_hash(disk: Reads) -> bytes:
    """The state hash of the last commit, which stands in the journal or, where that was cut to its end, in the base."""
    entry, kept = last_entry(disk), base(disk)
    return entry.hash if entry is not None else kept.hash if kept is not None else bytes(16)


def records(disk: Reads, kernel: Kernel | None) -> list[Record]:
    """The checkpoint of what is committed now, to be committed at once; `kernel`: whose state that is, if one runs."""
    counters = disk.get("meta", b"kernel")
    lsn = msgspec.msgpack.decode(counters)[0] if counters is not None else 0
    if kernel is None:
        head = Base(lsn, state_hash(disk))
    else:
        slots = tuple(slot.tag for slot in kernel.slots)
        head = Base(lsn, kernel.hash.to_bytes(16, "little"), kernel.config, slots)
    written = {row.table.encode() + b"/" + row.key: row.value for row in _state(disk)}
    written[HEAD] = encode(head)
    gone = [Record("base", row, None) for row, _ in disk.scan("base") if row not in written]
    return gone + [Record("base", row, value) for row, value in written.items()]


def _state(disk: Reads) -> Iterator[Record]:
    for table in STATE:
        for row, value in disk.scan(table):
            if (table, row) != FORMAT_ROW:
                yield Record(table, row, value)


def load(kernel: Kernel, disk: Reads) -> Base | None:
    """Bring an empty kernel to the checkpoint of a disk, as it was there; None if there is none."""
    head = base(disk)
    if head is None:
        return None
    kept = [(*row.partition(b"/"), value) for row, value in disk.scan("base") if row != HEAD]
    state = [Record(table.decode(), row, value) for table, _, row, value in kept]
    kernel.load(state, head.hash, formats.at(disk, head.lsn))
    if head.booted is not None:
        restart.from_checkpoint(kernel, head.booted, head.slots)
    return head


def last_commit(kernel: Kernel, disk: Reads) -> None:
    """Bring an empty kernel to the last commit of a disk, and to the hash that was journaled with it."""
    kernel.load(_state(disk), state_hash(disk), formats.of(disk))


def cut(disk: Reads) -> list[Record]:
    """What to delete next of the journal that the checkpoint stands for; empty when nothing of it is left."""
    head = base(disk)
    rows = disk.scan("journal", limit=CUT) if head is not None else []
    return [Record("journal", row, None) for row, _ in rows if head is not None and unkey(row)[0] <= head.lsn]


__all__ = ["Base", "base", "cut", "key", "last_commit", "last_entry", "load", "records", "state_hash"]
