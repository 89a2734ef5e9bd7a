"""The header of a GGUF file: is it one, is it whole, what does it say of the model.

Reads the header only (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), in O(vocabulary), so that a broken
file is refused with one line before a library is trusted with it. Version 1 and big-endian files are refused.
Not here: the weights, and the meaning of any key.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from pathlib import Path
from typing import Final

import msgspec

from kernel.errors import BadInput

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
STRING: Final = 8
ARRAY: Final = 9
SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
ARRAY_DEPTH_MAX: Final = 4  # arrays of arrays are allowed; deeper ones are an attack on the stack
# Tensor type -> (values in a block, bytes of a block); a type not listed counts as empty, and the library decides.
BLOCKS: Final = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66),
    17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136),
    24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54),
    35: (256, 66), 39: (32, 17),
}  # fmt: skip

Scalar = str | int | float | bool


class Header(msgspec.Struct, frozen=True):
    """What a GGUF's header says: its scalar keys, a hash of its tokenizer, and how long the file must be."""

    meta: dict[str, Scalar]
    tokenizer: str  # hash of every `tokenizer.ggml.*` key with its value
    bytes_min: int

    def text(self, key: str) -> str:
        """The string at `key`, or "" if there is none."""
        value = self.meta.get(key, "")
        return value if isinstance(value, str) else ""

    def number(self, key: str) -> int:
        """The integer at `key`, or 0 if there is none."""
        value = self.meta.get(key, 0)
        return value if isinstance(value, int) else 0

    @property
    def context(self) -> int:
        """Tokens that the model was trained to see; 0 if the file does not say."""
        return self.number(f"{self.text('general.architecture')}.context_length")


def read(path: Path) -> Header:
    """The header of the model file at `path`. Raises BadInput: no such file, no GGUF, or shorter than it says."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            magic = file.read(4)
            if magic != MAGIC:
                raise BadInput(f"model {path}: not a GGUF file (it starts with {magic!r}); give a .gguf file")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                header = _Reader(data).header()
    except OSError as exc:
        raise BadInput(f"model {path}: {exc.strerror or exc}; give a .gguf file, or a name `llmos pull` knows") from exc
    except (struct.error, IndexError) as exc:
        raise BadInput(f"model {path}: its header is cut off after {size:,} bytes; pull the file again") from exc
    except (ValueError, OverflowError) as exc:  # UnicodeDecodeError is a ValueError
        raise BadInput(f"model {path}: its header is damaged ({exc}); pull the file again") from exc
    if size < header.bytes_min:
        raise BadInput(f"model {path}: cut off, {size:,} bytes of at least {header.bytes_min:,}; pull the file again")
    return header


class _Reader:
    """A cursor over the bytes of a GGUF. Methods raise struct.error at the end of the file, ValueError on nonsense."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 4  # past the magic

    def header(self) -> Header:
        version = self.scalar("I")
        if version not in VERSIONS:
            raise ValueError(f"GGUF version {version}, not {' or '.join(map(str, VERSIONS))}")
        tensors, pairs = self.scalar("Q"), self.scalar("Q")
        meta: dict[str, Scalar] = {}
        tokenizer = hashlib.blake2b(digest_size=16)
        for _ in range(pairs):  # ends at the last pair, or with struct.error where the file ends
            start = self.at
            key = self.string()
            value = self.value(self.scalar("I"))
            if value is not None:
                meta[key] = value
            if key.startswith("tokenizer.ggml."):
                tokenizer.update(self.data[start : self.at])
        ends = [self.tensor() for _ in range(tensors)]
        alignment = meta.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
            raise ValueError(f"alignment {alignment}")
        start = -(-self.at // alignment) * alignment if ends else self.at
        return Header(meta=meta, tokenizer=tokenizer.hexdigest(), bytes_min=start + max(ends, default=0))

    def scalar(self, code: str) -> int:
        layout = "<" + code
        (value,) = struct.unpack_from(layout, self.data, self.at)
        self.at += struct.calcsize(layout)
        return value  # type: ignore[no-any-return]  # struct knows no types

    def string(self) -> str:
        return self.skip(self.scalar("Q")).decode()

    def skip(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count > len(self.data) - self.at:
            raise struct.error("past the end")
        self.at += count
        return self.data[self.at - count : self.at]

    def value(self, kind: int, depth: int = 0) -> Scalar | None:
        """The next value; arrays are skipped and come back as None."""
        if kind == STRING:
            return self.string()
        if kind in SCALARS:
            return self.scalar(SCALARS[kind])
        if kind != ARRAY or depth >= ARRAY_DEPTH_MAX:
            raise ValueError(f"value of type {kind}")
        item, count = self.scalar("I"), self.scalar("Q")
        if item in SCALARS:
            self.skip(count * struct.calcsize("<" + SCALARS[item]))
            return None
        for _ in range(count):  # ends at the last item, or with struct.error where the file ends
            if item == STRING:
                self.skip(self.scalar("Q"))
            else:
                self.value(item, depth + 1)
        return None

    def tensor(self) -> int:
        """Where the next tensor ends, counted from the start of the data."""
        self.string()
        values = 1
        for _ in range(self.scalar("I")):
            values *= self.scalar("Q")
        block, width = BLOCKS.get(self.scalar("I"), (1, 0))
        return self.scalar("Q") + -(-values // block) * width
