"""The machine: inbox, step, commit, perform. The only file of kernel/ that imports trio.

One loop: everything that arrived while the last commit ran is sorted by (time, source, number), stepped, written in
one disk transaction, and only then performed and answered. Whoever has an answer from here has it from the disk.
Drivers post events from any thread; tokens pass by the kernel straight to subscribers.
Not here: what an event means (core.py), what a client's line looks like (drivers/device).
"""

from __future__ import annotations

import gc
import heapq
import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
import trio

from kernel import aside, checkpoint, core, failpoint, records
from kernel.errors import BadInput, KernelError, KernelPanic
from kernel.event import (
    Acked,
    AnyEvent,
    Checkpointed,
    Filed,
    Forked,
    Imported,
    Killed,
    Message,
    Messaged,
    Note,
    Part,
    Run,
    Spawned,
    TimerFired,
    Trapped,
)
from kernel.limits import (
    BATCH_MAX,
    INBOX_MAX,
    INDEX_LAG_MAX,
    INDEX_WAIT_S,
    MESSAGE_BYTES_MAX,
    MID_CHARS_MAX,
    SUBSCRIBER_QUEUE_MAX,
)
from kernel.machine.cpus import Cpus
from kernel.machine.devices import Devices, unwatched
from kernel.machine.latency import Latency
from kernel.machine.measures import page_tokens_max
from kernel.machine.pages import Pages
from kernel.memory.address_space import Entry as PageEntry
from kernel.memory.page import Kind, Page, Role
from kernel.memory.prompt import Layout
from kernel.ports import Disk, Index, Post, Record, Streamed
from kernel.process import Process, State
from kernel.records import JournalEntry
from kernel.settings import Settings
from kernel.state import InstructionSet, Kernel, Step, Watch

NS = 1_000_000_000


class Answer(msgspec.Struct, frozen=True):
    """What became of a submitted event, after its commit. `error`: it was refused and nothing has changed."""

    lsn: int
    error: str = ""
    pid: int = 0
    duplicate: bool = False


class Entry(msgspec.Struct, frozen=True):
    """The notes of one step, as dmesg and subscribers see them."""

    lsn: int
    at: int
    notes: tuple[Note, ...]


Published = Entry | Message | Streamed


class Segment(msgspec.Struct, frozen=True):
    """A segment of an address space: (page, kind, role, tokens, pinned) of its pages."""

    name: str
    capacity: int
    pages: tuple[tuple[int, Kind, Role, int, bool], ...]


class Map(msgspec.Struct, frozen=True):
    """The address space of a process."""

    pid: int
    name: str
    window: int
    segments: tuple[Segment, ...]
    budgets: dict[str, int]


class ProcessView(msgspec.Struct, frozen=True):
    """A line of `ps`."""

    pid: int
    name: str
    state: State
    status: str
    mask: tuple[str, ...]
    turns: int
    syscalls: int
    entered: int
    recalled: int
    emitted: int
    prefill: int
    faults: int
    evictions: int
    interrupts: int
    illegal: int
    kv: int
    queue_used: int
    queue_max: int
    resident: int
    pages: int
    pending: int
    outbox: int
    acked: int
    timers: int
    again: int
    restored: int
    shared: int
    model: str  # the model's own name


class _Waiter:
    """Who waits for the commit of an event."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.answer: Answer | None = None
        self.failure: BaseException | None = None

    async def wait(self) -> Answer:
        await self.done.wait()
        if self.failure is not None:
            raise BadInput(f"the kernel stopped: {self.failure}")
        assert self.answer is not None
        return self.answer


class Timers:
    """The machine's Alarms, by its clock."""

    def __init__(self, clock: Callable[[], int], post: Post) -> None:
        self._clock, self._post = clock, post
        self._heap: list[tuple[int, int]] = []  # (due, timer), of which `_armed` says what still holds
        self._armed: dict[int, int] = {}
        self._changed = trio.Event()

    def arm(self, timer: int, due: int) -> None:
        """See Alarms."""
        self._armed[timer] = due
        heapq.heappush(self._heap, (due, timer))
        self._changed.set()

    def disarm(self, timer: int) -> None:
        """See Alarms."""
        self._armed.pop(timer, None)

    async def run(self) -> None:
        """Fire them as they come due."""
        while True:  # until the machine's nursery is cancelled
            self._changed = trio.Event()
            now = self._clock()
            while self._heap and self._heap[0][0] <= now:
                due, timer = heapq.heappop(self._heap)
                if self._armed.get(timer) == due:
                    del self._armed[timer]
                    self._post(TimerFired(source="timer", at=now, timer=timer))
            wait_s = (self._heap[0][0] - now) / NS if self._heap else math.inf
            with trio.move_on_after(min(wait_s, 60.0)):  # 60: a wall clock that is set ahead is noticed within it
                await self._changed.wait()


class Machine:
    """A booted kernel with its devices. Made by boot.boot; `run` is its life."""

    def __init__(
        self,
        kernel: Kernel,
        cpus: Cpus,
        iset: InstructionSet,
        disk: Disk,
        index: Index,
        settings: Settings,
        clock: Callable[[], int],
    ) -> None:
        self.kernel, self.cpus, self.iset = kernel, cpus, iset
        self.disk, self.index = disk, index
        self.settings, self.clock = settings, clock
        self.pages = Pages(disk, cpus, iset, kernel.model_of)
        self.timers = Timers(clock, self.post)
        self.devices = Devices(
            cpus,
            self.pages,
            index,
            kernel.model_of,
            post=self.post,
            publish=self._publish,
            start=self._start,
            alarms=self.timers,
        )
        self.latency = Latency()
        self.watch: Watch = unwatched
        self.window, self.models = settings.window, {name: cpu.model for name, cpu in cpus.of.items()}
        self.stopping = False
        self.steps = 0
        self._inbox: deque[tuple[AnyEvent, _Waiter | None]] = deque()
        self._streams: deque[Streamed] = deque()
        self._numbers: dict[str, int] = {}
        self._awake = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._subscribers: dict[trio.MemorySendChannel[Published], None] = {}
        self._inflight: dict[str, _Waiter] = {}
        self._shown: dict[int, tuple[int, int, int]] = {}  # by process, the attempt whose first tokens were streamed
        self._busy: set[int] = set()  # slots with a job
        self._expected: dict[str, int | None] = {}  # by model, whom its CPU was told to expect
        self._stopped = trio.Event()
        self.aside: set[bytes] = set()  # events that are not let in, by identity
        self._checkpoint: _Waiter | None = None  # who waits for one
        self._followed = False  # the indexes have been within INDEX_LAG_MAX pages since boot
        self._cutting = True  # the journal may hold entries that the last checkpoint stands for

    # The inbox. `post` is the only way in for drivers.

    def post(self, event: AnyEvent) -> None:
        """Hand over an event from any thread; never blocks. Completions are never refused."""
        self._inbox.append((event, None))
        self._wake()

    def stream(self, streamed: Streamed) -> None:
        """Hand tokens to the subscribers, from any thread, past the kernel."""
        self._streams.append(streamed)
        self._wake()

    def _wake(self) -> None:
        if self._token is None:
            return
        if trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token:
            self._awake.set()
        else:
            self._token.run_sync_soon(self._set_awake, idempotent=True)

    def _set_awake(self) -> None:
        self._awake.set()

    async def submit(self, event: AnyEvent) -> Answer:
        """Post a client's event and wait for its commit. Raises BadInput if the inbox is full or the kernel stops."""
        if self.stopping:
            raise BadInput("the kernel is stopping; try again when it is up")
        if len(self._inbox) >= INBOX_MAX:
            raise BadInput(f"queue full: {INBOX_MAX} events wait; retry after 1 s")
        waiter = _Waiter()
        self._inbox.append((event, waiter))
        self._wake()
        return await waiter.wait()

    async def message(self, proc: str | int, mid: str, text: str) -> Answer:
        """A user's message. The same `mid` again is answered as a duplicate and changes nothing.

        Raises BadInput in one line for a text that is empty, too long or no UTF-8, and for an unknown process.
        """
        pid = self.find(proc)
        return await self._once(pid, mid, [text], lambda parts: Messaged(source="user", pid=pid, mid=mid, parts=parts))

    async def file(self, proc: str | int, texts: Sequence[str], mid: str = "") -> Answer:
        """Put texts into the archive of a process, once for a `mid`. Raises BadInput as `message` does."""
        pid = self.find(proc)
        return await self._once(pid, mid, texts, lambda parts: Filed(source="user", pid=pid, mid=mid, parts=parts))

    async def _once(
        self, pid: int, mid: str, texts: Sequence[str], event: Callable[[tuple[Part, ...]], AnyEvent]
    ) -> Answer:
        """Measure texts and submit the event made of them, unless one of that `mid` is committed or on its way."""
        for text in texts:
            check_text(text)
        if len(mid) > MID_CHARS_MAX or not mid.isascii():
            raise BadInput(f"message id of {len(mid)} characters; at most {MID_CHARS_MAX} ASCII characters are allowed")
        if mid:
            if mid in self._inflight:
                first = await self._inflight[mid].wait()
                return msgspec.structs.replace(first, duplicate=not first.error)
            if self.disk.get("mid", mid.encode()) is not None:
                return Answer(self.kernel.counters.lsn, pid=pid, duplicate=True)
        waiter = _Waiter()
        if mid:
            self._inflight[mid] = waiter
        try:
            await self._index_follows()
            layout, page_tokens, parts = self.layout(pid), page_tokens_max(self.settings), list[Part]()
            for text in texts:
                if len(text) > 2_000:  # tokenising 1 MB takes seconds
                    parts += await trio.to_thread.run_sync(layout, text, page_tokens)
                else:
                    parts += layout(text, page_tokens)
            waiter.answer = await self.submit(event(tuple(parts)))
        except BaseException as exc:
            waiter.failure = exc
            raise
        finally:
            self._inflight.pop(mid, None)
            waiter.done.set()
        return waiter.answer

    async def _index_follows(self) -> None:
        """Slow a sender down to what the indexes can follow. Raises BadInput where they do not for a while.

        Not before they have caught up after boot: where they are built anew nobody could send for minutes.
        """
        began = trio.current_time()
        self._followed = self._followed or self.index.lag() <= INDEX_LAG_MAX
        while self._followed and self.index.lag() > INDEX_LAG_MAX:
            if trio.current_time() - began > INDEX_WAIT_S:
                raise BadInput(f"queue full: the indexes are {self.index.lag()} pages behind; retry after 5 s")
            await trio.sleep(0.05)

    async def spawn(
        self,
        name: str,
        mask: tuple[str, ...] | None,
        blocks: dict[str, str],
        system: str | None,
        nice: int = 0,
        abort: bool = False,
        model: str = "",
    ) -> Answer:
        """Make a process, or start a dead one again. None: what suits its model, by name; "" is the first."""
        if mask is None:
            mask = self.iset.default_mask(self.cpus.of.get(model, self.cpus.of[""]).full_mask)
        system = self.iset.system if system is None else system
        return await self.submit(
            Spawned(
                source="user",
                name=name,
                mask=mask,
                blocks=blocks,
                system=system,
                nice=nice,
                abort=abort,
                model=model,
            )
        )

    async def take_over(self, event: Imported) -> Answer:
        """A process from another machine; what was resident there is measured by its model here."""
        if event.spawn.model not in self.cpus.of:
            event = msgspec.structs.replace(event, spawn=msgspec.structs.replace(event.spawn, model=""))
        tokenize = self.cpus.of[event.spawn.model].tokenize
        ids: dict[str, tuple[int, ...]] = {}
        wanted = [page.text for page in event.pages if page.where]
        for text in wanted:
            ids[text] = (
                await trio.to_thread.run_sync(tokenize, text) if len(text) > 2_000 else ids.get(text) or tokenize(text)
            )
        pages = tuple(msgspec.structs.replace(page, ids=ids[page.text]) if page.where else page for page in event.pages)
        return await self.submit(msgspec.structs.replace(event, pages=pages, source="user"))

    async def fork(self, proc: str | int, name: str) -> Answer:
        """A copy of an idle process under a new name: it sees what the parent sees, and its KV costs no prefill."""
        return await self.submit(Forked(source="user", pid=self.find(proc), name=name))

    async def kill(self, pid: int, status: str = "killed") -> Answer:
        """Raise KILL on a process."""
        return await self.submit(Killed(source="user", pid=pid, status=status))

    async def compact(self) -> Answer:
        """Take a checkpoint and let the journal before it go, bit by bit; the answer comes with the checkpoint."""
        if self.stopping:
            raise BadInput("the kernel is stopping; try again when it is up")
        if self._checkpoint is None:
            self._checkpoint = _Waiter()
            self._wake()
        return await self._checkpoint.wait()

    # The loop.

    async def run(self) -> None:
        """The machine's life, from the first dispatch to `stop`. This nursery owns every task of the kernel."""
        self._token = trio.lowlevel.current_trio_token()
        gc.freeze()  # what is loaded stays, and steps make no cycles: looking for them less often gains a tenth
        gc.set_threshold(50_000, 20, 50)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.timers.run)
                await self._loop()
                nursery.cancel_scope.cancel()
        finally:
            self._token = None
            self._stopped.set()
            for channel in list(self._subscribers):
                channel.close()
            failpoint.passing("close.before")
            self.cpus.close()
            self.index.close()
            self.disk.close()

    def stop(self) -> None:
        """Drain and stop: what runs is preempted, what it emitted is committed, and `run` returns."""
        self.stopping = True
        self.cpus.stop()
        self._wake()

    async def stopped(self) -> None:
        """Return when `run` has."""
        await self._stopped.wait()

    async def _loop(self) -> None:
        while True:  # until stopped and at rest
            self._awake = trio.Event()
            self._publish_streams()
            if self._checkpoint is not None:
                await self._take_checkpoint()
            if self._cutting:
                await self._cut()
            if not self._inbox:
                if self.stopping and not self._busy:
                    return
                if not self._cutting:
                    await self._awake.wait()
                continue
            most = 1 if self.settings.disk.sync == "full" else BATCH_MAX
            batch = [self._stamped(*self._inbox.popleft()) for _ in range(min(most, len(self._inbox)))]
            batch.sort(key=lambda one: (one[0].at, one[0].source, one[0].n))
            try:
                await self._take(batch)
            except BaseException as exc:
                for _, waiter in batch:
                    if waiter is not None and not waiter.done.is_set():
                        waiter.failure = exc
                        waiter.done.set()
                raise
            self.steps += len(batch)

    def _stamped(self, event: AnyEvent, waiter: _Waiter | None) -> tuple[AnyEvent, _Waiter | None]:
        number = self._numbers[event.source] = self._numbers.get(event.source, 0) + 1
        return msgspec.structs.replace(event, at=event.at or self.clock(), n=number), waiter

    async def _take(self, batch: list[tuple[AnyEvent, _Waiter | None]]) -> None:
        """Step a batch, commit it, and let its effects out."""
        steps: list[tuple[Step, AnyEvent, _Waiter | None]] = []
        for event, waiter in batch:
            if self.aside and aside.identity(event) in self.aside:
                if waiter is not None:
                    waiter.answer = Answer(self.kernel.counters.lsn, "set aside: it panicked the kernel twice")
                    waiter.done.set()
                instead = aside.harmless(event)
                if instead is None:
                    continue
                event = msgspec.structs.replace(instead, at=event.at, n=event.n)
            try:
                step = core.step(self.kernel, event)
            except KernelPanic as exc:
                await self.commit([aside.note(self.disk, event, str(exc))])
                raise
            self.latency.observe(event, self.kernel.at, step.notes)
            steps.append((step, event, waiter))
            if isinstance(event, Trapped):
                self._busy.discard(event.slot)
        taken = [step for step, _, _ in steps]
        await self.commit(self.devices.transaction(taken))
        self.devices.committed(taken)
        failpoint.passing("perform.before")
        for step, event, waiter in steps:
            if not step.error:
                self.watch(event, step)
            if step.notes:
                self._publish(Entry(step.lsn, event.at, step.notes))
            for effect in step.effects:
                self.devices.perform(effect)
                failpoint.passing("perform.after")
            if waiter is not None:
                failpoint.passing("answer.before")
                waiter.answer = Answer(step.lsn, step.error, step.pid)
                waiter.done.set()
        self._expect()

    def _expect(self) -> None:
        """Tell each CPU who comes next."""
        for model, lane in self.kernel.lanes.items():
            first = lane.ready.peek()
            if first is not None and first != self._expected.get(model):
                self.cpus.expect(first, model)
            self._expected[model] = first

    async def _take_checkpoint(self) -> None:
        """Step a Checkpointed event and keep what the disk holds then, before anything else is stepped."""
        waiter = self._checkpoint
        assert waiter is not None
        inner = _Waiter()
        try:
            await self._take([self._stamped(Checkpointed(source="user"), inner)])
            failpoint.passing("compact.before")
            if self.disk.blocking:
                kept = await trio.to_thread.run_sync(checkpoint.records, self.disk, self.kernel)
            else:
                kept = checkpoint.records(self.disk, self.kernel)
            await self.commit(kept)
            failpoint.passing("compact.after")
        except BaseException as exc:
            waiter.failure = exc
            raise
        else:
            waiter.answer, self._cutting = inner.answer, True
        finally:
            self._checkpoint = None
            waiter.done.set()

    async def _cut(self) -> None:
        """Delete some of the journal that the last checkpoint stands for."""
        gone = checkpoint.cut(self.disk)
        if gone:
            await self.commit(gone)
            failpoint.passing("compact.cut")
        self._cutting = bool(gone)

    async def commit(self, written: Sequence[Record]) -> None:
        """One transaction, in one thread hop where the disk blocks. Raises DeviceError: then nothing is performed."""
        if not written:
            return
        if self.disk.blocking:
            await trio.to_thread.run_sync(self.disk.commit, written)
        else:
            self.disk.commit(written)
            await trio.lowlevel.checkpoint()

    def _start(self, run: Run) -> None:
        if self.stopping:
            return  # derived again at the next boot
        self._busy.add(run.slot)
        tag = (run.pid, run.instr, run.attempt)
        if run.ids and self._shown.get(run.pid) != tag:  # a new attempt goes on from committed tokens: say them again
            self.stream(Streamed(*tag, 0, self.cpus.of[run.model].detokenize(run.ids)))
        self._shown[run.pid] = tag
        self.cpus.start(self.pages.job(run))

    # What clients read.

    def find(self, proc: str | int) -> int:
        """The number of a process by name or number. Raises BadInput naming those that exist."""
        if isinstance(proc, str) and proc in self.kernel.names:
            return self.kernel.names[proc]
        if isinstance(proc, int) or proc.isdigit():
            return self.kernel.proc(int(proc)).pid
        raise BadInput(f"no process {proc!r}; processes are {', '.join(list(self.kernel.names)[:12]) or 'none'}")

    def layout(self, proc: str | int) -> Layout:
        """How the model of a process counts."""
        return self.cpus.layouts[self.kernel.model_of(self.find(proc))]

    def processes(self) -> list[ProcessView]:
        """Every process, by number."""
        return [self._view(proc) for proc in self.kernel.procs.values()]

    def _view(self, proc: Process) -> ProcessView:
        counts, space = proc.accounts, proc.space
        return ProcessView(
            proc.pid,
            proc.name,
            proc.state,
            proc.status,
            proc.mask,
            counts.turns,
            counts.syscalls,
            counts.entered,
            counts.recalled,
            counts.emitted,
            counts.prefill,
            counts.faults,
            counts.evictions,
            counts.interrupts,
            counts.illegal,
            counts.kv,
            space.used(),
            self.kernel.budgets(proc).queue,
            len(space.queue) + len(space.recall),
            proc.seq,
            len(proc.pending),
            proc.said - proc.acked,
            proc.acked,
            len(proc.timers),
            counts.again,
            counts.restored,
            counts.shared,
            self.models[self.kernel.model_of(proc.pid)],
        )

    def pmap(self, proc: str | int) -> Map:
        """The address space of a process, segment by segment in prompt order."""
        process = self.kernel.procs[self.find(proc)]
        space, limits = process.space, self.kernel.budgets(process)

        def segment(name: str, capacity: int, entries: Sequence[PageEntry | None]) -> Segment:
            rows = tuple((e.page, e.kind, e.role, e.tokens, e.pinned) for e in entries if e is not None)
            return Segment(name, capacity, rows)

        return Map(
            process.pid,
            process.name,
            limits.window,
            (
                segment("text", limits.text, [space.text]),
                segment("data", limits.data, [space.data]),
                segment("queue", limits.queue, space.queue[: space.turn]),
                segment("recall", limits.recall, space.recall),
                segment("turn", limits.queue, space.queue[space.turn :]),
            ),
            {name: value for name, value in msgspec.to_builtins(limits).items()},
        )

    def log(self, since: int, limit: int) -> list[Entry]:
        """Notes of the steps after log number `since`, oldest first, of at most `limit` steps; 0: 1,000."""
        rows = self.disk.scan("journal", records.key(since + 1), limit=limit or 1_000)
        return [entry for _, value in rows if (entry := _entry(value)).notes]

    def outbox(self, pid: int) -> list[Message]:
        """Messages of a process that nobody has acknowledged, in order."""
        proc = self.kernel.proc(pid)
        keys = [records.key(pid, seq) for seq in range(proc.acked + 1, proc.said + 1)]
        rows = self.disk.get_many("outbox", keys)
        return [msgspec.msgpack.decode(row, type=Message) for row in rows if row is not None]

    def page(self, number: int) -> Page | None:
        """A page by number."""
        return self.pages.page(number)

    def message_page(self, mid: str) -> int:
        """The first page of the message with that id; 0 if there is none."""
        row = self.disk.get("mid", mid.encode())
        return 0 if row is None else records.unkey(row)[1]

    def resident(self, pid: int) -> set[int]:
        """Numbers of the pages that a process has in its queue or recall area."""
        return self.kernel.proc(pid).space.resident()

    async def acknowledge(self, pid: int, upto: int) -> Answer:
        """All messages of a process up to `upto` have been shown."""
        return await self.submit(Acked(source="user", pid=pid, upto=upto))

    def history(self, pid: int, limit: int) -> list[Page]:
        """The last messages in and out of a process, oldest first, among the newest pages of the machine."""
        found: list[Page] = []
        for _, row in self.disk.scan("page", reverse=True, limit=4_096):
            page = records.page_of(row, self.disk.get)
            if page.pid == pid and page.kind is Kind.MESSAGE:
                found.append(page)
                if len(found) == limit:
                    break
        return found[::-1]

    @asynccontextmanager
    async def subscribe(self, since: int) -> AsyncIterator[AsyncIterator[Published]]:
        """What happens, in order: entries after `since` from the journal, then live ones, messages and tokens.

        A subscriber that leaves SUBSCRIBER_QUEUE_MAX items unread is closed: its iterator ends, and it may subscribe
        again from the last number it saw. `since` < 0: live only.
        """
        send, receive = trio.open_memory_channel[Published](SUBSCRIBER_QUEUE_MAX)
        upto = self.kernel.counters.lsn
        self._subscribers[send] = None
        published = self._published(receive, since, upto)
        try:
            yield published
        finally:
            await published.aclose()  # left to the collector, a generator is closed who knows where
            self._subscribers.pop(send, None)
            send.close()
            receive.close()

    async def _published(
        self, receive: trio.MemoryReceiveChannel[Published], since: int, upto: int
    ) -> AsyncGenerator[Published, None]:
        while 0 <= since < upto:
            rows = self.disk.scan("journal", records.key(since + 1), limit=256)
            if not rows:
                break
            for _, value in rows:
                entry = _entry(value)
                since = entry.lsn
                if entry.notes and entry.lsn <= upto:
                    yield entry
        async for item in receive:
            if not (isinstance(item, Entry) and item.lsn <= since):
                yield item

    def _publish(self, item: Published) -> None:
        for channel in list(self._subscribers):
            try:
                channel.send_nowait(item)
            except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
                self._subscribers.pop(channel, None)
                channel.close()

    def _publish_streams(self) -> None:
        while self._streams:
            self._publish(self._streams.popleft())


def _entry(value: bytes) -> Entry:
    journaled = msgspec.msgpack.decode(value, type=JournalEntry)
    return Entry(journaled.lsn, journaled.event.at, journaled.notes)


def check_text(text: str) -> None:
    """Raises BadInput, in one line, for a message that is empty, too long or no UTF-8."""
    if not text.strip():
        raise BadInput("the message is empty; say something")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as exc:
        raise BadInput(f"the message is no valid UTF-8 (character {exc.start + 1}); send it as UTF-8") from exc
    if size > MESSAGE_BYTES_MAX:
        raise BadInput(f"the message has {size} bytes; at most {MESSAGE_BYTES_MAX} are allowed: send it in parts")


__all__ = ["Answer", "Entry", "KernelError", "Machine", "Map", "ProcessView", "Published", "Segment"]
