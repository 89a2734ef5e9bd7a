"""Natural Questions, each with its gold passage; all passages are pooled. And how an answer to one is graded.

Graded as the questions' authors do: texts are compared in lower case, without punctuation and articles. `exact`: the
reply is an answer. `stands`: an answer stands in the reply (Lost in the Middle, arXiv 2307.03172). `f1`: of their
words, with the best answer.
"""

from __future__ import annotations

import gzip
import os
import re
import string
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from kernel.errors import BadInput

FILE: Final = "nq-open-oracle_0-1499.jsonl.gz"
_ARTICLES: Final = re.compile(r"\b(a|an|the)\b")
_MARKS: Final = str.maketrans("", "", string.punctuation)


class Passage(msgspec.Struct, frozen=True):
    """A passage and whose it is."""

    title: str
    text: str


class Asked(msgspec.Struct, frozen=True):
    """A question with its answers; `gold` is the place of its passage in the pool."""

    question: str
    answers: tuple[str, ...]
    gold: int


class Pool(msgspec.Struct, frozen=True):
    """All passages, each once, and all questions in the order of the file."""

    passages: tuple[Passage, ...]
    asked: tuple[Asked, ...]


class _Row(msgspec.Struct, frozen=True):
    question: str
    answers: tuple[str, ...]
    ctxs: tuple[Passage, ...]


def load(data: Path | None) -> Pool:
    """The file below `data` or LLMOS_DATA. Raises BadInput in one line if it is not there."""
    root = data or (Path(os.environ["LLMOS_DATA"]) if os.environ.get("LLMOS_DATA") else None)
    if root is None:
        raise BadInput("no data: give --data DIR or set LLMOS_DATA to the folder that holds nq_open/")
    path = (root / "nq_open" if (root / "nq_open").is_dir() else root) / FILE
    if not path.exists():
        raise BadInput(f"{path} is not there; --data or LLMOS_DATA names the folder that holds nq_open/")
    places: dict[Passage, int] = {}
    asked = []
    with gzip.open(path) as lines:
        for line in lines:
            row = msgspec.json.decode(line, type=_Row)
            gold = places.setdefault(row.ctxs[0], len(places))
            asked.append(Asked(spoken(row.question), row.answers, gold))
    return Pool(tuple(places), tuple(asked))


def spoken(question: str) -> str:
    """A question as somebody writes it."""
    return question[:1].upper() + question[1:].rstrip("? ") + "?"


def plain(text: str) -> str:
    """A text as answers are compared."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_MARKS)).split())


def exact(reply: str, answers: Sequence[str]) -> float:
    """1 if the reply is an answer, else 0."""
    return float(plain(reply) in map(plain, answers))


def stands(reply: str, answers: Sequence[str]) -> float:
    """1 if an answer stands in the reply, else 0."""
    said = f" {plain(reply)} "
    return float(any(f" {plain(answer)} " in said for answer in answers if plain(answer)))


def f1(reply: str, answers: Sequence[str]) -> float:
    """Of the words of the reply and those of the answer that suits it best."""
    return max((_f1(plain(reply).split(), plain(answer).split()) for answer in answers), default=0.0)


def _f1(said: list[str], wanted: list[str]) -> float:
    same = sum((Counter(said) & Counter(wanted)).values())
    return 2 * same / (len(said) + len(wanted)) if same else 0.0
