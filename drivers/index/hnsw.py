"""Vector search: one space a process and area, exact while it is small, an HNSW graph above that.

Guarantees: up to `exact_max` vectors a space answers exactly, and the same whatever batches it was filled in, on any
host. Above it, the graph covers a prefix of the vectors and the rest is searched exactly, so a space never misses what
is new, and insertion into the graph (hundreds of microseconds each) is work for idle moments, never for the feed. The
graph may miss some of the nearest, and so may leave a place to the next one; the order and the cosines of what is found
are those of exact search.

Cosines are exact, so a ranking has no last bits to differ in. Vectors, queries too, are halves (float16): multiples of
2^-24, hence products multiples of 2^-48; and of unit vectors no sum of products, whole or partial, in whatever order,
reaches 2 (Cauchy and Schwarz; rounding to halves adds a thousandth). That is 49 bits, and float64 has 53: no addition
rounds, for any `dim`. To compare all in float64 would be slow, so float32, or the graph, chooses who is: everything
down to SLACK below its own k-th best, for it may have put both that one and another wrong by half as much.

A vector stands for a passage, and is numbered by its unit (fts.py).
On disk: table vec in the index's SQLite file holds the vectors, in chunks of one transaction; that is the truth of this
file. Graphs are files beside it, written aside and renamed, each with its count and checksum in table graph; one that
does not match is built again. hnswlib's graphs are not reproducible across save and load: hence exact_max.
hnswlib is compiled and an extra: where it is missing, all is exact, in a time that grows with the vectors.
Not here: threads and transactions (fused.py), what the vectors mean.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from drivers.disk.seal import checksum_of
from drivers.index.fts import PART_BITS, PAUSE_NS, Passage, Scope
from kernel import failpoint
from kernel.memory.page import Area

try:
    import hnswlib
except ModuleNotFoundError:  # an extra, for it is compiled: without it there are no graphs, and all is compared
    hnswlib = None

M: Final = 16  # links a vector
EF_CONSTRUCTION: Final = 100
EF: Final = 96  # breadth of a search, at least
SEED: Final = 1
GRAPH_COST: Final = 32  # vectors compared in the time of one place of a graph search's breadth: at 8,000 a tie
SLACK: Final = 2.0**-22  # by `dim`. A sum of dim products in float32 is off by dim * 2^-24 at most; twice that, doubled
COPIED_MAX: Final = 4_096  # vectors at once
SLICE: Final = 8  # vectors inserted into a graph at a stretch: about 3 ms, which a search may have to wait
LOADED_MIN: Final = 65_536  # vectors that may be in memory over all spaces, on any machine,
LOADED_SHARE: Final = 1 / 8  # or as many as fit in this share of its memory; the least used spaces go first
VECTOR_BYTES: Final = 2_304  # of one, here and in a graph with its links
SAVE_GROWTH: Final = 1.5  # a graph is saved when it has grown by this factor, and on close

SCHEMA: Final = """
CREATE TABLE vec(pid INTEGER NOT NULL, area TEXT NOT NULL, n INTEGER NOT NULL,
                 units BLOB NOT NULL, ats BLOB NOT NULL, halves BLOB NOT NULL);
CREATE INDEX vec_space ON vec(pid, area);
CREATE TABLE graph(pid INTEGER NOT NULL, area TEXT NOT NULL, n INTEGER NOT NULL, crc INTEGER NOT NULL,
                   PRIMARY KEY(pid, area));
"""

Floats = npt.NDArray[np.float32]
Halves = npt.NDArray[np.float16]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Chunk(msgspec.Struct, frozen=True):
    """Vectors added to one space at once, in order: units and times (n,) int64, halves (n, dim) float16."""

    pid: int
    area: Area
    units: Ints
    ats: Ints
    halves: Halves


class Space:
    """The vectors of one process and area, in the order of their units, which is that of time."""

    def __init__(self, dim: int, exact_max: int) -> None:
        self._dim = dim
        self._exact_max = exact_max
        self._units: Ints = np.empty(0, np.int64)
        self._ats: Ints = np.empty(0, np.int64)
        self._rows: Floats = np.empty((0, dim), np.float32)  # halves by value; like the others with room to grow
        self._sum = np.zeros(dim)  # of all vectors: exact, see the module's text
        self.n = 0
        self.built = 0  # vectors in the graph
        self.saved = 0  # of them on disk
        self._graph: Any = None

    def add(self, chunk: Chunk) -> None:
        """Append vectors; the graph is not touched. O(n) amortised."""
        more = len(chunk.units)
        self._units = _with_room(self._units, self.n, more)
        self._ats = _with_room(self._ats, self.n, more)
        self._rows = _with_room(self._rows, self.n, more)
        self._units[self.n : self.n + more] = chunk.units
        self._ats[self.n : self.n + more] = chunk.ats
        self._rows[self.n : self.n + more] = chunk.halves
        self._sum += np.add.reduce(chunk.halves, axis=0, dtype=np.float64)
        self.n += more

    @property
    def behind(self) -> int:
        """Vectors that the graph should have and has not."""
        return self.n - self.built if hnswlib is not None and self.n > self._exact_max else 0

    def build(self, most: int) -> None:
        """Insert up to `most` vectors into the graph. About 0.3 ms a vector."""
        more = min(most, self.behind)
        if not more:
            return
        if self._graph is None:
            self._graph = hnswlib.Index(space="ip", dim=self._dim)
            self._graph.init_index(2 * self.n, ef_construction=EF_CONSTRUCTION, M=M, random_seed=SEED)
            self._graph.set_num_threads(1)
        if self.built + more > self._graph.get_max_elements():
            self._graph.resize_index(2 * (self.built + more))
        rows = self._rows[self.built : self.built + more]
        self._graph.add_items(rows, np.arange(self.built, self.built + more), num_threads=1)
        self.built += more

    def search(self, vector: Floats, k: int, scope: Scope) -> list[tuple[int, float]]:
        """The `k` units of `scope` nearest to `vector` (dim,) with their cosines, best first; equal: newest first."""
        query = vector.astype(np.float16).astype(np.float32)
        allowed = self._allowed(scope)
        found = self._search_graph(query, k, allowed[: self.built])
        number, near = self._compare(query, allowed, 0 if found is None else self.built)
        if found is not None:
            number, near = np.concatenate((found[0], number)), np.concatenate((found[1], near))
        if len(number) > k:
            least = np.partition(near, len(near) - k)[len(near) - k]
            number = number[near >= least - SLACK * self._dim]
        cosine = _dots_of(self._rows, number, query.astype(np.float64))
        order = np.lexsort((-number, -cosine))[:k]
        return list(zip(self._units[number[order]].tolist(), cosine[order].tolist(), strict=True))

    @property
    def last(self) -> int:
        """The last unit that has its vector, as all before it have; -1: none."""
        return int(self._units[self.n - 1]) if self.n else -1

    def among(self, vector: Floats, content: Floats, units: Ints, upto: int) -> tuple[Doubles, Doubles]:
        """How near each of `units`, with its neighbours at half weight, is to a query: two cosines, (n,) each.

        To `vector`; and to `content`, after the mean of all vectors up to page `upto` has been taken off everything.
        Neighbours are of the same space, up to that page, and with no pause between. Exact but for the last division.
        """
        end = int(np.searchsorted(self._units[: self.n], (upto + 1) << PART_BITS))
        number = np.searchsorted(self._units[:end], units)
        assert (self._units[number] == units).all(), "it is of this space"
        mean = (self._sum - np.add.reduce(self._rows[end : self.n], axis=0, dtype=np.float64)) / max(1, end)
        middle = mean.astype(np.float16).astype(np.float64)
        asked, told = (one.astype(np.float16).astype(np.float64) for one in (vector, content))
        rows, share = [self._rows[number].astype(np.float64)], [np.ones(len(number))]
        for step in (-1, 1):
            other = np.clip(number + step, 0, end - 1)
            apart = np.abs(self._ats[other] - self._ats[number]) > PAUSE_NS
            rows.append(self._rows[other].astype(np.float64))
            share.append(np.where((other == number) | apart, 0.0, 0.5))
        to_asked, to_told, to_middle = (
            _weighed([np.vecdot(row, one) for row in rows], share) for one in (asked, told, middle)
        )
        square = np.zeros(len(number))
        for at in range(3):
            for beside in range(3):
                square += share[at] * share[beside] * np.vecdot(rows[at], rows[beside])
        parts = share[0] + share[1] + share[2]
        centre = float(np.vecdot(middle, middle))
        tilt = float(np.vecdot(told, told)) - 2 * float(np.vecdot(told, middle)) + centre
        lean = square - 2 * parts * to_middle + parts * parts * centre
        centred = to_told - to_middle - parts * float(np.vecdot(told, middle)) + parts * centre
        return _cosine(to_asked, square), _cosine(centred, np.maximum(0.0, lean) * max(0.0, tilt))

    def save(self, file: Path) -> int:
        """Write the graph to `file`, whole or not at all; returns its checksum."""
        aside = file.with_suffix(".part")
        self._graph.save_index(str(aside))
        if aside.stat().st_size != self._graph.index_file_size():  # a full disk: the library does not say so
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(aside))
        crc = checksum_of(aside)
        failpoint.passing("index.graph.inside")
        os.replace(aside, file)
        failpoint.passing("index.graph.after")
        self.saved = self.built
        return crc

    def load(self, file: Path, n: int, crc: int) -> None:
        """Take the graph of the first `n` vectors from `file`, if it is the one that was saved; else do nothing."""
        if hnswlib is None or n > self.n or not file.exists() or checksum_of(file) != crc:
            return
        graph = hnswlib.Index(space="ip", dim=self._dim)
        graph.load_index(str(file), max_elements=max(n, 2 * self.n))
        if graph.get_current_count() != n:
            return
        graph.set_num_threads(1)
        self._graph, self.built, self.saved = graph, n, n

    def _allowed(self, scope: Scope) -> npt.NDArray[np.bool_]:
        units, ats = self._units[: self.n], self._ats[: self.n]
        whole = not self.n or scope.upto >= units[-1] >> PART_BITS  # as nearly always: no look at a million numbers
        allowed = np.ones(self.n, bool) if whole else units < (scope.upto + 1) << PART_BITS
        if scope.since:
            allowed &= ats >= scope.since
        if scope.until:
            allowed &= ats < scope.until
        if scope.exclude:
            out = np.fromiter(scope.exclude, np.int64)
            firsts = np.searchsorted(units, out << PART_BITS)
            for first, last in zip(firsts, np.searchsorted(units, (out + 1) << PART_BITS), strict=True):
                allowed[first:last] = False
        return allowed

    def _compare(self, query: Floats, allowed: npt.NDArray[np.bool_], first: int) -> tuple[Ints, Floats]:
        """The allowed numbers from `first` on, with their cosines as float32 has them."""
        rows, number = self._rows[first : self.n], np.flatnonzero(allowed[first:])
        if len(number) == len(rows):
            near = _dots(rows, query)
        elif 4 * len(number) > len(rows):  # to compare them all takes less time than to copy these
            near = _dots(rows, query)[number]
        else:
            near = _dots_of(rows, number, query)
        return number + first, near

    def _search_graph(self, query: Floats, k: int, allowed: npt.NDArray[np.bool_]) -> tuple[Ints, Floats] | None:
        """Allowed numbers of the graph, the `k` nearest among them, and their cosines as float32 has them.

        None where comparing all takes less time or finds more: few are allowed, most of the nearest are not, so many
        are as near as the k-th that a graph would choose among them by its rounding, or it does not reach as many.
        """
        count = int(np.count_nonzero(allowed))
        if count <= self._exact_max:
            return None
        breadth = max(EF, 2 * (k + min(k, self.built - count)))
        while GRAPH_COST * breadth < self.built:
            self._graph.set_ef(breadth)
            try:
                labels, distances = self._graph.knn_query(query, k=breadth, num_threads=1)
            except RuntimeError:  # fewer than `breadth` vectors are reachable from the graph's entry
                return None
            found, near = labels[0].astype(np.int64), 1 - distances[0]  # the nearest first
            keep = allowed[found]
            if keep.sum() >= k and near[-1] < near[keep][k - 1] - SLACK * self._dim:
                return found[keep], near[keep]
            breadth *= 4
        return None


class Spaces:
    """All spaces of an index: the tables vec and graph of one SQLite connection, and the spaces that are loaded."""

    def __init__(self, connection: sqlite3.Connection, folder: Path, dim: int, exact_max: int) -> None:
        self._sql = connection
        self._folder = folder
        self._dim = dim
        self._exact_max = exact_max
        self._loaded: dict[tuple[int, Area], Space] = {}  # least recently used first
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self._loaded_max = max(LOADED_MIN, int(LOADED_SHARE * memory / VECTOR_BYTES))

    def add(self, passages: Sequence[Passage], vectors: Floats) -> list[Chunk]:
        """Store vectors (n, dim) of `passages`, inside the caller's transaction; `admit` what it returns afterwards."""
        members: dict[tuple[int, Area], list[int]] = {}
        for at, one in enumerate(passages):
            members.setdefault((one.page.pid, one.page.area), []).append(at)
        ids = np.fromiter((one.unit for one in passages), np.int64, len(passages))
        ats = np.fromiter((one.page.at for one in passages), np.int64, len(passages))
        halves = vectors.astype(np.float16)
        chunks = [Chunk(pid, area, ids[at], ats[at], halves[at]) for (pid, area), at in members.items()]
        self._sql.executemany(
            "INSERT INTO vec VALUES (?, ?, ?, ?, ?, ?)",
            [(c.pid, c.area, len(c.units), c.units.tobytes(), c.ats.tobytes(), c.halves.tobytes()) for c in chunks],
        )
        return chunks

    def admit(self, chunks: Sequence[Chunk]) -> None:
        """Append committed vectors to the spaces that are loaded."""
        for chunk in chunks:
            space = self._loaded.get((chunk.pid, chunk.area))
            if space is not None:
                space.add(chunk)

    def drop(self, pid: int) -> None:
        """Let go of the vectors of a process, inside the caller's transaction; `dropped` follows its commit."""
        for table in ("vec", "graph"):
            self._sql.execute(f"DELETE FROM {table} WHERE pid = ?", (pid,))

    def dropped(self, pid: int) -> None:
        """Let go of what else there is of such a process: its spaces in memory, and its graphs."""
        for area in Area:
            self._loaded.pop((pid, area), None)
            self._file(pid, area).unlink(missing_ok=True)

    def search(self, vector: Floats, k: int, scope: Scope) -> list[tuple[int, float]]:
        """The `k` units of `scope` nearest to `vector` (dim,) with their cosines, best first, over its areas."""
        found = [hit for area in scope.areas for hit in self._space(scope.pid, area).search(vector, k, scope)]
        return sorted(found, key=lambda hit: (-hit[1], -hit[0]))[:k]

    def among(
        self, vector: Floats, content: Floats, units: Mapping[Area, Sequence[int]], scope: Scope
    ) -> dict[int, tuple[float, float]]:
        """By unit, what Space.among says of those of each area that have a vector."""
        found: dict[int, tuple[float, float]] = {}
        for area, numbers in units.items():
            space = self._space(scope.pid, area)
            ids = np.fromiter((unit for unit in numbers if unit <= space.last), np.int64)
            near, centred = space.among(vector, content, ids, scope.upto)
            found.update(zip(ids.tolist(), zip(near.tolist(), centred.tolist(), strict=True), strict=True))
        return found

    def build(self) -> bool:
        """Insert one slice of vectors into a graph that is behind; False if none is."""
        for (pid, area), space in self._loaded.items():
            if space.behind:
                space.build(SLICE)
                if not space.behind and space.built > SAVE_GROWTH * space.saved:
                    self._save(pid, area, space)
                return True
        return False

    def close(self) -> None:
        """Save the graphs that have grown."""
        for (pid, area), space in self._loaded.items():
            if space.built > space.saved:
                self._save(pid, area, space)

    def _space(self, pid: int, area: Area) -> Space:
        space = self._loaded.pop((pid, area), None)
        if space is None:
            space = self._load(pid, area)
            held = space.n + sum(other.n for other in self._loaded.values())
            # Not the same process's: a search over both of its areas would load the one and drop the other for ever.
            for old_pid, old_area in [one for one in self._loaded if one[0] != pid]:
                if held <= self._loaded_max:
                    break
                old = self._loaded.pop((old_pid, old_area))
                if old.built > old.saved:
                    self._save(old_pid, old_area, old)
                held -= old.n
        self._loaded[pid, area] = space
        return space

    def _load(self, pid: int, area: Area) -> Space:
        space = Space(self._dim, self._exact_max)
        rows = self._sql.execute(
            "SELECT units, ats, halves FROM vec WHERE pid = ? AND area = ? ORDER BY rowid", (pid, area)
        ).fetchall()
        if rows:
            units, ats, halves = (b"".join(column) for column in zip(*rows, strict=True))
            space.add(
                Chunk(
                    pid,
                    area,
                    np.frombuffer(units, np.int64),
                    np.frombuffer(ats, np.int64),
                    np.frombuffer(halves, np.float16).reshape(-1, self._dim),
                )
            )
        if space.n > self._exact_max:
            row = self._sql.execute("SELECT n, crc FROM graph WHERE pid = ? AND area = ?", (pid, area)).fetchone()
            if row is not None:
                space.load(self._file(pid, area), *row)
        return space

    def _save(self, pid: int, area: Area, space: Space) -> None:
        crc = space.save(self._file(pid, area))
        self._sql.execute("INSERT OR REPLACE INTO graph VALUES (?, ?, ?, ?)", (pid, area, space.built, crc))

    def _file(self, pid: int, area: Area) -> Path:
        return self._folder / f"p{pid}-{area}.hnsw"


def _dots(rows: Floats, query: npt.NDArray[Any]) -> Any:
    """(n, dim) x (dim,) -> (n,) of `query`'s type; in float64 exactly, for halves of unit length.

    Row by row: BLAS over many rows has threads that spin when the machine is busy.
    """
    return np.vecdot(rows.astype(query.dtype, copy=False), query)


def _dots_of(rows: Floats, number: Ints, query: npt.NDArray[Any]) -> Any:
    """The same of the rows in `number`, some at a time: most of a million pages may be equally near."""
    dots = np.empty(len(number), query.dtype)
    for at in range(0, len(number), COPIED_MAX):
        dots[at : at + COPIED_MAX] = _dots(rows[number[at : at + COPIED_MAX]], query)
    return dots


def _weighed(parts: Sequence[Doubles], share: Sequence[Doubles]) -> Doubles:
    """The sum of three, by shares of 1 and a half: exact."""
    return parts[0] * share[0] + parts[1] * share[1] + parts[2] * share[2]


def _cosine(product: Doubles, squares: Doubles) -> Doubles:
    """`product` by the root of `squares`; 0 where that is nothing."""
    length = np.sqrt(squares)
    return np.divide(product, length, out=np.zeros_like(product), where=length > 0)


def _with_room(array: Any, used: int, more: int) -> Any:
    """`array` with room for `more` rows after the first `used`; at least doubled if it must grow."""
    if used + more <= len(array):
        return array
    bigger = np.empty((max(used + more, 2 * len(array)), *array.shape[1:]), array.dtype)
    bigger[:used] = array[:used]
    return bigger
