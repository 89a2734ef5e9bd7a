"""The demo: ten facts told in a long conversation, evicted, and asked for in other words, on a real model.

The counts are defined in `llmos demo --help`. Everything goes through the whole machine: a process on a GGUF, LMDB, the
indexes, demand paging. `--no-paging` is the control: the same machine with the same budgets and the same policy, which
brings nothing back; its evictions fall at the same points as far as the model's replies have the same lengths.
Guarantee: no question is asked before every fact has left the window.
Not here: what is told and asked (talk.py), which reply is right (grading.py).
"""

from __future__ import annotations

import functools
import json
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import trio

from kernel.event import Message, What
from kernel.machine import views
from kernel.machine.loop import Machine
from kernel.machine.views import Entry
from kernel.spec import Spec
from llmos.commands.output import print_table, show
from llmos.demo.grading import right
from llmos.demo.talk import Question, conversation
from llmos.init import powered
from llmos.tables import Styled

TOLD_TOKENS = 6_000  # of conversation before the first question, replies included
REPLY_TOKENS = 60
NAME = "demo"
Tell = Callable[..., None]  # shows a line, as output.show does


class Asked(msgspec.Struct, frozen=True):
    """One question and what became of it."""

    question: str
    gold: str
    reply: str
    resident: bool
    right: bool
    faults: int


class Outcome(msgspec.Struct, frozen=True):
    """The demo's JSON."""

    asked: int
    resident: int
    recalled_right: int
    faults: int
    evictions: int
    interrupts: int
    entered: int
    recalled: int
    emitted: int
    prefill: int
    window: int
    max_kv_tokens: int
    budgets: dict[str, int]
    seconds: float
    seed: int
    model: str
    paging: bool
    settings: list[str]  # other than the demo's own
    prefill_per_new_token: float
    recalled_per_turn_max: int
    turns: int


class _Session:
    """The user's end of the conversation: says something, waits for the reply, shows the kernel's events."""

    def __init__(self, machine: Machine, pid: int, published: AsyncIterator[object], tell: Tell) -> None:
        self.machine, self.pid, self.published, self.tell = machine, pid, published, tell
        self.said = 0
        self.faulted: set[int] = set()
        self.recalled_max = 0

    async def say(self, text: str) -> tuple[Message, int]:
        """The final reply, and the number of the first page that `text` became."""
        self.said += 1
        self.faulted.clear()
        self.tell(Styled("you  ", "1;36"), text)
        mid = f"demo-{self.said}"
        await self.machine.requests.message(self.pid, mid, text)
        page = views.message_page(self.machine.disk, mid)
        async for item in self.published:  # ends with the reply
            if isinstance(item, Entry):
                self._show(item)
            elif isinstance(item, Message) and mid in item.answers and item.ends:
                self.tell(Styled("llm  ", "1;32"), item.text)
                await self.machine.requests.acknowledge(self.pid, item.seq)
                return item, page
        raise AssertionError("the machine stopped in the middle of the demo")

    def _show(self, entry: Entry) -> None:
        for note in entry.notes:
            if note.what is What.FAULT:
                self.faulted.update(note.pages)
                self.recalled_max = max(self.recalled_max, note.tokens)
                self.tell(Styled(f"     · fault: {len(note.pages)} pages, {note.tokens} tokens brought in", "2"))
            elif note.what is What.EVICT:
                self.tell(Styled(f"     · evict: {len(note.pages)} pages, {note.tokens} tokens", "2"))
            elif note.what is What.INTERRUPT and note.line is not None:
                self.tell(Styled(f"     · interrupt: {note.line.name}", "2"))


async def play(
    model: str | None, cpu: str, seed: int, window: int, changes: list[str], tell: Tell, directory: Path
) -> tuple[Outcome, list[Asked]]:
    """The whole conversation on a machine of its own in `directory`."""
    began = time.perf_counter()
    settings = [f"cpu.reply={REPLY_TOKENS}", *changes]
    async with powered(directory, model=model, cpu=cpu, window=window, changes=settings) as machine:
        pid = (await machine.requests.spawn(Spec(NAME, ("send_message",)))).pid
        async with machine.feed.subscribe(-1) as published:
            session = _Session(machine, pid, published, tell)
            facts = await _tell(machine, session, seed)
            asked = [await _ask(session, question, facts) for question in facts.questions]
        view = views.process(machine.kernel, pid)
        outcome = Outcome(
            asked=len(asked),
            resident=sum(one.resident for one in asked),
            recalled_right=sum(one.right for one in asked),
            faults=view.accounts.faults,
            evictions=view.accounts.evictions,
            interrupts=view.accounts.interrupts,
            entered=view.accounts.entered,
            recalled=view.accounts.recalled,
            emitted=view.accounts.emitted,
            prefill=view.accounts.prefill,
            window=window,
            max_kv_tokens=view.accounts.kv,
            budgets=views.pmap(machine.kernel, pid).budgets,
            seconds=round(time.perf_counter() - began, 1),
            seed=seed,
            model=machine.kernel.models[""].title,
            paging=machine.settings.memory.fault,
            settings=changes,
            prefill_per_new_token=round(
                (view.accounts.prefill - view.accounts.recalled) / (view.accounts.entered + view.accounts.emitted), 3
            ),
            recalled_per_turn_max=session.recalled_max,
            turns=view.accounts.turns,
        )
    return outcome, asked


class _Facts(msgspec.Struct):
    """What was told: the questions to ask, and the page of each fact's statement."""

    questions: tuple[Question, ...]
    pages: dict[int, int]


async def _tell(machine: Machine, session: _Session, seed: int) -> _Facts:
    """Tell the conversation until it has its tokens and every fact has been evicted."""
    talk = conversation(seed, tokens=TOLD_TOKENS, count=lambda text: len(machine.cpus.layouts[""].tokenize(text)))
    facts = _Facts(talk.questions, {})
    for number, turn in enumerate(talk.turns):
        _, page = await session.say(turn.text)
        if turn.fact is not None:
            facts.pages[turn.fact] = page
        view = views.process(machine.kernel, session.pid)
        if number + 1 >= talk.told and view.accounts.entered + view.accounts.emitted >= TOLD_TOKENS:
            gone = not set(facts.pages.values()) & views.resident(machine.kernel, session.pid)
            if gone:
                break
    else:
        raise AssertionError("the talk ended before every fact was evicted")
    return facts


async def _ask(session: _Session, question: Question, facts: _Facts) -> Asked:
    before = views.resident(session.machine.kernel, session.pid)
    reply, _ = await session.say(question.text)
    page = facts.pages[question.fact]
    asked = Asked(
        question.text,
        " ".join(question.gold),
        reply.text,
        page in session.faulted or page in before,
        right(question, reply.text),
        len(session.faulted),
    )
    session.tell(Styled(f"     · {'right' if asked.right else 'wrong'}: {asked.gold}", "2"))
    return asked


def run(
    model: str | None, cpu: str, seed: int, window: int, changes: list[str], keep: Path | None, as_json: bool
) -> None:
    """`llmos demo`: play and print; the transcript goes to stderr where stdout carries JSON."""
    tell = functools.partial(show, error=as_json, flush=True)
    with tempfile.TemporaryDirectory(prefix="llmos-demo-") as folder:
        outcome, asked = trio.run(play, model, cpu, seed, window, changes, tell, keep or Path(folder))
    if as_json:
        show(json.dumps(msgspec.to_builtins(outcome)))
        return
    table(outcome, asked)


def table(outcome: Outcome, asked: list[Asked]) -> None:
    """Print the end of the demo: a table, and what it took."""
    title = f"{outcome.model}, seed {outcome.seed}, window {outcome.window}" + ("" if outcome.paging else ", no paging")
    names = ("question", "gold", "in context", "right", "pages faulted")
    rows = [
        (one.question, one.gold, "yes" if one.resident else "no", "yes" if one.right else "no", str(one.faults))
        for one in asked
    ]
    sums = (f"{outcome.resident}/{outcome.asked}", f"{outcome.recalled_right}/{outcome.asked}", str(outcome.faults))
    print_table(names, [*rows, ("all", "", *sums)], left=names, title=title)
    show(
        f"{outcome.entered} tokens entered, {outcome.emitted} emitted, {outcome.recalled} recalled, "
        f"{outcome.prefill} prefilled; {outcome.evictions} pages evicted; KV at most {outcome.max_kv_tokens}; "
        f"{outcome.seconds:.0f} s"
    )
