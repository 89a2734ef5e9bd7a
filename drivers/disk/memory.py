"""A disk in memory: the same answers as LmdbDisk, no durability, no waiting. For tests, benches and virtual time.

Guarantee: all or nothing a commit, reads see whole commits only, keys of 1 to 511 bytes as LMDB takes them.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence

from drivers.disk.seal import FORMAT, FORMAT_KEY
from kernel.errors import DeviceError
from kernel.ports import Record
from kernel.records import TABLES

KEY_BYTES_MAX = 511  # LMDB's


class MemoryDisk:
    """A Disk whose contents live as long as the object."""

    blocking = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, dict[bytes, bytes]] = {table: {} for table in TABLES}
        self._keys: dict[str, list[bytes]] = {table: [] for table in TABLES}  # sorted
        self._sizes = dict.fromkeys(TABLES, 0)
        self.commit([Record("meta", FORMAT_KEY, FORMAT)])

    def commit(self, records: Sequence[Record]) -> None:
        """Write all or nothing, in order. Raises DeviceError for a key that LMDB would refuse."""
        for record in records:
            if not 1 <= len(record.key) <= KEY_BYTES_MAX:
                raise DeviceError(f"disk: a key has 1 to {KEY_BYTES_MAX} bytes, not {len(record.key)}")
        with self._lock:
            for table, key, value in ((r.table, r.key, r.value) for r in records):
                values, keys = self._values[table], self._keys[table]
                before = values.get(key)
                self._sizes[table] += len(value or b"") - len(before or b"")
                if value is None:
                    if values.pop(key, None) is not None:
                        del keys[bisect_left(keys, key)]
                else:
                    if key not in values:
                        insort(keys, key)
                    values[key] = value

    def get(self, table: str, key: bytes) -> bytes | None:
        """The committed value of a key."""
        with self._lock:
            return self._values[table].get(key)

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The committed values of several keys, in the order of `keys`, in one read."""
        with self._lock:
            return [self._values[table].get(key) for key in keys]

    def scan(
        self, table: str, start: bytes = b"", *, reverse: bool = False, limit: int = 0
    ) -> list[tuple[bytes, bytes]]:
        """Committed pairs from `start` on in key order (`reverse`: from the end, or from `start` down); 0: all."""
        with self._lock:
            values, keys = self._values[table], self._keys[table]
            if reverse:
                end = bisect_right(keys, start) if start else len(keys)
                found = keys[max(0, end - limit) if limit else 0 : end][::-1]
            else:
                first = bisect_left(keys, start)
                found = keys[first : first + limit if limit else None]
            return [(key, values[key]) for key in found]

    def size(self, table: str) -> int:
        """Bytes of the values of a table."""
        return self._sizes[table]

    def close(self) -> None:
        """Nothing to flush; the contents stay, so that a machine can be booted again on the same disk."""
