"""A question about documents, asked of a process that has them: an answer with its places, or that they do not say.

A demand fault brings in what the question asks for, and that alone is what an answer may rest on. That the documents
do not say is said where the question has a name or a number that stands nowhere in them, where nothing that is found
is likely enough (kernel/memory/recall.py), where the model says so, and where its answer has a name or number that
stands neither in the question nor in what was brought in that is about it: what has the question's names, if
something has, and of that what is headed most like the question. What is cited is what of this the answer shares the
most words with.
Not here: the command (llmos/commands/documents.py), a question about the whole of documents (whole.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec
import trio

from kernel.event import AnyEvent, Messaged, Searched
from kernel.machine import views
from kernel.machine.loop import Machine
from kernel.memory.page import FilePage
from kernel.memory.words import terms, words
from kernel.process import State
from kernel.spec import Spec
from kernel.state import Step
from llmos.documents.put import requests as parts
from llmos.documents.read import Read

UNSAID: Final = "The documents do not say."
SYSTEM: Final = f"Answer in one short sentence from what the files say. If they do not say it, answer: {UNSAID}"
NAME: Final = "ask"
INDEX_S: Final = 0.05  # between two looks whether all is indexed
_DENIES: Final = ("do not say", "does not say", "don't say", "not mentioned", "not stated", "no information")


class Place(msgspec.Struct, frozen=True):
    """Where something stands: lines, or pages where `paged`."""

    path: str
    first: int
    last: int
    paged: bool
    headings: tuple[str, ...]
    text: str

    @property
    def where(self) -> str:
        """As a person reads it."""
        span = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        under = f"  ({' / '.join(self.headings)})" if self.headings else ""
        return f"{self.path}, page {span}{under}" if self.paged else f"{self.path}:{span}{under}"


class Answered(msgspec.Struct, frozen=True):
    """What became of a question. `said`: the documents say it; else `why` it is thought that they do not.

    `places`: what the answer rests on, the likeliest first; `seen`: all that was brought in for it.
    """

    text: str
    said: bool
    why: str
    places: tuple[Place, ...]
    seen: tuple[Place, ...]
    score: float


class Asker:
    """Asks questions of one process of a machine that nobody else uses."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._pid = 0
        self._rested = trio.Event()
        self._known: set[str] = set()  # words of the documents
        self._score = 0.0
        self._recalled: list[tuple[int, int, int]] = []
        machine.watch = self._watch

    def _watch(self, event: AnyEvent, step: Step) -> None:
        """After each commit: what was brought in for the question, and whether the process rests."""
        proc = self._machine.kernel.procs.get(self._pid)
        if proc is None:
            return
        if isinstance(event, Messaged):
            self._score, self._recalled = 0.0, []
        if isinstance(event, Searched) and event.pid == self._pid:
            self._score = max((hit.score for hit in event.hits), default=0.0)
            self._recalled = [(one.page, one.start, one.end) for one in proc.space.recall]
        if proc.state in (State.IDLE, State.ZOMBIE):
            self._rested.set()

    async def begin(self, documents: Sequence[Read], tell: Callable[[str], None] = lambda _: None) -> None:
        """Make the process, put documents into its archive, and wait until they can be found, or the index fails.

        `tell` is given a line of progress a part.
        """
        requests, index, kernel = self._machine.requests, self._machine.index, self._machine.kernel
        made = await requests.spawn(Spec(NAME, ("send_message",), system=SYSTEM))
        if made.refused is not None:
            raise made.refused
        self._pid = made.pid
        for document in documents:
            for piece in document.pieces:
                self._known |= terms(f"{' '.join(piece.headings)} {piece.text}")
            for one in parts(made.pid, document):
                await requests.put(one.proc, one.path, one.digest, one.part, one.parts, one.pieces, one.paged)
                tell(f"{one.part + 1} of {one.parts} parts of {one.path}")
        while index.applied < kernel.counters.page and not index.damaged:
            await trio.sleep(INDEX_S)

    async def ask(self, question: str) -> Answered:
        """The answer to a question."""
        machine, pid = self._machine, self._pid
        if machine.kernel.procs[pid].state is State.ZOMBIE:
            await machine.requests.spawn(Spec(NAME))
        self._rested = trio.Event()
        await machine.requests.message(pid, "", question)
        await self._rested.wait()
        said = views.outbox(machine.kernel, machine.disk, pid)
        if said:
            await machine.requests.acknowledge(pid, said[-1].seq)
        seen = [self._place(*one) for one in self._recalled]
        reply = " ".join(one.text for one in said)
        return judged(question, reply, [one for one in seen if one], self._known, self._score)

    def _place(self, number: int, start: int, end: int) -> Place | None:
        page = self._machine.pages.page(number)
        if not isinstance(page, FilePage) or page.source is None:
            return None
        source = page.source
        text = page.text[start:end] if end else page.text
        return Place(source.path, source.first, source.last, source.paged, source.headings, text)


def judged(question: str, reply: str, seen: Sequence[Place], known: AbstractSet[str], score: float) -> Answered:
    """What a reply is worth, given what was brought in for it; `known`: all words of the documents."""

    def unsaid(why: str) -> Answered:
        return Answered(UNSAID, False, why, (), tuple(seen), score)

    names = [question[word.start : word.end] for word in words(question) if _telling(question, word.start)]
    if unknown := [name for name in names if terms(name).isdisjoint(known)]:
        return unsaid(f"{unknown[0]} stands nowhere in them")
    asked = terms(question)
    inside = [terms(f"{' '.join(place.headings)} {place.text}") for place in seen]
    if all(asked.isdisjoint(one) for one in inside):
        return unsaid("nothing like it is found")
    if denies(reply):
        return unsaid("the model finds it in none of what was found")
    wanted = frozenset[str]().union(*map(terms, names))
    about = [at for at in range(len(seen)) if wanted <= inside[at]] or list(range(len(seen)))
    if wanted:  # of the parts that have the names, those whose headings have most of what is asked
        headed = {at: len(asked & terms(" ".join(seen[at].headings))) for at in about}
        about = [at for at in about if headed[at] == max(headed.values())]
    stands = asked.union(*(inside[at] for at in about))
    if strange := unfounded(reply, stands):
        return unsaid(f"the model said {strange}, which stands in none of what is about it")
    said = terms(reply)
    shared = {at: (len((said - asked) & inside[at]), len(said & inside[at])) for at in about}
    best = max(shared.values())
    if not best[0] and said - asked:
        return unsaid("what the model said stands in none of what is about it")
    return Answered(reply, True, "", tuple(seen[at] for at in about if shared[at] == best), tuple(seen), score)


def denies(reply: str) -> bool:
    """Whether a model says that it finds nothing, or says nothing."""
    plain = reply.replace("’", "'").lower()
    return not plain.strip() or any(denial in plain for denial in _DENIES)


def unfounded(reply: str, stands: AbstractSet[str]) -> str:
    """The first name or number in a reply that is none of these words; "" if there is none."""
    told = (reply[word.start : word.end] for word in words(reply) if _telling(reply, word.start))
    return next((one for one in told if not terms(one) <= stands), "")


def _telling(text: str, at: int) -> bool:
    """Whether a word is a number, or a name inside a sentence."""
    return text[at].isdigit() or (text[at].isupper() and text[:at].rstrip()[-1:] not in ("", ".", "!", "?", '"'))
