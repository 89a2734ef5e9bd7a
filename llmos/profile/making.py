"""`llmos profile`: a model's probes asked, as far as they are not answered yet, and its profile written.

Guarantee: an answer is written down when it comes, beside the profiles, by all that it depends on; so whoever is
interrupted goes on, and what has changed since (a probe, a manual) is asked anew. A profile is written when every probe
that the choice rests on is answered.
Not here: how a probe is asked (asking.py), what is right (probes.py), what is chosen (choice.py).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from drivers.cpu import gguf, profiles
from drivers.cpu.profiles import Figure, Profile
from kernel.errors import BadInput
from kernel.ports import Manner
from llmos.commands.output import print_json, print_table, said, tell, terminal
from llmos.intervals import wilson
from llmos.models import find
from llmos.profile import asking, choice
from llmos.profile.choice import WAYS, Answer, Way
from llmos.profile.probes import KINDS, Half, Kind, Probe, probes, right
from syscalls.manual import manual
from syscalls.table import Table

HALVES: Final[dict[int, Half]] = {60: "choose", 100: "report"}  # by how many probes they have

Tell = Callable[[str, int, int], None]
"""Called with what is asked, how many probes are answered, and how many there are."""


class Made(msgspec.Struct, frozen=True):
    """What `llmos profile --json` prints: a profile, or without one how much is still to be asked."""

    model: str
    file: str
    left: int  # probes that nobody has answered yet
    encoding: str
    manual: str
    full: bool
    figures: tuple[Figure, ...]
    settings: tuple[str, ...]


class Book:
    """The answers of one model, on disk: a line each, by the hash of what it depends on."""

    def __init__(self, identity: str, settings: Sequence[str]) -> None:
        self._identity, self._settings = identity, settings
        self._path = profiles.own(identity).with_suffix(".answers.jsonl")
        self._known: dict[str, Answer] = {}
        with contextlib.suppress(FileNotFoundError):
            for line in self._path.read_bytes().splitlines():
                with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):  # cut off as it was written
                    key, answer = msgspec.json.decode(line, type=tuple[str, Answer])
                    self._known[key] = answer

    def find(self, half: Half, way: Way, kind: Kind, probe: Probe) -> Answer | None:
        """What was answered; None: nothing yet."""
        return self._known.get(self._key(half, way, kind, probe))

    def add(self, probe: Probe, answer: Answer) -> None:
        """Write an answer down."""
        key = self._key(answer.half, answer.way, answer.kind, probe)
        self._known[key] = answer
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode((key, answer)) + b"\n")

    def forget(self) -> None:
        """Begin anew."""
        self._known.clear()
        self._path.unlink(missing_ok=True)

    def _key(self, half: Half, way: Way, kind: Kind, probe: Probe) -> str:
        told = _told(way)
        said = (self._identity, half, way, kind, probe, told, Table.system, asking.OWN, *self._settings)
        return hashlib.blake2b(repr(said).encode(), digest_size=12).hexdigest()


@functools.cache
def _told(way: Way) -> str:
    return manual(asking.mask(way.manual), way.encoding, way.manual)


def make(
    model: str,
    *,
    count: int,
    encodings: Sequence[str],
    manuals: Sequence[str],
    kinds: Sequence[Kind],
    changes: Sequence[str],
    anew: bool,
    out: Path | None,
    tell: Tell,
) -> Made:
    """Ask what is left of a half's probes, in some manners and kinds, and write the profile if nothing else is missing.

    The reported half is asked in the chosen manner, and in the best of the other encoding. Raises BadInput.
    """
    path = find(model)
    identity, header = gguf.identity(path), gguf.read(path)
    book = Book(identity, changes)
    if anew:
        book.forget()
    half = HALVES[count]
    ways = list(WAYS)
    if half == "report":
        best = _best(book)
        if not best:
            raise BadInput(f"profile {model}: no manner is chosen yet; run it with --probes 60 first")
        ways = [best[0], next(way for way in best if way.encoding != best[0].encoding)]
    for way in ways:
        if way.encoding in encodings and way.manual in manuals:
            _ask(path, book, half, way, kinds, changes, tell)
    name = header.text("general.name") or path.stem
    found = choice.figures(_answers(book))
    best, left = _best(book), _left(book, half, ways)
    if not best:
        return Made(name, identity, left, "", "", False, found, tuple(changes))
    made = Profile(name, identity, best[0].encoding, best[0].manual, choice.full(found, best[0]), found)
    profiles.write(out or profiles.own(identity), made)
    return Made(name, identity, left, made.encoding, made.manual, made.full, found, tuple(changes))


def _ask(
    path: Path, book: Book, half: Half, way: Way, kinds: Sequence[Kind], changes: Sequence[str], tell: Tell
) -> None:
    """Put to the model what it was not asked yet, in one manner."""
    asked = [one for one in probes().of(half, kinds) if book.find(half, way, *one) is None]
    done = 0

    def answered(session: asking.Session, kind: Kind, probe: Probe, said: asking.Emitted) -> None:
        nonlocal done
        done += 1
        good = right(kind, probe, said.text, way.encoding, session.told, truncated=said.truncated)
        book.add(probe, Answer(half, way, kind, probe.say, said.text, good))
        tell(f"{half}, {way.encoding}, {way.manual}", done, len(asked))

    if asked:
        asking.ask(path, Manner(way.encoding, way.manual), asked, changes, answered)


def _answers(book: Book) -> list[Answer]:
    """All answers that are known to the probes of now."""
    halves: tuple[Half, ...] = tuple(HALVES.values())
    found = [book.find(half, way, *one) for half in halves for way in WAYS for one in probes().of(half)]
    return [one for one in found if one is not None]


def chosen(kinds: Sequence[str]) -> tuple[Kind, ...]:
    """The kinds of these names; all for none."""
    return tuple(kind for kind in KINDS if not kinds or kind in kinds)


def _left(book: Book, half: Half, ways: Sequence[Way]) -> int:
    return sum(book.find(half, way, *one) is None for way in ways for one in probes().of(half))


def _best(book: Book) -> list[Way]:
    """All manners, the best first; none before each was asked everything."""
    if _left(book, "choose", WAYS):
        return []
    return choice.ranked(choice.figures(_answers(book)))


def run(
    model: str,
    *,
    count: int,
    encodings: Sequence[str],
    manuals: Sequence[str],
    kinds: Sequence[Kind],
    changes: Sequence[str],
    anew: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """`llmos profile`: make and print."""
    made = make(
        model,
        count=count,
        encodings=encodings,
        manuals=manuals,
        kinds=kinds,
        changes=changes,
        anew=anew,
        out=out,
        tell=_progress,
    )
    if as_json:
        print_json(msgspec.to_builtins(made))
        return
    rows = []
    for half in HALVES.values():
        for way in WAYS:
            mine = {
                one.kind: one
                for one in made.figures
                if (one.half, one.encoding, one.manual) == (half, way.encoding, way.manual)
            }
            if mine:
                cells = [_cell(mine.get(kind)) for kind in KINDS]
                rows.append((half, way.encoding, way.manual, *cells, _cell_of_all(list(mine.values()))))
    print_table(("half", "encoding", "manual", *KINDS, "all"), rows, left=("half", "encoding", "manual"))
    if made.left:
        said(f"{made.left} probes are not answered yet; the same command goes on with them")
    if made.encoding:
        rest = "all syscalls" if made.full else "speech alone"
        said(f"{made.model}: {made.encoding}, manual {made.manual}; by default it has {rest}")


def _progress(what: str, done: int, total: int) -> None:
    """A line that is redrawn on a terminal; elsewhere one for each manner, at its end."""
    if terminal(sys.stderr):
        tell(f"{what}: {done} of {total} probes")
    elif done == total:
        said(f"{what}: {total} probes")


def _cell(one: Figure | None) -> str:
    return "" if one is None else f"{one.right}/{one.n}"


def _cell_of_all(found: Sequence[Figure]) -> str:
    right, n = sum(one.right for one in found), sum(one.n for one in found)
    low, high = wilson(right, n)
    return f"{right}/{n} ({low:.2f} to {high:.2f})"
