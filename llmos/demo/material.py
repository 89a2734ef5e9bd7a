"""What the demo's conversations are drawn from: the persons, facts, questions and sentences of material.toml.

Guarantee: whoever gets it gets it whole and checked: a statement names a person and a value, a question a person and no
value, and every choice in a sentence has its end. It is read when it is first asked for, and once.
Not here: how a conversation is drawn (talk.py). What the texts may not share with each other, all against all, is held
by tests/unit/test_talk.py, for it would take a second at every start.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from kernel.errors import BadInput

FILE: Final = Path(__file__).with_name("material.toml")

Statement = Annotated[str, Meta(pattern=r"^(?=.*\{n\})(?=.*\{v\})[^{}]*(\{[nv]\}[^{}]*){2}$")]
Asking = Annotated[str, Meta(pattern=r"^[^{}]*\{n\}[^{}]*\?$")]
Sentence = Annotated[str, Meta(pattern=r"^([^\[\]|]|\[[^\[\]|]+(\|[^\[\]|]+)*\])+$")]
Word = Annotated[str, Meta(pattern=r"^\w+$")]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Relation(_Strict, frozen=True):
    """A kind of fact: `{n}` is the person, `{v}` the value. Questions ask in other words than statements tell."""

    statements: Annotated[tuple[Statement, ...], Meta(min_length=1)]
    questions: Annotated[tuple[Asking, ...], Meta(min_length=1)]
    values: Annotated[tuple[Word, ...], Meta(min_length=1)]


class Topic(_Strict, frozen=True):
    """What the talk between is about; `[a|b]` in a sentence stands for one of its alternatives."""

    name: str
    sentences: Annotated[tuple[Sentence, ...], Meta(min_length=1)]


class Material(_Strict, frozen=True):
    """The whole file. Whatever is given several times is drawn more often."""

    names: tuple[Word, ...]  # persons of the facts and near misses; nobody in the talk between has a name
    leads: Annotated[tuple[str, ...], Meta(min_length=1)]  # what a fact's message opens with
    openings: Annotated[tuple[str, ...], Meta(min_length=1)]  # what a turn of the talk between opens with
    relations: tuple[Relation, ...]
    topics: Annotated[tuple[Topic, ...], Meta(min_length=1)]


@functools.cache
def material(path: Path = FILE) -> Material:
    """What `path` holds. Raises BadInput naming the place for a file that is not such a one."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Material)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise BadInput(f"{path}: {exc}; is llmos installed whole?") from exc
