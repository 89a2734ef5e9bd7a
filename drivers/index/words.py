"""An index of shared words in memory: exact, at once, the same on every machine. For tests, benches and virtual time.

Guarantee: a search sees the committed pages of its process and ranks them by the share of the query's words they have,
then by age. It may be told to be silent: searches are kept and answered when it speaks again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from kernel import records
from kernel.event import Hit, Search, Searched
from kernel.memory.page import Area, Page
from kernel.ports import Post, Reads


class WordIndex:
    """ports.Index over the pages of `disk`."""

    def __init__(self, disk: Reads) -> None:
        self.applied = 0
        self.anew, self.damaged, self.idle = True, "", True
        self.silent = False
        self._disk = disk
        self._pages: dict[int, Page] = {}
        self._words: dict[int, set[str]] = {}
        self._kept: list[Search] = []

    def start(self, post: Post, sizes: Callable[[Sequence[int]], list[int]]) -> None:
        """Catch up with the truth; `sizes` gives the token counts that hits carry."""
        self._post, self._sizes = post, sizes
        self.feed(0)

    def feed(self, upto: int) -> None:
        """Read what is committed and new."""
        for _, value in self._disk.scan("page", records.key(self.applied + 1)):
            page = records.page_of(value, self._disk.get)
            self.applied = page.id
            if page.area is not Area.NONE:
                self._pages[page.id] = page
                self._words[page.id] = _words(page.searched)

    def search(self, what: Search) -> None:
        """Answer at once, or when it speaks again."""
        assert what.upto <= self.applied
        if self.silent:
            self._kept.append(what)
        else:
            self._answer(what)

    def speak(self) -> None:
        """End the silence."""
        self.silent = False
        kept, self._kept = self._kept, []
        for what in kept:
            self._answer(what)

    def give_up(self, pid: int, req: int) -> None:
        """The deadline of a search has passed: answer it late, if it is still kept."""
        late = [what for what in self._kept if (what.pid, what.req) == (pid, req)]
        self._kept = [what for what in self._kept if what not in late]
        for what in late:
            self._post(Searched(source="index", pid=what.pid, req=what.req, late=True))

    def lag(self) -> int:
        """Never behind."""
        return 0

    def close(self) -> None:
        """Nothing to save."""

    def _answer(self, what: Search) -> None:
        query = _words(what.query or " ".join(self._pages[page].searched for page in what.pages if page in self._pages))
        found = []
        for page in self._pages.values():
            if page.pid != what.pid or page.area not in what.area or page.id in what.exclude or page.id > what.upto:
                continue
            shared = len(query & self._words[page.id])
            if shared and what.since <= page.at and (not what.until or page.at <= what.until):
                found.append((shared / len(query), page))
        found.sort(key=lambda one: (-one[0], one[1].id))
        chosen = found[what.cursor : what.cursor + what.limit]
        sizes = self._sizes([page.id for _, page in chosen])
        hits = tuple(
            Hit(page.id, page.seq, page.role, page.at, size, score, score, page.searched)
            for (score, page), size in zip(chosen, sizes, strict=True)
        )
        more = len(found) > what.cursor + what.limit
        self._post(Searched(source="index", pid=what.pid, req=what.req, hits=hits, more=more))


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
