"""What the records that may change have of the state hash, each by itself: a write takes the old share out again.

Rows that are numbered in a row (`Table.in_row`) take 16 bytes each, for there may be thousands of a process; others, of
which there are a few a process, an entry of a dict.
Not here: what a share is (records.py `digest`), the sum of all (state.py).
"""

from __future__ import annotations

from typing import Final

from kernel import records

BYTES: Final = 16  # of a share
NOTHING: Final = bytes(BYTES)


class Shares:
    """Those of one state; 0 is the share of a record that is not there."""

    def __init__(self) -> None:
        self._single: dict[tuple[str, bytes], int] = {}
        self._rows: dict[tuple[str, int], _Row] = {}  # by table and process

    def get(self, table: str, key: bytes) -> int:
        """That of one record."""
        if not records.TABLES[table].in_row:
            return self._single.get((table, key), 0)
        pid, number = records.unkey(key)
        row = self._rows.get((table, pid))
        return row.get(number) if row is not None else 0

    def put(self, table: str, key: bytes, share: int) -> int:
        """Put one in the place of the one before, which is returned."""
        if not records.TABLES[table].in_row:
            before = self._single.pop((table, key), 0)
            if share:
                self._single[table, key] = share
            return before
        pid, number = records.unkey(key)
        row = self._rows.setdefault((table, pid), _Row(number))
        before = row.put(number, share)
        if not row.shares:
            del self._rows[table, pid]
        return before

    def keys(self, table: str) -> set[bytes]:
        """The records of a table that is not in a row."""
        assert not records.TABLES[table].in_row
        return {key for name, key in self._single if name == table}


class _Row:
    """Shares from number `first` on. They come at the end and go from the front; a gap is filled with 0."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.shares = bytearray()

    def get(self, number: int) -> int:
        at = BYTES * (number - self.first)
        return int.from_bytes(self.shares[at : at + BYTES], "little") if at >= 0 else 0

    def put(self, number: int, share: int) -> int:
        assert number >= self.first, "before what was there first"
        before, at = self.get(number), BYTES * (number - self.first)
        self.shares.extend(bytes(max(0, at - len(self.shares))))
        self.shares[at : at + BYTES] = share.to_bytes(BYTES, "little")
        while self.shares[:BYTES] == NOTHING:  # ends: each turn takes one
            del self.shares[:BYTES]
            self.first += 1
        return before
