"""A page as passages: spans of whole sentences, so that of a long page the part that matters is found and shown.

A passage is what the index stores, finds and weighs; a short page is one passage. Spans are in order, do not overlap,
begin and end in no white space, and leave out nothing but white space. O(characters), of any text.
"""

from __future__ import annotations

import re
from typing import Final

MOST: Final = 320  # characters of a passage, as far as sentences allow
LEAST: Final = 60  # a shorter one goes with its neighbour
WHOLE: Final = 400  # a page up to so long is not divided
PARTS_MAX: Final = 64  # of a page; the last one takes the rest

_END: Final = re.compile(r"(?<=[.!?…])[\"'”’»)\]]*\s+|(?<=[。！？])[」』”’]*|(?<!\s)\s*\n\s*")


def passages(text: str) -> list[tuple[int, int]]:
    """The passages of a text as [start, end) in characters; one at least, which may be empty."""
    if len(text) <= WHOLE:
        return [(0, len(text))]
    found: list[tuple[int, int]] = []
    for start, end in _sentences(text):
        if found and len(found) < PARTS_MAX and end - found[-1][0] > MOST and found[-1][1] - found[-1][0] >= LEAST:
            found.append((start, end))
        else:
            found[-1:] = [(found[-1][0] if found else start, end)]
    if len(found) > 1 and found[-1][1] - found[-1][0] < LEAST:
        found[-2:] = [(found[-2][0], found[-1][1])]
    return found or [(0, len(text))]


def _sentences(text: str) -> list[tuple[int, int]]:
    """Sentences, and of one that is too long pieces at spaces, or anywhere."""
    spans: list[tuple[int, int]] = []
    ends = [match.span() for match in _END.finditer(text)]
    starts = [0, *(after for _, after in ends)]
    for start, end in zip(starts, [*(before for before, _ in ends), len(text)], strict=True):
        while end - start > 2 * MOST:
            cut = text.rfind(" ", start + LEAST, start + MOST)
            cut = cut if cut > 0 else start + MOST
            _add(spans, text, start, cut)
            start = cut
        _add(spans, text, start, end)
    return spans


def _add(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    end -= len(piece) - len(piece.rstrip())
    if start < end:
        spans.append((start, end))
