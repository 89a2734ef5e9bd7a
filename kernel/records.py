"""How the kernel's state becomes records on disk, and the hash over it.

Tables (big-endian keys, msgpack values; the disk's format and checksums are drivers/disk/seal.py's):
  meta     b"kernel" -> Counters
  journal  lsn -> JournalEntry: the event, sizes measured within its step, notes, the state hash after it
  proc     pid -> Process          page   page -> Page          timer  timer -> Timer
  outbox   pid, seq -> Message     mid    client's message id -> page
  (a page that a fork left to a child too is a page of the child's whose `of` names it: see page_of)
  ids      measure, page -> token ids as little-endian u32      set    b"settings" -> Settings (the machine's)
State hash: the sum modulo 2^128 of the hashes of the state's records, so a step costs what it dirtied.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from array import array
from collections.abc import Callable
from typing import Any, Final

import msgspec

from kernel.errors import KernelPanic
from kernel.event import AnyEvent, Note
from kernel.memory.page import Page
from kernel.ports import Record

MASK: Final = (1 << 128) - 1
UNHASHED: Final = (  # tables outside the logical hash, each with its reason
    "ids",  # belong to a model, not to the state: another model has others
    "journal",  # holds the hash itself
    "set",  # how the machine is run, given to the kernel by Booted
)


OUTSIDE: Final[
    dict[str, dict[str, Any]]
] = {  # outside the logical hash too: what two runs of one confluent workload may differ in, and why
    "Counters": {"lsn": 0, "now": 0},  # a restart takes steps of its own, and time
    "Page": {"at": 0},  # the same at another time
    "Message": {"at": 0},
    "Pending": {"at": 0},
    "Process": {
        "attempt": 0,  # a run that was cut off is another attempt
        "restarted": False,
        "accounts": None,  # what was evaluated or emitted again counts again
        "policy": None,  # it may date what it keeps by references, and a restart refers to nothing again
    },
}


class Counters(msgspec.Struct, array_like=True):
    """Numbers that only grow, and the time of the last event."""

    lsn: int = 0
    now: int = 0
    page: int = 0
    pid: int = 0
    timer: int = 0


class JournalEntry(msgspec.Struct, frozen=True, array_like=True):
    """One step: enough to take it again without a model, and to see whether it came out the same."""

    lsn: int
    event: AnyEvent
    sizes: tuple[tuple[tuple[int, tuple[int, ...]], ...], ...]  # a measured text: (characters, ids) of its parts
    notes: tuple[Note, ...]
    hash: bytes


_encoder = msgspec.msgpack.Encoder()


def encode(value: object) -> bytes:
    """Canonical msgpack: equal values give equal bytes (struct fields in order, dicts in insertion order)."""
    return _encoder.encode(value)


_KEYS: Final = (struct.Struct(""), struct.Struct(">Q"), struct.Struct(">2Q"))  # by how many numbers


def key(*numbers: int) -> bytes:
    """One or two numbers as a key that sorts like them."""
    return _KEYS[len(numbers)].pack(*numbers)


def unkey(raw: bytes) -> tuple[int, ...]:
    """The numbers of a key."""
    return struct.unpack(f">{len(raw) // 8}Q", raw)


_pages: Final = msgspec.msgpack.Decoder(Page)


def page_of(row: bytes, get: Callable[[str, bytes], bytes | None]) -> Page:
    """The page of a row, with what it shows; `of` is then the page whose text and ids it has, or 0 if they are its own.

    `get` reads a table, as ports.Reads does. Raises KernelPanic if the page that it shows is missing.
    """
    page = shown = _pages.decode(row)
    while shown.of:  # ends: a page shows an older one
        older = get("page", key(shown.of))
        if older is None:
            raise KernelPanic(f"page {shown.of}, which page {shown.id} shows, is not on disk")
        shown = _pages.decode(older)
    if shown is page:
        return page
    return msgspec.structs.replace(shown, id=page.id, pid=page.pid, seq=page.seq, of=shown.id)


def ids_key(measure: str, page: int) -> bytes:
    """Where the token ids of a page by a measure stand."""
    return measure.encode() + b"/" + key(page)


def pack_ids(ids: tuple[int, ...]) -> bytes:
    """Token ids as little-endian u32."""
    packed = array("I", ids)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack_ids(raw: bytes) -> tuple[int, ...]:
    """Token ids from little-endian u32."""
    packed = array("I")
    packed.frombytes(raw)
    if sys.byteorder == "big":
        packed.byteswap()
    return tuple(packed)


def digest(record: Record) -> int:
    """The record's share of the state hash; 0 for a deleted one. In each table keys or values have one length."""
    if record.value is None or record.table in UNHASHED:
        return 0
    h = hashlib.blake2b(record.key + record.value, digest_size=16, person=record.table.encode())
    return int.from_bytes(h.digest(), "little")
