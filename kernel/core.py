"""The kernel as one deterministic state machine: `step(event)` changes the state and says what is to be done.

Sans-IO: no clock, no driver, no syscall names. Time comes with the event, sizes with `measure`, the instruction set is
handed in. A step returns the records it dirtied, the effects to perform once they are committed, notes for those who
watch, and the state hash. An event that is refused (KernelError) has changed nothing and leaves no trace.

Mechanisms live beside this file (process, interrupts, scheduler/, memory/); this one joins them: what an event does to
a process, a turn, an address space. The methods under "For syscalls" are what handlers may do to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import assert_never

import msgspec

from kernel import interrupts, records
from kernel.errors import BadInput, KernelPanic, SyscallError
from kernel.event import (
    Acked,
    AnyEffect,
    AnyEvent,
    Arm,
    Booted,
    Checkpointed,
    Costs,
    Deliver,
    Disarm,
    Event,
    Filed,
    Fork,
    Forked,
    Hit,
    Imported,
    Killed,
    Load,
    Loaded,
    Message,
    Messaged,
    Model,
    Note,
    Outcome,
    Part,
    Preempt,
    Raised,
    Run,
    Search,
    Searched,
    Spawned,
    TimerFired,
    Trapped,
)
from kernel.interrupts import Line, Pending
from kernel.limits import (
    BLOCKS_MAX,
    FAILED_MAX,
    FAULT_DEADLINE_S,
    HIT_TOKENS,
    ILLEGAL_MAX,
    NAME_CHARS_MAX,
    OUTBOX_MAX,
    PENDING_MAX,
    PROCESSES_MAX,
    THRASH_WINDOWS,
    TIMERS_MAX,
    TURN_SYSCALLS_MAX,
    TURN_TOKENS_MAX,
)
from kernel.memory import pager
from kernel.memory.address_space import AddressSpace, Entry
from kernel.memory.page import Area, Kind, Origin, Page, Role
from kernel.memory.pager import Budgets
from kernel.memory.policy import Policy, make
from kernel.ports import InstructionSet, Measure, Record
from kernel.process import Move, Process, State, Timer
from kernel.records import Counters, JournalEntry
from kernel.scheduler import Scheduler
from kernel.scheduler import make as make_scheduler
from kernel.scheduler.admission import Admission
from kernel.scheduler.fair import NICE_MAX, NICE_MIN
from kernel.settings import Settings

NS = 1_000_000_000


class Slot(msgspec.Struct):
    """A hardware thread: who runs in it. `pid` 0: free. `yielding`: it was asked to stop at its next token."""

    pid: int = 0
    instr: int = 0
    attempt: int = 0
    yielding: bool = False
    model: str = ""


class Lane(msgspec.Struct):
    """What the processes of one model compete in: its run queue, and who may be in it."""

    ready: Scheduler
    admission: Admission


class Step(msgspec.Struct, frozen=True):
    """What one event did: records to commit (the journal entry among them), then effects to perform."""

    lsn: int
    records: tuple[Record, ...] = ()
    effects: tuple[AnyEffect, ...] = ()
    notes: tuple[Note, ...] = ()
    error: str = ""  # refused: nothing has changed, nothing is to be committed
    pid: int = 0
    pages: tuple[tuple[Page, tuple[int, ...]], ...] = ()  # made by this step, with their ids
    messages: tuple[Message, ...] = ()  # put into the outbox by this step


Watch = Callable[[AnyEvent, Step], None]
"""Called with each event and what it did, after its commit and before its effects."""


class Kernel:
    """All state of the machine between two events."""

    def __init__(self, iset: InstructionSet, measure: Measure) -> None:
        """An empty machine; the first event must be Booted. `load` fills it from disk before that."""
        self.iset = iset
        self.measure = measure
        self.counters = Counters()
        self.procs: dict[int, Process] = {}
        self.names: dict[str, int] = {}
        self.timers: dict[int, Timer] = {}
        self.hash = 0
        self.lanes: dict[str, Lane] = {}  # by model
        self.slots: list[Slot] = []
        self.config: Booted | None = None
        self.models: dict[str, Model] = {}
        self._hashes: dict[tuple[str, bytes], int] = {}  # share of the state hash of each record that may change
        self._policies: dict[int, Policy] = {}
        self._budgets: dict[tuple[str, int], Budgets] = {}  # by model and text tokens
        self._texts: dict[str, Entry] = {}
        self._seen: dict[int, int] = {}  # tokens of a process's prompt, as it is, that the CPU has evaluated already
        self._begin(0)

    # Records and steps.

    def load(
        self, tables: Mapping[str, Iterable[tuple[bytes, bytes]]], counters: bytes | None, state_hash: bytes
    ) -> None:
        """Take over the state of the last commit: rows of proc, timer and outbox, and the hash journaled with it."""
        if counters is not None:
            self.counters = msgspec.msgpack.decode(counters, type=Counters)
            self._hashes["meta", b"kernel"] = records.digest(Record("meta", b"kernel", counters))
        for raw, value in tables.get("proc", ()):
            proc = msgspec.msgpack.decode(value, type=Process)
            self.procs[proc.pid], self.names[proc.name] = proc, proc.pid
            if proc.space.text is not None:
                self._texts[proc.space.text_key] = proc.space.text
            self._hashes["proc", raw] = records.digest(Record("proc", raw, value))
        for raw, value in tables.get("timer", ()):
            timer = msgspec.msgpack.decode(value, type=Timer)
            self.timers[timer.id] = timer
            self._hashes["timer", raw] = records.digest(Record("timer", raw, value))
        for raw, value in tables.get("outbox", ()):
            self._hashes["outbox", raw] = records.digest(Record("outbox", raw, value))
        self.hash = int.from_bytes(state_hash, "little")

    def resume(self, booted: Booted, slots: Iterable[tuple[int, int, int]]) -> None:
        """Go on after a Checkpointed event whose state was loaded: make what no record holds as that step did."""
        self._configure(booted)
        for slot, (pid, instr, attempt) in zip(self.slots, slots, strict=True):
            slot.pid, slot.instr, slot.attempt = pid, instr, attempt
        self._renew()

    def _configure(self, booted: Booted) -> None:
        """Have the models and the free slots that a boot says."""
        self.config, self.models = booted, booted.models()
        self.slots = [Slot(model=name) for name, model in self.models.items() for _ in range(model.slots)]

    def _renew(self) -> None:
        """Make all that is not on disk a function of what is, and of the last Booted and of the slots."""
        self._policies.clear()
        self._seen.clear()
        self._known_texts()
        for slot in self.slots:
            slot.yielding = False
        self.lanes = {name: self._lane(self._settings) for name in self.models}
        inside = {name: dict[int, int]() for name in self.models}
        outside = {name: dict[int, int]() for name in self.models}
        for pid, proc in sorted(self.procs.items()):
            name = self.model_of(pid)
            if proc.state is State.SUSPENDED:
                outside[name][pid] = proc.nice
            elif proc.state in (State.READY, State.RUNNING) or (proc.state is State.BLOCKED and proc.in_turn):
                inside[name][pid] = proc.nice
            if proc.state is State.READY:
                self.lanes[name].ready.add(pid, proc.nice, ran=False)
        for name, lane in self.lanes.items():
            lane.admission.restore(inside[name], outside[name])

    def _known_texts(self) -> None:
        """Have the texts that are in view, as `load` has them: a replay must make anew what the kernel made anew."""
        self._texts = {p.space.text_key: p.space.text for p in self.procs.values() if p.space.text is not None}

    def _lane(self, settings: Settings) -> Lane:
        """An empty one. Raises BadInput for an unknown policy."""
        sched = settings.sched
        admission = Admission(sched.flight, THRASH_WINDOWS * settings.window if sched.suspend else 0)
        return Lane(make_scheduler(sched.policy, sched.quantum), admission)

    def model_of(self, pid: int) -> str:
        """The name of the model that runs a process: the one it named if the machine has it, else the first, ""."""
        name = self.procs[pid].model
        return name if name in self.models else ""

    def lane_of(self, pid: int) -> Lane:
        """What a process competes in."""
        return self.lanes[self.model_of(pid)]

    @property
    def _settings(self) -> Settings:
        assert self.config is not None  # set by the first event
        return self.config.settings

    def _begin(self, at: int) -> None:
        self.at = at
        self._effects: list[AnyEffect] = []
        self._notes: list[Note] = []
        self._written: list[Record] = []
        self._dirty: dict[int, Process] = {}
        self._sizes: list[tuple[tuple[int, tuple[int, ...]], ...]] = []
        self._made: list[tuple[Page, tuple[int, ...]]] = []
        self._said: list[Message] = []
        self._emission: Trapped | None = None
        self._answer = 0
        self._ran = 0  # the process whose trap this step is

    def step(self, event: AnyEvent) -> Step:
        """Apply one event. Raises KernelPanic, and nothing else, when the state turns out to be impossible."""
        if self.config is None and not isinstance(event, Booted):
            raise KernelPanic(f"{type(event).__name__} before Booted")
        if event.at < self.counters.now:  # time never goes back: a clock set back is the machine's, not the state's
            event = msgspec.structs.replace(event, at=self.counters.now)
        self._begin(event.at)
        try:
            self._handle(event)
        except BadInput as exc:
            if self._written or self._dirty:
                raise KernelPanic(f"refused after a change: {exc}") from exc
            return Step(self.counters.lsn, error=str(exc), pid=self._answer)
        self._schedule()
        if isinstance(event, Checkpointed):
            self._renew()
        self.counters.lsn += 1
        self.counters.now = event.at
        self._flush()
        notes = tuple(self._notes)
        entry = JournalEntry(self.counters.lsn, event, tuple(self._sizes), notes, self.hash.to_bytes(16, "little"))
        self._written.append(Record("journal", records.key(entry.lsn), records.encode(entry)))
        return Step(
            self.counters.lsn,
            tuple(self._written),
            tuple(self._effects),
            notes,
            pid=self._answer,
            pages=tuple(self._made),
            messages=tuple(self._said),
        )

    def _handle(self, event: AnyEvent) -> None:
        match event:
            case Booted():
                self._booted(event)
            case Spawned():
                self._spawned(event)
            case Imported():
                self._imported(event)
            case Forked():
                self._forked(event)
            case Messaged():
                self._messaged(event)
            case Filed():
                self._filed(event)
            case Killed():
                self._killed(event)
            case Raised():
                self._raised(event)
            case TimerFired():
                self._fired(event)
            case Trapped():
                self._trapped(event)
            case Searched():
                self._searched(event)
            case Loaded():
                self._loaded(event)
            case Acked():
                self._acked(event)
            case Checkpointed():
                self._note("checkpoint")
            case _:
                assert_never(event)

    def _write(self, table: str, key: bytes, value: bytes | None) -> None:
        record = Record(table, key, value)
        self._written.append(record)
        if table in records.UNHASHED:
            return
        share = records.digest(record)
        if table in ("page", "mid"):  # written once: there is no older share
            self.hash = (self.hash + share) & records.MASK
            return
        old = self._hashes.pop((table, key), 0)
        if value is not None:
            self._hashes[table, key] = share
        self.hash = (self.hash + share - old) & records.MASK

    def _flush(self) -> None:
        """Records of what this step dirtied."""
        for pid, proc in self._dirty.items():
            if pid in self._policies:
                proc.policy = (self._settings.memory.policy, self._policies[pid].state())
            self._write("proc", records.key(pid), records.encode(proc))
        self._write("meta", b"kernel", records.encode(self.counters))

    def _note(self, what: str, proc: Process | None = None, **numbers: object) -> None:
        self._notes.append(Note(what, proc.pid if proc else 0, **numbers))  # type: ignore[arg-type]  # by field name

    # Pages and memory.

    def _costs(self, proc: Process) -> Costs:
        """What the frame of a process's model adds."""
        return self.models[self.model_of(proc.pid)].costs

    def _measured(self, model: str, text: str, tokens_max: int) -> tuple[Part, ...]:
        parts = self.measure(text, tokens_max, model)
        self._sizes.append(tuple((len(part.text), part.ids) for part in parts))
        return parts

    def _size(self, model: str, text: str) -> int:
        """Tokens of a text that stays in one piece, without frame."""
        return len(self._measured(model, text, 1 << 30)[0].ids) if text else 0

    def _page(
        self,
        pid: int,
        part: Part,
        kind: Kind,
        origin: Origin,
        role: Role,
        *,
        area: Area = Area.NONE,
        gist: str = "",
        group: int = 0,
        model: str = "",
    ) -> Entry:
        """Make a page of a measured part, to be written with this step, and its page-table entry.

        `model` is by whose tokenizer, for a page that is nobody's (`pid` 0).
        """
        self.counters.page += 1
        number, seq = self.counters.page, 0
        if pid:
            proc = self.procs[pid]
            proc.seq += 1
            seq = proc.seq
            model = self.model_of(pid)
        costs = self.models[model].costs
        page = Page(number, pid, seq, kind, origin, role, area, self.at, part.text, gist)
        self._made.append((page, part.ids))
        self._write("page", records.key(number), records.encode(page))
        if part.ids:  # a page that comes from another machine is measured when it is first wanted
            self._write("ids", records.ids_key(costs.measure, number), records.pack_ids(part.ids))
        return Entry(number, len(part.ids) + costs.role[role], kind, role, group)

    def policy(self, proc: Process) -> Policy:
        """The replacement policy of a process, going on from what its PCB keeps."""
        policy = self._policies.get(proc.pid)
        if policy is None:
            name, state = proc.policy or ("", None)
            chosen, queue = self._settings.memory.policy, self.budgets(proc).queue
            policy = make(chosen, queue, state if name == chosen else None)
            policy.capacity = queue
            if name != chosen:  # another policy's state says nothing: admit what is resident
                for entry in proc.space.queue:
                    if entry.kind is not Kind.STUB:
                        policy.admit(entry.page, entry.tokens, entry.kind)
            self._policies[proc.pid] = policy
        return policy

    def budgets(self, proc: Process) -> Budgets:
        """How the window of a process is divided."""
        return self._divide(self.model_of(proc.pid), proc.space.text.tokens if proc.space.text else 0)

    def _divide(self, model: str, text: int) -> Budgets:
        found = self._budgets.get((model, text))
        if found is None:
            assert self.config is not None
            found = pager.budgets(self._settings, self.models[model].costs, text, self.config.page_tokens)
            self._budgets[model, text] = found
        return found

    def _append(self, proc: Process, entry: Entry) -> None:
        """Put a page at the end of the queue; what must leave for it does."""
        space, memory = proc.space, self._settings.memory
        limits = self.budgets(proc)
        victims = pager.make_room(space, self.policy(proc), limits, entry.tokens, memory.low)
        space.queue.append(entry)
        self.policy(proc).admit(entry.page, entry.tokens, entry.kind)
        if victims:
            self._evicted(proc, victims)
        if pager.pressure(space, limits, memory.warn):
            self._raise(proc, Line.MEMORY)

    def _evicted(self, proc: Process, victims: list[Entry]) -> None:
        """Account for victims, fold core memory, since the prefix is broken anyway, and leave the stub."""
        space = proc.space
        self._seen.pop(proc.pid, None)
        proc.accounts.evictions += len(victims)
        gone = [entry for entry in victims if entry.kind is not Kind.STUB]
        space.evicted += len(gone)
        tokens = sum(entry.tokens for entry in victims)
        self._note("evict", proc, pages=tuple(entry.page for entry in gone), tokens=tokens)
        self._fold(proc, victims)
        stubs = {entry.page for entry in space.queue if entry.kind is Kind.STUB}
        pager.remove(space, stubs)
        if self._settings.memory.on_evict == "stub":
            text = self.iset.alert("stub", proc.mask, pages=space.evicted)
            self._head(proc, text, Kind.STUB)

    def _head(self, proc: Process, text: str, kind: Kind) -> None:
        """A kernel page at the front of the queue, if it fits there."""
        part = self._measured(self.model_of(proc.pid), text, self.budgets(proc).unit)[0]
        size = len(part.ids) + self._costs(proc).role[Role.SYSTEM]
        if part.text and proc.space.used() + size <= self.budgets(proc).queue:
            entry = self._page(proc.pid, part, kind, Origin.KERNEL, Role.SYSTEM)
            proc.space.queue.insert(0, entry)
            proc.space.turn += 1

    def _fold(self, proc: Process, victims: list[Entry]) -> None:
        """Bring `data` up to the core blocks and drop the writes that led there, those of this turn excepted."""
        space = proc.space
        turn = {entry.group for entry in space.queue[space.turn :]}
        deltas = {entry.group for entry in space.queue if entry.kind is Kind.DELTA} - turn
        folded = [entry for entry in space.queue if entry.group in deltas]
        if not folded and not any(entry.kind is Kind.DELTA for entry in victims):
            return
        for entry in folded:
            self.policy(proc).drop(entry.page)
        pager.remove(space, {entry.page for entry in folded})
        self._core(proc)
        self._note("fold", proc, tokens=sum(entry.tokens for entry in folded))

    def _core(self, proc: Process) -> None:
        """Write the data segment anew from the blocks."""
        text = render_blocks(proc.blocks)
        if not text:
            proc.space.data = None
            return
        part = self._measured(self.model_of(proc.pid), text, self._settings.window)[0]
        proc.space.data = self._page(proc.pid, part, Kind.CORE, Origin.KERNEL, Role.SYSTEM)

    def _text_of(self, model: str, mask: tuple[str, ...], system: str) -> str:
        """What stands in a text segment: the manual, then the instructions: small models copy what stands last."""
        manual = self.iset.manual(mask, self.models[model].encoding)
        return "\n\n".join(part for part in (manual, system) if part)

    def _text(self, proc: Process) -> None:
        """Give a process its text segment, shared with all that have the same."""
        model = self.model_of(proc.pid)
        text = self._text_of(model, proc.mask, proc.system)
        name = hashlib.blake2b(f"{self._costs(proc).measure}/{text}".encode(), digest_size=12).hexdigest()
        if proc.space.text_key == name:
            return
        if text and name not in self._texts:
            part = self._measured(model, text, self._settings.window)[0]
            self._texts[name] = self._page(0, part, Kind.TEXT, Origin.KERNEL, Role.SYSTEM, model=model)
        proc.space.text, proc.space.text_key = self._texts.get(name), name

    def _tell(
        self, proc: Process, text: str, kind: Kind = Kind.ALERT, group: int = 0, shows: tuple[int, ...] = ()
    ) -> None:
        """Append a kernel page; an empty text is nothing to tell."""
        room, model = self._told_max(proc), self.model_of(proc.pid)
        for part in self._measured(model, text, min(room, self._unit_text())) if text else ():
            room -= len(part.ids)
            if room < 0:  # only results can be this long, and they can be asked for in smaller pages
                return
            entry = self._page(proc.pid, part, kind, Origin.KERNEL, Role.SYSTEM, group=group)
            self._append(proc, msgspec.structs.replace(entry, shows=shows) if shows else entry)

    def _told_max(self, proc: Process) -> int:
        """Tokens that the kernel may say at a time."""
        return self.budgets(proc).queue // 3

    def _unit_text(self) -> int:
        """Tokens of text that one kernel page may hold: what may arrive at once anyway."""
        assert self.config is not None
        return max(self.config.page_tokens, pager.reply_max(self._settings))

    # Boot.

    def _booted(self, event: Booted) -> None:
        """Take over settings and model, size memory by them, and derive again what was under way."""
        before = self.config, self.models, self.slots
        self._budgets.clear()
        try:
            make(event.settings.memory.policy, event.settings.window)
            self._configure(event)
            lanes = {name: self._lane(event.settings) for name in self.models}
            self._fits()
        except BadInput:
            self.config, self.models, self.slots = before
            raise
        self._policies.clear()
        self._known_texts()
        self.lanes = lanes  # their order is not on disk: boot begins with the lowest number
        self._seen.clear()
        titles = " and ".join(model.title for model in self.models.values())
        self._note("boot", text=f"{titles}, window {event.settings.window}, {len(self.procs)} processes")
        for proc in self.procs.values():
            self._resume(proc, event)
        for timer in self.timers.values():
            self._effects.append(Arm(timer.id, timer.due))

    def _fits(self) -> None:
        """Refuse a window in which a process of this directory, or an empty one, has no room."""
        for model in self.models:
            self._divide(model, 0)
        sizes: dict[tuple[str, str], int] = {}  # of equal texts one is measured

        def size(model: str, text: str) -> int:
            if (model, text) not in sizes:
                sizes[model, text] = self._size(model, text)
            return sizes[model, text]

        for proc in self.procs.values():
            model, frame = self.model_of(proc.pid), self._costs(proc).role[Role.SYSTEM]
            text = self._text_of(model, proc.mask, proc.system)
            tokens = size(model, text)
            try:
                limits = self._divide(model, tokens + frame if text else 0)
            except BadInput as exc:
                raise BadInput(f"process {proc.name}: {exc}") from exc
            data = size(model, render_blocks(proc.blocks)) + frame
            if proc.blocks and data > limits.data:
                raise BadInput(
                    f"process {proc.name}: its core memory has {data} tokens, "
                    f"this window allows {limits.data}; take a larger window or memory.data"
                )

    def _resume(self, proc: Process, event: Booted) -> None:
        """Bring one process of the last run into this one."""
        space = proc.space
        before = (space.text_key, space.queue, space.data)
        self._text(proc)
        anew = proc.pid in event.anew if event.anew else bool(event.resized)  # older journals name no processes
        if anew:
            space.queue = [self._resized(proc, entry, event) for entry in space.queue]
            space.recall = []
            proc.pending = [self._resized_pending(proc, one, event) for one in proc.pending]
            if space.data is not None:
                self._core(proc)
            proc.policy = None
        if proc.state is State.RUNNING:
            proc.move(Move.REBOOT)
            self._dirty[proc.pid] = proc
        elif proc.state is State.SUSPENDED:  # boot judges anew who has room
            proc.move(Move.RESUME)
            self._dirty[proc.pid] = proc
        if proc.ids:
            proc.restarted = True  # whoever saw tokens of this attempt has lost the connection
            if anew:  # ids of another vocabulary: the instruction begins again
                proc.ids = ()
            self._dirty[proc.pid] = proc
        if (space.text_key, space.queue, space.data) != before:
            self._dirty[proc.pid] = proc
        limits = self.budgets(proc)
        victims = pager.make_room(space, self.policy(proc), limits, 0, self._settings.memory.low)
        if victims:
            self._evicted(proc, victims)
            self._dirty[proc.pid] = proc
        if sum(entry.tokens for entry in space.recall) > limits.recall:
            space.recall = []
            self._dirty[proc.pid] = proc
        if proc.wait is not None:
            self._effects.append(proc.wait)
        if proc.state is State.READY:
            self._queue(proc)

    def _resized_pending(self, proc: Process, one: Pending, event: Booted) -> Pending:
        role = Role.USER if one.line is Line.USER else Role.SYSTEM
        pages = tuple((page, event.resized[page] + self._costs(proc).role[role]) for page, _ in one.pages)
        return msgspec.structs.replace(one, pages=pages)

    def _resized(self, proc: Process, entry: Entry, event: Booted) -> Entry:
        size = event.resized.get(entry.page)
        if size is None:
            raise KernelPanic(f"page {entry.page} is resident and was not measured anew")
        return msgspec.structs.replace(entry, tokens=size + self._costs(proc).role[entry.role])

    # Processes.

    def proc(self, pid: int) -> Process:
        """A process by number. Raises BadInput naming those that exist."""
        if pid not in self.procs:
            raise BadInput(f"no process {pid}; processes are {_some(self.names)}")
        return self.procs[pid]

    def _spawned(self, event: Spawned) -> None:
        self._named(event)
        name = event.name
        if name in self.names:
            self._answer = self.names[name]
            proc = self.procs[self._answer]
            if proc.state is not State.ZOMBIE:
                raise BadInput(f"process {name} exists and is {proc.state}; take another name, or kill it first")
            if event.model not in ("", proc.model):
                raise BadInput(f"process {name} is of {proc.model or 'the first model'}; it cannot go to {event.model}")
            self._dirty[proc.pid] = proc
            proc.move(Move.START)
            proc.status, proc.illegal_row, proc.failed_row = "", 0, 0
            self._note("spawn", proc, text=f"{name} again, with its memory")
            self._boundary(proc)
            return
        proc = self._make(event)
        self._core(proc)
        self._note("spawn", proc, text=name)

    def _named(self, event: Spawned) -> None:
        """Refuse a name, a mask or a model that cannot be."""
        name = event.name
        if not name or len(name) > NAME_CHARS_MAX or not name.isprintable() or name.isdigit():
            raise BadInput(f"process name {name[:80]!r}: 1 to {NAME_CHARS_MAX} printable characters, not a number")
        wrong = [call for call in event.mask if call not in self.iset.names]
        if wrong or not event.mask:
            raise BadInput(f"mask {', '.join(wrong) or 'is empty'}: syscalls are {', '.join(self.iset.names)}")
        if event.model not in self.models:
            raise BadInput(f"model {event.model}: beside the first there are {_some(self.models.keys() - {''})}")

    def _make(self, event: Spawned) -> Process:
        """A new process with nothing but its text in view. Raises BadInput before anything has changed."""
        name = event.name
        if not NICE_MIN <= event.nice <= NICE_MAX:
            raise BadInput(f"nice {event.nice}: {NICE_MIN} to {NICE_MAX} are allowed")
        if len(self.procs) >= PROCESSES_MAX:
            raise BadInput(f"the process table is full: {PROCESSES_MAX} processes")
        self._blocks_fit(event)
        self.counters.pid += 1
        mask = tuple(call for call in self.iset.names if call in event.mask)
        proc = Process(
            self.counters.pid,
            name,
            mask,
            event.system,
            dict(event.blocks),
            AddressSpace(),
            nice=event.nice,
            abort=event.abort,
            model=event.model,
        )
        self.procs[proc.pid], self.names[name] = proc, proc.pid
        self._answer = proc.pid
        self._dirty[proc.pid] = proc
        self._text(proc)
        return proc

    def _imported(self, event: Imported) -> None:
        """Make a process with a past: its pages get numbers of this machine, and what was resident is so if it fits.

        Messages that it had not been given are raised again.
        """
        self._named(event.spawn)
        if event.spawn.name in self.names:
            raise BadInput(f"process {event.spawn.name} exists; import it under another name")
        if len(event.timers) > TIMERS_MAX:
            raise BadInput(f"{len(event.timers)} timers; at most {TIMERS_MAX} are allowed")
        proc = self._make(event.spawn)
        self._core(proc)
        self._note("spawn", proc, text=event.spawn.name)
        limits, at, resident = self.budgets(proc), self.at, 0
        for moved in event.pages:
            self.at = moved.at
            part = Part(moved.text, moved.ids)
            entry = self._page(
                proc.pid,
                part,
                moved.kind,
                moved.origin,
                moved.role,
                area=moved.area,
                gist=moved.gist,
                group=moved.group,
            )
            self.at = at
            if moved.where == "pending" and len(proc.pending) < PENDING_MAX:
                self._raise(proc, Line.USER, [entry])
            elif moved.where == "queue" and entry.tokens <= limits.unit:
                pinned = moved.pinned and proc.space.pinned() + entry.tokens <= limits.pinned
                self._append(proc, msgspec.structs.replace(entry, pinned=pinned))
                resident += 1
            else:
                proc.space.evicted += 1
            proc.space.group = max(proc.space.group, moved.group)
        proc.space.turn = len(proc.space.queue)
        for one in event.timers:
            self.set_timer(proc.pid, max(one.due, at), one.text, one.every // NS)
        self._note("import", proc, text=f"{len(event.pages)} pages, {resident} of them resident")
        if proc.pending and proc.state is State.IDLE:
            self._boundary(proc)

    def _forked(self, event: Forked) -> None:
        """Make a process that sees what its parent sees, token for token: pages that show the parent's.

        Pages never change, so both may show one; what either writes is a page of its own. Search finds them for both.
        """
        parent = self.proc(event.pid)
        if parent.state is not State.IDLE:
            raise BadInput(f"process {parent.name} is {parent.state}; it can be forked while it is idle")
        if event.name in self.names:
            raise BadInput(f"process {event.name} exists; give the fork another name")
        wanted = Spawned(
            name=event.name,
            mask=parent.mask,
            blocks=parent.blocks,
            system=parent.system,
            nice=parent.nice,
            abort=parent.abort,
            model=self.model_of(parent.pid),
        )
        self._named(wanted)
        child = self._make(wanted)
        space, seen = child.space, parent.space
        space.data = self._shown(child, seen.data) if seen.data is not None else None
        space.queue = [self._shown(child, entry) for entry in seen.queue]
        space.turn = len(space.queue)
        space.evicted, space.group, space.pressed = seen.evicted, seen.group, seen.pressed
        self._effects.append(Fork(parent.pid, child.pid))
        self._note("fork", child, tokens=space.size(), text=f"{event.name} from {parent.name}")

    def _shown(self, proc: Process, entry: Entry) -> Entry:
        """A page of `proc` that shows another process's."""
        self.counters.page += 1
        proc.seq += 1
        number = self.counters.page
        page = Page(
            number, proc.pid, proc.seq, entry.kind, Origin.KERNEL, entry.role, Area.NONE, self.at, "", of=entry.page
        )
        self._made.append((page, ()))
        self._write("page", records.key(number), records.encode(page))
        return msgspec.structs.replace(entry, page=number)

    def _blocks_fit(self, event: Spawned) -> None:
        frame = self.models[event.model].costs.role[Role.SYSTEM]
        text = self._text_of(event.model, event.mask, event.system)
        tokens = self._size(event.model, text)
        limits = self._divide(event.model, tokens + frame if text else 0)
        if len(event.blocks) > BLOCKS_MAX:
            raise BadInput(f"{len(event.blocks)} core blocks; at most {BLOCKS_MAX} are allowed")
        data = self._size(event.model, render_blocks(dict(event.blocks))) + frame
        if event.blocks and data > limits.data:
            raise BadInput(f"core blocks of {data} tokens; {limits.data} fit this window")

    def _killed(self, event: Killed) -> None:
        proc = self.proc(event.pid)
        if proc.state is State.ZOMBIE:
            raise BadInput(f"process {proc.name} is dead already ({proc.status})")
        self._note("interrupt", proc, line=Line.KILL)
        self._dirty[proc.pid] = proc
        self.end(proc, event.status)

    def end(self, proc: Process, status: str) -> None:
        """Make a zombie: its turn is over, its timers are gone, its memory and its pending messages stay."""
        if proc.state is State.RUNNING:
            self._stop(proc)
        proc.move(Move.KILL)
        proc.status = status
        lane = self.lane_of(proc.pid)
        lane.ready.remove(proc.pid)
        lane.admission.leave(proc.pid)
        for timer in proc.timers:
            self._disarm(timer)
        proc.timers = []
        self._hold(proc, {})
        proc.wait, proc.open, proc.ids, proc.discard = None, False, (), False
        proc.req += 1
        self._close_turn(proc)
        self._note("exit", proc, text=status)

    # Interrupts.

    def _raise(self, proc: Process, line: Line, pages: Iterable[Entry] = (), mid: str = "", timer: int = 0) -> None:
        proc.raised += 1
        stored = tuple((entry.page, entry.tokens) for entry in pages)
        proc.pending.append(Pending(line, proc.raised, self.at, stored, mid, timer))
        self._note("interrupt", proc, line=line)

    def _target(self, pid: int) -> Process:
        """A process that something from outside interrupts. Raises BadInput if it is dead or can take no more."""
        proc = self.proc(pid)
        if proc.state is State.ZOMBIE:
            raise BadInput(f"process {proc.name} is dead ({proc.status}); spawn it again and it keeps its memory")
        if len(proc.pending) >= PENDING_MAX:
            raise BadInput(f"queue full: {proc.name} has {PENDING_MAX} undelivered interrupts; retry after 5 s")
        self._dirty[proc.pid] = proc
        return proc

    def _raised(self, event: Raised) -> None:
        if event.line not in interrupts.OUTSIDE:
            allowed = ", ".join(line.name for line in interrupts.OUTSIDE)
            raise BadInput(f"line {event.line.name} has a source of its own; {allowed} can be raised")
        proc = self._target(event.pid)
        self._raise(proc, event.line, self._alert(proc, "raised", line=event.line.name.lower(), text=event.text))
        if proc.state is State.IDLE:
            self._boundary(proc)

    def _alert(self, proc: Process, what: str, **numbers: object) -> list[Entry]:
        """Pages of the kernel's for an interrupt that is yet to be delivered."""
        text = self.iset.alert(what, proc.mask, **numbers)
        parts = self._measured(self.model_of(proc.pid), text, self._unit_text())
        return [self._page(proc.pid, part, Kind.ALERT, Origin.KERNEL, Role.SYSTEM) for part in parts]

    def _messaged(self, event: Messaged) -> None:
        proc = self._target(event.pid)
        entries = [
            self._page(proc.pid, part, Kind.MESSAGE, Origin.USER, Role.USER, area=Area.RECALL) for part in event.parts
        ]
        if event.mid:
            self._write("mid", event.mid.encode(), records.key(proc.pid, entries[0].page))
        self._raise(proc, Line.USER, entries, event.mid)
        if proc.state is State.IDLE:
            self._boundary(proc)
        elif proc.abort and Line.USER not in proc.held(self.at):
            self._abort(proc)

    def _abort(self, proc: Process) -> None:
        """Stop the instruction under way at its next token, to be begun anew with what is pending in view."""
        if proc.state is State.RUNNING and not proc.discard:
            proc.discard = True
            self._stop(proc)
        elif proc.state is State.READY and proc.ids:
            self._discard(proc)
        elif proc.state is State.SUSPENDED:
            proc.discard = bool(proc.ids)

    def _discard(self, proc: Process) -> None:
        self._note("abort", proc, tokens=len(proc.ids))
        proc.ids, proc.discard = (), False
        self._boundary(proc)

    def _filed(self, event: Filed) -> None:
        proc = self.proc(event.pid)
        self._dirty[proc.pid] = proc
        entries = [
            self._page(proc.pid, part, Kind.ARCHIVE, Origin.FILE, Role.USER, area=Area.ARCHIVE) for part in event.parts
        ]
        if event.mid and entries:
            self._write("mid", event.mid.encode(), records.key(proc.pid, entries[0].page))
        proc.space.evicted += len(event.parts)  # there is now something that a demand fault could bring in

    def _fired(self, event: TimerFired) -> None:
        timer = self.timers.get(event.timer)
        if timer is None or self.at < timer.due:
            return
        proc = self.procs[timer.pid]
        self._dirty[proc.pid] = proc
        if timer.unmask:
            self._hold(proc, {line: until for line, until in proc.masked.items() if until > self.at})
            if proc.state is State.IDLE:
                self._boundary(proc)
            return
        late_s = (self.at - timer.due) // NS
        if any(one.timer == timer.id for one in proc.pending):
            proc.accounts.coalesced += 1
            self._note("coalesced", proc, line=Line.TIMER)
        else:
            pages = self._alert(proc, "timer", timer=timer.id, text=timer.text, late_s=late_s)
            self._raise(proc, Line.TIMER, pages, timer=timer.id)
        if timer.every:
            timer.due += timer.every * ((self.at - timer.due) // timer.every + 1)
            self._write("timer", records.key(timer.id), records.encode(timer))
            self._effects.append(Arm(timer.id, timer.due))
        else:
            proc.timers.remove(timer.id)
            self._disarm(timer.id)
        if proc.state is State.IDLE:
            self._boundary(proc)

    def _disarm(self, timer: int) -> None:
        del self.timers[timer]
        self._write("timer", records.key(timer), None)
        self._effects.append(Disarm(timer))

    def _boundary(self, proc: Process) -> None:
        """An instruction boundary: deliver what is pending, begin a turn if that wakes the process, or let it rest."""
        held, lane = proc.held(self.at), self.lane_of(proc.pid)
        waking = any(one.line is not Line.MEMORY and one.line not in held for one in proc.pending)
        if not proc.in_turn and not waking:
            if proc.state is State.READY:
                proc.move(Move.REST)
                lane.ready.remove(proc.pid)
                lane.admission.leave(proc.pid)
            return
        fresh = not proc.in_turn
        if fresh:
            proc.in_turn = True
            lane.admission.leave(proc.pid)  # a turn that follows another one at once waits behind who waits already
            proc.accounts.turns += 1
            proc.space.turn = len(proc.space.queue)
            if proc.state is State.IDLE:
                proc.move(Move.WAKE)
        delivered = interrupts.take(proc.pending, held, fresh_turn=fresh)
        asked: list[int] = []
        for one in delivered:
            asked += self._deliver(proc, one)
        memory = self._settings.memory
        if asked and memory.fault and memory.recall and proc.space.evicted:
            self._wait(proc, self._demand(proc, asked), demand=True)
        else:
            self._queue(proc)

    def _deliver(self, proc: Process, one: Pending) -> list[int]:
        """Append what an interrupt brings; returns the user's pages among it."""
        proc.accounts.interrupts += 1
        pages = tuple(page for page, _ in one.pages)
        self._note("delivered", proc, line=one.line, pages=pages, ns=self.at - one.at)
        if one.line is Line.MEMORY:
            limits = self.budgets(proc)
            share = round(100 * proc.space.used() / limits.queue)
            self._tell(
                proc, self.iset.alert("pressure", proc.mask, percent=share, free=limits.queue - proc.space.used())
            )
            return []
        user = one.line is Line.USER
        kind, role = (Kind.MESSAGE, Role.USER) if user else (Kind.ALERT, Role.SYSTEM)
        entries = [Entry(page, tokens, kind, role) for page, tokens in one.pages]
        if user and one.mid:
            proc.answers += (one.mid,)
        limits, total = self.budgets(proc), sum(entry.tokens for entry in entries)
        if total > limits.queue // 2:  # enters as its head; the rest is on disk already
            total = self._head_of(proc, entries)
        else:
            for entry in entries:
                self._append(proc, entry)
        if user:
            proc.accounts.entered += total
        return [entry.page for entry in entries] if user else []

    def _head_of(self, proc: Process, entries: list[Entry]) -> int:
        """Append as many pages as a quarter of the queue holds, and say where the rest is; returns their tokens."""
        room, kept = self.budgets(proc).queue // 4, 0
        for kept, entry in enumerate(entries):
            if kept and room < entry.tokens:
                break
            room -= entry.tokens
            self._append(proc, entry)
        rest = [entry.page for entry in entries[kept:]]
        proc.space.evicted += len(rest)
        self._note("evict", proc, pages=tuple(rest), tokens=sum(entry.tokens for entry in entries[kept:]))
        self._tell(proc, self.iset.alert("rest", proc.mask, pages=len(rest), first=rest[0], last=rest[-1]))
        return sum(entry.tokens for entry in entries[:kept])

    def _demand(self, proc: Process, asked: list[int]) -> Search:
        memory, resident = self._settings.memory, proc.space.resident() | proc.undelivered()
        return Search(
            pid=proc.pid,
            req=proc.req + 1,
            area=(Area.RECALL, Area.ARCHIVE),
            pages=tuple(asked),
            limit=4 * memory.recall_pages,
            exclude=tuple(sorted(resident | set(asked))),
            upto=self.counters.page,
            deadline_s=FAULT_DEADLINE_S,
        )

    # Waiting and its completions.

    def _wait(self, proc: Process, what: Search | Load, *, demand: bool = False) -> None:
        proc.req += 1
        proc.wait, proc.demand = what, demand
        proc.move(Move.BLOCK)
        self.lane_of(proc.pid).ready.remove(proc.pid)
        self._effects.append(what)

    def _woken(self, event: Searched | Loaded) -> Process | None:
        """The process that waits for this completion, made ready; None if nobody does."""
        proc = self.procs.get(event.pid)
        if proc is None or proc.wait is None or proc.req != event.req:
            return None
        self._dirty[proc.pid] = proc
        proc.wait = None
        proc.move(Move.WAKE)
        return proc

    def _searched(self, event: Searched) -> None:
        proc = self._woken(event)
        if proc is None:
            return
        if proc.demand:
            self._recall(proc, event.hits)
            if event.late:
                self._note("error", proc, text="the fault's deadline passed; the process runs without")
        elif event.late:
            self._tell(proc, "error: the search did not complete in time; try again", Kind.RESULT, proc.space.group)
        else:
            shown = self._fitting(proc, event.hits)
            more = event.more or len(shown) < len(event.hits)
            text = self.iset.alert("hits", proc.mask, hits=shown, more=more)
            self._tell(proc, text, Kind.RESULT, proc.space.group, tuple(hit.page for hit in shown))
        self._after(proc)

    def _fitting(self, proc: Process, hits: tuple[Hit, ...]) -> tuple[Hit, ...]:
        """The first hits that a result has room for, one at least; the others are found with a cursor."""
        room = self._told_max(proc)
        for at, hit in enumerate(hits):
            room -= hit.tokens + HIT_TOKENS
            if room < 0:
                return hits[: max(1, at)]
        return hits

    def _recall(self, proc: Process, hits: Iterable[Hit]) -> None:
        """Bring what was found into the recall area: the best that fit, the best one first."""
        memory, costs = self._settings.memory, self._costs(proc)
        room = self.budgets(proc).recall - costs.recall
        resident = proc.space.resident() | proc.undelivered()
        chosen: list[Entry] = []
        hits = [hit for hit in hits if hit.role is not Role.ASSISTANT]  # a small model says again what it said once
        near = max([0.0, *(memory.recall_near * hit.cover for hit in hits)])
        message = sum(entry.tokens for entry in proc.space.queue[proc.space.turn :])
        for hit in hits:
            size = hit.tokens + costs.recalled[hit.role]
            # The page is evaluated, and when it is dropped after the turn, so is the message behind it once more.
            earned = memory.recall_min * max(1.0, (message + size) / memory.recall_tokens)
            wanted = hit.cover >= max(near, earned)
            if len(chosen) < memory.recall_pages and hit.page not in resident and wanted:
                if size > room:
                    continue
                room -= size
                chosen.append(Entry(hit.page, size, Kind.MESSAGE, hit.role))
                resident.add(hit.page)
        if not chosen:
            return
        proc.space.recall = chosen
        self._seen.pop(proc.pid, None)
        tokens = sum(entry.tokens for entry in chosen)
        proc.accounts.faults += len(chosen)
        proc.accounts.recalled += tokens + costs.recall
        self._note("fault", proc, pages=tuple(entry.page for entry in proc.space.recall), tokens=tokens + costs.recall)

    def _loaded(self, event: Loaded) -> None:
        proc = self._woken(event)
        if proc is None:
            return
        group = proc.space.group
        resident = proc.space.resident()
        early = proc.undelivered()
        pages = [row for row in event.pages if row[0] not in early]
        found = {page for page, *_ in pages}
        for page, tokens, role, kind in pages:
            if page in resident:
                self.policy(proc).hit(page)
                continue
            self.policy(proc).miss(page)
            size = tokens + self._costs(proc).role[role]
            if size > self.budgets(proc).unit:
                found.discard(page)
                continue
            proc.accounts.faults += 1
            self._note("fault", proc, pages=(page,), tokens=size)
            self._append(proc, Entry(page, size, Kind(kind), role, group))
        text = self.iset.alert(
            "loaded", proc.mask, found=tuple(sorted(found)), resident=tuple(sorted(found & resident))
        )
        self._tell(proc, text, Kind.RESULT, group)
        self._after(proc)

    # The CPU.

    def _queue(self, proc: Process) -> None:
        """A process became ready, perhaps because the instruction that it trapped with is done; it may have to wait."""
        lane = self.lane_of(proc.pid)
        if lane.admission.enter(proc.pid, proc.nice, self._working_set):
            lane.ready.add(proc.pid, proc.nice, ran=proc.pid == self._ran)
        else:
            self._suspend(proc)

    def _working_set(self, pid: int) -> int:
        return self.procs[pid].space.size()

    def _suspend(self, proc: Process) -> None:
        proc.move(Move.SUSPEND)
        self.lane_of(proc.pid).ready.remove(proc.pid)
        self._dirty[proc.pid] = proc
        self._note("suspend", proc, tokens=proc.space.size())

    def _admit(self, admission: Admission) -> None:
        """Suspend whom the CPU's memory has no room for, and let in whom it has room for again."""
        while (pid := admission.victim(self._working_set)) is not None:  # ends: one goes outside each time
            proc = self.procs[pid]
            if proc.state is State.READY:
                self._suspend(proc)
            elif proc.state is State.RUNNING:  # suspended when it has come to its next token
                self._stop(proc)
        while (pid := admission.next(self._working_set)) is not None:  # ends: one comes in each time
            proc = self.procs[pid]
            if proc.state is State.SUSPENDED:
                proc.move(Move.RESUME)
                self._dirty[pid] = proc
                self._note("resume", proc, tokens=proc.space.size())
                if proc.discard:
                    self._discard(proc)
                elif proc.ids:
                    self._queue(proc)
                else:
                    self._boundary(proc)

    def _schedule(self) -> None:
        """Fill free slots with ready processes, and ask for one back if the policy says so."""
        for lane in self.lanes.values():
            self._admit(lane.admission)
        settings = self._settings
        for index, slot in enumerate(self.slots):
            ready = self.lanes[slot.model].ready
            pid = None if slot.pid else ready.take()
            if pid is None:
                continue
            proc = self.procs[pid]
            self._dirty[pid] = proc
            proc.move(Move.DISPATCH)
            if not proc.open:
                proc.open, proc.instr, proc.attempt = True, proc.instr + 1, 0
            if not proc.ids or proc.restarted:
                proc.attempt += 1
                proc.restarted = False
            slot.pid, slot.instr, slot.attempt, slot.yielding = pid, proc.instr, proc.attempt, False
            self._effects.append(
                Run(
                    index,
                    pid,
                    proc.instr,
                    proc.attempt,
                    tuple(proc.space.placed()),
                    proc.mask,
                    self.models[slot.model].encoding,
                    ready.quantum(pid),
                    pager.reply_max(settings),
                    settings.window,
                    proc.ids,
                    slot.model,
                )
            )
        for name, lane in self.lanes.items():
            self._displace(lane.ready, [slot for slot in self.slots if slot.model == name])

    def _displace(self, ready: Scheduler, slots: list[Slot]) -> None:
        """Ask one slot back, at its next token, if the policy puts who waits before who runs there."""
        if not len(ready) or any(slot.yielding or not slot.pid for slot in slots):
            return
        victim = ready.displaces([slot.pid for slot in slots])
        if victim is not None:
            self._stop(self.procs[victim])

    def _stop(self, proc: Process) -> None:
        """Ask for the slot of a running process back, at its next token."""
        tag = (proc.pid, proc.instr, proc.attempt)  # a process that was killed may have a slot of an earlier life, too
        for index, slot in enumerate(self.slots):
            if (slot.pid, slot.instr, slot.attempt) == tag and not slot.yielding:
                slot.yielding = True
                self._effects.append(Preempt(index))

    def _trapped(self, event: Trapped) -> None:
        """The CPU entered the kernel; a trap of a run that nobody waits for only frees its slot."""
        slot = self.slots[event.slot] if event.slot < len(self.slots) else None
        if slot is None or (slot.pid, slot.instr, slot.attempt) != (event.pid, event.instr, event.attempt):
            return
        slot.pid = 0
        proc = self.procs[event.pid]
        self._ran = proc.pid
        self.lane_of(proc.pid).ready.spent(proc.pid, proc.nice, event.decoded)
        self._dirty[proc.pid] = proc
        if event.kv > self._settings.window:
            raise KernelPanic(f"process {proc.pid} reached position {event.kv} of window {self._settings.window}")
        counts = proc.accounts
        counts.emitted += event.decoded
        counts.prefill += event.prefill
        counts.kv = max(counts.kv, event.kv)
        counts.again += event.again
        counts.restored += event.restored
        counts.shared += event.shared
        self._worked(proc, event)
        if proc.state is not State.RUNNING or (proc.instr, proc.attempt) != (event.instr, event.attempt):
            return  # killed meanwhile, and perhaps started again
        proc.turn_tokens += event.decoded
        proc.move(Move.TRAP)
        self._note("run", proc, tokens=event.decoded, text=f"{event.outcome}, {_evaluated(event)}")
        match event.outcome:
            case Outcome.PREEMPTED:
                proc.ids = event.ids
                if proc.discard:
                    self._discard(proc)
                else:
                    self._queue(proc)
                return
            case Outcome.FAILED:
                self._device_failed(proc, event.error)
                return
            case Outcome.SYSCALL | Outcome.ILLEGAL:
                proc.open, proc.ids, proc.failed_row, proc.discard = False, (), 0, False
                self._instruction(proc, event)
            case _:
                assert_never(event.outcome)

    def _worked(self, proc: Process, event: Trapped) -> None:
        """See how much of a run's work was done before, and lost to another process meanwhile."""
        seen, prompt = self._seen.get(proc.pid, 0), event.prompt + len(event.ids) - event.decoded
        again = max(0, event.prefill - max(1, prompt - seen)) if seen else 0
        if event.outcome is not Outcome.FAILED:
            self._seen[proc.pid] = event.kv
        share = self.lane_of(proc.pid).admission.observe(event.prefill + event.decoded, again)
        if share:
            self._note("thrash", text=f"{100 * share:.0f} % of the CPU's work was done before")

    def _device_failed(self, proc: Process, error: str) -> None:
        proc.failed_row += 1
        self._note("error", proc, text=f"CPU: {error}")
        if proc.failed_row >= FAILED_MAX:
            self.end(proc, f"the CPU failed {FAILED_MAX} times in a row: {error}")
            return
        self._queue(proc)

    def _instruction(self, proc: Process, event: Trapped) -> None:
        self._emission = event
        proc.space.group += 1
        proc.turn_syscalls += 1
        proc.accounts.syscalls += 1
        encoding = self.models[self.model_of(proc.pid)].encoding
        try:
            if event.outcome is Outcome.ILLEGAL:
                raise SyscallError(event.error or "nothing was emitted")
            self.iset.execute(self, proc.pid, event.text, encoding, event.truncated)
            proc.illegal_row = 0
        except SyscallError as exc:
            self._illegal(proc, str(exc))
        self._emitted(proc)
        if proc.state is State.READY:
            self._after(proc)

    def _illegal(self, proc: Process, why: str) -> None:
        proc.illegal_row += 1
        proc.accounts.illegal += 1
        self._note("error", proc, text=why)
        if proc.illegal_row >= ILLEGAL_MAX:
            self._emitted(proc)
            self.end(proc, f"{ILLEGAL_MAX} illegal instructions in a row; the last: {why}")
            return
        self.answer(proc.pid, f"error: {why}")

    def _emitted(self, proc: Process, kind: Kind = Kind.SYSCALL, area: Area = Area.NONE, gist: str = "") -> None:
        """Append what the CPU emitted as a page of its own ids, once a trap."""
        event, self._emission = self._emission, None
        if event is None or not event.ids:
            return
        part = Part(event.text, event.ids)
        group = proc.space.group if kind is Kind.SYSCALL else 0
        entry = self._page(
            proc.pid,
            part,
            kind,
            Origin.PROCESS,
            Role.ASSISTANT,
            area=area,
            gist=gist if gist != event.text else "",
            group=group,
        )
        self._append(proc, entry)

    def _after(self, proc: Process) -> None:
        """After an instruction or a completion: end a turn whose budget is spent, deliver what is pending, go on."""
        if proc.in_turn and (proc.turn_syscalls >= TURN_SYSCALLS_MAX or proc.turn_tokens >= TURN_TOKENS_MAX):
            self._tell(proc, self.iset.alert("budget", proc.mask, syscalls=proc.turn_syscalls, tokens=proc.turn_tokens))
            self._note("turn", proc, text="budget spent")
            self._close_turn(proc)
        self._boundary(proc)

    def _close_turn(self, proc: Process) -> None:
        """The turn joins the queue and what was recalled for it is dropped."""
        proc.in_turn = False
        self._seen.pop(proc.pid, None)
        proc.turn_syscalls = proc.turn_tokens = 0
        proc.answers = ()
        proc.space.recall = []
        proc.space.turn = len(proc.space.queue)

    # The outbox.

    def _acked(self, event: Acked) -> None:
        proc = self.proc(event.pid)
        upto = min(event.upto, proc.said)
        if upto <= proc.acked:
            return
        self._dirty[proc.pid] = proc
        for seq in range(proc.acked + 1, upto + 1):
            self._write("outbox", records.key(proc.pid, seq), None)
        proc.acked = upto

    # For syscalls: what a handler may do to it. Checks first; nothing below a check fails.

    def say(self, pid: int, text: str, *, more: bool, truncated: bool) -> None:
        """Send a message to whoever listens; ends the turn unless there is `more`."""
        proc = self.procs[pid]
        if proc.said - proc.acked >= OUTBOX_MAX:
            raise SyscallError(f"outbox full: {OUTBOX_MAX} messages wait for their reader")
        self._emitted(proc, Kind.MESSAGE, Area.RECALL, text)
        proc.said += 1
        message = Message(pid, proc.said, self.at, text, proc.answers, proc.instr, truncated, not more)
        self._write("outbox", records.key(pid, proc.said), records.encode(message))
        self._said.append(message)
        self._effects.append(Deliver(pid, proc.said))
        if not more:
            self.rest(pid)

    def answer(self, pid: int, text: str, *, delta: bool = False) -> None:
        """The result of the syscall, which continues the turn."""
        proc = self.procs[pid]
        self._emitted(proc)
        self._tell(proc, text, Kind.DELTA if delta else Kind.RESULT, proc.space.group)

    def rest(self, pid: int) -> None:
        """End the turn; the process is idle until an interrupt."""
        proc = self.procs[pid]
        self._emitted(proc)
        self._close_turn(proc)

    def exit(self, pid: int, status: str) -> None:
        """End the process at its own wish."""
        proc = self.procs[pid]
        self._emitted(proc)
        self.end(proc, status)

    def core_write(self, pid: int, block: str, text: str, said: str) -> None:
        """Set a core block. Raises SyscallError if the data segment would outgrow its budget."""
        proc = self.procs[pid]
        blocks = {**proc.blocks, block: text}
        if len(blocks) > BLOCKS_MAX:
            raise SyscallError(f"no block {block}; blocks are {_some(proc.blocks)}, at most {BLOCKS_MAX}")
        size = self._size(self.model_of(pid), render_blocks(blocks)) + self._costs(proc).role[Role.SYSTEM]
        limit = self.budgets(proc).data
        if size > limit:
            raise SyscallError(
                f"core memory would have {size} tokens, {limit} are allowed; replace or remember instead"
            )
        proc.blocks = blocks
        self.answer(pid, said, delta=True)

    def archive(self, pid: int, text: str) -> int:
        """Store a page that is searched and never resident by itself; returns its number."""
        proc = self.procs[pid]
        self._emitted(proc)
        first = 0
        for part in self._measured(self.model_of(pid), text, self._unit_text()):
            entry = self._page(pid, part, Kind.ARCHIVE, Origin.PROCESS, Role.SYSTEM, area=Area.ARCHIVE)
            first = first or entry.page
        proc.space.evicted += 1  # there is now something that a demand fault could bring in
        return first

    def search(
        self, pid: int, query: str, areas: tuple[Area, ...], since: int, until: int, limit: int, cursor: int
    ) -> None:
        """Search the process's pages; the turn goes on with the hits. What is in view needs no search.

        Pages that earlier results quote are left out, too, but not where a cursor counts them.
        """
        proc = self.procs[pid]
        self._emitted(proc)
        seen = proc.space.resident() | proc.undelivered() | (set() if cursor else proc.space.shown())
        what = Search(
            pid=pid,
            req=proc.req + 1,
            area=areas,
            query=query,
            since=since,
            until=until,
            limit=limit,
            cursor=cursor,
            exclude=tuple(sorted(seen)),
            upto=self.counters.page,
        )
        self._wait(proc, what)

    def fault_in(self, pid: int, pages: tuple[int, ...]) -> None:
        """Bring pages into the queue by number; the turn goes on when they are there."""
        proc = self.procs[pid]
        self._emitted(proc)
        self._wait(proc, Load(pid=pid, req=proc.req + 1, pages=pages))

    def pin(self, pid: int, page: int, pinned: bool) -> None:
        """Keep a resident page from eviction, or let it go again."""
        proc = self.procs[pid]
        space, index = proc.space, proc.space.find(page)
        if index < 0:
            raise SyscallError(f"page {page} is not resident; resident are {_some(e.page for e in space.queue)}")
        entry = space.queue[index]
        if entry.kind in (Kind.STUB, Kind.DELTA):
            raise SyscallError(f"page {page} is the kernel's ({entry.kind}) and cannot be pinned")
        limit = self.budgets(proc).pinned
        if pinned and not entry.pinned and space.pinned() + entry.tokens > limit:
            raise SyscallError(f"pins would hold {space.pinned() + entry.tokens} tokens; {limit} are allowed")
        space.queue[index] = msgspec.structs.replace(entry, pinned=pinned)
        self.policy(proc).hit(page)

    def evict(self, pid: int, pages: tuple[int, ...]) -> None:
        """Let resident pages go; they stay on disk and in the indexes."""
        proc = self.procs[pid]
        space = proc.space
        wanted = set(pages)
        known = {e.page for e in space.queue if not e.pinned and e.kind not in (Kind.STUB, Kind.DELTA)}
        if wanted - known:
            raise SyscallError(
                f"pages {_some(sorted(wanted - known))} are not evictable; these are: {_some(sorted(known))}"
            )
        self._emitted(proc)
        groups = {e.group for e in space.queue if e.page in wanted and e.group}
        victims = [e for e in space.queue if e.page in wanted or (e.group in groups and e.page in known)]
        for entry in victims:
            self.policy(proc).drop(entry.page)
        pager.remove(space, {entry.page for entry in victims})
        if victims:
            self._evicted(proc, victims)
        pager.pressure(space, self.budgets(proc), self._settings.memory.warn)

    def set_timer(self, pid: int, due: int, text: str, every: int) -> Timer:
        """Arm a timer of the process, for `due` (ns) and then every so many seconds."""
        proc = self.procs[pid]
        if len(proc.timers) >= TIMERS_MAX:
            raise SyscallError(f"{TIMERS_MAX} timers are set already; cancel one of {_some(proc.timers)}")
        self.counters.timer += 1
        timer = Timer(self.counters.timer, pid, due, every * NS, text)
        self.timers[timer.id] = timer
        proc.timers = [*proc.timers, timer.id]
        self._write("timer", records.key(timer.id), records.encode(timer))
        self._effects.append(Arm(timer.id, timer.due))
        return timer

    def cancel_timer(self, pid: int, timer: int) -> None:
        """Disarm a timer of the process."""
        proc = self.procs[pid]
        if timer not in proc.timers:
            raise SyscallError(f"no timer {timer}; timers are {_some(proc.timers)}")
        proc.timers = [one for one in proc.timers if one != timer]
        self._disarm(timer)

    def hold(self, pid: int, lines: Iterable[Line], seconds: int) -> None:
        """Hold back what is raised on `lines` for so long from now; 0: let them through."""
        proc = self.procs[pid]
        until = self.at + seconds * NS
        self._hold(proc, {**proc.masked, **dict.fromkeys(map(int, lines), until)})

    def _hold(self, proc: Process, masked: dict[int, int]) -> None:
        """Set the masks of a process, and the timer at which the first of them ends."""
        proc.masked = {line: until for line, until in masked.items() if until > self.at}
        if proc.unmask:
            self._disarm(proc.unmask)
            proc.unmask = 0
        if proc.masked:
            self.counters.timer += 1
            timer = Timer(self.counters.timer, proc.pid, min(proc.masked.values()), 0, "", unmask=True)
            proc.unmask, self.timers[timer.id] = timer.id, timer
            self._write("timer", records.key(timer.id), records.encode(timer))
            self._effects.append(Arm(timer.id, timer.due))

    def check(self) -> None:
        """Assert the invariants of the whole machine; called after every step in tests."""
        running = [(slot.pid, slot.instr, slot.attempt) for slot in self.slots if slot.pid]
        assert len(running) == len(set(running))
        for proc in self.procs.values():
            proc.space.check()
            limits = self.budgets(proc)
            assert proc.space.used() <= limits.queue
            assert sum(entry.tokens for entry in proc.space.recall) <= limits.recall
            assert (proc.space.data.tokens if proc.space.data else 0) <= limits.data
            lane = self.lane_of(proc.pid)
            assert (proc.pid in lane.ready) == (proc.state is State.READY), (proc.pid, proc.state)
            outside = proc.pid in lane.admission.outside
            assert outside if proc.state is State.SUSPENDED else not (outside and proc.state is State.READY)
            assert (proc.wait is not None) == (proc.state is State.BLOCKED)
            if proc.state is State.RUNNING:
                assert (proc.pid, proc.instr, proc.attempt) in running


def _evaluated(event: Trapped) -> str:
    """Where the tokens of a run's prompt came from, in words."""
    said = f"prompt {event.prompt}, prefill {event.prefill}"
    parts = (("again", event.again), ("restored", event.restored), ("shared", event.shared))
    return said + "".join(f", {name} {tokens}" for name, tokens in parts if tokens)


def render_blocks(blocks: dict[str, str]) -> str:
    """Core memory as the model reads it: a heading and a text a block, in the order they were made."""
    return "\n\n".join(f"[{name}]\n{text}" for name, text in blocks.items() if text)


def _some(values: Iterable[object]) -> str:
    """A list for an error message: at most a dozen values, or that there are none."""
    found = [str(value) for value in values]
    return ", ".join(found[:12]) + (", ..." if len(found) > 12 else "") if found else "none"


__all__ = ["Event", "Kernel", "Step", "Watch", "render_blocks"]
