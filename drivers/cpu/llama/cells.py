"""The KV cache as kv/seats.py sees it, over the operations that llama.cpp has on sequences.

Guarantees: what is cut, shared, spliced or written leaves either what was asked for, or an empty sequence and False;
every other seat keeps what it had.
Caller's duty: called by the engines' thread alone; a seat's state is not read before a splice was followed by a decode.
Not here: which seat is to have what (kv/seats.py), llama.cpp's functions (context.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from drivers.cpu.llama.buffers import Buffers
from kernel.errors import DeviceError

END = -1  # as a position: to the end


class Part(NamedTuple):
    """Tokens for a sequence, the first at position `start`; `logits`: those of the last are wanted."""

    seat: int
    start: int
    tokens: Sequence[int]
    logits: bool = False


class Sequences(Protocol):
    """Sequences of llama.cpp's cells, by number; a position range ends before `end`, or with END at the last one."""

    def remove(self, seat: int, start: int, end: int) -> bool:
        """Drop positions. False: a part cannot be dropped, and nothing was; the whole always can, from 0 to END."""
        ...

    def first(self, seat: int) -> int:
        """The first position from which on all of a sequence is there; -1: it is empty."""
        ...

    def copy(self, source: int, seat: int, start: int, end: int) -> None:
        """Have `seat` hold the cells of `source` at some positions, too; both of one stream."""
        ...

    def move(self, seat: int, start: int, end: int, by: int) -> None:
        """Add to positions; carried out with the next decode."""
        ...

    def decode(self, parts: Sequence[Part]) -> int:
        """Evaluate parts as one batch; 0, or llama.cpp's code for why not."""
        ...

    def state_size(self, seat: int) -> int:
        """Bytes of a sequence's state."""
        ...

    def read(self, seat: int, into: Any) -> int:
        """Copy the state of a sequence into (bytes,) uint8; how many were."""
        ...

    def write(self, seat: int, data: Any) -> bool:
        """Make (bytes,) uint8 the state of a sequence. False: it could not be, and what it holds is undefined."""
        ...


class KvCells:
    """A `seats.Cells`. `exact`: each seat has a stream of its own; else `aside` is a sequence of nobody's."""

    def __init__(self, sequences: Sequences, buffers: Buffers, *, exact: bool, aside: int, sliding: int = 0) -> None:
        """`sliding`: tokens that a layer sees which does not see all; 0: all see all."""
        self._sequences, self._buffers, self._exact, self._aside = sequences, buffers, exact, aside
        self._sliding = sliding

    def trim(self, seat: int, upto: int) -> bool:
        """Remove positions from `upto` on; False if only all of them could be."""
        if self._seen(seat, upto) and self._sequences.remove(seat, upto, END):
            return True
        self._empty(seat)
        return False

    def share(self, source: int, seat: int, upto: int) -> bool:
        """Give an empty seat the first positions of another: the same cells, or a copy where each has its own."""
        if not self._exact:
            self._sequences.copy(source, seat, 0, upto)
            if self._seen(seat, upto):
                return True
            self._empty(seat)
            return False
        # Between streams llama.cpp copies with the next decode; until then the state of the copy reads as another.
        if not self.write(seat, self.read(source)):
            return False
        return self.trim(seat, upto)

    def splice(self, seat: int, start: int, end: int, tokens: Sequence[int]) -> bool:
        """Put `tokens`, one chunk at most, in place of some positions, and move what follows: its keys will be turned.

        llama.cpp takes new positions at the end alone, so what follows waits in a sequence of nobody's. Streams of
        their own have no such sequence: `tokens` is empty there.
        """
        sequences, aside, moved = self._sequences, self._aside, len(tokens) - (end - start)
        if not self._seen(seat, start):
            self._empty(seat)
            return False
        if not tokens:
            sequences.remove(seat, start, end)
            sequences.move(seat, end, END, moved)
            return True
        sequences.copy(seat, aside, end, END)
        sequences.remove(seat, start, END)
        done = sequences.decode([Part(seat, start, tokens)]) == 0
        if done:
            sequences.move(aside, end, END, moved)
            sequences.copy(aside, seat, 0, END)
        else:
            self._empty(seat)
        self._empty(aside)
        return done

    def read(self, seat: int) -> Any:
        """The state of a sequence, (bytes,) uint8. Raises DeviceError if it cannot be had, or held."""
        size = self._sequences.state_size(seat)
        try:
            data = self._buffers.take(size)
        except MemoryError as exc:
            raise DeviceError(f"no memory for {size} bytes of a sequence's state") from exc
        got = self._sequences.read(seat, data)
        if got != size:
            raise DeviceError(f"llama.cpp gives {got} of {size} bytes of a sequence's state")
        return data

    def write(self, seat: int, data: Any) -> bool:
        """Make the state of a sequence what was read; False: it is empty."""
        if self._sequences.write(seat, np.frombuffer(data, np.uint8)):
            return True
        self._empty(seat)
        return False

    def _seen(self, seat: int, upto: int) -> bool:
        """Whether all is there that a token at position `upto` looks at.

        Llama.cpp lets go of what no layer will see that slides, and a state that was read never has it; a sequence that
        is cut back would see it again.
        """
        if not self._sliding or not upto:
            return True
        return 0 <= self._sequences.first(seat) <= max(0, upto - self._sliding + 1)

    def _empty(self, seat: int) -> None:
        self._sequences.remove(seat, 0, END)
