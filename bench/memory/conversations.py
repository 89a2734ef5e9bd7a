"""Conversations with questions, from every format that `llmos bench memory` reads, as one struct.

Times are integer nanoseconds UTC and grow from message to message. Questions stand in the order of their file.
Not here: LoCoMo and REALTALK (dialogues.py), BFCL's memory scenarios (scenarios.py), planted facts (facts.py).
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from bench.memory import dialogues, facts, scenarios
from bench.memory.talk import Conversation, Dataset, Message, Question, Reference
from kernel.errors import BadInput
from kernel.limits import NS

ALLOWED: Final = (
    'a line is {"say": text, "at": ISO time, "who": name?, "id": name?} or '
    '{"ask": text, "answers": [text, ...], "evidence": [id, ...], "category": name?}'
)


class _Say(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line that is told; one without an `id` is called by its number among those that are told, from 1."""

    say: str
    at: str
    who: str = ""
    id: str = ""


class _Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line that is asked."""

    ask: str
    answers: list[str]
    evidence: list[str]
    category: str = ""


def load(workload: str, data: Path | None, seed: int = 1) -> Dataset:
    """A workload by name, or a file or folder of conversations; `seed`: of what is made up.

    Raises BadInput in one line for what cannot be used.
    """
    if workload == "locomo":
        return Dataset("locomo", _each(_files(_below(data, "locomo"), "*.json"), dialogues.locomo), "f1")
    if workload == "bfcl":
        conversations, lost = scenarios.load(_below(data, "bfcl_memory"))
        return Dataset("bfcl", conversations, "contains", lost)
    if workload == "facts":
        return facts.load(seed)
    path = Path(os.path.expanduser(workload))
    if not path.exists():
        raise BadInput(
            f"--workload {workload}: no such file; it is facts, locomo, bfcl, or a file or folder of conversations"
        )
    files = _files(path, "*.json*")
    found = [_any(file) for file in files]
    kinds = {kind for kind, _ in found}
    if len(kinds) > 1:
        raise BadInput(f"--workload {workload}: it holds files that are graded in two ways; take one kind")
    return Dataset(workload, tuple(one for _, all_ in found for one in all_), kinds.pop())


def _below(data: Path | None, name: str) -> Path:
    """The folder of a workload below --data, or --data itself."""
    if data is None:
        raise BadInput("no data: give --data DIR or set LLMOS_DATA; --workload FILE needs none")
    if not data.exists():
        raise BadInput(f"--data {data}: no such file or folder")
    return data / name if (data / name).is_dir() else data


def _files(path: Path, pattern: str) -> list[Path]:
    """The file itself, or those of a folder, by name."""
    files = [path] if path.is_file() else sorted(path.glob(pattern))
    if not files:
        raise BadInput(f"{path}: no {pattern} in it; the data's README says where it comes from")
    return files


def _each(files: list[Path], read: Callable[[Path, Any], Iterator[Conversation]]) -> tuple[Conversation, ...]:
    return tuple(one for file in files for one in read(file, _json(file)))


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except json.JSONDecodeError as exc:
        raise BadInput(f"{file}:{exc.lineno}: {exc.msg}; one JSON document is wanted") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise BadInput(f"{file}: {exc}") from exc


def _any(file: Path) -> tuple[Literal["f1", "contains"], tuple[Conversation, ...]]:
    """A file of any format, told by what it begins with."""
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise BadInput(f"{file}: {exc}") from exc
    head = next((line.strip() for line in lines if line.strip()), "")
    if head.startswith("{") and (head.endswith("}") or file.suffix == ".jsonl"):
        try:
            first = json.loads(head)
        except ValueError:
            first = {}
        if file.suffix == ".jsonl" or "say" in first or "ask" in first:
            return "contains", (_own(file, lines),)
    document = _json(file)
    if isinstance(document, dict) and "conversation" not in document:
        return "f1", tuple(dialogues.realtalk(file, document))
    return "f1", tuple(dialogues.locomo(file, document if isinstance(document, list) else [document]))


def _own(file: Path, lines: list[str]) -> Conversation:
    """llmos's own format, a JSON object a line."""
    messages: list[Message] = []
    asked: list[tuple[int, _Ask]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            if "ask" in json.loads(line):
                asked.append((number, msgspec.json.decode(line, type=_Ask)))
                continue
            said = msgspec.json.decode(line, type=_Say)
            moment = datetime.datetime.fromisoformat(said.at)
        except (ValueError, TypeError) as exc:  # msgspec's and json's errors are ValueErrors
            raise BadInput(f"{file}:{number}: {exc}; {ALLOWED}") from exc
        at = round((moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()) * NS
        if messages and at < messages[-1].at:
            raise BadInput(f"{file}:{number}: {said.at} is before the line above it; lines stand in order of time")
        name = said.id or str(len(messages) + 1)
        if any(one.id == name for one in messages) or not said.say.strip():
            raise BadInput(f"{file}:{number}: a message needs a text, and an id that no other has; {ALLOWED}")
        text = f"{said.who}: {said.say}" if said.who else said.say
        messages.append(Message(name, at if not messages else max(at, messages[-1].at + 1), text))
    known = {one.id for one in messages}
    questions = []
    for number, one in asked:
        lost = [name for name in one.evidence if name not in known]
        if lost or not one.evidence or not one.answers or not one.ask.strip():
            why = f"evidence {lost[0]!r} names no message" if lost else "a question has a text, answers and evidence"
            raise BadInput(f"{file}:{number}: {why}; {ALLOWED}")
        evidence = tuple(Reference(name) for name in dict.fromkeys(one.evidence))
        questions.append(Question(f"line {number}", one.ask, tuple(one.answers), evidence, one.category))
    if not messages or not questions:
        raise BadInput(f"{file}: it needs messages and questions; {ALLOWED}")
    return Conversation(file.stem, tuple(messages), tuple(questions))
