"""An index of shared words in memory: exact, at once, the same on every machine. For tests, benches and virtual time.

Guarantee: a search sees the committed pages of its process and ranks them by the share of the query's words they have,
then by age. It may be told to be silent: searches are kept and answered when it speaks again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kernel import records
from kernel.event import Find, Hit, Search, Searched, SearchOf
from kernel.memory.page import Area, Page, gone
from kernel.memory.words import terms
from kernel.ports import Post, Reads, Sized

HALF: Final = 0.5  # of the query's words: a page with fewer is not likely what was asked for


class WordIndex:
    """ports.Index over the pages of `disk`."""

    def __init__(self, disk: Reads) -> None:
        self.applied = 0
        self.anew, self.damaged, self.trouble, self.idle = True, "", "", True
        self.silent = False
        self._disk = disk
        self._pages: dict[int, Page] = {}
        self._words: dict[int, frozenset[str]] = {}
        self._kept: list[Search] = []

    def start(self, post: Post, sized: Sized) -> None:
        """Catch up with the truth; `sized` gives hits the token counts that they carry."""
        self._post, self._sized = post, sized
        self.feed(0)

    def feed(self, upto: int) -> None:
        """Read what is committed and new."""
        for _, value in self._disk.scan("page", records.key(self.applied + 1)):
            page = records.page_of(value, self._disk.get)
            self.applied = page.id
            if (removed := gone(page)) is not None:
                self._pages = {number: one for number, one in self._pages.items() if one.pid != removed[0]}
            if page.area is not Area.NONE:
                self._pages[page.id] = page
                self._words[page.id] = terms(page.searched)

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

    def _wanted(self, page: Page, what: Search) -> bool:
        """Whether it is of a document, and the one asked for, where documents are searched."""
        if not isinstance(what, Find):
            return True
        row = self._disk.get("page", records.key(page.id))
        file = None if row is None else records.file_of(row)
        return file is not None and file.source is not None and what.path in ("", file.source.path)

    def _found(self, what: Search, query: frozenset[str]) -> Iterator[tuple[float, Page]]:
        """The pages of a process that have words of the query, with the share of it that each has."""
        for page in self._pages.values():
            if page.pid != what.pid or page.area not in what.area or page.id in what.exclude or page.id > what.upto:
                continue
            if page.role in what.apart or not self._wanted(page, what):
                continue
            shared = len(query & self._words[page.id])
            if shared and what.since <= page.at and (not what.until or page.at <= what.until):
                yield shared / len(query), page

    def _answer(self, what: Search) -> None:
        asked = (self._pages[page].searched for page in what.pages if page in self._pages)
        text = what.query or " ".join(dict.fromkeys(asked))  # what was said again and again asks for the same
        query = terms(text)
        each = what.each() if isinstance(what, SearchOf) else [what]
        found = [one for part in each for one in self._found(part, query)]
        found.sort(key=lambda one: (-one[0], one[1].id))
        chosen = found[what.cursor : what.cursor + what.limit]
        hits = self._sized(
            [
                Hit(
                    page=page.id,
                    seq=page.seq,
                    role=page.role,
                    at=page.at,
                    tokens=0,
                    score=cover if cover >= HALF else 0.0,
                    cover=cover,
                    text=page.searched,
                    asked=bool(what.pages) and "?" in text,
                )
                for cover, page in chosen
            ]
        )
        more = len(found) > what.cursor + what.limit
        self._post(Searched(source="index", pid=what.pid, req=what.req, hits=tuple(hits), more=more))
