"""What a search finds, in order: candidates by words and by vectors, weighed by relevance.py.

Candidates are the best BY_WORDS by shared words with what stands around, the BY_VECTORS nearest by vector, the newest
BY_DAYS of the days that the query names ("last May"), and what was said right before and after each; relevance.py says
how likely each is what is asked for. Behind them, for who searches on with a cursor, stands the rest of what has the
words, by shared words.
A message that says little by itself ("and where was that?") is widened by the words of the turn before it.
Not here: the tables (fts.py, hnsw.py), when a search is answered (fused.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, Protocol

import msgspec
import numpy as np

from drivers.index import fts, hnsw, relevance
from drivers.index.late import Distant
from kernel.errors import DeviceError
from kernel.event import Hit, Search
from kernel.limits import DAY_NS
from kernel.memory.page import Area
from kernel.memory.times import Days, day_of, mentioned
from kernel.memory.words import words

BY_WORDS: Final = 100
BY_VECTORS: Final = 50
BY_DAYS: Final = 60  # of each day or span of days that the query names
DATED: Final = 4_096  # texts whose dates are remembered
EDGES: Final = ".,;:!?()[]{}<>\"'"  # of a word, that are none of it
ALL: Final = 0.99  # of a query's words, in `cover`
LITTLE: Final = 1  # known words of a message that says little;
SOME: Final = 3  # of one that points to what was said before, and names nothing
BEFORE_TERMS: Final = 8  # words of the turn before that widen it,
BEFORE_WEIGHT: Final = 0.5  # and their weight beside its own


_POINTS: Final = re.compile(  # not IT, which is a department
    r"\b(?:[Ii]t|its|[Tt]hat|there|then|[Hh]e|[Ss]he|him|her|his|[Tt]hey|them|their|[Tt]hose|[Tt]hese|[Tt]his|"
    r"he's|she's|they're|eso|esa|él|ella|allí|ellos|er|sie|ihn|ihm|dort|ça|cela|elle|là)\b|[它他她那这]"
)


class Embedder(Protocol):
    """Texts to unit vectors; `name` changes whenever its vectors do."""

    name: str
    dim: int

    def embed(self, texts: Sequence[str]) -> hnsw.Floats:
        """(n, dim) float32."""
        ...


class Tables(msgspec.Struct, frozen=True):
    """What is searched."""

    lexical: fts.Lexical
    spaces: hnsw.Spaces
    embedder: Embedder


def scope_of(what: Search, applied: int) -> fts.Scope:
    """Which pages a search may find, of those up to `applied` where it names no last one."""
    return fts.Scope(
        pid=what.pid,
        areas=tuple(dict.fromkeys(area for area in what.area if area is not Area.NONE)),
        upto=what.upto or applied,
        since=what.since,
        until=what.until,
        exclude=frozenset(what.exclude) | frozenset(what.pages),
        apart=what.apart,
    )


def listed(tables: Tables, what: Search, scope: fts.Scope) -> list[Hit]:
    """A search without a query: passages in order of time, from the cursor on, one more than is wanted."""
    units = tables.lexical.listing(scope, what.cursor, what.limit + 1)
    docs = tables.lexical.docs(what.pid, units)
    return [_hit(docs[unit], 0.0, 0.0) for unit in units]


class Candidates(msgspec.Struct, frozen=True):
    """Who may be what is asked for: passages, and a row of relevance.FEATURES each; the rest by unit and cover."""

    docs: tuple[fts.Doc, ...]
    table: relevance.Floats
    widened: bool
    rest: tuple[int, ...]
    covers: tuple[float, ...]


def candidates(tables: Tables, what: Search, scope: fts.Scope, query: str, before: str = "") -> Candidates:
    """Look for `query`; `before` is the text of the turn before it."""
    lexical, own = tables.lexical, what.pages
    weights, widened = _weights(lexical, query, before, scope, own)
    found = lexical.matches(weights, scope, own)
    units, places = _by_words(weights, found)
    vectors = _vectors(tables.embedder, [query, _content(query)])
    nearest = [] if vectors is None else [unit for unit, _ in tables.spaces.search(vectors[0], BY_VECTORS, scope)]
    days = mentioned(query, what.at) if what.at else []
    of_days = [
        unit for one in days for unit in lexical.within(scope, one.first * DAY_NS, (one.last + 1) * DAY_NS, BY_DAYS)
    ]
    docs = lexical.docs(what.pid, {*units[:BY_WORDS].tolist(), *nearest, *of_days})
    around = {doc.place: doc for doc in docs.values()}
    around |= lexical.beside({place + step for place in around for step in (-1, 1)} - set(around), scope, own)
    seen = tuple(doc for doc in around.values() if fts.allowed(doc, scope))
    by_area: dict[Area, list[int]] = {}
    for doc in seen:
        by_area.setdefault(doc.area, []).append(doc.unit)
    near = dict.fromkeys((doc.unit for doc in seen), (0.0, 0.0))
    if vectors is not None:
        near |= tables.spaces.among(vectors[0], vectors[1], by_area, scope)
    rows = [relevance.Seen(doc, *near[doc.unit], falls=_falls(doc, days)) for doc in seen]
    heard = relevance.Heard(query, weights, found, lambda terms: lexical.weigh(terms, scope, own))
    table = relevance.features(heard, rows, around)
    rest = [at for at, unit in enumerate(units.tolist()) if unit not in near]
    covers = relevance.shares(weights, found, places[rest], 0)
    return Candidates(seen, table, widened, tuple(units[rest].tolist()), tuple(covers.tolist()))


def ranked(tables: Tables, what: Search, scope: fts.Scope, query: str, before: str = "") -> list[Hit]:
    """What `query` finds, the likeliest first: all candidates, and of the rest as much as is shown, and one."""
    found = candidates(tables, what, scope, query, before)
    asked = relevance.asks(query)
    scores = relevance.scores(found.table, asking=not what.pages or asked)
    covers = found.table[:, relevance.OWN].tolist()
    hits = [_hit(*row) for row in zip(found.docs, scores, covers, strict=True)]
    hits.sort(key=lambda hit: (-hit.score, -hit.page, -hit.start))
    if what.pages:  # a question that was asked once says nothing
        hits = [hit for hit in hits if not relevance.only_asks(hit.text)]
        asked, dated = asked and not relevance.asks_back(query), relevance.asks_time(query)
        return _once([msgspec.structs.replace(hit, asked=asked, dated=dated, follows=found.widened) for hit in hits])
    named = [word.strip(EDGES).casefold() for word in query.split()]
    if all(any(c.isdigit() for c in word) for word in named):  # identifiers: whole or not at all, vectors know nothing
        hits += _loaded(tables, what.pid, zip(found.rest, found.covers, strict=True))
        return [hit for hit in hits if any(word in hit.text.casefold() for word in named)]
    rest = list(zip(found.rest, found.covers, strict=True))
    if any(hit.cover > ALL for hit in hits) or any(cover > ALL for cover in found.covers):
        hits = [hit for hit in hits if hit.cover > 0]  # who has none of the words is noise then
        rest = [one for one in rest if one[1] > 0]
    return hits + _loaded(tables, what.pid, rest[: max(0, what.cursor + what.limit + 1 - len(hits))])


def merged(found: Sequence[list[Hit]]) -> list[Hit]:
    """The hits of several processes' pages as one list, the likeliest first; those of one stay as they stand."""
    if len(found) == 1:
        return found[0]
    return sorted((hit for hits in found for hit in hits), key=lambda hit: (-hit.score, -hit.page, -hit.start))


def _loaded(tables: Tables, pid: int, found: Iterable[tuple[int, float]]) -> list[Hit]:
    """Hits of units with their covers, as likely as nothing is known of them."""
    covers = dict(found)
    docs = tables.lexical.docs(pid, covers)
    return [_hit(docs[unit], 0.0, cover) for unit, cover in covers.items()]


def _weights(
    lexical: fts.Lexical, query: str, before: str, scope: fts.Scope, own: Sequence[int]
) -> tuple[fts.Weights, bool]:
    """The words of the query, and of the turn before it where they say little; whether they do."""
    terms = fts.parse(query)
    weights = lexical.weigh(terms, scope, own)
    few = SOME if _POINTS.search(query) else LITTLE
    named = any(term.name and count for term, count in zip(terms, weights.counts, strict=True))
    if not before or named or sum(map(bool, weights.counts)) > few:
        return weights, False
    known = {term.term for term in terms}
    wider = tuple(term for term in fts.parse(before) if term.term not in known)[-BEFORE_TERMS:]
    return lexical.weigh((*terms, *wider), scope, own, lesser=(len(terms), BEFORE_WEIGHT)), True


def _by_words(weights: fts.Weights, found: fts.Matches) -> tuple[fts.Ints, fts.Ints]:
    """Units that have words of the query and may be found, with their places: the best first, vectors left aside."""
    if not found.units:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    units, first = np.unique(np.concatenate(found.units), return_index=True)
    allowed = np.concatenate(found.allowed)[first]
    units, places = units[allowed], np.concatenate(found.places)[first][allowed]
    shared = [relevance.shares(weights, found, places, reach) for reach in relevance.REACHES]
    order = np.lexsort((-units, -relevance.sums(shared, np.zeros(len(units)))))
    return units[order], places[order]


def _falls(doc: fts.Doc, days: Sequence[Days]) -> bool:
    """Whether a passage was said on one of the days, or names one."""
    if not days:
        return False
    said = (day_of(doc.at), day_of(doc.at))
    spans = [said, *_named(doc.text, doc.at)]
    return any(first <= one.last and one.first <= last for first, last in spans for one in days)


@lru_cache(maxsize=DATED)
def _named(text: str, at: int) -> list[tuple[int, int]]:
    return [(one.first, one.last) for one in mentioned(text, at)]


def _vectors(embedder: Embedder, texts: Sequence[str]) -> hnsw.Floats | None:
    """Vectors of a query; None where somebody else makes them and cannot now."""
    if not isinstance(embedder, Distant):
        return embedder.embed(texts)
    try:
        return embedder.query(texts)
    except DeviceError:
        return None


def _content(query: str) -> str:
    """The query without function words, for the vectors."""
    kept = [query[word.start : word.end] for word in words(query) if not word.stop]
    return " ".join(kept) or query


def _once(hits: Sequence[Hit]) -> list[Hit]:
    """`hits` without those that say again what a better one says; of equal ones the newest stands first."""
    said: set[str] = set()
    kept = []
    for hit in hits:
        plain = "".join(filter(str.isalnum, hit.text.casefold())) or hit.text
        if plain not in said:
            said.add(plain)
            kept.append(hit)
    return kept


def _hit(doc: fts.Doc, score: float, cover: float) -> Hit:
    return Hit(doc.page, doc.seq, doc.role, doc.at, 0, score, cover, doc.text, doc.start, doc.end)
