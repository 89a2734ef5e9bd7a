"""Events that panic the kernel: noted on disk, and set aside when they do it twice.

A panic is a fault of the kernel's: what it had in memory is not trusted, nothing of the batch is committed, and boot
goes on from the last commit. Most faults do not come again. One that does, because boot derives the same event from the
same state, would stop every boot; so at the second panic of the same event the event is set aside: the next boot kills
its process, whose memory is kept, and the machine no longer lets that event in.
Not here: who boots again (llmos/init.py).
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from kernel.errors import LINE_CHARS_MAX
from kernel.event import Acted, AnyEvent, Event, Fetched, Loaded, Outcome, Searched, Trapped
from kernel.ports import Reads, Record
from kernel.records import encode

KEY: Final = b"panics"
TIMES: Final = 2
WHEN: Final = tuple(field for field in Event.__struct_fields__ if field != "source")  # it comes, and as which
KEPT: Final = 100  # events that are remembered, the newest


class Panicked(msgspec.Struct, frozen=True, array_like=True):
    """An event that the kernel panicked on, how often, and the last error. `stopped`: its process has been."""

    event: bytes  # its identity
    pid: int
    error: str
    times: int
    stopped: bool = False


def identity(event: AnyEvent) -> bytes:
    """What an event has in common with its like after a boot: not when it came, nor what it cost."""
    match event:
        case Trapped():
            same: object = ("trapped", event.tag.pid, event.tag.instr)
        case Searched() | Loaded() | Fetched() | Acted():
            same = (type(event).__name__, event.pid, event.req)
        case _:
            same = msgspec.structs.replace(event, **dict.fromkeys(WHEN, 0))
    try:
        raw = encode(same)
    except (OverflowError, UnicodeEncodeError):  # what no record can hold may be what it panicked on
        raw = repr(same).encode(errors="backslashreplace")
    return hashlib.blake2b(raw, digest_size=16).digest()


def known(disk: Reads) -> list[Panicked]:
    """The events that panicked a kernel on this disk."""
    row = disk.get("set", KEY)
    return [] if row is None else msgspec.msgpack.decode(row, type=list[Panicked])


def note(disk: Reads, event: AnyEvent, error: str) -> Record:
    """What to commit when the kernel has panicked on `event`."""
    who, kept = identity(event), known(disk)
    before = next((one for one in kept if one.event == who), None)
    times = 1 + (before.times if before is not None else 0)
    rest = [one for one in kept if one.event != who]
    return _record([*rest, Panicked(who, getattr(event, "pid", 0), error[:LINE_CHARS_MAX], times)])


def stopped(kept: list[Panicked], events: set[bytes]) -> Record:
    """What to commit when the processes of `events` have been stopped."""
    return _record([msgspec.structs.replace(one, stopped=True) if one.event in events else one for one in kept])


def harmless(event: AnyEvent) -> AnyEvent | None:
    """What takes the place of an event that was set aside: a run has to end, or its slot would never be free."""
    if isinstance(event, Trapped):
        return Trapped(
            source=event.source,
            slot=event.slot,
            tag=event.tag,
            outcome=Outcome.FAILED,
            error="set aside",
        )
    return None


def _record(kept: list[Panicked]) -> Record:
    return Record("set", KEY, encode(kept[-KEPT:]))
