"""All that is known between two events, and the one way to change it.

The hash moves with each write. Who changes a PCB calls `dirty` on it: the step's end writes it. What a step did so far
stands in `draft` and is nothing yet; `end` makes a Step of it, `refused` drops it, which is a panic after a change.
Not here: what an event does (core.py is the table of contents), what a boot derives (restart.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from kernel import records
from kernel.errors import BadInput, KernelPanic, Unknown, some
from kernel.event import NOBODY, AnyEffect, AnyEvent, Booted, Model, Note, Tag, Tool, Trapped, What
from kernel.interrupts import Line, Pending
from kernel.memory import pager
from kernel.memory.address_space import Entry
from kernel.memory.measure import Costs, Measure
from kernel.memory.page import UNRANKED, Page
from kernel.memory.pager import Budgets
from kernel.memory.policy import Policy, make
from kernel.ports import Form, Record
from kernel.process import Process, Timer
from kernel.records import Counters, JournalEntry, Shared
from kernel.scheduler import Scheduler
from kernel.scheduler.admission import Admission
from kernel.settings import Settings
from kernel.shares import Shares


class Slot(msgspec.Struct):
    """A hardware thread: which run is in it. `yielding`: it was asked to stop at its next token."""

    tag: Tag = NOBODY
    yielding: bool = False
    model: str = ""

    @property
    def pid(self) -> int:
        """Who runs here; 0: nobody."""
        return self.tag.pid


class Lane(msgspec.Struct):
    """What the processes of one model compete in: its run queue, and who may be in it.

    `idle` is the run queue of the kernel's own threads, which run while nobody else is in a turn.
    """

    ready: Scheduler
    admission: Admission
    idle: Scheduler


class Step(msgspec.Struct, frozen=True):
    """What one event did: records to commit (the journal entry among them), then effects to perform."""

    lsn: int
    records: tuple[Record, ...] = ()
    effects: tuple[AnyEffect, ...] = ()
    notes: tuple[Note, ...] = ()
    refused: BadInput | None = None  # nothing has changed, nothing is to be committed
    pid: int = 0
    pages: tuple[tuple[Page, tuple[int, ...]], ...] = ()  # made by this step, with their ids

    @property
    def error(self) -> str:
        """Why it was refused, in one line; "" if it was not."""
        return str(self.refused or "")


Watch = Callable[[AnyEvent, Step], None]
"""Called with each event and what it did, after its commit and before its effects."""


class Draft(msgspec.Struct):
    """The step under way."""

    effects: list[AnyEffect] = []
    notes: list[Note] = []
    written: list[Record] = []
    dirty: dict[int, Process] = {}
    sizes: list[tuple[tuple[int, tuple[int, ...]], ...]] = []  # of texts that were measured, for the journal
    made: list[tuple[Page, tuple[int, ...]]] = []
    emission: Trapped | None = None  # what the CPU emitted, until it stands in the queue
    about: int = 0  # the process that the answer to the event names
    ran: int = 0  # the process whose trap this step is
    call: str = ""  # what it called, in words, its name first; "": nothing that can be decoded
    failed: str = ""  # why the call that this step completes has failed
    low: tuple[int, ...] = ()  # pages that are not the user's and were in view of the process whose trap this step is


class InstructionSet(Protocol):
    """The syscalls as the kernel needs them; the table in syscalls/ implements it, and is handed in."""

    names: tuple[str, ...]
    system: str  # system instructions of a process for which nobody gave others
    threads: dict[str, tuple[tuple[str, ...], str]]  # of the kernel's own: by what for, its syscalls and instructions
    writers: tuple[str, ...]  # syscalls that write core memory
    acting: str  # the syscall by which a process uses tools

    def default_mask(self, full: bool) -> tuple[str, ...]:
        """What a process may emit if nobody said: everything, or what a model too small to choose can do."""
        ...

    def grammar(
        self,
        mask: Iterable[str],
        encoding: str,
        form: Form | None = None,
        tools: tuple[Tool, ...] = (),
        shared: tuple[str, ...] = (),
    ) -> str | None:
        """Lark grammar of what a process with `mask` may emit, of these tools; None: any non-empty text.

        `form`: of its messages. `shared`: verbs of what it may do with others' archives.
        """
        ...

    def sharing(self, mask: Iterable[str], archives: tuple[tuple[str, str], ...]) -> str:
        """What the manual says of the archives of others, a verb and whose; "" if the mask could do nothing there."""
        ...

    def listed(self, tools: tuple[Tool, ...], most: int, encoding: str) -> str:
        """What the manual says of the tools that a process may use: the first `most`, in a line each."""
        ...

    def plain(self, text: str, encoding: str) -> str:
        """An instruction whose message was held to a form, as one that has it as text; any other as it is."""
        ...

    def manual(self, mask: Iterable[str], encoding: str, form: str) -> str:
        """The manual that the model reads, in a form (`form`); empty if there is nothing to choose."""
        ...

    def form(self, mask: Iterable[str], wanted: str, suits: str, window: int) -> str:
        """The form of a manual: as the setting cpu.manual wants it, or by what suits the model and fits the window."""
        ...

    def page(self, mask: Iterable[str], encoding: str, text: str) -> str:
        """The page of the call that an instruction was meant to be; "" if nothing says which, or none of the mask."""
        ...

    def alert(self, what: str, mask: Iterable[str], **numbers: Any) -> str:
        """The text of a kernel page for an occasion, or "" where this mask could do nothing about it."""
        ...

    def written(self, text: str, blocks: Mapping[str, str]) -> tuple[str, str]:
        """The block that a call of `writers`, which was carried out, wrote on `blocks`, and what it says since.

        Raises SyscallError if it cannot have written on these.
        """
        ...

    def execute(self, kernel: Kernel, proc: Process, text: str, encoding: str, truncated: bool) -> None:
        """Decode one instruction, say in `draft.call` what it is, and carry it out.

        Raises SyscallError before anything has changed: Illegal if nothing can be decoded.
        """
        ...

    def carry_out(self, kernel: Kernel, proc: Process, text: str, encoding: str, name: str) -> None:
        """Carry out an instruction that was decoded before and for which there is consent. Raises as `execute`."""
        ...


class Kernel:
    """All state of the machine between two events."""

    def __init__(self, iset: InstructionSet, measure: Measure) -> None:
        """An empty machine; the first event must be Booted. `load` fills it from disk before that."""
        self.iset = iset
        self.measure = measure
        # On disk.
        self.counters = Counters()
        self.procs: dict[int, Process] = {}
        self.timers: dict[int, Timer] = {}
        self.shared: dict[str, Shared] = {}
        self.used: dict[int, int] = {}  # by process that has used tools in its turn, how often
        self.offers: dict[str, tuple[Tool, ...]] = {}  # by server of tools, what it offered last
        self.hash = 0
        self.form = records.CURRENT  # in which the state is written and hashed; a replay may begin in an older one
        # Given by Booted.
        self.config: Booted | None = None
        self.models: dict[str, Model] = {}
        # Derived.
        self.names: dict[str, int] = {}
        self.lanes: dict[str, Lane] = {}  # by model
        self.slots: list[Slot] = []
        self.policies: dict[int, Policy] = {}
        self.divided: dict[tuple[str, int, str, int | None], Budgets] = {}  # by model, text, think, place of the split
        self.texts: dict[str, Entry] = {}  # text segments by digest
        self.children: dict[int, set[int]] = {}  # by their parent, who are alive or not waited for
        self.posted: dict[int, int] = {}  # by letter that is yet to be delivered, who sent it
        self.busy: set[int] = set()  # who is in a turn, the kernel's own threads excepted
        self.threads: list[int] = []  # the kernel's own
        self.owing: dict[str, set[int]] = {}  # by thread, processes with pages that it is yet to look at
        self.seen: dict[int, int] = {}  # tokens of a process's prompt, as it is, that the CPU has evaluated already
        self.shares = Shares()  # of the state hash, of each record that may change
        self.begin(0)

    def load(self, rows: Iterable[Record], state_hash: bytes, form: records.Form = records.CURRENT) -> None:
        """Take over the state of a commit: the rows of records.STATE in a form, and the hash journaled with them."""
        self.form = form
        for row in rows:
            if (row.table, row.key) == records.FORMAT_ROW:
                continue
            value = row.value or b""
            self.shares.put(row.table, row.key, records.digest(row))
            match row.table:
                case "meta":
                    self.counters = msgspec.msgpack.decode(value, type=Counters)
                case "proc":
                    proc = form.proc(value)
                    self.procs[proc.pid], self.names[proc.name] = proc, proc.pid
                    if proc.space.text is not None:
                        self.texts[proc.space.text_key] = proc.space.text
                case "timer":
                    timer = msgspec.msgpack.decode(value, type=Timer)
                    self.timers[timer.id] = timer
                case "shared":
                    block = msgspec.msgpack.decode(value, type=Shared)
                    self.shared[block.name] = block
                case "used":
                    self.used[records.unkey(row.key)[0]] = msgspec.msgpack.decode(value, type=int)
                case "tool":
                    offer = msgspec.msgpack.decode(value, type=records.Offer)
                    self.offers[offer.server] = offer.tools
                case "outbox" | "intent":  # read from the disk when somebody asks; the PCB has what is intended
                    pass
                case _:
                    raise KernelPanic(f"table {row.table} is no part of the state")
        self.hash = int.from_bytes(state_hash, "little")

    # The step under way.

    def begin(self, at: int, ahead: int = 0) -> None:
        """A step begins, of an event at `at`, when the wall clock was so far ahead of that.

        `wall` (ns UTC) is for dates and for what waits for one; all that lasts is reckoned by `at`.
        """
        self.at, self.ahead, self.wall = at, ahead, at + ahead
        self.draft = Draft()

    def write(self, table: str, key: bytes, value: bytes | None) -> None:
        """Set a record, or delete it (None), with its share of the state hash."""
        kind = records.TABLES[table]
        assert value is not None or kind.in_place, "written once, and for ever"
        record = Record(table, key, value)
        self.draft.written.append(record)
        if kind.unhashed:
            return
        share = records.digest(record)
        if not kind.in_place:  # written once: there is no older share
            self.hash = (self.hash + share) & records.MASK
            return
        old = self.shares.put(table, key, share)
        self.hash = (self.hash + share - old) & records.MASK

    def dirty(self, proc: Process) -> None:
        """The PCB changes in this step."""
        self.draft.dirty[proc.pid] = proc

    def note(self, what: What, proc: Process | None = None, **numbers: object) -> None:
        """A line of the log, with fields of Note."""
        self.draft.notes.append(Note(what, proc.pid if proc else 0, **numbers))  # type: ignore[arg-type]  # by name

    def effect(self, effect: AnyEffect) -> None:
        """Have a device do something once the step is committed."""
        self.draft.effects.append(effect)

    def raise_(self, proc: Process, line: Line, pages: Iterable[Entry] = (), mid: str = "", timer: int = 0) -> None:
        """Make an interrupt pending; nobody is woken by that alone."""
        assert line is not Line.KILL, "it is its own delivery"
        assert (timer != 0) == (line is Line.TIMER)
        assert not mid or line is Line.USER
        proc.raised += 1
        stored = tuple((entry.page, entry.tokens) for entry in pages)
        proc.pending.append(Pending(line, proc.raised, self.at, stored, mid, timer))
        self.note(What.INTERRUPT, proc, line=line)

    def refused(self, why: BadInput) -> Step:
        """The step of an event that has changed nothing. Raises KernelPanic if it has."""
        if self.draft.written or self.draft.dirty:
            raise KernelPanic(f"refused after a change: {why}") from why
        return Step(self.counters.lsn, refused=why, pid=self.draft.about)

    def end(self, event: AnyEvent) -> Step:
        """Write the PCBs that changed, the counters and the journal entry; what is to be committed and performed."""
        draft = self.draft
        assert draft.emission is None, "what the CPU emitted stands nowhere"
        assert event.at >= self.counters.now, "time never goes back"
        self.counters.lsn += 1
        self.counters.now, self.counters.ahead = event.at, event.ahead
        for pid, proc in draft.dirty.items():
            if pid in self.policies:
                proc.policy = (self.settings.memory.policy, self.policies[pid].state())
            self.write("proc", records.key(pid), self.form.row(proc))
        self.write("meta", b"kernel", self.form.row(self.counters))
        notes = tuple(draft.notes)
        entry = JournalEntry(self.counters.lsn, event, tuple(draft.sizes), notes, self.hash.to_bytes(16, "little"))
        draft.written.append(Record("journal", records.key(entry.lsn), records.encode(entry)))
        return Step(
            lsn=self.counters.lsn,
            records=tuple(draft.written),
            effects=tuple(draft.effects),
            notes=notes,
            pid=draft.about,
            pages=tuple(draft.made),
        )

    def check(self) -> None:
        """Assert that what is on disk is what is in memory, by its hashes, and that what is derived is of it. O(pages).

        A PCB that was changed without `dirty` is found here: its record's share of the hash is another's.
        """
        assert self.counters.now == self.at or not self.draft.written, "the step has another time than the counters"
        for pid, proc in self.procs.items():
            share = self.shares.get("proc", records.key(pid))
            assert share == records.digest(Record("proc", records.key(pid), self.form.row(proc))), f"{pid} not dirty"
        timers = set(map(records.key, self.timers))
        assert self.shares.keys("timer") == timers, "timers on disk are others than in memory"
        assert self.policies.keys() <= self.procs.keys()
        assert self.seen.keys() <= {pid for pid, proc in self.procs.items() if proc.in_turn}, "seen outlives a turn"
        assert self.busy <= self.procs.keys()
        assert self.draft.emission is None, "what the CPU emitted stands nowhere"
        assert all(slot.model in self.models for slot in self.slots)
        assert self.lanes.keys() == self.models.keys()

    # What is asked of it everywhere.

    @property
    def settings(self) -> Settings:
        """As the last boot gave them."""
        assert self.config is not None, "set by the first event"
        return self.config.settings

    def proc(self, pid: int) -> Process:
        """A process by number, for who asks from outside. Raises BadInput for none, and for a kernel's thread."""
        if pid not in self.procs:
            raise Unknown(f"no process {pid}; processes are {some(self.names)}")
        if self.procs[pid].thread:
            raise BadInput(f"process {self.procs[pid].name} is the kernel's own; nobody else has a say in it")
        return self.procs[pid]

    def model_of(self, pid: int) -> str:
        """The name of the model that runs a process: the one it named if the machine has it, else the first, ""."""
        name = self.procs[pid].spec.model
        return name if name in self.models else ""

    def lane_of(self, pid: int) -> Lane:
        """What a process competes in."""
        return self.lanes[self.model_of(pid)]

    def working_set(self, pid: int) -> int:
        """Tokens that a process needs in view to run: its prompt. O(pages)."""
        return self.procs[pid].space.size()

    def costs(self, proc: Process) -> Costs:
        """What the frame of a process's model adds."""
        return self.models[self.model_of(proc.pid)].costs

    def budgets(self, proc: Process) -> Budgets:
        """How the window of a process is divided."""
        place = proc.split.place if proc.split is not None else None
        think = "off" if proc.thread else proc.spec.think
        limits = self.divide(self.model_of(proc.pid), proc.space.text.tokens if proc.space.text else 0, think, place)
        return pager.of_thread(limits) if proc.thread else limits

    def divide(self, model: str, text: int, think: str, place: int | None = pager.LEAST) -> Budgets:
        """How a window is divided for a model, a text of so many tokens, and a process that may `think` (spec.py).

        `place` is that of the split, where the share of recall is learned; with the least one, all else has most room.
        Raises BadInput if it is too small.
        """
        think = think if self.models[model].thinks else "off"
        found = self.divided.get((model, text, think, place))
        if found is None:
            assert self.config is not None, "set by the first event"
            costs = self.models[model].costs
            found = pager.budgets(self.settings, costs, text, self.config.page_tokens, place, think)
            self.divided[model, text, think, place] = found
        return found

    def policy(self, proc: Process) -> Policy:
        """The replacement policy of a process, going on from what its PCB keeps."""
        policy = self.policies.get(proc.pid)
        if policy is None:
            name, state = proc.policy or ("", None)
            chosen, queue = self.settings.memory.policy, self.budgets(proc).queue
            policy = make(chosen, queue, state if name == chosen else None)
            policy.capacity = queue
            if name != chosen:  # another policy's state says nothing: admit what is resident
                for entry in proc.space.queue:
                    if entry.kind not in UNRANKED:
                        policy.admit(entry.page, entry.tokens, entry.kind)
            self.policies[proc.pid] = policy
        return policy


def small(kernel: Kernel, proc: Process, how: str) -> bool:
    """Whether what is set for `how` (settings.Small) models holds for a process; before format 4 for none."""
    prose = kernel.models[kernel.model_of(proc.pid)].encoding == "prose"
    return kernel.form.number >= 4 and (how == "always" or (how == "small" and prose))
