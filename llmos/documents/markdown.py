"""Markdown as blocks under its headings (markdown-it-py)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kernel.errors import BadInput
from kernel.limits import HEADINGS_MAX
from llmos.documents.pieces import Block, lines_of


def blocks(text: str) -> list[Block]:
    """The blocks of a text. A heading with nothing below it is one. Raises BadInput without the library."""
    try:
        from markdown_it import MarkdownIt
    except ImportError as exc:
        raise BadInput("Markdown needs markdown-it-py: pip install 'llmos[documents]'") from exc
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    found: list[Block] = []
    above: list[tuple[int, str]] = []
    bare: Block | None = None  # the last heading, while nothing stands below it
    for at, token in enumerate(tokens):
        if token.level or token.map is None or token.nesting < 0:
            continue
        first, last = token.map[0] + 1, token.map[1]
        if token.type == "heading_open":
            depth, name = int(token.tag[1:]), " ".join(tokens[at + 1].content.split())
            if bare is not None and (not above or depth <= above[-1][0]):
                found.append(bare)
            above = [one for one in above if one[0] < depth]
            above.append((depth, name))
            bare = Block(first, last, _names(above))
            continue
        bare = None
        found.append(Block(first, last, _names(above), code=token.type in ("fence", "code_block")))
    if bare is not None:
        found.append(bare)
    lines = lines_of(text)
    return [_trimmed(lines, block) for block in found]


def _names(above: Sequence[tuple[int, str]]) -> tuple[str, ...]:
    return tuple(name for _, name in above if name)[-HEADINGS_MAX:]


def _trimmed(lines: Sequence[str], block: Block) -> Block:
    """A block without blank lines at its end: a list's map takes those that follow it."""
    last = block.last
    while last > block.first and not lines[last - 1].strip():
        last -= 1
    return msgspec.structs.replace(block, last=last)
