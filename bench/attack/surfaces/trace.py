"""Traces: files in each format, as their types have them, wrong in one place, or damaged; what is taken is used.

Used is: written in another format and read again with nothing lost, and led through a policy.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from random import Random
from typing import Any, Final

from bench.attack import values
from bench.attack.mutate import mutated
from bench.attack.surface import Guard, Surface, Trial, Wrong, instead
from bench.paging import field, formats, simulator
from bench.paging.simulator import Options
from bench.paging.trace import Part, Ref, Turn
from kernel.errors import BadInput

NAMES: Final = (
    "a.jsonl",
    "a.csv",
    "a.oracleGeneral.bin",
    "a.jsonl.gz",
    "a.csv.gz",
    "a.oracleGeneral.gz",
    "a.txt",
    "a.lis",
)
HINTS: Final[values.Hints] = {
    "new": lambda draw: [_ref(draw) for _ in range(draw.randint(0, 3))],
    "refs": lambda draw: [_ref(draw) for _ in range(draw.randint(0, 3))],
    "pid": lambda draw: draw.randint(0, 3),
}
KINDS: Final = ("message", "result", "archive")
TURNS_MAX: Final = 300  # that a trial has time to lead through a policy
BUDGET: Final = 64
BOMB: Final = 24 << 20


def _ref(draw: Random) -> list[Any]:
    return [draw.randint(1, 9), draw.choice([1, 2, 30, 4_000]), draw.choice(KINDS)]


def _jsonl(draw: Random, shape: values.Shape) -> tuple[bytes, str]:
    lines = [values.raw(shape.good(draw), ascii_only=draw.random() < 0.5) for _ in range(draw.randint(0, 6))]
    wrong = ""
    if draw.random() < 0.3:
        bad, wrong = shape.bad(draw)
        lines.insert(draw.randint(0, len(lines)), values.raw(bad))
    return b"\n".join(lines), wrong


def _csv(draw: Random) -> tuple[bytes, str]:
    """Rows of numbers at their edges. Surely wrong is what has a sign, or is no number."""
    rows, wrong = ["turn,pid,what,page,tokens,kind,query"], ""
    for at in range(draw.randint(0, 8)):
        row = [str(at // 2), "0", draw.choice(["new", "ref", ""]), str(draw.randint(1, 9)), "3", "message", ""]
        if draw.random() < 0.2:
            place = draw.randrange(7)
            row[place] = str(draw.choice((*values.EDGES, *values.TEXTS, "1_0", " 1", "+1", "1.5")))
            text = row[place]
            if place == 3 and not (text.isascii() and text.isdigit()) and not set(text) & set(',"\r\n\0'):
                wrong = f"page {text[:40]!r}"
        rows.append(",".join(row))
    return "\n".join(rows).encode("utf-8", "surrogatepass"), wrong


def _oracle(draw: Random) -> tuple[bytes, str]:
    edges = [0, 1, 2, 3, 9, (1 << 32) - 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
    records = [
        formats.RECORD.pack(
            at, draw.choice(edges), draw.choice([0, 1, 30, (1 << 32) - 1]), draw.choice([-1, 5, -(1 << 63)])
        )
        for at in range(draw.randint(0, 20))
    ]
    cut = draw.random() < 0.2 and bool(records)
    return b"".join(records)[
        : -draw.randint(1, formats.RECORD.size - 1) if cut else None
    ], "half a record" if cut else ""


def _words(draw: Random, each: int) -> tuple[bytes, str]:
    """Lines of numbers at their edges, and of names."""
    some = (*values.EDGES, *values.TEXTS, 1, 2, 3, 9)
    lines = [" ".join(str(draw.choice(some)) for _ in range(each)) for _ in range(draw.randint(0, 8))]
    wrong = "-1" if draw.random() < 0.2 and each == 1 else ""  # of .lis a trial reads the first blocks alone
    return "\n".join([*lines, *([" ".join([wrong] * each)] if wrong else [])]).encode("utf-8", "surrogatepass"), wrong


class _Attack:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shape = values.Shape(formats._Line, HINTS)
        self.seen: dict[str, list[bytes]] = {}

    def trial(self, draw: Random) -> None:
        name = draw.choice(NAMES)
        form = formats.format_of(Path(name))
        raw, wrong = self._made(draw, form)
        seen = self.seen.setdefault(form, [])
        if draw.random() < 0.3 and seen:
            raw, wrong = mutated(draw, draw.choice(seen), seen), ""
        elif not wrong:
            seen[:] = [*seen[-20:], raw[:4_000]]
        if name.endswith(".gz"):
            raw = self._zipped(draw, raw)
            wrong = wrong if raw[:2] == b"\x1f\x8b" and len(raw) < 1 << 16 else ""
        file = self.folder / name
        file.write_bytes(raw)
        try:
            turns = list(itertools.islice(formats.read(file), 2 * TURNS_MAX))
        except BadInput:
            return
        if wrong and gzip_whole(raw):
            raise Wrong(f"accepted: {wrong}")
        self._use(draw, turns)

    def _made(self, draw: Random, form: str) -> tuple[bytes, str]:
        if form in ("txt", "lis"):
            return _words(draw, 1 if form == "txt" else 4)
        return _oracle(draw) if form == "oracleGeneral" else _csv(draw) if form == "csv" else _jsonl(draw, self.shape)

    def _zipped(self, draw: Random, raw: bytes) -> bytes:
        choice = draw.random()
        if choice < 0.01:
            return gzip.compress(b"0" * BOMB, 1)
        packed = gzip.compress(raw, 1)
        if choice < 0.2:
            return mutated(draw, packed)
        return raw if choice < 0.25 else packed

    def _use(self, draw: Random, turns: list[Turn]) -> None:
        for ref in itertools.chain.from_iterable((*turn.new, *turn.refs) for turn in turns):
            if not 0 <= ref.page < 1 << 64 or not 1 <= ref.tokens < 1 << 32:
                raise Wrong(f"accepted: page {ref.page} of {ref.tokens} tokens")
        other = self.folder / draw.choice(["b.jsonl", "b.csv", "b.oracleGeneral.bin"])
        formats.write(turns, other)
        again = list(formats.read(other))
        before, after = ([[one[:2] for one in (*turn.new, *turn.refs)] for turn in some] for some in (turns, again))
        if list(itertools.chain(*before)) != list(itertools.chain(*after)):
            raise Wrong(f"{other.name} does not hold what was written to it")
        if len(turns) <= TURNS_MAX:
            policy = draw.choice(["fifo", "lru", "gdsf", "arc"])
            options = Options(recall=0.0, pager="perfect", path="drawn")
            simulator.run(
                Part("t", lambda: turns), lambda capacity: field.make(policy, capacity, seed=1), BUDGET, options
            )


def gzip_whole(raw: bytes) -> bool:
    """Whether it is no gzip, or one that unpacks to its end."""
    if raw[:2] != b"\x1f\x8b":
        return True
    try:
        gzip.decompress(raw)
    except Exception:
        return False
    return True


@contextmanager
def _opened(folder: Path) -> Iterator[Trial]:
    yield _Attack(folder).trial


def _no_reading() -> AbstractContextManager[None]:
    """What goes wrong while a file is unpacked is not looked for."""
    return instead(formats, "reading", formats.opened)


def _no_numbers() -> AbstractContextManager[None]:
    """A page may have any number and any size."""
    return instead(formats, "_ref", lambda found: Ref(*found))


GUARDS: Final[dict[str, Guard]] = {"trace-unpacking": _no_reading, "trace-bounds": _no_numbers}
SURFACE: Final = Surface(_opened, guards=GUARDS)
