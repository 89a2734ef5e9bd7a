"""A disk of which a power cut takes the last transactions away, as `disk.sync=off` may lose them.

They stand in memory, where reads find them, and go to LMDB some commits later, as the host's page cache writes them
back: so what survives a kill is what a power cut would leave of a meta page that was not synced, an earlier commit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from drivers.disk.lmdb import LmdbDisk
from drivers.disk.memory import MemoryDisk
from kernel.ports import Record
from kernel.records import TABLES

BEHIND: Final = 7  # transactions that are not on the disk yet


class Unsynced:
    """A ports.Disk: all reads are of memory, and LMDB follows BEHIND transactions later."""

    blocking = True

    def __init__(self, disk: LmdbDisk) -> None:
        self._disk, self._memory = disk, MemoryDisk()
        self._memory.commit([Record(table, key, value) for table in TABLES for key, value in disk.scan(table)])
        self._waiting: deque[Sequence[Record]] = deque()
        self.get, self.get_many, self.scan = self._memory.get, self._memory.get_many, self._memory.scan
        self.size = self._memory.size

    def commit(self, records: Sequence[Record]) -> None:
        """All or nothing in memory; on the disk later."""
        self._memory.commit(records)
        self._waiting.append(list(records))
        if len(self._waiting) > BEHIND:
            self._write()

    def _write(self) -> None:
        self._disk.commit(self._waiting[0])  # one that fails leaves no gap
        self._waiting.popleft()

    def close(self) -> None:
        """Write everything, and let go."""
        while self._waiting:
            self._write()
        self._disk.close()
