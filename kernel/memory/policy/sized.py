"""Pages in an order, with their tokens: what the lists of policies are made of."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from typing import Any


class Sized:
    """Pages with their tokens, oldest first, and the sum."""

    def __init__(self, items: Any = ()) -> None:
        self.pages: OrderedDict[int, int] = OrderedDict((page, tokens) for page, tokens in items)
        self.tokens = sum(self.pages.values())

    def __contains__(self, page: int) -> bool:
        return page in self.pages

    def __len__(self) -> int:
        return len(self.pages)

    def push(self, page: int, tokens: int) -> None:
        """At the new end."""
        self.pages[page] = tokens
        self.tokens += tokens

    def pop(self, page: int) -> int:
        """Take out; its tokens, 0 if it is not there."""
        tokens = self.pages.pop(page, 0)
        self.tokens -= tokens
        return tokens

    def oldest(self, pinned: Container[int] = ()) -> int | None:
        """The oldest page that is not pinned."""
        for page in self.pages:
            if page not in pinned:
                return page
        return None

    def trim(self, tokens: int) -> None:
        """Forget the oldest until at most `tokens` are left."""
        while self.tokens > tokens and self.pages:
            self.tokens -= self.pages.popitem(last=False)[1]

    def items(self) -> list[tuple[int, int]]:
        """For `state`."""
        return list(self.pages.items())
