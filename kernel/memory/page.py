"""A page: an immutable span of context, on disk before it may be evicted.

Its text never changes; what stands beside it in a process's page table (tokens, pins) is the address space's. The token
ids of a page belong to a model and are stored apart, keyed by (measure, page), so that a directory outlives its model.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec


class Kind(enum.StrEnum):
    """What a page is; policies may tell kinds apart, the pager keeps `SYSCALL` and its `RESULT` together."""

    TEXT = "text"  # system instructions and the manual
    CORE = "core"  # core memory blocks as of the last fold
    MESSAGE = "message"  # what a user or the process said
    SYSCALL = "syscall"  # an instruction as emitted
    RESULT = "result"  # what the kernel answered to it
    DELTA = "delta"  # a write to core memory since the last fold
    ALERT = "alert"  # an interrupt or an error, told by the kernel
    STUB = "stub"  # what eviction left behind
    ARCHIVE = "archive"  # what the process asked to remember
    SUMMARY = "summary"  # what eviction left behind, in a model's words
    FACT = "fact"  # what reflection found in pages that had left
    THOUGHT = "thought"  # what the process thought before an instruction
    GONE = "gone"  # nobody's: a process was removed; its number, and how many pages went with it


HEADS: Final = (Kind.STUB, Kind.SUMMARY)
"""What stands at the head of a queue for what has left it: the kernel puts it there and takes it, no policy does."""


UNRANKED: Final = (*HEADS, Kind.THOUGHT)
"""What no policy holds: thought leaves by itself (paging/thoughts.py)."""


class Origin(enum.StrEnum):
    """Who made a page. Only the kernel makes `KERNEL` pages: frames of control tokens tell them apart, no text can."""

    USER = "user"
    KERNEL = "kernel"
    PROCESS = "process"
    FILE = "file"
    IMPORT = "import"  # an imported process brought it: it says whose it was, and nobody knows
    PEER = "peer"  # another process of this machine sent it
    TOOL = "tool"  # a tool answered it
    DERIVED = "derived"  # the process emitted it while such pages were in view: it may be of theirs


LOW: Final = (Origin.FILE, Origin.IMPORT, Origin.PEER, Origin.TOOL, Origin.DERIVED)
"""What is not the user's, nor the process's own or the kernel's: what is made of it is to be trusted no better."""
OWN: Final = (Origin.PROCESS, Origin.DERIVED)
"""What the process emitted."""


class Role(enum.StrEnum):
    """The chat template's role in whose frame a page is placed."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class Area(enum.StrEnum):
    """Where searches find a page: `NONE` is not indexed."""

    NONE = ""
    RECALL = "recall"
    ARCHIVE = "archive"


class Page(msgspec.Struct, frozen=True, array_like=True):
    """One page as stored. `seq` numbers a process's pages from 1, so neighbours of a hit are seq - 1 and seq + 1."""

    id: int
    pid: int
    seq: int
    kind: Kind
    origin: Origin
    role: Role
    area: Area
    at: int  # integer nanoseconds UTC
    text: str
    gist: str = ""  # what searches see where it is not the text (the message inside a JSON instruction)
    of: int = 0  # not 0: it shows that page, which a fork left to both; records.page_of gives what it shows

    @property
    def searched(self) -> str:
        """The text that the indexes hold."""
        return self.gist or self.text


def lent(page: Page) -> Page:
    """A page of an archive as another process has it: a file's stays one, what its owner wrote is a peer's to others.

    It can pose neither as the kernel's nor as a note or a word of the reader's.
    """
    theirs = page.origin if page.origin in (Origin.FILE, Origin.IMPORT, Origin.TOOL) else Origin.PEER
    return msgspec.structs.replace(page, origin=theirs, role=Role.USER)


def gone(page: Page) -> tuple[int, int] | None:
    """Of a page that says so: which process was removed, and how many pages went with it. None: it is another page.

    One that belongs to somebody says nothing: it came with an export, whatever its kind.
    """
    if page.kind is not Kind.GONE or page.pid:
        return None
    pid, _, count = page.text.partition(" ")
    return int(pid), int(count)


class Fact(msgspec.Struct, frozen=True, array_like=True):
    """What a page of kind FACT says, as a record."""

    subject: str
    text: str
    said: int  # when the first of its pages was said, ns UTC
    holds: str  # when it holds: a date, a range of two, or what the model wrote; "" if nothing says
    rests: tuple[int, ...]  # the pages it was found in
    corrects: int = 0  # the fact (by its page) that this one takes the place of; 0: none


class FactPage(Page, frozen=True, array_like=True):
    """A page with its record. Whoever reads it as a Page has all but that, so other pages are stored as ever."""

    fact: Fact | None = None


class Source(msgspec.Struct, frozen=True, array_like=True):
    """Where in a document the text of a page stands."""

    path: str  # as whoever put it there calls it
    version: int  # of the document, from 1
    first: int  # line, or page of a document that has pages,
    last: int
    paged: bool = False
    headings: tuple[str, ...] = ()  # under which it stands, the outermost first


class FilePage(FactPage, frozen=True, array_like=True):
    """A page of a document. Whoever reads it as a Page has all but where it stands there."""

    source: Source | None = None


class Placed(msgspec.Struct, frozen=True, array_like=True):
    """A page in the prompt: in a role's frame, or (`recalled`) as a line of the block in the user's frame."""

    page: int
    role: Role
    recalled: bool = False
    start: int = 0  # recalled: characters [start, end) of it; end 0: all of it
    end: int = 0
    dated: bool = False  # recalled: its line says when it was said
