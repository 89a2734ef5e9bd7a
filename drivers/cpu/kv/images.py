"""KV images: the evaluated state of processes that have no seat, one file each, derived and never trusted blindly.

Guarantees:
- What `load` gives was written for this model, these parameters and exactly its tokens, and is whole: a file of
  another fingerprint, a torn or a damaged one is removed and counted, and the process is prefilled again.
- A file appears under its name when it is whole (written aside, then renamed). It is not synced: after a power cut
  its checksums tell.
- Files together stay within the quota, least recently used first to go; so do images that are not written yet.
- Nothing here fails a run: where the disk is full, or not to be written, an image is lost and counted. What went wrong
  is printed, each kind once; what nobody foresaw, with its traceback.
File: MAGIC, length and CRC-32 of the header (little-endian u32), the header (msgpack array, see Header), the data.
Not here: who needs an image, and when (seats.py).
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import threading
import traceback
import weakref
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

import msgspec
import numpy as np

from drivers.cpu.kv.seats import Image, common
from drivers.disk.seal import checksum
from kernel import failpoint

MAGIC: Final = b"llmoskv2"
LENGTHS: Final = struct.Struct("<II")
SUFFIX: Final = ".kv"
UNWRITTEN_MAX: Final = 4  # images that wait to be written; who saves one more waits
READY_MAX: Final = 2  # images checked ahead of time
WRITTEN: Final = "next"  # the file that is written aside
SPARE: Final = "last"


class Header(msgspec.Struct, array_like=True, frozen=True):
    """What stands in front of the data; `tokens` are little-endian u32."""

    fingerprint: bytes
    tokens: bytes
    common: int
    size: int  # of the data, bytes
    crc: int


class _Known(msgspec.Struct):
    """A file of this fingerprint."""

    tokens: list[int]
    size: int  # of the file


class ImageStore:
    """The images in one folder. Used by the engine's thread, and by threads of its own for files."""

    keeps = True

    def __init__(self, folder: Path, fingerprint: bytes, quota: int) -> None:
        """`quota`: bytes of all files together. What is in the folder and cannot be used is removed."""
        self._folder, self._fingerprint, self._quota = folder, fingerprint, quota
        self._names = threading.Lock()  # of files: nobody maps one while it is about to be used again
        self._mapped: Counter[int] = Counter()  # under _names: files, by inode, that are mapped
        self._unmapped: deque[int] = deque()  # of these, which were let go
        self.dropped = self.lost = self.written = 0  # unusable files; images that could not be kept; files written
        self._lock = threading.Lock()
        self._known: OrderedDict[int, _Known] = OrderedDict()  # least recently used first
        self._unwritten: OrderedDict[int, Image] = OrderedDict()
        self._ready: OrderedDict[int, Image] = OrderedDict()
        self._room = threading.Condition(self._lock)
        self._told: set[str] = set()  # what went wrong, once each
        self._writing: Future[None] | None = None
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="llmos-images")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="llmos-images")
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            self._look()

    def match(self, pid: int, tokens: Sequence[int]) -> int:
        """How many of `tokens`, from the front, the image of `pid` has; 0 without an image."""
        with self._lock:
            image = self._unwritten.get(pid) or self._known.get(pid)
        return 0 if image is None else common(image.tokens, list(tokens))

    def load(self, pid: int) -> Image | None:
        """The image of `pid`, checked; None, and its file removed, if it cannot be trusted."""
        with self._lock:
            if pid in self._known:
                self._known.move_to_end(pid)
            image = self._unwritten.get(pid) or self._ready.pop(pid, None)
        return image or self._read(pid)

    def expect(self, pid: int) -> None:
        """`pid` is about to be loaded: read and check it now, aside. Returns at once."""
        with self._lock:
            if pid not in self._known or pid in self._unwritten or pid in self._ready:
                return
        with suppress(RuntimeError):  # closed
            self._reader.submit(self._prefetch, pid)

    def save(self, pid: int, image: Image) -> None:
        """Keep `image` in place of the last; written behind. Waits while too many are to be written."""
        size = memoryview(image.data).nbytes  # type: ignore[arg-type]
        with self._room:
            if size > self._quota:
                self.lost += 1
                return
            self._ready.pop(pid, None)
            while len(self._unwritten) >= UNWRITTEN_MAX and pid not in self._unwritten:  # ends: the writer takes them
                self._room.wait()
            self._unwritten[pid] = image
            self._unwritten.move_to_end(pid)
            if self._writing is None:
                self._writing = self._writer.submit(self._write_behind)

    def link(self, parent: int, child: int) -> None:
        """Give `child` the image of `parent`, if there is one: the same file under another name."""
        with self._lock:
            image = self._unwritten.get(parent)
            known = self._known.get(parent)
        if image is not None:
            self.save(child, image)
        elif known is not None:
            try:
                self._path(child).unlink(missing_ok=True)
                os.link(self._path(parent), self._path(child))
            except OSError:
                self.lost += 1
                return
            with self._lock:
                self._known[child] = _Known(known.tokens, known.size)
            self._keep_to_quota()

    def drop(self, pid: int) -> None:
        """Remove the image of `pid`."""
        with self._lock:
            self._unwritten.pop(pid, None)
            self._ready.pop(pid, None)
            self._known.pop(pid, None)
        with suppress(OSError):
            self._path(pid).unlink(missing_ok=True)

    def flush(self) -> None:
        """Wait until everything saved is written or lost."""
        with self._room:
            while self._writing is not None:  # ends: the writer stops when it has written all
                self._room.wait()

    def close(self) -> None:
        """Flush and stop. May be called twice."""
        self.flush()
        self._reader.shutdown()
        self._writer.shutdown()
        with suppress(OSError):
            (self._folder / WRITTEN).unlink(missing_ok=True)

    def sizes(self) -> dict[int, int]:
        """Bytes of each image's file, by process."""
        with self._lock:
            return {pid: known.size for pid, known in self._known.items()}

    # Files

    def _path(self, pid: int) -> Path:
        return self._folder / f"{pid}{SUFFIX}"

    def _look(self) -> None:
        """Find out what is in the folder: headers only; data is checked when it is wanted."""
        files = []
        for path in self._folder.iterdir():
            if path.suffix == SUFFIX and path.stem.isdecimal():
                files.append((path.stat().st_mtime_ns, path))
            elif path.name in (WRITTEN, SPARE) or path.suffix == ".new":  # of a write that was cut off
                path.unlink(missing_ok=True)
        for _, path in sorted(files):
            try:
                with path.open("rb") as file:
                    header = self._header(file)
                    size = os.fstat(file.fileno()).st_size
            except (ValueError, OSError):
                self.dropped += 1
                path.unlink(missing_ok=True)
                continue
            self._known[int(path.stem)] = _Known(_tokens(header), size)
        self._keep_to_quota()

    def _header(self, file: IO[bytes]) -> Header:
        """The header of a file, which is then read up to its data. Raises ValueError for what cannot be used."""
        start = file.read(len(MAGIC) + LENGTHS.size)
        if len(start) < len(MAGIC) + LENGTHS.size or start[: len(MAGIC)] != MAGIC:
            raise ValueError("no KV image")
        length, crc = LENGTHS.unpack_from(start, len(MAGIC))
        if length > os.fstat(file.fileno()).st_size:
            raise ValueError("cut off")
        raw = file.read(length)
        if checksum(raw) != crc:
            raise ValueError("damaged")
        header = msgspec.msgpack.decode(raw, type=Header)  # a ValidationError is a ValueError
        if header.fingerprint != self._fingerprint:
            raise ValueError("another model, or other parameters")
        if os.fstat(file.fileno()).st_size != len(start) + length + header.size:
            raise ValueError("cut off")
        return header

    def _tell(self, what: str, exc: BaseException) -> None:
        """Print what went wrong, if that has not been printed before."""
        foreseen = isinstance(exc, OSError)
        why = (exc.strerror if isinstance(exc, OSError) else None) or f"{type(exc).__name__}: {exc}"
        if why not in self._told:
            self._told.add(why)
            print(f"llmos: KV images: {what}: {why}; what it held is evaluated again", file=sys.stderr)
            if not foreseen:
                traceback.print_exception(exc)

    def _prefetch(self, pid: int) -> None:
        try:
            image = self._read(pid)
        except Exception as exc:  # nobody waits for this thread
            self._tell(f"that of process {pid} was not read ahead", exc)
            return
        with self._lock:
            if image is None or pid in self._unwritten or pid not in self._known:
                return
            if self._known[pid].tokens != image.tokens:
                return  # another was written meanwhile
            self._ready[pid] = image
            while len(self._ready) > READY_MAX:  # ends: each pass removes one
                self._ready.popitem(last=False)

    def _read(self, pid: int) -> Image | None:
        """The image in a file, checked."""
        with self._lock:
            if pid not in self._known:
                return None
        path = self._path(pid)
        try:
            with self._names, path.open("rb") as file:
                header = self._header(file)
                # A private copy: pages that nobody writes to are those of the page cache.
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
                data, inode = memoryview(mapped)[file.tell() :], os.fstat(file.fileno()).st_ino
                self._mapped[inode] += 1
                weakref.finalize(mapped, self._unmapped.append, inode).atexit = False
            if checksum(data) != header.crc:
                raise ValueError("damaged")
        except (ValueError, OSError):
            self.dropped += 1
            self.drop(pid)
            return None
        with suppress(OSError):
            os.utime(path)  # the order of use outlives the kernel
        return Image(_tokens(header), header.common, data)

    def _write_behind(self) -> None:
        """Write what waits, the oldest first, until nothing does."""
        while True:  # ends when nothing waits
            with self._room:
                if not self._unwritten:
                    self._writing = None
                    self._room.notify_all()
                    return
                pid, image = next(iter(self._unwritten.items()))
            size = 0
            try:
                size = self._write(pid, image)
            except Exception as exc:  # whatever it is: who waits for this thread goes on
                self.lost += 1
                self._tell(f"that of process {pid} was not written", exc)
            with self._room:
                if self._unwritten.get(pid) is image:  # and no newer one came meanwhile
                    del self._unwritten[pid]
                    if size:
                        self._known[pid] = _Known(image.tokens, size)
                        self._known.move_to_end(pid)
                    self._room.notify_all()
            self._keep_to_quota()

    def _write(self, pid: int, image: Image) -> int:
        """Write a file aside and put it in its place; its size.

        The file that stood there is the next one to be written aside: its pages are in memory, and new ones cost more
        than what is written into them (docs/numbers.md).
        """
        failpoint.passing("image.before")
        data = memoryview(image.data)  # type: ignore[arg-type]
        tokens = np.asarray(image.tokens, dtype="<u4").tobytes()
        half = data.nbytes // 2
        header = msgspec.msgpack.encode(Header(self._fingerprint, tokens, image.common, data.nbytes, checksum(data)))
        path, aside, spare = self._path(pid), self._folder / WRITTEN, self._folder / SPARE
        try:
            with open(os.open(aside, os.O_WRONLY | os.O_CREAT, 0o666), "wb", buffering=0) as file:
                _write_all(file.fileno(), MAGIC + LENGTHS.pack(len(header), checksum(header)) + header)
                _write_all(file.fileno(), data[:half])
                failpoint.passing("image.inside")
                _write_all(file.fileno(), data[half:])
                size = file.tell()
                file.truncate()
            with self._lock:
                self._known.pop(pid, None)  # what is there is another from here on
            with self._names:
                with suppress(OSError):  # there is none, or no way to have two names
                    os.link(path, spare)
                os.replace(aside, path)
                if spare.exists():
                    os.replace(spare, aside)
                    if not self._nobodys(os.stat(aside)):
                        aside.unlink()
        except OSError:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            raise
        failpoint.passing("image.after")
        self.written += 1
        return size

    def _nobodys(self, file: os.stat_result) -> bool:
        """Whether a file has no other name and is mapped by nobody. Under _names."""
        while self._unmapped:  # ends: each pass takes one
            inode = self._unmapped.popleft()
            self._mapped[inode] -= 1
            if not self._mapped[inode]:
                del self._mapped[inode]
        return file.st_nlink == 1 and not self._mapped[file.st_ino]

    def _keep_to_quota(self) -> None:
        gone = []
        with self._lock:
            total = sum(known.size for known in self._known.values())
            while total > self._quota and self._known:  # ends: each pass removes one
                pid, known = self._known.popitem(last=False)
                self._ready.pop(pid, None)
                total -= known.size
                if pid not in self._unwritten:
                    gone.append(pid)
        for pid in gone:
            with suppress(OSError):
                self._path(pid).unlink(missing_ok=True)


class NoImages:
    """Where there is no folder: what has no seat is prefilled again."""

    keeps = False
    dropped = lost = written = 0

    def match(self, pid: int, tokens: Sequence[int]) -> int:
        """Nothing is kept."""
        return 0

    def load(self, pid: int) -> Image | None:
        """Nothing is kept."""
        return None

    def expect(self, pid: int) -> None:
        """Nothing to read."""

    def save(self, pid: int, image: Image) -> None:
        """Nothing is kept."""

    def link(self, parent: int, child: int) -> None:
        """Nothing to give."""

    def drop(self, pid: int) -> None:
        """Nothing to remove."""

    def flush(self) -> None:
        """Nothing to write."""

    def close(self) -> None:
        """Nothing to close."""

    def sizes(self) -> dict[int, int]:
        """No files."""
        return {}


def _tokens(header: Header) -> list[int]:
    found: list[int] = np.frombuffer(header.tokens, dtype="<u4").tolist()
    return found


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of `data`; the system takes at most 2 GiB at a time."""
    left = memoryview(data)
    while left.nbytes:  # ends: each pass writes some, or raises
        left = left[os.write(descriptor, left) :]
