"""Bytes made wrong: a few changes to something whole, as a damaged file, a bad wire or a stranger makes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import Final

NUMBERS: Final = tuple(
    str(number).encode()
    for number in (-1, 0, 1 << 31, 1 << 32, 1 << 53, 1 << 63, (1 << 64) - 1, 1 << 64, 10**40, -(1 << 63) - 1)
) + (b"NaN", b"1e999", b"0.1", b"-0", b"007", b"1e5", "²".encode())
SCRAPS: Final = (
    *(b"\0", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\n", b"\r", b"\x1b[2J", b"\xe2\x80\xae", b'"', b"\\", b"{", b"}"),
    *(b"[", b"]", b",", b":", b"null", b"true", b'"id":1', b"\\ud800", b"\\u0000", b"\xf4\x90\x80\x80", b"\xf0\x9f"),
)
CHANGES_MAX: Final = 3


def mutated(draw: Random, whole: bytes, others: Sequence[bytes] = ()) -> bytes:
    """`whole` with one to three changes; `others`: what pieces may come from."""
    data = bytearray(whole)
    for _ in range(draw.randint(1, CHANGES_MAX)):
        _change(draw, data, others)
    return bytes(data)


def _change(draw: Random, data: bytearray, others: Sequence[bytes]) -> None:
    start = draw.randint(0, len(data))
    end = min(len(data), start + draw.choice([1, 1, 2, 4, 8, 40, 400]))
    match draw.randrange(9):
        case 0 if data:  # a bit
            at = draw.randrange(len(data))
            data[at] ^= 1 << draw.randrange(8)
        case 1 if data:  # a byte
            data[draw.randrange(len(data))] = draw.randrange(256)
        case 2:  # less
            del data[start:end]
        case 3:  # cut off
            del data[start:]
        case 4:  # again
            data[start:start] = data[start:end] * draw.choice([1, 2, 30])
        case 5:
            data[start:start] = draw.choice(SCRAPS)
        case 6 if others:  # a piece of another
            other = draw.choice(others)
            at = draw.randint(0, len(other))
            data[start:end] = other[at : at + draw.choice([4, 40, 400])]
        case 7:  # another number
            numbers = list(re.finditer(rb"-?\d+(\.\d+)?", data))
            if numbers:
                found = draw.choice(numbers)
                data[found.start() : found.end()] = draw.choice(NUMBERS)
        case _:
            data[start:end] = draw.randbytes(end - start)
