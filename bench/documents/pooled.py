"""All passages as one document: where the gold passage of a question stands among what the index finds, and what is
answered.

llmos   the document is put, and the question asked: demand paging brings in what it does
gold    the gold passage alone, as its line of the recall block
K       the K passages that the same index ranks first, likewise, cut by tokens where the window ends
Not here: how a reply is graded (nq.py), the table (run.py).
"""

from __future__ import annotations

import sqlite3
import tempfile
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import trio

from bench.documents import labels, nq
from bench.documents.placed import BEGINS
from bench.memory import live
from bench.memory.live import NAME, Clock
from bench.memory.rows import BASE, SPEAK, Processor
from drivers.embed.wordllama import WordLlamaEmbedder
from drivers.index import fts, hnsw, ranking, relevance
from kernel.event import Search
from kernel.limits import NS
from kernel.machine import views
from kernel.machine.loop import Machine
from kernel.memory.page import Area, FilePage, Kind, Origin, Role, Source
from kernel.paging.archive import searched
from kernel.settings import Settings, apply
from llmos.documents.pieces import lines_of, pieces
from llmos.documents.put import requests
from llmos.documents.read import Read

PATH: Final = "wikipedia.md"
RANKED: Final = 50  # passages
ALONE: Final = "memory.sure=0"  # the turn before stands with no question; see `alone`


class Told(msgspec.Struct, frozen=True):
    """The pool as a document: its text, and by passage the line where its heading stands."""

    text: str
    lines: tuple[int, ...]

    def passage(self, line: int) -> int:
        """Whose line it is."""
        return bisect_right(self.lines, line) - 1


def told(pool: nq.Pool) -> Told:
    """The pool as Markdown: a heading a passage."""
    lines, places = list[str](), list[int]()
    for passage in pool.passages:
        places.append(len(lines) + 1)
        lines += [f"# {' '.join(passage.title.split())}", "", *passage.text.splitlines(), ""]
    return Told("\n".join(lines), tuple(places))


def document(pool: Told) -> Read:
    """As `llmos put` reads it."""
    from llmos.documents import markdown

    lines = lines_of(pool.text)
    return Read(PATH, "0" * 32, tuple(pieces(lines, markdown.blocks(pool.text))))


class Ranker:
    """The index of a machine, over the pages that the document becomes, in memory."""

    def __init__(self, pool: Told) -> None:
        self._pool = pool
        sql = sqlite3.connect(":memory:", isolation_level=None)
        sql.executescript(fts.SCHEMA + hnsw.SCHEMA)
        embedder = WordLlamaEmbedder()
        spaces = hnsw.Spaces(sql, Path(tempfile.gettempdir()), embedder.dim, 1 << 20)  # exact: it keeps no graph there
        self._tables = ranking.Tables(fts.Lexical(sql), spaces, embedder)
        self._of: list[int] = []  # by page, its passage
        for number, piece in enumerate(document(pool).pieces, 1):
            source = Source(PATH, 1, piece.first, piece.last, False, piece.headings)
            fields = (number, 1, number, Kind.ARCHIVE, Origin.FILE, Role.USER, Area.ARCHIVE, BEGINS, piece.text)
            page = FilePage(*fields, searched(piece.text, source), source=source)
            self._of.append(pool.passage(piece.first))
            parts = fts.divided(page)
            self._tables.lexical.add(parts)
            vectors = embedder.embed([relevance.unlabelled(part.text) for part in parts])
            spaces.admit(spaces.add(parts, vectors))

    def __call__(self, question: str) -> list[int]:
        """Passages in the order in which their first page is found."""
        upto = len(self._of)
        what = Search(pid=1, req=1, area=(Area.ARCHIVE,), query=question, upto=upto, limit=2 * RANKED)
        hits = ranking.ranked(self._tables, what, ranking.scope_of(what, upto), question)
        return list(dict.fromkeys(self._of[hit.page - 1] for hit in hits))[:RANKED]


class Asking:
    """A machine with the document; `shown`: passages in view for the last question, `tokens`: of their lines."""

    def __init__(self, session: live.Session, pid: int, pool: Told) -> None:
        self._session, self._pid, self._pool = session, pid, pool
        self.shown: set[int] = set()
        self.tokens = 0

    async def ask(self, question: str) -> str:
        """What is replied."""
        session = self._session
        session.cpu.jobs.clear()
        await session.say(self._pid, question, session.clock.now + NS)
        said = views.outbox(session.machine.kernel, session.machine.disk, self._pid)
        if said:
            await session.machine.requests.acknowledge(self._pid, said[-1].seq)
        seen = [one for job in session.cpu.jobs[:1] for one in job.pages if one.recalled]
        self.tokens = sum(len(one.ids) for one in seen)
        self.shown = {
            self._pool.passage(one.page.source.first)
            for one in seen
            if isinstance(one.page, FilePage) and one.page.source is not None
        }
        return "\n".join(one.text for one in said)


def alone(machine: Machine) -> None:
    """Let no question of a machine's be taken as one about the turn before, as nobody's first question is."""
    search = machine.index.search
    machine.index.search = lambda what: search(msgspec.structs.replace(what, before=()))  # type: ignore[method-assign]


@asynccontextmanager
async def machine(
    model: Processor, window: int, pool: Told, changes: Sequence[str], tell: Callable[[str], None]
) -> AsyncIterator[Asking]:
    """A machine that was given the document, when all of it can be found."""
    own = [*BASE, ALONE, *changes]
    cpu = model(apply(Settings(window=window), own))
    with tempfile.TemporaryDirectory(prefix="llmos-documents-") as folder:
        async with live.session(Path(folder), cpu, Clock(BEGINS), window, own) as session:
            alone(session.machine)
            pid = await session.spawn(NAME, SPEAK)
            for one in requests(pid, document(pool)):
                asked = session.machine.requests
                await asked.put(pid, one.path, one.digest, one.part, one.parts, one.pieces, one.paged)
            index, kernel = session.machine.index, session.machine.kernel
            while index.applied < kernel.counters.page and not index.damaged:
                await trio.sleep(0.05)
            tell(f"window {window}: {kernel.counters.page} pages")
            yield Asking(session, pid, pool)


def lines(pool: nq.Pool, passages: Sequence[int]) -> list[str]:
    """Passages as lines of the recall block, as llmos labels them."""
    return [labels.labelled(labels.OWN, pool.passages[one]) for one in passages]
