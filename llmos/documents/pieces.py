"""Lines of a text as pieces along its structure: blocks under the same headings together, a long one at its sentences.

A piece is lines of the text as they stand, or a part of a long line; a document's pieces leave out headings, which
stand beside them, and blank lines. Not here: which blocks a kind of file has (markdown.py, code.py, read.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from drivers.index.passages import passages
from kernel.machine.documents import Piece

MOST: Final = 400  # characters of a piece, as far as blocks allow: it fits a page of a window of 2,048 tokens
LEAST: Final = 160  # a block that is shorter goes with the next one under the same headings
CHUNK: Final = 12_000  # characters that are divided into sentences at once


class Block(msgspec.Struct, frozen=True):
    """Lines of a text, from 1, that belong together. `code`: they are divided at lines, not at sentences."""

    first: int
    last: int
    headings: tuple[str, ...] = ()
    code: bool = False


def lines_of(text: str) -> list[str]:
    """The lines of a text, as editors count them."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def paragraphs(
    lines: Sequence[str], first: int = 1, headings: tuple[str, ...] = (), *, code: bool = False
) -> list[Block]:
    """Blocks between blank lines; `first`: the number of the first of these lines."""
    found: list[Block] = []
    start = 0
    for at in range(len(lines) + 1):
        if at < len(lines) and lines[at].strip():
            continue
        if start < at:
            found.append(Block(first + start, first + at - 1, headings, code))
        start = at + 1
    return found


def pieces(lines: Sequence[str], blocks: Iterable[Block]) -> list[Piece]:
    """The pieces of blocks in order."""
    return [
        Piece(text=text, first=first, last=last, headings=block.headings)
        for block in _joined(lines, blocks)
        for text, first, last in _divided(lines, block)
    ]


def _text(lines: Sequence[str], block: Block) -> str:
    return "\n".join(lines[block.first - 1 : block.last])


def _joined(lines: Sequence[str], blocks: Iterable[Block]) -> Iterator[Block]:
    """Blocks, short ones with what follows them under the same headings."""
    last: Block | None = None
    for block in blocks:
        if last is not None:
            both = msgspec.structs.replace(last, last=block.last)
            alike = (last.headings, last.code) == (block.headings, block.code)
            short = min(len(_text(lines, last)), len(_text(lines, block))) < LEAST
            if alike and short and len(_text(lines, both)) <= MOST:
                last = both
                continue
            yield last
        last = block
    if last is not None:
        yield last


def _divided(lines: Sequence[str], block: Block) -> Iterator[tuple[str, int, int]]:
    """A block, or of a long one parts, each with its first and last line."""
    text = _text(lines, block)
    spans = (
        [(0, len(text))] if len(text) <= MOST * 5 // 4 else _grouped(_lines(text) if block.code else _sentences(text))
    )
    for start, end in spans:
        part = text[start:end]
        if part.strip():
            first = block.first + text.count("\n", 0, start)
            yield part, first, first + part.count("\n")


def _grouped(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order, as many together as MOST allows."""
    found: list[tuple[int, int]] = []
    for start, end in spans:
        if found and end - found[-1][0] <= MOST:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def _lines(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for line in text.split("\n"):
        for cut in range(0, max(1, len(line)), MOST):
            yield start + cut, start + min(len(line), cut + MOST)
        start += len(line) + 1


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    at = 0
    while at < len(text):  # ends: each round takes a character at least
        end = min(len(text), at + CHUNK)
        if end < len(text):
            space = max(text.rfind(" ", at + 1, end), text.rfind("\n", at + 1, end))
            end = space if space > at else end
        for start, stop in passages(text[at:end]):
            for cut in range(start, max(stop, start + 1), MOST):
                yield at + cut, at + min(stop, cut + MOST)
        at = end
