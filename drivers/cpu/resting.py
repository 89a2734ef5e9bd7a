"""A CPU that leaves memory when it has had no work for a while, and comes back with the next job.

What is wanted of it meanwhile (tokens) is answered by `words`, a vocabulary that stays. KV that was kept is in images
when it comes back, where it has a folder for them; else prompts are evaluated anew.
Guarantees: exactly one Trapped follows each `start`; a CPU that cannot come back fails the jobs that wait, and is tried
again with the next. `start` and `preempt` never wait for it.
Not here: when a machine has work (the kernel), the CPU itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from kernel.errors import in_one_line
from kernel.event import AnyEvent, Outcome, Trapped
from kernel.ports import Cpu, Job, Post, Streamed


class Words(Protocol):
    """What stays: a vocabulary. Any thread."""

    def tokenize(self, text: str) -> tuple[int, ...]:
        """See ports.Cpu."""
        ...

    def detokenize(self, ids: Sequence[int]) -> str:
        """See ports.Cpu."""
        ...


class RestingCpu:
    """A `ports.Cpu` that is made anew by `make` when there is work, and closed after `rest_s` seconds without any."""

    def __init__(self, made: Cpu, make: Callable[[], Cpu], words: Words, rest_s: float) -> None:
        """`made` is the first of them; `make` may raise a KernelError later."""
        self.slots, self.window_max, self.model, self.encoding = made.slots, made.window_max, made.model, made.encoding
        self.full_mask, self.manner, self.frame = made.full_mask, made.manner, made.frame
        self._measure = made.measure_id()
        self._cpu: Cpu | None = made
        self._make, self._words, self._rest_s = make, words, rest_s
        self._lock = threading.RLock()  # a CPU may end a job within its `start`
        self._jobs: dict[int, Job] = {}  # by slot: handed in and not ended
        self._waiting: list[Job] = []  # of them, those that wait for it to come back
        self._stopped: set[int] = set()  # slots of those that are to stop at once then
        self._forgotten: list[int] = []  # processes that it is to forget then
        self._coming: threading.Thread | None = None
        self._gone = threading.Event()  # the one of before is closed
        self._gone.set()
        self._timer: threading.Timer | None = None
        self._closed = False

    @property
    def resting(self) -> bool:
        """Whether it is out of memory."""
        return self._cpu is None

    def measure_id(self) -> str:
        """See ports.Cpu."""
        return self._measure

    def tokenize(self, text: str) -> tuple[int, ...]:
        """See ports.Cpu."""
        return self._words.tokenize(text)

    def detokenize(self, ids: Sequence[int]) -> str:
        """See ports.Cpu."""
        return self._words.detokenize(ids)

    def holds(self, grammar: str) -> str:
        """See ports.Cpu; while it rests, nothing is known against a grammar."""
        cpu = self._cpu
        return cpu.holds(grammar) if cpu is not None else ""

    def open(self, window: int, post: Post, stream: Callable[[Streamed], None]) -> None:
        """See ports.Cpu."""
        self._window, self._post, self._stream = window, post, stream
        assert self._cpu is not None, "it was made"
        self._cpu.open(window, self._trapped, stream)
        with self._lock:
            self._wind()

    def start(self, job: Job) -> None:
        """See ports.Cpu; where it rests, the job begins when it has come back."""
        with self._lock:
            self._unwind()
            self._jobs[job.slot] = job
            if self._cpu is not None:
                self._cpu.start(job)
                return
            self._waiting.append(job)
            if self._coming is None:
                self._coming = threading.Thread(target=self._come, name="model", daemon=True)
                self._coming.start()

    def preempt(self, slot: int) -> None:
        """See ports.Cpu."""
        with self._lock:
            if self._cpu is not None:
                self._cpu.preempt(slot)
            elif slot in self._jobs:
                self._stopped.add(slot)

    def expect(self, pid: int) -> None:
        """See ports.Cpu: a hint, which brings nobody back."""
        with self._lock:
            if self._cpu is not None:
                self._cpu.expect(pid)

    def fork(self, parent: int, child: int) -> None:
        """See ports.Cpu: a hint; while it rests, the child's prompt is evaluated."""
        with self._lock:
            if self._cpu is not None:
                self._cpu.fork(parent, child)

    def forget(self, pid: int) -> None:
        """See ports.Cpu."""
        with self._lock:
            if self._cpu is not None:
                self._cpu.forget(pid)
            else:
                self._forgotten.append(pid)

    def close(self) -> None:
        """See ports.Cpu."""
        with self._lock:
            self._closed = True
            self._unwind()
            coming = self._coming
        if coming is not None:
            coming.join()
        self._gone.wait()
        if self._cpu is not None:
            self._cpu.close()

    def _trapped(self, event: AnyEvent) -> None:
        """A job has ended; without another one it rests after a while."""
        if isinstance(event, Trapped):
            with self._lock:
                self._jobs.pop(event.slot, None)
                if not self._jobs:
                    self._wind()
        self._post(event)

    def _wind(self) -> None:
        """Under _lock: it is to rest after a while."""
        self._unwind()
        if not self._closed:
            self._timer = threading.Timer(self._rest_s, self._rest)
            self._timer.daemon = True
            self._timer.start()

    def _unwind(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _rest(self) -> None:
        """Leave memory, unless there is work again."""
        with self._lock:
            cpu = self._cpu
            if self._closed or self._jobs or cpu is None:
                return
            self._cpu = None
            self._gone.clear()
        cpu.close()
        self._gone.set()

    def _come(self) -> None:
        """Come back, on a thread of its own, and begin what waits."""
        self._gone.wait()  # what it kept is written before it is read
        try:
            cpu = self._make()
            cpu.open(self._window, self._trapped, self._stream)
        except Exception as exc:  # whatever it is, somebody waits for each of these jobs
            self._failed(in_one_line(exc))
            return
        with self._lock:
            self._cpu, self._coming = cpu, None
            for pid in self._forgotten:
                cpu.forget(pid)
            waiting, stopped = self._waiting, self._stopped
            self._waiting, self._stopped, self._forgotten = [], set(), []
            for job in waiting:
                cpu.start(job)
            for slot in stopped:
                cpu.preempt(slot)

    def _failed(self, why: str) -> None:
        with self._lock:
            waiting, self._waiting, self._coming = self._waiting, [], None
            self._stopped.clear()
            for job in waiting:
                self._jobs.pop(job.slot, None)
        for job in waiting:
            error = f"{self.model} does not come back: {why}"
            self._post(Trapped(source="cpu", slot=job.slot, tag=job.tag, outcome=Outcome.FAILED, error=error))
