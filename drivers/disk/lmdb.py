"""The truth on disk: one LMDB environment a machine, tables as named sub-databases, one transaction a commit.

Guarantees: `commit` is all or nothing, and its transaction begins and ends inside the one call, on whatever thread that
is (a write transaction ended on another thread hangs the next writer for ever). A failed commit leaves the commit
before it as the state. Each read is its own short transaction, so no reader keeps freed pages alive. One kernel a
directory: `kernel.lock` is held by flock for as long as the disk is open, and says who holds it.

Durability by `sync`: `full` and `group` fsync data and meta page in each commit (they differ in how many steps the
machine puts into one). `off` still fsyncs the data, but leaves the meta page to the operating system: a power cut may
lose the last commits, and never damages the file, which LMDB's NOSYNC could. A killed kernel loses nothing in any mode.

The map is address space, not disk: sparse, doubled between transactions when it is full. Never writemap, which turns a
full disk into SIGBUS. On disk: data.mdb and lock.mdb (LMDB's), kernel.lock (ours), key `format` in table meta.
Not here: what the tables hold (machine.py), derived indexes (index.py).
"""

from __future__ import annotations

import abc
import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import lmdb

from kernel.errors import BadInput, DeviceError
from kernel.ports import Record

TABLES: Final = ("meta", "journal", "proc", "page", "ids", "outbox", "timer", "mid", "set")
FORMAT_KEY: Final = b"format"
FORMAT: Final = b"1"
MAP_BYTES: Final = 1 << 30  # first map, 1 GiB of address space
MAP_BYTES_MAX: Final = 1 << 46  # 64 TiB: half of what x86-64 can address; a commit that needs more is a bug
READERS_MAX: Final = 512  # reader slots; each thread that reads holds at most one

Sync = Literal["full", "group", "off"]


class _Reads(abc.ABC):
    """The reading half of a disk. Each method is one transaction of its own."""

    _tables: dict[str, Any]

    @abc.abstractmethod
    def _reading(self) -> contextlib.AbstractContextManager[Any]:
        """A transaction to read in. Raises DeviceError, also for what goes wrong within it."""

    def get(self, table: str, key: bytes) -> bytes | None:
        """The committed value of a key."""
        with self._reading() as txn:
            value: bytes | None = txn.get(key, db=self._tables[table])
            return value

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The committed values of several keys, in the order of `keys`, in one read."""
        with self._reading() as txn:
            db = self._tables[table]
            return [txn.get(key, db=db) for key in keys]

    def scan(
        self, table: str, start: bytes = b"", *, reverse: bool = False, limit: int = 0
    ) -> list[tuple[bytes, bytes]]:
        """Committed pairs from `start` on in key order (`reverse`: from the end, or from `start` down); 0: all."""
        found: list[tuple[bytes, bytes]] = []
        with self._reading() as txn, txn.cursor(db=self._tables[table]) as cursor:
            if reverse:
                ok = cursor.last() if not start else _at_or_below(cursor, start)
                pairs = cursor.iterprev() if ok else iter(())
            else:
                ok = cursor.set_range(start) if start else cursor.first()
                pairs = cursor.iternext() if ok else iter(())
            for pair in pairs:
                found.append(pair)
                if len(found) == limit:
                    break
        return found


class LmdbReader(_Reads):
    """What another process has committed to the disk at `path`, which it holds open. Read only; any thread."""

    def __init__(self, path: str | Path) -> None:
        """Raises BadInput if there is no such disk."""
        self.path = Path(path)
        file = self.path / "data.mdb"
        try:
            self._env = lmdb.open(
                str(path), readonly=True, create=False, max_dbs=len(TABLES), max_readers=READERS_MAX, readahead=False
            )
            self._tables = {name: self._env.open_db(name.encode(), create=False) for name in TABLES}
        except lmdb.Error as exc:
            raise BadInput(f"{file} cannot be read as a machine's disk: {exc}") from exc

    def close(self) -> None:
        """Let go of the file."""
        self._env.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Any]:
        try:
            with self._begin() as txn:
                yield txn
        except lmdb.Error as exc:
            raise DeviceError(f"disk: reading {self.path} failed: {exc}") from exc

    def _begin(self) -> Any:
        try:
            return self._env.begin()
        except lmdb.MapResizedError:  # the writer's map has grown: take its size
            self._env.set_mapsize(0)
            return self._env.begin()


class LmdbDisk(_Reads):
    """A Disk in a directory. `commit` blocks for the fsync (milliseconds): call it in a worker thread."""

    blocking = True

    def __init__(self, path: str | Path, sync: Sync = "group", create: bool = True) -> None:
        """Open the directory at `path`, or with `create` make it.

        Raises BadInput in one line if it is in use, unwritable, of another format, or not a machine's directory.
        """
        self.path = Path(path)
        self._gate = _Gate()
        self._closed = False
        if not create and not (self.path / "data.mdb").exists():
            raise BadInput(f"{self.path} holds no machine; boot one there first, or name another directory")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.path)
        except OSError as exc:
            raise BadInput(f"{self.path} cannot be written: {exc.strerror}; name a directory that can") from exc
        try:
            self._env = _environment(self.path, sync)
            try:
                self._tables = _tables(self._env, self.path)
            except BaseException:
                self._env.close()
                raise
        except BaseException:
            os.close(self._lock)
            raise

    def commit(self, records: Sequence[Record]) -> None:
        """Write all or nothing, in order. Raises DeviceError; then the commit before this one is the state."""
        while True:  # ends: done, failed, or the map has doubled to MAP_BYTES_MAX
            try:
                with self._gate.shared(), self._env.begin(write=True) as txn:
                    for record in records:
                        table = self._tables[record.table]
                        if record.value is None:
                            txn.delete(record.key, db=table)
                        else:
                            txn.put(record.key, record.value, db=table)
                return
            except lmdb.MapFullError as exc:
                self._grow(exc)
            except lmdb.Error as exc:
                raise DeviceError(f"disk: commit to {self.path} failed, nothing of it was written: {exc}") from exc

    def close(self) -> None:
        """Flush and let go of the directory. Again has no effect."""
        if self._closed:
            return
        self._closed = True
        with self._gate.alone():
            try:
                self._env.sync(True)
            except lmdb.Error as exc:
                raise DeviceError(f"disk: the last flush of {self.path} failed: {exc}") from exc
            finally:
                self._env.close()
                os.close(self._lock)  # gives the flock back

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Any]:
        try:
            with self._gate.shared(), self._env.begin() as txn:
                yield txn
        except lmdb.Error as exc:
            raise DeviceError(f"disk: reading {self.path} failed: {exc}") from exc

    def _grow(self, full: lmdb.MapFullError) -> None:
        with self._gate.alone():  # LMDB moves the map: no transaction of this process may be open
            size = self._env.info()["map_size"] * 2
            if size > MAP_BYTES_MAX:
                raise DeviceError(f"disk: {self.path} needs a map over {MAP_BYTES_MAX} bytes") from full
            try:
                self._env.set_mapsize(size)
            except lmdb.Error as exc:
                raise DeviceError(f"disk: the map of {self.path} cannot grow to {size} bytes: {exc}") from exc


class _Gate:
    """Many transactions or one change of the map. One that waits to be alone lets no new transaction in."""

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._inside = 0
        self._waiting = 0

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        with self._free:
            while self._waiting:
                self._free.wait()
            self._inside += 1
        try:
            yield
        finally:
            with self._free:
                self._inside -= 1
                if not self._inside:
                    self._free.notify_all()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        with self._free:
            self._waiting += 1
            try:
                while self._inside:
                    self._free.wait()
                yield
            finally:
                self._waiting -= 1
                self._free.notify_all()


def _lock(path: Path) -> int:
    """Take `kernel.lock` and write our process id into it; returns the file descriptor that holds it."""
    fd = os.open(path / "kernel.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.write(fd, str(os.getpid()).encode())
    except OSError as exc:
        holder = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        if exc.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        raise BadInput(f"{path} is in use by process {holder}; stop it first, or name another directory") from exc
    return fd


def _environment(path: Path, sync: Sync) -> lmdb.Environment:
    """Open LMDB in `path`. Raises BadInput if what lies there is no LMDB file, or a cut one."""
    file = path / "data.mdb"
    size = file.stat().st_size if file.exists() else 0
    map_bytes = MAP_BYTES
    while map_bytes < 2 * size:
        map_bytes *= 2
    try:
        env = lmdb.open(
            str(path),
            map_size=map_bytes,
            max_dbs=len(TABLES),
            max_readers=READERS_MAX,
            metasync=sync != "off",
            readahead=False,  # reads are of scattered small records
        )
        env.reader_check()  # slots of readers that were killed
    except lmdb.Error as exc:
        raise BadInput(f"{file} cannot be opened as a machine's disk: {_reason(exc, size)}") from exc
    need = (env.info()["last_pgno"] + 1) * env.stat()["psize"] if size else 0
    if size < need:  # reading past the end of a mapped file is SIGBUS, not an error
        env.close()
        raise BadInput(f"{file} is cut short: {size} bytes of {need}; restore it from a copy")
    return env


def _reason(exc: lmdb.Error, size: int) -> str:
    if isinstance(exc, lmdb.InvalidError | lmdb.VersionMismatchError | lmdb.CorruptedError) or 0 < size < 8192:
        return "it is not an LMDB file of this version; move it away, or name another directory"
    return str(exc)


def _tables(env: lmdb.Environment, path: Path) -> dict[str, Any]:
    """Open all tables, of a new directory after writing its format. Raises BadInput for another format."""
    try:
        with env.begin() as txn:
            fresh = txn.stat()["entries"] == 0
            meta = None if fresh else env.open_db(b"meta", txn=txn, create=False)
            found = None if meta is None else txn.get(FORMAT_KEY, db=meta)
        if not fresh and found != FORMAT:
            shown = "unknown" if found is None else found.decode(errors="replace")
            raise BadInput(f"{path} has format version {shown}; this llmos reads version {FORMAT.decode()}")
        with env.begin(write=True) as txn:
            tables = {name: env.open_db(name.encode(), txn=txn) for name in TABLES}
            if fresh:
                txn.put(FORMAT_KEY, FORMAT, db=tables["meta"])
    except lmdb.NotFoundError as exc:
        raise BadInput(f"{path / 'data.mdb'} was not made by llmos; name another directory") from exc
    except lmdb.Error as exc:
        raise BadInput(f"{path / 'data.mdb'} cannot be used as a machine's disk: {exc}") from exc
    return tables


def _at_or_below(cursor: Any, start: bytes) -> bool:
    """Place `cursor` on the last key that is not above `start`."""
    if not cursor.set_range(start):
        return bool(cursor.last())
    return bool(cursor.key() == start or cursor.prev())
