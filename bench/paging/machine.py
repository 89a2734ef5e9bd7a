"""Live cells: the kernel itself, told and asked in virtual time as `llmos bench memory` tells and asks a live machine.

Candidates, their order, gate, budgets, evictions and what they leave are the kernel's own, and so are the index, the
prompts and the sizes; a disk in memory and an index that answers at once stand for LMDB and the index's process. So
what is in view is that of a live machine, turn by turn, and any policy may run that has the five verbs.
What a reply drew on is known here: the evidence that stood in view.
Not here: what counts as in view (bench/memory/shown.py), the simulated pagers (simulator.py).
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.inline import InlineIndex
from bench.memory import live, rows
from bench.memory.live import ASKED_AFTER_S, ASKED_EVERY_S, NAME, Asked, Spent
from bench.memory.shown import Evidence, shown
from bench.memory.talk import Conversation, Message, Question
from bench.memory.watched import WatchedCpu
from bench.paging import field
from bench.paging.simulator import KEEP, Counts
from bench.paging.trace import GENERATED
from bench.sized import Sizes
from drivers.disk.memory import MemoryDisk
from drivers.embed.wordllama import WordLlamaEmbedder
from drivers.index.ranking import Embedder
from kernel.event import Acked, AnyEvent, Messaged, Spawned
from kernel.limits import NS
from kernel.machine import views
from kernel.machine.virtual import VirtualMachine
from kernel.memory.page import Kind
from kernel.memory.policy import lookup
from kernel.ports import Job
from kernel.settings import Settings, apply
from kernel.spec import Spec
from kernel.state import Step
from llmos.init import embedding_model
from llmos.policies import is_own


class Setup(msgspec.Struct, frozen=True):
    """A machine as it is set, but for its policy: whose sizes it counts by, its window, and changes of its settings."""

    sizes: Sizes
    window: int
    changes: tuple[str, ...] = ()

    def settings(self, policy: str) -> Settings:
        """With a policy, where a machine may have it. Raises BadInput for a change that is none."""
        own = (f"memory.policy={policy}",) if _settable(policy) else ()
        return apply(Settings(window=self.window), [*rows.BASE, *self.changes, *own])


def _settable(policy: str) -> bool:
    """Whether a policy can be a setting of any machine's."""
    return lookup(policy) is not None and not is_own(policy)


class Drawn:
    """Which pages in view a reply draws on: of each message that the question rests on, if it is in view."""

    def __init__(self) -> None:
        self.wanted: tuple[Evidence, ...] = ()

    def __call__(self, job: Job) -> tuple[int, ...]:
        visible = tuple(live.seen(job))
        pages = {page for one in self.wanted if shown(one, visible) for page, _ in one.pages}
        return tuple(dict.fromkeys(one.page for one in visible if one.page in pages))


class Machine:
    """One process on a machine in virtual time. Use it as a context manager."""

    def __init__(self, setup: Setup, policy: str, seed: int, at: int) -> None:
        """Raises BadInput for a window that is too small, and for an unknown policy."""
        settings = setup.settings(policy)
        cpu, self._script = live.scripted(setup.sizes, settings.cpu.encoding, False)
        self.drawn, self.spent = Drawn(), Spent()
        self.cpu = WatchedCpu(cpu, drew=self.drawn)
        self.told: dict[str, tuple[tuple[int, str], ...]] = {}  # see live.Told
        self._made: tuple[tuple[int, str], ...] = ()
        self._folder = tempfile.TemporaryDirectory(prefix="llmos-live-")
        disk = MemoryDisk()
        self.index = InlineIndex(Path(self._folder.name), disk, _embedder(settings), settings.disk.exact_max)
        self.machine = VirtualMachine(start=at)
        self.machine.watch = self._watch
        table = live.Listening()
        try:
            self.machine.boot(table, self.cpu, disk, self.index, settings)
            spec = Spec(NAME, rows.SPEAK, system=table.system)
            self.pid = self.machine.do(Spawned(source="user", spec=spec)).pid
            self.proc = self.machine.kernel.procs[self.pid]
            if not _settable(policy):
                queue = self.machine.kernel.budgets(self.proc).queue
                self.machine.kernel.policies[self.pid] = field.make(policy, queue, seed)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the index and forget everything."""
        self.index.close()
        self._folder.cleanup()

    def _watch(self, event: AnyEvent, step: Step) -> None:
        if isinstance(event, Messaged):
            self._made = tuple((page.id, page.text) for page, _ in step.pages if page.kind is Kind.MESSAGE)

    def say(self, text: str, at: int) -> tuple[tuple[int, str], ...]:
        """Send a message at a time, and let happen what follows; the pages that it became."""
        self.machine.run(max(self.machine.now, at))
        self.cpu.jobs.clear()
        self.machine.do(self.machine.say(self.pid, text))
        made = self._made
        self.machine.run(self.machine.now + 1)
        return made

    def tell(self, message: Message) -> None:
        """Tell a message."""
        self.told[message.id] = self.say(message.text, message.at)

    def ask(self, talk: Conversation, question: Question, at: int) -> Asked:
        """Ask at a time; what was in the prompt."""
        self.drawn.wanted = live.evidence(self.told, talk, question)
        before = msgspec.structs.replace(self.proc.accounts)
        self._script.asked(question.text)
        self.say(question.text, at)
        said = views.outbox(self.machine.kernel, self.machine.disk, self.pid)
        if said:
            self.machine.do(Acked(source="user", pid=self.pid, upto=said[-1].seq))
        return live.asked(question, self.drawn.wanted, self.cpu.jobs, said, (before, self.proc.accounts), self.spent)

    def sizes(self, evidence: Evidence) -> int:
        """Tokens of a message."""
        return sum(self.machine.pages.sizes([page for page, _ in evidence.pages]))


def run(talk: Conversation, questions: Sequence[Question], setup: Setup, policy: str, seed: int) -> Counts:
    """Tell a conversation and ask `questions` in their order. Arrivals and prefill are those of the asking phase.

    While it is told nothing is searched for: what would be recalled is dropped when the process has said nothing. Of
    the last message it matters what of the prompt is in KV when the first question comes.
    """
    counts = Counts()
    with Machine(setup, policy, seed, talk.messages[0].at) as machine:
        for message in talk.messages:
            machine.index.silent = message is not talk.messages[-1]
            machine.tell(message)
        at = talk.messages[-1].at + ASKED_AFTER_S * NS
        for question in questions:
            at += ASKED_EVERY_S * NS
            asked = machine.ask(talk, question, at)
            hits = [shown(one, asked.visible) for one in asked.evidence]
            sizes = [machine.sizes(one) for one in asked.evidence]
            counts.references += len(hits)
            counts.faults += hits.count(False)
            counts.reference_tokens += sum(sizes)
            counts.fault_tokens += sum(size for size, hit in zip(sizes, hits, strict=True) if not hit)
            counts.questions += 1
            counts.complete += all(hits)
            counts.kept += KEEP * GENERATED * (machine.proc.space.used() + asked.recalled)
        spent = machine.spent
        counts.recalled, counts.arrived, counts.prefilled = spent.recalled, spent.new, spent.prefill - spent.recalled
        counts.evictions = machine.proc.accounts.evictions
    return counts


def _embedder(settings: Settings) -> Embedder:
    model = embedding_model(settings)
    if model is None:
        return _words()
    if not isinstance(model, Path):
        from drivers.embed.server import ServerEmbedder

        return ServerEmbedder(model)
    from drivers.embed.gguf import GgufEmbedder

    return GgufEmbedder(model)


@functools.cache
def _words() -> WordLlamaEmbedder:
    return WordLlamaEmbedder()
