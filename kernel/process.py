"""What the kernel knows of a process: its control block (PCB), its states, and the moves between them.

A PCB is one record on disk, written whole by each step that touched it; page texts are not in it, so an idle process
holds none in memory. Not here: how its memory is laid out (memory/), what moves it (life.py, turn.py, dispatch.py).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from kernel.errors import KernelPanic
from kernel.event import Act, Fetch, Find, Load, LoadOf, Open, OpenOf, Search, SearchOf, Tag
from kernel.interrupts import Line, Pending
from kernel.memory.address_space import AddressSpace, Entry
from kernel.memory.split import Learned
from kernel.rights import Grant
from kernel.spec import Spec


class State(enum.StrEnum):
    """Where a process stands; exactly one at a time."""

    READY = "ready"  # waits for a slot, in the run queue of its model
    RUNNING = "running"  # has a slot
    BLOCKED = "blocked"  # waits for a completion: a search, or pages
    IDLE = "idle"  # nothing to do until an interrupt
    SUSPENDED = "suspended"  # kept out of the run queue by load control, until there is room for its working set
    ZOMBIE = "zombie"  # dead; its memory is kept


class Move(enum.StrEnum):
    """Why a process changes state."""

    DISPATCH = "dispatch"  # a slot became free, or was asked back for it
    TRAP = "trap"  # the CPU stopped: an instruction, a preemption, or a failure
    BLOCK = "block"  # it asked for something that takes time, or its message is searched for
    WAKE = "wake"  # what it waited for is there, or an interrupt begins a turn
    REST = "rest"  # its turn has ended and nothing is pending
    KILL = "kill"  # by a client, by itself, or by the kernel after failures in a row
    START = "start"  # spawned again by its name
    SUSPEND = "suspend"  # the working sets of all would not fit, or the machine thrashes
    RESUME = "resume"  # there is room again, or a boot judges anew
    REBOOT = "reboot"  # the machine went down while it ran: it is to run again


TRANSITIONS: Final[dict[State, dict[Move, State]]] = {
    State.READY: {
        Move.DISPATCH: State.RUNNING,
        Move.BLOCK: State.BLOCKED,
        Move.REST: State.IDLE,
        Move.SUSPEND: State.SUSPENDED,
        Move.KILL: State.ZOMBIE,
    },
    State.RUNNING: {Move.TRAP: State.READY, Move.KILL: State.ZOMBIE, Move.REBOOT: State.READY},
    State.BLOCKED: {Move.WAKE: State.READY, Move.KILL: State.ZOMBIE},
    State.IDLE: {Move.WAKE: State.READY, Move.KILL: State.ZOMBIE},
    State.SUSPENDED: {Move.RESUME: State.READY, Move.KILL: State.ZOMBIE},
    State.ZOMBIE: {Move.START: State.IDLE},  # a move not listed is a panic
}


class Accounts(msgspec.Struct, omit_defaults=True):
    """What a process has cost, in tokens and counts, since it was first spawned."""

    entered: int = 0  # tokens of pages from outside at their first entry
    recalled: int = 0  # tokens brought in by demand faults
    emitted: int = 0  # tokens decoded
    prefill: int = 0  # tokens evaluated as prompt
    faults: int = 0  # pages brought in
    evictions: int = 0  # pages evicted
    interrupts: int = 0  # delivered
    coalesced: int = 0
    turns: int = 0
    syscalls: int = 0
    illegal: int = 0
    kv: int = 0  # highest KV position of any run
    again: int = 0  # of `prefill`, tokens evaluated before: a prefix broke, or KV was lost
    restored: int = 0  # tokens whose KV came from an image
    shared: int = 0  # tokens whose KV came from another process


class Ranked(msgspec.Struct, frozen=True, array_like=True):
    """A page that a demand search found, in the search's order: its age when it did, its size in the recall area."""

    page: int
    age: int  # tokens admitted to the queue since the page was
    tokens: int


SUMMARY: Final = "summary"
REFLECTION: Final = "reflection"
"""What the kernel's own threads are for."""


class Work(msgspec.Struct, frozen=True, array_like=True):
    """What a thread of the kernel's has before it: pages of its `owner`, which it sees and does not own."""

    owner: int
    pages: tuple[int, ...]
    said: tuple[int, ...] = ()  # of each page, when (ns UTC); empty until they have been fetched
    shown: tuple[int, ...] = ()  # facts of the owner's that stand beside them
    low: bool = False  # they are of a file: what is made of them is no better


class Await(msgspec.Struct, frozen=True, tag=True):
    """A process waits for others: for the end of one of `children`, or for the answer to message `letter`.

    `timer`: which ends the wait; 0: none. `late`: it has.
    """

    pid: int
    req: int
    children: tuple[int, ...] = ()
    letter: int = 0
    timer: int = 0
    late: bool = False


class Consent(msgspec.Struct, frozen=True, tag=True):
    """A call waits for somebody to allow it: as it was emitted, what is called, and under whose eyes (pages)."""

    pid: int
    req: int
    text: str
    name: str
    low: tuple[int, ...] = ()


class Fate(enum.StrEnum):
    """What has become of a message to another process."""

    ACCEPTED = "accepted"  # it is pending there
    DELIVERED = "delivered"
    ANSWERED = "answered"
    DEAD = "dead"  # the process ended before it was delivered


class Letter(msgspec.Struct, frozen=True, array_like=True):
    """A message that a process has sent to another one; its number is that of its (first) page there."""

    id: int
    to: int
    at: int
    reply_to: int = 0
    fate: Fate = Fate.ACCEPTED


OUTSIDE: Final = 0
ORPHAN: Final = -1
"""Whose child a process is that somebody outside has made, or whose parent is no more."""


class Process(msgspec.Struct, array_like=True):
    """The PCB. `instr` and `attempt` name what the CPU runs for it; `ids` are what it emitted before a preemption."""

    pid: int
    spec: Spec
    space: AddressSpace
    state: State = State.IDLE
    status: str = ""
    seq: int = 0  # pages made for it so far
    instr: int = 0
    attempt: int = 0
    ids: tuple[int, ...] = ()
    open: bool = False  # instruction `instr` has been dispatched and has not completed
    restarted: bool = False  # the next dispatch is a new attempt, whatever was emitted before
    in_turn: bool = False
    turn_syscalls: int = 0
    turn_tokens: int = 0
    answers: tuple[str, ...] = ()  # mids of the messages in this turn
    pending: list[Pending] = []
    raised: int = 0  # interrupts raised so far: the next one's number
    req: int = 0  # number of the last request it waited for
    wait: Search | Find | SearchOf | Load | LoadOf | Open | OpenOf | Fetch | Act | Await | Consent | None = None
    demand: bool = False  # the wait is a demand fault, to be answered into the recall area
    timers: list[int] = []
    said: int = 0  # messages put into the outbox so far
    acked: int = 0
    illegal_row: int = 0
    failed_row: int = 0
    accounts: Accounts = msgspec.field(default_factory=Accounts)
    policy: Any = None  # what the replacement policy keeps of this process
    held: dict[int, int] = {}  # lines held back, each until when (ns)
    unmask: int = 0  # the timer at which the first of them is let through; 0: none
    discard: bool = False  # the run under way is to be thrown away
    drawn: tuple[int, ...] = ()  # pages that the turn's instructions drew on
    ranked: tuple[Ranked, ...] | None = None  # what the turn's demand search found worth recalling; None: none was made
    answered: tuple[int, ...] = ()  # pages of the last turn that was answered from recalled pages
    split: Learned | None = None  # how the window is divided, where that is learned; None: nothing was learned yet
    thread: str = ""  # of the kernel's own: what for; "" for everybody else
    work: Work | None = None  # a thread's, while it has some
    backlog: dict[str, list[int]] = {}  # pages that have left, by the thread that is yet to look at them, oldest first
    summaries: list[Entry] = []  # written, and to stand in the queue after the next eviction
    facts: tuple[int, ...] = ()  # pages of the newest facts found, oldest first
    superseded: tuple[int, ...] = ()  # facts that later ones correct: searches leave them out
    tried: dict[str, int] = {}  # the calls of this turn in words, newest last, by how often each has failed
    parent: int = OUTSIDE  # the process that has made it
    group: int = 0  # the first of its process group, which its children join
    grants: tuple[Grant, ...] = ()
    letters: tuple[Letter, ...] = ()  # its newest messages to others, oldest first
    day: int = 0  # the day (since 1970, UTC) of which it has used
    day_tokens: int = 0  # so many, its children's included
    lent: int = 0  # tokens kept for the instruction that is under way, of what it may use; 0: it is not limited
    low: tuple[str, ...] = ()  # blocks and timers (`block NAME`, `timer N`) of its own that it wrote under others' eyes
    audits: int = 0  # calls that its audit has numbered
    reaped: bool = False  # its parent knows how it ended: it goes for good

    @property
    def name(self) -> str:
        """What it is called, for people and for messages to it."""
        return self.spec.name

    @property
    def tag(self) -> Tag:
        """Its run that is under way, or was the last."""
        return Tag(self.pid, self.instr, self.attempt)

    @property
    def awaited(self) -> tuple[int, ...]:
        """The processes of which one must do something before this one goes on; empty if it waits for none."""
        what = self.wait
        if not isinstance(what, Await):
            return ()
        return what.children or tuple(letter.to for letter in self.letters if letter.id == what.letter)

    def used_on(self, day: int) -> int:
        """Tokens that it has used of a day (since 1970, UTC), its children's included, as far as they are limited."""
        return self.day_tokens if day <= self.day else 0

    def holding(self, now: int) -> set[Line]:
        """Lines that it holds back now."""
        return {Line(line) for line, until in self.held.items() if until > now}

    def undelivered(self) -> set[int]:
        """Pages of pending interrupts: on disk and indexed, and not to be seen before their delivery."""
        return {page for one in self.pending for page, _ in one.pages}

    def move(self, move: Move) -> None:
        """Change state along the table. Raises KernelPanic for a move that the table does not list."""
        to = TRANSITIONS[self.state].get(move)
        if to is None:
            raise KernelPanic(f"process {self.pid}: {move} while {self.state}")
        self.state = to


def asker(procs: Mapping[int, Process], proc: Process) -> Process | None:
    """The process whose call waits for consent: this one, or one that it waits for, or one that that waits for."""
    seen = [proc.pid]
    for pid in seen:  # grows, by each process once
        one = procs[pid]
        if isinstance(one.wait, Consent):
            return one
        seen += [other for other in one.awaited if other in procs and other not in seen]
    return None


class Timer(msgspec.Struct, array_like=True):
    """A timer on disk: fires at `due` (ns), then every `every_ns` if that is not 0. `unmask`: it ends masks.

    `wall`: it is due by the wall clock; the others, and every repetition, by the state's time, which only passes.
    """

    id: int
    pid: int
    due: int
    every_ns: int
    text: str
    unmask: bool = False
    wall: bool = False
