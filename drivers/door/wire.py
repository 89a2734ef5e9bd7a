"""The control socket's protocol: what a client may ask, what comes back, what is pushed, as lines of JSON.

One JSON object a line, UTF-8, at most LINE_BYTES_MAX. The client's first line is Hello and so is the server's; another
version is refused with one Failed line. Every request has an `id` of the client's choosing, which its answer repeats;
requests of one connection are carried out in order, each answered before the next is read. The answer to Send, Spawn,
Fork, Set, Core, Revert, Keep, Rename, Kill, Remove, Halt, Grant, Revoke, Allow, Ack, Put, Compact and Import comes
after the commit; that to Wait when there is one, or its time is over. After Subscribe, pushes come between answers,
without `id`.
Importing this costs a client next to nothing: no trio, no machine.
Not here: what a request does (desk.py), how lines are read (lines.py, socket.py), how a client connects
(llmos/client.py).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta

from kernel.errors import BadInput, Busy, Exists, InUse, Stopped, Unknown
from kernel.event import Keeping, Message
from kernel.limits import DOCUMENT_PIECES_MAX, IMPORT_PART_BYTES_MAX, NUMBER_MAX, PATH_CHARS_MAX
from kernel.machine.documents import DocumentView, Piece
from kernel.machine.held import AUDIT_MAX, Asking, AuditView, Edge, Rights
from kernel.machine.latency import Account
from kernel.machine.replies import Reply
from kernel.machine.views import (
    REMEMBERED_MAX,
    About,
    Called,
    Described,
    Entry,
    FactView,
    Map,
    Match,
    ProcessView,
    Remembered,
    ServerView,
)
from kernel.machine.why import Because
from kernel.memory.page import Page
from kernel.ports import Streamed
from kernel.rights import Limits, Right
from kernel.sampling import Sampling
from kernel.settings import Settings
from kernel.spec import Name, Names, Policy, Spec, Think

VERSION: Final = 2
LINE_BYTES_MAX: Final = 3 * 1024 * 1024 // 2  # 1.5 MiB: a message of 256 KiB has room even if all of it is escaped
ENTRIES_MAX: Final = 1_000  # steps that one Dmesg covers at most; a client goes on from `upto`
HISTORY_MAX: Final = 1_000  # pages of one History
CALLS_MAX: Final = 1_000  # calls of one Strace
CALLS_BYTES_MAX: Final = LINE_BYTES_MAX // 2  # and of their texts; a client goes on before the first
PAGES_BYTES_MAX: Final = LINE_BYTES_MAX // 2  # of one Pages; a client goes on before the first
CAT_CHARS_MAX: Final = LINE_BYTES_MAX // 8  # characters of one Paged: escaped, one takes up to six bytes
MATCHES_MAX: Final = 500  # pages of one Grep
FACTS_MAX: Final = 500  # facts of one Facts
DOCUMENTS_MAX: Final = 1_000  # documents of one Shelf, the last by name
WAIT_S_MAX: Final = 60.0  # of one Wait: a client that waits longer asks again, and is seen to be there

CODES: Final[dict[str, type[BadInput]]] = {
    "busy": Busy,
    "exists": Exists,
    "in-use": InUse,
    "stopped": Stopped,
    "unknown": Unknown,
}
"""Refusals that programs tell apart, by what stands in Failed."""
PROTOCOL: Final = "protocol"
"""The code of the refusal of another protocol; daemons of protocol 1 give none."""

Number = Annotated[int, Meta(ge=0, le=NUMBER_MAX)]
Text: TypeAlias = Annotated[str, Meta(max_length=LINE_BYTES_MAX)]
Proc: TypeAlias = Number | Name
"""A process by number or by name."""


Given: TypeAlias = Literal[
    "calls", "system", "blocks", "nice", "abort", "sampling", "think", "limits", "tainted", "archives"
]
"""What may be chosen of a process."""


class Line(msgspec.Struct, frozen=True, tag_field="op", tag=str.lower, forbid_unknown_fields=True, kw_only=True):
    """Base of all lines; `op` is the class's name in lower case."""


class Hello(Line, frozen=True, kw_only=True):
    """First line of either side."""

    version: Number


class Request(Line, frozen=True, kw_only=True):
    """Base of what a client asks."""

    id: Number


class Send(Request, frozen=True, kw_only=True):
    """A user's message. `mid` is the client's; the same one again is answered as a duplicate and changes nothing."""

    proc: Proc
    mid: Name
    text: Text


class Spawn(Request, frozen=True, kw_only=True):
    """Make a process, or start a dead one again. What `suit` names, if left empty, is as suits the model.

    A dead process starts as it was: what was chosen and is another than that is refused. Chosen is what is not as by
    default, and what `given` names.
    """

    spec: Spec
    suit: Annotated[tuple[Literal["calls", "system"], ...], Meta(max_length=2)] = ("calls", "system")
    given: Annotated[tuple[Given, ...], Meta(max_length=10)] = ()


class Fork(Request, frozen=True, kw_only=True):
    """Make a copy of an idle process, which sees what that one sees; with `before`, as if that page had not come."""

    proc: Proc
    name: Name
    before: Number = 0


class Describe(Request, frozen=True, kw_only=True):
    """What a process is made of. Answer: Made."""

    proc: Proc


class Set(Request, frozen=True, kw_only=True):
    """Change what a process is made of: what is not None, at once, between two turns."""

    proc: Proc
    system: Text | None = None
    calls: Names | None = None
    nice: Annotated[int, Meta(ge=-(1 << 31), le=1 << 31)] | None = None
    abort: bool | None = None
    sampling: Sampling | None = None  # Sampling(): as the machine's settings say
    think: Think | None = None
    limits: Limits | None = None
    tainted: Policy | None = None
    archives: Names | None = None  # of others, from which it recalls


class Core(Request, frozen=True, kw_only=True):
    """Write a core block, or remove it (an empty text), between two turns.

    Refused where the block has another text than that of which `seen` is the digest (kernel/spec.py).
    """

    proc: Proc
    block: Name
    text: Text
    seen: Name


class Revert(Request, frozen=True, kw_only=True):
    """Write a core block anew as it was after log number `lsn`, as far as the journal says; else as Core."""

    proc: Proc
    block: Name
    lsn: Number


class Keep(Request, frozen=True, kw_only=True):
    """Pin a page of a process's queue or unpin it; or evict it, or bring it in, which wait for a turn to end."""

    proc: Proc
    page: Number
    how: Keeping


class Rename(Request, frozen=True, kw_only=True):
    """Give a process another name."""

    proc: Proc
    name: Name


class Kill(Request, frozen=True, kw_only=True):
    """Kill a process, or with `group` all of its process group; its memory is kept, its children's is not."""

    proc: Proc
    group: bool = False


class Grant(Request, frozen=True, kw_only=True):
    """Give a process a right (kernel/rights.py)."""

    proc: Proc
    right: Right


class Revoke(Request, frozen=True, kw_only=True):
    """Take from a process all rights that `right` covers; whoever has them from there loses them as well."""

    proc: Proc
    right: Right


class Allow(Request, frozen=True, kw_only=True):
    """Decide about the call that a process asks for; `req` is the number of its request, 0: whichever it is."""

    proc: Proc
    yes: bool
    req: Number = 0


class Remove(Request, frozen=True, kw_only=True):
    """Let a dead process go for good, with its memory; `kill`: one that lives is killed first."""

    proc: Proc
    kill: bool = False


class Halt(Request, frozen=True, kw_only=True):
    """End the turn that a process is in; what it was saying is not said. Whoever waits for its reply gets none."""

    proc: Proc


class Ps(Request, frozen=True, kw_only=True):
    """All processes after number `after`, or one. Answer: Processes; where there are `more`, ask after the last."""

    proc: Proc | None = None
    after: Number = 0


class Irqs(Request, frozen=True, kw_only=True):
    """Interrupts by line since boot, with their latencies. Answer: Interrupts."""


class Pmap(Request, frozen=True, kw_only=True):
    """The address space of a process; `texts`: with how its pages begin, whose and how old they are. Answer: Mapped."""

    proc: Proc
    texts: bool = False


class Strace(Request, frozen=True, kw_only=True):
    """The last calls of a process, of pages after `since` and up to `upto` (0: all). Answer: Traced."""

    proc: Proc
    since: Number = 0
    upto: Number = 0
    limit: Annotated[int, Meta(ge=1, le=CALLS_MAX)] = CALLS_MAX


class Cat(Request, frozen=True, kw_only=True):
    """A page of a process, its text from character `start` on. Answer: Paged."""

    proc: Proc
    page: Number
    start: Number = 0


class Explain(Request, frozen=True, kw_only=True):
    """What happened to a page of a process (0: what it said last), as far as the journal says. Answer: Explained."""

    proc: Proc
    page: Number = 0


class Dmesg(Request, frozen=True, kw_only=True):
    """The kernel's log after log number `since`: `limit` steps of it or fewer. Answer: Entries."""

    since: Number = 0
    limit: Annotated[int, Meta(ge=1, le=ENTRIES_MAX)] = ENTRIES_MAX


class Past(Request, frozen=True, kw_only=True):
    """What the log says of a process, back from before log number `before` (0: its end): `limit` steps or fewer.

    Answer: Happened.
    """

    proc: Proc
    before: Number = 0
    limit: Annotated[int, Meta(ge=1, le=ENTRIES_MAX)] = ENTRIES_MAX


class Grep(Request, frozen=True, kw_only=True):
    """Pages in which all words of a text stand, newest first, before page `before` (0: all), of one process or of all.

    Answer: Matched.
    """

    text: Name
    proc: Proc | None = None
    before: Number = 0
    limit: Annotated[int, Meta(ge=1, le=MATCHES_MAX)] = 50


class Outbox(Request, frozen=True, kw_only=True):
    """Messages of a process that nobody has acknowledged, or with `since` all after that number. Answer: Messages.

    It comes in parts, as that to Ps does: where there are `more`, ask `after` the last.
    """

    proc: Proc
    since: Number | None = None
    after: Number = 0


class Wait(Request, frozen=True, kw_only=True):
    """What a message was answered, whoever has acknowledged that; waited for as long as `within_s`. Answer: Replied.

    With `asked` not as long, where its process asks for consent: by another request than that of which `asked` is the
    number (0: by any). Without it that is waited for, too.
    """

    mid: Name
    within_s: Annotated[float, Meta(ge=0, le=WAIT_S_MAX)] = 0.0
    asked: Number | None = None


class Ack(Request, frozen=True, kw_only=True):
    """All messages of a process up to number `upto` have been shown; they leave the outbox."""

    pid: Number
    upto: Number


class History(Request, frozen=True, kw_only=True):
    """The last messages in and out of a process, of pages up to `upto` (0: all). Answer: Pages."""

    proc: Proc
    limit: Annotated[int, Meta(ge=1, le=HISTORY_MAX)] = 20
    upto: Number = 0


class Facts(Request, frozen=True, kw_only=True):
    """The last facts that reflection found for a process. Answer: Found."""

    proc: Proc
    limit: Annotated[int, Meta(ge=1, le=FACTS_MAX)] = FACTS_MAX


class Mem(Request, frozen=True, kw_only=True):
    """Core memory of a process after log number `upto` (0: now), and what changed it and its facts until then.

    Answer: Memories. Where there is `more`, ask `upto` the step before the first.
    """

    proc: Proc
    upto: Number = 0
    limit: Annotated[int, Meta(ge=1, le=REMEMBERED_MAX)] = 200


class Caps(Request, frozen=True, kw_only=True):
    """What a process may do, and has used. Answer: Held."""

    proc: Proc


class Graph(Request, frozen=True, kw_only=True):
    """Who is whose parent, who waits for whom, which letters are without an answer. Answer: Edges."""


class Audit(Request, frozen=True, kw_only=True):
    """Calls that the audit of a process keeps, of numbers after `since`. Answer: Audited."""

    proc: Proc
    since: Number = 0
    limit: Annotated[int, Meta(ge=1, le=AUDIT_MAX)] = AUDIT_MAX


class Info(Request, frozen=True, kw_only=True):
    """What is served. Answer: Serving."""


class Put(Request, frozen=True, kw_only=True):
    """Put a part of a document into the archive of a process; a program divides it as it is built.

    `digest`: of the whole document's content, in hexadecimal: another one is a new version, and the same one changes
    nothing. `paged`: pieces stand on pages, not in lines.
    """

    proc: Proc
    path: Annotated[str, Meta(max_length=PATH_CHARS_MAX)]
    digest: Annotated[str, Meta(pattern="^[0-9a-f]{12,128}$")]
    pieces: Annotated[tuple[Piece, ...], Meta(max_length=DOCUMENT_PIECES_MAX)]
    part: Number = 0
    parts: Number = 1
    paged: bool = False


class Documents(Request, frozen=True, kw_only=True):
    """The documents of a process, each version. Answer: Shelf."""

    proc: Proc


class Subscribe(Request, frozen=True, kw_only=True):
    """Push what happens after log number `since` (None: from now on), of one process or of all; once a connection.

    `log` leaves out messages and tokens. Answer: Ok with the log number after which it goes on: `since`, or a later one
    where the journal begins later, or the last where `since` has not happened. Pushes: Logged, Said, Token, and Ended
    when there will be no more.
    """

    since: Number | None = None
    proc: Proc | None = None
    log: bool = False


class Compact(Request, frozen=True, kw_only=True):
    """Take a checkpoint and cut the journal before it. Answer: Ok with the checkpoint's log number."""


class Import(Request, frozen=True, kw_only=True):
    """The next part of an export, unpacked; the `last` makes a process of it, called `name` if not as it was.

    The parts of one export come over one connection, after a `first` one. Ok comes at once, and to the last after the
    commit. What is refused leaves nothing.
    """

    part: Annotated[bytes, Meta(max_length=IMPORT_PART_BYTES_MAX)]
    first: bool = False
    last: bool = False
    name: Name = ""


class Tools(Request, frozen=True, kw_only=True):
    """Servers of tools, and what they offer. Answer: Toolbox."""


class Stop(Request, frozen=True, kw_only=True):
    """Drain and stop the kernel; Ok comes before it does."""


AnyCommand: TypeAlias = (
    Send
    | Spawn
    | Fork
    | Describe
    | Set
    | Core
    | Revert
    | Keep
    | Rename
    | Kill
    | Grant
    | Revoke
    | Allow
    | Remove
    | Halt
    | Ps
    | Irqs
    | Pmap
    | Strace
    | Cat
    | Explain
    | Dmesg
    | Past
    | Grep
    | Outbox
    | Wait
    | Ack
    | History
    | Facts
    | Mem
    | Caps
    | Graph
    | Audit
    | Put
    | Documents
    | Tools
    | Info
    | Compact
    | Import
    | Stop
)
AnyRequest: TypeAlias = Hello | Subscribe | AnyCommand


def op(line: type[Line]) -> str:
    """The name of a request, or of what is pushed, as the protocol has it."""
    return str(line.__struct_config__.tag)


OPS: Final = tuple(op(request) for request in get_args(AnyRequest))


class Ok(Line, frozen=True, kw_only=True):
    """Done, and committed as log number `lsn` or before it."""

    id: int
    lsn: int = 0
    pid: int = 0
    duplicate: bool = False


class Failed(Line, frozen=True, kw_only=True):
    """Refused; nothing has changed. `id` is 0 where the line has none that can be read.

    `retry_after_s` None: trying again will not help.
    """

    id: int
    error: str
    code: str = ""  # one of CODES, for programs
    retry_after_s: float | None = None


class Processes(Line, frozen=True, kw_only=True):
    """Answer to Ps."""

    id: int
    processes: tuple[ProcessView, ...]
    more: bool = False


class Made(Line, frozen=True, kw_only=True):
    """Answer to Describe."""

    id: int
    process: Described


class Interrupts(Line, frozen=True, kw_only=True):
    """Answer to Irqs, by name of the line."""

    id: int
    lines: dict[str, Account]


class Toolbox(Line, frozen=True, kw_only=True):
    """Answer to Tools."""

    id: int
    servers: tuple[ServerView, ...]


class Mapped(Line, frozen=True, kw_only=True):
    """Answer to Pmap, with the beginnings of texts and what pages are by page if they were asked for."""

    id: int
    map: Map
    texts: dict[int, str] = {}
    about: dict[int, About] = {}


class Traced(Line, frozen=True, kw_only=True):
    """Answer to Strace, oldest first; `encoding`: of the process's model, by which texts are calls."""

    id: int
    calls: tuple[Called, ...]
    encoding: str


class Paged(Line, frozen=True, kw_only=True):
    """Answer to Cat: the page with as much of its text as a line holds, of `chars` characters."""

    id: int
    page: Page
    chars: int


class Explained(Line, frozen=True, kw_only=True):
    """Answer to Explain: how the page begins, in which segment it is in view ("": in none), and what happened, oldest
    first. `heads`: how the pages that are named there begin. `whole`: that its making is among it.
    """

    id: int
    page: Page
    segment: str
    because: tuple[Because, ...]
    heads: dict[int, str]
    whole: bool


class Entries(Line, frozen=True, kw_only=True):
    """Answer to Dmesg: the log's entries from after `since` to `upto`; there may be more up to `lsn`."""

    id: int
    entries: tuple[Entry, ...]
    upto: int
    lsn: int


class Happened(Line, frozen=True, kw_only=True):
    """Answer to Past, oldest first. `before`: where what was before goes on; 0: in no journal."""

    id: int
    entries: tuple[Entry, ...]
    before: int


class Matched(Line, frozen=True, kw_only=True):
    """Answer to Grep, newest first. `before`: from where to go on, whether or not something was found; 0: all was."""

    id: int
    matches: tuple[Match, ...]
    before: int


class Messages(Line, frozen=True, kw_only=True):
    """Answer to Outbox."""

    id: int
    messages: tuple[Message, ...]
    more: bool = False


class Replied(Line, frozen=True, kw_only=True):
    """Answer to Wait. `reply.standing` is open where there may be more: ask again.

    `asks`: what the process, or one that it waits for, is to be allowed before it goes on.
    """

    id: int
    pid: int
    reply: Reply
    acked: int  # number of the process's last message that was acknowledged
    asks: Asking | None = None


class Pages(Line, frozen=True, kw_only=True):
    """Answer to History, oldest first; with `more`, as many of the last as a line holds."""

    id: int
    pages: tuple[Page, ...]
    more: bool = False


class Found(Line, frozen=True, kw_only=True):
    """Answer to Facts, oldest first."""

    id: int
    facts: tuple[FactView, ...]


class Memories(Line, frozen=True, kw_only=True):
    """Answer to Mem: core memory by block after step `upto`, and the last changes until then, oldest first.

    `more`: there are older ones that can be asked for. `whole`: the journal has all since the process was made.
    """

    id: int
    pid: int
    upto: int
    blocks: dict[str, str]
    changes: tuple[Remembered, ...]
    more: bool
    whole: bool


class Held(Line, frozen=True, kw_only=True):
    """Answer to Caps; of the pages under whose eyes it asks, whose they are and how they begin."""

    id: int
    rights: Rights
    texts: dict[int, str] = {}
    about: dict[int, About] = {}


class Edges(Line, frozen=True, kw_only=True):
    """Answer to Graph."""

    id: int
    edges: tuple[Edge, ...]


class Audited(Line, frozen=True, kw_only=True):
    """Answer to Audit, oldest first; where there are `more`, ask after the last."""

    id: int
    calls: tuple[AuditView, ...]
    more: bool = False


class Shelf(Line, frozen=True, kw_only=True):
    """Answer to Documents, by path and version; as many as a line holds."""

    id: int
    documents: tuple[DocumentView, ...]


class Serving(Line, frozen=True, kw_only=True):
    """Answer to Info: the daemon's process id, its last log number, what it runs and how."""

    id: int
    os_pid: int
    lsn: int
    model: str  # all its models' own names
    window: int
    encoding: str
    settings: Settings
    pages: int = 0
    indexed: int = 0  # pages that searches find
    anew: bool = False  # the indexes are built from nothing
    damaged: str = ""  # what went wrong with them; the next start builds them anew
    trouble: str = ""  # why pages wait for their vectors, and searches go by words for now


class Logged(Line, frozen=True, kw_only=True):
    """Push: notes of a committed step."""

    entry: Entry


class Said(Line, frozen=True, kw_only=True):
    """Push: a final message; it stands in the outbox until it is acknowledged."""

    message: Message


class Token(Line, frozen=True, kw_only=True):
    """Push: tokens as they come, which a crash may take back."""

    streamed: Streamed


class Ended(Line, frozen=True, kw_only=True):
    """Push: the subscription is over; subscribe again from `since`, the last log number that was pushed.

    `stopping`: the kernel was told to stop; there will be nobody to subscribe to.
    """

    since: int
    error: str
    stopping: bool = False


AnyAnswer: TypeAlias = (
    Ok
    | Failed
    | Processes
    | Made
    | Interrupts
    | Mapped
    | Traced
    | Paged
    | Explained
    | Entries
    | Happened
    | Matched
    | Messages
    | Replied
    | Pages
    | Found
    | Memories
    | Held
    | Edges
    | Audited
    | Shelf
    | Toolbox
    | Serving
)
READS: Final[dict[type[AnyCommand], type[AnyAnswer]]] = {
    Describe: Made,
    Ps: Processes,
    Irqs: Interrupts,
    Pmap: Mapped,
    Strace: Traced,
    Cat: Paged,
    Explain: Explained,
    Dmesg: Entries,
    Past: Happened,
    Grep: Matched,
    Outbox: Messages,
    Wait: Replied,
    History: Pages,
    Facts: Found,
    Mem: Memories,
    Caps: Held,
    Graph: Edges,
    Audit: Audited,
    Documents: Shelf,
    Tools: Toolbox,
    Info: Serving,
}
"""By request that only reads, what it is answered; over HTTP those are asked with GET."""
AnyPush: TypeAlias = Logged | Said | Token | Ended
AnyReply: TypeAlias = Hello | AnyAnswer | AnyPush

_requests: msgspec.json.Decoder[AnyRequest] = msgspec.json.Decoder(AnyRequest)  # built once; strict: "3" is no number
_replies: msgspec.json.Decoder[AnyReply] = msgspec.json.Decoder(AnyReply)
_encoder = msgspec.json.Encoder()


class _Numbered(msgspec.Struct):
    id: Number = 0


_numbers: msgspec.json.Decoder[_Numbered] = msgspec.json.Decoder(_Numbered)


def onward(request: AnyCommand | Subscribe, answer: AnyAnswer) -> Ps | Outbox | Cat | History | Audit | None:
    """What to ask next for the rest of an answer that came in parts; None if that is all."""
    match request, answer:
        case Ps(), Processes(processes=found, more=True):
            return msgspec.structs.replace(request, after=found[-1].pid)
        case Outbox(), Messages(messages=said, more=True):
            return msgspec.structs.replace(request, after=said[-1].seq)
        case Audit(), Audited(calls=kept, more=True):
            return msgspec.structs.replace(request, since=kept[-1].n)
        case History(), Pages(pages=last, more=True):
            return msgspec.structs.replace(request, upto=last[0].id - 1, limit=request.limit - len(last))
        case Cat(), Paged(page=page, chars=chars) if page.text and request.start + len(page.text) < chars:
            return msgspec.structs.replace(request, start=request.start + len(page.text))
        case _:
            return None


def joined(first: AnyAnswer, rest: AnyAnswer) -> AnyAnswer:
    """An answer and the rest of it, as one."""
    match first, rest:
        case Processes(), Processes():
            return Processes(id=first.id, processes=first.processes + rest.processes, more=rest.more)
        case Messages(), Messages():
            return Messages(id=first.id, messages=first.messages + rest.messages, more=rest.more)
        case Audited(), Audited():
            return Audited(id=first.id, calls=first.calls + rest.calls, more=rest.more)
        case Pages(), Pages():
            return Pages(id=first.id, pages=rest.pages + first.pages, more=rest.more)
        case Paged(), Paged():
            whole = msgspec.structs.replace(first.page, text=first.page.text + rest.page.text)
            return Paged(id=first.id, page=whole, chars=rest.chars)
        case _:
            return rest


def encode(line: AnyRequest | AnyReply) -> bytes:
    """A line with its newline. Raises BadInput for text that UTF-8 cannot hold (half a surrogate pair)."""
    try:
        return _encoder.encode(line) + b"\n"
    except UnicodeEncodeError as exc:
        raise BadInput(f"the text is no valid UTF-8 (character {exc.start + 1}); send it as UTF-8") from exc


def decode_request(raw: bytes) -> AnyRequest:
    """Parse a client's line. Raises BadInput, and nothing else, whatever the bytes."""
    try:
        return _requests.decode(raw)
    except UnicodeDecodeError as exc:
        raise BadInput(f"the line is no valid UTF-8 ({exc.reason}); send it as UTF-8") from exc
    except (msgspec.DecodeError, RecursionError) as exc:
        raise BadInput(f"the line is no request: {exc}; ops are {', '.join(OPS)}") from exc


def number_of(raw: bytes) -> int:
    """The `id` of a line that is no request, so that whoever sent it hears of it; 0 if it has none."""
    try:
        return _numbers.decode(raw).id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0


def decode_reply(raw: bytes) -> AnyReply:
    """Parse a server's line. Raises BadInput if it is none of this version."""
    try:
        return _replies.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise BadInput(f"the daemon's line is none of protocol {VERSION}: {exc}") from exc
