"""A data directory as a thing to be kept: looked through, copied, brought back, made smaller.

All of it works on a directory that no kernel runs on, and what only reads also on one that is in use: then it reads a
snapshot, copied by LMDB itself while the kernel goes on. A file that may be damaged is walked over before LMDB sees it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from drivers.disk import whole
from drivers.disk.left import reason_to_walk
from drivers.disk.lmdb import LmdbDisk, LmdbReader, held
from drivers.disk.walk import Walked, walk_apart
from kernel import checkpoint, formats
from kernel.audit import Audit, audit
from kernel.errors import BadInput, InUse, some
from kernel.ports import Reads
from kernel.records import rows

INDEX_FILES = ("index.s*", "p*.hnsw", "p*.part", "damaged")
Tell = Callable[[str], None]


class Checked(msgspec.Struct):
    """What fsck found. `ok`: nothing that is wrong; the indexes are derived, and what is wrong with them heals."""

    ok: bool
    file: Walked
    records: Audit | None
    index: list[str]
    running: bool
    seconds: float


class Backup(msgspec.Struct):
    """A backup that was made and checked."""

    file: str
    bytes: int
    lsn: int
    hash: str
    processes: int
    pages: int
    seconds: float


class Compacted(msgspec.Struct):
    """What a compaction did. `bytes` are those of data.mdb."""

    lsn: int
    entries: int
    bytes_before: int
    bytes_after: int
    running: bool


def in_use(directory: Path) -> bool:
    """Whether a kernel holds its data.mdb. Raises BadInput if it holds no machine."""
    try:
        return held(directory)
    except FileNotFoundError:
        raise BadInput(f"{directory} holds no machine; name the directory of one with --dir") from None
    except OSError as exc:
        raise BadInput(f"{directory} cannot be read: {exc.strerror}; name the directory of a machine of yours") from exc


@contextlib.contextmanager
def reader(directory: Path) -> Iterator[LmdbReader]:
    """Read a directory's records, whether a kernel runs on it or not. Raises BadInput, also for a damaged file."""
    if not in_use(directory):
        reason, deep = reason_to_walk(directory)
        found = walk_apart(directory / "data.mdb", deep=deep) if reason else None
        if found is not None and found.damage:
            raise BadInput(f"{directory / 'data.mdb'} is damaged: {found.damage}; `llmos fsck` says more")
    elif (directory / "data.mdb").stat().st_nlink > 1:  # readers of one directory are not seen in the other
        raise BadInput(f"{directory / 'data.mdb'} is in use, and linked into another directory; remove that link first")
    opened = LmdbReader(directory)
    try:
        yield opened
    finally:
        opened.close()


def processes(disk: Reads) -> dict[str, int]:
    """The numbers of all processes, by name."""
    form = formats.of(disk)
    found = [form.proc(value) for _, value in rows(disk, "proc")]
    return {proc.name: proc.pid for proc in found}


def process(disk: Reads, proc: str) -> int:
    """The number of a process by name or number. Raises BadInput naming those that are there."""
    names = processes(disk)
    found = names.get(proc) or next((number for number in names.values() if str(number) == proc), 0)
    if not found:
        raise BadInput(f"no process {proc!r}; processes are {some(names)}")
    return found


@contextlib.contextmanager
def snapshot(directory: Path, tell: Tell) -> Iterator[Path]:
    """A copy of a running machine's records, in a folder beside its files that goes away again."""
    with tempfile.TemporaryDirectory(prefix="snapshot-", dir=directory) as folder:
        tell("the kernel runs: taking a snapshot")
        with reader(directory) as disk:
            disk.copy(Path(folder) / "data.mdb")
        yield Path(folder)


def check(directory: Path, tell: Tell) -> Checked:
    """Look through everything: the file's structure and checksums, the records, the indexes."""
    from drivers.index.fused import verify

    began, running = time.monotonic(), in_use(directory)
    with snapshot(directory, tell) if running else contextlib.nullcontext(directory) as folder:
        tell("walking over data.mdb")
        walked = walk_apart(folder / "data.mdb", deep=True)
        records: Audit | None = None
        index: list[str] = []
        if not walked.damage:
            disk = LmdbReader(folder)
            try:
                tell("looking through the records")
                records = audit(disk)
                if running:
                    index = ["a kernel uses it; it is looked at when none does"]
                else:
                    tell("comparing the index with the pages")
                    index = verify(directory, disk)
            finally:
                disk.close()
    ok = not walked.damage and records is not None and not records.findings
    return Checked(ok, walked, records, index, running, round(time.monotonic() - began, 2))


def backup(directory: Path, file: Path, tell: Tell) -> Backup:
    """Copy the newest snapshot to `file`, whole or not at all, and look through the copy. A kernel may run."""
    began = time.monotonic()
    if file.exists():
        raise BadInput(f"{file} exists; name another file")
    try:
        with tempfile.TemporaryDirectory(prefix=".llmos-backup-", dir=_parent(file)) as name:
            folder = Path(name)
            with reader(directory) as disk:
                tell(f"copying {directory}")
                disk.copy(folder / "data.mdb")
            found = _sound(folder, tell)
            size = (folder / "data.mdb").stat().st_size
            os.replace(folder / "data.mdb", file)
            _sync(file.absolute().parent)
    except OSError as exc:
        raise BadInput(f"{file} cannot be written: {exc.strerror or exc}; name another file") from exc
    return Backup(
        str(file), size, found.lsn, found.hash, found.processes, found.pages, round(time.monotonic() - began, 2)
    )


def restore(file: Path, directory: Path, force: bool, tell: Tell) -> Backup:
    """Make `directory` the machine that `file` is a backup of. `force`: what lies there is moved aside, not deleted.

    The indexes are built again by the next boot. Raises BadInput if the backup is damaged, or the directory in use.
    """
    began = time.monotonic()
    if not file.is_file():
        raise BadInput(f"{file}: no such backup")
    data = directory / "data.mdb"
    if data.exists() and in_use(directory):
        raise InUse(f"{directory} is in use; stop its kernel first: llmos stop --dir {directory}")
    if data.exists() and not force:
        raise BadInput(f"{directory} holds a machine; name another directory, or move it aside with --force")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise BadInput(f"{directory}: {exc.strerror}; choose another directory") from exc
    try:
        with tempfile.TemporaryDirectory(prefix=".restore-", dir=directory) as name:
            folder = Path(name)
            tell(f"copying {file}")
            with file.open("rb") as source, whole.writing(folder / "data.mdb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
            found = _sound(folder, tell)
            _put(folder / "data.mdb", data, tell)
    except OSError as exc:
        raise BadInput(f"{directory} cannot be written: {exc.strerror or exc}; it is as it was") from exc
    return Backup(
        str(file),
        data.stat().st_size,
        found.lsn,
        found.hash,
        found.processes,
        found.pages,
        round(time.monotonic() - began, 2),
    )


def _put(copy: Path, data: Path, tell: Tell) -> None:
    """Put `copy` in the place of `data`, which keeps another name; there is a whole machine at every moment."""
    directory = data.parent
    if data.exists():
        aside = directory / f"data.mdb.before-{time.strftime('%Y%m%d-%H%M%S')}"
        try:
            os.link(data, aside)
        except OSError:  # no two names here
            os.replace(data, aside)
        tell(f"what was there is now {aside}")
    for pattern in (*INDEX_FILES, "lock.mdb", "kernel.left"):
        for old in directory.glob(pattern):
            old.unlink()
    os.replace(copy, data)
    _sync(directory)


def _sound(folder: Path, tell: Tell) -> Audit:
    """Look through a copy. Raises BadInput if anything is wrong with it."""
    tell("looking through the copy")
    walked = walk_apart(folder / "data.mdb", deep=True)
    if walked.damage:
        raise BadInput(f"the copy is damaged: {walked.damage}")
    disk = LmdbReader(folder)
    try:
        found = audit(disk)
    finally:
        disk.close()
    if found.findings:
        raise BadInput(f"the copy is no sound machine: {found.findings[0]}; `llmos fsck` says more")
    return found


def compact(directory: Path, tell: Tell) -> Compacted:
    """Cut the journal at a checkpoint, on a directory that no kernel runs on, and write the file anew without holes."""
    data = directory / "data.mdb"
    before = data.stat().st_size
    disk = LmdbDisk(directory, create=False)
    entries = 0
    try:
        tell("taking a checkpoint")
        disk.commit(checkpoint.records(disk, None))
        head = checkpoint.base(disk)
        assert head is not None  # just written
        while gone := checkpoint.cut(disk):
            disk.commit(gone)
            entries += sum(record.table == "journal" for record in gone)
            if entries and entries % 50_000 == 0:
                tell(f"{entries} journal entries cut")
        tell("writing data.mdb anew")
        with tempfile.TemporaryDirectory(prefix=".compact-", dir=directory) as name:
            disk.copy(Path(name) / "data.mdb")
            disk.replace(Path(name) / "data.mdb")
    finally:
        disk.close()
    return Compacted(head.lsn, entries, before, data.stat().st_size, running=False)


def _parent(file: Path) -> Path:
    parent = file.absolute().parent
    if not os.access(parent, os.W_OK):
        raise BadInput(f"{parent} cannot be written; name a file elsewhere")
    return parent


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
