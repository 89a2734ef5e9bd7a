"""Lexical search: which passages of a process contain the words of a query, rarest words first.

A passage's row number is `pid << 42 | unit`, and its unit `page << 6 | part`, in the table of texts and in FTS5 alike.
So the matches of a word inside one process are one range of its posting list, found without touching other processes'
pages: a process never sees a page of another, its ranking depends on its own pages only, and a search costs O(matches
in the process), bounded by MATCHES_MAX a word, whatever the archive. FTS5's own bm25() counts each word over all
processes at each query, so words are weighed here, by the process's own frequencies.

Passages of a process and area stand in places, in the order in which they were said: what stands beside a match is
found by number. Where time has passed between two pages, numbers are left out, so nothing reaches over it.

What a word is, kernel/memory/words.py says, for index and query alike; FTS5 gets and gives back exactly its terms. A
word of a query that no passage has is matched by its longest beginning that one has (Kellerschloss by Kellerabteil).
Work is a few large statements that exchange JSON, each one step of SQLite without the GIL; row-by-row fetching would
hand the GIL back and forth for every row while the kernel's loop is busy.

On disk, in the index's SQLite file: doc (the texts), fts (contentless FTS5, no column sizes).
Not here: transactions, threads and vectors (fused.py, hnsw.py), what a match is worth (relevance.py).
"""

from __future__ import annotations

import math
import re
import sqlite3
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from drivers.index.passages import PARTS_MAX, passages
from kernel.memory.page import Area, Page, Role
from kernel.memory.words import TOKENIZE, encoded, quoted, words

PART_BITS: Final = 6  # pages below 2^36, pids below 2^21: a key is a positive 64-bit integer
UNIT_BITS: Final = 42
UNIT_MASK: Final = (1 << UNIT_BITS) - 1
ARCHIVE_PLACE: Final = 1 << 48  # places of the archive begin here: no neighbours of what was said
PAUSE_NS: Final = 3_600_000_000_000  # between two pages: what was said before it is no neighbour
PAUSE_PLACES: Final = 32  # numbers that are left out there: more than any neighbourhood
TERMS_MAX: Final = 16  # words of one query that are matched
WORDS_MAX: Final = 24  # words of one query that are counted; a longer text is cut to its questions, names, long words
MATCHES_MAX: Final = 600  # newest matches of one word that are ranked; a word with more is common
POSTINGS_MAX: Final = 3_000  # matches of one query that are ranked, unless its three rarest words alone have more
COMMON_SHARE: Final = 0.1  # of a process's passages: a word in more of them is left out if a rarer one exists,
COMMON_PASSAGES: Final = 5_000  # in a process with this many passages
RARE_MIN: Final = 3  # words that POSTINGS_MAX does not cut
MERGE_PAGES: Final = 64  # pages of FTS5 written by one step of tidying: a few milliseconds
IDF_DIGITS: Final = 9  # decimals of a word's weight: the last bits of a logarithm are the host's
UNKNOWN_WEIGHT: Final = 0.35  # of a word that no passage of the process has: it may be phrased otherwise there
BEGUN_MIN: Final = 4  # letters of a beginning that stands for a word that no passage has,
BEGUN_SHARE: Final = 0.4  # at least this share of it,
BEGUN_WEIGHT: Final = 0.6  # and what it weighs beside the word itself
BEGUN_MAX: Final = 64  # beginnings that are tried for one query
DROPPED: Final = 1_000  # passages let go of in one round
ENDS_MAX: Final = 4_096  # processes whose last place is remembered

SCHEMA: Final = f"""
CREATE TABLE doc(key INTEGER PRIMARY KEY, pid INTEGER NOT NULL, nth INTEGER NOT NULL, place INTEGER NOT NULL,
                 seq INTEGER NOT NULL, area TEXT NOT NULL, role TEXT NOT NULL, at INTEGER NOT NULL,
                 start INTEGER NOT NULL, end INTEGER NOT NULL, text TEXT NOT NULL);
CREATE UNIQUE INDEX doc_place ON doc(pid, place);
CREATE INDEX doc_at ON doc(pid, at);
CREATE VIRTUAL TABLE fts USING fts5(text, content='', columnsize=0, tokenize="{TOKENIZE.replace('"', '""')}");
INSERT INTO fts(fts, rank) VALUES ('automerge', 2);  -- a word is looked up in each segment: as few as can be
"""

_QUESTION: Final = re.compile(r"[?？؟]")
_SENTENCE: Final = re.compile(r"[.!?\n。！？؟]")

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class Term(msgspec.Struct, frozen=True):
    """A word of a query; `name`: a name or a number.

    `begins`: no passage has the word, and those that have one that begins like this are taken for it.
    """

    term: str
    name: bool
    begins: str = ""

    @property
    def matched(self) -> str:
        """The FTS5 expression of the passages that have it."""
        return f"{quoted(self.begins)} *" if self.begins else quoted(self.term)


class Scope(msgspec.Struct, frozen=True):
    """Which pages a search may find: of one process, up to a page id, in areas, at [since, until) ns; until 0: open.

    None of `exclude`, and none in a role of `apart`.
    """

    pid: int
    areas: tuple[Area, ...]
    upto: int
    since: int = 0
    until: int = 0
    exclude: frozenset[int] = frozenset()
    apart: tuple[Role, ...] = ()


class Doc(msgspec.Struct, frozen=True, array_like=True):
    """A stored passage: of page `unit >> PART_BITS` the characters [start, end); end 0: all of it."""

    unit: int
    seq: int
    place: int
    area: Area
    role: Role
    at: int
    start: int
    end: int
    text: str

    @property
    def page(self) -> int:
        """Whose passage it is."""
        return self.unit >> PART_BITS


class Passage(msgspec.Struct, frozen=True):
    """A passage to be indexed."""

    unit: int
    page: Page
    start: int
    end: int
    text: str


class Weights(msgspec.Struct, frozen=True):
    """How much each word of a query says, by the process's own pages: its idf."""

    terms: tuple[Term, ...]
    counts: tuple[int, ...]  # passages of the process that have it, up to MATCHES_MAX
    idf: tuple[float, ...]  # rounded to IDF_DIGITS; of a word that no passage has UNKNOWN_WEIGHT of it
    matched: tuple[int, ...]  # places of the words that are matched, rarest first
    size: int = 0  # passages of the process

    @property
    def total(self) -> float:
        """What a passage with all words weighs, added in the order of a share (relevance.py), which so is 1 at most."""
        total = 0.0  # not sum(), whose last bits depend on Python's version
        for at in (*self.matched, *sorted(set(range(len(self.idf))).difference(self.matched))):
            total += self.idf[at]
        return total


class Matches(msgspec.Struct, frozen=True):
    """For each matched word the passages that have it, by unit: (n,) each. `allowed`: the scope lets it be found."""

    units: list[Ints]
    places: list[Ints]  # ascending
    allowed: list[Flags]


_docs: Final = msgspec.json.Decoder(list[Doc])
_rows: Final = msgspec.json.Decoder(list[tuple[int, int, int, int]])
_ints: Final = msgspec.json.Decoder(list[int])


def key_of(pid: int, unit: int) -> int:
    """The row number of a passage."""
    assert 0 <= pid < 1 << (63 - UNIT_BITS)
    assert 0 <= unit < 1 << UNIT_BITS
    return pid << UNIT_BITS | unit


def divided(page: Page) -> list[Passage]:
    """The passages of a page. A page whose gist is searched is one: what it shows has other places than what it says.

    A NUL, at which SQLite would end the text, is U+FFFD there.
    """
    text = page.searched.replace("\0", "\ufffd")
    first = page.id << PART_BITS
    spans = [(0, len(text))] if page.gist else passages(text)
    assert len(spans) <= PARTS_MAX
    if len(spans) == 1:
        return [Passage(first, page, 0, 0, text)]
    return [Passage(first + part, page, start, end, text[start:end]) for part, (start, end) in enumerate(spans)]


def parse(query: str) -> tuple[Term, ...]:
    """The distinct words of any text, without stopwords, at most WORDS_MAX, in order of appearance."""
    found: dict[str, bool] = {}
    asked: set[str] = set()  # words in questions
    sentence: list[str] = []
    end = 0
    for word in words(query):
        if word.stop:
            continue
        mark = _SENTENCE.search(query, end, word.start) if word.start > end else None
        if mark is not None:
            if _QUESTION.match(mark.group()):
                asked.update(sentence)
            sentence.clear()
        end = max(end, word.end)
        sentence.append(word.term)
        found[word.term] = found.get(word.term, False) or word.name
    if _QUESTION.search(query, end):
        asked.update(sentence)
    kept = list(found)
    if len(kept) > WORDS_MAX:
        telling = sorted(kept, key=lambda term: (term not in asked, not found[term], -len(term)))[:WORDS_MAX]
        kept = [term for term in kept if term in set(telling)]
    return tuple(Term(term, found[term]) for term in kept)


class Lexical:
    """The tables doc and fts of one SQLite connection, used on the connection's thread only."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._sql = connection
        self._ends: OrderedDict[int, dict[Area | None, tuple[int, int]]] = OrderedDict()  # by process, see _end

    def add(self, units: Sequence[Passage]) -> None:
        """Store passages, in the order of their units, inside the caller's transaction."""
        rows = []
        for one in units:
            page = one.page
            nth, place = self._next(page)
            key = key_of(page.pid, one.unit)
            stored = (key, page.pid, nth, place, page.seq, page.area, page.role, page.at, one.start, one.end, one.text)
            rows.append((*stored, encoded(one.text)))
        rows.sort()  # ascending keys: FTS5 flushes its buffer whenever one goes back
        packed = msgspec.json.encode(rows).decode()
        fields = ", ".join(f"json_extract(value, '$[{i}]')" for i in range(11))
        self._sql.execute(f"INSERT INTO doc SELECT {fields} FROM json_each(?)", (packed,))
        self._sql.execute(
            "INSERT INTO fts(rowid, text) SELECT json_extract(value, '$[0]'), json_extract(value, '$[11]')"
            " FROM json_each(?)",
            (packed,),
        )

    def drop(self, pid: int) -> None:
        """Let go of all passages of a process, inside the caller's transaction. O(passages of it)."""
        low, high = key_of(pid, 0), key_of(pid, UNIT_MASK)
        at = low
        while rows := self._sql.execute(  # ends: a round goes on after the last
            "SELECT key, text FROM doc WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?", (at, high, DROPPED)
        ).fetchall():
            self._sql.executemany(
                "INSERT INTO fts(fts, rowid, text) VALUES ('delete', ?, ?)",
                [(key, encoded(text)) for key, text in rows],
            )
            at = rows[-1][0] + 1
        self._sql.execute("DELETE FROM doc WHERE key BETWEEN ? AND ?", (low, high))
        self._ends.pop(pid, None)

    def _next(self, page: Page) -> tuple[int, int]:
        """How many passages the process has with one more of `page`, and its place: further on where time passed."""
        ends = self._ends.pop(page.pid, None)
        if ends is None:
            ends = self._read_ends(page.pid)
        self._ends[page.pid] = ends
        if len(self._ends) > ENDS_MAX:
            self._ends.popitem(last=False)
        nth = ends[None][0] + 1
        place, at = ends.get(page.area, (ARCHIVE_PLACE if page.area is Area.ARCHIVE else 0, page.at))
        place += PAUSE_PLACES if page.at - at > PAUSE_NS else 1
        ends[None], ends[page.area] = (nth, 0), (place, page.at)
        return nth, place

    def _read_ends(self, pid: int) -> dict[Area | None, tuple[int, int]]:
        """By area the last place and its time; for None the number of passages."""
        ends: dict[Area | None, tuple[int, int]] = {None: (self._size(pid, key_of(pid, UNIT_MASK)), 0)}
        for area, low, high in ((Area.RECALL, 0, ARCHIVE_PLACE), (Area.ARCHIVE, ARCHIVE_PLACE, 2 * ARCHIVE_PLACE)):
            row = self._sql.execute(
                "SELECT place, at FROM doc WHERE pid = ? AND place >= ? AND place < ? ORDER BY place DESC LIMIT 1",
                (pid, low, high),
            ).fetchone()
            if row is not None:
                ends[area] = row
        return ends

    def _size(self, pid: int, high: int) -> int:
        """Passages of a process up to a key."""
        row = self._sql.execute(
            "SELECT nth FROM doc WHERE key BETWEEN ? AND ? ORDER BY key DESC LIMIT 1", (key_of(pid, 0), high)
        ).fetchone()
        return row[0] if row is not None else 0

    def weigh(
        self,
        terms: Sequence[Term],
        scope: Scope,
        without: Collection[int] = (),
        lesser: tuple[int, float] = (WORDS_MAX, 1.0),
    ) -> Weights:
        """Count in how many passages of the process each word stands, `without` some pages (the query's own).

        `lesser`: from which word on, and by how much, they count less.
        """
        low, high = _bounds(scope)
        size = self._size(scope.pid, high)
        counts = self._count([quoted(term.term) for term in terms], low, high, without)
        known, counts = self._begun(terms, counts, low, high, without)
        idf = []
        for at, n in enumerate(counts):
            value = math.log(1 + (max(size, n) - n + 0.5) / (n + 0.5))
            value *= BEGUN_WEIGHT if known[at].begins else 1.0 if n else UNKNOWN_WEIGHT
            idf.append(round(value * (lesser[1] if at >= lesser[0] else 1.0), IDF_DIGITS))
        return Weights(tuple(known), tuple(counts), tuple(idf), tuple(_choose(counts, size)), size)

    def _begun(
        self, terms: Sequence[Term], counts: Sequence[int], low: int, high: int, without: Collection[int]
    ) -> tuple[list[Term], list[int]]:
        """Words that no passage has by their longest beginning that one has: compounds, and endings not English."""
        tried = [
            (at, term.term[:size])
            for at, term in enumerate(terms)
            if not counts[at] and term.term.isalpha()
            for size in range(len(term.term), max(BEGUN_MIN, math.ceil(BEGUN_SHARE * len(term.term))) - 1, -1)
        ][:BEGUN_MAX]
        found, many = list(terms), list(counts)
        for (at, begins), n in zip(
            tried, self._count([f"{quoted(begins)} *" for _, begins in tried], low, high, without), strict=True
        ):
            if n and not many[at]:
                found[at], many[at] = Term(terms[at].term, terms[at].name, begins), n
        return found, many

    def matches(self, weights: Weights, scope: Scope, without: Collection[int] = ()) -> Matches:
        """The newest MATCHES_MAX passages of each matched word, with their places."""
        low, high = _bounds(scope)
        parts: list[str] = []
        values: list[object] = []
        for nth, at in enumerate(weights.matched):
            # Backwards is slow: only where the oldest matches are to fall out.
            newest = " ORDER BY rowid DESC" if weights.counts[at] == MATCHES_MAX else ""
            parts.append(
                f"SELECT {nth} AS n, key FROM (SELECT rowid AS key FROM fts WHERE fts MATCH ?"
                f" AND rowid BETWEEN ? AND ?{newest} LIMIT ?)"
            )
            values += (weights.terms[at].matched, low, high, MATCHES_MAX)
        rows: list[tuple[int, int, int, int]] = []
        if parts:
            where, filters = _filters(scope)
            apart, own = _apart(without)
            found = self._sql.execute(
                f"SELECT json_group_array(json_array(m.n, m.key & {UNIT_MASK}, doc.place, {where}))"
                f" FROM ({' UNION ALL '.join(parts)}) m JOIN doc ON doc.key = m.key WHERE {apart}",
                [*filters, *values, *own],
            ).fetchone()[0]
            rows = _rows.decode(found)
        table = np.array(rows, np.int64).reshape(-1, 4)
        table = table[np.lexsort((table[:, 2], table[:, 0]))]
        ends = np.searchsorted(table[:, 0], np.arange(len(weights.matched) + 1))
        spans = [slice(ends[nth], ends[nth + 1]) for nth in range(len(weights.matched))]
        return Matches(
            units=[table[span, 1] for span in spans],
            places=[table[span, 2] for span in spans],
            allowed=[table[span, 3].astype(bool) for span in spans],
        )

    def listing(self, scope: Scope, skip: int, limit: int) -> list[int]:
        """Units in order of time, oldest first."""
        low, high = _bounds(scope)
        where, filters = _filters(scope)
        found = self._sql.execute(
            f"SELECT json_group_array(key & {UNIT_MASK}) FROM (SELECT key FROM doc"
            f" WHERE pid = ? AND key BETWEEN ? AND ? AND {where} ORDER BY at, key LIMIT ? OFFSET ?)",
            [scope.pid, low, high, *filters, limit, skip],
        ).fetchone()[0]
        return _ints.decode(found)

    def within(self, scope: Scope, first: int, last: int, limit: int) -> list[int]:
        """The newest units of the scope that were said at [first, last) ns."""
        low, high = _bounds(scope)
        where, filters = _filters(scope)
        found = self._sql.execute(
            f"SELECT json_group_array(key & {UNIT_MASK}) FROM (SELECT key FROM doc INDEXED BY doc_at WHERE pid = ?"
            f" AND at >= ? AND at < ? AND key BETWEEN ? AND ? AND {where} ORDER BY at DESC, key DESC LIMIT ?)",
            [scope.pid, first, last, low, high, *filters, limit],
        ).fetchone()[0]
        return _ints.decode(found)

    def docs(self, pid: int, units: Collection[int]) -> dict[int, Doc]:
        """The stored passages among `units`, by unit."""
        base = key_of(pid, 0)
        return self._docs("key IN (SELECT value FROM json_each(?))", [_json(base + unit for unit in units)])

    def beside(self, places: Collection[int], scope: Scope, without: Collection[int] = ()) -> dict[int, Doc]:
        """The passages up to the scope's last page that stand in these places, by place."""
        low, high = _bounds(scope)
        apart, own = _apart(without)
        found = self._docs(
            f"pid = ? AND place IN (SELECT value FROM json_each(?)) AND key BETWEEN ? AND ? AND {apart}",
            [scope.pid, _json(places), low, high, *own],
            by="doc_place",
        )
        return {doc.place: doc for doc in found.values()}

    def tidy(self, start: bool) -> bool:
        """Merge the segments of FTS5 a little, `start` to merge all into one; False once that is done.

        A word is looked up in each segment: a dozen of them, as a feed leaves them, double the time of a search.
        """
        before = self._sql.total_changes
        self._sql.execute("INSERT INTO fts(fts, rank) VALUES ('merge', ?)", (-MERGE_PAGES if start else MERGE_PAGES,))
        return self._sql.total_changes - before >= 2  # FTS5's own sign that there was something to merge

    def _docs(self, where: str, values: list[object], by: str = "") -> dict[int, Doc]:
        found = self._sql.execute(
            f"SELECT json_group_array(json_array(key & {UNIT_MASK}, seq, place, area, role, at, start, end, text))"
            f" FROM doc {'INDEXED BY ' + by if by else ''} WHERE {where}",
            values,
        ).fetchone()[0]
        return {doc.unit: doc for doc in _docs.decode(found)}

    def _count(self, expressions: Sequence[str], low: int, high: int, without: Collection[int]) -> list[int]:
        """How many rows match each expression, up to MATCHES_MAX, in one statement."""
        if not expressions:
            return []
        # Few lengths, so that the statements stay prepared: `""` matches nothing, and no page is -1.
        padded = [*expressions, *['""'] * (_room(len(expressions)) - len(expressions))]
        apart = [*without, *[-1] * (_room(len(without)) - len(without))]
        first = 4 + len(apart)
        less = ", ".join(f"?{4 + at}" for at in range(len(apart)))
        one = (
            "(SELECT count(*) FROM (SELECT 1 FROM fts WHERE fts MATCH ?{} AND rowid BETWEEN ?1 AND ?2"
            f" AND ((rowid & {UNIT_MASK}) >> {PART_BITS}) NOT IN ({less}) LIMIT ?3))"
        )
        found = self._sql.execute(
            f"SELECT json_array({', '.join(one.format(first + at) for at in range(len(padded)))})",
            [low, high, MATCHES_MAX, *apart, *padded],
        ).fetchone()[0]
        return _ints.decode(found)[: len(expressions)]


def allowed(doc: Doc, scope: Scope) -> bool:
    """Whether the scope lets a passage be found; as _filters says in SQL."""
    return (
        doc.area in scope.areas
        and doc.page not in scope.exclude
        and doc.role not in scope.apart
        and doc.at >= scope.since
        and (not scope.until or doc.at < scope.until)
    )


def _room(n: int) -> int:
    """The least of 4, 8, 16, ... that is not below `n`."""
    room = 4
    while room < n:
        room *= 2
    return room


def _choose(counts: Sequence[int], size: int) -> list[int]:
    """Places of the words to be matched, rarest first: none that nothing has, no common one where rarer ones exist."""
    found = sorted((n, at) for at, n in enumerate(counts) if n)
    chosen: list[int] = []
    postings = 0
    for n, at in found[:TERMS_MAX]:
        common = size >= COMMON_PASSAGES and n > COMMON_SHARE * size
        if (chosen and common) or (len(chosen) >= RARE_MIN and postings + n > POSTINGS_MAX):
            break
        chosen.append(at)
        postings += n
    return chosen


def _bounds(scope: Scope) -> tuple[int, int]:
    last = min((scope.upto + 1) << PART_BITS, 1 << UNIT_BITS) - 1
    return key_of(scope.pid, 0), key_of(scope.pid, last)


def _filters(scope: Scope) -> tuple[str, list[object]]:
    """A condition on doc, and its values."""
    where, values = ["TRUE"], list[object]()
    if set(scope.areas) != {Area.RECALL, Area.ARCHIVE}:
        where.append("doc.area IN (SELECT value FROM json_each(?))")
        values.append(_json(scope.areas))
    if scope.exclude:
        left_out, pages = _apart(scope.exclude)
        where.append(left_out)
        values += pages
    if scope.apart:
        where.append("doc.role NOT IN (SELECT value FROM json_each(?))")
        values.append(_json(scope.apart))
    if scope.since:
        where.append("doc.at >= ?")
        values.append(scope.since)
    if scope.until:
        where.append("doc.at < ?")
        values.append(scope.until)
    return f"({' AND '.join(where)})", values


def _apart(pages: Collection[int]) -> tuple[str, list[object]]:
    """A condition on doc that leaves out pages of a process, and its values."""
    if not pages:
        return "TRUE", []
    return f"((doc.key & {UNIT_MASK}) >> {PART_BITS}) NOT IN (SELECT value FROM json_each(?))", [_json(pages)]


def _json(values: Iterable[object]) -> str:
    return msgspec.json.encode(list(values)).decode()
