"""What is told and asked: the structs that every format is read into.

Not here: the formats (conversations.py, dialogues.py, scenarios.py, facts.py).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from bench.memory.shown import Span


class Message(msgspec.Struct, frozen=True):
    """One message as it is told: its speaker, where there is more than one, stands in the text. `at`: ns UTC."""

    id: str
    at: int
    text: str


class Reference(msgspec.Struct, frozen=True):
    """A message that a question rests on, and the words of it that matter; () for all."""

    message: str
    source: tuple[Span, ...] = ()


class Question(msgspec.Struct, frozen=True):
    """A question, what answers it, and the messages it rests on: at least one.

    Of a fact that was corrected: `wrong`, what answered it before, and `older`, the messages that said so.
    """

    id: str
    text: str
    golds: tuple[str, ...]
    evidence: tuple[Reference, ...]
    category: str = ""
    wrong: tuple[str, ...] = ()
    older: tuple[Reference, ...] = ()


class Conversation(msgspec.Struct, frozen=True):
    """What is told to one machine, in order of time, and what is asked of it then."""

    name: str
    messages: tuple[Message, ...]
    questions: tuple[Question, ...]


class Dataset(msgspec.Struct, frozen=True):
    """All conversations of a workload. `grading`: F1 as LoCoMo's, whether an answer is contained as BFCL's, or whether
    it is and nothing older (newest.py; a question's category is its language).

    `lost`: questions whose evidence was not found as it stands, for a warning.
    """

    workload: str
    conversations: tuple[Conversation, ...]
    grading: Literal["f1", "contains", "newest"]
    lost: tuple[str, ...] = ()
