"""The truth on disk: one LMDB environment a machine, tables as named sub-databases, one transaction a commit.

Guarantees: `commit` is all or nothing, and its transaction begins and ends inside the one call, on whatever thread that
is (a write transaction ended on another thread hangs the next writer for ever). A failed commit leaves the commit
before it as the state. Each read is its own short transaction, so no reader keeps freed pages alive. One kernel a
machine: data.mdb itself is held by flock for as long as the disk is open, so no other path to it, no other link and no
copied or missing file beside it lets a second one in; and a commit whose file is no longer the one at its path fails.

Durability by `sync`: `full` and `group` fsync data and meta page in each commit (they differ in how many steps the
machine puts into one). `off` still fsyncs the data, but leaves the meta page to the operating system: a power cut may
lose the last commits, and never damages the file, which LMDB's NOSYNC could. A killed kernel loses nothing in any mode.
docs/durability.md says what a client may rely on.

The map is address space, not disk: sparse, doubled between transactions when it is full. Never writemap, which turns a
full disk into SIGBUS. On disk: data.mdb and lock.mdb (LMDB's), kernel.left (ours), key `format` in table meta. Every
record carries a checksum (seal.py). LMDB trusts its file, so one that was not left by a clean end, or is not as it was
left, is walked over (walk.py) in a process of its own before LMDB opens it.
A reader of another process that holds on to an old snapshot keeps every page freed since from being used again. One
that makes the file grow past READER_GROWTH is ended with SIGKILL: readers are copies, and can begin again.
Not here: what the tables hold (kernel/records.py), derived indexes (drivers/index).
"""

from __future__ import annotations

import abc
import contextlib
import errno
import fcntl
import itertools
import os
import shutil
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import lmdb

from drivers.disk.left import LEFT, leave, reason_to_walk
from drivers.disk.seal import FORMAT, FORMAT_KEY, LATER, SEALED, UNSEALED, seal, unseal
from drivers.disk.walk import Walked, walk_apart
from kernel import failpoint
from kernel.errors import BadInput, DeviceError, InUse
from kernel.ports import Record
from kernel.records import TABLES

READERS_LOOK: Final = 256  # commits between two looks at the readers of other processes
READER_GROWTH: Final = 256 << 20  # bytes by which the file may grow because of one reader, or its own size if larger
MAP_BYTES: Final = 1 << 30  # first map, 1 GiB of address space
MAP_BYTES_MAX: Final = 1 << 46  # 64 TiB: half of what x86-64 can address; a commit that needs more is a bug
READERS_MAX: Final = 512  # reader slots; each thread that reads holds at most one
LOCK_TRIES: Final = 25  # somebody may only be looking whether the file is held
LOCK_S: Final = 0.02  # between two of them
LOCKS: Final = Path("/proc/locks")  # where Linux says who holds what
LOCK_BYTES: Final = 40_960  # of lock.mdb: a cache line a reader slot, and a head

Sync = Literal["full", "group", "off"]


class _Reads(abc.ABC):
    """The reading half of a disk. Each method is one transaction of its own."""

    path: Path
    _env: Any
    _tables: dict[str, Any]

    @abc.abstractmethod
    def _reading(self) -> contextlib.AbstractContextManager[Any]:
        """A transaction to read in. Raises DeviceError, also for what goes wrong within it."""

    def _has(self, table: str) -> bool:
        """Whether there is such a table: one of LATER is empty until the machine's next boot."""
        return table in self._tables or table not in LATER

    def get(self, table: str, key: bytes) -> bytes | None:
        """The committed value of a key."""
        with self._reading() as txn:
            raw: bytes | None = txn.get(key, db=self._tables[table]) if self._has(table) else None
            return None if raw is None else unseal(table, key, raw)

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The committed values of several keys, in the order of `keys`, in one read."""
        if not self._has(table):
            return [None] * len(keys)
        with self._reading() as txn:
            found = [txn.get(key, db=self._tables[table]) for key in keys]
        return [None if raw is None else unseal(table, key, raw) for key, raw in zip(keys, found, strict=True)]

    def scan(
        self, table: str, start: bytes = b"", *, reverse: bool = False, limit: int = 0
    ) -> list[tuple[bytes, bytes]]:
        """Committed pairs from `start` on in key order (`reverse`: from the end, or from `start` down); 0: all."""
        found: list[tuple[bytes, bytes]] = []
        if not self._has(table):
            return found
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
        return [(key, unseal(table, key, raw)) for key, raw in found]

    def size(self, table: str) -> int:
        """Bytes of the pages that a table takes of the file."""
        if not self._has(table):
            return 0
        with self._reading() as txn:
            stat = txn.stat(self._tables[table])
        return int(stat["psize"] * (stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]))

    def copy(self, file: Path) -> None:
        """Write the newest snapshot to `file`, without the free pages. LMDB's own copy: writers go on meanwhile.

        Raises DeviceError, and OSError where `file` cannot be made.
        """
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with self._reading():
                pass  # takes the size of a map that has grown
            self._env.copyfd(fd, compact=True)
            os.fsync(fd)
        except lmdb.Error as exc:
            raise DeviceError(f"disk: copying {self.path} failed: {exc}") from exc
        finally:
            os.close(fd)


class LmdbReader(_Reads):
    """What another process has committed to the disk at `path`, which it holds open. Read only; any thread."""

    def __init__(self, path: str | Path) -> None:
        """Raises BadInput if there is no such disk."""
        self.path = Path(path)
        file = self.path / "data.mdb"
        _room_for_lock(self.path)
        try:
            self._env = lmdb.open(
                str(path), readonly=True, create=False, max_dbs=len(TABLES), max_readers=READERS_MAX, readahead=False
            )
            self._tables = {"meta": self._env.open_db(b"meta", create=False)}
            with self._env.begin() as txn:
                version = txn.get(FORMAT_KEY, db=self._tables["meta"])
            if version not in SEALED:
                raise BadInput(f"{file} has format {version!r}, not {FORMAT!r}: boot the machine once to upgrade it")
            for name in TABLES:
                with contextlib.suppress(*((lmdb.NotFoundError,) if name in LATER else ())):
                    self._tables[name] = self._env.open_db(name.encode(), create=False)
        except UnicodeError as exc:
            raise BadInput(f"{file}: LMDB opens names in UTF-8 only; name another directory") from exc
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

    def __init__(
        self, path: str | Path, sync: Sync = "group", create: bool = True, walk: Callable[..., Walked] = walk_apart
    ) -> None:
        """Open the directory at `path`, or with `create` make it; one of an older format is brought up to this one.

        Raises BadInput in one line if it is in use, unwritable, damaged, of a newer format, or no machine's directory.
        `walk` is how a file that was not left well is examined.
        """
        self.path = Path(path)
        self.walked: Walked | None = None  # what had to be walked over before it was opened
        self._commits = 0
        self._reader = (0, 0)  # of another process's, the oldest snapshot that is still read, and the file's size then
        self._gate = _Gate()
        self._closed = False
        if not create and not (self.path / "data.mdb").exists():
            raise BadInput(f"{self.path} holds no machine; boot one there first, or name another directory")
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _lock(self.path)
        except OSError as exc:
            raise BadInput(f"{self.path} cannot be written: {exc.strerror}; name a directory that can") from exc
        try:
            began = time.perf_counter()
            self.walked = _examine(self.path, walk)
            self.walk_s = time.perf_counter() - began
            self._env = _environment(self.path, sync)
            try:
                found = _tables(self._env, self.path)
                if found is None:
                    self._env.close()
                    upgrade(self.path)
                    anew = _lock(self.path)
                    os.close(self._lock)
                    self._lock = anew
                    self._env = _environment(self.path, sync)
                    found = _tables(self._env, self.path)
                    assert found is not None
                self._tables = found
                with contextlib.suppress(OSError):  # then the file's time tells that it was written
                    leave(self.path, ended=False)
            except BaseException:
                self._env.close()
                raise
        except OSError as exc:
            os.close(self._lock)
            raise BadInput(f"{self.path} cannot be written: {exc.strerror}; name a directory that can") from exc
        except BaseException:
            os.close(self._lock)
            raise

    def commit(self, records: Sequence[Record]) -> None:
        """Write all or nothing, in order. Raises DeviceError; then the commit before this one is the state."""
        while True:  # ends: done, failed, or the map has doubled to MAP_BYTES_MAX
            try:
                failpoint.passing("commit.before")
                with self._gate.shared(), self._env.begin(write=True) as txn:
                    for record in records:
                        table = self._tables[record.table]
                        if record.value is None:
                            txn.delete(record.key, db=table)
                        else:
                            txn.put(record.key, seal(record.table, record.key, record.value), db=table)
                    failpoint.passing("commit.inside")
                self._still_there()
                failpoint.passing("commit.after")
                self._commits += 1
                if self._commits % READERS_LOOK == 0:
                    self._look_at_readers()
                return
            except lmdb.MapFullError as exc:
                self._grow(exc)
            except (lmdb.Error, OSError) as exc:
                raise DeviceError(f"disk: commit to {self.path} failed, nothing of it was written: {exc}") from exc

    def copy(self, file: Path) -> None:
        """As a reader's, while the map stays as it is."""
        with self._gate.shared():
            super().copy(file)

    def replace(self, file: Path) -> None:
        """Put `file`, a copy of this disk without its free pages, in its place, and let go of the directory."""
        with self._gate.alone():
            anew = _hold(file)  # before it has the name, so that nobody comes in between
            try:
                self._env.close()
                self._closed = True
                os.replace(file, self.path / "data.mdb")
                (self.path / "lock.mdb").unlink(missing_ok=True)  # its readers were of the other file
                leave(self.path, ended=True)
            finally:
                os.close(anew)
                os.close(self._lock)

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
            else:
                self._env.close()
                with contextlib.suppress(OSError, DeviceError):  # then the next start walks
                    self._still_there()
                    leave(self.path, ended=True)
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

    def _still_there(self) -> None:
        """Raises DeviceError if the file at this path is not the one that is open: the next boot would not find it."""
        file = self.path / "data.mdb"
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(file, follow_symlinks=False), os.fstat(self._lock)):
                return
        raise DeviceError(
            f"disk: {file} was deleted, moved or replaced under the running kernel; nothing more is accepted"
        )

    def _look_at_readers(self) -> None:
        """End the oldest reader of another process if the file has grown too much since it began."""
        mine, readers = os.getpid(), _readers(self._env.readers())
        pid, snapshot = min(((p, t) for p, t in readers if p != mine), key=lambda one: one[1], default=(0, 0))
        size = (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]
        if snapshot != self._reader[0]:
            self._reader = (snapshot, size)
        elif snapshot and size - self._reader[1] > max(READER_GROWTH, self._reader[1]):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            self._env.reader_check()
            self._reader = (0, 0)

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
    """Hold the data.mdb in `path`, made if there is none; returns the file descriptor that does.

    The lock is the file's own, whichever path leads to it. Raises InUse, BadInput for a link or what is no file, and
    OSError.
    """
    file = path / "data.mdb"
    while True:  # ends: each turn but the last needs another file to have been put there meanwhile
        fd = _hold(file, os.O_CREAT)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(file, follow_symlinks=False), os.fstat(fd)):
                return fd
        os.close(fd)


def _hold(file: Path, flags: int = 0) -> int:
    fd = _opened(file, os.O_RDWR | flags)
    try:
        for left in reversed(range(LOCK_TRIES)):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return fd
            except BlockingIOError:
                if not left:
                    raise InUse(
                        f"{file.parent} is in use by process {holder(fd) or 'unknown'}; stop it first, "
                        "or name another directory"
                    ) from None
            time.sleep(LOCK_S)
        raise AssertionError("the last try returns or raises")
    except BaseException:
        os.close(fd)
        raise


def _opened(file: Path, flags: int) -> int:
    """A descriptor of a file that is no link, and neither a device nor a pipe. Raises BadInput, and OSError."""
    try:
        fd = os.open(file, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as exc:
        if exc.errno != errno.ELOOP:
            raise
        raise BadInput(f"{file} is a symbolic link; name the directory that the file lies in") from exc
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise BadInput(f"{file} is no file; name another directory")
    return fd


def held(path: Path) -> bool:
    """Whether a kernel, of this path or another, holds the data.mdb in `path`. Raises BadInput, and OSError."""
    fd = _opened(path / "data.mdb", os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(fd)


def holder(fd: int) -> int:
    """The process that holds the file of `fd` by flock; 0 if nobody does or this system does not tell."""
    seen = os.fstat(fd)
    with contextlib.suppress(OSError, ValueError):
        for line in LOCKS.read_text().splitlines():
            fields = line.split()  # number: FLOCK ADVISORY WRITE process major:minor:inode from to
            if len(fields) == 8 and fields[1] == "FLOCK" and fields[5].split(":")[2] == str(seen.st_ino):
                return int(fields[4])
    return 0


def _examine(path: Path, walk: Callable[..., Walked]) -> Walked | None:
    """Walk over the file if there is a reason. Raises BadInput if it is damaged."""
    reason, deep = reason_to_walk(path)
    if not reason:
        return None
    file = path / "data.mdb"
    if not file.stat().st_size:
        return None
    found = walk(file, deep=deep)
    if found.cut:
        raise BadInput(f"{file} {found.damage.removeprefix('it ')}; {RESTORE}")
    if found.foreign and not (path / LEFT).exists():
        raise BadInput(f"{file} was not made by llmos: {found.damage}; move it away, or name another directory")
    if found.damage:
        raise BadInput(f"{file} is damaged, and left as it is: {found.damage}; {RESTORE}")
    return found


RESTORE: Final = "`llmos restore BACKUP DIR` brings a backup back, into another directory or with --force into this one"


def _readers(table: str) -> list[tuple[int, int]]:
    """(process, transaction) of those who read now, from what mdb_reader_list prints."""
    found = []
    for line in table.splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[0].isdecimal() and fields[2].isdecimal():
            found.append((int(fields[0]), int(fields[2])))
    return found


def _room_for_lock(path: Path) -> None:
    """Have room on the disk for lock.mdb: LMDB maps it and writes to it, where a full disk is SIGBUS and no error.

    Raises BadInput if there is none. What else is wrong with the directory, LMDB says better.
    """
    file = path / "lock.mdb"
    try:
        seen = file.stat() if file.exists() else None
        if seen is not None and seen.st_size and seen.st_blocks * 512 >= seen.st_size:
            return  # as nearly always; to open it would cost locks that this process may hold on it
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if hasattr(os, "posix_fallocate"):  # never longer than it is: whoever has it mapped knows its length
                os.posix_fallocate(fd, 0, (seen.st_size if seen is not None else 0) or LOCK_BYTES)
        finally:
            os.close(fd)
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise BadInput(f"{file} cannot be written: {exc.strerror}; make room, or name another directory") from exc


def _environment(path: Path, sync: Sync) -> lmdb.Environment:
    """Open LMDB in `path`. Raises BadInput if what lies there is no LMDB file, or a cut one."""
    _room_for_lock(path)
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
            mode=0o600,
            metasync=sync != "off",
            readahead=False,  # reads are of scattered small records
        )
        env.reader_check()  # slots of readers that were killed
    except UnicodeError as exc:
        raise BadInput(f"{file}: LMDB opens names in UTF-8 only; name another directory") from exc
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


def _tables(env: lmdb.Environment, path: Path) -> dict[str, Any] | None:
    """Open all tables, of a new directory after writing its format; None for format 1, which is to be upgraded.

    Raises BadInput for another format.
    """
    try:
        with env.begin() as txn:
            fresh = txn.stat()["entries"] == 0
            meta = None if fresh else env.open_db(b"meta", txn=txn, create=False)
            found = None if meta is None else txn.get(FORMAT_KEY, db=meta)
        if found == UNSEALED:
            return None
        if not fresh and found not in SEALED:
            shown = "unknown" if found is None else found.decode(errors="replace")
            raise BadInput(f"{path} has format version {shown}; this llmos reads versions 1 to {FORMAT.decode()}")
        with env.begin(write=True) as txn:
            tables = {name: env.open_db(name.encode(), txn=txn) for name in TABLES}
            if fresh:
                txn.put(FORMAT_KEY, FORMAT, db=tables["meta"])
    except lmdb.NotFoundError as exc:
        raise BadInput(f"{path / 'data.mdb'} was not made by llmos; name another directory") from exc
    except lmdb.Error as exc:
        raise BadInput(f"{path / 'data.mdb'} cannot be used as a machine's disk: {exc}") from exc
    return tables


def upgrade(path: Path) -> None:
    """Make format 2 of a directory of format 1: written anew beside it, then put in its place, so it can be killed.

    That has checksums, and a table `base`; the kernel's boot brings it on. Raises BadInput if a record is in no table
    of format 1.
    """
    aside = path / "upgrade"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    old = lmdb.open(str(path), readonly=True, create=False, max_dbs=len(TABLES), readahead=False)
    size = old.info()["map_size"] * 2
    new = lmdb.open(str(aside), map_size=size, max_dbs=len(TABLES), sync=False, mode=0o600)
    try:
        with old.begin() as source:
            for table in TABLES:
                written = new.open_db(table.encode())
                try:
                    read = old.open_db(table.encode(), txn=source, create=False)
                except lmdb.NotFoundError:
                    continue  # format 1 has no `base`
                with source.cursor(db=read) as cursor:
                    rows = iter(cursor)
                    while chunk := list(itertools.islice(rows, 10_000)):
                        with new.begin(write=True) as txn:
                            for key, value in chunk:
                                txn.put(key, seal(table, key, value), db=written, append=True)
        with new.begin(write=True) as txn:
            txn.put(FORMAT_KEY, SEALED[0], db=new.open_db(b"meta", txn=txn))
        new.sync(True)
    finally:
        old.close()
        new.close()
    os.replace(aside / "data.mdb", path / "data.mdb")
    shutil.rmtree(aside, ignore_errors=True)


def _at_or_below(cursor: Any, start: bytes) -> bool:
    """Place `cursor` on the last key that is not above `start`."""
    if not cursor.set_range(start):
        return bool(cursor.last())
    return bool(cursor.key() == start or cursor.prev())
