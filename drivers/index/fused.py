"""The search index of a machine: words and vectors of its pages, derived from the disk's table `page`.

Guarantees: committed pages only, read from the disk and applied in id order by one thread, which alone touches SQLite
and the graphs; texts, words, vectors and the number of the last applied page change in one SQLite transaction. The
index is built anew when it is missing, damaged, ahead of the truth, of another truth, or made by another embedder; it
is never the reason why a kernel stops: a search that fails is answered late and empty, after an error in applying all
are, and the next start rebuilds.
A search sees the pages of its process with ids up to its `upto` and no others, whatever has been applied since: while
the vector spaces are exact its answer is a function of these pages alone, scores included: the same in whatever batches
they came, after a crash, and on any host. Nothing in a ranking depends on the order in which fractions are added.

Where somebody else makes the vectors (late.py), words do not wait for them: they are applied by themselves, and vectors
follow in id order, with the number of the last page that has them. A search waits VECTORS_S for those of its pages at
most, and not at all while they cannot be had; what has none is found by its words, as all is where the query has none.

SQLite's file has no checksums, its log has. So the file is written only when this module folds the log into it, and
its size and time are noted then (`index.stamp`): a file that differs at the next start was changed by something else,
and is not trusted. What stands in the log is trusted as far as its checksums go, and caught up from there. Under load
the log is folded in without fsync, which would stand in the way of the truth's; in the next idle moment once with it.
A file whose last fold was not synced is not trusted when the host has gone down since.

On disk: a folder with index.sqlite (tables of fts.py and hnsw.py, and `state`), its log and its stamp, graph files, and
a file `damaged` when the next start is to rebuild. All of it may be deleted while no kernel runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from drivers.disk import whole
from drivers.disk.seal import boot_of_host, checksum_of
from drivers.index import fts, hnsw, relevance
from drivers.index.late import Distant, Late
from drivers.index.ranking import Embedder, Tables, listed, merged, ranked, scope_of
from kernel import failpoint
from kernel.errors import DeviceError, KernelPanic
from kernel.event import Find, Hit, Search, Searched, SearchOf
from kernel.memory.page import Area, Page, gone
from kernel.memory.words import quoted, terms
from kernel.ports import Post, Reads, Sized
from kernel.records import file_of, page_of, pages_of

FORMAT: Final = 3  # of the SQLite file; another one is rebuilt
BATCH: Final = 128  # pages a transaction: a search waits for one batch at most, about 30 ms
LATE: Final = 32  # pages whose vectors are made somewhere else at once
VECTORS_S: Final = 2.0  # how long a search waits for them
TIDY_MIN: Final = 512  # pages indexed before segments are merged in idle moments,
TIDY_SHARE: Final = 0.125  # and their share of all: merging costs O(all)
LOG_BYTES: Final = 16 << 20  # of SQLite's log, at which it is folded into the file
FOUND_MAX: Final = 600  # hits of a search in documents that are looked at: as many as a word's matches
STAMP: Final = "index.stamp"
CLOSE_S: Final = 5.0  # how long `close` goes on applying; the next start catches up with the rest

SCHEMA: Final = "CREATE TABLE state(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"


class FusedIndex:
    """An Index in the folder `path`, derived from `disk`. Its methods never wait, `close` excepted."""

    def __init__(self, path: str | Path, disk: Reads, embedder: Embedder, exact_max: int = 4096) -> None:
        """`exact_max`: vectors of a process and area up to which vector search is exact."""
        self.applied = 0
        self.damaged = ""  # the first error; the next start rebuilds
        self.anew = False  # what lay in the folder was not trusted, or nothing did
        self.idle = False  # what was fed is applied, segments are merged, graphs are built
        self.embedded = 0  # last page that has its vectors, too
        self.trouble = ""  # why vectors cannot be had
        self._dead = False  # nothing can be applied any more, and nothing is answered
        self._folder = Path(path)
        self._disk = disk
        self._embedder = embedder
        self._exact_max = exact_max
        self._wake = threading.Condition()  # guards what follows
        self._late = Late(embedder, self._woken) if isinstance(embedder, Distant) else None
        self._batch: list[Page] = []  # what it is at, and the last page that then has its vectors
        self._upto = 0
        self._news = False  # from who makes them
        self._fed = 0  # highest page id known to be committed
        self._asked: list[_Asked] = []
        self._stop_at = 0.0  # monotonic second by which to stop; 0: go on
        self._thread = threading.Thread(target=self._serve, name="index", daemon=True)

    def start(self, post: Post, sized: Sized, changed: Callable[[], None] = lambda: None) -> None:
        """Catch up with the truth and begin to answer; `sized` gives hits the token counts that they carry.

        `changed` is called on the index's thread when `applied`, `damaged` or `idle` are new.
        """
        self._post, self._sized, self._changed = post, sized, changed
        last = self._disk.scan("page", reverse=True, limit=1)
        self._fed = int.from_bytes(last[0][0], "big") if last else 0
        self._thread.start()

    def feed(self, upto: int) -> None:
        """Pages up to this id are committed; returns at once."""
        with self._wake:
            self._fed = max(self._fed, upto)
            self._wake.notify()

    def search(self, what: Search) -> None:
        """Answer with one Searched event once `what.upto` is applied, or late after its deadline."""
        now = time.monotonic()
        deadline = now + what.deadline_s if what.deadline_s else float("inf")
        with self._wake:
            self._asked.append(_Asked(what, deadline, now + VECTORS_S))
            self._wake.notify()

    def lag(self) -> int:
        """Pages fed and not yet applied, by their ids."""
        return max(0, self._fed - self.applied)

    def close(self, *, at_once: bool = False) -> None:
        """Apply what was fed, for CLOSE_S at most; save, stop. Searches that still wait are not answered."""
        if not self._thread.is_alive():
            return
        with self._wake:
            self._stop_at = time.monotonic() + (0 if at_once else CLOSE_S)
            self._wake.notify()
        if self._late is not None:
            self._late.close()
        self._thread.join()

    def _serve(self) -> None:
        """The thread's life: ends when `close` was called and what was fed is applied, or its time is up."""
        store: _Store | None = None
        try:
            store = _Store.open(self._folder, self._disk, self._embedder, self._exact_max)
            self.applied, self.embedded, self.anew = store.applied, store.embedded, store.anew
            self._changed()
        except Exception as exc:  # the last ditch, here and below: a derived index never takes the kernel with it
            self._note(exc)
            self._dead = True
        rests = False  # nothing is left to be done here but what may come
        stop = False
        while not stop:
            ready, behind, stop = self._take(wait=rests or self._dead)
            for asked in ready:
                self._answer(store, asked)
            if self._late is not None and self._late.trouble != self.trouble:
                self.trouble = self._late.trouble
                self._changed()
            if store is None or self._dead or stop:
                continue
            try:
                if behind:
                    if pages := self._from_truth():
                        store.apply(pages)
                    self.applied = store.applied
                if self._late is not None:
                    self._embed(store, self._late)
                if behind or self.embedded != store.embedded:
                    self.embedded = store.embedded
                    self._changed()
                rests = not behind and not store.tidy()
                if (idle := rests and self.embedded == self.applied) != self.idle:
                    self.idle = idle
                    self._changed()
            except Exception as exc:
                self._note(exc)
                self._dead = True
        if store is not None:
            try:
                store.close(clean=not self.damaged)
            except Exception as exc:
                self._note(exc)

    def _take(self, *, wait: bool) -> tuple[list[_Asked], bool, bool]:
        """Searches to answer, whether there are pages to apply, whether to stop; with `wait`, once one is so."""
        with self._wake:
            while True:
                now = time.monotonic()
                due = float("inf") if self._dead else now
                ready = [one for one in self._asked if self._complete(one.what.upto) or self._due(one) <= due]
                work = not self._dead and self.applied < self._fed
                stop = bool(self._stop_at) and (not work or now >= self._stop_at)
                news, self._news = self._news, False
                if ready or work or stop or news or not wait:
                    break
                nearest = min((self._due(one) for one in self._asked), default=float("inf"))
                self._wake.wait(min(nearest - now, threading.TIMEOUT_MAX))
            if ready:
                answered = set(map(id, ready))
                self._asked = [one for one in self._asked if id(one) not in answered]
            return ready, work, stop

    def _complete(self, upto: int) -> bool:
        """Whether all that is to be had now of the pages up to this one is applied."""
        vectors = self._late is None or upto <= self.embedded or self._late.trouble
        return upto <= self.applied and bool(vectors)

    def _due(self, asked: _Asked) -> float:
        """The monotonic second from which on a search is answered, whatever is applied."""
        return min(asked.deadline, asked.words_by) if asked.what.upto <= self.applied else asked.deadline

    def _woken(self) -> None:
        """Vectors are here, or cannot be had for now: on the thread that asks for them."""
        with self._wake:
            self._news = True
            self._wake.notify()

    def _embed(self, store: _Store, late: Late) -> None:
        """Take vectors that are here, and have the next ones made."""
        if late.ready:
            store.settle(self._batch, late.take(), self._upto)
        if late.busy or store.embedded == store.applied:
            return
        found = self._disk.scan("page", _page_key(store.embedded + 1), limit=LATE)
        rows = [(row, value) for row, value in found if row <= _page_key(store.applied)]
        self._batch = [page for row, value in rows if (page := self._page(row, value)) is not None]
        self._upto = int.from_bytes(rows[-1][0], "big") if len(rows) == LATE else store.applied
        late.begin([relevance.unlabelled(one.text) for one in _indexed(self._batch)])

    def _from_truth(self) -> list[Page]:
        """The next committed pages."""
        found = self._disk.scan("page", _page_key(self.applied + 1), limit=BATCH)
        if not found:
            raise DeviceError(f"index: page {self._fed} was fed and is not on the disk")
        return [page for row, value in found if (page := self._page(row, value)) is not None]

    def _page(self, row: bytes, value: bytes) -> Page | None:
        """The page of a row that was read; None if it was removed since, with what it shows."""
        try:
            return page_of(value, self._disk.get)
        except KernelPanic:
            if self._disk.get("page", row) is None:
                return None
            raise

    def _answer(self, store: _Store | None, asked: _Asked) -> None:
        what = asked.what
        hits: list[Hit] = []
        more, late = False, True
        # The deadline bounds the wait for pages to be applied, not an answer that can be given now.
        if store is not None and not self._dead and what.upto <= self.applied:
            try:
                found, more = store.search(what)
                hits = self._sized(found)
                late = False
            except DeviceError:  # the truth could not be read just now: no fault of the index
                more = False
            except Exception as exc:
                self._note(exc)
                more = False
        self._post(Searched(pid=what.pid, req=what.req, hits=tuple(hits), more=more, late=late))

    def _note(self, exc: Exception) -> None:
        """Remember an error; if it was the index's own, let the next start rebuild."""
        self.damaged = self.damaged or f"{type(exc).__name__}: {exc}"
        if not isinstance(exc, DeviceError):
            with contextlib.suppress(OSError):
                whole.write(self._folder / "damaged", f"{self.damaged}\n".encode())
        self._changed()


class _Asked(msgspec.Struct, frozen=True, eq=False):
    """A search that waits, and the monotonic seconds after which it is answered late, or without some vectors."""

    what: Search
    deadline: float
    words_by: float


class _Store:
    """What the thread owns: one SQLite connection with its words, texts, vectors and graphs."""

    def __init__(self, folder: Path, disk: Reads, embedder: Embedder, exact_max: int) -> None:
        self._disk = disk
        self._embedder = embedder
        self._sql = sqlite3.connect(folder / "index.sqlite", isolation_level=None)
        self._lexical = fts.Lexical(self._sql)
        self.spaces = hnsw.Spaces(self._sql, folder, embedder.dim, exact_max)
        self.applied = 0
        self._distant = isinstance(embedder, Distant)
        self._embedded = 0  # last page that has its vectors, where they come later
        self._folder = folder
        self.anew = False
        self._synced = True  # the last fold was
        self._loose = 0  # pages indexed since the last tidying began
        self._tidying = False

    @classmethod
    def open(cls, folder: Path, disk: Reads, embedder: Embedder, exact_max: int) -> _Store:
        """The index in `folder`, or an empty one if what lies there cannot be trusted."""
        folder.mkdir(parents=True, exist_ok=True)
        stamp = None if (folder / "damaged").exists() else _read_stamp(folder)
        for trusted in (stamp is not None, False):
            if not trusted:
                for file in (*folder.glob("index.s*"), *folder.glob("p*.hnsw"), *folder.glob("p*.part")):
                    file.unlink()
                (folder / "damaged").unlink(missing_ok=True)
            store = cls(folder, disk, embedder, exact_max)
            store.anew = not trusted
            try:
                if not trusted:
                    store._create()
                elif not store._sound(folding=stamp is not None and stamp.folding):
                    store._sql.close()
                    continue
                return store
            except sqlite3.DatabaseError:
                store._sql.close()
                if not trusted:
                    raise
        raise AssertionError("an empty index is always sound")

    @property
    def embedded(self) -> int:
        """The last page that has its vectors."""
        return self._embedded if self._distant else self.applied

    def apply(self, pages: Sequence[Page]) -> None:
        """Index pages in id order: words, vectors and the number of the last one, in one transaction.

        Vectors that somebody else makes follow with `settle`.
        """
        indexed = _indexed(pages)
        vectors: hnsw.Floats | None = None
        if indexed and not self._distant:
            vectors = self._embedder.embed([relevance.unlabelled(one.text) for one in indexed])
        failpoint.passing("index.apply.before")
        with self._changing(pages, indexed, vectors) as removed:
            if indexed:
                self._lexical.add(indexed)
            for pid in removed:  # its pages are older than that which says so
                self._lexical.drop(pid)
            self._set("applied", pages[-1].id)
            self._set("digest", _digest(pages[-1]))
            failpoint.passing("index.apply.inside")
        failpoint.passing("index.apply.after")
        self.applied = pages[-1].id
        self._loose += len(indexed)

    def settle(self, pages: Sequence[Page], vectors: hnsw.Floats, upto: int) -> None:
        """Add the vectors of pages that were applied, in id order; then all up to page `upto` have theirs."""
        with self._changing(pages, _indexed(pages), vectors):
            self._set("embedded", upto)
        self._embedded = upto

    @contextlib.contextmanager
    def _changing(
        self, pages: Sequence[Page], indexed: Sequence[fts.Passage], vectors: hnsw.Floats | None
    ) -> Iterator[list[int]]:
        """A transaction that adds vectors, and drops those of who was removed, which it gives."""
        removed = [found[0] for page in pages if (found := gone(page)) is not None]
        self._sql.execute("BEGIN IMMEDIATE")
        try:
            chunks = [] if vectors is None or not indexed else self.spaces.add(indexed, vectors)
            for pid in removed:
                self.spaces.drop(pid)
            yield removed
            self._sql.execute("COMMIT")
        except BaseException:
            if self._sql.in_transaction:
                self._sql.execute("ROLLBACK")
            raise
        self.spaces.admit(chunks)
        for pid in removed:
            self.spaces.dropped(pid)
        with contextlib.suppress(FileNotFoundError):
            if (self._folder / "index.sqlite-wal").stat().st_size > LOG_BYTES:
                self._fold(sync=False)

    def _fold(self, *, sync: bool) -> None:
        """Fold the log into the file, and note how the file is left."""
        _write_stamp(self._folder, folding=True, synced=False)
        failpoint.passing("index.checkpoint.before")
        self._sql.execute(f"PRAGMA synchronous = {'NORMAL' if sync else 'OFF'}")
        self._sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        failpoint.passing("index.checkpoint.after")
        _write_stamp(self._folder, folding=False, synced=sync)
        self._synced = sync

    def tidy(self) -> bool:
        """Work for idle moments, some 10 ms of it; False if nothing is left to do."""
        if not self._tidying and self._loose >= TIDY_MIN and self._loose >= self.applied * TIDY_SHARE:
            self._loose = 0
            self._tidying = self._lexical.tidy(start=True)
            return True
        if self._tidying:
            self._tidying = self._lexical.tidy(start=False)
            return True
        if self.spaces.build():
            return True
        if not self._synced:
            self._fold(sync=True)
        return False

    def search(self, what: Search) -> tuple[list[Hit], bool]:
        """The hits of `what`, without token counts, and whether there are more. Raises DeviceError from the disk."""
        if isinstance(what, SearchOf):
            found = merged([self.search(one)[0] for one in what.each()])
            end = what.cursor + what.limit
            return found[what.cursor : end], len(found) > end
        scope, tables = scope_of(what, self.applied), Tables(self._lexical, self.spaces, self._embedder)
        if not what.query.strip() and not what.pages:
            hits = listed(tables, what, scope)
            return hits[: what.limit], len(hits) > what.limit
        query = _plain([*self._texts(what.pages), what.query])
        if isinstance(what, Find):
            whole = msgspec.structs.replace(what, cursor=0, limit=FOUND_MAX)
            hits = [hit for hit in ranked(tables, whole, scope, query) if self._of_document(hit.page, what.path)]
        else:
            hits = ranked(tables, what, scope, query, _plain(self._texts(what.before)))
        shown = hits[what.cursor : what.cursor + what.limit]
        if what.pages:  # a fault shows the page itself
            shown = [msgspec.structs.replace(hit, text="") for hit in shown]
        return shown, len(hits) > what.cursor + what.limit

    def close(self, *, clean: bool) -> None:
        """Save the graphs, unless something went wrong before, and fold the log into the file."""
        try:
            if clean:
                self.spaces.close()
                self._fold(sync=True)
        finally:
            self._sql.close()
            if clean:
                _write_stamp(self._folder, folding=False, synced=True)

    def _of_document(self, page: int, path: str) -> bool:
        """Whether a page is of a document, and of the one called `path`, if one is."""
        row = self._disk.get("page", _page_key(page))
        file = None if row is None else file_of(row)
        return file is not None and file.source is not None and path in ("", file.source.path)

    def _texts(self, pages: Sequence[int]) -> list[str]:
        return [page.searched for page in pages_of(self._disk, pages) if page is not None] if pages else []

    def _create(self) -> None:
        failpoint.passing("index.create")
        self._pragmas()
        self._sql.executescript(SCHEMA + fts.SCHEMA + hnsw.SCHEMA)
        self._sql.execute(f"PRAGMA user_version = {FORMAT}")
        self._set("embedder", self._embedder.name)
        if self._distant:
            self._set("embedded", 0)
        self._fold(sync=False)

    def _sound(self, *, folding: bool) -> bool:
        """Whether the file is of this format, by this embedder, and of this truth and not ahead of it.

        `folding`: it was killed while its log was folded in, and its stamp says nothing; then SQLite looks it through.
        """
        if self._sql.execute("PRAGMA user_version").fetchone()[0] != FORMAT:
            return False
        self._pragmas()
        state = dict(self._sql.execute("SELECT key, value FROM state").fetchall())
        if state.get("embedder") != self._embedder.name:
            return False
        if folding and self._sql.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            return False
        self.applied, self._embedded = state.get("applied", 0), state.get("embedded", 0)
        if not self.applied:
            return True
        value = self._disk.get("page", _page_key(self.applied))
        return value is not None and _digest(page_of(value, self._disk.get)) == state.get("digest")

    def _pragmas(self) -> None:
        """A log, folded in and synced by _fold alone: what a power cut takes of it the truth still has."""
        self._sql.execute("PRAGMA journal_mode = WAL")
        self._sql.execute("PRAGMA synchronous = OFF")
        self._sql.execute("PRAGMA wal_autocheckpoint = 0")  # it is folded in by _fold alone
        self._sql.execute("PRAGMA cache_size = -32768")  # 32 MiB
        self._sql.execute("PRAGMA temp_store = MEMORY")

    def _set(self, key: str, value: object) -> None:
        self._sql.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (key, value))


def verify(folder: Path, disk: Reads) -> list[str]:
    """What an index of which no kernel makes use has wrong, in one line each; lagging behind is no fault of it.

    Its texts are those of the truth, each is found by a word of its own, each has a vector, and its graphs are those it
    saved. O(all), about 50 us a page. An index that its next start would build anew is not looked at further.
    """
    if not (folder / "index.sqlite").exists():
        return ["there is none; the next start builds it"]
    if _read_stamp(folder) is None or (folder / "damaged").exists():
        return ["it is damaged, or not as it was left; the next start builds it anew"]
    sql = sqlite3.connect(f"file:{folder / 'index.sqlite'}?mode=ro", uri=True)
    try:
        return _verify(sql, folder, disk)
    except (sqlite3.Error, ValueError) as exc:
        return [f"it cannot be read: {exc}"]
    finally:
        sql.close()


def _verify(sql: sqlite3.Connection, folder: Path, disk: Reads) -> list[str]:
    found = [f"SQLite: {row[0]}" for row in sql.execute("PRAGMA integrity_check(5)") if row[0] != "ok"]
    applied = (sql.execute("SELECT value FROM state WHERE key = 'applied'").fetchone() or (0,))[0]
    later = sql.execute("SELECT value FROM state WHERE key = 'embedded'").fetchone()
    embedded = applied if later is None else later[0]  # pages behind it are to get their vectors
    removed = dict(_removed(disk))
    late = {pid for pid, page in removed.items() if page > embedded}  # what it has of them is yet to go
    vectors: set[int] = set()
    for pid, n, units in sql.execute("SELECT pid, n, units FROM vec"):
        if pid in late:
            continue
        numbers = [int.from_bytes(units[at : at + 8], "little") for at in range(0, len(units), 8)]
        if len(numbers) != n or not vectors.isdisjoint(numbers):
            found.append("a chunk of vectors has another length than it says, or passages of another one")
        vectors.update(numbers)
    start, indexed, due = 1, 0, 0
    while start <= applied and (rows := disk.scan("page", _page_key(start), limit=BATCH)):
        for _, value in rows:
            page = page_of(value, disk.get)
            start = page.id + 1
            if page.area is Area.NONE or page.id > applied or page.pid in removed:
                continue  # of who was removed a page may stay that a fork shows
            for one in fts.divided(page):
                indexed += 1
                due += page.id <= embedded
                key = fts.key_of(page.pid, one.unit)
                row = sql.execute("SELECT text, area, seq, start, end FROM doc WHERE key = ?", (key,)).fetchone()
                if row != (one.text, page.area, page.seq, one.start, one.end):
                    found.append(f"page {page.id}: its text is missing or another")
                elif (one.unit in vectors) != (page.id <= embedded):
                    found.append(f"page {page.id}: it has no vector")
                elif not _found_by_word(sql, key, one.text):
                    found.append(f"page {page.id}: none of its words leads to it")
    have = sum(n for pid, n in sql.execute("SELECT pid, count(*) FROM doc GROUP BY pid") if pid not in late)
    if (have, len(vectors)) != (indexed, due):
        found.append(f"it holds {have} texts and {len(vectors)} vectors of {indexed} passages")
    for pid, area, crc in sql.execute("SELECT pid, area, crc FROM graph"):
        file = folder / f"p{pid}-{area}.hnsw"
        if not file.exists() or checksum_of(file) != crc:
            found.append(f"graph {file.name}: it is missing or another; it is built again when it is wanted")
    return found


def _removed(disk: Reads) -> Iterator[tuple[int, int]]:
    """The processes that were removed, each with the page that says so."""
    start = 1
    while rows := disk.scan("page", _page_key(start), limit=BATCH):
        for _, value in rows:
            page = msgspec.msgpack.decode(value, type=Page)
            start = page.id + 1
            if (found := gone(page)) is not None:
                yield found[0], page.id


def _found_by_word(sql: sqlite3.Connection, key: int, text: str) -> bool:
    known = terms(text)
    if not known:
        return True
    one = quoted(max(known, key=lambda term: (len(term), term)))
    return sql.execute("SELECT 1 FROM fts WHERE fts MATCH ? AND rowid = ?", (one, key)).fetchone() is not None


def _indexed(pages: Sequence[Page]) -> list[fts.Passage]:
    """The passages of pages that can be found."""
    return [one for page in pages if page.area is not Area.NONE for one in fts.divided(page)]


class _Stamp(msgspec.Struct, frozen=True):
    """How index.sqlite was left when its log was last folded into it. `folding`: that had begun. `host`: its boot."""

    size: int
    mtime_ns: int
    folding: bool
    synced: bool
    host: str


def _write_stamp(folder: Path, *, folding: bool, synced: bool) -> None:
    seen = (folder / "index.sqlite").stat()
    stamp = _Stamp(seen.st_size, seen.st_mtime_ns, folding, synced, boot_of_host())
    whole.write(folder / STAMP, msgspec.json.encode(stamp), sync=False)


def _read_stamp(folder: Path) -> _Stamp | None:
    """The stamp of a file that can be trusted; None if there is none, or the file is not as it was left."""
    try:
        stamp = msgspec.json.decode((folder / STAMP).read_bytes(), type=_Stamp)
        seen = (folder / "index.sqlite").stat()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    if not stamp.synced and stamp.host != boot_of_host():
        return None
    return stamp if stamp.folding or (stamp.size, stamp.mtime_ns) == (seen.st_size, seen.st_mtime_ns) else None


def _plain(texts: Sequence[str]) -> str:
    """Texts as one that any library takes."""
    return "\n".join(texts).strip().encode("utf-8", "replace").decode()


def _page_key(page: int) -> bytes:
    return page.to_bytes(8, "big")


def _digest(page: Page) -> bytes:
    """What tells a page from one of the same id in another truth."""
    return hashlib.blake2b(msgspec.msgpack.encode(page), digest_size=16).digest()
