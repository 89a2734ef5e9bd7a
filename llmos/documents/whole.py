"""A question about the whole of documents: all of them is read, part by part, by forks; their notes are read likewise.

Map: the pieces of a document, in order, as many together as PART_TOKENS allows, come into view of a fork of a process
that has read nothing yet, which notes what they say about the question. Reduce: notes are a document too, each headed
by the place that it is about; as many as the window takes come into view of a fork of another process, which answers
from them, in rounds until one has all. What says nothing of the part is no note (`rests`).
Not here: a question that one place answers (asking.py), the command (llmos/commands/documents.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import groupby
from typing import Final

import msgspec
import trio

from kernel.event import AnyEvent, Keeping
from kernel.machine import documents as filed
from kernel.machine import views
from kernel.machine.documents import Piece
from kernel.machine.loop import Machine
from kernel.machine.pages import kept
from kernel.memory.page import Role
from kernel.memory.words import terms, words
from kernel.spec import Spec
from kernel.state import Step
from llmos.documents.asking import UNSAID, Place, denies, unfounded
from llmos.documents.put import requests as parts
from llmos.documents.read import Read

ALL: Final = ("memory.fault=false", "memory.recall=0")  # settings: what is in view is read, and nothing picked out
PART_TOKENS: Final = 256  # of a part at most, as far as a piece allows: small models note more of small parts
PART_LEAST: Final = 32  # a part that has as many ends with its section
SHARE: Final = 2  # of the queue one part has at most one in so many
NOTES: Final = "notes"
DIGEST: Final = "0" * 32  # of what is no file
NOTHING: Final = "Nothing."
UNANSWERED: Final = "What the parts say comes to no answer."
MAP: Final = (
    "You are shown one part of a longer text. Write down in one short sentence what it says about the question. "
    f"If it says nothing about it, answer: {NOTHING}"
)
REDUCE: Final = (
    "You are shown notes on the parts of a text. Answer the question from all of the notes together, in one sentence. "
    f"If they do not say it, answer: {UNSAID}"
)


class Note(msgspec.Struct, frozen=True):
    """What a part says about the question, as a model has it."""

    text: str
    place: Place


class Whole(msgspec.Struct, frozen=True):
    """What became of a question. `said`: there is an answer; else `why` not. `notes` are those of `parts` parts."""

    text: str
    said: bool
    why: str
    notes: tuple[Note, ...]
    parts: int


class Readers:
    """Forks that read, on a machine that nobody else uses, with the settings ALL."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._over: dict[int, trio.Event] = {}  # of a fork's turn, its only one
        self._made = 0
        machine.watch = self._watch

    def _watch(self, event: AnyEvent, step: Step) -> None:
        """After each commit: whose turn is over."""
        for pid, over in self._over.items():
            proc = self._machine.kernel.procs[pid]
            if proc.accounts.turns and not proc.in_turn:
                over.set()

    async def ask(
        self, documents: Sequence[Read], question: str, tell: Callable[[str], None] = lambda _: None
    ) -> Whole:
        """The answer to a question. `tell` is given a line of progress a part."""
        mapping, reducing = await self._base("map", MAP), await self._base("reduce", REDUCE)
        most = min(PART_TOKENS, self._room(mapping))
        whole = [(one, part) for one in documents for part in self._parts(one.pieces, most, PART_LEAST)]
        notes: list[Note | None] = [None] * len(whole)
        done = 0

        async def note(at: int) -> None:
            nonlocal done
            document, part = whole[at]
            text = await self._read(mapping, msgspec.structs.replace(document, pieces=tuple(part)), question)
            place = _place(document, part)
            if not _nothing(text) and rests(text, question, place):
                notes[at] = Note(text, place)
            done += 1
            tell(f"{done} of {len(whole)} parts read, {sum(one is not None for one in notes)} say something about it")

        await self._each(note, len(whole))
        found = tuple(one for one in notes if one is not None)
        if not found:
            return Whole(UNSAID, False, "no part says anything about it", (), len(whole))
        text = await self._reduced(reducing, [_piece(_about(one), one.place.where) for one in found], question, tell)
        why = _amiss(text, question, found)
        return Whole(UNANSWERED if why else text, not why, why, found, len(whole))

    async def _reduced(self, base: int, notes: Sequence[Piece], question: str, tell: Callable[[str], None]) -> str:
        """What is answered from notes, in rounds of as many as fit."""
        room = self._room(base)
        while True:  # ends: each round leaves fewer notes, for two at least are read together
            groups = list(self._parts(notes, room, room, least=2))
            replies = [""] * len(groups)

            async def answer(at: int, groups: list[list[Piece]] = groups, replies: list[str] = replies) -> None:
                replies[at] = await self._read(base, Read(NOTES, DIGEST, tuple(groups[at])), question)
                tell(f"{sum(map(bool, replies))} of {len(groups)} groups of notes read")

            await self._each(answer, len(groups))
            told = [(text, group) for text, group in zip(replies, groups, strict=True) if not _nothing(text)]
            if len(told) < 2:
                return told[0][0] if told else ""
            notes = [_piece(text, f"from {group[0].headings[-1]}") for text, group in told]

    async def _each(self, work: Callable[[int], Awaitable[None]], count: int) -> None:
        """Do so many things, as many at once as there are slots."""
        free = trio.CapacityLimiter(len(self._machine.kernel.slots))

        async def one(at: int) -> None:
            async with free:
                await work(at)

        async with trio.open_nursery() as nursery:
            for at in range(count):
                nursery.start_soon(one, at)

    async def _base(self, name: str, system: str) -> int:
        made = await self._machine.requests.spawn(Spec(name, ("send_message",), system=system))
        if made.refused is not None:
            raise made.refused
        return made.pid

    async def _read(self, base: int, part: Read, question: str) -> str:
        """What a fork replies to a question that has a part in view."""
        machine, requests = self._machine, self._machine.requests
        self._made += 1
        pid = (await requests.fork(base, f"{machine.kernel.procs[base].name}-{self._made}")).pid
        for one in parts(pid, part):
            await requests.put(pid, one.path, one.digest, one.part, one.parts, one.pieces, one.paged)
        for document in filed.listed(machine.disk, pid):
            for page in filed.pages(machine.disk, document):
                brought = await requests.submit(kept(machine.pages, pid, page.id, Keeping.BRING))
                assert brought.refused is None, brought.refused
        over = self._over[pid] = trio.Event()
        await requests.message(pid, "", question)
        await over.wait()
        del self._over[pid]
        said = views.outbox(machine.kernel, machine.disk, pid)
        await requests.kill(pid)
        return " ".join(one.text for one in said)

    def _parts(self, pieces: Sequence[Piece], most: int, enough: int, least: int = 1) -> Iterator[list[Piece]]:
        """Pieces in order, as many together as `most` tokens hold, and `least` at least; what stands under one heading
        begins a part if there is no room for all of it, or the part before has `enough` tokens."""
        part, size = list[Piece](), 0
        for _, run in groupby(pieces, key=lambda one: one.headings):
            section = [(one, self._tokens(one)) for one in run]
            whole = sum(tokens for _, tokens in section)
            for number, (piece, tokens) in enumerate(section):
                more = tokens if number else whole
                if len(part) >= least and (size + more > most or (not number and size >= enough)):
                    yield part
                    part, size = [], 0
                part.append(piece)
                size += tokens
        if part:
            yield part

    def _tokens(self, piece: Piece) -> int:
        """Of a piece in view, about."""
        layout = self._machine.cpus.layouts[""]
        label = "".join(piece.headings[-1:])
        return len(layout.tokenize(f"[file {label}] {piece.text}")) + layout.costs.role[Role.USER]

    def _room(self, base: int) -> int:
        kernel = self._machine.kernel
        return kernel.budgets(kernel.procs[base]).queue // SHARE


def _nothing(text: str) -> bool:
    return denies(text) or text.strip(" .\n").lower() in ("nothing", "none")


def rests(note: str, question: str, place: Place) -> bool:
    """Whether a note says what a part says, and does not give the question back.

    Some of its words stand there, its names and numbers do, and of the question's words it has no more that do not
    than words of the part's that are not the question's.
    """
    above, text, asked, said = (terms(one) for one in (" ".join(place.headings), place.text, question, note))
    inside, strange = text | above, (said & asked) - text - above
    names = {word.term for one in (question, note) for word in words(one) if word.name}
    return bool(said & inside) and said & names <= inside and len(strange) <= len((said - asked) & text - above)


def _amiss(text: str, question: str, notes: Sequence[Note]) -> str:
    """Why a text is no answer from notes; "" if it may be one."""
    if _nothing(text):
        return "the model makes nothing of the notes"
    stands = terms(question).union(*(terms(f"{one.place.where} {one.text}") for one in notes))
    if strange := unfounded(text, stands | {str(len(notes))}):
        return f"the model said {strange}, which stands in none of the notes"
    said = terms(text)
    return "the model gives the question back" if said and said <= terms(question) else ""


def _about(note: Note) -> str:
    """A note with what it is about: parts seldom name it in what they say, and models of the size less so."""
    above = " / ".join(one for one in note.place.headings if one not in note.text)
    return f"{above}: {note.text}" if above else note.text


def _piece(text: str, where: str) -> Piece:
    return Piece(text=text, first=1, last=1, headings=(where,))


def _place(document: Read, part: Sequence[Piece]) -> Place:
    """Where a part stands: under all headings that it has something under, each once."""
    headings = dict.fromkeys(heading for one in part for heading in one.headings)
    text = "\n".join(one.text for one in part)
    return Place(document.path, part[0].first, part[-1].last, document.paged, tuple(headings), text)
