"""Requests of a chat service as references to blocks of its KV cache, whose pages are of use only behind one another.

Mooncake's trace (FAST'25): a request names the blocks of its prompt, and equal names are equal prefixes, so a block
serves nothing unless all before it are there. A turn is a request; its pages are wanted from the prompt's end to its
beginning, as such caches touch them, so that of one prompt the end leaves first.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from bench.paging import formats
from bench.paging.trace import Part, Ref, Turn, one_size
from kernel.errors import BadInput

BLOCK: Final = 512  # tokens
BLOCKS_MAX: Final = 1 << 20  # of a request


class _Request(msgspec.Struct, frozen=True):
    """A line of the trace, as far as it is read; `input_length` in tokens."""

    input_length: Annotated[int, Meta(ge=1)]
    hash_ids: Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(min_length=1, max_length=BLOCKS_MAX)]


def read(path: Path) -> Iterator[Turn]:
    """The requests of a file, streamed. Raises BadInput, with the line."""
    decoder = msgspec.json.Decoder(_Request)
    for row, line in enumerate(formats.lines(path), 1):
        try:
            found = decoder.decode(line)
            ids, length = found.hash_ids, found.input_length
            if not (len(ids) - 1) * BLOCK < length <= len(ids) * BLOCK:
                raise ValueError(f"{length} tokens in {len(ids)} blocks of {BLOCK}")
            if max(ids) > formats.PAGE_MAX:
                raise ValueError(f"block {max(ids)}; at most {formats.PAGE_MAX} is allowed")
            if len(set(ids)) < len(ids):
                raise ValueError("a block stands in a prompt twice")
        except (msgspec.DecodeError, ValueError) as exc:
            raise BadInput(f"{path}:{row}: {exc}") from exc
        sizes = [BLOCK] * (len(ids) - 1) + [length - (len(ids) - 1) * BLOCK]
        yield Turn(refs=tuple(Ref(page, size) for page, size in zip(reversed(ids), reversed(sizes), strict=True)))


def part(name: str, path: Path) -> Part:
    """The string of a file; a block has the size that it first came with."""
    return Part(name, lambda: one_size(read(path)), prefix=True)
