"""Questions about the whole of a manual: which machines have something in common.

whole   as `llmos ask --whole` answers: every part is read
ask     as `llmos ask` answers, from what the index finds, with the same model
The lines that tell it name no machine, their headings do. A machine is named if its number stands in the answer.
Not here: the manual (manual.py), the readers (llmos/documents/whole.py), the figures (run.py).
"""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from bench.documents import manual
from bench.documents.pooled import ALONE, alone
from bench.memory.rows import BASE
from llmos.documents.asking import Asker, Place
from llmos.documents.read import Read, read
from llmos.documents.whole import ALL, Readers
from llmos.init import powered

MACHINES: Final = 8
LEAST, MOST = 2, 6  # machines that an answer names
ROWS: Final = ("whole", "ask")
NOBODYS: Final = (("Wexford", "Lublin"), ("silver", "black"), ("goose fat", "tallow"))  # values of no machine's
Answered: TypeAlias = Callable[[int, str, bool, Sequence[Place]], None]
_NUMBER: Final = re.compile(r"\b\d{3}\b")  # of a machine; no line that is asked for has another number


class Asked(msgspec.Struct, frozen=True):
    """A question, the lines that tell it, and the numbers of the machines they are about; none where nobody has it."""

    text: str
    lines: tuple[int, ...]
    machines: frozenset[str]


def questions(seed: int, most: int) -> tuple[str, list[Asked]]:
    """A manual, and at most so many questions about it, of which a quarter ask for what nobody has."""
    text, _, told = manual.made(seed, asked=0, unsaid=0, machines=MACHINES)
    rng = random.Random(f"whole {seed}")
    some, none = list[Asked](), list[Asked]()
    kinds = [kind for kind in manual.KINDS if kind.which]
    for kind, nobodys in zip(kinds, NOBODYS, strict=True):
        none += [Asked(kind.which.format(v=value), (), frozenset()) for value in nobodys]
        for value in kind.values:
            mine = [one for one in told if (one.kind, one.answer) == (kind, value)]
            machines = frozenset(one.machine.split()[-1] for one in mine)
            if LEAST <= len(machines) <= MOST:
                some.append(Asked(kind.which.format(v=value), tuple(one.line for one in mine), machines))
    rng.shuffle(some)
    rng.shuffle(none)
    few = most // 4
    return text, [*some[: most - few], *none[:few]]


def named(reply: str) -> frozenset[str]:
    """The numbers of machines that stand in a reply."""
    return frozenset(_NUMBER.findall(reply))


def covered(asked: Asked, places: Sequence[Place]) -> float:
    """The share of a question's lines that stand in these places."""
    inside = [any(one.first <= line <= one.last for one in places) for line in asked.lines]
    return sum(inside) / len(inside) if inside else 0.0


async def ask(
    row: str, model: str, window: int, text: str, asked: Sequence[str], changes: Sequence[str], tell: Answered
) -> None:
    """Ask each question in a row; `tell` is given its place in `asked`, the reply, whether it is an answer, and the
    places noted or brought in for it."""
    own = [*BASE, ALONE, *changes]
    with _document(text) as (folder, document):
        if row == "ask":
            async with powered(folder / row, model=model, window=window, changes=own) as machine:
                alone(machine)
                asker = Asker(machine)
                await asker.begin([document])
                for number, question in enumerate(asked):
                    found = await asker.ask(question)
                    tell(number, found.text, found.said, found.seen)
            return
        for number, question in enumerate(asked):
            fresh = folder / f"{row}-{number}"
            async with powered(fresh, model=model, window=window, changes=[*own, *ALL]) as machine:
                whole = await Readers(machine).ask([document], question)
            tell(number, whole.text, whole.said, [one.place for one in whole.notes])


@contextmanager
def _document(text: str) -> Iterator[tuple[Path, Read]]:
    with tempfile.TemporaryDirectory(prefix="llmos-whole-") as folder:
        path = Path(folder, "manual.md")
        path.write_text(text)
        yield Path(folder), read(path, path.name)
