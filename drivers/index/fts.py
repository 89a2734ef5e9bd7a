"""Lexical search: which pages of a process contain the words of a query, rarest words first.

A page's row number is `pid << 40 | page`, in the table of texts and in FTS5 alike. So the matches of a word inside one
process are one range of its posting list, found without touching other processes' pages: a process never sees a page
of another, its ranking depends on its own pages only, and a search costs O(matches in the process), bounded by
MATCHES_MAX a word, whatever the archive. FTS5's own bm25() counts each word over all processes at each query, so the
score is computed here: BM25 with the process's document frequencies, and a word counted once a page (pages are short).
Words weigh whole billionths, which SQLite adds exactly, in whatever order and segments of FTS5 it meets them.

Work is a few large statements that exchange JSON, each one step of SQLite without the GIL; row-by-row fetching would
hand the GIL back and forth for every row while the kernel's loop is busy.

On disk, in the index's SQLite file: doc (the texts), fts (contentless FTS5, porter stemming, no column sizes).
Not here: transactions, threads and vectors (fused.py, hnsw.py).
"""

from __future__ import annotations

import functools
import math
import re
import sqlite3
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import Final

import msgspec

from kernel.memory.page import Area, Page, Role

PAGE_BITS: Final = 40  # page ids below 2^40, pids below 2^23: a key is a positive 64-bit integer
PAGE_MASK: Final = (1 << PAGE_BITS) - 1
TERMS_MAX: Final = 12  # words of one query that are matched
WORDS_MAX: Final = (
    16  # words of one query that are counted; a longer text is cut to its questions, names and long words
)
MATCHES_MAX: Final = 400  # newest matches of one word that are ranked; a word with more is common
POSTINGS_MAX: Final = 2_000  # matches of one query that are ranked, unless its three rarest words alone have more
COMMON_SHARE: Final = 0.1  # of a process's pages: a word in more of them is left out if a rarer one exists,
COMMON_PAGES: Final = 500  # in a process with this many pages
RARE_MIN: Final = 3  # words that POSTINGS_MAX does not cut
SIZE_PIVOT: Final = 200  # characters of a page whose score is neither raised nor lowered for its length
SIZE_WEIGHT: Final = 0.1  # how much length matters, 0 to 1 (BM25's b): LoCoMo recall at 5 is 0.55 at 0, 0.53 at 0.3
SATURATION: Final = 1.2  # BM25's k1
MERGE_PAGES: Final = 64  # pages of FTS5 written by one step of tidying: a few milliseconds
IDF_DIGITS: Final = 9  # decimals of a word's weight: the last bits of a logarithm are the host's
UNKNOWN_WEIGHT: Final = 0.35  # of a word that no page of the process has: it may be phrased otherwise there
NAME_WEIGHT: Final = 1.5  # of names and numbers in `cover`: what a question is about

SCHEMA: Final = """
CREATE TABLE doc(key INTEGER PRIMARY KEY, pid INTEGER NOT NULL, seq INTEGER NOT NULL, area TEXT NOT NULL,
                 role TEXT NOT NULL, at INTEGER NOT NULL, size INTEGER NOT NULL, text TEXT NOT NULL);
CREATE INDEX doc_seq ON doc(pid, seq);
CREATE INDEX doc_at ON doc(pid, at);
CREATE VIRTUAL TABLE fts USING fts5(text, content='', columnsize=0, tokenize='porter unicode61');
INSERT INTO fts(fts, rank) VALUES ('automerge', 2);  -- a word is looked up in each segment: as few as can be
"""

_STOP: Final = frozenset(
    re.findall(
        r"\w+",
        """
        a about after again all also am an and any are aren as at be because been before being but by can
        could couldn d did didn do does doesn doing don down during each else ever few for from further get
        gets getting go goes going got had hadn has hasn have haven having he her here hers herself him
        himself his how i if in into is isn it its itself just know let like ll m may me mean might more most
        much must my myself no nor not now of off ok okay on once one only or other our ours ourselves out
        over own please re really s said same say says shall she should shouldn so some still such t tell than
        thank thanks that the their theirs them themselves then there these they thing things this those
        though through to too under until up us ve very was wasn we well were weren what when where which
        while who whom whose why will with won would wouldn yeah yes yet you your yours yourself yourselves
        """,
    )
)
_WORD: Final = re.compile(r"[^\W_]+(?:[-.:/@+][^\W_]+)*")
_PIECE: Final = re.compile(r"[^\W_]+")
_SENTENCE: Final = re.compile(r"[.!?\n]")
_DIGIT: Final = re.compile(r"\d")


class Term(msgspec.Struct, frozen=True):
    """A word of a query: `match` is its FTS5 expression, `stem` what equal words share, `exact` one not to be split."""

    match: str
    stem: str
    exact: bool
    name: bool  # a name or a number


class Scope(msgspec.Struct, frozen=True):
    """Which pages a search may find: of one process, up to a page id, in areas, at [since, until) ns; until 0: open."""

    pid: int
    areas: tuple[Area, ...]
    upto: int
    since: int = 0
    until: int = 0
    exclude: frozenset[int] = frozenset()


class Doc(msgspec.Struct, frozen=True, array_like=True):
    """A stored page."""

    page: int
    seq: int
    area: Area
    role: Role
    at: int
    text: str


class Weights(msgspec.Struct, frozen=True):
    """How much each word of a query says, by the process's own pages: idf, with names and numbers raised."""

    terms: tuple[Term, ...]
    counts: tuple[int, ...]  # pages of the process that have it, up to MATCHES_MAX
    idf: tuple[float, ...]  # for ranking, rounded to IDF_DIGITS; 0: not to be matched
    worth: tuple[float, ...]  # for `cover`; unknown words count, but less

    def cover(self, text: str) -> float:
        """The share of the query's weight that `text` contains, 0 to 1. O(words of text)."""
        stems, line = _read(text)
        found = total = 0.0
        for term, worth in zip(self.terms, self.worth, strict=True):
            total += worth  # not sum(), whose last bits depend on Python's version
            if (f" {term.stem} " in line) if term.exact else (term.stem in stems):
                found += worth
        return min(1.0, found / total) if total else 0.0


_docs: Final = msgspec.json.Decoder(list[Doc])
_ranked: Final = msgspec.json.Decoder(list[tuple[int, float]])
_ints: Final = msgspec.json.Decoder(list[int])


def key_of(pid: int, page: int) -> int:
    """The row number of a page."""
    assert 0 <= pid < 1 << (63 - PAGE_BITS)
    assert 0 <= page < 1 << PAGE_BITS
    return pid << PAGE_BITS | page


def parse(query: str) -> tuple[Term, ...]:
    """The distinct words of any text that is valid UTF-8, without stopwords, at most WORDS_MAX, in order of appearance.

    A UUID, a date or an address (pieces joined by punctuation, with a digit or an @) is one exact phrase.
    """
    terms: dict[str, Term] = {}
    asked: set[str] = set()  # stems of the words in questions
    sentence: list[str] = []
    fresh = True  # a sentence starts, where a capital letter says nothing
    end = 0
    plain = unicodedata.normalize("NFC", query)
    for found in _WORD.finditer(plain):
        mark = _SENTENCE.search(plain, end, found.start())
        if mark is not None:
            if mark.group() == "?":
                asked.update(sentence)
            sentence.clear()
            fresh = True
        end = found.end()
        word = found.group()
        digits = _DIGIT.search(word) is not None
        if len(word) > 2 and (digits or "@" in word) and not word.isalnum():
            pieces = _PIECE.findall(_fold(word))
            sentence.append(" ".join(pieces))
            _add(terms, Term(f'"{" ".join(pieces)}"', " ".join(pieces), exact=True, name=True))
        else:
            for piece in _PIECE.findall(word) if not word.isalnum() else (word,):
                small = _fold(piece)
                if small not in _STOP and (len(small) > 1 or not small.isascii() or digits):
                    name = digits or (piece[0].isupper() and not fresh)
                    sentence.append(stem(small))
                    _add(terms, Term(f'"{piece}"', stem(small), exact=False, name=name))
        fresh = False
    if "?" in plain[end:]:
        asked.update(sentence)
    if len(terms) <= WORDS_MAX:
        return tuple(terms.values())
    telling = sorted(terms.values(), key=lambda term: (term.stem not in asked, not term.name, -len(term.stem)))[
        :WORDS_MAX
    ]
    return tuple(term for term in terms.values() if term in telling)


def _add(terms: dict[str, Term], term: Term) -> None:
    known = terms.get(term.stem)
    if known is None or (term.name and not known.name):
        terms[term.stem] = term


def _fold(text: str) -> str:
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text).casefold()


@functools.lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """What `word` (case-folded) shares with its plural and its -ing, -ed, -ly forms; lighter than FTS5's porter."""
    if len(word) < 4 or not word.isascii() or not word.isalpha():
        return word
    for end, least in (("ally", 4), ("ly", 4), ("ing", 3), ("ed", 3)):
        if word.endswith(end) and len(word) - len(end) >= least:
            word = word[: -len(end)]
            if word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    else:
        if word.endswith(("ies", "ied")) and len(word) > 4:
            word = word[:-3] + "y"
        elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
            word = word[:-1]
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


@functools.lru_cache(maxsize=4_096)
def _read(text: str) -> tuple[frozenset[str], str]:
    """The stems of a text's words, and its words in a line."""
    pieces = _PIECE.findall(_fold(text))
    return frozenset([stem(piece) for piece in pieces]), f" {' '.join(pieces)} "


class Lexical:
    """The tables doc and fts of one SQLite connection, used on the connection's thread only."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._sql = connection

    def add(self, pages: Sequence[Page]) -> None:
        """Store pages that have an area, inside the caller's transaction.

        A NUL, at which SQLite would end the text, is stored as U+FFFD.
        """
        rows = sorted(  # ascending keys: FTS5 flushes its buffer whenever one goes back
            (key_of(p.pid, p.id), p.pid, p.seq, p.area, p.role, p.at, p.searched.replace("\0", "\ufffd")) for p in pages
        )
        packed = msgspec.json.encode(rows).decode()
        fields = ", ".join(f"json_extract(value, '$[{i}]')" for i in range(6))
        self._sql.execute(
            f"INSERT INTO doc SELECT {fields}, length(text), text FROM"
            " (SELECT value, json_extract(value, '$[6]') AS text FROM json_each(?))",
            (packed,),
        )
        self._sql.execute(
            "INSERT INTO fts(rowid, text) SELECT json_extract(value, '$[0]'), json_extract(value, '$[6]')"
            " FROM json_each(?)",
            (packed,),
        )

    def weigh(self, terms: Sequence[Term], scope: Scope, without: Iterable[int] = ()) -> Weights:
        """Count in how many pages of the process each word stands, `without` some (the query's own), and weigh it."""
        low, high = _bounds(scope)
        row = self._sql.execute(
            "SELECT max(seq) FROM doc WHERE key = (SELECT max(key) FROM doc WHERE key BETWEEN ? AND ?)", (low, high)
        ).fetchone()
        pages = row[0] or 0
        counts = self._count([term.match for term in terms], low, high, [low + page for page in without])
        idf = [round(math.log(1 + (max(pages, n) - n + 0.5) / (n + 0.5)), IDF_DIGITS) for n in counts]
        worth = [
            value * (NAME_WEIGHT if term.name else 1.0) * (1.0 if n else UNKNOWN_WEIGHT)
            for term, value, n in zip(terms, idf, counts, strict=True)
        ]
        kept = set(_choose(counts, pages))
        return Weights(
            terms=tuple(terms),
            counts=tuple(counts),
            idf=tuple(value if at in kept else 0.0 for at, value in enumerate(idf)),
            worth=tuple(worth),
        )

    def rank(self, weights: Weights, scope: Scope, limit: int) -> list[tuple[int, float]]:
        """The best pages and their scores, best first; equal scores: newest first."""
        low, high = _bounds(scope)
        parts: list[str] = []
        values: list[object] = []
        for term, n, idf in zip(weights.terms, weights.counts, weights.idf, strict=True):
            if idf > 0:
                # Backwards is slow: only where the oldest matches are to fall out.
                newest = " ORDER BY rowid DESC" if n == MATCHES_MAX else ""
                parts.append(
                    "SELECT key, w FROM (SELECT rowid AS key, ? AS w FROM fts WHERE fts MATCH ?"
                    f" AND rowid BETWEEN ? AND ?{newest} LIMIT ?)"
                )
                values += (round(idf * 10**IDF_DIGITS), term.match, low, high, MATCHES_MAX)
        if not parts:
            return []
        where, filters = _filters(scope)
        length = f"{1 - SIZE_WEIGHT} + {SIZE_WEIGHT} * size / {SIZE_PIVOT}.0"
        found = self._sql.execute(
            f"SELECT json_group_array(json_array(key & {PAGE_MASK}, score)) FROM ("
            f" SELECT m.key AS key, m.w / 1e{IDF_DIGITS} * {1 + SATURATION} / (1 + {SATURATION} * ({length})) AS score"
            f" FROM (SELECT key, sum(w) AS w FROM ({' UNION ALL '.join(parts)}) GROUP BY key) m"
            " JOIN doc ON doc.key = m.key"
            f" WHERE {where} ORDER BY score DESC, m.key DESC LIMIT ?)",
            [*values, *filters, limit],
        ).fetchone()[0]
        return _ranked.decode(found)

    def listing(self, scope: Scope, skip: int, limit: int) -> list[int]:
        """Pages in order of time, oldest first."""
        low, high = _bounds(scope)
        where, filters = _filters(scope)
        found = self._sql.execute(
            f"SELECT json_group_array(key & {PAGE_MASK}) FROM (SELECT key FROM doc"
            f" WHERE pid = ? AND key BETWEEN ? AND ? AND {where} ORDER BY at, key LIMIT ? OFFSET ?)",
            [scope.pid, low, high, *filters, limit, skip],
        ).fetchone()[0]
        return _ints.decode(found)

    def docs(self, pid: int, pages: Collection[int]) -> dict[int, Doc]:
        """The stored pages among `pages`."""
        base = key_of(pid, 0)
        return self._docs("key IN (SELECT value FROM json_each(?))", [_json(base + page for page in pages)])

    def neighbours(self, docs: Collection[Doc], scope: Scope) -> dict[tuple[Area, int], Doc]:
        """By area and seq, the pages of `scope` that stand right before or after one of `docs`."""
        low, high = _bounds(scope)
        where, filters = _filters(scope)
        seqs = {seq for doc in docs for seq in (doc.seq - 1, doc.seq + 1)}
        found = self._docs(
            f"pid = ? AND seq IN (SELECT value FROM json_each(?)) AND key BETWEEN ? AND ? AND {where}",
            [scope.pid, _json(seqs), low, high, *filters],
            by="doc_seq",
        )
        return {(doc.area, doc.seq): doc for doc in found.values()}

    def tidy(self, start: bool) -> bool:
        """Merge the segments of FTS5 a little, `start` to merge all into one; False once that is done.

        A word is looked up in each segment: a dozen of them, as a feed leaves them, double the time of a search.
        """
        before = self._sql.total_changes
        self._sql.execute("INSERT INTO fts(fts, rank) VALUES ('merge', ?)", (-MERGE_PAGES if start else MERGE_PAGES,))
        return self._sql.total_changes - before >= 2  # FTS5's own sign that there was something to merge

    def _docs(self, where: str, values: list[object], by: str = "") -> dict[int, Doc]:
        found = self._sql.execute(
            f"SELECT json_group_array(json_array(key & {PAGE_MASK}, seq, area, role, at, text))"
            f" FROM doc {'INDEXED BY ' + by if by else ''} WHERE {where}",
            values,
        ).fetchone()[0]
        return {doc.page: doc for doc in _docs.decode(found)}

    def _count(self, matches: Sequence[str], low: int, high: int, without: Sequence[int]) -> list[int]:
        """In how many rows each expression matches, up to MATCHES_MAX, in one statement."""
        if not matches:
            return []
        # Few lengths, so that the statements stay prepared: `""` matches nothing, and no row is -1.
        padded = [*matches, *['""'] * (_room(len(matches)) - len(matches))]
        apart = [*without, *[-1] * (_room(len(without)) - len(without))]
        first = 4 + len(apart)
        less = ", ".join(f"?{4 + at}" for at in range(len(apart)))
        one = (
            "(SELECT count(*) FROM (SELECT 1 FROM fts WHERE fts MATCH ?{} AND rowid BETWEEN ?1 AND ?2"
            f" AND rowid NOT IN ({less}) LIMIT ?3))"
        )
        found = self._sql.execute(
            f"SELECT json_array({', '.join(one.format(first + at) for at in range(len(padded)))})",
            [low, high, MATCHES_MAX, *apart, *padded],
        ).fetchone()[0]
        return _ints.decode(found)[: len(matches)]


def _room(n: int) -> int:
    """The least of 4, 8, 16, ... that is not below `n`."""
    room = 4
    while room < n:
        room *= 2
    return room


def _choose(counts: Sequence[int], pages: int) -> list[int]:
    """Places of the words to be matched, rarest first: none that no page has, no common one where rarer ones exist."""
    found = sorted((n, at) for at, n in enumerate(counts) if n)
    chosen: list[int] = []
    postings = 0
    for n, at in found[:TERMS_MAX]:
        common = n == MATCHES_MAX or (pages >= COMMON_PAGES and n > COMMON_SHARE * pages)
        if (chosen and common) or (len(chosen) >= RARE_MIN and postings + n > POSTINGS_MAX):
            break
        chosen.append(at)
        postings += n
    return chosen


def _bounds(scope: Scope) -> tuple[int, int]:
    low = key_of(scope.pid, 0)
    return low, low + min(scope.upto, (1 << PAGE_BITS) - 1)


def _filters(scope: Scope) -> tuple[str, list[object]]:
    """A condition on doc, and its values."""
    where, values = ["TRUE"], list[object]()
    if set(scope.areas) != {Area.RECALL, Area.ARCHIVE}:
        where.append("area IN (SELECT value FROM json_each(?))")
        values.append(_json(scope.areas))
    if scope.exclude:
        where.append("doc.key NOT IN (SELECT value FROM json_each(?))")
        values.append(_json(key_of(scope.pid, page) for page in scope.exclude))
    if scope.since:
        where.append("at >= ?")
        values.append(scope.since)
    if scope.until:
        where.append("at < ?")
        values.append(scope.until)
    return " AND ".join(where), values


def _json(values: Iterable[object]) -> str:
    return msgspec.json.encode(list(values)).decode()
