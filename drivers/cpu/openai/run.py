"""Runs on servers: a job becomes a request, and its answer the one Trapped.

Guarantees: what fails before anything was emitted is asked again, of this server or another, while Patience.retry_s
lasts; what fails later is raised. No id beyond the reply limit is emitted, as the kernel counts; what was cut off, by
the server or here, is marked, and a call that was cut off is illegal.
Not here: threads and slots (engine.py), what is asked (asking.py), how an answer is read (protocol.py).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import msgspec

from drivers.cpu.kv.seats import common
from drivers.cpu.openai import asking, discovery
from drivers.cpu.openai.asking import Constraint
from drivers.cpu.openai.counting import Counter
from drivers.cpu.openai.discovery import CHAT, THOUGHT_TOKENS, Able
from drivers.cpu.openai.fleet import Fleet, Server
from drivers.cpu.openai.protocol import Answer, Intake, Malformed
from drivers.remote.transport import Cancelled, Fault, Link, Patience
from kernel.event import Outcome, Trapped
from kernel.machine.clock import passing
from kernel.ports import Job, Streamed
from kernel.settings import Cpu as CpuSettings

SEEN_MAX: Final = 256  # prompts that are kept, to say what of the next one is new where a server does not
UNFIT_S: Final = 30.0  # between two looks at a server that answers and cannot be used


class Run:
    """A job under way: its link to a server, whether it is to stop, what of it was streamed."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.stop = threading.Event()
        self.streamed = 0  # pieces
        self.thought = 0  # characters
        self.first_at = 0
        self._lock = threading.Lock()
        self._link: Link | None = None

    def cancel(self) -> None:
        """It is to stop: what it reads is closed. Any thread; returns at once."""
        with self._lock:
            self.stop.set()
            if self._link is not None:
                self._link.cancel()

    def through(self, link: Link) -> None:
        """It goes on through this link. Raises Cancelled if it is to stop."""
        with self._lock:
            self._link = link
            if self.stop.is_set():
                raise Cancelled

    def hear(self, text: str, stream: Callable[[Streamed], None]) -> None:
        """Text that came."""
        if text:
            self.first_at = self.first_at or passing()
            stream(Streamed(self.job.tag, self.streamed, text))
            self.streamed += 1

    def think(self, thought: str, stream: Callable[[Streamed], None]) -> None:
        """All that was thought so far."""
        if text := thought[self.thought :]:
            stream(Streamed(self.job.tag, self.thought, text, thought=True))
            self.thought = len(thought)

    def trap(
        self,
        outcome: Outcome,
        *,
        text: str = "",
        ids: tuple[int, ...] = (),
        prefill: int = 0,
        truncated: bool = False,
        error: str = "",
    ) -> Trapped:
        """Its one Trapped."""
        job = self.job
        return Trapped(
            source=f"cpu{job.slot}",
            slot=job.slot,
            tag=job.tag,
            outcome=outcome,
            text=text,
            ids=ids,
            truncated=truncated,
            error=error,
            first_at=self.first_at,
            prompt=len(job.prompt),
            prefill=prefill,
            decoded=len(ids),
            kv=len(job.prompt) + len(ids) if prefill else 0,
        )


class Runs:
    """What runs have in common. Any thread."""

    def __init__(
        self, fleet: Fleet, key: str, settings: CpuSettings, patience: Patience, tell: Callable[[str], None]
    ) -> None:
        self._fleet, self._key, self._settings, self._patience, self._tell = fleet, key, settings, patience, tell
        self.model = ""  # what all servers have; "" until one was found
        self.window = 0  # what all servers must have room for
        self.counter = Counter(self._count, "", ("", ""))
        self._lock = threading.Lock()
        self._failed: dict[int, int] = {}  # by process: runs that failed, in a row
        self._seen: OrderedDict[int, tuple[int, ...]] = OrderedDict()  # by whose KV: the prompt last evaluated
        self._told: set[str] = set()

    def found(self, able: Able) -> None:
        """This is what the servers have."""
        self.model, self.counter = able.model.name, Counter(self._count, able.model.name, able.paths)

    def sure(self, server: Server, wanted: str, patience: Patience) -> None:
        """See that a server has the model that it is to have, and know what it can. Raises Fault."""
        self._look(server, Link(server.address, self._key, patience), wanted)

    def answer(self, run: Run, stream: Callable[[Streamed], None]) -> Trapped:
        """Ask until there is an answer. Raises Fault once it is not to be asked any longer, and Cancelled."""
        pid, waits = run.job.pid, self._patience.retry_s
        end = time.monotonic() + waits[min(self._failed.get(pid, 0), len(waits) - 1)]
        while True:  # ends with an answer, a stop, or patience
            if run.stop.is_set():
                raise Cancelled
            server = self._fleet.take(pid)
            try:
                if isinstance(server, Fault):
                    left_s = max(0.0, end - time.monotonic())
                    if not run.stop.wait(min(server.after_s, left_s)) and server.after_s > left_s:
                        raise server
                    continue
                trap = self._tried(run, server, stream)
            except Fault:
                self._failed[pid] = self._failed.get(pid, 0) + 1
                raise
            if trap is not None:
                self._failed.pop(pid, None)
                return trap

    def forget(self, pid: int) -> None:
        """A process is no more."""
        self._failed.pop(pid, None)
        with self._lock:
            for kept in (pid, -pid):
                self._seen.pop(kept, None)

    def _tried(self, run: Run, server: Server, stream: Callable[[Streamed], None]) -> Trapped | None:
        """One request, and what came of it; None: it is to be asked again. Raises Fault, Cancelled."""
        try:
            trap = self._asked(run, server, stream)
        except Fault as fault:
            if fault.again:
                self._fleet.failed(server, fault)
            if run.streamed or not fault.again:
                raise
            return None
        finally:
            self._fleet.give(server)
        self._fleet.well(server)
        return trap

    def _asked(self, run: Run, server: Server, stream: Callable[[Streamed], None]) -> Trapped:
        link = Link(server.address, self._key, self._patience)
        run.through(link)
        if not server.sure:
            try:
                self._look(server, link, self.model)
            except Fault as fault:  # that of this server, and no fault of what was asked
                raise Fault(str(fault), after_s=0.0 if fault.again else UNFIT_S) from fault
        job, able = run.job, server.able
        assert able is not None, "it is sure"
        may = asking.allowed(job.grammar)
        said = asking.messages(job.pages, able.dialect.system)
        room = able.model.window - len(job.prompt)
        thought = job.thought.most if job.thought else THOUGHT_TOKENS if server.thinks else 0
        most = min(job.reply + thought, max(room, job.reply))
        body = asking.request(self.model, said, most, able.dialect)
        body |= asking.drawn(job, self._settings, able.dialect, prose=may.prose)
        body |= asking.constrained(may, able.dialect.constraint)
        body |= asking.thinking(job) if able.thinks else {}
        answer, over = self._read(run, link, body, able, stream)
        server.thinks = server.thinks or bool(answer.thought)
        self._compare(link, job, said, answer)
        try:
            text = answer.instruction()
        except Malformed as exc:
            raise link.fault(str(exc)) from exc
        return self._ended(run, answer, text, over, call=not may.prose or bool(may.mark and text.startswith(may.mark)))

    def _read(
        self, run: Run, link: Link, body: dict[str, Any], able: Able, stream: Callable[[Streamed], None]
    ) -> tuple[Answer, bool]:
        """An answer as it is streamed, and whether it was cut off here for its length. Raises Fault, Cancelled."""
        intake = Intake()
        answer = intake.answer
        try:
            with contextlib.closing(link.pieces(CHAT, body)) as pieces:
                for piece in pieces:
                    text = intake.feed(piece)
                    if answer.model and answer.model != able.answers_as:
                        raise Malformed(f"it answered as {answer.model} and was {able.answers_as} before")
                    if run.stop.is_set():
                        raise Cancelled
                    run.think(answer.thought, stream)
                    run.hear(text, stream)
                    if not self.counter.paths[0] and len(self.counter.tokenize(answer.text)) > run.job.reply:
                        return answer, True
            run.hear(intake.end(), stream)
        except Malformed as exc:
            raise link.fault(str(exc)) from exc
        return answer, False

    def _ended(self, run: Run, answer: Answer, text: str, over: bool, *, call: bool) -> Trapped:
        """The trap of an answer: an instruction, one that was cut off, or none."""
        job = run.job
        ids, cut = self.counter.tokenize(text), over or answer.cut_off
        while len(ids) > job.reply:  # ends: the text becomes shorter each time
            text, cut = text[: min(len(text) - 1, len(text) * job.reply // len(ids))], True
            ids = self.counter.tokenize(text)
        prefill = self._evaluated(job, answer)
        if not text.strip():
            thought = " but thought" if answer.thought else ""
            return run.trap(Outcome.ILLEGAL, prefill=prefill, error=f"nothing was emitted{thought}")
        if cut and call:
            error = f"the instruction was not complete after {len(ids)} tokens; a shorter one is needed"
            return run.trap(Outcome.ILLEGAL, text=text, ids=ids, prefill=prefill, error=error)
        trap = run.trap(Outcome.SYSCALL, text=text, ids=ids, prefill=prefill, truncated=cut)
        return msgspec.structs.replace(trap, thinking=answer.thought) if answer.thought else trap

    def _evaluated(self, job: Job, answer: Answer) -> int:
        """Tokens of the prompt that were evaluated: as the server says, else what its last prompt did not have."""
        if answer.usage.evaluated >= 0:
            return max(1, min(answer.usage.evaluated, len(job.prompt)))
        with self._lock:
            last = self._seen.pop(job.kv, ())
            self._seen[job.kv] = job.prompt
            if len(self._seen) > SEEN_MAX:
                self._seen.popitem(last=False)
        return max(1, len(job.prompt) - common(last, job.prompt))

    def _compare(self, link: Link, job: Job, said: list[asking.Message], answer: Answer) -> None:
        """Tell, once each, what a server's count of the prompt has against ours."""
        if answer.usage.prompt < 0:
            return
        size = sum(len(one["content"].encode()) for one in said)
        found = self.counter.bounds(len(job.prompt), answer.usage.prompt, size, len(job.pages))
        kind = found.rpartition(" ")[2]
        with self._lock:
            new = bool(found) and kind not in self._told
            self._told.add(kind)
        if new:
            self._tell(str(link.fault(found)))

    def _look(self, server: Server, link: Link, wanted: str) -> None:
        """See `sure`. Raises Fault, Cancelled."""
        if server.able is None:
            able = discovery.try_out(link, wanted)
            first = next((one.able for one in self._fleet.servers if one.able is not None), None)
            if first is not None and (unlike := _unlike(able, first)):
                raise link.fault(unlike, again=False)
            server.able, server.thinks = able, able.thinks
        else:
            now, _ = discovery.look(link, wanted)
            if now.mark != server.able.model.mark:
                raise link.fault(f"it has another model than before under the name {wanted}; boot again to take it")
            server.able = msgspec.structs.replace(server.able, model=now)
        if server.able.model.window < self.window:
            raise link.fault(f"its window is {server.able.model.window} tokens, and that of this machine {self.window}")
        server.sure = True

    def _count(self, path: str, body: Any) -> Any:
        """Ask any server that is well to count. Raises Fault."""
        now = time.monotonic()
        for server in self._fleet.servers:
            if server.sure and server.not_before <= now:
                return Link(server.address, self._key, self._patience).ask(path, body, wait_s=self._patience.count_s)
        raise Fault("no server is well")


def _unlike(able: Able, first: Able) -> str:
    """Why a server cannot stand beside the first, "" if it can."""
    if able.paths != first.paths or able.model.name != first.model.name:
        return f"it counts or runs {able.model.name} otherwise than the first server"
    if not first.speaks and able.dialect.constraint is Constraint.NONE:
        return "nothing holds it to a schema, as the first server can be"
    return ""
