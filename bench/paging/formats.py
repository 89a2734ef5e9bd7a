"""Traces in files: which forms are read, what is refused and how it is said, and how a trace is written.

A file's name says its form, and .gz or .zst behind it that it is packed. Requests are read as turns of one reference
each, streamed; only llmos's own forms have turns, arrivals and kinds. What cannot be read is a BadInput in one line,
with the file and the row.
Rules: a page's number is 0 to 2^64-1, and a name that is no number gets one by its hash; a size is 1 to 2^32-1, and
where a form has sizes but this file does not, that is a mistake, unless every page is asked to have size 1; times never
go back; a byte order mark is skipped; a trace has at least one reference.
Not here: what a trace is (trace.py), what a page larger than the budget costs (simulator.py).
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import itertools
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any, BinaryIO, Final, cast

import msgspec
from msgspec import Meta

from bench.paging.trace import Ref, Turn
from drivers.disk import whole
from kernel.errors import BadInput
from kernel.memory.page import Kind
from kernel.text import one_line

PAGE_MAX: Final = (1 << 64) - 1  # of oracleGeneral: an object's number
TOKENS_MAX: Final = (1 << 32) - 1  # and its size
PID_MAX: Final = 1 << 31
BLOCKS_MAX: Final = 1 << 20  # of a line of .lis
NAME_CHARS: Final = 4_096  # of a page that is called by letters
LINE_BYTES_MAX: Final = 64 << 20
TEXT_BYTES_MAX: Final = 1 << 30  # of a JSONL as a whole, unpacked: it is held in memory

RECORD: Final = struct.Struct("<IQIq")  # libCacheSim's oracleGeneral: time, id, size, next access (virtual time, -1)
HEADER: Final = ("turn", "pid", "what", "page", "tokens", "kind", "query")
WRITTEN: Final = ("oracleGeneral", "csv", "jsonl")
FORMATS: Final = (*WRITTEN, "lis", "txt", "trace")
"""As a file's name has them; .txt and .trace are an id a line."""


class Columns(msgspec.Struct, frozen=True):
    """Which columns of a CSV hold what: by number from 1, or by name where the file has a heading. Sizes are added."""

    page: str
    size: tuple[str, ...] = ()
    time: str = ""

    @property
    def numbered(self) -> bool:
        """Whether it needs no heading."""
        return all(one.isdigit() for one in (self.page, *self.size, self.time) if one)


class Reading(msgspec.Struct, frozen=True):
    """How a file is read beyond what its name says. `unit`: every page has size 1."""

    columns: Columns | None = None
    unit: bool = False


AS_NAMED: Final = Reading()
KNOWN: Final = {
    "libcachesim": Columns("2", ("3",), "1"),  # its CSV: time, id, size, next access
    "twitter": Columns("2", ("3", "4"), "1"),  # time, key, sizes of key and value, client, operation, ttl
}
"""Forms of CSV that are known by a name."""
_SPELLED: Final = {"obj-id-col": "page", "obj-size-col": "size", "time-col": "time"}  # as libCacheSim has them


def columns(text: str) -> Columns:
    """Columns as they are given: "page=2,size=4", "page=key,size=bytes", or the name of a known form."""
    if text in KNOWN:
        return KNOWN[text]
    found: dict[str, str] = {}
    for part in text.split(","):
        key, _, value = part.strip().partition("=")
        key = _SPELLED.get(key, key)
        if key not in ("page", "size", "time") or not value or key in found:
            raise BadInput(
                f"--columns {one_line(text)[:80]}: give page=, and size= and time=, each a column's number or name,"
                f" as in page=2,size=4; or {' or '.join(KNOWN)}"
            )
        found[key] = value
    if "page" not in found:
        raise BadInput(f"--columns {one_line(text)[:80]}: page= is missing")
    return Columns(found["page"], tuple(found["size"].split("+")) if "size" in found else (), found.get("time", ""))


def format_of(path: Path, how: Reading = AS_NAMED, forms: Sequence[str] = FORMATS) -> str:
    """The form that a file's name says, or that columns are given for. Raises BadInput for none."""
    names = path.name.removesuffix(".gz").removesuffix(".zst").split(".")
    found = next((name for name in forms if name in names[1:]), None)
    if how.columns is not None and found in (None, "txt", "trace", "csv"):
        return "csv"
    if how.columns is not None:
        raise BadInput(f"{path}: --columns are those of a CSV, and this is {found}")
    if found is None:
        every = ", ".join(f".{name}" for name in forms)
        raise BadInput(
            f"{path}: a trace's name ends with {every}, or these and .gz or .zst; --columns takes any as CSV"
        )
    return found


# Reading.


def read(path: Path, how: Reading = AS_NAMED) -> Iterator[Turn]:
    """The turns of a file. Raises BadInput where it cannot be read, also if nothing is in it."""
    form = format_of(path, how)
    turns: Iterable[Turn]
    if form == "jsonl":
        turns = _unit(read_jsonl(path)[0]) if how.unit else read_jsonl(path)[0]
    elif form == "oracleGeneral":
        turns = oracle_general(path, unit=how.unit)
    elif form == "csv":
        turns = _requests(path, how.columns, how.unit) if how.columns else read_csv(path, unit=how.unit)
    else:
        turns = _blocks(path) if form == "lis" else _names(path)
    empty = True
    for turn in turns:
        empty = empty and not (turn.new or turn.refs)
        yield turn
    if empty:
        raise BadInput(f"{path}: there is no reference in it")


def opened(path: Path) -> BinaryIO:
    """The file, unpacked if its name ends with .gz or .zst. Raises BadInput if it cannot be read."""
    try:
        if path.suffix == ".zst":
            return cast(BinaryIO, _zstd().open(path, "rb"))
        return cast(BinaryIO, gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb"))
    except OSError as exc:
        raise BadInput(f"{path}: {exc.strerror or exc}") from exc


def _zstd() -> Any:
    """The module of Python 3.14, for those before."""
    try:
        from backports import zstd
    except ImportError as exc:
        raise BadInput("a trace in .zst needs backports.zstd: pip install 'llmos[bench]', or unpack it") from exc
    return zstd


@contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """The file, as `opened`; what goes wrong while it is read is BadInput, too."""
    damage: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error)
    if path.suffix == ".zst":
        damage = (*damage, _zstd().ZstdError)
    with opened(path) as file:
        try:
            yield file
        except damage as exc:
            raise BadInput(f"{path}: {getattr(exc, 'strerror', None) or exc}") from exc


def lines(path: Path, most: float = math.inf) -> Iterator[bytes]:
    """The lines of a text, none longer than LINE_BYTES_MAX, all together at most `most` bytes; no byte order mark."""
    size = 0
    with reading(path) as file:
        while line := file.readline(LINE_BYTES_MAX + 1):  # until its end
            if not size and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise BadInput(f"{path}:1: it is UTF-16; save it as UTF-8")
            skip = 3 if not size and line.startswith(b"\xef\xbb\xbf") else 0
            size += len(line)
            if len(line) > LINE_BYTES_MAX or size > most:
                raise BadInput(f"{path}: more than {LINE_BYTES_MAX} bytes in a line, or {most:.0f} in all")
            yield line[skip:]


def _placed(path: Path, row: int, exc: Exception, more: str = "") -> BadInput:
    """A mistake of a file, with its row."""
    return BadInput(f"{path}:{row}: {one_line(str(exc))[:300]}{more}")


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


def _named(text: str) -> int:
    """A page by its number, or by a name, which gets one by its hash. Raises ValueError for what is neither."""
    if text.isascii() and text.isdigit() and len(text) <= 20:
        return int(text)
    if not text or len(text) > NAME_CHARS or re.fullmatch(r"[-+]?[\d.,]+", text):
        raise ValueError(f"page {text[:40]!r}; it is 0 to {PAGE_MAX}, or a name of at most {NAME_CHARS} letters")
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _time(text: str) -> float:
    if not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?", text, re.ASCII):
        raise ValueError(f"time {text[:40]!r} is no number")
    return float(text)


class _Times:
    """Times of a trace, which never go back."""

    def __init__(self) -> None:
        self.last = -math.inf

    def take(self, time: float) -> None:
        """Raises ValueError for one before the last."""
        if not (math.isfinite(time) and time >= self.last):
            raise ValueError(f"time {time:g} is before {self.last:g}, that of the row above; sort it by time")
        self.last = time


def _unit(turns: Iterable[Turn]) -> Iterator[Turn]:
    for turn in turns:
        new, refs = (tuple(ref._replace(tokens=1) for ref in some) for some in (turn.new, turn.refs))
        yield turn._replace(new=new, refs=refs)


def oracle_general(path: Path, *, unit: bool = False) -> Iterator[Turn]:
    """A request a turn, streamed. `unit`: every object has size 1."""
    times, number = _Times(), 0
    with reading(path) as file:
        while block := file.read(RECORD.size * 4096):  # until its end
            if len(block) % RECORD.size:
                raise BadInput(f"{path}: ends inside a record of {RECORD.size} bytes")
            for time, page, size, _ in RECORD.iter_unpack(block):
                number += 1
                try:
                    times.take(time)
                    yield Turn(refs=(_ref((page, 1 if unit else size, Kind.MESSAGE)),))
                except ValueError as exc:
                    raise _placed(path, number, exc) from exc


def _names(path: Path) -> Iterator[Turn]:
    """An id a line, of size 1 each. Empty lines, and those of a star or behind a #, are skipped."""
    for row, line in enumerate(lines(path), 1):
        try:
            text = line.decode().strip()
            if text and text != "*" and not text.startswith("#"):
                if len(text.split()) > 1:
                    raise ValueError("more than an id; --columns page=1 says which word of a line it is")
                yield Turn(refs=(_ref((_named(text), 1, Kind.MESSAGE)),))
        except ValueError as exc:
            raise _placed(path, row, exc) from exc


def _blocks(path: Path) -> Iterator[Turn]:
    """ARC's traces: the first block, how many follow each other from it on, and two numbers that say nothing here."""
    for row, line in enumerate(lines(path), 1):
        try:
            words = line.decode().split()
            if not words:
                continue
            if len(words) < 2:
                raise ValueError("a line is the first block and how many")
            first, count = _number(words[0]), _number(words[1])
            if not 1 <= count <= BLOCKS_MAX:
                raise ValueError(f"{count} blocks; 1 to {BLOCKS_MAX} are allowed")
            refs = [_ref((page, 1, Kind.MESSAGE)) for page in range(first, first + count)]
        except ValueError as exc:
            raise _placed(path, row, exc) from exc
        yield from (Turn(refs=(ref,)) for ref in refs)


def _cells(path: Path, *, comments: bool) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV with their lines. `comments`: what stands between cells is found, and # begins a comment."""
    csv.field_size_limit(LINE_BYTES_MAX)
    rest = lines(path)
    first = next(rest, b"")
    mark = next((one for one in "\t;|, " if one in first.decode("utf-8", "replace").strip()), ",") if comments else ","
    texts = (line.decode() for line in itertools.chain([first], rest))
    rows = csv.reader((" ".join(one.split()) for one in texts) if mark == " " else texts, delimiter=mark)
    while True:  # until the last row
        try:
            row = next(rows, None)
        except (csv.Error, ValueError) as exc:
            raise _placed(path, rows.line_num + 1, exc) from exc
        if row is None:
            return
        if row and any(row):
            yield rows.line_num, row


def _requests(path: Path, wanted: Columns, unit: bool) -> Iterator[Turn]:
    """A request a row of a CSV, of which columns are named."""
    if not wanted.size and not unit:
        raise BadInput(f"{path}: --columns name no size; add size=COLUMN, or --unit if every page has size 1")
    times, places = _Times(), {}
    keys = [wanted.page, *wanted.size, *([wanted.time] if wanted.time else [])]
    if wanted.numbered:
        places = {key: int(key) - 1 for key in keys}
        if min(places.values()) < 0:
            raise BadInput(f"{path}: --columns count from 1")
    for at, (row, cells) in enumerate(_cells(path, comments=True)):
        if not places:
            heads = [one.strip().lstrip("#").strip() for one in cells]
            missing = [key for key in keys if key not in heads and not key.isdigit()]
            if missing:
                raise BadInput(f"{path}:{row}: no column {missing[0]}; there are {one_line(', '.join(heads))[:200]}")
            places = {key: heads.index(key) if key in heads else int(key) - 1 for key in keys}
            continue
        if cells[0].lstrip().startswith("#") or (at == 0 and wanted.numbered and _heading(cells, wanted, places)):
            continue
        try:
            if len(cells) <= max(places.values()):
                raise ValueError(f"{len(cells)} columns, where {max(places.values()) + 1} are needed")
            if wanted.time:
                times.take(_time(cells[places[wanted.time]].strip()))
            size = 1 if unit else sum(_number(cells[places[key]].strip()) for key in wanted.size)
            ref = _ref((_named(cells[places[wanted.page]].strip()), size, Kind.MESSAGE))
        except ValueError as exc:
            raise _placed(path, row, exc) from exc
        yield Turn(refs=(ref,))


def _heading(cells: list[str], wanted: Columns, places: dict[str, int]) -> bool:
    """Whether a first row names its columns: where numbers are due stand words."""
    due = [*wanted.size, *([wanted.time] if wanted.time else [])]
    found = [cells[places[key]].strip() for key in due if places[key] < len(cells)]
    return bool(found) and all(one[:1].isalpha() for one in found)


def read_csv(path: Path, *, unit: bool = False) -> Iterator[Turn]:
    """A page a line, columns by name: `page`, `tokens`; if wanted `turn`, `pid`, `what` (new, ref), `kind`, `query`.

    Lines of one turn stand together; without `turn` each line is one.
    """
    rows = _cells(path, comments=False)
    row, heads = next(rows, (1, []))
    places = {name.strip(): at for at, name in enumerate(heads)}
    missing = [name for name in ("page", *(() if unit else ("tokens",))) if name not in places]
    if missing:
        raise BadInput(
            f"{path}:{row}: no column {missing[0]}; columns are {', '.join(HEADER)}; --columns names others, and"
            " --unit has every page of size 1"
        )
    current: dict[str, Any] = {}

    def cell(cells: list[str], name: str) -> str:
        return cells[places[name]] if name in places else ""

    for row, cells in rows:
        try:
            if len(cells) < len(heads):
                raise ValueError(f"{len(cells)} columns of {len(heads)}")
            at = cell(cells, "turn") or row
            tokens = 1 if unit else _number(cell(cells, "tokens"))
            ref = _ref((_number(cell(cells, "page")), tokens, Kind(cell(cells, "kind") or "message")))
            pid = _number(cell(cells, "pid") or "0")
            if pid > PID_MAX:
                raise ValueError(f"pid {pid}; at most {PID_MAX} are allowed")
            what = cell(cells, "what") or "ref"
            if what not in ("new", "ref"):
                raise ValueError(f"what {what[:40]!r}; it is new or ref")
        except ValueError as exc:
            raise _placed(path, row, exc, f"; columns are {', '.join(HEADER)}") from exc
        if current and current["at"] != at:
            yield _turn(current)
            current = {}
        if not current:
            current = {"at": at, "new": [], "refs": [], "query": "", "pid": pid}
        current["query"] = cell(cells, "query") or current["query"]
        current["new" if what == "new" else "refs"].append(ref)
    if current:
        yield _turn(current)


def _turn(found: dict[str, Any]) -> Turn:
    return Turn(tuple(found["new"]), tuple(found["refs"]), found["query"], found["pid"])


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
    for number, line in enumerate(lines(path, TEXT_BYTES_MAX), 1):
        try:
            found = decoder.decode(line)
            turns.append(Turn(tuple(map(_ref, found.new)), tuple(map(_ref, found.refs)), found.query, found.pid))
        except (msgspec.DecodeError, ValueError, RecursionError) as exc:  # UnicodeDecodeError is a ValueError
            raise _placed(path, number, exc) from exc
        texts.update(zip((ref.page for ref in turns[-1].new), found.texts, strict=False))
    pages = {ref.page for turn in turns for ref in (*turn.new, *turn.refs)}
    complete = pages == set(range(1, len(pages) + 1)) == set(texts)
    return turns, [texts[page] for page in sorted(texts)] if complete else []


# Writing.


def write(turns: Iterable[Turn], path: Path) -> int:
    """Write in the form that the name says; how many pages were written."""
    makers: dict[str, Callable[[Iterable[Turn], Path], int]] = {
        "oracleGeneral": write_oracle_general,
        "csv": write_csv,
        "jsonl": write_jsonl,
    }
    return makers[writable(path)](turns, path)


def writable(path: Path) -> str:
    """The form in which a file of that name is written. Raises BadInput if none is."""
    if path.suffix == ".zst":
        raise BadInput(f"{path}: a trace is written plain or as .gz")
    return format_of(path, forms=WRITTEN)


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
            file.write(RECORD.pack(min(at, TOKENS_MAX), ref.page, ref.tokens, after[at]))
    return len(refs)


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


@contextlib.contextmanager
def _out(path: Path) -> Iterator[IO[bytes]]:
    try:
        with whole.writing(path, gz=path.suffix == ".gz") as file:
            yield file
    except OSError as exc:
        raise BadInput(f"{path} cannot be written: {exc.strerror or exc}; name another file") from exc
