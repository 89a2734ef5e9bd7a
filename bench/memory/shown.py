"""Whether evidence is in view: the one definition of `evidence` and `complete` in `llmos bench memory`.

Texts are compared as words (letters and digits, lower case), so quotes, dashes and blanks do not matter. What is
visible may be a whole page, a page of a message that was split, or a passage of a page.
Not here: what the visible texts of a prompt are (live.py), which messages are evidence (conversations.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Final

import msgspec

Span = tuple[int, int]  # words of a text, from the first to before the last
HALF: Final = 0.5  # of a page without a source sentence, a passage shows it if it has so many of the words
ELLIPSIS: Final = re.compile(r"\.\.\.|…")


class Evidence(msgspec.Struct, frozen=True):
    """A message that a question rests on, as it was told: the pages it became, with their texts.

    `source`: the words of the message that matter, () for all. `answers`: those that may stand for the source.
    """

    text: str
    pages: tuple[tuple[int, str], ...]
    source: tuple[Span, ...] = ()
    answers: tuple[str, ...] = ()


class Seen(msgspec.Struct, frozen=True):
    """A text in a prompt and the page it is of; `where`: queue, recall, or search for a quoted result."""

    page: int
    text: str
    where: str


def shown(evidence: Evidence, visible: Iterable[Seen]) -> bool:
    """Whether the prompt whose texts are `visible` shows the evidence.

    With a source: all of the source is visible, or one of the answers is, within a visible part of the source in which
    the answer stands. Without: a page of the message is visible, or at least half of its words.
    """
    pages = dict(evidence.pages)
    mine = [one for one in visible if one.page in pages]
    if not mine:
        return False
    if not evidence.source:
        return any(_share(pages[one.page], one.text) >= HALF for one in mine)
    message = words(evidence.text)
    parts = _joined([_where(message, words(one.text)) for one in mine])
    if all(any(low <= first and last <= high for low, high in parts) for first, last in evidence.source):
        return True
    seen = [
        message[max(low, first) : min(high, last)]
        for first, last in evidence.source
        for low, high in parts
        if max(low, first) < min(high, last)
    ]
    wanted = [words(answer) for answer in evidence.answers]
    return any(_find(part, answer) >= 0 for part in seen for answer in wanted if answer)


@lru_cache(maxsize=8192)
def words(text: str) -> tuple[str, ...]:
    """The words of a text as they are compared."""
    return tuple(re.findall(r"\w+", text.lower()))


def locate(messages: Sequence[str], source: str) -> tuple[int, tuple[Span, ...], float]:
    """The message that `source` was taken from, its words there, and which share of the source's words they are.

    A source may leave words out with dots; each piece is looked for. Of a piece that does not stand there as it is,
    its longest run of words that does counts. The message with the largest share is taken, the first of equals.
    """
    pieces = [piece for piece in map(words, ELLIPSIS.split(source)) if piece]
    total = sum(map(len, pieces))
    assert total, "an empty source"
    bags = [set(words(message)) for message in messages]
    overlap = [sum(word in bag for piece in pieces for word in piece) for bag in bags]
    likely = sorted(range(len(messages)), key=lambda at: (-overlap[at], at))[:8]
    best: tuple[int, tuple[Span, ...], float] = (likely[0], (), -1.0)
    for at in sorted(likely):
        spans = tuple(span for piece in pieces if (span := _where(words(messages[at]), piece))[0] < span[1])
        share = sum(high - low for low, high in spans) / total
        if share > best[2]:
            best = (at, spans, share)
    return best


def _where(text: tuple[str, ...], part: tuple[str, ...]) -> Span:
    """Where a part stands in a text: all of it, or its longest run of words that does; (0, 0) for none."""
    at = _find(text, part)
    if at >= 0:
        return at, at + len(part)
    match = SequenceMatcher(None, text, part, autojunk=False).find_longest_match()
    return match.a, match.a + match.size


def _find(text: tuple[str, ...], part: tuple[str, ...]) -> int:
    """Where all of a part stands in a text; -1 if it does not."""
    return next((at for at in range(len(text) - len(part) + 1) if text[at : at + len(part)] == part), -1)


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Spans in order, those that touch as one."""
    found: list[Span] = []
    for low, high in sorted(span for span in spans if span[0] < span[1]):
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return found


def _share(page: str, visible: str) -> float:
    """Which share of a page's words a visible text of it has."""
    whole = words(page)
    low, high = _where(whole, words(visible))
    return (high - low) / len(whole) if whole else 1.0
