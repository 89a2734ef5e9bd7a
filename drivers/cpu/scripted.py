"""A CPU that plays a script: a list of instructions, or a function of the visible pages. For tests and scenarios.

It counts, preempts, streams and stops at limits as the real one does, so that what is tested with it holds there too.
One that `thinks` takes what a program says up to </think> for thought, and cuts it off where that is too much.
Its tokens are three bytes of UTF-8 each: reversible, the same on every machine, and never equal to a frame's.
With `token_s` 0 a run is complete when `start` returns; otherwise one thread a slot emits a token each `token_s`.
"""

from __future__ import annotations

import hashlib
import json
import struct
import threading
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from kernel.event import Outcome, Tag, Trapped
from kernel.machine.clock import passing
from kernel.memory.measure import Frame
from kernel.memory.page import Role
from kernel.ports import Job, Manner, Post, Streamed

Program = Callable[[Job], str]

KV_TOKENS = 1 << 22
CONTROL = 1 << 30  # ids of the frame: beyond any three bytes
FRAME = Frame(
    begin=(CONTROL,),
    prefix={role: (CONTROL + 1 + i, CONTROL + 8) for i, role in enumerate(Role)},
    suffix={role: (CONTROL + 9,) for role in Role},
    generate=(CONTROL + 3, CONTROL + 8),
)
THINKING = msgspec.structs.replace(FRAME, lead=FRAME.generate, plain=FRAME.generate)
OPEN, CLOSE = CONTROL + 10, CONTROL + 11
CLOSED = "</think>"


def play(instructions: Sequence[str]) -> Program:
    """The n-th instruction of a process is the n-th of the list; after the last one it yields."""
    return lambda job: instructions[job.instr - 1] if job.instr <= len(instructions) else '{"op":"yield"}'


def echo(job: Job) -> str:
    """Says back the last thing the user said, as a send_message."""
    said = next((page.page.text for page in reversed(job.pages) if page.role is Role.USER and not page.recalled), "")
    return f'{{"op":"send_message","text":{json.dumps(f"you said: {said}", ensure_ascii=False)}}}'


class Plan(NamedTuple):
    """What an instruction will be, as text and ids; how many of the ids its run may reach; its prefill."""

    text: str
    ids: tuple[int, ...]
    end: int
    prefill: int
    thought: int = 0  # how many of the ids are thought
    thinking: str = ""


class ScriptedCpu:
    """ports.Cpu over a program. `failures` runs, from the first on, fail as a device would.

    Of `kv` tokens the CPU keeps their evaluation, of whole processes, the latest that ran; prefill is counted by that.
    """

    window_max = 1 << 20
    model = "scripted"
    full_mask = True
    manner = Manner()

    def __init__(
        self,
        program: Program,
        *,
        slots: int = 1,
        encoding: str = "json",
        token_s: float = 0.0,
        failures: int = 0,
        kv: int = KV_TOKENS,
        clock: Callable[[], int] = passing,
        thinks: bool = False,
        holds: bool = False,
    ) -> None:
        """`holds`: whether the program is one that keeps to whatever grammar it is given."""
        self.frame = THINKING if thinks else FRAME
        self._holds = holds
        self.program, self.slots, self.encoding = program, slots, encoding
        self.token_s, self.failures, self._now = token_s, failures, clock
        self._stop = [threading.Event() for _ in range(slots)]
        self._kv_max = kv
        self._kept: OrderedDict[int, bytes] = OrderedDict()  # by process: ids in KV, four bytes each
        self._kept_tokens = 0
        self._keeping = threading.Lock()
        self._begun: dict[int, tuple[Tag, Plan]] = {}  # by process: the run that began it, and what it says
        self._threads: list[threading.Thread] = []
        self._closed = False

    def measure_id(self) -> str:
        """Hash of vocabulary and frame."""
        return hashlib.blake2b(f"bytes3/{CONTROL}".encode(), digest_size=8).hexdigest()

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Three bytes a token; the length stands in the top byte, so that ids are unambiguous."""
        raw = text.encode("utf-8", "replace")
        whole, rest = divmod(len(raw), 3)
        padded = bytearray(b"\3") * (4 * whole)
        for place in range(3):
            padded[place + 1 :: 4] = raw[place : 3 * whole : 3]
        ids = struct.unpack(f">{whole}I", padded)
        return (*ids, rest << 24 | int.from_bytes(raw[-rest:], "big")) if rest else ids

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of ids; frame ids have none."""
        pieces = [(one & 0xFFFFFF).to_bytes(one >> 24, "big") for one in ids if one < CONTROL]
        return b"".join(pieces).decode("utf-8", "replace")

    def holds(self, grammar: str) -> str:
        """A script says what it says."""
        return "" if self._holds else "nothing holds the scripted CPU to a form"

    def open(self, window: int, post: Post, stream: Callable[[Streamed], None]) -> None:
        """Any window fits."""
        self._post, self._stream = post, stream

    def start(self, job: Job) -> None:
        """Run the job: at once, or in a thread when tokens take time."""
        self._stop[job.slot].clear()
        if self.token_s == 0:
            self._run(job)
        else:
            thread = threading.Thread(target=self._run, args=(job,), daemon=True)
            self._threads = [one for one in self._threads if one.is_alive()] + [thread]
            thread.start()

    def expect(self, pid: int) -> None:
        """Nothing is far away."""

    def fork(self, parent: int, child: int) -> None:
        """The child's KV begins as the parent's."""
        if parent in self._kept:
            self._keep(child, self._kept[parent])

    def forget(self, pid: int) -> None:
        """Its KV goes."""
        with self._keeping:
            for kept in (pid, -pid):
                self._kept_tokens -= len(self._kept.pop(kept, b"")) // 4

    def preempt(self, slot: int) -> None:
        """Stop at the next token."""
        self._stop[slot].set()

    def close(self) -> None:
        """Stop all slots."""
        self._closed = True
        for stop in self._stop:
            stop.set()
        for thread in self._threads:
            thread.join(5)

    def _run(self, job: Job) -> None:
        planned = self._plan(job)
        if planned is None:
            return
        emitted, first_at = len(job.ids), 0
        while self.token_s and emitted < planned.end and not self._stop[job.slot].is_set():
            time.sleep(self.token_s)  # the device's own time, in its own thread
            piece = self.detokenize(planned.ids[emitted : emitted + 1])
            if piece:
                thought = emitted < planned.thought
                self._stream(Streamed(job.tag, emitted - (0 if thought else planned.thought), piece, thought))
            emitted += 1
            first_at = first_at or self._now()
        if not self.token_s and emitted < planned.end:
            emitted, first_at = planned.end, self._now()
        self._finish(job, planned, emitted, first_at)

    def _plan(self, job: Job) -> Plan | None:
        """What the program says, and how far this run may go; None if the device fails instead."""
        if self.failures > 0:
            self.failures -= 1
            self._trap(job, Outcome.FAILED, (), "", 0, error="the script says that the device fails")
            return None
        known, planned = self._begun.get(job.pid, ((0, 0), None))
        if planned is None or not job.ids or known != job.tag:
            planned = self._said(job)
        end = min(len(planned.ids), planned.thought + job.reply, len(job.ids) + job.quantum)
        planned = planned._replace(end=end, prefill=self._evaluate(job))
        self._begun[job.pid] = (job.tag, planned)  # a preempted instruction goes on as it began
        return planned

    def _said(self, job: Job) -> Plan:
        """What the program says, with what it thinks before that as far as it may."""
        thinking, closed, text = self.program(job).rpartition(CLOSED if self.frame.lead is not None else "\0")
        ids = self.tokenize(text)
        if not closed or job.thought is None:
            return Plan(text, ids, 0, 0)
        thought = self.tokenize(thinking)[: job.thought.most]
        thinking = self.detokenize(thought)
        return Plan(text, (OPEN, *thought, CLOSE, *ids), 0, 0, len(thought) + 2, thinking)

    def _finish(self, job: Job, planned: Plan, emitted: int, first_at: int) -> None:
        """The trap of a run that has come as far as `emitted`."""
        text, ids, thought = planned.text, planned.ids, planned.thought
        error = ""
        if emitted >= len(ids):
            outcome = Outcome.SYSCALL if len(ids) > thought else Outcome.ILLEGAL
            error = "" if len(ids) > thought else "nothing was emitted"
        elif emitted >= thought + job.reply:
            prose = self.encoding == "prose" and not text.startswith("!")
            outcome = Outcome.SYSCALL if prose else Outcome.ILLEGAL
            error = "the syscall reached the reply limit"
        else:
            outcome = Outcome.PREEMPTED
        whole = emitted >= len(ids) and text.isascii()  # its ids are its text then
        self._trap(
            job,
            outcome,
            ids[:emitted],
            text if whole else self.detokenize(ids[thought:emitted]),
            planned.prefill,
            first_at=first_at,
            truncated=outcome is not Outcome.PREEMPTED and emitted < len(ids),
            error=error,
            thought=min(thought, emitted),
            thinking=planned.thinking,
        )

    def _evaluate(self, job: Job) -> int:
        """Bring a prompt into KV; how many tokens were not there. The last one is evaluated always, for its logits."""
        ids = job.prompt + job.ids
        run = array("I", ids).tobytes()
        shared = min(_shared(self._kept.get(job.kv, b""), run), len(ids) - 1)
        self._keep(job.kv, run)
        return len(ids) - shared

    def _keep(self, pid: int, run: bytes) -> None:
        """Hold a process's ids in KV; those who ran longest ago make room."""
        with self._keeping:
            self._kept_tokens += (len(run) - len(self._kept.pop(pid, b""))) // 4
            self._kept[pid] = run
            while self._kept_tokens > self._kv_max and len(self._kept) > 1:  # ends: one goes each time
                self._kept_tokens -= len(self._kept.popitem(last=False)[1]) // 4

    def _trap(
        self,
        job: Job,
        outcome: Outcome,
        ids: tuple[int, ...],
        text: str,
        prefill: int,
        *,
        first_at: int = 0,
        truncated: bool = False,
        error: str = "",
        thought: int = 0,
        thinking: str = "",
    ) -> None:
        if outcome is not Outcome.FAILED:
            self._keep(job.kv, array("I", job.prompt + ids).tobytes())
        self._post(
            Trapped(
                source=f"cpu{job.slot}",
                slot=job.slot,
                tag=job.tag,
                outcome=outcome,
                text=text,
                ids=ids,
                truncated=truncated,
                error=error,
                first_at=first_at,
                prompt=len(job.prompt),
                prefill=prefill,
                decoded=max(0, len(ids) - len(job.ids)),
                kv=len(job.prompt) + len(ids),
                thought=thought,
                thinking=thinking,
            )
        )


def _shared(one: bytes, other: bytes) -> int:
    """How many ids of four bytes two runs begin with in common: by halving, for bytes compare faster than a loop."""
    low, high = 0, min(len(one), len(other)) // 4
    while low < high:  # the first `low` ids are equal always; high shrinks or low grows
        middle = (low + high + 1) // 2
        if one[4 * low : 4 * middle] == other[4 * low : 4 * middle]:
            low = middle
        else:
            high = middle - 1
    return low
