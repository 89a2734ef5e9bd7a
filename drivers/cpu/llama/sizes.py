"""How large things are: positions, seats, cells and batches, and how many tokens of a run go into its next batch.

Pure arithmetic on settings. Guarantee: in deterministic mode every batch ends at a multiple of the chunk, or with its
run's last token, whatever was evaluated before and in how many pieces.
Not here: how many bytes that takes (memory.py), which runs share a batch (plan.py).
"""

from __future__ import annotations

from typing import Final

import msgspec

from kernel.settings import Cpu as CpuSettings

FEW: Final = 8  # tokens that go with every step; more are a prompt, whose chunks take turns
SEATS_A_SLOT: Final = 4  # where seats share cells: who rests keeps its KV until cells are short
PADDING: Final = 256  # llama.cpp pads a stream's cells to a multiple of this


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """What a context is made for."""

    slots: int
    window: int  # positions that a process may reach
    chunk: int  # tokens of a prompt that are evaluated at a stretch
    exact: bool  # each seat has a stream of cells of its own, each run batches of its own
    seats: int
    cells: int  # that the seats share; 0 where each has its own

    @property
    def context(self) -> int:
        """Cells to ask llama.cpp for, which divides them evenly among streams."""
        return self.seats * padded(self.window) if self.exact else padded(self.cells)

    @property
    def sequences(self) -> int:
        """Sequences to ask for: where cells are shared, one is nobody's, for what a splice moves."""
        return self.seats if self.exact else self.seats + 1

    @property
    def batch(self) -> int:
        """Tokens of the largest batch."""
        return self.chunk if self.exact else self.chunk + FEW * self.slots

    @property
    def windows(self) -> int:
        """For how many windows there is to be memory."""
        return self.seats if self.exact else -(-self.cells // self.window)

    def due(self, pending: int, at: int) -> int:
        """How many of a run's `pending` tokens, the first of which is for position `at`, go into its next batch."""
        return min(pending, self.chunk - at % self.chunk if self.exact else self.chunk)


def sizes(settings: CpuSettings, window: int) -> Sizes:
    """The sizes that settings ask for."""
    exact = settings.mode == "deterministic"
    slots = settings.slots
    return Sizes(
        slots=slots,
        window=window,
        chunk=min(settings.chunk, window),
        exact=exact,
        seats=max(slots, settings.seats or slots * (1 if exact else SEATS_A_SLOT)),
        cells=0 if exact else max(settings.cells, window) if settings.cells else slots * window,
    )


def padded(cells: int) -> int:
    """As many cells, rounded up to what llama.cpp makes of them."""
    return -(-cells // PADDING) * PADDING
