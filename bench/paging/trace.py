"""Reference strings: what a process saw, wanted and generated, turn by turn; read and written in three formats.

A `Part` is one string with one budget; a workload is a list of them. Its turns come from an iterator, so that a trace
is never held as a whole unless its maker has it anyway.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import itertools
import math
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any, BinaryIO, Final, NamedTuple, cast

import msgspec
from msgspec import Meta

from drivers.disk import whole
from kernel.errors import BadInput
from kernel.memory.page import Kind

PAGE_MAX: Final = (1 << 64) - 1  # of oracleGeneral: an object's number
TOKENS_MAX: Final = (1 << 32) - 1  # and its size
PID_MAX: Final = 1 << 31
LINE_BYTES_MAX: Final = 64 << 20  # of CSV and JSONL
TEXT_BYTES_MAX: Final = 1 << 30  # of a JSONL as a whole, unpacked: it is held in memory
GENERATED: Final = 100  # tokens that the model emits a turn


class Ref(NamedTuple):
    """A page as it arrives or is wanted: number, tokens, kind."""

    page: int
    tokens: int
    kind: Kind = Kind.MESSAGE


class Turn(NamedTuple):
    """One turn of process `pid`: pages that arrive for the first time, then pages that are wanted, in order.

    `query` is what a search for the wanted pages may know: the question's text and nothing else.
    """

    new: tuple[Ref, ...] = ()
    refs: tuple[Ref, ...] = ()
    query: str = ""
    pid: int = 0


class Part(msgspec.Struct, frozen=True, eq=False):
    """One reference string. `turns` starts it anew each time; `rank` ranks all pages that arrived before a turn."""

    name: str
    turns: Callable[[], Iterable[Turn]]
    rank: Callable[[int, Turn], Sequence[int]] | None = None  # (index of the turn, turn) -> pages, best first
    pins: frozenset[int] = frozenset()  # pages that never leave
    unit: bool = False  # every page has size 1
    pids: int = 1


def of(name: str, refs: Sequence[tuple[int, int]], **more: Any) -> Part:
    """A part of plain references (page, tokens), a turn each."""
    turns = [Turn(refs=(Ref(page, tokens),)) for page, tokens in refs]
    return Part(name, lambda: turns, unit=all(tokens == 1 for _, tokens in refs), **more)


# Formats.

RECORD: Final = struct.Struct("<IQIq")  # libCacheSim's oracleGeneral: time, id, size, next access (virtual time, -1)
FORMATS: Final = ("oracleGeneral", "csv", "jsonl")


def opened(path: Path) -> BinaryIO:
    """The file, unpacked if its name ends with .gz. Raises BadInput if it cannot be read."""
    try:
        return cast(BinaryIO, gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb"))
    except OSError as exc:
        raise BadInput(f"{path}: {exc.strerror or exc}") from exc


def format_of(path: Path) -> str:
    """The format that a file's name says. Raises BadInput for none."""
    names = path.name.removesuffix(".gz").split(".")
    found = next((name for name in FORMATS if name in names), None)
    if found is None:
        raise BadInput(
            f"{path}: a trace's name ends with {', '.join('.' + name for name in FORMATS)}, or these and .gz"
        )
    return found


@contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """The file, as `opened`; what goes wrong while it is read is BadInput, too."""
    with opened(path) as file:
        try:
            yield file
        except (OSError, EOFError, zlib.error) as exc:
            raise BadInput(f"{path}: {getattr(exc, 'strerror', None) or exc}") from exc


def _lines(path: Path, most: float = math.inf) -> Iterator[bytes]:
    """The lines of a text, none longer than LINE_BYTES_MAX, all together at most `most` bytes."""
    size = 0
    with reading(path) as file:
        while line := file.readline(LINE_BYTES_MAX + 1):  # until its end
            size += len(line)
            if len(line) > LINE_BYTES_MAX or size > most:
                raise BadInput(f"{path}: more than {LINE_BYTES_MAX} bytes in a line, or {most:.0f} in all")
            yield line


def _ref(found: tuple[int, int, Kind]) -> Ref:
    """A page of a file. Raises ValueError for numbers that no page has."""
    page, tokens, kind = found
    if not 0 <= page <= PAGE_MAX or not 1 <= tokens <= TOKENS_MAX:
        raise ValueError(f"page {page} of {tokens} tokens; 0 to {PAGE_MAX} and 1 to {TOKENS_MAX} are allowed")
    return Ref(page, tokens, kind)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        raise ValueError(f"{text[:20]!r} is no number of at most 20 digits")
    return int(text)


def oracle_general(path: Path, *, unit: bool = False) -> Iterator[Turn]:
    """A request a turn, streamed. `unit`: every object has size 1."""
    with reading(path) as file:
        while block := file.read(RECORD.size * 4096):
            if len(block) % RECORD.size:
                raise BadInput(f"{path}: ends inside a record of {RECORD.size} bytes")
            for _, page, size, _ in RECORD.iter_unpack(block):
                yield Turn(refs=(Ref(page, 1 if unit else max(1, size)),))


def write_oracle_general(turns: Iterable[Turn], path: Path) -> int:
    """The references of all turns; how many there were. Arrivals count as references there."""
    refs = [ref for turn in turns for ref in (*turn.new, *turn.refs)]
    after: list[int] = [-1] * len(refs)
    seen: dict[int, int] = {}
    for at in range(len(refs) - 1, -1, -1):
        after[at] = seen.get(refs[at].page, -1)
        seen[refs[at].page] = at
    with _out(path) as file:
        for at, ref in enumerate(refs):
            file.write(RECORD.pack(at & 0xFFFFFFFF, ref.page, ref.tokens, after[at]))
    return len(refs)


HEADER: Final = ("turn", "pid", "what", "page", "tokens", "kind", "query")


def read_csv(path: Path) -> Iterator[Turn]:
    """A page a line, columns by name: `page`; if wanted `turn`, `pid`, `what` (new, ref), `tokens`, `kind`, `query`.

    Lines of one turn stand together; without `turn` each line is one.
    """
    csv.field_size_limit(LINE_BYTES_MAX)
    rows = csv.DictReader(line.decode("utf-8", "replace") for line in _lines(path))
    current: dict[str, Any] = {}
    for number in itertools.count(2):  # until the last row
        try:
            row = next(rows, None)
            if row is None:
                break
            at = row.get("turn") or number
            ref = _ref((_number(row["page"]), _number(row.get("tokens") or "1"), Kind(row.get("kind") or "message")))
            pid = _number(row.get("pid") or "0")
            if pid > PID_MAX:
                raise ValueError(f"pid {pid}; at most {PID_MAX} are allowed")
        except (KeyError, TypeError, AttributeError, ValueError, csv.Error) as exc:
            raise BadInput(f"{path}:{number}: {exc}; columns are {', '.join(HEADER)}") from exc
        if current and current["at"] != at:
            yield _turn(current)
            current = {}
        if not current:
            current = {"at": at, "new": [], "refs": [], "query": "", "pid": pid}
        current["query"] = row.get("query") or current["query"]
        current["new" if row.get("what") == "new" else "refs"].append(ref)
    if current:
        yield _turn(current)


def write_csv(turns: Iterable[Turn], path: Path) -> int:
    """All of it; how many pages were written."""
    import io

    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(HEADER)
    count = 0
    with _out(path) as file:
        for at, turn in enumerate(turns):
            for what, refs in (("new", turn.new), ("ref", turn.refs)):
                for ref in refs:
                    out.writerow((at, turn.pid, what, ref.page, ref.tokens, ref.kind.value, turn.query))
                    count += 1
            file.write(text.getvalue().encode())
            text.seek(0)
            text.truncate()
    return count


class _Line(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A turn in JSON, as `llmos trace record` writes it: pages are [number, tokens, kind], texts those of `new`."""

    new: list[tuple[int, int, Kind]] = []
    refs: list[tuple[int, int, Kind]] = []
    query: str = ""
    pid: Annotated[int, Meta(ge=0, le=PID_MAX)] = 0
    texts: list[str] = []


def read_jsonl(path: Path) -> tuple[list[Turn], list[str]]:
    """A turn a line, and the texts of pages 1, 2, ... ([] if any is missing)."""
    decoder = msgspec.json.Decoder(_Line)
    turns: list[Turn] = []
    texts: dict[int, str] = {}
    for number, line in enumerate(_lines(path, TEXT_BYTES_MAX), 1):
        try:
            found = decoder.decode(line)
            turns.append(Turn(tuple(map(_ref, found.new)), tuple(map(_ref, found.refs)), found.query, found.pid))
        except (msgspec.DecodeError, ValueError, RecursionError) as exc:  # UnicodeDecodeError is a ValueError
            raise BadInput(f"{path}:{number}: {exc}") from exc
        texts.update(zip((ref.page for ref in turns[-1].new), found.texts, strict=False))
    pages = {ref.page for turn in turns for ref in (*turn.new, *turn.refs)}
    whole = pages == set(range(1, len(pages) + 1)) == set(texts)
    return turns, [texts[page] for page in sorted(texts)] if whole else []


def write_jsonl(turns: Iterable[Turn], path: Path, texts: Sequence[str] = ()) -> int:
    """All of it, with the texts of pages 1, 2, ... if there are any; how many pages were written."""
    count = 0
    with _out(path) as file:
        for turn in turns:
            said = [texts[ref.page - 1] for ref in turn.new] if texts else []
            line = _Line(list(turn.new), list(turn.refs), turn.query, turn.pid, said)
            file.write(msgspec.json.encode(line) + b"\n")
            count += len(turn.new) + len(turn.refs)
    return count


def read(path: Path) -> Iterator[Turn]:
    """The turns of a file in any of the formats, by its name."""
    form = format_of(path)
    if form == "jsonl":
        yield from read_jsonl(path)[0]
    else:
        yield from (oracle_general if form == "oracleGeneral" else read_csv)(path)


def write(turns: Iterable[Turn], path: Path) -> int:
    """Write in the format that the name says; how many pages were written."""
    makers = {"oracleGeneral": write_oracle_general, "csv": write_csv, "jsonl": write_jsonl}
    return makers[format_of(path)](turns, path)


def _turn(found: dict[str, Any]) -> Turn:
    return Turn(tuple(found["new"]), tuple(found["refs"]), found["query"], found["pid"])


@contextlib.contextmanager
def _out(path: Path) -> Iterator[IO[bytes]]:
    try:
        with whole.writing(path, gz=path.suffix == ".gz") as file:
            yield file
    except OSError as exc:
        raise BadInput(f"{path} cannot be written: {exc.strerror or exc}; name another file") from exc
