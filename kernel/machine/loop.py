"""The machine: inbox, step, commit, perform, on trio.

One loop: everything that arrived while the last commit ran is sorted by (time, source, number), stepped, written in
one disk transaction, and only then performed and answered. Whoever has an answer from here has it from the disk. One
nursery owns every task, and leaving it closes every device.
Drivers post events from any thread; tokens pass by the kernel straight to subscribers.
The caller's duty: boot it (boot.py), then `run` it once.
Not here: what an event means (core.py), what an effect does (devices.py), what clients ask (requests.py), what they
read (views.py) and are told (feed.py).
"""

from __future__ import annotations

import gc
import heapq
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import msgspec
import trio

from kernel import aside, core, failpoint
from kernel.errors import BadInput, Busy, KernelPanic, Stopped
from kernel.event import (
    AnyEvent,
    Checkpointed,
    ClockSet,
    Run,
    Tag,
    TimerFired,
    Trapped,
)
from kernel.limits import BATCH_MAX, CLOCK_LOOK_S, INBOX_MAX, NS
from kernel.machine import views
from kernel.machine.accessed import Accessed
from kernel.machine.answers import Answers
from kernel.machine.clock import Clock, Sources
from kernel.machine.cpus import Cpus
from kernel.machine.devices import Devices, unwatched
from kernel.machine.feed import Feed
from kernel.machine.keeper import Keeper
from kernel.machine.latency import Latency
from kernel.machine.pages import Pages
from kernel.machine.reaper import Reaper
from kernel.machine.requests import Answer, Readers, Requests, Waiter
from kernel.machine.wishes import Wishes
from kernel.ports import Device, Disk, Index, Post, Record, Streamed
from kernel.settings import Settings
from kernel.state import InstructionSet, Kernel, Step, Watch

LOOK_S = 3_600.0  # a machine at rest looks as often whether the journal has become too old
PROMPTS = 1_000  # of processes that are no more, remembered at most
IDLE_S = 60.0  # between two looks at the clocks while nothing waits for them


class Timers:
    """The machine's Alarms, by its clock. It looks every now and then: sleeps stand still while a laptop is suspended,
    and nobody says when a clock is set.
    """

    def __init__(self, clock: Clock, post: Post) -> None:
        self._clock, self._post = clock, post
        self._heaps: dict[bool, list[tuple[int, int]]] = {False: [], True: []}  # (due, timer), by whether `wall`
        self._armed: dict[int, tuple[int, bool]] = {}  # what of the heaps still holds
        self._changed = trio.Event()

    def arm(self, timer: int, due: int, wall: bool) -> None:
        """See Alarms."""
        self._armed[timer] = due, wall
        heapq.heappush(self._heaps[wall], (due, timer))
        self._changed.set()

    def disarm(self, timer: int) -> None:
        """See Alarms."""
        self._armed.pop(timer, None)

    async def run(self) -> None:
        """Fire them as they come due, and tell when the wall clock was set."""
        _, before = self._clock.read()
        while True:  # until the machine's nursery is cancelled
            self._changed = trio.Event()
            at, ahead = self._clock.read()
            if ahead != before:
                before = ahead
                self._post(ClockSet(source="clock"))
            wait_s = IDLE_S
            for wall, heap in self._heaps.items():
                now = at + ahead if wall else at
                while heap and heap[0][0] <= now:
                    due, timer = heapq.heappop(heap)
                    if self._armed.get(timer) == (due, wall):
                        del self._armed[timer]
                        self._post(TimerFired(source="timer", timer=timer))
                if heap:
                    wait_s = min(wait_s, (heap[0][0] - now) / NS, CLOCK_LOOK_S)
            with trio.move_on_after(wait_s):
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
        clock: Sources,
        tools: Device | None = None,
    ) -> None:
        self.kernel, self.cpus, self.tools = kernel, cpus, tools
        self.disk, self.index = disk, index
        self.settings, self.clock = settings, Clock(clock)
        self.pages = Pages(disk, cpus, iset, kernel.model_of)
        self.readers = Readers(disk)
        self.feed = Feed(kernel, disk, self.readers)
        self.requests = Requests(kernel, cpus, iset, disk, index, settings, self.submit)
        self.timers = Timers(self.clock, self.post)
        self.reaper = Reaper(self.requests)
        self.devices = Devices(
            cpus,
            self.pages,
            index,
            kernel.model_of,
            post=self.post,
            publish=self.feed.publish,
            start=self._start,
            alarms=self.timers,
            reap=self.reaper.reap,
            tools=tools,
        )
        if tools is not None:
            tools.start(self.post, Answers(kernel, cpus, iset, settings))
        self.accessed = Accessed(kernel, self.pages)
        self.wishes = Wishes(kernel, cpus, iset)
        self.latency = Latency()
        self.watch: Watch = unwatched
        self.around_commit: Callable[[], AbstractContextManager[None]] = nullcontext  # entered for each transaction
        self.stopping = False
        self.steps = 0
        self._inbox: deque[tuple[AnyEvent, Waiter | None]] = deque()
        self._streams: deque[Streamed] = deque()
        self._numbers: dict[str, int] = {}
        self._awake = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._shown: dict[int, Tag] = {}  # by process, the attempt whose first tokens were streamed
        self._busy: set[int] = set()  # slots with a job
        self.prompts: dict[int, int] = {}  # by process, tokens of the prompt of its last run
        self._expected: dict[str, int | None] = {}  # by model, whom its CPU was told to expect
        self._stopped = trio.Event()
        self.aside: set[bytes] = set()  # events that are not let in, by identity
        self.keeper = Keeper(kernel, disk, settings, self.clock.now)
        self._checkpoint: Waiter | None = None  # who waits for one
        self._taken = 0  # the log number of the last

    # The inbox. `post` is the only way in for drivers.

    def post(self, event: AnyEvent) -> None:
        """Hand over an event from any thread; never blocks. Completions are never refused.

        Times that it has are of the host's clock that only passes (clock.passing).
        """
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
            raise Stopped("the kernel is stopping; try again when it is up")
        if len(self._inbox) >= INBOX_MAX:
            raise Busy(f"queue full: {INBOX_MAX} events wait", 1)
        waiter = Waiter()
        self._inbox.append((event, waiter))
        self._wake()
        return await waiter.wait()

    async def compact(self) -> Answer:
        """Take a checkpoint and let the journal before it go, bit by bit; the answer comes with the checkpoint."""
        if self.stopping:
            raise Stopped("the kernel is stopping; try again when it is up")
        if self._checkpoint is None:
            self._checkpoint = Waiter()
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
                nursery.start_soon(self.reaper.run)
                if self.tools is not None:
                    nursery.start_soon(self.tools.run)
                await self._loop()
                nursery.cancel_scope.cancel()
        finally:
            self._token = None
            if self._checkpoint is not None:
                self._checkpoint.fail(Stopped("the kernel stopped before the checkpoint was taken"))
            self._stopped.set()
            self.feed.close()
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
            while self._streams:
                self.feed.publish(self._streams.popleft())
            if self._due():
                await self._checkpointed()
            if self.keeper.busy:
                await self._keep()
            if not self._inbox:
                if self.stopping and not self._busy and self._checkpoint is None:
                    return
                if not self.keeper.busy and not self._due():
                    with trio.move_on_after(LOOK_S):
                        await self._awake.wait()
                continue
            most = 1 if self.settings.disk.sync == "full" else BATCH_MAX
            _, ahead = self.clock.read()
            batch = [self._stamped(*self._inbox.popleft(), ahead) for _ in range(min(most, len(self._inbox)))]
            batch.sort(key=lambda one: (one[0].at, one[0].source, one[0].n))
            try:
                await self._take(batch)
            except BaseException as exc:
                for _, waiter in batch:
                    if waiter is not None and not waiter.done:
                        waiter.fail(exc)
                raise
            self.steps += len(batch)

    def _stamped(self, event: AnyEvent, waiter: Waiter | None, ahead: int) -> tuple[AnyEvent, Waiter | None]:
        number = self._numbers[event.source] = self._numbers.get(event.source, 0) + 1
        return self.clock.stamped(event, ahead, number), waiter

    async def _take(self, batch: list[tuple[AnyEvent, Waiter | None]]) -> None:
        """Step a batch, commit it, and let its effects out."""
        steps: list[tuple[Step, AnyEvent, Waiter | None]] = []
        for event, waiter in batch:
            if self.aside and aside.identity(event) in self.aside:
                if waiter is not None:
                    waiter.give(Answer(self.kernel.counters.lsn, BadInput("set aside: it panicked the kernel twice")))
                instead = aside.harmless(event)
                if instead is None:
                    continue
                event = msgspec.structs.replace(instead, at=event.at, ahead=event.ahead, n=event.n)
            event = self.accessed.marked(self.pages.theirs.cited(self.wishes.told(event)))
            try:
                step = core.step(self.kernel, event)
            except KernelPanic as exc:
                await self.commit([aside.note(self.disk, event, str(exc))])
                raise
            self.latency.observe(event, self.kernel.at, step.notes)
            steps.append((step, event, waiter))
            if isinstance(event, Trapped):
                self._busy.discard(event.slot)
                self._prompted(event)
        taken = [step for step, _, _ in steps]
        await self.commit(self.devices.transaction(taken))
        self.devices.committed(taken)
        failpoint.passing("perform.before")
        for step, event, waiter in steps:
            if step.refused is None:
                self.watch(event, step)
            if step.notes:
                self.feed.publish(views.seen(step.lsn, event, step.notes))
            for effect in step.effects:
                self.devices.perform(effect)
                failpoint.passing("perform.after")
            if waiter is not None:
                failpoint.passing("answer.before")
                waiter.give(Answer(step.lsn, step.refused, step.pid))
        self._expect()

    def _prompted(self, trap: Trapped) -> None:
        """Remember how long the prompt was that a process ran last; of those that are no more, now and then not."""
        self.prompts[trap.pid] = trap.prompt
        if len(self.prompts) > 2 * len(self.kernel.procs) + PROMPTS:
            self.prompts = {pid: prompt for pid, prompt in self.prompts.items() if pid in self.kernel.procs}

    def _expect(self) -> None:
        """Tell each CPU who comes next."""
        for model, lane in self.kernel.lanes.items():
            first = lane.ready.peek()
            if first is not None and first != self._expected.get(model):
                self.cpus.expect(first, model)
            self._expected[model] = first

    def _due(self) -> bool:
        """Whether a checkpoint is to be taken now: somebody wants one, or the journal has become long or old."""
        if self._checkpoint is not None:
            return not self.keeper.copying
        return not self.stopping and self.keeper.due()

    async def _checkpointed(self) -> None:
        """Step a Checkpointed event and begin to copy what the disk holds then, before anything else is stepped."""
        _, ahead = self.clock.read()
        await self._take([self._stamped(Checkpointed(source="user"), None, ahead)])
        self._taken = self.kernel.counters.lsn
        self.keeper.begin(asked=self._checkpoint is not None)

    async def _keep(self) -> None:
        """Do a piece of the keeper's work; with it the checkpoint that somebody waits for may have been taken."""
        if self.disk.blocking:
            written = await trio.to_thread.run_sync(self.keeper.piece)
        else:
            written = self.keeper.piece()
        await self.commit(written)
        if self.keeper.committed(written):
            assert self._checkpoint is not None, "somebody asked"
            self._checkpoint.give(Answer(self._taken))
            self._checkpoint = None

    async def commit(self, written: Sequence[Record]) -> None:
        """One transaction, in one thread hop where the disk blocks. Raises DeviceError: then nothing is performed."""
        if not written:
            return
        written = [*self.keeper.saved(written), *written]
        with self.around_commit():
            if self.disk.blocking:
                await trio.to_thread.run_sync(self.disk.commit, written)
            else:
                self.disk.commit(written)
                await trio.lowlevel.checkpoint()

    def _start(self, run: Run) -> None:
        if self.stopping:
            return  # derived again at the next boot
        self._busy.add(run.slot)
        said = run.ids and run.thought is None  # of others nobody knows here what of it is thought
        if said and self._shown.get(run.pid) != run.tag:  # a new attempt: what is committed is said again
            self.stream(Streamed(run.tag, 0, self.cpus.of[run.model].detokenize(run.ids)))
        self._shown[run.pid] = run.tag
        self.cpus.start(self.pages.job(run, self.wishes.of(run.pid)))
