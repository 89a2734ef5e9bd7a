"""Dialogues of two people: LoCoMo (ACL 2024) and REALTALK (arXiv 2502.13270), whose questions name dialogue turns.

A turn is told as "Speaker: text", with what a picture shows behind it. Questions that have no answer in the dialogue
(category 5) and those whose evidence points nowhere are left out.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bench.locomo import named, number
from bench.memory.talk import Conversation, Message, Question, Reference
from kernel.errors import BadInput
from kernel.limits import NS

TURN_S: Final = 30  # between two turns of a session that has one date
UNANSWERABLE: Final = "5"  # category
LOCOMO: Final = "a LoCoMo file is a list of samples with `conversation` (session_N, session_N_date_time) and `qa`"
REALTALK: Final = "a REALTALK file is an object with session_N, session_N_date_time and `qa`"
LOCOMO_TIME: Final = "%I:%M %p on %d %B, %Y"  # 1:56 pm on 8 May, 2023
REALTALK_TIMES: Final = ("%d.%m.%Y, %H:%M:%S", "%d.%m.%Y, %H:%M")  # 29.12.2023, 21:58:22


def locomo(file: Path, document: Any) -> Iterator[Conversation]:
    """The samples of a LoCoMo file. Raises BadInput if it is none."""
    if not isinstance(document, list):
        raise BadInput(f"{file}: {LOCOMO}")
    for at, sample in enumerate(document, 1):
        try:
            name = str(sample.get("sample_id", f"{file.stem}-{at}"))
            yield _conversation(name, sample["conversation"], sample["qa"])
        except (KeyError, TypeError, AttributeError, ValueError) as exc:
            raise BadInput(f"{file}: sample {at}: {exc!r}; {LOCOMO}") from exc


def realtalk(file: Path, document: Any) -> Iterator[Conversation]:
    """The conversation of a REALTALK file. Raises BadInput if it is none."""
    try:
        yield _conversation(file.stem, document, document["qa"])
    except (KeyError, TypeError, AttributeError, ValueError) as exc:
        raise BadInput(f"{file}: {exc!r}; {REALTALK}") from exc


def _conversation(name: str, talk: dict[str, Any], asked: list[dict[str, Any]]) -> Conversation:
    messages: list[Message] = []
    by_turn: dict[tuple[int, int], str] = {}
    last = 0
    for session in sorted(int(found[1]) for key in talk if (found := re.fullmatch(r"session_(\d+)", key))):
        date = talk.get(f"session_{session}_date_time")
        for place, said in enumerate(talk[f"session_{session}"], 1):
            own = _time(said["date_time"]) if "date_time" in said else _time(date) + (place - 1) * TURN_S * NS
            text = str(said.get("clean_text", said.get("text", ""))).strip()
            if said.get("blip_caption"):
                text = f"{text} [photo: {said['blip_caption']}]".strip()
            if not text:
                continue
            last = max(own, last + NS)
            turn = number(str(said.get("dia_id", "")), session, place)
            by_turn[turn] = f"D{turn[0]}:{turn[1]}"
            messages.append(Message(by_turn[turn], last, f"{said['speaker']}: {text}"))
    questions = []
    for place, one in enumerate(asked, 1):
        category = str(one.get("category", ""))
        turns = [by_turn[turn] for turn in named(_listed(one.get("evidence", ()))) if turn in by_turn]
        if turns and category != UNANSWERABLE and one.get("answer") is not None:
            evidence = tuple(Reference(turn) for turn in dict.fromkeys(turns))
            questions.append(
                Question(f"{name}/{place}", str(one["question"]), (str(one["answer"]),), evidence, category)
            )
    if not messages or not questions:
        raise ValueError("it has no turns, or no questions with evidence")
    return Conversation(name, tuple(messages), tuple(questions))


def _listed(evidence: Any) -> list[Any]:
    return list(evidence) if isinstance(evidence, list | tuple) else [evidence]


def _time(text: Any) -> int:
    """Nanoseconds UTC of a date as these files write it. Raises ValueError for another."""
    said = str(text).strip()
    for form in (LOCOMO_TIME, *REALTALK_TIMES, None):
        try:
            found = datetime.datetime.strptime(said, form) if form else datetime.datetime.fromisoformat(said)
        except ValueError:
            continue
        return round((found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()) * NS
    raise ValueError(f"date {text!r} is not like '1:56 pm on 8 May, 2023', '29.12.2023, 21:58:22' or ISO 8601")
