"""Checkpoints: a consistent copy of the state from which replay can start, so that the journal before it can go.

Table `base` holds the rows of records.STATE, all that changes in place, as they stood after one step, and beside them
what a running kernel needs to go on from there (Base). Pages and message ids are written once and never change: those
of a checkpoint are the ones with numbers up to its counters, and are not copied. A running kernel takes a checkpoint
after a Checkpointed event, whose step makes everything that no record holds a function of the records (restart.derive);
one that does not run, at its last commit, for the next event is Booted, which does the same.
It is copied a piece at a time while the kernel goes on (Copy). Replay starts at the one under HEAD; one under NEXT
stands beside it until it takes its place. Rows of others, which a crash may leave half done, are stale, and go.
Not here: who asks for it (machine/keeper.py, llmos/storage.py), replay (replay.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from kernel import formats, restart
from kernel.event import Booted, Tag
from kernel.ports import Reads, Record
from kernel.records import FORMAT_ROW, STATE, JournalEntry, counters, encode, key, unkey
from kernel.state import Kernel

HEAD: Final = b"at"
NEXT: Final = b"next"
COPIED: Final = 200  # rows that one transaction copies
CUT: Final = 250  # rows that one transaction deletes
MARK: Final = b"#"  # before it and a log number come the rows of a checkpoint; older directories have them bare


class Base(msgspec.Struct, frozen=True, array_like=True):
    """Where a checkpoint stands: its log number, the state hash there, and what a kernel that ran had in its slots."""

    lsn: int
    hash: bytes
    booted: Booted | None = None  # None: no kernel ran; the next event is Booted
    slots: tuple[Tag, ...] = ()
    prefix: bytes = b""  # of the keys of its rows


def base(disk: Reads, which: bytes = HEAD) -> Base | None:
    """The checkpoint of a disk, if there is one; with NEXT, the newer one that stands beside it."""
    row = disk.get("base", which)
    return None if row is None else msgspec.msgpack.decode(row, type=Base)


def last_entry(disk: Reads) -> JournalEntry | None:
    """The newest entry of the journal; None if it is empty."""
    rows = disk.scan("journal", reverse=True, limit=1)
    return formats.entry(rows[0][1]) if rows else None


def state_hash(disk: Reads) -> bytes:
    """The state hash of the last commit, which stands in the journal or, where that was cut to its end, in the base."""
    entry, kept = last_entry(disk), base(disk)
    return entry.hash if entry is not None else kept.hash if kept is not None else bytes(16)


class Copy:
    """A checkpoint of what is committed now, taken a piece at a time.

    The caller's duty: make it between a Checkpointed step and the next one, or on a disk that no kernel runs on; commit
    what `piece` gives until it is empty, and then the head; and commit with all else that is written what `saved` says.
    """

    def __init__(self, disk: Reads, kernel: Kernel | None) -> None:
        """`kernel`: whose state that is, if one runs."""
        self._disk = disk
        self._left = deque(STATE)  # tables that are not copied whole, the first of them up to `_last`
        self._last = b""
        self._saved: set[tuple[str, bytes]] = set()  # rows beyond that which were copied before they changed
        last = counters(disk)
        prefix = MARK + key(last.lsn)
        if kernel is None:
            self.head = Base(last.lsn, state_hash(disk), prefix=prefix)
        else:
            slots = tuple(slot.tag for slot in kernel.slots)
            self.head = Base(last.lsn, kernel.hash.to_bytes(16, "little"), kernel.config, slots, prefix)

    def saved(self, written: Sequence[Record]) -> list[Record]:
        """The rows that `written` is about to change and the copy has not come to, as they are."""
        found = []
        for at in [(record.table, record.key) for record in written]:
            if at[0] not in self._left or at == FORMAT_ROW or at in self._saved:
                continue
            if at[0] == self._left[0] and at[1] <= self._last:
                continue
            self._saved.add(at)
            value = self._disk.get(*at)
            if value is not None:
                found.append(self._row(*at, value))
        return found

    def piece(self) -> list[Record]:
        """What to copy next; empty when all is."""
        found: list[Record] = []
        while self._left and not found:
            table = self._left[0]
            rows = self._disk.scan(table, self._last + b"\0" if self._last else b"", limit=COPIED)
            kept = [(row, value) for row, value in rows if (table, row) not in self._saved]
            found = [self._row(table, row, value) for row, value in kept if (table, row) != FORMAT_ROW]
            if len(rows) < COPIED:
                self._left.popleft()
                self._last = b""
            else:
                self._last = rows[-1][0]
        return found

    def _row(self, table: str, row: bytes, value: bytes) -> Record:
        return Record("base", self.head.prefix + table.encode() + b"/" + row, value)


def records(disk: Reads, kernel: Kernel | None) -> list[Record]:
    """The checkpoint of what is committed now, as a whole, to be committed at once."""
    copy = Copy(disk, kernel)
    rows = [row for piece in iter(copy.piece, []) for row in piece]
    return [*rows, *place(copy.head)]


def place(head: Base) -> list[Record]:
    """What makes a checkpoint whose rows are committed the one from which replay starts."""
    return [Record("base", HEAD, encode(head)), Record("base", NEXT, None)]


def _state(disk: Reads) -> Iterator[Record]:
    for table in STATE:
        for row, value in disk.scan(table):
            if (table, row) != FORMAT_ROW:
                yield Record(table, row, value)


def kept(disk: Reads, head: Base, tables: Sequence[str] = STATE) -> Iterator[Record]:
    """The rows of a checkpoint, of some tables."""
    for table in tables:
        prefix = start = head.prefix + table.encode() + b"/"
        while rows := [one for one in disk.scan("base", start, limit=COPIED) if one[0].startswith(prefix)]:
            yield from (Record(table, row.removeprefix(prefix), value) for row, value in rows)
            start = rows[-1][0] + b"\0"


def load(kernel: Kernel, disk: Reads, which: bytes = HEAD) -> Base | None:
    """Bring an empty kernel to a checkpoint of a disk, as it was there; None if there is none."""
    head = base(disk, which)
    if head is None:
        return None
    kernel.load(kept(disk, head), head.hash, formats.at(disk, head.lsn))
    if head.booted is not None:
        restart.from_checkpoint(kernel, head.booted, head.slots)
    return head


def last_commit(kernel: Kernel, disk: Reads) -> None:
    """Bring an empty kernel to the last commit of a disk, and to the hash that was journaled with it."""
    kernel.load(_state(disk), state_hash(disk), formats.of(disk))


def cut(disk: Reads) -> list[Record]:
    """What to delete next of what the checkpoint stands for, and of stale ones; empty when nothing of it is left.

    Not while one is being copied, which nothing names yet.
    """
    head = base(disk)
    stale = _stale(disk, {one.prefix for one in (head, base(disk, NEXT)) if one is not None})
    if stale or head is None:
        return [Record("base", row, None) for row in stale]
    first = disk.scan("journal", limit=1)
    start = unkey(first[0][0])[0] if first else head.lsn + 1
    return [Record("journal", key(lsn), None) for lsn in range(start, min(start + CUT, head.lsn + 1))]


def _stale(disk: Reads, living: set[bytes]) -> list[bytes]:
    """Rows of checkpoints with other prefixes than `living`, some of them; empty if there are none."""
    start = MARK
    while (first := disk.scan("base", start, limit=1)) and first[0][0].startswith(MARK):  # ends: `start` grows
        prefix = first[0][0][: len(MARK) + 8]
        if prefix not in living:
            return [row for row, _ in disk.scan("base", prefix, limit=CUT) if row.startswith(prefix)]
        start = MARK + key(unkey(prefix.removeprefix(MARK))[0] + 1)
    bare = [table.encode() + b"/" for table in STATE if b"" not in living]
    return [row for one in bare for row, _ in disk.scan("base", one, limit=CUT) if row.startswith(one)][:CUT]
