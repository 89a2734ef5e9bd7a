"""One conversation on one machine: it is told, then it is asked, and what stood in each prompt is noted.

The machine is the whole one: LMDB, the index in its own process, demand faults. Its clock is the conversation's. While
it is told the process says nothing: a script yields, which the instruction set of that time takes though the mask that
the process is shown does not name it, and leaves no page. What is asked is answered by a model, or by a script with the
model's sizes.
Not here: which machines are compared (rows.py), what counts as in view (shown.py), what a reply is worth (grading.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import trio

from bench.memory.shown import Evidence, Seen
from bench.memory.talk import Conversation, Question, Reference
from bench.memory.voiced import VoicedCpu
from bench.memory.watched import WatchedCpu
from bench.sized import SizedCpu, Sizes
from kernel import turn
from kernel.event import AnyEvent, Message, Messaged, Searched
from kernel.limits import NS
from kernel.machine import views
from kernel.machine.clock import Sources
from kernel.machine.loop import Machine
from kernel.memory.page import Kind
from kernel.memory.times import day_of
from kernel.ports import Cpu, Job
from kernel.process import Accounts, Process, State
from kernel.spec import Spec
from kernel.state import Kernel, Step
from llmos.init import powered
from syscalls.abi import TRAP_MARK
from syscalls.table import Table

YIELD: Final = '{"op":"yield"}'
ANSWER: Final = "All right."  # of a script
ASKED_AFTER_S: Final = 86_400  # from the last message to the first question
ASKED_EVERY_S: Final = 60
KEPT_TOKENS: Final = 1 << 30  # in the KV of a script: those who were asked do not push out who is forked next
NAME: Final = "main"
HIT: Final = re.compile(r" \(page (\d+), (?:user|you|note), \d{4}-\d\d-\d\d\)(?:\n|$)")  # the end of a line of results
CUT: Final = re.compile(r"\s?\S*\s\.\.\.$")  # where a result was cut off, with the word that was


class Asked(msgspec.Struct, frozen=True):
    """A question and what became of it. `recalled`: tokens that were brought in or found for it.

    `older`: the messages that said what is outdated.
    """

    question: Question
    evidence: tuple[Evidence, ...]
    visible: tuple[Seen, ...]
    reply: str
    recalled: int
    older: tuple[Evidence, ...] = ()


class Spent(msgspec.Struct):
    """Tokens of the asking phase."""

    prefill: int = 0
    recalled: int = 0
    new: int = 0  # entered or emitted
    late: int = 0  # searches that missed their deadline: less was brought in than would have been

    def add(self, before: Accounts, after: Accounts, found: int) -> None:
        """What a process spent between two looks; `found` tokens came by its own searches."""
        self.prefill += after.prefill - before.prefill
        self.recalled += after.recalled - before.recalled + found
        self.new += after.entered + after.emitted - before.entered - before.emitted


class Clock:
    """The machine's: it says what it was set to, and does not go back."""

    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def reach(self, at: int) -> None:
        """It is `at` now, or later."""
        self.now = max(self.now, at)


class Listening(Table):
    """The instruction set while a conversation is told: a `yield` ends the turn whatever the mask, without a page."""

    def execute(self, kernel: Kernel, proc: Process, text: str, encoding: str, truncated: bool) -> None:
        """See InstructionSet."""
        if text == YIELD:
            kernel.draft.emission = None
            turn.rest(kernel, proc)
        else:
            super().execute(kernel, proc, text, encoding, truncated)


class Script:
    """What the process says where no model does: nothing while it is told, and then an answer, perhaps after a search.

    It searches for the question as it stands.
    """

    def __init__(self, encoding: str, searches: bool) -> None:
        self.encoding, self.searches = encoding, searches
        self._todo: list[str] | None = None

    def asked(self, question: str) -> None:
        """The next turn is this question's."""
        self._todo = [self._call("search", query=question[:2_000])] if self.searches else []

    def __call__(self, job: Job) -> str:
        if self._todo is None:
            return YIELD
        if self._todo:
            return self._todo.pop(0)
        return ANSWER if self.encoding == "prose" else self._call("send_message", text=ANSWER)

    def _call(self, op: str, **fields: str) -> str:
        mark = TRAP_MARK if self.encoding == "prose" else ""
        return mark + json.dumps({"op": op, **fields}, separators=(",", ":"), ensure_ascii=False)


class Session:
    """A machine, who is spoken to on it, and what is noted."""

    def __init__(self, machine: Machine, cpu: WatchedCpu, clock: Clock, script: Script | None) -> None:
        self.machine, self.cpu, self.clock, self.script = machine, cpu, clock, script
        self.told: dict[str, tuple[tuple[int, str], ...]] = {}  # see Told
        self.spent = Spent()
        self._made: tuple[tuple[int, str], ...] = ()
        self._spoken_to = self._late = 0
        self._rested, self._quiet = trio.Event(), trio.Event()
        machine.watch = self._watch

    def _watch(self, event: AnyEvent, step: Step) -> None:
        """Called after each commit, so what rests here has its reply on disk."""
        if isinstance(event, Messaged):
            self._made = tuple((page.id, page.text) for page, _ in step.pages if page.kind is Kind.MESSAGE)
        self._late += isinstance(event, Searched) and event.late
        proc = self.machine.kernel.procs.get(self._spoken_to)
        if proc is not None and proc.state in (State.IDLE, State.ZOMBIE):
            self._rested.set()
        if not self._busy():
            self._quiet.set()

    def _busy(self) -> bool:
        """Whether a thread of the kernel's has something to do, or does it."""
        procs, owing = self.machine.kernel.procs, self.machine.kernel.owing.values()
        living = any(procs[pid].state is not State.ZOMBIE for pids in owing for pid in pids)
        return living or any(procs[pid].in_turn for pid in self.machine.kernel.threads)

    async def quiet(self) -> None:
        """Wait until the kernel's threads have looked at all that has left."""
        self._quiet = trio.Event()
        if self._busy():
            await self._quiet.wait()

    async def spawn(self, name: str, mask: tuple[str, ...]) -> int:
        """A process of that name; a dead one lives again."""
        return (await self.machine.requests.spawn(Spec(name, mask))).pid

    async def say(self, pid: int, text: str, at: int) -> tuple[tuple[int, str], ...]:
        """Send a message at a time and wait until the process rests; the pages that it became."""
        self.clock.reach(at)
        self._spoken_to, self._rested = pid, trio.Event()
        await self.machine.requests.message(pid, "", text)
        made = self._made
        await self._rested.wait()
        return made

    async def tell(self, pid: int, talk: Conversation, progress: Callable[[str], None]) -> None:
        """Tell the whole conversation; between two days the kernel's threads have the time that they need."""
        day = 0
        for number, message in enumerate(talk.messages, 1):
            if day_of(message.at) != day:
                await self.quiet()
            day = day_of(message.at)
            self.told[message.id] = await self.say(pid, message.text, message.at)
            progress(f"{talk.name}: {number} of {len(talk.messages)} messages told")
        await self.quiet()

    def evidence(self, talk: Conversation, question: Question) -> tuple[Evidence, ...]:
        """The messages that a question rests on, as they were told."""
        return evidence(self.told, talk, question)

    def older(self, talk: Conversation, question: Question) -> tuple[Evidence, ...]:
        """The messages that said what is outdated, as they were told."""
        return rests(self.told, talk, question.older, question.wrong)

    async def ask(self, pid: int, question: Question, evidence: tuple[Evidence, ...], last: bool) -> Asked:
        """Ask, and note what was in the first prompt of the turn, or (`last`) in its last one."""
        proc = self.machine.kernel.procs[pid]
        before = msgspec.structs.replace(proc.accounts)
        self.cpu.jobs.clear()
        self._late = 0
        if self.script is not None:
            self.script.asked(question.text)
        await self.say(pid, question.text, self.clock.now + ASKED_EVERY_S * NS)
        said = views.outbox(self.machine.kernel, self.machine.disk, pid)
        if said:
            await self.machine.requests.acknowledge(pid, said[-1].seq)
        self.spent.late += self._late
        return asked(question, evidence, self.cpu.jobs, said, (before, proc.accounts), self.spent, last=last)


Told = Mapping[str, tuple[tuple[int, str], ...]]
"""By message, the pages that it became, with their texts."""


def evidence(told: Told, talk: Conversation, question: Question) -> tuple[Evidence, ...]:
    """The messages that a question rests on, as they were told."""
    return rests(told, talk, question.evidence, question.golds)


def rests(
    told: Told, talk: Conversation, references: Iterable[Reference], answers: tuple[str, ...]
) -> tuple[Evidence, ...]:
    """Messages as evidence of `answers`."""
    texts = {message.id: message.text for message in talk.messages}
    return tuple(Evidence(texts[one.message], told[one.message], one.source, answers) for one in references)


def asked(
    question: Question,
    evidence: tuple[Evidence, ...],
    jobs: Sequence[Job],
    said: Sequence[Message],
    accounts: tuple[Accounts, Accounts],
    spent: Spent,
    *,
    last: bool = False,
) -> Asked:
    """What became of a question: the jobs of its turn, what was replied, accounts before and after, added to `spent`.

    What is visible is so in the first prompt of the turn, or (`last`) in its last one.
    """
    found = _found(jobs[0], jobs[-1]) if jobs else 0
    spent.add(*accounts, found)
    visible = tuple(seen(jobs[-1 if last else 0])) if jobs else ()
    recalled = accounts[1].recalled - accounts[0].recalled + found
    return Asked(question, evidence, visible, "\n".join(one.text for one in said), recalled)


def seen(job: Job) -> Iterator[Seen]:
    """The texts of a job's prompt that may be evidence, by their pages; those of a fork by the pages they show."""
    for one in job.pages:
        page = one.page
        if page.kind is Kind.RESULT:
            yield from _quoted(page.text)
        elif page.kind is Kind.MESSAGE:
            yield Seen(page.of or page.id, page.text, "recall" if one.recalled else "queue")


def _quoted(result: str) -> Iterator[Seen]:
    """The hits that a page of results quotes."""
    at = result.find("\n") + 1
    for hit in HIT.finditer(result, at):
        yield Seen(int(hit[1]), CUT.sub("", result[at : hit.start()]), "search")
        at = hit.end()


def _found(first: Job, last: Job) -> int:
    """Tokens of results that came between two jobs of a turn."""
    before = {one.page.id for one in first.pages}
    return sum(len(one.ids) for one in last.pages if one.page.kind is Kind.RESULT and one.page.id not in before)


@asynccontextmanager
async def session(
    directory: Path,
    cpu: Cpu,
    clock: Clock,
    window: int,
    changes: Sequence[str],
    *,
    script: Script | None = None,
    change: Callable[[Job], Job] | None = None,
) -> AsyncIterator[Session]:
    """A machine on `directory` with its clock; with a `script` it may be told. Raises BadInput if it cannot boot."""
    watched = WatchedCpu(cpu, change)
    table = Table() if script is None else Listening()
    async with powered(
        directory,
        model=cpu.model,
        window=window,
        cpu=watched,
        changes=list(changes),
        clock=Sources(clock, clock),
        table=table,
    ) as machine:
        if isinstance(cpu, VoicedCpu):
            cpu.thread = lambda pid: bool(machine.kernel.procs[pid].thread)
        yield Session(machine, watched, clock, script)


def scripted(sizes: Sizes, encoding: str, searches: bool) -> tuple[SizedCpu, Script]:
    """A CPU with the sizes of a model that says what a script does; `encoding` as the machine's settings have it."""
    script = Script(sizes.encoding if encoding == "auto" else encoding, searches)
    return SizedCpu(sizes, script, script.encoding, KEPT_TOKENS), script
