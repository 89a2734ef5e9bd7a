"""How the kernel's state becomes records on disk: the tables, their keys, and the hash over them.

TABLES says what each table is, once: the disk opens these, checkpoints copy those that change in place, the hash takes
those that are the state, and docs/durability.md shows them. Keys are big-endian, values msgpack; a format's version and
checksums are the disk's (drivers/disk/seal.py).
A page that a fork left to a child too is a page of the child's whose `of` names it: see page_of.
State hash: the sum modulo 2^128 of the hashes of the state's records, so a step costs what it dirtied.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from kernel.errors import KernelPanic
from kernel.event import AnyEvent, Message, Note, Tool
from kernel.memory.page import FactPage, FilePage, Origin, Page
from kernel.ports import Reads, Record
from kernel.process import Process, Timer

MASK: Final = (1 << 128) - 1
CHUNK: Final = 4_096  # rows of a table that are read at a time


class Counters(msgspec.Struct, array_like=True):
    """Numbers that only grow, and the time of the last event."""

    lsn: int = 0
    now: int = 0
    page: int = 0
    pid: int = 0
    timer: int = 0
    ahead: int = 0  # of the last event


class JournalEntry(msgspec.Struct, frozen=True, array_like=True):
    """One step: enough to take it again without a model, and to see whether it came out the same."""

    lsn: int
    event: AnyEvent
    sizes: tuple[tuple[tuple[int, tuple[int, ...]], ...], ...]  # a measured text: (characters, ids) of its parts
    notes: tuple[Note, ...]
    hash: bytes


class Said(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of a final message beside its page, which has its text: its reader may ask again."""

    page: int
    at: int
    answers: tuple[str, ...]  # as Message has them
    instr: int
    truncated: bool
    ends: bool


class Intent(msgspec.Struct, frozen=True, array_like=True):
    """That a tool is to do something in the world, and may have done it: which, a digest of how, and when."""

    tool: str
    arguments: str
    at: int


class Offer(msgspec.Struct, frozen=True, array_like=True):
    """What a server of tools offered last."""

    server: str
    tools: tuple[Tool, ...]


class Audited(msgspec.Struct, frozen=True, array_like=True):
    """A call that the audit keeps: when, in which step, what was called in words, under which pages that are not the
    user's, what became of it, and by whose right (grants as text, the giver's name in each).
    """

    at: int
    lsn: int
    call: str
    low: tuple[int, ...]
    verdict: str  # allowed, asked, granted, denied, forbidden
    why: str = ""
    rights: tuple[str, ...] = ()


class Shared(msgspec.Struct, frozen=True, array_like=True):
    """A block that several processes use: whose, what it says, which version that is and who wrote it, whether while
    others' text was in view, and who is told of writes.
    """

    name: str
    owner: int
    text: str
    version: int
    writer: int
    low: bool
    mapped: tuple[int, ...]


_encoder = msgspec.msgpack.Encoder()


def encode(value: object) -> bytes:
    """Canonical msgpack: equal values give equal bytes (struct fields in order, dicts in insertion order)."""
    return _encoder.encode(value)


class Table(msgspec.Struct, frozen=True):
    """What a table holds and how it is treated."""

    key: str  # what its keys are made of, for people
    numbers: int  # of which a key consists; 0: it is no numbers
    holds: str  # for people
    value: type[Any] | None = None  # the struct of its values; None: bytes of another kind
    in_place: bool = False  # rows change or go: checkpoints copy them; False: written once
    in_row: bool = False  # of a process they are numbered without a gap: they come at the end and go from the front
    unhashed: str = ""  # why it is no part of the state hash, if it is none
    outside: dict[
        str, Any
    ] = {}  # fields outside the logical hash, each with its reason below, and what stands for them
    nested: dict[str, dict[str, Any]] = {}  # the same for structs in a field that is a list


TABLES: Final[dict[str, Table]] = {
    "meta": Table(
        "`kernel`",
        0,
        "log number, time, the last number of pages, processes, timers, and how far the wall clock is ahead",
        Counters,
        in_place=True,
        outside={"lsn": 0, "now": 0, "ahead": 0},  # a restart takes steps of its own, and time
    ),
    "journal": Table(
        "log number",
        1,
        "event, sizes measured in its step, notes, the state hash after it",
        JournalEntry,
        unhashed="holds the hash itself",
    ),
    "proc": Table(
        "process",
        1,
        "the PCB: page table, mailbox, wait, limits, accounts",
        Process,
        in_place=True,
        outside={
            "attempt": 0,  # a run that was cut off is another attempt
            "restarted": False,
            "accounts": None,  # what was evaluated or emitted again counts again
            "lent": 0,  # likewise
            "policy": None,  # it may date what it keeps by references, and a restart refers to nothing again
        },
        nested={"pending": {"at": 0}},  # the same at another time
    ),
    "page": Table(
        "page",
        1,
        "text, kind, origin, role, owner, time; never changed, and gone with its process alone",
        Page,
        outside={"at": 0},
    ),
    "ids": Table(
        "measure / page",
        0,
        "token ids by that model",
        unhashed="belong to a model, not to the state: another model has others",
    ),
    "timer": Table("timer", 1, "when, whose, how often", Timer, in_place=True),
    "outbox": Table(
        "process, number",
        2,
        "a final message that is not acknowledged",
        Message,
        in_place=True,
        in_row=True,
        outside={"at": 0},
    ),
    "intent": Table(
        "process, request",
        2,
        "that a tool is to do something: which, a digest of its arguments, when; gone when it is known what came of it",
        Intent,
        in_place=True,
        outside={"at": 0},
    ),
    "used": Table("process", 1, "how often it has used tools in the turn that it is in", in_place=True),
    "tool": Table("digest of a server's name", 0, "what the server offered last", Offer, in_place=True),
    "mid": Table("a client's key", 0, "process and page"),
    "said": Table(
        "process, number",
        2,
        "of every final message, acknowledged or not: its page, and what it answers",
        Said,
        unhashed="no step reads it: clients find with it what a message was answered",
    ),
    "shared": Table("name", 0, "a block that several processes use, with its version", Shared, in_place=True),
    "audit": Table(
        "process, number",
        2,
        "of a call under others' eyes, or one that was refused: what was called, what was in view, who allowed it",
        Audited,
        in_place=True,
        unhashed="no step reads it: it is for people who ask why",
    ),
    "set": Table(
        "`settings`, `model`, `cpu`, `served`, `embedded`, `measure`, `clock`, `panics`, `upgraded`, `upgraded4`, "
        "`upgraded5`, `upgraded6`",
        0,
        "how the machine is run; events that panicked it",
        in_place=True,
        unhashed="how the machine is run, given to the kernel by Booted",
    ),
    "base": Table(
        "checkpoint, table / key; `at`, `next`",
        0,
        "checkpoints: copies of `meta`, `proc`, `timer`, `outbox`, `intent`, `used`, `tool`, `shared`, and what ran",
        in_place=True,
        unhashed="a copy",
    ),
}


class Form(NamedTuple):
    """How the records of one format are read and written; formats.py has the older ones."""

    number: int
    proc: Callable[[bytes], Process]
    row: Callable[[Process | Timer | Counters], bytes]  # what one of an older format lacks, a reader fills in
    entry: Callable[[bytes], JournalEntry]


CURRENT: Final = Form(6, msgspec.msgpack.Decoder(Process).decode, encode, msgspec.msgpack.Decoder(JournalEntry).decode)

HASHED: Final = tuple(name for name, table in TABLES.items() if not table.unhashed)
STATE: Final = tuple(name for name in HASHED if TABLES[name].in_place)
"""What changes in place, the machine's settings excepted: with the numbers of what is written once, the whole state."""
DOCUMENTS: Final = "d/"  # what message ids of documents begin with, and no client's does
FORMAT_ROW: Final = ("meta", b"format")  # the version of what stands in the tables; no record of the state's


_KEYS: Final = (struct.Struct(""), struct.Struct(">Q"), struct.Struct(">2Q"))  # by how many numbers


def key(*numbers: int) -> bytes:
    """One or two numbers as a key that sorts like them."""
    return _KEYS[len(numbers)].pack(*numbers)


def unkey(raw: bytes) -> tuple[int, ...]:
    """The numbers of a key."""
    return struct.unpack(f">{len(raw) // 8}Q", raw)


_pages: Final = msgspec.msgpack.Decoder(Page)
_facts: Final = msgspec.msgpack.Decoder(FactPage)
_files: Final = msgspec.msgpack.Decoder(FilePage)


def page_of(row: bytes, get: Callable[[str, bytes], bytes | None]) -> Page:
    """The page of a row, with what it shows; `of` is then the page whose text and ids it has, or 0 if they are its own.

    `get` reads a table, as ports.Reads does. Raises KernelPanic if the page that it shows is missing.
    """
    page = shown = _page(row)
    while shown.of:  # ends: a page shows an older one
        older = get("page", key(shown.of))
        if older is None:
            raise KernelPanic(f"page {shown.of}, which page {shown.id} shows, is not on disk")
        shown = _page(older)
    if shown is page:
        return page
    return msgspec.structs.replace(shown, id=page.id, pid=page.pid, seq=page.seq, of=shown.id)


def pages_of(disk: Reads, numbers: Iterable[int]) -> list[Page | None]:
    """Pages by number, each with what it shows, in one read; None for one that is not there."""
    rows = disk.get_many("page", [key(number) for number in numbers])
    return [None if row is None else page_of(row, disk.get) for row in rows]


def _page(row: bytes) -> Page:
    """The page of a row; of a document, with where it stands there."""
    page = _pages.decode(row)
    return (file_of(row) or page) if page.origin is Origin.FILE else page


def fact_of(row: bytes) -> FactPage | None:
    """The page of a row with its record, if it is a fact."""
    page = _facts.decode(row)
    return page if page.fact is not None else None


def file_of(row: bytes) -> FilePage | None:
    """The page of a row with where it stands, if it is of a document."""
    page = _files.decode(row)
    return page if page.source is not None else None


def upgraded_row(number: int) -> tuple[str, bytes]:
    """Where it stands at which log number the records were brought to that format, and from which; no row: never."""
    return "set", b"upgraded" if number == 3 else b"upgraded%d" % number  # that to 3 is of 2 and has no second number


def document_mid(pid: int, place: str) -> str:
    """The message id of a part of a document of a process; which part of which, machine/documents.py `place` says."""
    return f"{DOCUMENTS}{pid}/{place}"


def ids_key(measure: str, page: int) -> bytes:
    """Where the token ids of a page by a measure stand."""
    return measure.encode() + b"/" + key(page)


def pack_ids(ids: Sequence[int]) -> bytes:
    """Token ids as little-endian u32."""
    packed = array("I", ids)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack_ids(raw: bytes) -> array[int]:
    """Token ids from little-endian u32, in four bytes each: as objects they would take ten times as much."""
    packed = array("I")
    packed.frombytes(raw)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed


def rows(disk: Reads, table: str) -> Iterator[tuple[bytes, bytes]]:
    """All pairs of a table in key order, in pieces."""
    start = b""
    while found := disk.scan(table, start, limit=CHUNK):
        yield from found
        start = found[-1][0] + b"\0"


def counters(disk: Reads) -> Counters:
    """Those of the last commit; of a disk without one they stand at 0."""
    raw = disk.get("meta", b"kernel")
    return Counters() if raw is None else msgspec.msgpack.decode(raw, type=Counters)


def digest(record: Record) -> int:
    """The record's share of the state hash; 0 for a deleted one. In each table keys or values have one length."""
    if record.value is None or TABLES[record.table].unhashed:
        return 0
    h = hashlib.blake2b(record.key + record.value, digest_size=16, person=record.table.encode())
    return int.from_bytes(h.digest(), "little")
