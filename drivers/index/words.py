"""An index of shared words in memory: exact, at once, the same on every machine. For tests, benches and virtual time.

Guarantee: a search sees the committed pages of its process and ranks them by the share of the query's words they have,
then by age. It may be told to be silent: searches are kept and answered when it speaks again. Texts stay on the disk:
what it holds of a page is its terms and 17 bytes, for all that was ever said is searched.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Final

from kernel import records
from kernel.event import Find, Hit, Search, Searched, SearchOf
from kernel.memory.page import Area, Page, Role, gone
from kernel.memory.words import terms
from kernel.ports import Post, Reads, Sized

HALF: Final = 0.5  # of the query's words: a page with fewer is not likely what was asked for

KINDS: Final = tuple(product(Area, Role))  # of pages that are found by the same searches, as far as a page decides


class _Pages:
    """What a process's pages are searched by, packed, in the order of their numbers."""

    def __init__(self) -> None:
        self._numbers, self._at = array("Q"), array("q")
        self._kinds, self._terms = bytearray(), bytearray()  # of each a line; no term has white space

    def add(self, page: Page) -> None:
        """The next one."""
        self._numbers.append(page.id)
        self._at.append(page.at)
        self._kinds.append(KINDS.index((page.area, page.role)))
        self._terms += f"{' '.join(terms(page.searched))}\n".encode()

    def having(self, query: frozenset[str]) -> Iterator[tuple[int, int, Area, Role, int]]:
        """Of pages with words of the query: number, time, area, role, and how many of the words."""
        lines = self._terms.decode().removesuffix("\n").split("\n")
        for number, at, kind, line in zip(self._numbers, self._at, self._kinds, lines, strict=True):
            if shared := len(query.intersection(line.split(" "))):
                yield number, at, *KINDS[kind], shared


class WordIndex:
    """ports.Index over the pages of `disk`."""

    def __init__(self, disk: Reads) -> None:
        self.applied = 0
        self.anew, self.damaged, self.trouble, self.idle = True, "", "", True
        self.silent = False
        self._disk = disk
        self._pages: dict[int, _Pages] = {}  # by process
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
                self._pages.pop(removed[0], None)
            if page.area is not Area.NONE:
                self._pages.setdefault(page.pid, _Pages()).add(page)

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

    def _read(self, numbers: Iterable[int]) -> list[Page]:
        return [page for page in records.pages_of(self._disk, numbers) if page is not None]

    def _wanted(self, number: int, what: Search) -> bool:
        """Whether it is of a document, and the one asked for, where documents are searched."""
        if not isinstance(what, Find):
            return True
        row = self._disk.get("page", records.key(number))
        file = None if row is None else records.file_of(row)
        return file is not None and file.source is not None and what.path in ("", file.source.path)

    def _found(self, what: Search, query: frozenset[str]) -> Iterator[tuple[float, int]]:
        """The pages of a process that have words of the query, with the share of it that each has. O(its pages)."""
        pages = self._pages.get(what.pid)
        for number, at, area, role, shared in pages.having(query) if pages is not None else ():
            if area not in what.area or number in what.exclude or number > what.upto or role in what.apart:
                continue
            if what.since <= at and (not what.until or at <= what.until) and self._wanted(number, what):
                yield shared / len(query), number

    def _answer(self, what: Search) -> None:
        asked = (page.searched for page in self._read(what.pages) if page.area is not Area.NONE)
        text = what.query or " ".join(dict.fromkeys(asked))  # what was said again and again asks for the same
        query = terms(text)
        each = what.each() if isinstance(what, SearchOf) else [what]
        found = [one for part in each for one in self._found(part, query)]
        found.sort(key=lambda one: (-one[0], one[1]))
        chosen = found[what.cursor : what.cursor + what.limit]
        pages = self._read(number for _, number in chosen)
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
                for (cover, _), page in zip(chosen, pages, strict=True)
            ]
        )
        more = len(found) > what.cursor + what.limit
        self._post(Searched(source="index", pid=what.pid, req=what.req, hits=tuple(hits), more=more))
