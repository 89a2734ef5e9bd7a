"""An index that keeps nothing and finds nothing, at once: what is left of a machine without its indexes.

Guarantee: never behind, never damaged; every search is answered, with no hit.
"""

from __future__ import annotations

from kernel.event import Search, Searched
from kernel.ports import Post, Sized


class NoIndex:
    """ports.Index over nothing."""

    def __init__(self) -> None:
        self.applied = 0
        self.anew, self.damaged, self.trouble, self.idle = True, "", "", True

    def start(self, post: Post, sized: Sized) -> None:
        """Begin to answer."""
        self._post = post

    def feed(self, upto: int) -> None:
        """Pages up to this id are committed, and forgotten."""
        self.applied = max(self.applied, upto)

    def search(self, what: Search) -> None:
        """Nothing is found."""
        self._post(Searched(source="index", pid=what.pid, req=what.req))

    def lag(self) -> int:
        """Never behind."""
        return 0

    def close(self) -> None:
        """Nothing to save."""
