"""What a long conversation makes a CPU evaluate: 200 turns with core-memory edits and questions, by two layouts.

The whole machine runs: pages, evictions, demand faults, index. Only the model does not: its tokens are the real ones,
its replies and edits come from a file, and what it would have to evaluate is counted by the longest common prefix, as
its KV cache keeps it (the demo counts the same with a model that runs: docs/numbers.md). MemGPT's layout is followed
beside it on the same texts, ids and recalled pages: core memory stands in the head and is rewritten there, search
results stay in the queue, and a full queue is flushed by half into a summary. Evidence counts as resident where the
statement that answers a question is in the prompt of its answer.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import trio

from bench.sized import SizedCpu
from drivers.cpu.kv.seats import common
from drivers.cpu.llama.engine import LlamaCpu
from kernel.event import Message
from kernel.machine import views
from kernel.memory.page import Role
from kernel.ports import Job
from kernel.spec import Spec
from llmos.demo.talk import conversation
from llmos.init import powered

REPLIES: Final = Path(__file__).with_name("replies.txt")
EDIT_EVERY: Final = 10  # turns
ASK_FROM, ASK_EVERY = 60, 5
FACTS: Final = 25  # each is asked for once
KEPT_NOTES: Final = 4  # before the oldest is taken out
SUMMARY: Final = "Earlier messages were moved out of the window; the search function finds them."


class Layout(msgspec.Struct):
    """What one layout made the CPU evaluate, in tokens."""

    prefill_per_new_token: float
    recalled_per_turn: float
    resident: float  # share of questions whose evidence was in view
    prefill: int
    evictions: int


class Turned(msgspec.Struct):
    """The same conversation, twice."""

    turns: int
    edits: int
    questions: int
    entered: int
    emitted: int
    ours: Layout
    memgpt: Layout


class _MemGpt:
    """The prompt of MemGPT's layout, and what it costs: system and core memory, then the queue with all that came."""

    def __init__(self, model: LlamaCpu, system: tuple[int, ...], window: int, reply: int) -> None:
        self._model, self._system, self._room = model, system, window - reply
        self._core: list[str] = []
        self._queue: list[tuple[int, ...]] = []
        self._summary: tuple[int, ...] = ()
        self._kv: list[int] = []
        self._shown: list[str] = []  # the texts of the queue, in its order
        self.prefill = self.evictions = self.evidence = self.recalled = 0

    def add(self, role: Role, text: str, ids: Sequence[int] | None = None) -> None:
        """A message enters the queue."""
        frame = self._model.frame
        body = self._model.tokenize(text) if ids is None else tuple(ids)
        self._queue.append((*frame.prefix[role], *body, *frame.suffix[role]))
        self._shown.append(text)

    def edit(self, notes: Sequence[str]) -> None:
        """Core memory is another now."""
        self._core = list(notes)

    def run(self, emitted: int) -> None:
        """One call of the model, which emits so many tokens."""
        head = (*self._system, *self._model.tokenize("\n".join(self._core)))
        fixed = len(head) + len(self._model.frame.generate) + len(self._summary)
        if fixed + sum(map(len, self._queue)) > self._room:
            half, gone = sum(map(len, self._queue)) // 2, 0
            while gone < half:  # ends: the oldest goes in each pass
                gone += len(self._queue.pop(0))
                self._shown.pop(0)
                self.evictions += 1
            frame = self._model.frame
            said = self._model.tokenize(f"{SUMMARY} ({self.evictions})")
            self._summary = (*frame.prefix[Role.SYSTEM], *said, *frame.suffix[Role.SYSTEM])
        flat = [token for one in self._queue for token in one]
        prompt = [*head, *self._summary, *flat, *self._model.frame.generate]
        self.prefill += len(prompt) - min(common(self._kv, prompt), len(prompt) - 1)
        self._kv = prompt + [-1] * emitted  # what it emitted is evaluated; as a page it stands in another frame

    def has(self, text: str) -> bool:
        """Whether a text is in view."""
        return any(text in one for one in self._shown)


class _Program:
    """What the process says: the instructions of the present turn, one after the other."""

    def __init__(self) -> None:
        self.todo: list[str] = []
        self.jobs: list[Job] = []

    def __call__(self, job: Job) -> str:
        self.jobs.append(job)
        return self.todo.pop(0) if self.todo else "Yes."


async def _converse(model: LlamaCpu, seed: int, turns: int, window: int, changes: list[str]) -> Turned:
    replies = REPLIES.read_text().splitlines()
    talk = conversation(seed, facts=FACTS, tokens=100 * turns, count=lambda text: len(model.tokenize(text)))
    said, told = list(talk.turns), set[int]()
    program, notes = _Program(), list[str]()
    beside: _MemGpt | None = None
    edits = asked = seen = 0
    mask = ("send_message", "core_append", "core_replace")
    with tempfile.TemporaryDirectory(prefix="llmos-bench-") as folder:
        changed = ["cpu.reply=128", *changes]
        cpu = SizedCpu(model, program, "prose")
        async with powered(Path(folder), cpu=cpu, window=window, changes=changed) as machine:
            pid = (await machine.requests.spawn(Spec("talk", mask, blocks={"notes": ""}))).pid
            async with machine.feed.subscribe(-1) as published:
                for turn in range(turns):
                    question = None
                    if turn >= ASK_FROM and turn % ASK_EVERY == 0:
                        question = next((one for one in talk.questions if one.fact in told), None)
                    if question is not None:
                        told.remove(question.fact)
                        asked += 1
                        text = question.text
                    else:
                        one = said.pop(0)
                        text = one.text
                        told |= set() if one.fact is None else {one.fact}
                    program.todo, program.jobs = [replies[turn % len(replies)]], []
                    if turn % EDIT_EVERY == EDIT_EVERY - 1:
                        edits += 1
                        note = f"Turn {turn}: the user spoke of {text.split('.')[0].lower()[:40]}.".replace('"', "'")
                        program.todo.insert(0, f'!{{"op":"core_append","block":"notes","text":"{note}"}}')
                        notes.append(note)
                        if len(notes) > KEPT_NOTES:
                            old = notes.pop(0)
                            call = f'!{{"op":"core_replace","block":"notes","old":"{old}","new":""}}'
                            program.todo.insert(0, call)
                    calls = list(program.todo)
                    await machine.requests.message(pid, f"t{turn}", text)
                    async for item in published:  # ends with the reply
                        if isinstance(item, Message) and item.ends:
                            break
                    first = program.jobs[0]
                    if beside is None:
                        system = [page for page in first.pages if page.role is Role.SYSTEM][0]
                        before, after = model.frame.around([Role.SYSTEM], generate=False)
                        head = (*before, *system.ids, *after)
                        beside = _MemGpt(model, head, window, 128)
                    beside.add(Role.USER, text)
                    for page in first.pages:
                        if page.recalled and not beside.has(page.text):
                            beside.add(Role.SYSTEM, page.text, page.ids)
                            beside.recalled += len(page.ids)
                    for n, call in enumerate(calls):
                        beside.run(len(model.tokenize(call)))
                        beside.add(Role.ASSISTANT, call)
                        if n + 1 < len(calls):
                            beside.add(Role.SYSTEM, '{"status": "OK"}')
                            beside.edit(notes)
                    if question:
                        seen += any(question.statement in page.text for page in first.pages)
                        beside.evidence += beside.has(question.statement)
            (view,) = views.processes(machine.kernel)
    assert beside is not None
    new = view.accounts.entered + view.accounts.emitted
    return Turned(
        turns,
        edits,
        asked,
        view.accounts.entered,
        view.accounts.emitted,
        Layout(
            round((view.accounts.prefill - view.accounts.recalled) / new, 3),
            round(view.accounts.recalled / turns, 1),
            round(seen / asked, 3),
            view.accounts.prefill,
            view.accounts.evictions,
        ),
        Layout(
            round((beside.prefill - beside.recalled) / new, 3),
            round(beside.recalled / turns, 1),
            round(beside.evidence / asked, 3),
            beside.prefill,
            beside.evictions,
        ),
    )


def converse(model: Path, seed: int, turns: int = 200, window: int = 2_048, changes: Sequence[str] = ()) -> Turned:
    """A conversation on the vocabulary of a model. Raises BadInput if the model cannot be loaded."""
    cpu = LlamaCpu(model)
    try:
        return trio.run(_converse, cpu, seed, turns, window, list(changes))
    finally:
        cpu.close()
