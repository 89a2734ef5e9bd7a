"""The header of a GGUF file: is it one, is it whole, what does it say of the model.

Reads the header only (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), so that a broken file is refused with
one line before a library is trusted with it. A header is a stranger's: no count in it is believed that the bytes behind
it could not hold, and the whole is bounded in bytes and things (HEADER_MAX, THINGS_MAX), so that reading takes a second
at most. Version 1 and big-endian files are refused.
A model may be in parts, as llama.cpp splits it: files beside each other, named NAME-00001-of-0000N.gguf and so on. The
first one is the model; it is whole if all are there and whole.
Not here: the weights, the meaning of any key, and what a library makes of it (llama/trial.py).
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import stat
import struct
from pathlib import Path
from typing import Final

import msgspec

from kernel.errors import BadInput

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
PART: Final = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)  # the name of a part: prefix, number, count
STRING: Final = 8
ARRAY: Final = 9
SCALARS: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
LAYOUTS: Final = {code: struct.Struct("<" + code) for code in SCALARS.values()}
ARRAY_DEPTH_MAX: Final = 4  # arrays of arrays are allowed; deeper ones are an attack on the stack
HEADER_MAX: Final = 128 << 20  # bytes; a vocabulary of 262,000 tokens and its merges take 16 MiB
THINGS_MAX: Final = 2_000_000  # keys, strings, inner arrays and tensors; the same vocabulary has 800,000
KEY_MAX: Final = 1 << 16  # bytes of a name, as the format has it
STRING_MAX: Final = 16 << 20  # bytes of a key's text
SAMPLES: Final = 64  # parts of a file that tell it from others
SAMPLE: Final = 4096  # bytes each
DIMS_MAX: Final = 4  # of a tensor, as ggml has it
PAIR, TENSOR, INNER = 13, 24, 12  # bytes that a key with its value, a tensor, an array in an array takes at least
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
    bytes_min: int  # of this file
    size: int = 0  # bytes of the model, all its parts together

    def text(self, key: str) -> str:
        """The string at `key`, or "" if there is none."""
        value = self.meta.get(key, "")
        return value if isinstance(value, str) else ""

    def number(self, key: str) -> int:
        """The integer at `key`, or 0 if there is none."""
        value = self.meta.get(key, 0)
        return value if isinstance(value, int) else 0

    @property
    def parts(self) -> int:
        """In how many files the model is."""
        return max(1, self.number("split.count"))

    @property
    def context(self) -> int:
        """Tokens that the model was trained to see; 0 if the file does not say."""
        return self.number(f"{self.text('general.architecture')}.context_length")


def read(path: Path) -> Header:
    """The header of the model at `path`. Raises BadInput: no such file, no GGUF, shorter than it says, a part alone."""
    header = one(path)
    if header.parts == 1:
        return header
    count, found = header.parts, PART.fullmatch(path.name)
    if found is None or int(found[3]) != count:
        raise BadInput(
            f"model {path}: it is one of {count} parts, whose names end in -00001-of-{count:05}.gguf and so on"
        )
    if (number := header.number("split.no")) or int(found[2]) != 1:
        raise BadInput(f"model {path}: it is part {number + 1} of {count}; give the first, {part(path.name, 1)}")
    size = header.size
    for number, file in enumerate(files(path)[1:], 2):
        if not file.exists():
            raise BadInput(
                f"model {path}: its part {number} of {count} is missing; put {file.name} beside it, or pull it"
            )
        other = one(file)
        if (other.number("split.no"), other.parts) != (number - 1, count):
            raise BadInput(f"model {file}: it is not part {number} of {count}, as its name says; pull it again")
        size += other.size
    return msgspec.structs.replace(header, size=size)


def files(path: Path) -> tuple[Path, ...]:
    """The files of the model that `path` begins, by its name: that alone, or all parts."""
    found = PART.fullmatch(path.name)
    if found is None or int(found[2]) != 1:
        return (path,)
    return tuple(path.with_name(part(path.name, number)) for number in range(1, int(found[3]) + 1))


def part(name: str, number: int) -> str:
    """The name of another part, of a part's name."""
    found = PART.fullmatch(name)
    assert found is not None, "it is a part's name"
    return f"{found[1]}-{number:05}-of-{found[3]}{name[-5:]}"


def one(path: Path) -> Header:
    """The header of one file, be it a part or a model. Raises BadInput."""
    try:
        with open(path, "rb", opener=_not_waiting) as file:
            seen = os.fstat(file.fileno())
            size = seen.st_size
            if not stat.S_ISREG(seen.st_mode):
                raise BadInput(f"model {path}: no file; give a .gguf file")
            magic = file.read(4)
            if magic != MAGIC:
                raise BadInput(f"model {path}: not a GGUF file (it starts with {magic!r}); give a .gguf file")
            with mmap.mmap(file.fileno(), min(size, HEADER_MAX), access=mmap.ACCESS_READ) as data:
                header = _Reader(data).header()
    except OSError as exc:
        raise BadInput(f"model {path}: {exc.strerror or exc}; give a .gguf file, or a name `llmos pull` knows") from exc
    except (struct.error, IndexError) as exc:
        if size > HEADER_MAX:
            raise BadInput(f"model {path}: its header is longer than {HEADER_MAX >> 20} MiB; pull another") from exc
        raise BadInput(f"model {path}: its header is cut off after {size:,} bytes; pull the file again") from exc
    except (ValueError, OverflowError) as exc:  # UnicodeDecodeError is a ValueError
        raise BadInput(f"model {path}: its header is damaged ({exc}); pull the file again") from exc
    if size < header.bytes_min:
        raise BadInput(f"model {path}: cut off, {size:,} bytes of at least {header.bytes_min:,}; pull the file again")
    return msgspec.structs.replace(header, size=size)


def identity(path: Path) -> str:
    """What tells a model from all others, wherever it lies: a hash of its files' sizes and of SAMPLES parts of each."""
    hashed = hashlib.blake2b(digest_size=16)
    for one_of in files(path):
        size = one_of.stat().st_size
        hashed.update(b"%d" % size)
        with one_of.open("rb") as file:
            for n in range(SAMPLES):
                file.seek(size * n // SAMPLES)
                hashed.update(file.read(SAMPLE))
    return hashed.hexdigest()


def _not_waiting(path: str, flags: int) -> int:
    """Opens without waiting for the other end of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


class _Reader:
    """A cursor over the bytes of a GGUF. Methods raise struct.error at the end of the file, ValueError on nonsense."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 4  # past the magic
        self.things = 0

    def header(self) -> Header:
        version = self.scalar("I")
        if version not in VERSIONS:
            raise ValueError(f"GGUF version {version}, not {' or '.join(map(str, VERSIONS))}")
        tensors, pairs = self.scalar("Q"), self.scalar("Q")
        self.room(tensors, TENSOR)
        meta: dict[str, Scalar] = {}
        tokenizer = hashlib.blake2b(digest_size=16)
        for _ in range(self.room(pairs, PAIR)):
            start = self.at
            key = self.string(KEY_MAX)
            value = self.value(self.scalar("I"))
            if value is not None:
                meta[key] = value
            if key.startswith("tokenizer.ggml."):
                tokenizer.update(memoryview(self.data)[start : self.at])
        ends = [self.tensor() for _ in range(tensors)]
        alignment = meta.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
            raise ValueError(f"alignment {alignment}")
        start = -(-self.at // alignment) * alignment if ends else self.at
        return Header(meta=meta, tokenizer=tokenizer.hexdigest(), bytes_min=start + max(ends, default=0))

    def room(self, count: int, least: int) -> int:
        """`count`, of things of at least so many bytes each, if the rest of the file could hold them."""
        if count * least > len(self.data) - self.at:
            raise struct.error("past the end")
        self.things += count
        if self.things > THINGS_MAX:
            raise ValueError(f"it has more than {THINGS_MAX:,} keys, strings and tensors")
        return count

    def scalar(self, code: str) -> int:
        layout = LAYOUTS[code]
        (value,) = layout.unpack_from(self.data, self.at)
        self.at += layout.size
        return value  # type: ignore[no-any-return]  # struct knows no types

    def string(self, longest: int) -> str:
        count = self.scalar("Q")
        if count > longest:
            raise ValueError(f"a text of {count:,} bytes")
        self.skip(count)
        return self.data[self.at - count : self.at].decode()

    def skip(self, count: int) -> None:
        """Go past the next `count` bytes."""
        if count > len(self.data) - self.at:
            raise struct.error("past the end")
        self.at += count

    def value(self, kind: int, depth: int = 0) -> Scalar | None:
        """The next value; arrays are skipped and come back as None."""
        if kind == STRING:
            return self.string(STRING_MAX)
        if kind in SCALARS:
            return self.scalar(SCALARS[kind])
        if kind != ARRAY or depth >= ARRAY_DEPTH_MAX:
            raise ValueError(f"value of type {kind}")
        item, count = self.scalar("I"), self.scalar("Q")
        if item in SCALARS:
            self.skip(count * LAYOUTS[SCALARS[item]].size)
        elif item == STRING:
            self.strings(self.room(count, LAYOUTS["Q"].size))
        else:
            for _ in range(self.room(count, INNER)):
                self.value(item, depth + 1)
        return None

    def strings(self, count: int) -> None:
        """Go past `count` strings: the longest loop there is."""
        data, at, length = self.data, self.at, LAYOUTS["Q"].unpack_from
        for _ in range(count):
            at += 8 + length(data, at)[0]
        if at > len(data):
            raise struct.error("past the end")
        self.at = at

    def tensor(self) -> int:
        """Where the next tensor ends, counted from the start of the data."""
        self.string(KEY_MAX)
        dims = self.scalar("I")
        if dims > DIMS_MAX:
            raise ValueError(f"a tensor of {dims:,} dimensions")
        values = 1
        for _ in range(dims):
            values *= self.scalar("Q")
        block, width = BLOCKS.get(self.scalar("I"), (1, 0))
        return self.scalar("Q") + -(-values // block) * width
