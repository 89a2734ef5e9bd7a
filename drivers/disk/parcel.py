"""A process as a file: everything it knows, to be taken to another machine or kept (docs/durability.md, The export).

JSON Lines, UTF-8, gzipped if the name ends in .gz. The first line is the head: `format`, `version`, what the process
is, its timers. Then a line a page, oldest first, in the order of the process's own numbers. The last line counts the
pages and has the SHA-256 of all lines before it, so that a file which was cut or changed is refused whole.
What is not in it: the numbers of this machine's pages, what another model would count otherwise (sizes, token ids),
accounts, and a turn that is under way.
Guarantees: whatever is read, no more than IMPORT_BYTES_MAX bytes of it are held, unpacked; what is wrong with it is
BadInput in one line; what is written is the owner's alone and whole, or not there.
Not here: what an export may claim (kernel/machine/arrival.py), how it comes to a machine (drivers/door/arriving.py).
"""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Annotated, Final, Literal, TypeAlias, cast

import msgspec
from msgspec import Meta

from drivers.disk import whole
from kernel import formats
from kernel.errors import BadInput, Exists, in_one_line
from kernel.event import Imported, Moved, MovedFile, MovedTimer
from kernel.interrupts import Line
from kernel.limits import (
    ALERT_CHARS_MAX,
    DOCUMENT_PATH_MAX,
    HEADING_CHARS_MAX,
    HEADINGS_MAX,
    IMPORT_BYTES_MAX,
    IMPORT_LINE_BYTES_MAX,
    IMPORT_PAGES_MAX,
    IMPORT_PART_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    NS,
    NUMBER_MAX,
    TIME_MAX,
    TIMER_S_MAX,
    TIMER_S_MIN,
    TIMERS_MAX,
)
from kernel.machine import documents
from kernel.machine.documents import Document
from kernel.memory.page import UNRANKED, Area, FilePage, Kind, Origin, Page, Role, Source
from kernel.ports import Reads
from kernel.process import Process, Timer
from kernel.records import counters, key, page_of, rows
from kernel.spec import Blocks, Name, Names, Nice, Spec, SpecText
from kernel.text import one_line

FORMAT: Final = "llmos-process"
VERSION: Final = 2
VERSIONS_MAX: Final = 99_999  # of a document
REMADE: Final = (Kind.TEXT, Kind.CORE, *UNRANKED, Kind.GONE)  # the machine that imports makes these anew, or never

Number: TypeAlias = Annotated[int, Meta(ge=0, le=NUMBER_MAX)]
Time: TypeAlias = Annotated[int, Meta(ge=0, le=TIME_MAX)]
Every: TypeAlias = Annotated[int, Meta(ge=0, le=TIMER_S_MAX * NS)]
AlertText: TypeAlias = Annotated[str, Meta(max_length=ALERT_CHARS_MAX)]
Gist: TypeAlias = Annotated[str, Meta(max_length=MESSAGE_BYTES_MAX)]
PageText: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MESSAGE_BYTES_MAX)]


class TimerLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A timer in the head: due (ns UTC), and then every so many ns if that is not 0. `wall`: it waits for that date."""

    due: Time
    every_ns: Every
    text: AlertText
    wall: bool = False

    def __post_init__(self) -> None:
        if 0 < self.every_ns < TIMER_S_MIN * NS:
            raise ValueError(f"every_ns {self.every_ns}: 0, or at least {TIMER_S_MIN * NS}")


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The first line. `exported_at` is ns UTC. The spec's model is what the other machine called it."""

    format: Literal["llmos-process"]
    version: Number
    spec: Spec
    timers: Annotated[tuple[TimerLine, ...], Meta(max_length=TIMERS_MAX)]
    exported_at: Time
    lsn: Number


class Timer1(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A timer in a head of version 1."""

    due: Time
    every: Every
    text: AlertText


class _Version(msgspec.Struct, frozen=True):
    format: Literal["llmos-process"]
    version: Number


class Head1(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first line of version 1."""

    format: Literal["llmos-process"]
    version: Number
    name: Name
    mask: Names
    system: SpecText
    blocks: Blocks
    nice: Nice
    abort: bool
    timers: Annotated[tuple[Timer1, ...], Meta(max_length=TIMERS_MAX)]
    exported_at: Time
    lsn: Number
    model: Name = ""


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where in a document a page stands (Source); of the first page of a part also which part, of what content."""

    path: Annotated[str, Meta(max_length=DOCUMENT_PATH_MAX)]
    version: Annotated[int, Meta(ge=1, le=VERSIONS_MAX)]
    first: Annotated[int, Meta(ge=1, le=NUMBER_MAX)]
    last: Annotated[int, Meta(ge=1, le=NUMBER_MAX)]
    paged: bool = False
    headings: Annotated[
        tuple[Annotated[str, Meta(max_length=HEADING_CHARS_MAX)], ...], Meta(max_length=HEADINGS_MAX)
    ] = ()
    digest: Annotated[str, Meta(pattern=rf"^([0-9a-f]{{{documents.DIGEST}}})?$")] = ""
    part: Number = 0
    parts: Annotated[int, Meta(ge=1, le=NUMBER_MAX)] = 1

    def __post_init__(self) -> None:
        try:
            documents.check_place(self.path, self.part, self.parts)
        except BadInput as exc:
            raise ValueError(str(exc)) from exc
        if self.last < self.first:
            raise ValueError(f"a page stands from {self.first} to {self.last}")
        if wrong := next((heading for heading in self.headings if one_line(heading) != heading), ""):
            raise ValueError(f"heading {wrong[:80]!r}: characters in one line are allowed")

    @property
    def begins(self) -> str:
        """Which part the page begins; "": none."""
        return documents.place(self.path, self.version, self.digest, self.part, self.parts) if self.digest else ""


class PageLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A page's line. `where`: queue (it was in view), pending (not given to the process yet), or empty.

    `source`: of a page of a document.
    """

    seq: Number
    kind: Kind
    origin: Origin
    role: Role
    area: Area
    at: Time
    text: PageText
    gist: Gist = ""
    where: Literal["", "queue", "pending"] = ""
    group: Number = 0
    pinned: bool = False
    source: Place | msgspec.UnsetType = msgspec.UNSET


class Tail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last line."""

    pages: Number
    sha256: Annotated[str, Meta(max_length=64)]


def write(disk: Reads, pid: int, file: Path, at: int) -> int:
    """Write the process to `file`, whole or not at all; the number of its pages. Raises BadInput if it exists.

    A process that is larger than an import may be is refused, too.
    """
    raw = disk.get("proc", key(pid))
    if raw is None:
        raise BadInput(f"no process {pid} on this disk")
    proc = formats.of(disk).proc(raw)
    if proc.thread:
        raise BadInput(f"process {proc.name} is the kernel's own; every machine has its own")
    if file.exists():
        raise Exists(f"{file} exists; name another file")
    try:
        with whole.writing(file, gz=file.name.endswith(".gz")) as stream:
            digest, count, size = hashlib.sha256(), 0, 0
            for line in _lines(disk, proc, at):
                packed = msgspec.json.encode(line) + b"\n"
                count, size = count + isinstance(line, PageLine), size + len(packed)
                if count > IMPORT_PAGES_MAX or size > IMPORT_BYTES_MAX or len(packed) > IMPORT_LINE_BYTES_MAX:
                    raise BadInput(f"process {proc.name} is larger than an import may be; `llmos backup` copies it all")
                digest.update(packed)
                stream.write(packed)
            stream.write(msgspec.json.encode(Tail(count, digest.hexdigest())) + b"\n")
    except (OSError, ValueError) as exc:
        raise BadInput(f"{file} cannot be written: {_why(exc)}; name another file") from exc
    return count


def _lines(disk: Reads, proc: Process, at: int) -> Iterator[Head | PageLine]:
    last = counters(disk)
    timers = []
    for number in proc.timers:
        row = disk.get("timer", key(number))
        if row is not None:
            timer = msgspec.msgpack.decode(row, type=Timer)
            due = timer.due if timer.wall else timer.due + last.ahead
            timers.append(TimerLine(due, timer.every_ns, timer.text, timer.wall))
    spec = msgspec.structs.replace(proc.spec, taken={})
    yield Head(FORMAT, VERSION, spec, tuple(timers), at, last.lsn)
    begun = {page: (one, part) for one in documents.listed(disk, proc.pid) for part, page in one.parts.items()}
    queue = {entry.page: entry for entry in proc.space.queue}
    pending = {page for one in proc.pending if one.line is Line.USER for page, _ in one.pages}
    for _, value in rows(disk, "page"):
        page = page_of(value, disk.get)
        if page.pid != proc.pid or page.kind in REMADE:
            continue
        entry = queue.get(page.id)
        yield PageLine(
            page.seq,
            page.kind if page.kind is not Kind.FACT else Kind.ARCHIVE,  # its record names pages of this machine
            page.origin,
            page.role,
            page.area,
            page.at,
            page.text,
            page.gist,
            "queue" if entry is not None else "pending" if page.id in pending else "",
            entry.group if entry is not None else 0,
            entry.pinned if entry is not None else False,
            _place(page, begun.get(page.id)),
        )


def _place(page: Page, begun: tuple[Document, int] | None) -> Place | msgspec.UnsetType:
    """Where a page stands; `begun`: the document, and its part, of which it is the first."""
    if not isinstance(page, FilePage) or page.source is None:
        return msgspec.UNSET
    source = msgspec.structs.asdict(page.source)
    if begun is None:
        return Place(**source)
    document, part = begun
    return Place(**source, digest=document.digest, part=part, parts=document.of)


class Reader:
    """An export as it comes in, in parts of any size; what is wrong with it is found as soon as it is there."""

    def __init__(self, what: str) -> None:
        """`what` it is called in messages."""
        self._what = what
        self._buffer = bytearray()
        self._size = 0
        self._digest = hashlib.sha256()
        self._head: Head | None = None
        self._pages: list[Moved] = []
        self._files: list[MovedFile] = []
        self._begun: set[str] = set()
        self._tail: Tail | None = None

    def take(self, part: bytes) -> None:
        """The next bytes. Raises BadInput if they cannot belong to an export that this machine may take."""
        self._size += len(part)
        if self._size > IMPORT_BYTES_MAX:
            raise BadInput(f"{self._what} has more than {IMPORT_BYTES_MAX} bytes, unpacked; no process may")
        *lines, rest = part.split(b"\n")
        for line in lines:
            self._line(bytes(self._buffer) + line)
            self._buffer.clear()
        self._buffer += rest
        if len(self._buffer) > IMPORT_LINE_BYTES_MAX:
            raise BadInput(f"{self._what} has a line of more than {IMPORT_LINE_BYTES_MAX} bytes; no export has")

    def done(self, name: str = "") -> Imported:
        """The event that it is, under its own name or `name`. Raises BadInput if it is not whole."""
        if self._buffer:
            self.take(b"\n")
        if self._head is None or self._tail is None:
            raise BadInput(f"{self._what} is cut short: its last line is missing")
        spec = msgspec.structs.replace(self._head.spec, name=name or self._head.spec.name)
        timers = tuple(MovedTimer(one.due, one.every_ns, one.text, one.wall) for one in self._head.timers)
        return Imported(spec=spec, pages=tuple(self._pages), timers=timers, files=tuple(self._files))

    @property
    def _count(self) -> int:
        """Pages so far."""
        return len(self._pages) + len(self._files)

    def _line(self, line: bytes) -> None:
        if self._tail is not None:
            raise BadInput(f"{self._what} goes on behind its last line")
        try:
            if self._head is None:
                self._head = _head(line, self._what)
            elif line.startswith(b'{"pages":'):
                self._tail = msgspec.json.decode(line, type=Tail)
                if (self._tail.pages, self._tail.sha256) != (self._count, self._digest.hexdigest()):
                    raise BadInput(f"{self._what} is cut short or was changed: its last line does not fit the rest")
            else:
                self._take(_page(_decoder.decode(line), self._what))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            at = f"line {self._count + 2}" if self._head is not None else "line 1"
            raise BadInput(f"{self._what} is no process that llmos exported: {at}: {in_one_line(exc, 400)}") from exc
        if self._count > IMPORT_PAGES_MAX:
            raise BadInput(f"{self._what} has more than {IMPORT_PAGES_MAX} pages; no process that is taken over may")
        self._digest.update(line + b"\n")

    def _take(self, page: Moved | MovedFile) -> None:
        if isinstance(page, Moved):
            self._pages.append(page)
            return
        if page.begins in self._begun:
            at = f"line {self._count + 2}"
            raise BadInput(f"{self._what}: {at} begins a part of a document that has begun before")
        self._begun |= {page.begins} - {""}
        self._files.append(page)


_decoder: Final = msgspec.json.Decoder(PageLine)


def _page(line: PageLine, what: str) -> Moved | MovedFile:
    """A page as it is taken over: of a document of the process's own, or any other."""
    if line.kind in (*REMADE, Kind.FACT):
        raise BadInput(f"{what}: page {line.seq} is of kind {line.kind}, which every machine makes itself")
    place = line.source
    if not isinstance(place, msgspec.UnsetType) and line.origin is not Origin.FILE:
        raise BadInput(f"{what}: page {line.seq} is of a document and of origin {line.origin}; that of such is file")
    if not isinstance(place, msgspec.UnsetType) and (line.kind, line.area) == (Kind.ARCHIVE, Area.ARCHIVE):
        where = Source(place.path, place.version, place.first, place.last, place.paged, place.headings)
        return MovedFile(line.text, line.at, where, place.begins)
    fields = (line.kind, line.origin, line.role, line.area, line.at, line.text, line.gist, line.where, line.group)
    return Moved(*fields, line.pinned)


def _head(line: bytes, what: str) -> Head:
    """The head, of whatever version this kernel reads."""
    version = msgspec.json.decode(line, type=_Version).version
    if version not in (1, VERSION):
        raise BadInput(f"{what} has version {version} of the export's format; this llmos reads 1 and {VERSION}")
    if version == VERSION:
        return msgspec.json.decode(line, type=Head)
    old = msgspec.json.decode(line, type=Head1)
    spec = Spec(old.name, old.mask, old.system, old.blocks, old.nice, old.abort, old.model)
    try:
        timers = tuple(TimerLine(one.due, one.every, one.text) for one in old.timers)
    except ValueError as exc:
        raise BadInput(f"{what}: {exc}") from exc
    return Head(old.format, VERSION, spec, timers, old.exported_at, old.lsn)


def parts(file: Path) -> Iterator[bytes]:
    """An export's file, unpacked, in parts of at most IMPORT_PART_BYTES_MAX. Raises BadInput if it cannot be read.

    It ends whatever the file is: devices and pipes are refused, and no more than an export may have is unpacked.
    """
    try:
        with _opened(file) as stream:
            left = IMPORT_BYTES_MAX
            while left >= 0 and (part := stream.read(IMPORT_PART_BYTES_MAX)):  # ends: `left` falls
                left -= len(part)
                yield part
    except (OSError, EOFError, ValueError, zlib.error) as exc:
        raise BadInput(f"{file} cannot be read: {_why(exc)}") from exc


def read(file: Path, name: str = "") -> Imported:
    """The event that an export's file is, under its own name or `name`. Raises BadInput if it is none, or not whole."""
    reader = Reader(str(file))
    for part in parts(file):
        reader.take(part)
    return reader.done(name)


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would wait for ever
    with os.fdopen(fd, "rb") as raw:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BadInput(f"{file} is no file; name one that `llmos export` made")
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        with gzip.GzipFile(fileobj=raw) if zipped else nullcontext(raw) as stream:
            yield cast(IO[bytes], stream)


def _why(exc: Exception) -> str:
    return getattr(exc, "strerror", None) or str(exc)
