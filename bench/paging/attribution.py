"""Which pages replies drew on, over a whole conversation: the kernel's rule (kernel/memory/attribution.py), with the
holders of words kept from page to page.
"""

from __future__ import annotations

from kernel.memory import attribution
from kernel.memory.words import terms


class Attribution:
    """The words of pages so far."""

    def __init__(self) -> None:
        self.pages: dict[int, frozenset[str]] = {}
        self.holders: dict[str, list[int]] = {}

    def add(self, page: int, text: str) -> None:
        """A page that replies may draw on from now on."""
        words = self.pages[page] = terms(text)
        for word in words:
            self.holders.setdefault(word, []).append(page)

    def drawn(self, query: str, reply: str) -> list[int]:
        """Pages that `reply` to `query` drew on, best first."""
        return attribution.drawn(self.pages, self.holders, terms(query), terms(reply))
