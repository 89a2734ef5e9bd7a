"""An export that comes in over a connection, in parts: nothing of it is anywhere until the last part is there.

Guarantees: a machine holds one export at a time, of IMPORT_BYTES_MAX at most, whoever sends; it is dropped when its
sender goes away, sends what is none, or has sent nothing for IMPORT_STALL_S and somebody else wants to. No file is
opened here, and no thread waits.
Not here: what an export is (drivers/disk/parcel.py), what it may claim (kernel/machine/arrival.py).
"""

from __future__ import annotations

import trio

from drivers.disk.parcel import Reader
from kernel.errors import BadInput, Busy
from kernel.event import Imported
from kernel.limits import IMPORT_STALL_S


class Dock:
    """The place for one export that a machine has."""

    def __init__(self) -> None:
        self.holder: Arriving | None = None

    def take(self, sender: Arriving) -> None:
        """Give it to a sender. Raises Busy while another one is at it."""
        if self.holder not in (None, sender):
            assert self.holder is not None
            left_s = self.holder.touched + IMPORT_STALL_S - trio.current_time()
            if self.holder.whole or left_s > 0:
                raise Busy("another process is being imported", max(1.0, round(left_s)))
            self.holder.drop()
        self.holder = sender


class Arriving:
    """What one connection has sent of an export."""

    def __init__(self, dock: Dock) -> None:
        self._dock = dock
        self._reader: Reader | None = None
        self.touched = 0.0
        self.whole = False  # the last part is there, and the process is being made

    def take(self, part: bytes, *, first: bool) -> None:
        """The next part, or the first one. Raises BadInput, and then nothing is left of it."""
        if first:
            self._dock.take(self)
            self._reader = Reader("the export")
        if self._reader is None:
            raise BadInput("no import is under way here; send the export again, from its first part")
        self.touched = trio.current_time()
        try:
            self._reader.take(part)
        except BaseException:
            self.drop()
            raise

    def done(self, name: str) -> Imported:
        """The process that it is; `drop` it when it has been made. Raises BadInput if it is not whole."""
        assert self._reader is not None, "a part has been taken"
        reader, self._reader = self._reader, None
        self.whole = True
        return reader.done(name)

    def drop(self) -> None:
        """Nothing more will come, or it is done."""
        self._reader, self.whole = None, False
        if self._dock.holder is self:
            self._dock.holder = None
