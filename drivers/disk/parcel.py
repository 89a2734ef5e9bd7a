"""A process as a file: everything it knows, to be taken to another machine or kept (docs/durability.md, The export).

JSON Lines, UTF-8, gzipped if the name ends in .gz. The first line is the head: `format`, `version`, what the process
is, its timers. Then a line a page, oldest first, in the order of the process's own numbers. The last line counts the
pages and has the SHA-256 of all lines before it, so that a file which was cut or changed is refused whole.
What is not in it: the numbers of this machine's pages, what another model would count otherwise (sizes, token ids),
accounts, and a turn that is under way. A file that somebody else made can say anything in the kernel's voice: import
what you exported.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, Literal, cast

import msgspec

from kernel import formats
from kernel.audit import rows
from kernel.errors import BadInput, Exists
from kernel.event import Imported, Moved, MovedTimer
from kernel.interrupts import Line
from kernel.memory.page import HEADS, Area, Kind, Origin, Role
from kernel.ports import Reads
from kernel.process import Process, Timer
from kernel.records import key, page_of
from kernel.spec import Spec

FORMAT: Final = "llmos-process"
VERSION: Final = 2
TEXT_MAX: Final = 256 << 20  # characters of all pages together: an import is one transaction
REMADE: Final = (Kind.TEXT, Kind.CORE, *HEADS, Kind.GONE)  # the machine that imports makes these anew


class TimerLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A timer in the head: due (ns UTC), and then every so many ns if that is not 0."""

    due: int
    every_ns: int
    text: str


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The first line. `exported_at` is ns UTC. The spec's model is what the other machine called it."""

    format: Literal["llmos-process"]
    version: int
    spec: Spec
    timers: tuple[TimerLine, ...]
    exported_at: int
    lsn: int


class Timer1(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A timer in a head of version 1."""

    due: int
    every: int
    text: str


class _Version(msgspec.Struct, frozen=True):
    format: Literal["llmos-process"]
    version: int


class Head1(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first line of version 1."""

    format: Literal["llmos-process"]
    version: int
    name: str
    mask: tuple[str, ...]
    system: str
    blocks: dict[str, str]
    nice: int
    abort: bool
    timers: tuple[Timer1, ...]
    exported_at: int
    lsn: int
    model: str = ""


class PageLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A page's line. `where`: queue (it was in view), pending (not given to the process yet), or empty."""

    seq: int
    kind: Kind
    origin: Origin
    role: Role
    area: Area
    at: int
    text: str
    gist: str = ""
    where: Literal["", "queue", "pending"] = ""
    group: int = 0
    pinned: bool = False


class Tail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last line."""

    pages: int
    sha256: str


def write(disk: Reads, pid: int, file: Path, at: int) -> int:
    """Write the process to `file`, whole or not at all; the number of its pages. Raises BadInput if it exists."""
    raw = disk.get("proc", key(pid))
    if raw is None:
        raise BadInput(f"no process {pid} on this disk")
    proc = formats.of(disk).proc(raw)
    if proc.thread:
        raise BadInput(f"process {proc.name} is the kernel's own; every machine has its own")
    if file.exists():
        raise Exists(f"{file} exists; name another file")
    aside = file.with_name(file.name + ".part")
    try:
        with _opened(aside, "wb", gz=file.name.endswith(".gz")) as stream:
            digest, count = hashlib.sha256(), 0
            for line in _lines(disk, proc, at):
                packed = msgspec.json.encode(line) + b"\n"
                digest.update(packed)
                stream.write(packed)
                count += isinstance(line, PageLine)
            stream.write(msgspec.json.encode(Tail(count, digest.hexdigest())) + b"\n")
        os.replace(aside, file)
    except OSError as exc:
        aside.unlink(missing_ok=True)
        raise BadInput(f"{file} cannot be written: {exc.strerror}; name another file") from exc
    return count


def _lines(disk: Reads, proc: Process, at: int) -> Iterator[Head | PageLine]:
    timers = []
    for number in proc.timers:
        row = disk.get("timer", key(number))
        if row is not None:
            timer = msgspec.msgpack.decode(row, type=Timer)
            timers.append(TimerLine(timer.due, timer.every_ns, timer.text))
    counters = msgspec.msgpack.decode(disk.get("meta", b"kernel") or b"\x90")
    lsn = counters[0] if counters else 0
    yield Head(FORMAT, VERSION, proc.spec, tuple(timers), at, lsn)
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
        )


def read(file: Path, name: str = "") -> Imported:
    """The event that an export's file is, under its own name or `name`. Raises BadInput if it is none, or not whole."""
    try:
        with file.open("rb") as stream:
            zipped = stream.read(2) == b"\x1f\x8b"
        with _opened(file, "rb", gz=zipped) as stream:
            return _read(stream, file, name)
    except (OSError, EOFError) as exc:
        raise BadInput(f"{file} cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise BadInput(f"{file} is no process that llmos exported: {exc}") from exc


def _read(stream: IO[bytes], file: Path, name: str) -> Imported:
    first = stream.readline()
    head = _head(first, file)
    digest, pages, size = hashlib.sha256(first), list[Moved](), 0
    decoder, tail = msgspec.json.Decoder(PageLine), None
    for raw in stream:
        if raw.startswith(b'{"pages":'):
            tail = msgspec.json.decode(raw, type=Tail)
            break
        digest.update(raw)
        line = decoder.decode(raw)
        size += len(line.text)
        if size > TEXT_MAX or not line.text:
            raise BadInput(f"{file}: page {line.seq} is empty, or all together exceed {TEXT_MAX} characters")
        if line.kind in REMADE:
            raise BadInput(f"{file}: page {line.seq} is of kind {line.kind}, which every machine makes itself")
        fields = (line.kind, line.origin, line.role, line.area, line.at, line.text, line.gist, line.where, line.group)
        pages.append(Moved(*fields, line.pinned))
    if tail is None or (tail.pages, tail.sha256) != (len(pages), digest.hexdigest()):
        raise BadInput(f"{file} is cut short or was changed: its last line does not fit the rest")
    spec = msgspec.structs.replace(head.spec, name=name or head.spec.name)
    timers = tuple(MovedTimer(one.due, one.every_ns, one.text) for one in head.timers)
    return Imported(spec=spec, pages=tuple(pages), timers=timers)


def _head(line: bytes, file: Path) -> Head:
    """The head, of whatever version this kernel reads."""
    version = msgspec.json.decode(line, type=_Version).version
    if version not in (1, VERSION):
        raise BadInput(f"{file} has version {version} of the export's format; this llmos reads 1 and {VERSION}")
    if version == VERSION:
        return msgspec.json.decode(line, type=Head)
    old = msgspec.json.decode(line, type=Head1)
    spec = Spec(old.name, old.mask, old.system, old.blocks, old.nice, old.abort, old.model)
    timers = tuple(TimerLine(one.due, one.every, one.text) for one in old.timers)
    return Head(old.format, VERSION, spec, timers, old.exported_at, old.lsn)


def _opened(file: Path, mode: Literal["rb", "wb"], *, gz: bool) -> IO[bytes]:
    if not gz:
        return file.open(mode)
    return cast(IO[bytes], gzip.open(file, mode))
