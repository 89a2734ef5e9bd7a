"""Which pages a text drew on, by word sets: the rule behind the accessed bits of this machine.

A page is drawn on if it holds a word that the text brought up, the question did not, and few pages hold; among such
pages, those that explain nearly as much of question and text as the best one. Words weigh as in a search (inverse
document frequency). A guess: a text in other words than its source's is not seen. O(pages that hold a rare word).
Not here: whose pages (machine/accessed.py, bench/paging/attribution.py), what a word is (words.py).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Final

RARE: Final = 0.02  # share of pages that may hold a word that counts as brought up, or 2 pages
NEAR: Final = 0.7  # of the best page's score
PAGES_MAX: Final = 3

Words = frozenset[str]


def holders(pages: Mapping[int, Words], wanted: Collection[str]) -> dict[str, list[int]]:
    """By word of `wanted`, the pages that hold it; words that none holds are left out. O(pages x words)."""
    found: dict[str, list[int]] = {}
    for page, words in pages.items():
        for word in words.intersection(wanted):
            found.setdefault(word, []).append(page)
    return found


def drawn(pages: Mapping[int, Words], held: Mapping[str, Sequence[int]], asked: Words, said: Words) -> list[int]:
    """Pages that a text of the words `said` drew on, after a question of the words `asked`; best first, at most 3.

    `held` gives the holders of each word that stands in a page and in `asked` or `said`; it may have more.
    """
    few = max(2.0, RARE * len(pages))
    brought = [held[word] for word in said - asked if word in held and len(held[word]) <= few]
    scored = []
    for page in {page for rare in brought for page in rare}:
        shared = sorted(pages[page] & (asked | said))
        scored.append((sum(math.log(1 + len(pages) / len(held[word])) for word in shared), page))
    scored.sort(key=lambda item: (-item[0], -item[1]))
    return [page for score, page in scored[:PAGES_MAX] if score >= NEAR * scored[0][0]]
