"""Which pages a reply drew on, by word sets: the accessed bit of this machine.

A page is drawn on if it holds a word that the reply brought up, the question did not, and few pages hold; among such
pages, those that explain nearly as much of question and reply as the best one. Words weigh as in a search (inverse
document frequency). A guess: a reply in other words than its source's is not seen. O(pages that hold a rare word).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Final

RARE: Final = 0.02  # share of pages that may hold a word that counts as brought up, or 2 pages
NEAR: Final = 0.7  # of the best page's score
PAGES_MAX: Final = 3
WORD: Final = re.compile(r"[^\W_]{2,}")


class Attribution:
    """The words of pages so far."""

    def __init__(self) -> None:
        self.pages: dict[int, frozenset[str]] = {}
        self.holders: dict[str, list[int]] = {}

    def add(self, page: int, text: str) -> None:
        """A page that replies may draw on from now on."""
        words = frozenset(_words(text))
        self.pages[page] = words
        for word in words:
            self.holders.setdefault(word, []).append(page)

    def drawn(self, query: str, reply: str) -> list[int]:
        """Pages that `reply` to `query` drew on, best first."""
        asked, said = set(_words(query)), set(_words(reply))
        few = max(2.0, RARE * len(self.pages))
        candidates = {
            page
            for word in said - asked
            if len(self.holders.get(word, ())) <= few
            for page in self.holders.get(word, ())
        }
        scored = []
        for page in candidates:
            shared = sorted(self.pages[page] & (asked | said))
            scored.append((sum(math.log(1 + len(self.pages) / len(self.holders[word])) for word in shared), page))
        scored.sort(key=lambda item: (-item[0], -item[1]))
        return [page for score, page in scored[:PAGES_MAX] if score >= NEAR * scored[0][0]]


def _words(text: str) -> Iterable[str]:
    return (word.lower() for word in WORD.findall(text))
