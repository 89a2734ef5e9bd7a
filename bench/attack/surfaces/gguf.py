"""Headers of GGUF files: as the format has them, wrong in one place, or damaged.

What is taken must not say more than the file has. What no file of that size can hold, and what the format does not
know, must be refused, however much room there seems to be.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from random import Random
from typing import Final

from bench.attack.mutate import mutated
from bench.attack.surface import Guard, Surface, Trial, Wrong, instead
from drivers.cpu import gguf
from kernel.errors import BadInput

HANG_S: Final = 60.0
EDGES: Final = (0, 1, 2, 5, 255, (1 << 16) + 1, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 63, (1 << 64) - 1)
TEXTS: Final = ("", "a", "general.name", "tokenizer.ggml.tokens", "é", "\x1b[2J", "x" * 300)
VAST: Final = 3_000_000  # strings of nothing that a sparse file has room for


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(draw: Random, depth: int = 0) -> bytes:
    """A value with its type in front."""
    kind = draw.choice([*gguf.SCALARS, gguf.STRING, *([gguf.ARRAY] * (2 * (depth < 3)))])
    return struct.pack("<I", kind) + _body(draw, kind, depth)


def _body(draw: Random, kind: int, depth: int) -> bytes:
    if kind == gguf.STRING:
        return _text(draw.choice(TEXTS))
    if kind in gguf.SCALARS:
        return draw.randbytes(struct.calcsize("<" + gguf.SCALARS[kind]))
    item = draw.choice([*gguf.SCALARS, gguf.STRING, *([gguf.ARRAY] * (depth < 2))])
    count = draw.choice([0, 1, 2, 7])
    return struct.pack("<IQ", item, count) + b"".join(_body(draw, item, depth + 1) for _ in range(count))


class _File:
    """A header in parts, one of which may be made wrong."""

    def __init__(self, draw: Random) -> None:
        self.magic, self.version = gguf.MAGIC, draw.choice(gguf.VERSIONS)
        self.pairs = [_text(f"k{at}.{draw.choice(TEXTS)}") + _value(draw) for at in range(draw.randint(0, 6))]
        self.tensors = [self.tensor(draw, [draw.randint(1, 9)]) for _ in range(draw.randint(0, 3))]
        self.counts = (len(self.tensors), len(self.pairs))
        self.data = bytes(4 * 9 * 1024)  # more than any tensor here, wherever it begins

    @staticmethod
    def tensor(draw: Random, dims: list[int], said: int | None = None, offset: int = 0) -> bytes:
        """Of 4-byte floats. `said`: how many dimensions it claims."""
        many = len(dims) if said is None else said
        sizes = b"".join(struct.pack("<Q", size) for size in dims)
        return _text("t") + struct.pack("<I", many) + sizes + struct.pack("<IQ", 0, offset)

    def head(self) -> bytes:
        return self.magic + struct.pack("<IQQ", self.version, *self.counts) + b"".join([*self.pairs, *self.tensors])

    def raw(self) -> bytes:
        head = self.head()
        return head + bytes(-len(head) % 32) + self.data


def _wrong(draw: Random, file: _File) -> str:
    """Make it wrong; what is wrong now."""
    vast = draw.choice([edge for edge in EDGES if edge > 1 << 20])
    match draw.randrange(9):
        case 0:
            file.magic = draw.choice([b"GGUX", b"FUGG", b"\0\0\0\0", b"PK\3\4"])
            return "the magic"
        case 1:
            file.version = draw.choice([0, 1, 4, 1 << 24, (1 << 32) - 1])
            return "the version"
        case 2:
            file.counts = (vast, len(file.pairs))
            return f"{vast} tensors"
        case 3:
            file.counts = (len(file.tensors), vast)
            return f"{vast} keys"
        case 4:
            dims = draw.choice([5, 6, 100, 160_000, (1 << 32) - 1])
            file.tensors = [file.tensor(draw, [1] * min(dims, 160_000), dims)]
            file.counts = (1, len(file.pairs))
            return f"{dims} dimensions"
        case 5:
            file.tensors = [file.tensor(draw, [vast, vast])]
            file.counts = (1, len(file.pairs))
            return "a tensor larger than the file"
        case 6:
            item = draw.choice([*gguf.SCALARS, gguf.STRING, gguf.ARRAY])
            file.pairs.append(_text("long") + struct.pack("<IIQ", gguf.ARRAY, item, vast))
            file.tensors, file.counts = [], (0, len(file.pairs))
            return f"an array of {vast}"
        case 7:
            kind = draw.choice([13, 14, 255, (1 << 32) - 1])
            file.pairs.append(_text("odd") + struct.pack("<I", kind) + bytes(64))
            file.tensors, file.counts = [], (0, len(file.pairs))
            return f"a value of type {kind}"
        case _:
            deep = struct.pack("<IQ", gguf.ARRAY, 1) * (gguf.ARRAY_DEPTH_MAX + draw.choice([1, 2, 900]))
            file.pairs.append(_text("deep") + struct.pack("<I", gguf.ARRAY) + deep + struct.pack("<IQ", 0, 0))
            file.tensors, file.counts = [], (0, len(file.pairs))
            return "arrays too deep"


class _Attack:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "model.gguf"
        self.seen: list[bytes] = []

    def trial(self, draw: Random) -> None:
        choice = draw.random()
        if choice < 0.01:
            self._vast()
            return
        file, wrong = _File(draw), ""
        if choice < 0.4:
            wrong = _wrong(draw, file)
            raw = file.raw()
        elif choice < 0.6:
            raw = file.raw()
            self.seen = [*self.seen[-10:], file.head()]
        elif choice < 0.7:
            head = file.head()
            raw, wrong = head[: draw.randrange(len(head))], "it is cut off"
        elif self.seen:
            raw = mutated(draw, draw.choice(self.seen), self.seen) + draw.choice([b"", file.data])
        else:
            raw = draw.randbytes(draw.randint(0, 300))
        self.path.unlink(missing_ok=True)  # one that is emptied and written again is flushed by some file systems
        self.path.write_bytes(raw)
        header = self._read()
        if header is None:
            if 0.4 <= choice < 0.6:
                raise Wrong(f"a whole header was refused: {raw[:60]!r}")
        elif wrong:
            raise Wrong(f"{wrong} was accepted")
        elif header.bytes_min > len(raw):
            raise Wrong(f"a file of {len(raw)} bytes was accepted that has {header.bytes_min}")

    def _vast(self) -> None:
        """A sparse file, which costs nothing to make, full of strings of no length."""
        array = struct.pack("<IIQ", gguf.ARRAY, gguf.STRING, VAST)
        head = gguf.MAGIC + struct.pack("<IQQ", 3, 0, 1) + _text("k") + array
        self.path.unlink(missing_ok=True)
        with self.path.open("wb") as file:
            file.write(head)
            file.truncate(len(head) + 8 * VAST)
        if self._read() is not None:
            raise Wrong(f"an array of {VAST} strings was read")

    def _read(self) -> gguf.Header | None:
        try:
            return gguf.read(self.path)
        except BadInput as exc:
            if "\n" in str(exc):
                raise Wrong(f"it was refused with more than a line: {exc}") from exc
            return None


@contextmanager
def _opened(folder: Path) -> Iterator[Trial]:
    yield _Attack(folder).trial


def _any_dimensions() -> AbstractContextManager[None]:
    """A tensor has as many dimensions as it says."""
    return instead(gguf, "DIMS_MAX", 1 << 32)


def _any_count() -> AbstractContextManager[None]:
    """A header has as many things as it says."""
    return instead(gguf, "THINGS_MAX", 1 << 64)


GUARDS: Final[dict[str, Guard]] = {"gguf-dimensions": _any_dimensions, "gguf-count": _any_count}
SURFACE: Final = Surface(_opened, hang_s=HANG_S, guards=GUARDS)
