"""BFCL v4's memory scenarios: what a user told over several sessions, and questions that rest on a sentence of it.

Each message of each session is told as it stands; sessions lie a day apart, messages a minute.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from bench.memory.shown import locate
from bench.memory.talk import Conversation, Message, Question, Reference
from kernel.errors import BadInput
from kernel.limits import NS

BEGINS: Final = datetime.datetime(2025, 1, 6, 9, tzinfo=datetime.UTC)
FOUND: Final = 0.8  # of a source's words: with fewer the question is reported
QUESTIONS: Final = "questions.jsonl"
T = TypeVar("T")


class _Session(msgspec.Struct, frozen=True):
    session: str
    messages: list[str]


class _Question(msgspec.Struct, frozen=True):
    id: str
    scenario: str
    question: str
    answers: list[str]
    source: str


def load(folder: Path) -> tuple[tuple[Conversation, ...], tuple[str, ...]]:
    """The scenarios of a folder, and the questions whose source was not found as it stands. Raises BadInput."""
    asked: dict[str, list[_Question]] = {}
    for one in _lines(folder / QUESTIONS, _Question, '{"id", "scenario", "question", "answers": [...], "source"}'):
        asked.setdefault(one.scenario, []).append(one)
    found, lost = [], []
    for name, questions in sorted(asked.items()):
        sessions = _lines(folder / f"{name}.jsonl", _Session, '{"session", "messages": [...]}')
        messages = _messages(sessions)
        texts = [message.text for message in messages]
        located = []
        for one in questions:
            at, spans, share = locate(texts, one.source)
            if share < FOUND:
                lost.append(one.id)
            evidence = (Reference(messages[at].id, spans),)
            located.append(Question(one.id, one.question, tuple(one.answers), evidence))
        found.append(Conversation(name, messages, tuple(located)))
    return tuple(found), tuple(lost)


def _messages(sessions: list[_Session]) -> tuple[Message, ...]:
    found = []
    for day, session in enumerate(sessions):
        for minute, text in enumerate(session.messages):
            at = BEGINS + datetime.timedelta(days=day, minutes=minute)
            found.append(Message(f"{day + 1}:{minute + 1}", round(at.timestamp()) * NS, text))
    return tuple(found)


def _lines(path: Path, of: type[T], allowed: str) -> list[T]:
    found = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as exc:
        raise BadInput(f"{path}: {exc.strerror or exc}; --data DIR holds bfcl_memory/, or is that folder") from exc
    for number, line in enumerate(lines, 1):
        try:
            found.append(msgspec.json.decode(line, type=of))
        except msgspec.DecodeError as exc:
            raise BadInput(f"{path}:{number}: {exc}; a line is {allowed}") from exc
    if not found:
        raise BadInput(f"{path}: it is empty; a line is {allowed}")
    return found
