"""The runs of an engine, from job to Trapped: who waits for a seat, who runs, and the one answer to each.

Guarantees:
- A job that was taken is answered once, until the slots are closed: with how its run ended, or with FAILED.
- A DeviceError fails the run that it happens to, and no other. Anything else that is raised is a bug: whoever drives
  the turns calls `broke`, all runs fail with the reason, and the slots take no job any more.
- First come, first seated: nobody overtakes a run that has no room yet.
- A hint, `expect` or `fork`, that cannot be followed costs evaluation, and nothing else.
Caller's duty: `tell` may be called by any thread, and `close` after `ended`; all else by the engines' thread alone.
Not here: that thread (cores.py), whose tokens are where (kv/seats.py), batches (plan.py, steps.py), a run (run.py).
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from drivers.cpu.kv.images import ImageStore, NoImages
from drivers.cpu.kv.seats import Seat, Seats
from drivers.cpu.llama.cores import Cores
from drivers.cpu.llama.grammars import Grammars
from drivers.cpu.llama.plan import batches
from drivers.cpu.llama.run import Run, room, trap
from drivers.cpu.llama.seen import Seen
from drivers.cpu.llama.sizes import Sizes
from drivers.cpu.llama.slots import Slots
from drivers.cpu.llama.steps import Steps
from drivers.cpu.llama.vocabulary import Vocabulary
from kernel.errors import DeviceError
from kernel.event import Outcome, Trapped
from kernel.ports import Job, Post, Streamed
from kernel.sampling import Drawn, drawn
from kernel.settings import Cpu as CpuSettings

IDLE_TOKENS: Final = 256  # worth an image while nothing else is to be done: a second of prefill

Command = Job | Callable[[], None] | None


class Turns:
    """A `cores.Engine`."""

    def __init__(
        self,
        slots: Slots,
        seats: Seats,
        images: ImageStore | NoImages,
        steps: Steps,
        sizes: Sizes,
        vocabulary: Vocabulary,
        settings: CpuSettings,
        cores: Cores,
        *,
        recommended: Drawn,
        post: Post,
        stream: Callable[[Streamed], None],
    ) -> None:
        """`recommended`: how the model's words are best drawn."""
        self._slots, self._seats, self._images, self._steps, self._sizes = slots, seats, images, steps, sizes
        self._vocabulary, self._settings, self._cores = vocabulary, settings, cores
        self._recommended, self._post, self._stream = recommended, post, stream
        self._grammars, self._seen = Grammars(vocabulary), Seen(vocabulary.frame)
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._waiting: deque[Run] = deque()  # runs that have no seat yet, first come first served
        self._running: list[Run] = []
        self.ended = threading.Event()

    def tell(self, command: Command) -> None:
        """Have something done between two steps: a job that the slots took, a call, or, None, the end."""
        self._commands.put(command)
        self._cores.wake()

    def turn(self) -> bool:
        """See cores.Engine: begin and end what was asked for, and one step of all that run."""
        while True:  # ends when nothing more was asked for
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                break
            if command is None:
                self._end()
                return True
            if isinstance(command, Job):
                self._begin(command)
            else:
                command()
        self._seat_who_waits()
        for run in list(self._running):
            self._advance(run)
        for batch in batches(self._running, self._sizes):
            for run, error in self._steps.take(batch):
                self._fail(run, error)
        return bool(self._running or self._waiting)

    def rest(self) -> bool:
        """See cores.Engine: write what rests to its image."""
        resting = self._seats.unsaved(IDLE_TOKENS)
        if resting is not None:
            self._save(resting)
        return resting is not None

    def broke(self, error: BaseException) -> None:
        """See cores.Engine: all runs fail of a bug, and what is evaluated is not saved, for it may be wrong."""
        why = f"{type(error).__name__}: {error}"
        for job in self._slots.broke(why):
            self._post(trap(job, Outcome.FAILED, why))

    def close(self) -> None:
        """Forget what hangs on the vocabulary, which is about to be freed. After `ended`, by any thread."""
        self._waiting.clear()
        self._running.clear()
        self._grammars.close()

    def expect(self, pid: int) -> None:
        """See ports.Cpu, as `fork`."""
        if all(seat.pid != pid for seat in self._seats.seats):
            self._images.expect(pid)

    def fork(self, parent: int, child: int) -> None:
        """What `parent` has evaluated, `child` has."""
        self._seen.fork(parent, child)
        with suppress(DeviceError):  # a hint: else the child's prompt is evaluated
            self._seats.fork(parent, child)

    def forget(self, pid: int) -> None:
        """Nothing stays of `pid`, in memory or on disk."""
        self._seen.forget(pid)
        with suppress(DeviceError):  # what cannot be emptied is nobody's
            self._seats.drop(pid)
        self._images.flush()  # one of it may be on its way
        self._images.drop(pid)

    def _end(self) -> None:
        for seat in self._seats.seats:
            self._seats.leave(seat.number)
            self._save(seat)
        self._cores.leave(self)

    def _save(self, seat: Seat) -> None:
        """Have an image of what a seat holds; what cannot be read is not kept."""
        try:
            self._seats.save(seat)
        except DeviceError:
            self._seats.forget(seat.number)

    def _begin(self, job: Job) -> None:
        """Take a job in: refuse it, or have it wait for a seat."""
        try:
            window = min(job.window, self._sizes.window)
            if not job.prompt:
                raise DeviceError("the prompt is empty")
            if len(job.prompt) + room(job) > window:
                n = len(job.prompt)
                raise DeviceError(f"a prompt of {n} and a reply of {room(job)} tokens exceed the window of {window}")
            matcher = self._grammars.matcher(job.grammar)
        except DeviceError as exc:
            self._answer(trap(job, Outcome.FAILED, str(exc)))
        else:
            how = drawn(job.sampling, self._settings.drawn, self._recommended)
            self._waiting.append(Run(job, matcher, self._vocabulary, self._stream, how, self._settings.seed))

    def _seat_who_waits(self) -> None:
        for run in [one for one in self._waiting if self._slots.stopped(one.job.slot) or not one.legal]:
            self._waiting.remove(run)
            self._advance(run)
        while self._waiting:  # ends: each pass takes one out, or stops
            run = self._waiting.popleft()
            try:
                placed = self._seats.place(run.job.kv, run.tokens, run.limit)
            except DeviceError as exc:
                self._fail(run, exc)
                continue
            if placed is None:
                self._waiting.appendleft(run)  # and nobody overtakes it, or it could wait for ever
                return
            run.seat = placed.seat
            run.seated(
                placed.kept,
                restored=placed.restored,
                shared=placed.shared,
                filled=placed.filled,
                again=self._seen.again(run.job.kv, run.job.pages, placed.kept),
            )
            self._running.append(run)

    def _advance(self, run: Run) -> None:
        """End a run if it is over."""
        try:
            done = run.advance(stop=self._slots.stopped(run.job.slot))
        except DeviceError as exc:
            self._fail(run, exc)
        else:
            if done is not None:
                self._finish(run, done)

    def _finish(self, run: Run, done: Trapped) -> None:
        """A run is over: what it evaluated stays in its seat."""
        if run in self._running:
            self._running.remove(run)
            self._seats.leave(run.seat)
        self._answer(done)

    def _fail(self, run: Run, error: DeviceError) -> None:
        """A run has failed. Its KV is not trusted any more."""
        if run in self._running:
            self._seats.leave(run.seat)
            self._seats.forget(run.seat)
            self._running.remove(run)
        self._answer(trap(run.job, Outcome.FAILED, str(error)))

    def _answer(self, done: Trapped) -> None:
        if self._slots.free(done.slot):
            self._post(done)
