"""What the llama CPU's rooms ask of llama.cpp, without a model: sequences of cells that are strict where it is silent.

`Library` has cells, each with a token and a position, shared by sequences or in a stream of each. Its model is a hash:
the next token is a function of all tokens of the sequence, in order, so that one that is lost or stale shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from drivers.cpu.llama.cells import END, Part
from drivers.cpu.llama.context import ABORTED
from kernel.errors import DeviceError
from kernel.memory.measure import Frame
from kernel.memory.page import Role

WORDS = 64  # tokens of the vocabulary; the last ends a turn


def next_token(tokens: Sequence[int]) -> int:
    """What the model says after `tokens`: never the end."""
    return int.from_bytes(hashlib.blake2b(repr(list(tokens)).encode(), digest_size=4).digest(), "big") % (WORDS - 1)


class Library:
    """A `cells.Sequences`, and what drivers/cpu/llama/steps.py asks of a context beside."""

    def __init__(self, sequences: int, *, streams: bool, partly: bool = True) -> None:
        self.streams, self.partly = streams, partly
        self.rows: list[dict[int, int]] = [{} for _ in range(sequences)]  # by position, the names of cells
        self.token: dict[int, int] = {}
        self.unsettled: set[int] = set()  # names of cells with a move that no decode has carried out
        self.batches: list[list[Part]] = []
        self.during: Callable[[], object] = lambda: None  # called within each decode
        self.codes: list[int] = []  # of the next decodes
        self.unreadable: set[int] = set()
        self.abort = bytearray(1)
        self._said: list[list[int]] = []

    def content(self, seat: int) -> list[int]:
        """Its tokens; positions have no hole."""
        row = self.rows[seat]
        assert sorted(row) == list(range(len(row)))
        return [self.token[row[at]] for at in range(len(row))]

    def shared(self, seat: int, start: int) -> bool:
        """Whether others hold some of its cells from `start` on."""
        names = {name for at, name in self.rows[seat].items() if at >= start}
        return any(names & set(row.values()) for n, row in enumerate(self.rows) if n != seat)

    def remove(self, seat: int, start: int, end: int) -> bool:
        row = self.rows[seat]
        gone = [at for at in row if start <= at and (end == END or at < end)]
        if not self.partly and gone and len(gone) < len(row):
            return False
        for at in gone:
            del row[at]
        return True

    def first(self, seat: int) -> int:
        return min(self.rows[seat], default=-1)

    def copy(self, source: int, seat: int, start: int, end: int) -> None:
        assert not self.streams, "between streams a copy waits for the next decode"
        row = {at: name for at, name in self.rows[source].items() if start <= at and (end == END or at < end)}
        assert not set(row) & set(self.rows[seat])
        self.rows[seat] |= row

    def move(self, seat: int, start: int, end: int, by: int) -> None:
        assert end == END
        row = self.rows[seat]
        assert not self.shared(seat, start), "a cell has one position for all who hold it"
        behind = {at + by: row.pop(at) for at in list(row) if at >= start}
        assert not set(behind) & set(row)
        row |= behind
        self.unsettled |= set(behind.values())

    def decode(self, parts: Sequence[Part]) -> int:
        self.batches.append(list(parts))
        self.during()
        code = ABORTED if any(bytes(self.abort)) else self.codes.pop(0) if self.codes else 0
        if code in (0, ABORTED):  # one that is cut off leaves what it has done
            for seat, start, tokens, _ in parts:
                row = self.rows[seat]
                assert start == max(row, default=-1) + 1, "llama.cpp takes new positions at the end alone"
                for at, token in enumerate(tokens, start):
                    row[at] = name = len(self.token)
                    self.token[name] = token
            self.unsettled.clear()
        self._said = []
        for seat, _, tokens, logits in parts:
            self._said += [[] for _ in tokens[1:]] + [self.content(seat) if logits else []]
        return code

    def logits(self, at: int) -> np.ndarray:
        if not self._said[at]:
            raise DeviceError("no logits were wanted here")
        logits = np.zeros(WORDS, np.float32)
        logits[next_token(self._said[at])] = 1
        return logits

    def state_size(self, seat: int) -> int:
        return 4 * len(self.rows[seat])

    def read(self, seat: int, into: np.ndarray) -> int:
        assert not self.unsettled & set(self.rows[seat].values())
        if seat in self.unreadable:
            return 0
        into[:] = np.array(self.content(seat), "<i4").view(np.uint8)
        return len(into)

    def write(self, seat: int, data: np.ndarray) -> bool:
        self.rows[seat].clear()
        for at, token in enumerate(np.frombuffer(data, "<i4").tolist()):
            if token < 0:
                return False  # a state that is no state, and half of it is there
            self.rows[seat][at] = name = len(self.token)
            self.token[name] = token
        return True


class Words:
    """As much of a vocabulary as runs ask for: token n is the n-th letter from "a" on, or beyond."""

    size, measure_id, leading_space = WORDS, "words", False
    ends = frozenset([WORDS - 1])
    end_ids, banned = np.array([WORDS - 1]), np.array([], np.int64)
    thought = None
    frame = Frame(begin=(), prefix=dict.fromkeys(Role, (1,)), suffix=dict.fromkeys(Role, (2, 3)), generate=())

    def piece(self, token: int) -> bytes:
        return chr(97 + token).encode()

    def bytes(self, ids: Sequence[int]) -> bytes:
        return b"".join(map(self.piece, ids))

    def detokenize(self, ids: Sequence[int]) -> str:
        return self.bytes(ids).decode()
