"""What clients read of a machine: pure functions of the kernel's state and the disk, and the structs they give.

The structs are the protocol: a field's name and order is what goes over the wire (drivers/door/wire.py). Importing them
costs a client next to nothing, so no scheduler, policy or trio is imported here.
The caller's duty: read on the machine's own thread, between two steps; `history`, `facts` and `calls` may run on any,
for they read the disk and nothing else.
Not here: what changes anything (requests.py), what is told as it happens (feed.py).
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from kernel import formats, manner, records
from kernel.errors import Unknown, some
from kernel.event import AnyEvent, Message, Messaged, Note, Trapped
from kernel.memory.address_space import Entry as PageEntry
from kernel.memory.page import OWN, Kind, Origin, Page, Role
from kernel.ports import Device, Reads, Server
from kernel.process import Accounts, Process, State, asker
from kernel.sampling import Sampling
from kernel.spec import Spec, digest

if TYPE_CHECKING:
    from kernel.state import Kernel

TOOLS_SHOWN: Final = 2_000  # of all servers together, in one answer
LOG_STEPS: Final = 1_000  # of one reading of the log
HEARD_CHARS_MAX: Final = 32_768  # of a message, for those who listen: a line of theirs has room for it
LOG_BYTES: Final = 256 << 10  # of the journal in one piece of it: some milliseconds
LOG_PIECE: Final = 200  # steps of a piece at most
PROCESSES_PIECE: Final = 200  # processes of a piece: likewise
OUTBOX_BYTES: Final = 256 << 10  # of messages in a piece: likewise, and no more than a line holds
HEAD_CHARS: Final = 200  # of a page's text where many are shown
REMEMBERED_MAX: Final = 1_000  # changes of what is remembered that are told at once, the newest of them
AROUND_CHARS: Final = 40  # of a text before a word that was found in it
HISTORY_PAGES: Final = 1_024  # in one reading of the table of pages: some 10 ms


class Heard(msgspec.Struct, frozen=True):
    """A user's message that a process was sent, by whichever client; of a long one the beginning."""

    pid: int
    mid: str
    text: str


class Cost(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a run of the CPU came to, in tokens as `Trapped` has them, and which pages its text drew on."""

    pid: int
    prompt: int = 0
    prefill: int = 0
    decoded: int = 0
    drew: tuple[int, ...] = ()


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """The notes of one step, as dmesg and subscribers see them; `heard`: the message that it took, for chats alone.

    `at` is ns UTC, as the wall clock said.
    """

    lsn: int
    at: int
    notes: tuple[Note, ...]
    heard: Heard | None = None
    ran: Cost | None = None


class Row(msgspec.Struct, frozen=True, array_like=True):
    """A page of an address space."""

    page: int
    kind: Kind
    role: Role
    tokens: int
    pinned: bool


class Segment(msgspec.Struct, frozen=True):
    """A segment of an address space, with its pages in prompt order."""

    name: str
    capacity: int
    pages: tuple[Row, ...]


class Map(msgspec.Struct, frozen=True):
    """The address space of a process."""

    pid: int
    name: str
    window: int
    segments: tuple[Segment, ...]
    budgets: dict[str, int]


class About(msgspec.Struct, frozen=True):
    """Whose a page is, and when it was made (ns UTC)."""

    origin: Origin
    at: int


class Match(msgspec.Struct, frozen=True):
    """A page in which words were found; `text` is what stands around the first of them."""

    page: int
    pid: int
    kind: Kind
    origin: Origin
    at: int  # ns UTC
    text: str


class MemoryView(msgspec.Struct, frozen=True):
    """What a process has in view and on disk: tokens of its queue, pages resident, pages made."""

    used: int
    queue: int
    resident: int
    pages: int


class ProcessView(msgspec.Struct, frozen=True):
    """A line of `ps`. Not the whole Spec: instructions and core blocks of thousands would exceed what a line holds."""

    pid: int
    name: str
    state: State
    status: str
    calls: tuple[str, ...]
    model: str  # the model's own name
    accounts: Accounts
    memory: MemoryView
    pending: int
    outbox: int
    acked: int
    timers: int
    encoding: str  # "json" or "prose": by which what it emits is calls
    sampling: Sampling | None = None  # how its words are drawn, as far as it was chosen
    asks: int = 0  # the process whose call waits for consent: it, or one that it waits for; 0: none


class Described(msgspec.Struct, frozen=True):
    """What a process is made of, whole: its choices with its core blocks as they are now."""

    pid: int
    spec: Spec
    model: str  # the model's own name
    core: int  # tokens of core memory in view
    core_max: int  # which it may have
    digests: dict[str, str] = {}  # of its core blocks, by which one is written; "": of one that is not there


class Called(msgspec.Struct, frozen=True):
    """A call of a process, as its pages have it: what was emitted, and what the kernel answered."""

    page: int
    at: int  # ns UTC
    text: str  # as it was emitted
    tokens: int  # 0 where another model counted them
    result: str = ""  # "" where there is none, or none yet
    ns: int = 0  # from the call to its result


class FactView(msgspec.Struct, frozen=True):
    """A fact that reflection found; its number is its page's."""

    page: int
    subject: str
    text: str
    said: int  # ns UTC
    holds: str
    rests: tuple[int, ...]  # pages that it stands in
    corrects: int  # the fact that it takes the place of; 0: none
    corrected: int  # the fact that takes its place; 0: none
    origin: Origin


class By(enum.StrEnum):
    """Who changed what is remembered."""

    BEFORE = "before"  # it stood there where the journal begins
    BEGUN = "begun"  # the process was made with it
    FORK = "fork"  # its parent's
    OUTSIDE = "outside"  # a client wrote it
    PROCESS = "process"  # an instruction did
    REFLECTION = "reflection"  # a thread of the kernel's did


class Remembered(msgspec.Struct, frozen=True, omit_defaults=True):
    """A core block from step `lsn` on (`text` "": it is gone), or, with a page, a fact that was found in it.

    `at` is ns UTC; of what stood there before, 0.
    """

    lsn: int
    at: int
    by: By
    block: str = ""
    text: str = ""
    page: int = 0
    subject: str = ""  # of a fact
    corrects: int = 0  # the fact, by its page, that it takes the place of


def find(kernel: Kernel, proc: str | int) -> int:
    """The number of a process by name or number. Raises BadInput naming those that exist."""
    if isinstance(proc, str) and proc in kernel.names:
        return kernel.names[proc]
    if isinstance(proc, int) or (proc.isascii() and proc.isdigit()):
        return int(proc) if int(proc) in kernel.procs else kernel.proc(int(proc)).pid
    raise Unknown(f"no process {proc!r}; processes are {some(kernel.names)}")


def processes(kernel: Kernel, after: int = 0, limit: int | None = None) -> list[ProcessView]:
    """Every process after number `after`, by number, or the first `limit` of them."""
    numbers = (pid for pid in kernel.procs if pid > after)
    return [_view(kernel, kernel.procs[pid]) for pid in islice(numbers, limit)]


def process(kernel: Kernel, proc: str | int) -> ProcessView:
    """One process. Raises BadInput as `find` does."""
    return _view(kernel, kernel.procs[find(kernel, proc)])


def _view(kernel: Kernel, proc: Process) -> ProcessView:
    space = proc.space
    return ProcessView(
        pid=proc.pid,
        name=proc.name,
        state=proc.state,
        status=proc.status or _of_thread(kernel, proc),
        calls=proc.spec.calls,
        model=kernel.models[kernel.model_of(proc.pid)].title,
        accounts=proc.accounts,
        memory=MemoryView(
            used=space.used(),
            queue=kernel.budgets(proc).queue,
            resident=len(space.queue) + len(space.recall),
            pages=proc.seq,
        ),
        pending=len(proc.pending),
        outbox=proc.said - proc.acked,
        acked=proc.acked,
        timers=len(proc.timers),
        encoding=manner.writes(kernel, proc),
        sampling=proc.spec.sampling,
        asks=asks.pid if (asks := asker(kernel.procs, proc)) is not None else 0,
    )


def described(kernel: Kernel, proc: str | int) -> Described:
    """What a process is made of. Raises BadInput as `find` does."""
    found = kernel.procs[find(kernel, proc)]
    data = found.space.data
    return Described(
        pid=found.pid,
        spec=found.spec,
        model=kernel.models[kernel.model_of(found.pid)].title,
        core=data.tokens if data is not None else 0,
        core_max=kernel.budgets(found).data,
        digests={name: digest(text) for name, text in {**found.spec.blocks, "": ""}.items()},
    )


def _of_thread(kernel: Kernel, proc: Process) -> str:
    """What a thread of the kernel's does; "" for everybody else."""
    if proc.work is not None:
        return f"the kernel's own, for {kernel.procs[proc.work.owner].name}"
    return "the kernel's own" if proc.thread else ""


def pmap(kernel: Kernel, proc: str | int) -> Map:
    """The address space of a process, segment by segment in prompt order."""
    found = kernel.procs[find(kernel, proc)]
    space, limits = found.space, kernel.budgets(found)
    return Map(
        pid=found.pid,
        name=found.name,
        window=limits.window,
        segments=(
            _segment("text", limits.text, [space.text]),
            _segment("data", limits.data, [space.data]),
            _segment("queue", limits.queue, space.queue[: space.turn]),
            _segment("recall", limits.recall, space.recall),
            _segment("turn", limits.queue, space.queue[space.turn :]),
        ),
        budgets=msgspec.to_builtins(limits),
    )


def _segment(name: str, capacity: int, entries: Sequence[PageEntry | None]) -> Segment:
    rows = tuple(Row(one.page, one.kind, one.role, one.tokens, one.pinned) for one in entries if one is not None)
    return Segment(name, capacity, rows)


def resident(kernel: Kernel, pid: int) -> set[int]:
    """Numbers of the pages that a process has in its queue or recall area."""
    return kernel.proc(pid).space.resident()


def outbox(kernel: Kernel, disk: Reads, pid: int) -> list[Message]:
    """Messages of a process that nobody has acknowledged, in order."""
    proc = kernel.proc(pid)
    keys = [records.key(pid, seq) for seq in range(proc.acked + 1, proc.said + 1)]
    return [msgspec.msgpack.decode(row, type=Message) for row in disk.get_many("outbox", keys) if row is not None]


def log(disk: Reads, since: int, limit: int = LOG_STEPS) -> list[Entry]:
    """Notes of the steps after log number `since`, oldest first, of at most `limit` steps."""
    rows = disk.scan("journal", records.key(since + 1), limit=limit)
    return [unheard(found) for _, value in rows if (found := entry(value)).notes]


def log_piece(disk: Reads, since: int, limit: int) -> tuple[list[Entry], int]:
    """A piece of it, read within milliseconds, and the log number that it goes up to: `since` if none follows."""
    found, size = list[Entry](), 0
    for _, value in disk.scan("journal", records.key(since + 1), limit=min(limit, LOG_PIECE)):
        read = entry(value)
        since, size = read.lsn, size + len(value)
        if read.notes:
            found.append(read)
        if size > LOG_BYTES:
            break
    return found, since


def outbox_piece(disk: Reads, pid: int, after: int, upto: int) -> tuple[list[Message], bool]:
    """Messages of a process from after number `after` to `upto`, as many as a line holds; whether there are more."""
    found, size = list[Message](), 0
    for _, value in disk.scan("outbox", records.key(pid, after + 1), limit=upto - after) if after < upto else ():
        message = msgspec.msgpack.decode(value, type=Message)
        if message.pid != pid or message.seq > upto:
            break
        if size > OUTBOX_BYTES:
            return found, True
        found.append(message)
        size += len(value)
    return found, False


def entry(value: bytes) -> Entry:
    """What clients see of a row of the journal."""
    journaled = formats.entry(value)
    return seen(journaled.lsn, journaled.event, journaled.notes)


def seen(lsn: int, event: AnyEvent, notes: tuple[Note, ...]) -> Entry:
    """What clients see of a step that took `event`."""
    heard, ran = None, None
    if isinstance(event, Messaged):
        heard = Heard(event.pid, event.mid, "".join(part.text for part in event.parts)[:HEARD_CHARS_MAX])
    if isinstance(event, Trapped):
        ran = Cost(event.pid, event.prompt, event.prefill, event.decoded, event.drew)
    return Entry(lsn, event.at + event.ahead, notes, heard, ran)


def of_process(entry: Entry, pid: int) -> Entry | None:
    """The entry with the notes of one process and those of none; None if nothing is left. 0: all."""
    if not pid:
        return entry
    notes = tuple(note for note in entry.notes if note.pid in (0, pid))
    heard = entry.heard if entry.heard is not None and entry.heard.pid == pid else None
    ran = entry.ran if entry.ran is not None and entry.ran.pid == pid else None
    return Entry(entry.lsn, entry.at, notes, heard, ran) if notes else None


def past_piece(disk: Reads, pid: int, before: int, limit: int) -> tuple[list[Entry], int]:
    """What a piece of the log that ends before log number `before` says of a process, newest first, `limit` at most.

    And the log number before which to go on, 0 if there is nothing more.
    """
    found, size, lsn = list[Entry](), 0, before
    for _, value in disk.scan("journal", records.key(before - 1), reverse=True, limit=LOG_PIECE) if before > 1 else ():
        read = entry(value)
        lsn, size = read.lsn, size + len(value)
        mine = of_process(unheard(read), pid)
        if mine is not None and any(note.pid == pid for note in mine.notes):
            found.append(mine)
        if size > LOG_BYTES or len(found) == limit:
            break
    return found, lsn if lsn < before else 0


def unheard(entry: Entry) -> Entry:
    """An entry for who reads the log, and not what was said."""
    return entry if entry.heard is None else msgspec.structs.replace(entry, heard=None)


def message_page(disk: Reads, mid: str) -> int:
    """The first page of the message with that id; 0 if there is none."""
    row = disk.get("mid", mid.encode())
    return 0 if row is None else records.unkey(row)[1]


def newest(kernel: Kernel, disk: Reads, pid: int) -> int:
    """A page after which a process has none: its newest, if that is in view, else the machine's newest. One read."""
    proc = kernel.procs[pid]
    seen = max(proc.space.resident() | proc.undelivered(), default=0)
    row = disk.get("page", records.key(seen)) if seen else None
    return seen if row is not None and _head.decode(row).seq == proc.seq else kernel.counters.page


def history(disk: Reads, pid: int, limit: int, upto: int = 0) -> list[Page]:
    """The last messages in and out of a process, oldest first, of pages up to number `upto` (0: all).

    It reads backwards and ends with the process's first page, however many pages of others lie between.
    """
    rows = islice(_backwards(disk, pid, (Kind.MESSAGE,), upto), limit)
    return [records.page_of(row, disk.get) for row in rows][::-1]


def facts(disk: Reads, pid: int, limit: int, upto: int = 0) -> list[FactView]:
    """The last facts found for a process, oldest first; what corrects one is newer, so it is known."""
    found: list[FactView] = []
    corrected: dict[int, int] = {}
    for row in islice(_backwards(disk, pid, (Kind.FACT,), upto), limit):
        page = records.fact_of(row)
        if page is None or page.fact is None:
            continue
        fact = page.fact
        if fact.corrects:
            corrected[fact.corrects] = page.id
        by = corrected.get(page.id, 0)
        found.append(
            FactView(
                page.id, fact.subject, fact.text, fact.said, fact.holds, fact.rests, fact.corrects, by, page.origin
            )
        )
    return found[::-1]


def calls(disk: Reads, pid: int, measure: str, *, since: int, upto: int, limit: int, bytes_max: int) -> list[Called]:
    """The last calls of a process, oldest first, of pages after `since` and up to `upto` (0: all).

    At most `limit` of them, and as many as have `bytes_max` bytes as JSON; one alone is given however long it is.
    """
    found: list[Called] = []
    results: list[Page] = []  # of the call that is yet to be found
    size = 0
    for row in _backwards(disk, pid, (Kind.SYSCALL, Kind.MESSAGE, Kind.RESULT, Kind.DELTA), upto):
        page = records.page_of(row, disk.get)
        if page.id <= since:
            break
        if page.kind in (Kind.RESULT, Kind.DELTA) and page.origin is not Origin.IMPORT:
            results.append(page)
        if page.origin not in OWN or page.of:
            continue
        ids = disk.get("ids", records.ids_key(measure, page.id)) or b""
        told, answered = "\n".join(one.text for one in reversed(results)), results[-1].at if results else page.at
        one = Called(page.id, page.at, page.text, len(ids) // 4, told, max(0, answered - page.at))
        results.clear()
        size += len(msgspec.json.encode(one))
        if found and size > bytes_max:
            break
        found.append(one)
        if len(found) == limit:
            break
    return found[::-1]


def page(kernel: Kernel, disk: Reads, proc: str | int, number: int) -> Page:
    """A page that is a process's, or that it sees. Raises BadInput if it is neither."""
    found = kernel.procs[find(kernel, proc)]
    row = disk.get("page", records.key(number))
    shown = records.page_of(row, disk.get) if row is not None else None
    seen = found.space.resident() | ({found.space.text.page} if found.space.text is not None else set())
    if shown is None or (shown.pid != found.pid and number not in seen):
        raise Unknown(f"no page {number} of process {found.name}; llmos pmap lists those in view")
    return shown


def heads(disk: Reads, pages: Sequence[int]) -> dict[int, str]:
    """How the texts of pages begin."""
    return {number: found.text[:HEAD_CHARS] for number, found in looked_up(disk, pages).items()}


def looked_up(disk: Reads, pages: Sequence[int]) -> dict[int, Page]:
    """Those pages that are there."""
    found = zip(pages, records.pages_of(disk, pages), strict=True)
    return {number: page for number, page in found if page is not None}


def grep_piece(disk: Reads, words: Sequence[str], pid: int, before: int, limit: int) -> tuple[list[Match], int]:
    """Pages of a process (0: of all) before page `before` (0: the last) in which all words stand, of one piece.

    Newest first, `limit` at most; `words` in lower case. And the page before which to go on, 0 if there is none. Of
    pages that show another, as a fork's, only those of a process that is named are given.
    """
    found, at = list[Match](), before
    start = records.key(before - 1) if before else b""
    for key, row in disk.scan("page", start, reverse=True, limit=HISTORY_PAGES) if before != 1 else ():
        at = records.unkey(key)[0]
        head = _head.decode(row)
        if head.kind is Kind.GONE or (pid and head.pid != pid):
            continue
        page = records.page_of(row, disk.get)
        text = page.searched
        lower = text.lower()
        if (page.of and not pid) or not all(word in lower for word in words):
            continue
        around = max(0, min(lower.find(word) for word in words) - AROUND_CHARS)
        found.append(Match(page.id, page.pid, page.kind, page.origin, page.at, text[around : around + HEAD_CHARS]))
        if len(found) == limit:
            break
    return found, at if at != before else 0


def _backwards(disk: Reads, pid: int, kinds: Collection[Kind], upto: int) -> Iterator[bytes]:
    """The rows of a process's pages of some kinds, newest first, down to its first page."""
    start = records.key(upto) if upto else b""
    while rows := disk.scan("page", start, reverse=True, limit=HISTORY_PAGES):  # ends at the first page of all, too
        for _, row in rows:
            head = _head.decode(row)
            if head.pid != pid:
                continue
            if head.kind in kinds:
                yield row
            if head.seq == 1:
                return
        start = records.key(records.unkey(rows[-1][0])[0] - 1)


class _Head(msgspec.Struct, frozen=True, array_like=True):
    """What a page's row begins with: whose it is can be told without its text."""

    id: int
    pid: int
    seq: int
    kind: Kind


_head: Final = msgspec.msgpack.Decoder(_Head)


class ToolView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool, as its server says. `again`: it may be used once more where nobody knows whether it was."""

    name: str
    purpose: str = ""
    reads: bool = False
    again: bool = False


class ServerView(msgspec.Struct, frozen=True):
    """A server of tools as it stands, and what it offered last: of very many, the first."""

    server: Server
    tools: tuple[ToolView, ...] = ()


def servers(kernel: Kernel, device: Device | None) -> Iterator[ServerView]:
    """The servers of tools of a machine, by name."""
    left = TOOLS_SHOWN
    for one in sorted(device.seen() if device is not None else (), key=lambda server: server.name):
        tools = kernel.offers.get(one.name, ())[:left]
        left -= len(tools)
        seen = tuple(ToolView(tool.name, tool.purpose, tool.reads, tool.safe) for tool in tools)
        yield ServerView(one, seen)
