"""Directories of an older format: how their records are read, and what their kernel would have written.

A boot that finds one takes the step Upgraded first, which writes PCBs and timers in the present format; nothing else
changes, and journal entries stay as they are. So a replay that begins before that step hashes what the older format
had, comes to the hashes of then, and goes on past it.
Format 5: processes made none, sent each other nothing and held no rights: the PCB ended with `tried`.
Format 4: there was one time, the wall clock's, kept from going back, so timers that wait for a date are as all others;
a call that failed was an illegal instruction, and the PCB did not know what a turn has tried.
Format 3: the PCB ended with `discard`, a search knew no turn before it, and whole pages were recalled; what a turn drew
on, the split of the window, and passages are format 4.
Format 2: a process's choices stood in the PCB and in Spawned one by one, accounts without their names, and a run's
identity in Trapped; Spec and Tag are format 3. Format 1 has no checksums: drivers/disk/lmdb.py makes 2 of it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from kernel import records
from kernel.errors import BadInput
from kernel.event import (
    Acked,
    AnyEvent,
    Booted,
    Checkpointed,
    Event,
    Filed,
    Forked,
    Imported,
    Killed,
    Load,
    Loaded,
    Messaged,
    Moved,
    MovedTimer,
    Note,
    Outcome,
    Raised,
    Search,
    Searched,
    Spawned,
    Tag,
    TimerFired,
    Trapped,
    Upgraded,
)
from kernel.interrupts import Pending
from kernel.memory.address_space import AddressSpace, Entry
from kernel.memory.page import Area
from kernel.ports import Reads
from kernel.process import Accounts, Process, State, Timer
from kernel.records import CURRENT, Counters, Form, JournalEntry
from kernel.spec import Spec


class Accounts2(msgspec.Struct, array_like=True):
    """The accounts of format 2."""

    entered: int
    recalled: int
    emitted: int
    prefill: int
    faults: int
    evictions: int
    interrupts: int
    coalesced: int
    turns: int
    syscalls: int
    illegal: int
    kv: int
    again: int
    restored: int
    shared: int


class Search3(msgspec.Struct, frozen=True, kw_only=True, tag="Search"):
    """A search of format 3."""

    pid: int
    req: int
    area: tuple[Area, ...]
    query: str
    pages: tuple[int, ...]
    since: int
    until: int
    limit: int
    cursor: int
    exclude: tuple[int, ...]
    upto: int
    neighbours: bool = False
    deadline_s: float


class AddressSpace3(msgspec.Struct, array_like=True):
    """The page table of format 3."""

    text: Entry | None
    text_key: str
    data: Entry | None
    queue: list[Entry]
    turn: int
    recall: list[Entry]
    pressed: bool
    evicted: int
    group: int


class Process2(msgspec.Struct, array_like=True):
    """The PCB of format 2."""

    pid: int
    name: str
    mask: tuple[str, ...]
    system: str
    blocks: dict[str, str]
    space: AddressSpace
    state: State
    status: str
    seq: int
    instr: int
    attempt: int
    ids: tuple[int, ...]
    open: bool
    restarted: bool
    in_turn: bool
    turn_syscalls: int
    turn_tokens: int
    answers: tuple[str, ...]
    pending: list[Pending]
    raised: int
    req: int
    wait: Search | Load | None
    demand: bool
    timers: list[int]
    said: int
    acked: int
    illegal_row: int
    failed_row: int
    accounts: Accounts2
    policy: Any
    masked: dict[int, int]
    unmask: int
    abort: bool
    discard: bool
    nice: int
    model: str


class Spawned2(Event, frozen=True, kw_only=True, tag="Spawned"):
    """See event.Spawned."""

    name: str
    mask: tuple[str, ...]
    blocks: dict[str, str] = {}
    system: str = ""
    nice: int = 0
    abort: bool = False
    model: str = ""


class Imported2(Event, frozen=True, kw_only=True, tag="Imported"):
    """See event.Imported."""

    spawn: Spawned2
    pages: tuple[Moved, ...]
    timers: tuple[MovedTimer, ...] = ()


class Trapped2(Event, frozen=True, kw_only=True, tag="Trapped"):
    """See event.Trapped."""

    slot: int
    pid: int
    instr: int
    attempt: int
    outcome: Outcome
    text: str = ""
    ids: tuple[int, ...] = ()
    truncated: bool = False
    error: str = ""
    first_at: int = 0
    prompt: int = 0
    prefill: int = 0
    decoded: int = 0
    kv: int = 0
    again: int = 0
    restored: int = 0
    shared: int = 0


class JournalEntry2(msgspec.Struct, frozen=True, array_like=True):
    """See records.JournalEntry. Upgraded is the first event of a boot that knows a later format."""

    lsn: int
    event: (
        Booted
        | Spawned2
        | Imported2
        | Forked
        | Messaged
        | Filed
        | Killed
        | Raised
        | TimerFired
        | Trapped2
        | Searched
        | Loaded
        | Acked
        | Checkpointed
        | Upgraded
    )
    sizes: tuple[tuple[tuple[int, tuple[int, ...]], ...], ...]
    notes: tuple[Note, ...]
    hash: bytes


_procs2: Final = msgspec.msgpack.Decoder(Process2)
_entries2: Final = msgspec.msgpack.Decoder(JournalEntry2)
_FIELDS5: Final = Process.__struct_fields__[: Process.__struct_fields__.index("tried") + 1]
_FIELDS3: Final = Process.__struct_fields__[: Process.__struct_fields__.index("discard") + 1]
_CHOSEN2: Final = ("name", "mask", "system", "blocks", "nice", "abort", "model")  # of what Spec has now


def _spec(fields: dict[str, Any]) -> Spec:
    """What was chosen for a process, taken out of the fields of a struct of format 2."""
    chosen = {name: fields.pop(name) for name in _CHOSEN2}
    return Spec(calls=chosen.pop("mask"), **chosen)


def _proc2(value: bytes) -> Process:
    old = msgspec.structs.asdict(_procs2.decode(value))
    spec = _spec(old)
    accounts = Accounts(**msgspec.structs.asdict(old.pop("accounts")))
    return Process(spec=spec, held=old.pop("masked"), accounts=accounts, **old)


def _fields3(proc: Process) -> dict[str, Any]:
    """The fields of format 3, in order."""
    fields = {name: getattr(proc, name) for name in _FIELDS3}
    space = msgspec.structs.asdict(proc.space)
    whole = [[getattr(entry, name) for name in Entry.__struct_fields__] for entry in proc.space.recall]
    fields["space"] = AddressSpace3(**space | {"recall": [Entry(*row) for row in whole]})
    if isinstance(proc.wait, Search):
        wait = msgspec.structs.asdict(proc.wait)
        fields["wait"] = Search3(**{name: wait[name] for name in Search3.__struct_fields__ if name in wait})
    return fields


def _fields5(one: Process | Timer | Counters) -> tuple[str, ...]:
    """The fields of format 5."""
    return _FIELDS5 if isinstance(one, Process) else one.__struct_fields__


def _row5(one: Process | Timer | Counters) -> bytes:
    return records.encode([getattr(one, name) for name in _fields5(one)])


def _row4(one: Process | Timer | Counters) -> bytes:
    """Without the last field of each: what was tried, whether the wall clock counts, how far that is ahead."""
    return records.encode([getattr(one, name) for name in _fields5(one)[:-1]])


def _row3(one: Process | Timer | Counters) -> bytes:
    return records.encode(list(_fields3(one).values())) if isinstance(one, Process) else _row4(one)


def _row2(one: Process | Timer | Counters) -> bytes:
    if not isinstance(one, Process):
        return _row4(one)
    now = _fields3(one)
    accounts = Accounts2(**msgspec.structs.asdict(now.pop("accounts")))
    spec = now.pop("spec")
    chosen = {name: getattr(spec, name) for name in _CHOSEN2 if name != "mask"}
    return records.encode(Process2(mask=spec.calls, masked=now.pop("held"), accounts=accounts, **chosen, **now))


def _entry2(value: bytes) -> JournalEntry:
    old = _entries2.decode(value)
    fields = msgspec.structs.asdict(old.event)
    event: AnyEvent
    match old.event:
        case Spawned2():
            event = Spawned(spec=_spec(fields), **fields)
        case Imported2():
            event = Imported(spec=_spec(msgspec.structs.asdict(fields.pop("spawn"))), **fields)
        case Trapped2():
            tag = Tag(fields.pop("pid"), fields.pop("instr"), fields.pop("attempt"))
            event = Trapped(tag=tag, **fields)
        case _:
            event = old.event
    return JournalEntry(old.lsn, event, old.sizes, old.notes, old.hash)


FORM2: Final = Form(2, _proc2, _row2, _entry2)
FORM3: Final = Form(3, CURRENT.proc, _row3, CURRENT.entry)  # what it lacks, a reader fills in
FORM4: Final = Form(4, CURRENT.proc, _row4, CURRENT.entry)
FORM5: Final = Form(5, CURRENT.proc, _row5, CURRENT.entry)
FORMS: Final = {form.number: form for form in (FORM2, FORM3, FORM4, FORM5, CURRENT)}
"""What this kernel reads, oldest first."""


def of(disk: Reads) -> Form:
    """The form of what a disk holds now. Raises BadInput for one that this kernel does not know."""
    found = disk.get(*records.FORMAT_ROW)
    for number, form in FORMS.items():
        if found == str(number).encode():
            return form
    if found is None:
        return CURRENT
    known = ", ".join(map(str, FORMS))
    raise BadInput(f"the records have format {found.decode(errors='replace')}; this llmos reads {known}")


def at(disk: Reads, lsn: int) -> Form:
    """The form that the state had after step `lsn`."""
    for number in FORMS:
        row = disk.get(*records.upgraded_row(number))
        if row is not None and lsn < (numbers := records.unkey(row))[0]:
            return FORMS[numbers[1]] if len(numbers) > 1 else FORM2
    return of(disk)


def entry(value: bytes) -> JournalEntry:
    """A row of the journal, of whatever format."""
    try:
        return CURRENT.entry(value)
    except msgspec.ValidationError:
        return FORM2.entry(value)
