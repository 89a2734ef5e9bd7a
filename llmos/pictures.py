"""What the terminal shows of a machine in pictures: `pmap`, the address space as a bar of cells.

Pure functions from views to rich renderables; nothing here asks a daemon. Where colours are off, letters tell the
segments apart. Not here: what is told in lines of text (tables.py), so that a command which prints those needs no rich.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kernel.machine.views import Map
from kernel.text import one_line

BAR_CELLS: Final = 72  # one row of the bar; the window is ROWS of them
BAR_ROWS: Final = 3
PAGES_SHOWN: Final = 400  # rows of the table of pages; a window holds 10 to 200

STYLES: Final[dict[str, str]] = {
    "text": "blue",
    "data": "magenta",
    "queue": "green",
    "recall": "yellow",
    "turn": "cyan",
    "free": "bright_black",
    "reply": "red",
}
LETTERS: Final[dict[str, str]] = {
    "text": "T",
    "data": "D",
    "queue": "Q",
    "recall": "R",
    "turn": "N",
    "free": ".",
    "reply": "r",
}


class Stretch(msgspec.Struct, frozen=True):
    """A part of the window: `tokens` of a segment, or of the free room kept for it."""

    segment: str
    tokens: int
    used: bool


def stretches(space: Map) -> list[Stretch]:
    """The window from its first token to its last, in prompt order; the sum is the window."""
    used = {segment.name: sum(page.tokens for page in segment.pages) for segment in space.segments}
    capacity = {segment.name: segment.capacity for segment in space.segments}
    queue = capacity.get("queue", 0)
    found = [
        Stretch("text", used.get("text", 0), used=True),
        Stretch("data", used.get("data", 0), used=True),
        Stretch("data", max(0, capacity.get("data", 0) - used.get("data", 0)), used=False),
        Stretch("queue", used.get("queue", 0), used=True),
        Stretch("recall", used.get("recall", 0), used=True),
        Stretch("recall", max(0, capacity.get("recall", 0) - used.get("recall", 0)), used=False),
        Stretch("turn", used.get("turn", 0), used=True),
        Stretch("free", max(0, queue - used.get("queue", 0) - used.get("turn", 0)), used=False),
    ]
    found.append(Stretch("reply", max(0, space.window - sum(one.tokens for one in found)), used=False))
    return [one for one in found if one.tokens]


def cells(parts: Sequence[Stretch], count: int) -> list[Stretch]:
    """`count` cells in proportion to tokens, each the stretch that it belongs to; the largest remainders round up.

    Every stretch has at least one cell if there are enough: what is there is seen.
    """
    window = sum(part.tokens for part in parts)
    exact = [part.tokens * count / window for part in parts]
    whole = [max(1, int(share)) for share in exact]
    order = sorted(range(len(parts)), key=lambda i: exact[i] - whole[i], reverse=True)
    while (rest := count - sum(whole)) > 0:  # each round gives a cell to each of at least one part
        for index in order[:rest]:
            whole[index] += 1
    while sum(whole) > count and max(whole) > 1:  # those that were given a cell too many take it from the largest
        whole[whole.index(max(whole))] -= 1
    return [part for part, n in zip(parts, whole, strict=True) for _ in range(n)][:count]


def pmap(space: Map, *, colour: bool, texts: Mapping[int, str] | None = None) -> RenderableType:
    """The address space as a picture: the window as a bar, its segments, its pages, with their texts if given."""
    parts = stretches(space)
    title = Text(f"{space.name} ({space.pid}): window of {space.window:,} tokens")
    return Group(
        title, Text(), *_bar(parts, colour), Text(), _legend(space, parts, colour), Text(), _pages(space, texts or {})
    )


def _bar(parts: Sequence[Stretch], colour: bool) -> list[Text]:
    row = [(_cell(one, colour), STYLES[one.segment]) for one in cells(parts, BAR_CELLS * BAR_ROWS)]
    lines = []
    for start in range(0, len(row), BAR_CELLS):
        line = Text("  ")
        for glyph, style in row[start : start + BAR_CELLS]:
            line.append(glyph, style)
        lines.append(line)
    return lines


def _cell(one: Stretch, colour: bool) -> str:
    if colour:
        return "█" if one.used else "░"
    return LETTERS[one.segment] if one.used else LETTERS["reply"] if one.segment == "reply" else LETTERS["free"]


def _legend(space: Map, parts: Sequence[Stretch], colour: bool) -> RenderableType:
    table = Table(box=None, pad_edge=True, header_style="bold")
    for name in ("", "SEGMENT", "TOKENS", "OF", "PAGES"):
        table.add_column(name, justify="right" if name in ("TOKENS", "OF", "PAGES") else "left")
    for segment in space.segments:
        tokens = sum(page.tokens for page in segment.pages)
        swatch = Text(_cell(Stretch(segment.name, 1, used=True), colour), STYLES[segment.name])
        table.add_row(swatch, segment.name, str(tokens), str(segment.capacity), str(len(segment.pages)))
    free = sum(one.tokens for one in parts if one.segment == "free")
    reply = sum(one.tokens for one in parts if one.segment == "reply")
    for name, label, tokens in (("free", "free", free), ("reply", "reply and frame", reply)):
        swatch = Text(_cell(Stretch(name, 1, used=False), colour), STYLES[name])
        table.add_row(swatch, label, str(tokens), "", "")
    return table


def _pages(space: Map, texts: Mapping[int, str]) -> RenderableType:
    table = Table(box=None, pad_edge=True, header_style="bold")
    for name in ("PAGE", "SEGMENT", "KIND", "ROLE", "TOKENS", ""):
        table.add_column(name, justify="right" if name in ("PAGE", "TOKENS") else "left")
    if texts:
        table.add_column("TEXT", no_wrap=True, overflow="ellipsis")
    rows = [(segment.name, page) for segment in space.segments for page in segment.pages]
    for name, one in rows[:PAGES_SHOWN]:
        shown = (one.kind.value, one.role.value, str(one.tokens), "pinned" if one.pinned else "")
        text = [Text(one_line(texts.get(one.page, "")))] if texts else []
        table.add_row(str(one.page), Text(name, STYLES[name]), *shown, *text)
    if len(rows) > PAGES_SHOWN:
        table.add_row("...", f"{len(rows) - PAGES_SHOWN} more; --json lists them", "", "", "", "")
    return table
