"""The boundary of the kernel: events in, effects out, and notes for those who watch.

All are frozen structs. Every event carries the time it happened, its source and a number of that source; the machine
sorts a batch by these three. Its time is the state's (ns), which only passes; beside it stands how far the wall clock
is ahead of that, for a wall clock is set. Effects name pages by id, never by text. Notes are what `dmesg` shows; they
are journaled with the step that made them, so a subscriber resumes from a log number.
"""

from __future__ import annotations

import enum
from typing import Final, TypeAlias

import msgspec

from kernel.interrupts import Line
from kernel.memory.measure import Costs, Part
from kernel.memory.page import Area, Kind, Origin, Placed, Role, Source
from kernel.rights import Limits, Verdict
from kernel.sampling import Sampling
from kernel.settings import Settings
from kernel.spec import Spec


class Event(msgspec.Struct, frozen=True, tag=True, kw_only=True, omit_defaults=True):
    """Base of all events; `at` never goes back within one journal."""

    at: int = 0
    ahead: int = 0  # ns that the wall clock (UTC) was ahead of `at`: another number once it was set
    source: str = ""
    n: int = 0


class Model(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model of this machine's, as the kernel must know it: a CPU with slots of its own."""

    title: str
    costs: Costs
    encoding: str  # "json" or "prose"
    slots: int
    thinks: bool = False  # it may think before an instruction
    calling: str = ""  # the encoding of processes that may do more than speak; "": the same
    manual: str = ""  # the form of manual that suits it (settings.Cpu.manual); "": whole


class Booted(Event, frozen=True, kw_only=True):
    """The machine starts: its settings, its models, and new sizes of resident pages whose model is another now.

    `costs` to `slots` are of the model of all processes that name none, and of those whose model is not there.
    """

    settings: Settings
    costs: Costs
    model: str
    encoding: str  # "json" or "prose"
    slots: int
    page_tokens: int  # page_tokens_max, by which text was and will be split
    resized: dict[int, int] = {}  # page id -> token count, for resident pages measured anew
    anew: tuple[int, ...] = ()  # the processes of those pages
    others: dict[str, Model] = {}  # by the names that processes give them
    thinks: bool = False
    calling: str = ""
    manual: str = ""

    def models(self) -> dict[str, Model]:
        """All models by name; "" is that of processes that name none. Slots are numbered through in this order."""
        said = (self.model, self.costs, self.encoding, self.slots, self.thinks, self.calling, self.manual)
        return {"": Model(*said), **self.others}


class Spawned(Event, frozen=True, kw_only=True):
    """Someone wants a process: a new one, or a zombie of that name started again with its memory.

    `given`: the fields of `spec` that somebody chose, where the name was there already; a zombie must have the same.
    """

    spec: Spec
    given: tuple[str, ...] = ()


class Moved(msgspec.Struct, frozen=True, array_like=True):
    """A page of a process that comes from another machine; `ids` only where it is resident or pending."""

    kind: Kind
    origin: Origin
    role: Role
    area: Area
    at: int
    text: str
    gist: str = ""
    where: str = ""  # queue, pending, or "": on disk alone
    group: int = 0
    pinned: bool = False
    ids: tuple[int, ...] = ()


class MovedFile(msgspec.Struct, frozen=True, array_like=True):
    """A page of a document of such a process, which is on disk alone. `begins`: of the first page of a part, which part
    of which version (machine/documents.py `place`).
    """

    text: str
    at: int
    source: Source
    begins: str = ""


class MovedTimer(msgspec.Struct, frozen=True, array_like=True):
    """A timer of such a process: due at a time (ns UTC), and then every so many ns. `wall`: it waits for that time."""

    due: int
    every_ns: int
    text: str
    wall: bool = False


class Imported(Event, frozen=True, kw_only=True):
    """A process comes from another machine, with all its pages in order, under a name that nobody has here.

    `files`: those of documents, which follow the others.
    """

    spec: Spec
    pages: tuple[Moved, ...]
    timers: tuple[MovedTimer, ...] = ()
    files: tuple[MovedFile, ...] = ()


class Forked(Event, frozen=True, kw_only=True):
    """A copy of process `pid`, which rests, is wanted under a new name: all that it has in view, and its core memory.

    Timers, masked lines and undelivered interrupts stay with the parent, and so do pages that it has on disk alone.
    `before`: a page of it; the copy sees what stands before that, as if it had not come. 0: all.
    """

    pid: int
    name: str
    before: int = 0


class Tool(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What a server offers, as it says: SERVER/TOOL, its purpose in a line, a page on it, its arguments' schema."""

    name: str
    purpose: str = ""
    about: str = ""
    schema: str = '{"type":"object"}'
    reads: bool = False  # it changes nothing
    again: bool = False  # done twice is as done once

    @property
    def safe(self) -> bool:
        """Whether it may be used once more where nobody knows whether it was."""
        return self.reads or self.again


class Offered(Event, frozen=True, kw_only=True):
    """The tools of a server are these: it has come up, or has others than before; none: it is no server of ours."""

    server: str
    tools: tuple[Tool, ...] = ()


class Messaged(Event, frozen=True, kw_only=True):
    """A user's message for process `pid`, measured: raises USER."""

    pid: int
    mid: str
    parts: tuple[Part, ...]


class Filed(Event, frozen=True, kw_only=True):
    """Text from outside goes into a process's archive, measured; it wakes nobody. `mid` as in Messaged.

    `sources`: of a document, where each part of it stands there.
    """

    pid: int
    mid: str = ""
    parts: tuple[Part, ...]
    sources: tuple[Source, ...] = ()


class Changed(Event, frozen=True, kw_only=True):
    """What process `pid` is made of is to be another: what is not None."""

    pid: int
    system: str | None = None
    calls: tuple[str, ...] | None = None
    nice: int | None = None
    abort: bool | None = None
    sampling: Sampling | None = None  # Sampling(): as the machine's settings say
    think: str | None = None
    limits: Limits | None = None
    tainted: dict[str, Verdict] | None = None
    archives: tuple[str, ...] | None = None


class Granted(Event, frozen=True, kw_only=True):
    """Somebody outside gives process `pid` a right (kernel/rights.py)."""

    pid: int
    right: str


class Revoked(Event, frozen=True, kw_only=True):
    """Somebody outside takes from process `pid` all rights that `right` covers, and from whom it gave them to."""

    pid: int
    right: str


class Consented(Event, frozen=True, kw_only=True):
    """Somebody outside has decided about the call that process `pid` waits with, its request `req`."""

    pid: int
    req: int
    yes: bool


class CoreWritten(Event, frozen=True, kw_only=True):
    """Somebody outside writes a core block of process `pid`; an empty text removes it.

    `seen` is spec.digest of the text that stood there when the writer looked: it must stand there still.
    """

    pid: int
    block: str
    text: str
    seen: str


class Keeping(enum.StrEnum):
    """What somebody outside wants of a page of a process's."""

    PIN = "pin"  # it may not leave the queue
    UNPIN = "unpin"  # it may again
    EVICT = "evict"  # it leaves now, with what belongs to it
    BRING = "bring"  # it comes, to the end of the queue


class Kept(Event, frozen=True, kw_only=True):
    """Somebody outside says whether a page of process `pid` is in view. `rows`: of one to come, as in Loaded."""

    pid: int
    page: int
    how: Keeping
    rows: tuple[tuple[int, int, Role, str], ...] = ()


class Renamed(Event, frozen=True, kw_only=True):
    """Process `pid` is to have another name."""

    pid: int
    name: str


class Removed(Event, frozen=True, kw_only=True):
    """Process `pid`, which is dead, goes for good, and what the disk has of it alone, as removal.survey found it.

    `seq` and `req` are the PCB's when that was: another life since is another process to look at. Shares of the state
    hash are little-endian, as in the journal.
    """

    pid: int
    seq: int
    req: int
    pages: tuple[int, ...] = ()
    mids: tuple[str, ...] = ()
    share: bytes = b""  # of pages and mids together
    texts: tuple[tuple[int, bytes], ...] = ()  # text pages that nobody else had, each with its share
    measures: tuple[str, ...] = ()  # by which there may be ids of them


class Killed(Event, frozen=True, kw_only=True):
    """Raise KILL on a process, or with `group` on its whole process group."""

    pid: int
    status: str = "killed"
    group: bool = False


class Halted(Event, frozen=True, kw_only=True):
    """The user wants no more of the turn that process `pid` is in: it ends, and what was being said is not said."""

    pid: int


class Raised(Event, frozen=True, kw_only=True):
    """Something happened on a line that brings a text of the machine's: IPC, CHILD or DEVICE."""

    pid: int
    line: Line
    text: str


class TimerFired(Event, frozen=True, kw_only=True):
    """A timer of the kernel's came due; `at` is when it was noticed."""

    timer: int


class ClockSet(Event, frozen=True, kw_only=True):
    """The wall clock was set: `ahead` is another. Nothing else happened that would have said so."""


class Tag(msgspec.Struct, frozen=True, array_like=True):
    """Which run it is: the n-th instruction of a process, and how often that was begun.

    A process that was killed and started again may have a slot of an earlier life, too; the tag tells them apart.
    """

    pid: int
    instr: int = 0
    attempt: int = 0


NOBODY: Final = Tag(0)
"""Who runs in a slot that is free."""


class Outcome(enum.StrEnum):
    """How a run of the CPU ended."""

    SYSCALL = "syscall"  # one complete instruction
    PREEMPTED = "preempted"  # quantum spent, or asked to stop
    ILLEGAL = "illegal"  # no instruction came of it: reply limit inside a syscall, nothing emitted
    FAILED = "failed"  # the device failed; nothing was emitted


class Trapped(Event, frozen=True, kw_only=True):
    """The CPU stopped: text and ids emitted since the instruction began, those resumed from included."""

    slot: int
    tag: Tag
    outcome: Outcome
    text: str = ""
    ids: tuple[int, ...] = ()
    truncated: bool = False
    error: str = ""
    first_at: int = 0  # when the first token of this run came; 0: none did
    prompt: int = 0  # tokens of the prompt as the driver saw it
    prefill: int = 0  # tokens evaluated as prompt, i.e. not found in KV
    decoded: int = 0  # tokens sampled or forced in this run
    kv: int = 0  # highest KV position this run reached
    again: int = 0  # of `prefill`, tokens that had been evaluated for the process's last run already
    restored: int = 0  # tokens whose KV came from an image
    shared: int = 0  # tokens whose KV came from another process
    drew: tuple[int, ...] = ()  # pages in view that the text of an instruction drew on
    thought: int = 0  # how many of `ids`, from the front, are thought and its marks; `text` has none of it
    thinking: str = ""  # what was thought, without marks
    low: tuple[int, ...] = ()  # pages in view that are not the user's, nor the process's own or the kernel's

    @property
    def pid(self) -> int:
        """Who ran."""
        return self.tag.pid


class Hit(msgspec.Struct, frozen=True, array_like=True):
    """A page that a search found, or of a long one the passage [start, end) in characters; end 0: all of it.

    `score`: how likely it is what was asked for, 0 to 1. `cover`: the share of the query's words in it, by weight.
    """

    page: int
    seq: int
    role: Role
    at: int
    tokens: int
    score: float
    cover: float
    text: str  # what the index holds: results show it; "" for a demand fault, which places the page itself
    start: int = 0
    end: int = 0
    whole: int = 0  # tokens of the whole page
    asked: bool = False  # a demand fault: the message asks for something,
    dated: bool = False  # and for a time, so its line says when it was said;
    follows: bool = False  # it says little without the turn before it


class Cited(msgspec.Struct, frozen=True, array_like=True):
    """Whose a hit is that no user and not the process said; where it stands, and the newest version, of a document."""

    origin: Origin
    source: Source | None = None
    newest: int = 0


class Lent(msgspec.Struct, frozen=True, array_like=True):
    """A page of another process's archive, as one that may search it has it: a text that is not its own."""

    text: str
    origin: Origin
    at: int
    source: Source | None = None


class Searched(Event, frozen=True, kw_only=True):
    """A search completed, or its deadline passed (`late`). `cited`: by page, of those hits that are from outside.

    `owners`: by page, of those hits that are another process's. Such a hit has the text that it shows, and is as large
    as who searched has it.
    """

    pid: int
    req: int
    hits: tuple[Hit, ...] = ()
    more: bool = False
    late: bool = False
    cited: dict[int, Cited] = {}
    owners: dict[int, int] = {}


class Opened(Event, frozen=True, kw_only=True):
    """What a document has where it was opened: headings, each with where it begins, or pages as in Loaded.

    `path` "": documents with their versions in the place of headings. `error`: why there is nothing. `paged`: places
    are pages, not lines. What was given begins at `cursor`; `more`: the cursor of what follows, 0: nothing does.
    `lent`: what the pages say, of another process's document.
    """

    pid: int
    req: int
    error: str = ""
    path: str = ""
    version: int = 0
    headings: tuple[tuple[str, int], ...] = ()
    pages: tuple[tuple[int, int, Role, str], ...] = ()
    places: tuple[Source, ...] = ()  # of each page
    paged: bool = False
    cursor: int = 0
    more: int = 0
    lent: tuple[Lent, ...] = ()


class Loaded(Event, frozen=True, kw_only=True):
    """Pages asked for by number: (page, tokens, role, kind) of those that exist and belong to the process.

    `lent`: what they say, of pages of another process's archive.
    """

    pid: int
    req: int
    pages: tuple[tuple[int, int, Role, str], ...] = ()
    lent: tuple[Lent, ...] = ()


class Brought(msgspec.Struct, frozen=True, array_like=True):
    """A page that a thread of the kernel's is to look at: `tokens` without frame, `at` when it was made."""

    page: int
    tokens: int
    kind: Kind
    origin: Origin
    role: Role
    at: int


class Fetched(Event, frozen=True, kw_only=True):
    """Pages of another process that a thread of the kernel's asked for: those that exist and are that process's."""

    pid: int
    req: int
    pages: tuple[Brought, ...] = ()


class Acted(Event, frozen=True, kw_only=True):
    """A tool has answered, in pages as they are to stand (measured, quoted); or it did not, and why (`error`).

    `failed`: what it says is why it could not do it. `cut`: characters that were more than is taken.
    """

    pid: int
    req: int
    parts: tuple[Part, ...] = ()
    failed: bool = False
    cut: int = 0
    error: str = ""


class Acked(Event, frozen=True, kw_only=True):
    """A client has all messages of `pid` up to number `upto`."""

    pid: int
    upto: int


class Upgraded(Event, frozen=True, kw_only=True):
    """The records of an older format are brought to a later one: the first event of a boot that finds them."""

    to: int = 3  # older journals do not say it


class Checkpointed(Event, frozen=True, kw_only=True):
    """The state after this step is to be kept whole, so that replay can start from it and the journal before it go."""


AnyEvent: TypeAlias = (
    Booted
    | Spawned
    | Imported
    | Forked
    | Messaged
    | Filed
    | Changed
    | Granted
    | Revoked
    | Consented
    | CoreWritten
    | Kept
    | Renamed
    | Removed
    | Killed
    | Halted
    | Raised
    | TimerFired
    | ClockSet
    | Trapped
    | Searched
    | Loaded
    | Fetched
    | Opened
    | Offered
    | Acted
    | Acked
    | Checkpointed
    | Upgraded
)


class Effect(msgspec.Struct, frozen=True, tag=True):
    """Base of all effects: performed after the commit of the step that caused them."""


class Thought(msgspec.Struct, frozen=True):
    """That a run may think before its instruction."""

    most: int  # tokens, without its marks
    must: bool = False  # it has to begin so; else as the model's template has it


class Run(Effect, frozen=True):
    """Let the CPU's `slot` run a process until it traps. Derivable."""

    slot: int
    tag: Tag
    pages: tuple[Placed, ...]
    calls: tuple[str, ...]
    encoding: str
    quantum: int
    reply: int  # reply limit in tokens, `ids` included, thought not
    window: int
    ids: tuple[int, ...] = ()  # emitted before a preemption: to be continued
    model: str = ""
    apart: bool = False  # its prompt is another one than the process's own, whose KV is to be kept
    sampling: Sampling | None = None  # how its words are drawn, as far as the process chose
    thought: Thought | None = None  # None: it is not to think
    tools: tuple[Tool, ...] = ()  # that it may name
    shared: tuple[str, ...] = ()  # verbs of what it may do with others' archives

    @property
    def pid(self) -> int:
        """Who runs."""
        return self.tag.pid


class Preempt(Effect, frozen=True):
    """Stop what runs in a slot at its next token. Only wastes work, so it need not wait for a commit."""

    slot: int


class Fork(Effect, frozen=True):
    """Let `child`, which has never run, have the KV of `parent`. Only saves work: without it the child evaluates."""

    parent: int
    child: int


class Forget(Effect, frozen=True):
    """Let go of all that is kept for a process that is no more. Derivable: numbers are given once."""

    pid: int


class Reap(Effect, frozen=True):
    """Let a dead process go for good, when nothing of it is under way: survey its pages and post Removed. Derivable."""

    pid: int


class Search(Effect, frozen=True, kw_only=True):
    """Search a process's pages; the answer is `Searched`. Derivable: it stands in the PCB while the process waits."""

    pid: int
    req: int
    area: tuple[Area, ...]
    query: str = ""
    pages: tuple[int, ...] = ()  # a demand fault: the query is the text of these pages
    since: int = 0
    until: int = 0  # 0: no bound
    limit: int = 10
    cursor: int = 0  # hits to skip
    exclude: tuple[int, ...] = ()  # resident pages
    upto: int = 0  # page id the index must have applied
    deadline_s: float = 0.0  # 0: none
    at: int = 0  # when it is asked (ns): "last May" is said from there; 0: days that it names are not looked for
    apart: tuple[Role, ...] = ()  # whose pages are not wanted
    before: tuple[int, ...] = ()  # a demand fault: pages of the turn before, for what the message leaves unsaid


class SearchOf(Search, frozen=True, kw_only=True):
    """A search in the archives of other processes (`whose`), and where `area` names some in the process's own pages.

    `documents`: in them alone, in all or in those called `path`, as Find.
    """

    whose: tuple[int, ...]
    documents: bool = False
    path: str = ""

    def each(self) -> list[Search]:
        """The searches that it consists of, one a process: each finds as many as this one may show, and one more."""
        said = {name: getattr(self, name) for name in Search.__struct_fields__}
        said |= {"cursor": 0, "limit": self.cursor + self.limit + 1}
        places = [(self.pid, self.area)] if self.area else []
        return [
            Find(**{**said, "pid": pid, "area": area}, path=self.path)
            if self.documents
            else Search(**{**said, "pid": pid, "area": area})
            for pid, area in [*places, *((pid, (Area.ARCHIVE,)) for pid in self.whose)]
        ]


class Load(Effect, frozen=True, kw_only=True):
    """Look pages up by number; the answer is `Loaded`. Derivable."""

    pid: int
    req: int
    pages: tuple[int, ...]


class LoadOf(Load, frozen=True, kw_only=True):
    """Likewise, of process `whose`, out of its archive."""

    whose: int


class Find(Search, frozen=True, kw_only=True):
    """A search among the pages of documents alone, of all or of those called `path`; the answer is `Searched`."""

    path: str = ""


class Open(Effect, frozen=True, kw_only=True):
    """Look up what a document has at a place: its contents, or pages. The answer is `Opened`. Derivable."""

    pid: int
    req: int
    path: str
    at: str = ""  # a heading, or the number of a line or page; "": its contents
    cursor: int = 0  # of what is given there so many are skipped


class OpenOf(Open, frozen=True, kw_only=True):
    """Likewise, among the documents of process `whose`."""

    whose: int


class Fetch(Effect, frozen=True, kw_only=True):
    """Look up pages of process `owner` for thread `pid`; the answer is `Fetched`. Derivable."""

    pid: int
    req: int
    owner: int
    pages: tuple[int, ...]


class Act(Effect, frozen=True, kw_only=True):
    """Have a tool do something in the world; the answer is `Acted`. External: its intent is committed before.

    Not derivable: after a boot only what is safe is done again (kernel/external.py).
    """

    pid: int
    req: int
    tool: str
    arguments: str  # a JSON object


class Desist(Effect, frozen=True):
    """Nobody waits any more for what a tool does; one that it has not begun is not begun."""

    pid: int
    req: int


class Arm(Effect, frozen=True):
    """Fire `timer` at `due` (ns), of the state's time or, with `wall`, of the wall clock's. Derivable."""

    timer: int
    due: int
    wall: bool = False


class Disarm(Effect, frozen=True):
    """Forget `timer`; one that fires all the same is ignored."""

    timer: int


class Message(msgspec.Struct, frozen=True):
    """A final message of a process, numbered per process, kept until acknowledged."""

    pid: int
    seq: int
    at: int
    text: str
    answers: tuple[str, ...] = ()  # mids of the messages it replies to
    instr: int = 0  # number of the instruction that said it; 0: none did, the kernel asks for consent
    truncated: bool = False
    ends: bool = True  # False: more is to come in this turn

    @property
    def asks(self) -> bool:
        """Whether the kernel asks for consent by it; no text of a process's does."""
        return not self.instr and not self.ends


class Deliver(Effect, frozen=True):
    """A final message stands in the outbox and may be shown."""

    message: Message


AnyEffect: TypeAlias = (
    Run
    | Preempt
    | Fork
    | Forget
    | Reap
    | Search
    | Find
    | SearchOf
    | Load
    | LoadOf
    | Open
    | OpenOf
    | Fetch
    | Act
    | Desist
    | Arm
    | Disarm
    | Deliver
)


class What(enum.StrEnum):
    """What a note tells."""

    BOOT = "boot"
    CHECKPOINT = "checkpoint"
    UPGRADE = "upgrade"
    SPAWN = "spawn"
    IMPORT = "import"
    FORK = "fork"
    CHANGE = "change"  # of what it is made of, from outside
    REMOVE = "remove"  # for good
    REAP = "reap"  # a dead child is to go for good
    GRANT = "grant"  # of a right, or that it was taken
    LIMIT = "limit"  # what a process may use was reached
    CALL = "call"  # one under others' eyes that was asked about or denied, or one beyond its rights
    LETTER = "letter"  # of one process to another
    TOOL = "tool"  # was used, has answered, or what a server offers
    EXIT = "exit"
    INTERRUPT = "interrupt"  # raised on a line
    DELIVERED = "delivered"
    COALESCED = "coalesced"  # raised while one like it was pending, and is in that one
    CLOCK = "clock"  # the wall clock was set
    ABORT = "abort"  # what the instruction under way emitted was thrown away
    TURN = "turn"  # it was ended
    RUN = "run"  # of the CPU
    ERROR = "error"
    FAULT = "fault"  # pages were brought in
    EVICT = "evict"
    FOLD = "fold"  # of core memory
    THRASH = "thrash"
    SUSPEND = "suspend"
    RESUME = "resume"
    SUMMARY = "summary"  # of what has left
    FACT = "fact"  # found in what has left


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the kernel's log: what happened to whom, with its numbers."""

    what: What
    pid: int = 0
    line: Line | None = None
    pages: tuple[int, ...] = ()
    tokens: int = 0
    text: str = ""
    ns: int = 0  # delivered: since it was raised
