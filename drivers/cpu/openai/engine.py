"""The CPU on servers that speak the OpenAI protocol: llama-server, vLLM, SGLang, Ollama, LM Studio and their like.

Guarantees:
- Exactly one Trapped follows each `start`, until `close`; a server's failure is one with Outcome.FAILED that names it.
- A server cannot go on in the middle of a reply, so neither can this CPU: a run ends with its instruction, whatever its
  quantum is, and one that is preempted emits nothing, ids neither, and begins anew. Nothing is said twice for it: what
  was streamed belongs to an attempt, and the next one has another number.
- `start` and `preempt` never wait: a run is a thread.
Caller's duty: one job at a time in a slot; nothing is called after `close`. `tell` gets a line whenever a server fails,
comes back, or says something that is not believed; it is called from any thread.
Not here: how a job becomes a request and its answer a trap, and what is asked again (run.py), which server (fleet.py).
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from drivers.cpu.openai.asking import Constraint
from drivers.cpu.openai.discovery import Able
from drivers.cpu.openai.fleet import Fleet
from drivers.cpu.openai.run import Run, Runs
from drivers.remote.address import Address, addresses, key
from drivers.remote.transport import Cancelled, Fault, Patience
from kernel.errors import BadInput, DeviceError, in_one_line
from kernel.event import Outcome
from kernel.ports import Job, Manner, Post, Streamed
from kernel.settings import Cpu as CpuSettings

DEFAULTS: Final = CpuSettings()
SLOTS_MAX: Final = 64
JOIN_S: Final = 5.0  # of all runs: one that is just connecting cannot be told to stop


class OpenAiCpu:
    """A `kernel.ports.Cpu` on servers. They have one and the same model."""

    def __init__(
        self,
        cpu: str,
        model: str = "",
        settings: CpuSettings = DEFAULTS,
        *,
        patience: Patience | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`cpu`: URL[,URL]. `model` "": the first that the first server has.

        Raises BadInput, with a line of each, if no server can be used or one has another model than was asked for.
        """
        patience = patience or Patience()
        self._fleet = Fleet(addresses(cpu), patience, tell)
        self._work = Runs(self._fleet, key(), settings, patience, tell)
        able = self._found(model, patience)
        self._work.found(able)
        self.model: str = able.model.name
        self.window_max: int = min(server.able.model.window for server in self._fleet.servers if server.able)
        self.full_mask: bool = not able.speaks
        self.encoding: str = "prose" if able.speaks else "json"
        self.manner = Manner()
        self._holds = able.dialect.constraint is not Constraint.NONE
        self.frame = able.frame()
        many = min(settings.slots, able.slots or settings.slots)
        self.slots: int = min(many * len(self._fleet.servers), SLOTS_MAX)
        self._lock = threading.Lock()
        self._runs: dict[int, Run] = {}
        self._threads: list[threading.Thread] = []
        self._opened = self._closed = False

    def measure_id(self) -> str:
        """Hash of the model, of how it is counted, and of its template."""
        tokenizer, _ = self._work.counter.paths
        said = f"openai/{self.model}/{tokenizer}/{len(self.frame.begin)}/{len(self.frame.generate)}"
        return hashlib.blake2b(said.encode(), digest_size=8).hexdigest()

    def tokenize(self, text: str) -> tuple[int, ...]:
        """As many ids as a text has tokens, or more: see Counter. Any thread."""
        return self._work.counter.tokenize(text)

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of `ids`: see Counter. Any thread."""
        return self._work.counter.detokenize(ids)

    def holds(self, grammar: str) -> str:
        """Whether the servers can be held to schemas; what one of them has against this one, it says itself."""
        return "" if self._holds else f"nothing holds {self.model} at its server to a form"

    def open(self, window: int, post: Post, stream: Callable[[Streamed], None]) -> None:
        """Any window up to `window_max` fits. Raises BadInput for a larger one."""
        if window > self.window_max:
            raise BadInput(f"window {window} is larger than that of {self.model} at its server, {self.window_max}")
        self._work.window = window
        self._post, self._stream, self._opened = post, stream, True

    def start(self, job: Job) -> None:
        """Run `job`; exactly one Trapped follows. Raises DeviceError if its slot cannot have it."""
        run = Run(job)
        thread = threading.Thread(target=self._thread, args=(run,), name=f"cpu{job.slot}", daemon=True)
        with self._lock:
            if job.slot in self._runs or not 0 <= job.slot < self.slots or self._closed or not self._opened:
                raise DeviceError(f"slot {job.slot} of {self.model} is busy, closed, or does not exist")
            self._runs[job.slot] = run
            self._threads = [one for one in self._threads if one.is_alive()] + [thread]
            thread.start()  # under the lock: whoever is in the list can be waited for

    def preempt(self, slot: int) -> None:
        """Close the stream of a slot. No effect on an idle one."""
        with self._lock:
            run = self._runs.get(slot)
        if run is not None:
            run.cancel()

    def expect(self, pid: int) -> None:
        """Servers know who has come before."""

    def fork(self, parent: int, child: int) -> None:
        """The child goes where its parent's prefix is."""
        self._fleet.fork(parent, child)

    def forget(self, pid: int) -> None:
        """Who is no more has no home."""
        self._fleet.forget(pid)
        self._work.forget(pid)

    def close(self) -> None:
        """Close all streams. Nothing is posted any more. May be called twice."""
        with self._lock:
            self._closed = True
            runs, threads = list(self._runs.values()), list(self._threads)
        for run in runs:
            run.cancel()
        end = time.monotonic() + JOIN_S
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))

    def home(self, pid: int) -> Address | None:
        """The server that a process keeps to."""
        number = self._fleet.home(pid)
        return None if number is None else self._fleet.servers[number].address

    def _found(self, wanted: str, patience: Patience) -> Able:
        """Try all servers out; what the first that answers can. Those that do not are tried later. Raises BadInput."""
        found: Able | None = None
        faults: list[Fault] = []
        patience = msgspec.structs.replace(patience, first_s=patience.try_out_s, stall_s=patience.try_out_s)
        for server in self._fleet.servers:
            try:
                self._work.sure(server, found.model.name if found else wanted, patience)
            except Fault as fault:
                if not fault.again:
                    raise BadInput(str(fault)) from fault
                faults.append(fault)
                self._fleet.failed(server, fault)
                continue
            found = found or server.able
        if found is None:
            raise BadInput("; ".join(str(fault) for fault in faults))
        return found

    def _thread(self, run: Run) -> None:
        """A run from its job to its one Trapped."""
        try:
            if run.job.ids:  # of another kind of CPU, which can go on in the middle
                raise Cancelled
            trap = self._work.answer(run, self._stream)
        except Cancelled:
            trap = run.trap(Outcome.PREEMPTED)
        except Fault as fault:
            trap = run.trap(Outcome.FAILED, error=in_one_line(fault))
        except Exception as exc:  # a bug: it ends the run and not the machine
            trap = run.trap(Outcome.FAILED, error=f"bug: {in_one_line(exc)} ({type(exc).__name__})")
        with self._lock:
            del self._runs[run.job.slot]
            silent = self._closed
        if not silent:
            self._post(trap)
