"""What llmos is compared with, on the same conversations: other machines, and what no machine can have.

llmos   the machine as it is set
window  nothing is brought back: the last messages that fit
memgpt  MemGPT's layout: half the queue leaves at once, nothing is brought in, the model itself may search
oracle  a process of its own for each question, with the evidence in the recall block and nothing else
full    the whole conversation in a window that holds it, each question asked of a fork
Not here: the machine (live.py), the figures (run.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import msgspec

from bench.memory import live
from bench.memory.live import ASKED_AFTER_S, NAME, Asked, Clock, Spent
from bench.memory.shown import Evidence
from bench.memory.talk import Conversation, Question
from bench.memory.voiced import VoicedCpu
from bench.sized import Sizes
from kernel.errors import BadInput
from kernel.limits import NS
from kernel.memory.measure import Visible
from kernel.memory.page import Area, Kind, Origin, Page, Role
from kernel.memory.pager import reply_max
from kernel.memory.prompt import Layout
from kernel.ports import Cpu, Job
from kernel.process import State
from kernel.settings import Settings, apply

SPEAK: Final = ("send_message",)
SEARCH: Final = ("send_message", "search")
UNPAGED: Final = ("memory.fault=false", "memory.recall=0")
CHANGES: Final[dict[str, tuple[str, ...]]] = {
    "llmos": (),
    "window": UNPAGED,
    "memgpt": ("memory.low=0.5", *UNPAGED),
    "oracle": (),
    "full": (*UNPAGED, "memory.data=0"),
}
ROWS: Final = tuple(CHANGES)
# A power cut is not measured here, and one process runs at a time: in its own prompt, or asked apart.
BASE: Final = ("disk.sync=off", "cpu.slots=1", "cpu.seats=2")
TEXT_TOKENS: Final = 512  # of the manual and the system instructions, at most


class Heard(msgspec.Struct):
    """What became of one conversation in one row. `why` it was not asked, if it was not."""

    asked: list[Asked]
    spent: Spent
    why: str = ""


class Processor(Protocol):
    """Makes the CPU that is asked, anew for each machine."""

    def __call__(self, settings: Settings) -> Cpu:
        """A CPU with these settings."""
        ...


class Bench(msgspec.Struct, frozen=True):
    """What all rows have in common. `model`: makes the CPU that answers; None for the script.

    `progress` is called after each question.
    """

    sizes: Sizes
    model: Processor | None
    window: int
    changes: tuple[str, ...]
    progress: Callable[[str], None]

    def settings(self, row: str) -> list[str]:
        """The changes of a row: those that were given, then its own."""
        return [*BASE, *self.changes, *CHANGES[row]]


async def hear(bench: Bench, row: str, talk: Conversation, questions: list[Question]) -> Heard:
    """Tell a conversation and ask `questions` in their order, by one row's machine."""
    with tempfile.TemporaryDirectory(prefix="llmos-memory-") as folder:
        if row == "oracle":
            return await _oracle(bench, Path(folder), talk, questions)
        if row == "full":
            return await _full(bench, Path(folder), talk, questions)
        return await _paged(bench, row, Path(folder), bench.window, bench.settings(row), talk, questions)


async def _paged(
    bench: Bench, row: str, folder: Path, window: int, changes: list[str], talk: Conversation, questions: list[Question]
) -> Heard:
    """One process is told and asked. With a model the machine is booted again between, for the model to answer."""
    mask, clock = SEARCH if row == "memgpt" else SPEAK, Clock(talk.messages[0].at)
    settings = apply(Settings(window=window), changes)
    cpu, script = live.scripted(bench.sizes, settings.cpu.encoding, row == "memgpt")
    threads = settings.memory.reflect or settings.memory.on_evict == "summary"
    told_by = VoicedCpu(cpu, bench.model(settings)) if threads and bench.model is not None else cpu
    async with live.session(folder, told_by, clock, window, changes, script=script) as session:
        pid = await session.spawn(NAME, mask)
        await session.tell(pid, talk, lambda line: bench.progress(f"{row}, {line}"))
        clock.reach(talk.messages[-1].at + ASKED_AFTER_S * NS)
        if bench.model is None:
            return await _questions(bench, row, session, pid, mask, talk, questions)
    told = session.told
    async with live.session(folder, bench.model(settings), clock, window, changes) as session:
        session.told = told
        return await _questions(bench, row, session, pid, mask, talk, questions)


async def _questions(
    bench: Bench,
    row: str,
    session: live.Session,
    pid: int,
    mask: tuple[str, ...],
    talk: Conversation,
    questions: list[Question],
) -> Heard:
    heard, kernel = Heard([], session.spent), session.machine.kernel
    for number, question in enumerate(questions, 1):
        one = pid
        if row == "full":
            one = (await session.machine.requests.fork(pid, f"question-{number}")).pid
        asked = await session.ask(one, question, session.evidence(talk, question), last=row == "memgpt")
        heard.asked.append(msgspec.structs.replace(asked, older=session.older(talk, question)))
        if row == "full" and kernel.procs[one].state is not State.ZOMBIE:
            await session.machine.requests.kill(one)
        elif kernel.procs[one].state is State.ZOMBIE and one == pid:
            await session.spawn(NAME, mask)  # with its memory
        bench.progress(f"{row}, {talk.name}: {number} of {len(questions)} questions")
    return heard


async def _full(bench: Bench, folder: Path, talk: Conversation, questions: list[Question]) -> Heard:
    layout = Layout(bench.sizes.frame, bench.sizes.tokenize, bench.sizes.measure_id())

    def size(text: str) -> int:  # a page may be cut in two at every 512 tokens
        tokens = len(layout.tokenize(text))
        return tokens + (1 + tokens // 256) * (layout.costs.role[Role.USER] + 2)

    reply = reply_max(apply(Settings(window=bench.window), bench.settings("full")))
    told = sum(size(message.text) for message in talk.messages)
    needed = told + TEXT_TOKENS + max(size(question.text) for question in questions) + reply
    if needed > bench.sizes.window_max:
        why = f"{talk.name} needs a window of {needed} tokens, {bench.sizes.model} sees {bench.sizes.window_max}"
        return Heard([], Spent(), why)
    window, changes = max(needed, bench.window), [*bench.settings("full"), f"cpu.reply={reply}"]
    return await _paged(bench, "full", folder, window, changes, talk, questions)


async def _oracle(bench: Bench, folder: Path, talk: Conversation, questions: list[Question]) -> Heard:
    """The evidence is put into the job of each question, as demand paging would have placed it."""
    layout = Layout(bench.sizes.frame, bench.sizes.tokenize, bench.sizes.measure_id())
    pages = {message.id: (FAR + at, message.text) for at, message in enumerate(talk.messages)}
    wanted: list[Evidence] = []
    placed = Spent()

    def change(job: Job) -> Job:
        bare = len(job.prompt)
        block = [_recalled(number, text, layout) for one in wanted for number, text in one.pages]
        while block:  # ends: one goes in each round
            user = next(at for at, page in enumerate(job.pages) if page.role is Role.USER)
            shown = (*job.pages[:user], *block, *job.pages[user:])
            prompt = layout.render(shown)
            if len(prompt) + job.reply <= job.window:
                placed.recalled = len(prompt) - bare
                return msgspec.structs.replace(job, pages=shown, prompt=prompt)
            block.pop()
        return job

    clock, changes = Clock(talk.messages[-1].at + ASKED_AFTER_S * NS), bench.settings("oracle")
    settings = apply(Settings(window=bench.window), changes)
    script = None
    if bench.model is None:
        cpu: Cpu
        cpu, script = live.scripted(bench.sizes, settings.cpu.encoding, False)
    else:
        cpu = bench.model(settings)
    async with live.session(folder, cpu, clock, bench.window, changes, script=script, change=change) as session:
        session.told = {name: (page,) for name, page in pages.items()}
        heard = Heard([], session.spent)
        for number, question in enumerate(questions, 1):
            pid = await session.spawn(f"question-{number}", SPEAK)
            wanted[:] = session.evidence(talk, question)
            placed.recalled = 0
            asked = await session.ask(pid, question, tuple(wanted), last=False)
            session.spent.recalled += placed.recalled
            heard.asked.append(msgspec.structs.replace(asked, recalled=placed.recalled))
            if session.machine.kernel.procs[pid].state is not State.ZOMBIE:
                await session.machine.requests.kill(pid)
            bench.progress(f"oracle, {talk.name}: {number} of {len(questions)} questions")
    return heard


FAR: Final = 1 << 40  # page numbers that no machine of a bench comes to


def _recalled(number: int, text: str, layout: Layout) -> Visible:
    page = Page(number, 0, 0, Kind.MESSAGE, Origin.USER, Role.USER, Area.RECALL, 0, text)
    return Visible(page, Role.USER, layout.tokenize(text), recalled=True)


def known(names: str) -> tuple[str, ...]:
    """The rows of a list with commas, or all. Raises BadInput for one that is none."""
    found = ROWS if names == "all" else tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    wrong = [name for name in found if name not in CHANGES]
    if wrong or not found:
        raise BadInput(f"--rows {names}: rows are {', '.join(ROWS)}, or all")
    return found
