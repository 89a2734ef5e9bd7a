"""Documents of a process as the disk has them: which there are, in which versions, and what stands where in one.

A document comes in parts, each one step and one message id: `d/PID/PATH/VERSION-DIGEST/PART.PARTS`, the path hashed,
numbers with leading zeros. So the ids of a process's documents are a range of the table `mid`, sorted by document,
version and part; each leads to the part's first page, and its pages follow one another and say where they stand
(`Source` in kernel/memory/page.py). A part that is sent again is a duplicate, as any message is.
All are functions of the disk. Not here: how a file becomes parts (llmos/documents), what a process is told of one
(kernel/paging/documents.py).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from kernel import records
from kernel.errors import BadInput, some
from kernel.event import AnyEvent, Cited, Hit, Open, Opened, OpenOf, Searched
from kernel.limits import (
    CONTENTS_MAX,
    DOCUMENT_PARTS_MAX,
    DOCUMENT_PATH_MAX,
    DOCUMENT_PIECES_MAX,
    DOCUMENTS_SHOWN_MAX,
    HEADING_CHARS_MAX,
    HEADINGS_MAX,
    MESSAGE_BYTES_MAX,
    NUMBER_MAX,
    READ_PAGES_MAX,
)
from kernel.memory.measure import Part
from kernel.memory.page import FilePage, Source, lent
from kernel.memory.prompt import label
from kernel.ports import Reads
from kernel.text import one_line

_KEY: Final = re.compile(rb"d/\d+/([0-9a-f]{16})/(\d{5})-([0-9a-f]{12})/(\d{4})\.(\d{4})")
_AFTER: Final = b"\xff"  # behind all that begins alike
DIGEST: Final = 12  # characters of a content's digest that are kept
PIECE: Final = 256  # pages of one reading


class Piece(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A piece of a document as it comes in: a paragraph or a function, with where it stands. See Source."""

    text: Annotated[str, Meta(min_length=1)]
    first: Annotated[int, Meta(ge=1, le=NUMBER_MAX)]
    last: Annotated[int, Meta(ge=1, le=NUMBER_MAX)]
    headings: Annotated[tuple[str, ...], Meta(max_length=HEADINGS_MAX)] = ()


class Document(msgspec.Struct, frozen=True):
    """A version of a document. `parts`: of so many the parts that are here, by number, each with its first page."""

    path: str
    version: int
    digest: str
    at: int  # when it was put (ns UTC)
    parts: dict[int, int]
    of: int
    newest: bool

    @property
    def whole(self) -> bool:
        """Whether all of it is here."""
        return len(self.parts) == self.of


class DocumentView(msgspec.Struct, frozen=True):
    """A version of a document, for clients. `page`: its first; `whole`: all of its parts are here."""

    path: str
    version: int
    digest: str
    at: int  # ns UTC
    page: int
    whole: bool
    newest: bool


def view(document: Document) -> DocumentView:
    """A version as clients see it."""
    return DocumentView(
        document.path,
        document.version,
        document.digest,
        document.at,
        document.parts[min(document.parts)],
        document.whole,
        document.newest,
    )


def check(path: str, part: int, parts: int, pieces: Sequence[Piece]) -> None:
    """Raises BadInput in one line for a part that cannot be."""
    check_place(path, part, parts)
    if not 0 < len(pieces) <= DOCUMENT_PIECES_MAX:
        raise BadInput(f"{len(pieces)} pieces in a part; 1 to {DOCUMENT_PIECES_MAX} are allowed")
    size = sum(len(piece.text.encode("utf-8", "surrogatepass")) for piece in pieces)
    if size > MESSAGE_BYTES_MAX:
        raise BadInput(f"the part has {size} bytes; at most {MESSAGE_BYTES_MAX} are allowed: make more parts")
    if wrong := next((piece for piece in pieces if piece.last < piece.first), None):
        raise BadInput(f"a piece stands from {wrong.first} to {wrong.last}")


def check_place(path: str, part: int, parts: int) -> None:
    """Raises BadInput in one line for a path, or a number of a part, that cannot be."""
    if not path or one_line(path) != path or len(path) > DOCUMENT_PATH_MAX:
        raise BadInput(f"path {path[:80]!r}: 1 to {DOCUMENT_PATH_MAX} characters in one line are allowed")
    if not 0 <= part < parts <= DOCUMENT_PARTS_MAX:
        raise BadInput(f"part {part} of {parts}: parts count from 0, and at most {DOCUMENT_PARTS_MAX} are allowed")


def placed(piece: Piece, parts: Sequence[Part], path: str, version: int, *, paged: bool) -> list[Source]:
    """Where the parts stand that a piece was divided into."""
    headings = tuple(one_line(one).strip()[:HEADING_CHARS_MAX] for one in piece.headings)
    found, line = list[Source](), piece.first
    for part in parts:
        breaks = 0 if paged else part.text.count("\n")
        first = min(line + (len(part.text) - len(part.text.lstrip("\n")) if breaks else 0), piece.last)
        last = min(line + breaks - (len(part.text) - len(part.text.rstrip("\n")) if breaks else 0), piece.last)
        found.append(Source(path, version, first, max(first, last), paged, headings))
        line += breaks
    if not paged and found:
        found[-1] = msgspec.structs.replace(found[-1], last=piece.last)
    return found


def mid(pid: int, path: str, version: int, digest: str, part: int, parts: int) -> str:
    """The message id of a part."""
    return records.document_mid(pid, place(path, version, digest, part, parts))


def place(path: str, version: int, digest: str, part: int, parts: int) -> str:
    """Which part of which document it is, whosever that is."""
    return f"{_hashed(path)}/{version:05}-{digest[:DIGEST]}/{part:04}.{parts:04}"


def _hashed(path: str) -> str:
    return hashlib.blake2b(path.encode(), digest_size=8).hexdigest()


def version_for(disk: Reads, pid: int, path: str, digest: str, *, first: bool) -> int:
    """The version that a document of this content is, or is to be: the newest, if it has that content, else a new one.

    A part that is not the `first` belongs to the newest version of its content.
    """
    known = list(_versions(disk, pid, path))
    if not known:
        return 1
    if known[0][1] == digest[:DIGEST]:
        return known[0][0]
    same = [version for version, content in known if content == digest[:DIGEST]]
    return same[0] if same and not first else known[0][0] + 1


def newest(disk: Reads, pid: int, path: str) -> int:
    """The newest version of a document; 0 if there is none."""
    return next(iter(_versions(disk, pid, path)), (0, ""))[0]


def _versions(disk: Reads, pid: int, path: str) -> Iterator[tuple[int, str]]:
    """Versions of a document with their contents' digests, newest first."""
    prefix = f"d/{pid}/{_hashed(path)}/".encode()
    start = prefix + _AFTER
    while found := disk.scan("mid", start, reverse=True, limit=1):  # ends: each round is further down
        key = found[0][0]
        match = _KEY.fullmatch(key)
        if not key.startswith(prefix):
            return
        if match is not None:
            yield int(match[2]), match[3].decode()
        start = key[: key.rindex(b"/")]


def listed(disk: Reads, pid: int, path: str = "") -> list[Document]:
    """Documents of a process, every version, or those called `path`, in the order of their versions."""
    prefix = f"d/{pid}/{_hashed(path)}/".encode() if path else f"d/{pid}/".encode()
    found: dict[tuple[bytes, bytes], tuple[int, dict[int, int]]] = {}
    start = prefix
    while rows := disk.scan("mid", start, limit=records.CHUNK):
        for key, value in rows:
            if key.startswith(prefix) and (match := _KEY.fullmatch(key)) is not None:
                parts = found.setdefault((match[1], key[: key.rindex(b"/")]), (int(match[5]), {}))[1]
                parts[int(match[4])] = records.unkey(value)[1]
        start = rows[-1][0] + b"\0"
        if not rows[-1][0].startswith(prefix):
            break
    documents: list[Document] = []
    last = {name: key for name, key in found}  # of each document
    for (name, key), (of, parts) in found.items():
        page = file_page(disk, parts[min(parts)])
        if page is not None and page.source is not None and page.pid == pid:
            source, digest = page.source, key[-DIGEST:].decode()
            is_newest = last[name] == key
            documents.append(Document(source.path, source.version, digest, page.at, parts, of, is_newest))
    return sorted(documents, key=lambda one: (one.path, one.version))


def file_page(disk: Reads, number: int) -> FilePage | None:
    """A page of a document; None if it is none."""
    row = disk.get("page", records.key(number))
    return None if row is None else records.file_of(row)


def pages(disk: Reads, document: Document) -> Iterator[FilePage]:
    """The pages of a version, in the order of the document."""
    for _, first in sorted(document.parts.items()):
        others = set(document.parts.values()) - {first}
        start, going, owner = first, True, None
        while going and (rows := disk.scan("page", records.key(start), limit=PIECE)):
            for _, row in rows:
                page = records.file_of(row)
                source = None if page is None else page.source
                going = (
                    source is not None
                    and page is not None
                    and (source.path, source.version) == (document.path, document.version)
                    and page.pid == (owner or page.pid)
                    and page.id not in others
                )
                if not going or page is None:
                    break
                start, owner = page.id + 1, page.pid
                yield page


def contents(disk: Reads, document: Document) -> list[tuple[str, int]]:
    """The headings of a document, each indented as deep as it stands, with the line or page it begins at."""
    found: list[tuple[str, int]] = []
    above: tuple[str, ...] = ()
    for page in pages(disk, document):
        assert page.source is not None
        headings = page.source.headings
        same = next((at for at, (one, other) in enumerate(zip(above, headings, strict=False)) if one != other), None)
        for depth in range(min(len(above), len(headings)) if same is None else same, len(headings)):
            found.append(("  " * depth + headings[depth], page.source.first))
        above = headings
        if len(found) >= CONTENTS_MAX:
            break
    return found


def chosen(disk: Reads, pid: int, path: str) -> tuple[Document | None, str]:
    """The newest version of the document that a process calls `path`, or the one whose path ends so; or why none is."""
    mine = [one for one in listed(disk, pid) if one.newest]
    exact = [one for one in mine if one.path == path]
    ends = exact or [one for one in mine if one.path.endswith("/" + path)]
    if len(ends) == 1:
        return ends[0], ""
    names = some(one.path for one in (ends or mine)[:DOCUMENTS_SHOWN_MAX])
    return None, f"{path!r} is {'several documents' if ends else 'no document'}; documents are: {names}"


def cited(event: AnyEvent, disk: Reads) -> AnyEvent:
    """An event as the kernel is to have it: what a search has found and is there yet, with whose it is."""
    if not isinstance(event, Searched):
        return event
    found: dict[int, Cited] = {}
    owners: dict[int, int] = {}
    hits: list[Hit] = []
    for hit, page in zip(event.hits, records.pages_of(disk, [hit.page for hit in event.hits]), strict=True):
        if page is None:  # another's, who is no more
            continue
        hits.append(hit)
        if page.pid != event.pid:
            owners[page.id], page = page.pid, lent(page)
        if label(page):
            source = page.source if isinstance(page, FilePage) else None
            last = 0 if source is None else newest(disk, page.pid, source.path)
            found[hit.page] = Cited(page.origin, source, last)
    return msgspec.structs.replace(event, hits=tuple(hits), cited=found, owners=owners)


def opened(disk: Reads, what: Open) -> tuple[Opened, list[FilePage]]:
    """What a document has at a place, and its pages there, of which READ_PAGES_MAX at most are given."""
    answer = Opened(source="disk", pid=what.pid, req=what.req, cursor=what.cursor)
    whose = what.whose if isinstance(what, OpenOf) else what.pid
    if not what.path:
        mine = [one for one in listed(disk, whose) if one.newest]
        rows = tuple((one.path, one.version) for one in mine)
        error = "" if mine else "there are no documents"
        return _headed(msgspec.structs.replace(answer, error=error), rows), []
    document, why = chosen(disk, whose, what.path)
    if document is None:
        return msgspec.structs.replace(answer, error=why), []
    answer = msgspec.structs.replace(answer, path=document.path, version=document.version)
    headings = tuple(contents(disk, document)) if not what.at else ()
    if headings:
        first = next(pages(disk, document)).source
        assert first is not None
        return _headed(msgspec.structs.replace(answer, paged=first.paged), headings), []
    found = _at(list(pages(disk, document)), what.at)
    if not found and what.at:
        return msgspec.structs.replace(answer, error=f"{document.path} has no {what.at!r}; open it without at"), []
    given = found[what.cursor : what.cursor + READ_PAGES_MAX]
    if not given:
        return msgspec.structs.replace(answer, error=f"{document.path} ends before cursor {what.cursor}"), []
    more = what.cursor + len(given) if what.cursor + len(given) < len(found) else 0
    places = tuple(page.source for page in given if page.source is not None)
    return msgspec.structs.replace(answer, more=more, places=places, paged=places[0].paged), given


def _headed(answer: Opened, rows: tuple[tuple[str, int], ...]) -> Opened:
    shown = rows[answer.cursor : answer.cursor + CONTENTS_MAX]
    more = answer.cursor + len(shown)
    error = answer.error or ("" if shown else f"there is nothing from cursor {answer.cursor} on")
    return msgspec.structs.replace(answer, error=error, headings=shown, more=more if more < len(rows) else 0)


def _at(found: list[FilePage], at: str) -> list[FilePage]:
    """The pages from a line or page of a document on, or under a heading: of that name, or with it in its name."""
    if not at:
        return found
    if at.isascii() and at.isdigit():
        return [page for page in found if page.source is not None and page.source.last >= int(at)]
    wanted = " ".join(at.split()).casefold()

    def under(fits: Callable[[str], bool]) -> list[FilePage]:
        return [page for page in found if page.source is not None and any(map(fits, page.source.headings))]

    return under(lambda heading: heading.casefold() == wanted) or under(lambda heading: wanted in heading.casefold())
