"""The data of benches: what there is of it, fetched from where it lives, and checked.

A file is made beside its place and put there whole; what was half fetched goes on the next time. What comes must be
what the figures of docs/numbers.md were made with, by the digest of its content, or it is refused.
Not here: which data there is (sources.py), how a file comes over HTTP (llmos/download.py).
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

import msgspec

from bench.sources import RAW, SOURCES, File, Source
from drivers.cpu import verdicts
from drivers.disk import whole
from kernel.errors import BadInput
from llmos.download import Progress, download

BYTES_MAX: Final = 1 << 30  # of a file, unpacked
LOCOMO: Final = ("conv-26", "conv-30", "conv-41", "conv-42", "conv-43", "conv-44")
TRIALS: Final = (0, 1)  # of tau-bench's runs
SCENARIOS: Final = ("finance", "notetaker", "student")

Standing = Literal["here", "missing", "other"]
"""Whether a file is there, as it was used; or with other content."""


class Found(msgspec.Struct, frozen=True):
    """A source, and how each of its files stands in a folder."""

    name: str
    what: str
    licence: str
    home: str
    used: str
    bytes: int
    state: Standing  # other if any file is, else missing if any is
    get: str  # the command that brings it; "" if none does
    why: str
    files: tuple[dict[str, Any], ...]


def home(data: Path | None) -> Path:
    """The folder of data: given, or LLMOS_DATA, or one in the cache."""
    chosen = data or (Path(found) if (found := os.environ.get("LLMOS_DATA")) else None)
    return chosen or verdicts.home() / "data"


def chosen(names: Iterable[str]) -> list[Source]:
    """The sources of these names, all for none. Raises BadInput for another."""
    known = {one.name: one for one in SOURCES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise BadInput(f"{unknown[0]}: no such data; there are {', '.join(known)}")
    return [known[name] for name in names] or list(SOURCES)


def look(folder: Path, sources: Iterable[Source]) -> list[Found]:
    """How sources stand in a folder: every file that is there is read."""
    found = []
    for one in sources:
        states = [_standing(folder / file.path, file) for file in one.files]
        worst: Standing = "other" if "other" in states else "missing" if "missing" in states else "here"
        get = "" if one.why else f"llmos bench data get {one.name}"
        files = tuple(
            {
                "path": file.path,
                "bytes": file.bytes,
                "sha256": file.digest,
                "state": state,
                "from": [f"{RAW}/{part}" for part in file.parts],
            }
            for file, state in zip(one.files, states, strict=True)
        )
        total = sum(file.bytes for file in one.files)
        found.append(Found(one.name, one.what, one.licence, one.home, one.used, total, worst, get, one.why, files))
    return found


def get(folder: Path, source: Source, base: str, *, other: bool, progress: Progress) -> list[Path]:
    """Bring the files of a source that are not there as they should be; those that were brought.

    `base` is asked in the place of RAW; `other`: what has another content is kept. Raises BadInput.
    """
    if source.why:
        raise BadInput(f"{source.name}: {source.why}")
    brought = []
    for file in source.files:
        target = folder / file.path
        if _standing(target, file) == "here":
            continue
        raws = [_fetched(folder, f"{base.rstrip('/')}/{quote(part)}", progress) for part in file.parts]
        try:
            parts = [_unpacked(raw.read_bytes(), part) for raw, part in zip(raws, file.parts, strict=True)]
            content = MAKERS[file.made](parts)
            came = digest(content, file.path)
        except BadInput:
            _forget(raws)
            raise
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as exc:
            _forget(raws)
            raise BadInput(f"{source.name}: what came for {file.path} is of another form: {exc!r}"[:400]) from exc
        if came != file.digest and not other:
            _forget(raws)
            raise BadInput(
                f"{source.name}: what came for {file.path} is not what the figures were made with (sha256 {came}, and"
                f" {file.digest} was wanted); --other keeps it"
            )
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            whole.write(target, gzip.compress(content, mtime=0) if target.suffix == ".gz" else content)
        except OSError as exc:
            raise BadInput(f"{target}: {exc.strerror or exc}; name another folder with --data") from exc
        _forget(raws)
        brought.append(target)
    return brought


def digest(content: bytes, name: str) -> str:
    """SHA-256 of a content: of JSON by its values, however it is spaced and escaped. Raises ValueError for none."""
    if ".json" not in name:
        return hashlib.sha256(content).hexdigest()
    documents = _lines(content) if ".jsonl" in name else [json.loads(content)]
    found = hashlib.sha256()
    for one in documents:
        found.update(json.dumps(one, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")
    return found.hexdigest()


def _standing(path: Path, file: File) -> Standing:
    try:
        raw = path.read_bytes()
    except OSError:
        return "missing"
    try:
        return "here" if digest(_unpacked(raw, path.name), file.path) == file.digest else "other"
    except (ValueError, BadInput):
        return "other"


def _fetched(folder: Path, url: str, progress: Progress) -> Path:
    """What is at `url`, in a place of its own, from which the next try goes on."""
    place = folder / ".fetched"
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise BadInput(f"{folder}: {exc.strerror or exc}; name another folder with --data") from exc
    part = place / hashlib.sha256(url.encode()).hexdigest()[:16]
    download(url, {}, part, part.with_suffix(".tag"), f"get {url}", progress)
    return part


def _forget(raws: Iterable[Path]) -> None:
    for one in raws:
        one.unlink(missing_ok=True)
        one.with_suffix(".tag").unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else is half fetched
            one.parent.rmdir()


def _unpacked(raw: bytes, name: str) -> bytes:
    """A content without its packing. Raises BadInput if it is damaged, or too large."""
    if not name.endswith(".gz"):
        return raw
    try:
        unpack = zlib.decompressobj(wbits=31)
        content = unpack.decompress(raw, BYTES_MAX)
    except zlib.error as exc:
        raise BadInput(f"{name}: {exc}") from exc
    if not unpack.eof:
        raise BadInput(f"{name}: it is cut off, or larger than {BYTES_MAX:,} bytes")
    return content


def _lines(content: bytes) -> list[Any]:
    return [json.loads(line) for line in content.splitlines() if line.strip()]


def _written(documents: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in documents)


# Files that are a part of what lives somewhere.


def _six(parts: list[bytes]) -> bytes:
    samples = {one["sample_id"]: one for one in json.loads(parts[0])}
    return json.dumps([samples[name] for name in LOCOMO], ensure_ascii=False).encode()


def _first(count: int) -> Callable[[list[bytes]], bytes]:
    return lambda parts: b"".join(line + b"\n" for line in parts[0].splitlines()[:count])


def _sessions(parts: list[bytes]) -> bytes:
    return _written(
        {"session": one["id"], "topic": one["topic"], "messages": [said[0]["content"] for said in one["question"]]}
        for one in _lines(parts[0])
    )


def _questions(parts: list[bytes]) -> bytes:
    answers = {one["id"]: one for one in _lines(parts[1])}
    return _written(
        {
            "id": one["id"],
            "scenario": one["scenario"],
            "question": one["question"][0][0]["content"],
            "answers": answers[one["id"]]["ground_truth"],
            "source": answers[one["id"]]["source"],
        }
        for one in _lines(parts[0])
        if one["scenario"] in SCENARIOS
    )


def _runs(parts: list[bytes]) -> bytes:
    def message(one: dict[str, Any]) -> dict[str, Any]:
        calls = [
            {"name": call["function"]["name"], "arguments": call["function"]["arguments"]}
            for call in one.get("tool_calls") or ()
        ]
        return {"role": one["role"], "text": one["content"] or "", "calls": calls}

    return _written(
        {
            "task": one["task_id"],
            "trial": one["trial"],
            "reward": one["reward"],
            "messages": [message(said) for said in one["traj"]],
        }
        for one in json.loads(parts[0])
        if one["trial"] in TRIALS
    )


MAKERS: Final[dict[str, Callable[[list[bytes]], bytes]]] = {
    "": lambda parts: parts[0],
    "six": _six,
    "first 50": _first(50),
    "first 1500": _first(1500),
    "sessions": _sessions,
    "questions": _questions,
    "runs": _runs,
}
