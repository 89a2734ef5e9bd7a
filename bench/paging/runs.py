"""Runs of agents as reference strings: what each call to a tool drew on, of all that was said and seen before.

Read are OpenAI's messages (a list, {"messages": [...]}, or one of these a line), transcripts as Claude Code writes them
(a line an entry), and runs of tau-bench as llmos keeps them. A message is a page; the system's is none, for it never
leaves. A turn is what the agent did next: what came before it arrives, and what its calls drew on is wanted, by the
kernel's own rule (kernel/memory/attribution.py). A search may know what the user has just said, and nothing of tools.
Not here: where such files are, and how pages are counted and ranked (workloads.py).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from bench.paging.attribution import Attribution
from kernel.errors import BadInput
from kernel.text import one_line

FILE_BYTES_MAX: Final = 1 << 28
FILES_MAX: Final = 10_000
MESSAGES_MAX: Final = 100_000  # of a run
ENDS: Final = (".jsonl", ".json", ".jsonl.gz", ".json.gz")
ALLOWED: Final = (
    "OpenAI's messages (role, content, tool_calls), or entries of a transcript (type user or assistant, message)"
)


class Said(msgspec.Struct, frozen=True):
    """A message: who, what, and the calls to tools in it, as text."""

    role: str
    text: str
    calls: str = ""


class Run(msgspec.Struct, frozen=True):
    """One run, in order."""

    name: str
    messages: tuple[Said, ...]


class Step(NamedTuple):
    """What the agent did next: pages that arrived, pages that its calls drew on, and what the user had just said."""

    new: tuple[int, ...]
    drawn: tuple[int, ...]
    query: str


def files(folder: Path) -> list[Path]:
    """The files of runs in a folder and below it, or the file itself. Raises BadInput for none, or too many."""
    found = [folder] if folder.is_file() else sorted(one for one in folder.rglob("*") if one.name.endswith(ENDS))
    if not found or len(found) > FILES_MAX:
        raise BadInput(f"{folder}: {len(found)} files of runs; 1 to {FILES_MAX:,} that end with {', '.join(ENDS)}")
    return found


def read(path: Path) -> list[Run]:
    """The runs of a file that call a tool, or say anything. Raises BadInput, with the line, for what is no run."""
    text = _text(path)
    name = path.name.split(".")[0]
    if ".jsonl" not in path.name:
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise BadInput(f"{path}: {one_line(str(exc))}; it is {ALLOWED}") from exc
        many = isinstance(document, list) and all(isinstance(one, list) or "messages" in one for one in document)
        found = list(document) if many and document else [document]
        return [_run(path, 1, f"{name}/{n}" if many else name, one) for n, one in enumerate(found, 1)]
    runs: list[Run] = []
    said: list[Said] = []
    for row, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise BadInput(f"{path}:{row}: {one_line(str(exc))}; it is {ALLOWED}") from exc
        if isinstance(entry, list) or (isinstance(entry, dict) and "messages" in entry):
            runs.append(_run(path, row, f"{name}/{len(runs) + 1}", entry))
        else:
            said += _placed(path, row, entry)
    return [*runs, *([Run(name, tuple(said))] if said else [])]


def steps(run: Run) -> tuple[list[str], list[Step]]:
    """The texts of pages 1, 2, ... of a run, and its steps."""
    words = Attribution()
    texts: list[str] = []
    found: list[Step] = []
    fresh: list[int] = []
    heard, asked = [], ""
    for one in run.messages:
        text = "\n".join(part for part in (one.text, one.calls) if part).strip()
        if one.role in ("system", "developer") or not text:
            continue
        texts.append(text)
        if one.role != "assistant":
            fresh.append(len(texts))
            heard.append(one.text)
            asked = one.text if one.role == "user" else asked
            continue
        drawn = words.drawn(" ".join(heard), one.calls) if one.calls else []
        found.append(Step(tuple(fresh), tuple(page for page in drawn if page not in fresh), asked))
        for page in (*fresh, len(texts)):
            words.add(page, texts[page - 1])
        fresh, heard, asked = [len(texts)], [], ""
    return texts, found


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            unpack = zlib.decompressobj(wbits=31)
            raw = unpack.decompress(raw, FILE_BYTES_MAX + 1)
            if not unpack.eof and len(raw) <= FILE_BYTES_MAX:
                raise EOFError("it is cut off")
        if len(raw) > FILE_BYTES_MAX:
            raise BadInput(f"{path}: more than {FILE_BYTES_MAX:,} bytes are no run")
        return raw.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as exc:
        raise BadInput(f"{path}: {getattr(exc, 'strerror', None) or one_line(str(exc))}") from exc


def _run(path: Path, row: int, name: str, document: Any) -> Run:
    messages = document.get("messages") if isinstance(document, dict) else document
    if not isinstance(messages, list) or len(messages) > MESSAGES_MAX:
        raise BadInput(f"{path}:{row}: no list of at most {MESSAGES_MAX:,} messages; it is {ALLOWED}")
    return Run(name, tuple(said for one in messages for said in _placed(path, row, one)))


def _placed(path: Path, row: int, entry: Any) -> list[Said]:
    try:
        return list(_said(entry))
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as exc:
        raise BadInput(f"{path}:{row}: {one_line(repr(exc))[:200]}; it is {ALLOWED}") from exc


def _said(entry: dict[str, Any]) -> Iterator[Said]:
    """The messages of an entry; entries of a transcript that are none, summaries and the like, have none."""
    kind = entry.get("type")
    if kind is not None and "role" not in entry:
        if kind not in ("user", "assistant"):
            return
        message = entry["message"]
        if entry.get("isMeta"):
            return
    else:
        message = entry
    role = str(message["role"])
    content = message.get("content", message.get("text"))
    texts, calls, results = _blocks(content)
    for call in message.get("tool_calls") or message.get("calls") or ():
        function = call.get("function", call)
        calls.append(_called(function["name"], function.get("arguments", "")))
    if results:
        yield Said("tool", "\n".join(results))
    if texts or calls:
        yield Said(role, "\n".join(texts), "\n".join(calls))


def _blocks(content: Any) -> tuple[list[str], list[str], list[str]]:
    """What a message's content says: texts, calls, and results of calls."""
    texts: list[str] = []
    calls: list[str] = []
    results: list[str] = []
    if content is None:
        return texts, calls, results
    if isinstance(content, str):
        return ([content] if content.strip() else []), calls, results
    if not isinstance(content, list):
        raise TypeError(f"content {type(content).__name__}")
    for block in content:
        kind = block.get("type")
        if kind == "text":
            texts.append(str(block["text"]))
        elif kind == "tool_use":
            calls.append(_called(block["name"], block.get("input", {})))
        elif kind == "tool_result":
            inner, _, _ = _blocks(block.get("content"))
            results += inner
    return texts, calls, results


def _called(name: object, arguments: Any) -> str:
    shown = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f"{name} {shown}"
