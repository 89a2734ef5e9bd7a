"""What a model may emit: one definition a syscall, from which everything else about it derives.

The decoder, the grammar for constrained decoding, the manual page that the model reads, the capability needed (a mask
holds these names) and docs/syscalls.md all come from the structs below: field types and bounds from their annotations,
prose from their docstrings (first line: what it does) and from `example`.
Not here: what the kernel does about it (the family's module), who finds that (table.py).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta

from kernel.interrupts import MASKABLE
from kernel.limits import (
    CALLS_MAX,
    DOCUMENT_PATH_MAX,
    FACT_CHARS_MAX,
    HEADING_CHARS_MAX,
    MASK_S_MAX,
    NAME_CHARS_MAX,
    NAME_TEXT_MAX,
    QUERY_CHARS_MAX,
    READ_PAGES_MAX,
    RIGHT_CHARS_MAX,
    SEARCH_HITS_MAX,
    TIMER_S_MAX,
    WAITED_S_MAX,
)
from kernel.rights import Limits

TRAP_MARK: Final = "!"
"""In the prose encoding, a first character that starts a syscall; anything else is what the process says."""

TEXT_CHARS_MAX: Final = 8_000

Text = Annotated[str, Meta(min_length=1, max_length=TEXT_CHARS_MAX)]
BlockName = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]
Query = Annotated[str, Meta(max_length=QUERY_CHARS_MAX)]
Date = Annotated[str, Meta(max_length=32)]
Path = Annotated[str, Meta(max_length=DOCUMENT_PATH_MAX)]
PageNumber = Annotated[int, Meta(ge=1, le=(1 << 53))]
PageNumbers = Annotated[tuple[PageNumber, ...], Meta(min_length=1, max_length=READ_PAGES_MAX)]
Seconds = Annotated[int, Meta(ge=1, le=TIMER_S_MAX)]
ProcessName = Annotated[str, Meta(min_length=1, max_length=NAME_TEXT_MAX)]
RightName = Annotated[str, Meta(min_length=1, max_length=RIGHT_CHARS_MAX)]
Whose = Annotated[str, Meta(max_length=NAME_TEXT_MAX)]  # archive; "": one's own
RIGHTS_MAX: Final = 16  # of a child, given with it
LineName = Literal["user", "ipc", "child", "timer", "device"]
assert get_args(LineName) == tuple(line.name.lower() for line in MASKABLE)
LineNames = Annotated[tuple[LineName, ...], Meta(min_length=1, max_length=len(MASKABLE))]


def _wire(name: str) -> str:
    """SendMessage -> send_message."""
    return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")


class Syscall(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag=_wire):
    """Base of all syscalls; `op` on the wire is the class's name in lower case with underscores."""

    example: ClassVar[str]
    when: ClassVar[str] = ""  # what the user does where it is right, behind "If the user"; "": no user asks for it
    worked: ClassVar[tuple[tuple[str, str], ...]] = ()  # what a user says, and the call that is right then
    returns: ClassVar[bool] = True  # False: ends the turn, nothing comes back
    one_of: ClassVar[tuple[str, ...]] = ()  # of these fields a call says exactly one: another value than the default
    own: ClassVar[bool] = False  # True: of the kernel's own threads alone, and in nobody else's mask
    inward: ClassVar[bool] = False  # True: it changes nothing but what is in view, whatever it says; or speaks
    granted: ClassVar[bool] = False  # True: only who was given it by name may emit it
    shared: ClassVar[str] = ""  # the verb of the right by which its `whose` names another's archive; "": it has none


class SendMessage(Syscall, frozen=True):
    """Say something to the user; ends the turn unless there is more to come."""

    inward: ClassVar[bool] = True
    example: ClassVar[str] = '{"op":"send_message","text":"Hello."}'
    when: ClassVar[str] = "talks to you, or asks something that you know"
    worked: ClassVar[tuple[tuple[str, str], ...]] = (
        ("Hello!", example),
        ("What is a lake?", '{"op":"send_message","text":"A lake is water with land around it."}'),
        ("Thanks!", '{"op":"send_message","text":"You are welcome."}'),
    )
    returns: ClassVar[bool] = False
    text: Text
    more: bool = False


class CoreAppend(Syscall, frozen=True):
    """Add a line to a block of core memory, which is always in view."""

    example: ClassVar[str] = '{"op":"core_append","block":"human","text":"Likes tea."}'
    when: ClassVar[str] = "tells you something about himself or herself that should always be in view"
    worked: ClassVar[tuple[tuple[str, str], ...]] = (("I like tea.", example),)
    block: BlockName
    text: Text


class CoreReplace(Syscall, frozen=True):
    """Replace text in a block of core memory; an empty new text deletes it."""

    example: ClassVar[str] = '{"op":"core_replace","block":"human","old":"tea","new":"coffee"}'
    when: ClassVar[str] = "says that something in core memory is so no longer"
    worked: ClassVar[tuple[tuple[str, str], ...]] = (("I like coffee now, not tea.", example),)
    block: BlockName
    old: Text
    new: Annotated[str, Meta(max_length=TEXT_CHARS_MAX)]


class Remember(Syscall, frozen=True):
    """Store a text in the archive, where search finds it."""

    example: ClassVar[str] = '{"op":"remember","text":"The user\'s cat is called Miso."}'
    when: ClassVar[str] = "wants you to remember something"
    shared: ClassVar[str] = "remember"
    worked: ClassVar[tuple[tuple[str, str], ...]] = (
        ("My cat is called Miso.", example),
        ("Note that the lamp is broken.", '{"op":"remember","text":"The lamp is broken."}'),
        ("Please keep in mind that Ole hates fish.", '{"op":"remember","text":"Ole hates fish."}'),
    )
    text: Text
    whose: Whose = ""


class Search(Syscall, frozen=True):
    """Find earlier messages (recall), the archive, or all; since and until are dates; cursor is the next page's."""

    inward: ClassVar[bool] = True
    shared: ClassVar[str] = "search"
    example: ClassVar[str] = '{"op":"search","query":"name of the cat"}'
    when: ClassVar[str] = "asks for something that was said earlier"
    worked: ClassVar[tuple[tuple[str, str], ...]] = (
        ("What did I call my cat?", example),
        ("Look up what I said about the lamp.", '{"op":"search","query":"lamp"}'),
        ("Which fish did I tell you about?", '{"op":"search","query":"fish"}'),
    )
    query: Query
    area: Literal["all", "recall", "archive"] = "all"
    since: Date = ""
    until: Date = ""
    cursor: Annotated[int, Meta(ge=0, le=10_000)] = 0
    limit: Annotated[int, Meta(ge=1, le=SEARCH_HITS_MAX)] = 5
    whose: Whose = ""


class Read(Syscall, frozen=True):
    """Bring pages back into view by number."""

    inward: ClassVar[bool] = True
    shared: ClassVar[str] = "search"
    example: ClassVar[str] = '{"op":"read","pages":[12,13]}'
    pages: PageNumbers
    whose: Whose = ""


class Open(Syscall, frozen=True):
    """Show what a document contains, or its text at a heading, line or page; cursor goes on from there."""

    example: ClassVar[str] = '{"op":"open","path":"manual.md","at":"Cleaning"}'
    when: ClassVar[str] = "wants to know what stands in a document, or what a part of it says"
    worked: ClassVar[tuple[tuple[str, str], ...]] = (
        ("What is in manual.md?", '{"op":"open","path":"manual.md"}'),
        ("What does manual.md say about cleaning?", example),
    )
    granted: ClassVar[bool] = True
    inward: ClassVar[bool] = True
    shared: ClassVar[str] = "search"
    path: Path = ""
    at: Annotated[str, Meta(max_length=HEADING_CHARS_MAX)] = ""
    cursor: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    whose: Whose = ""


class Find(Syscall, frozen=True):
    """Find passages in documents, or in one; results say where they stand; cursor is the next page's."""

    example: ClassVar[str] = '{"op":"find","query":"weight of the pump","path":"manual.md"}'
    when: ClassVar[str] = "asks for something that a document says"
    worked: ClassVar[tuple[tuple[str, str], ...]] = (
        ("How heavy is the pump?", '{"op":"find","query":"weight of the pump"}'),
        ("Look it up in manual.md.", example),
    )
    granted: ClassVar[bool] = True
    inward: ClassVar[bool] = True
    shared: ClassVar[str] = "search"
    query: Annotated[str, Meta(min_length=1, max_length=QUERY_CHARS_MAX)]
    path: Path = ""
    cursor: Annotated[int, Meta(ge=0, le=500)] = 0
    limit: Annotated[int, Meta(ge=1, le=SEARCH_HITS_MAX)] = 5
    whose: Whose = ""


class Pin(Syscall, frozen=True):
    """Keep a page in view whatever else must leave."""

    inward: ClassVar[bool] = True
    example: ClassVar[str] = '{"op":"pin","page":12}'
    page: PageNumber


class Unpin(Syscall, frozen=True):
    """Let a pinned page leave again."""

    inward: ClassVar[bool] = True
    example: ClassVar[str] = '{"op":"unpin","page":12}'
    page: PageNumber


class Evict(Syscall, frozen=True):
    """Remove pages from view; they stay on disk, where search and read find them."""

    inward: ClassVar[bool] = True
    example: ClassVar[str] = '{"op":"evict","pages":[12]}'
    pages: PageNumbers


class SetTimer(Syscall, frozen=True):
    """Be interrupted in so many seconds, or at a time in UTC, and every so many seconds after if every is given."""

    one_of: ClassVar[tuple[str, ...]] = ("seconds", "at")
    example: ClassVar[str] = '{"op":"set_timer","seconds":3600,"text":"Ask about the exam."}'
    when: ClassVar[str] = "wants to be reminded, woken or asked later"
    worked: ClassVar[tuple[tuple[str, str], ...]] = (
        ("Ask me about the exam in an hour.", example),
        ("Remind me in 20 seconds to stop.", '{"op":"set_timer","seconds":20,"text":"Stop."}'),
        ("Set a timer of five minutes for the rice.", '{"op":"set_timer","seconds":300,"text":"The rice."}'),
    )
    text: Annotated[str, Meta(max_length=TEXT_CHARS_MAX)]
    seconds: Annotated[int, Meta(ge=0, le=TIMER_S_MAX)] = 0
    at: Date = ""
    every: Annotated[int, Meta(ge=0, le=TIMER_S_MAX)] = 0


class CancelTimer(Syscall, frozen=True):
    """Cancel a timer by number."""

    example: ClassVar[str] = '{"op":"cancel_timer","timer":3}'
    timer: PageNumber


class Sleep(Syscall, frozen=True):
    """End the turn and wake in so many seconds, or earlier for a message."""

    example: ClassVar[str] = '{"op":"sleep","seconds":600}'
    returns: ClassVar[bool] = False
    seconds: Seconds


class Mask(Syscall, frozen=True):
    """Hold back interrupts of some lines for so many seconds; they are kept, and delivered after that."""

    example: ClassVar[str] = '{"op":"mask","lines":["timer"],"seconds":600}'
    lines: LineNames
    seconds: Annotated[int, Meta(ge=1, le=MASK_S_MAX)]


class Unmask(Syscall, frozen=True):
    """Let interrupts of some lines through again."""

    example: ClassVar[str] = '{"op":"unmask","lines":["timer"]}'
    lines: LineNames


class Yield(Syscall, frozen=True):
    """End the turn without saying anything."""

    inward: ClassVar[bool] = True
    example: ClassVar[str] = '{"op":"yield"}'
    when: ClassVar[str] = "wants nothing"
    returns: ClassVar[bool] = False


class Help(Syscall, frozen=True):
    """Show the manual's page of a syscall: how it is written, and within which bounds."""

    inward: ClassVar[bool] = True
    example: ClassVar[str] = '{"op":"help","call":"search"}'
    call: BlockName


class Exit(Syscall, frozen=True):
    """End this process; its memory is kept."""

    example: ClassVar[str] = '{"op":"exit"}'
    returns: ClassVar[bool] = False
    status: Annotated[str, Meta(max_length=200)] = ""


class Spawn(Syscall, frozen=True):
    """Make a process of your own, with a task; it may do no more than you. Its end, and its messages, interrupt you."""

    example: ClassVar[str] = '{"op":"spawn","name":"reader","task":"Read page 12 and tell me who signed it."}'
    granted: ClassVar[bool] = True
    name: BlockName
    task: Annotated[str, Meta(max_length=TEXT_CHARS_MAX)] = ""
    system: Annotated[str, Meta(max_length=TEXT_CHARS_MAX)] = ""
    calls: Annotated[tuple[BlockName, ...], Meta(max_length=CALLS_MAX)] = ()
    rights: Annotated[tuple[RightName, ...], Meta(max_length=RIGHTS_MAX)] = ()
    model: Annotated[str, Meta(max_length=NAME_TEXT_MAX)] = ""
    limits: Limits = Limits()


class Fork(Syscall, frozen=True):
    """Make a copy of yourself, which sees what you see, with a task of its own."""

    example: ClassVar[str] = '{"op":"fork","name":"other","task":"Try it the other way round."}'
    granted: ClassVar[bool] = True
    name: BlockName
    task: Annotated[str, Meta(max_length=TEXT_CHARS_MAX)] = ""


class Wait(Syscall, frozen=True):
    """Wait until a child, or any of them, has ended, or until a message is answered; for so many seconds at most."""

    example: ClassVar[str] = '{"op":"wait","child":"reader","seconds":600}'
    granted: ClassVar[bool] = True
    inward: ClassVar[bool] = True
    child: Annotated[str, Meta(max_length=NAME_TEXT_MAX)] = ""
    reply: Annotated[int, Meta(ge=0, le=(1 << 53))] = 0
    seconds: Annotated[int, Meta(ge=0, le=WAITED_S_MAX)] = 0


class Kill(Syscall, frozen=True):
    """End a child; its memory goes with it."""

    example: ClassVar[str] = '{"op":"kill","process":"reader"}'
    granted: ClassVar[bool] = True
    process: ProcessName


class Send(Syscall, frozen=True):
    """Send a message to another process, or to your parent; reply_to is the number of the message it answers."""

    example: ClassVar[str] = '{"op":"send","to":"parent","text":"Ana Ruiz signed it."}'
    granted: ClassVar[bool] = True
    to: ProcessName
    text: Text
    reply_to: Annotated[int, Meta(ge=0, le=(1 << 53))] = 0


class Grant(Syscall, frozen=True):
    """Give a child a right that you hold."""

    example: ClassVar[str] = '{"op":"grant","child":"reader","right":"send:crew/writer"}'
    granted: ClassVar[bool] = True
    child: ProcessName
    right: RightName


class Revoke(Syscall, frozen=True):
    """Take rights from a child that you have given it."""

    example: ClassVar[str] = '{"op":"revoke","child":"reader","right":"send:*"}'
    granted: ClassVar[bool] = True
    child: ProcessName
    right: RightName


class Look(Syscall, frozen=True):
    """Read a block that several processes share, with its version; follow: be told of every write."""

    example: ClassVar[str] = '{"op":"look","block":"crew/plan"}'
    granted: ClassVar[bool] = True
    inward: ClassVar[bool] = True
    block: ProcessName
    follow: bool = False


class Write(Syscall, frozen=True):
    """Write a shared block of the version that you saw, or make one of yours (version 0); no text removes it."""

    example: ClassVar[str] = '{"op":"write","block":"crew/plan","text":"Ana counts oaks.","version":1}'
    granted: ClassVar[bool] = True
    block: ProcessName
    text: Annotated[str, Meta(max_length=TEXT_CHARS_MAX)]
    version: Annotated[int, Meta(ge=0, le=(1 << 53))] = 0


class Use(Syscall, frozen=True):
    """Use a tool; help, with the tool's name as call, shows what it does and which arguments it takes."""

    example: ClassVar[str] = '{"op":"use","tool":"files/read","arguments":{"path":"notes.txt"}}'
    granted: ClassVar[bool] = True
    tool: BlockName
    arguments: dict[str, Any] = {}


class Fact(Syscall, frozen=True):
    """Note a fact: who or what it is about, what is so, the pages it stands in, and the fact that it corrects."""

    example: ClassVar[str] = '{"op":"fact","subject":"Ana","text":"Ana moved to Lyon.","pages":[31]}'
    own: ClassVar[bool] = True
    subject: Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX)]
    text: Annotated[str, Meta(min_length=1, max_length=FACT_CHARS_MAX)]
    pages: PageNumbers
    holds: Date = ""
    corrects: Annotated[int, Meta(ge=0, le=(1 << 53))] = 0


class Block(Syscall, frozen=True):
    """Write a block of core memory anew."""

    example: ClassVar[str] = '{"op":"block","label":"human","text":"Ana, lives in Lyon."}'
    own: ClassVar[bool] = True
    label: BlockName
    text: Text


AnySyscall: TypeAlias = (
    SendMessage
    | CoreAppend
    | CoreReplace
    | Remember
    | Search
    | Read
    | Open
    | Find
    | Pin
    | Unpin
    | Evict
    | SetTimer
    | CancelTimer
    | Sleep
    | Mask
    | Unmask
    | Yield
    | Help
    | Exit
    | Spawn
    | Fork
    | Wait
    | Kill
    | Send
    | Grant
    | Revoke
    | Look
    | Write
    | Use
    | Fact
    | Block
)

Shared: TypeAlias = Remember | Search | Read | Open | Find
"""What may mean another's archive."""

SYSCALLS: Final[dict[str, type[Syscall]]] = {_wire(call.__name__): call for call in get_args(AnySyscall)}
NAMES: Final = tuple(name for name, call in SYSCALLS.items() if not call.own)
"""What a process may be given; the kernel's own threads have the others, too."""
FULL: Final = tuple(name for name in NAMES if not SYSCALLS[name].granted)
"""What a full mask has: a manual that is longer by a call costs every process a part of its window."""
