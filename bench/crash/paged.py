"""A scripted CPU whose KV is paged: seats and image files as on the real one, and a state that can be checked.

The state of a token is a checksum of all tokens up to it, as keys and values depend on what came before. Few seats
stand against many processes, so nearly every run restores an image. A run that finds another state than its tokens
give raises: the campaign then reports a life that went wrong.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from drivers.cpu.kv.images import ImageStore
from drivers.cpu.kv.seats import Seats
from drivers.cpu.scripted import Program, ScriptedCpu
from kernel.ports import Job

SEATS: Final = 2
GRAIN: Final = 16
FINGERPRINT: Final = b"scripted"
QUOTA: Final = 64 << 10  # some images go for it


class PagedCpu(ScriptedCpu):
    """ScriptedCpu over Seats and an ImageStore in `folder`; runs take no time."""

    def __init__(self, program: Program, slots: int, folder: Path) -> None:
        super().__init__(program, slots=slots)
        self._rows: list[list[int]] = [[] for _ in range(SEATS)]
        self._images = ImageStore(folder, FINGERPRINT, QUOTA)
        self._seats = Seats(SEATS, self, self._images, grain=GRAIN, exact=True)

    def close(self) -> None:
        """Keep what the seats hold, and stop."""
        super().close()
        for seat in self._seats.seats:
            self._seats.save(seat)
        self._images.close()

    def _evaluate(self, job: Job) -> int:
        """As ScriptedCpu does, with what is found in a seat or an image."""
        tokens = [*job.prompt, *job.ids]
        placed = self._seats.place(job.pid, tokens, len(tokens))
        assert placed is not None, "there is always a seat: runs take no time"
        row = self._rows[placed.seat]
        if row != states(tokens[: placed.kept]):
            raise RuntimeError(f"process {job.pid} found the KV of other tokens")
        while len(row) < len(tokens):  # ends: each pass evaluates some
            batch = tokens[len(row) : len(row) // GRAIN * GRAIN + GRAIN]
            row += states(batch, row[-1] if row else 0)
            self._seats.evaluated(placed.seat, batch)
        self._seats.leave(placed.seat)
        return len(tokens) - placed.kept

    # Cells

    def trim(self, seat: int, upto: int) -> bool:
        """See seats.Cells."""
        del self._rows[seat][upto:]
        return True

    def share(self, source: int, seat: int, upto: int) -> bool:
        """See seats.Cells."""
        self._rows[seat] = self._rows[source][:upto]
        return True

    def splice(self, seat: int, start: int, end: int, tokens: Sequence[int]) -> bool:
        """See seats.Cells: a checksum of all that stands before cannot be moved, and nothing here asks for it."""
        raise NotImplementedError

    def read(self, seat: int) -> object:
        """See seats.Cells. What waits to be written is written first: the n-th passing is the same in every life."""
        self._images.flush()
        return bytearray(np.asarray(self._rows[seat], dtype="<u4").tobytes())

    def write(self, seat: int, data: object) -> bool:
        """See seats.Cells."""
        self._rows[seat] = np.frombuffer(data, dtype="<u4").tolist()  # type: ignore[call-overload]
        return True


def states(tokens: Sequence[int], before: int = 0) -> list[int]:
    """The state of each token, after one of state `before`."""
    found = []
    for token in tokens:
        before = zlib.crc32(token.to_bytes(8, "little"), before)
        found.append(before)
    return found
