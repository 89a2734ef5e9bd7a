"""Probes put to a model: a real machine on the GGUF, and for each probe a fresh process on it, greedily decoded.

Guarantee: what a process is told, in which encoding it writes and what it may emit are the kernel's, as they would be
in use. Only what came before the answer is played (a search), and what comes after it (the end of the turn).
What is searched for lies in the process's archive, and nothing is brought into view unasked: `memory.fault` is off.
Not here: the probes and which answers are right (probes.py), what is made of them (choice.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import trio

from drivers.cpu.llama.engine import LlamaCpu
from kernel import manner
from kernel.errors import BadInput
from kernel.event import AnyEvent, Outcome, Trapped
from kernel.machine.loop import Machine
from kernel.ports import Cpu, Job, Manner, Post, Streamed
from kernel.process import State
from kernel.settings import Settings, apply
from kernel.spec import Spec
from kernel.state import Step
from llmos.init import powered
from llmos.profile.probes import MASK, Kind, Probe, asks
from syscalls.abi import TRAP_MARK

WINDOW: Final = 2048
REPLY: Final = 96  # tokens; what is right is shorter
HELPS: Final = 2  # pages of the manual that a process may ask for before it answers
OWN: Final = (
    f"cpu.reply={REPLY}", "cpu.temperature=0", "cpu.slots=1", "cpu.images=0", "memory.fault=false", "disk.sync=off",
)  # fmt: skip
END: Final = {"op": "yield"}


def mask(form: str) -> tuple[str, ...]:
    """The syscalls of a process that has its manual in a form: in the short one it may ask for more."""
    return (*MASK, "help") if form == "short" else MASK


class Emitted(msgspec.Struct, frozen=True):
    """What a process answered."""

    text: str
    truncated: bool


class GuidedCpu:
    """ports.Cpu around a model's. Of each process that `begin` announces, one answer is the model's."""

    def __init__(self, cpu: Cpu, encoding: str) -> None:
        self.slots, self.window_max, self.model = cpu.slots, cpu.window_max, cpu.model
        self.encoding, self.full_mask, self.frame = cpu.encoding, cpu.full_mask, cpu.frame
        self.manner = cpu.manner
        self.measure_id, self.tokenize, self.detokenize = cpu.measure_id, cpu.tokenize, cpu.detokenize
        self.holds = cpu.holds
        self.expect, self.fork, self.forget = cpu.expect, cpu.fork, cpu.forget
        self.preempt, self.close = cpu.preempt, cpu.close
        self._cpu, self._mark = cpu, TRAP_MARK if encoding == "prose" else ""
        self.begin(None)

    def begin(self, first: dict[str, str] | None) -> None:
        """The next process comes; `first` is what it has called before the answer."""
        self._first, self._helps = first, 0
        self.heard: Emitted | None = None

    def open(self, window: int, post: Post, stream: Callable[[Streamed], None]) -> None:
        """See ports.Cpu."""
        self._post = post
        self._cpu.open(window, self._posted, stream)

    def start(self, job: Job) -> None:
        """See ports.Cpu."""
        if self._first is not None:
            first, self._first = self._first, None
            self._play(job, first)
        elif self.heard is not None:
            self._play(job, END)
        else:
            self._cpu.start(job)

    def _posted(self, event: AnyEvent) -> None:
        if isinstance(event, Trapped) and event.outcome in (Outcome.SYSCALL, Outcome.ILLEGAL):
            if asks(event.text) and self._helps < HELPS:
                self._helps += 1
            else:
                self.heard = Emitted(event.text, event.truncated)
        self._post(event)

    def _play(self, job: Job, call: dict[str, str]) -> None:
        text = self._mark + msgspec.json.encode(call).decode()
        ids = self.tokenize(text)
        self._post(
            Trapped(
                source=f"cpu{job.slot}",
                slot=job.slot,
                tag=job.tag,
                outcome=Outcome.SYSCALL,
                text=text,
                ids=ids,
                prompt=len(job.prompt),
                decoded=len(ids),
            )
        )


class Session:
    """Processes on one machine, one after the other. `told`: what each of them reads before it is asked."""

    def __init__(self, machine: Machine, cpu: GuidedCpu) -> None:
        self._machine, self._cpu = machine, cpu
        self._pid, self._number = 0, 0
        self._rested = trio.Event()
        machine.watch = self._watch
        self._mask = mask(machine.settings.cpu.manual)
        manual = manner.manual(machine.kernel, "", self._mask)
        self.told = f"{manual}\n{machine.kernel.iset.system}"

    def _watch(self, _: AnyEvent, __: Step) -> None:
        proc = self._machine.kernel.procs.get(self._pid)
        if proc is not None and proc.state in (State.IDLE, State.ZOMBIE):
            self._rested.set()

    async def ask(self, probe: Probe) -> Emitted:
        """What a fresh process answers. Raises BadInput if the model cannot be run."""
        self._number += 1
        self._cpu.begin({"op": "search", "query": probe.query} if probe.query else None)
        self._pid = 0
        answer = await self._machine.requests.spawn(Spec(f"probe{self._number}", self._mask))
        if answer.refused is not None:
            raise answer.refused
        pid = answer.pid
        if probe.page:
            await self._machine.requests.file(pid, [probe.page])
        self._pid, self._rested = pid, trio.Event()
        await self._machine.requests.message(pid, "", probe.say)
        await self._rested.wait()
        if self._cpu.heard is None:
            raise BadInput(f"{self._cpu.model}: no answer to {probe.say!r}: {self._machine.kernel.procs[pid].status}")
        return self._cpu.heard


Answered = Callable[[Session, Kind, Probe, Emitted], None]


async def _ask(
    path: Path, chosen: Manner, asked: Iterable[tuple[Kind, Probe]], changes: Sequence[str], answered: Answered
) -> None:
    settings = [*OWN, *changes, f"cpu.encoding={chosen.encoding}", f"cpu.manual={chosen.manual}"]
    cpu = GuidedCpu(LlamaCpu(path, apply(Settings(), settings).cpu), chosen.encoding)
    with tempfile.TemporaryDirectory(prefix="llmos-profile-") as folder:
        async with powered(Path(folder), model=str(path), cpu=cpu, window=WINDOW, changes=settings) as machine:
            session = Session(machine, cpu)
            for kind, probe in asked:
                answered(session, kind, probe, await session.ask(probe))


def ask(
    path: Path, chosen: Manner, asked: Iterable[tuple[Kind, Probe]], changes: Sequence[str], answered: Answered
) -> None:
    """Put probes to the model at `path`, in one manner; `answered` hears of each at once. Raises BadInput."""
    trio.run(_ask, path, chosen, asked, changes, answered)
