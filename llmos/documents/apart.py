"""PDF and HTML are read in a process of their own, for a file is a stranger's and their libraries are C.

The process has limits of time, memory and what it may give back, writes no file, and reads none but its standard input;
what goes wrong in it is one line. `python -m llmos.documents.apart KIND` prints a Found as JSON.
Not here: what is done with the pieces (read.py).
"""

from __future__ import annotations

import contextlib
import html.parser
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from drivers.cpu.llama.trial import space
from kernel.errors import BadInput
from kernel.limits import HEADINGS_MAX
from kernel.machine.documents import Piece
from kernel.memory.words import words
from llmos.documents import markdown
from llmos.documents.pieces import lines_of, paragraphs, pieces

PATIENCE_S: Final = 120.0
COMPUTING_S: Final = 100  # of which it may compute
SPACE_BYTES: Final = 1 << 30  # beside the libraries and the file
PAGES_MAX: Final = 20_000  # of a PDF
SAID_MAX: Final = 200  # characters of a library's complaint


class Found(msgspec.Struct, frozen=True):
    """What a file has. `why`: why it cannot be read, "" if it can."""

    pieces: tuple[Piece, ...] = ()
    why: str = ""


def read(kind: str, content: bytes) -> Found:
    """The pieces of a PDF or HTML file's content, found in another process."""
    command = [sys.executable, "-P", "-m", "llmos.documents.apart", kind]
    try:
        done = subprocess.run(  # noqa: S603
            command, input=content, capture_output=True, timeout=PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Found(why=f"reading it took more than {PATIENCE_S:.0f} s")
    if done.returncode:
        said = (done.stderr.decode(errors="replace").strip().splitlines() or [f"status {done.returncode}"])[-1]
        died = signal.Signals(-done.returncode).name if done.returncode < 0 else said[:SAID_MAX]
        return Found(why=f"it is damaged, or too large: its reader ended with {died}")
    return msgspec.json.decode(done.stdout, type=Found)


# The process of its own


def pdf(content: bytes) -> Found:
    """The pages of a PDF as pieces, under the headings of its outline."""
    try:
        import pypdfium2
    except ImportError:
        return Found(why="PDF needs pypdfium2: pip install 'llmos[documents]'")
    try:
        document = pypdfium2.PdfDocument(content)
        count = len(document)
    except pypdfium2.PdfiumError as exc:
        locked = "password" in str(exc).lower() or "security" in str(exc).lower()
        return Found(why="it is encrypted; give it without a password" if locked else f"it is no whole PDF ({exc})")
    if count > PAGES_MAX:
        return Found(why=f"it has {count} pages; at most {PAGES_MAX} are read")
    headings = _outline(document)
    found: list[Piece] = []
    for number in range(1, count + 1):
        text = _page_text(document, number - 1)
        lines = [line.rstrip() for line in lines_of(text.replace("\0", ""))]
        for piece in pieces(lines, paragraphs(lines)):
            placed = {"first": number, "last": number, "headings": headings(number)}
            found.append(msgspec.structs.replace(piece, **placed))
    return Found(tuple(found)) if found else Found(why="it has no text; a scan must be recognised first")


def _page_text(document: Any, index: int) -> str:
    import pypdfium2

    try:
        return str(document[index].get_textpage().get_text_bounded())
    except pypdfium2.PdfiumError:
        return ""


def _outline(document: Any) -> Any:
    """By number of a page the headings it stands under."""
    entries: list[tuple[int, int, str]] = []
    with contextlib.suppress(Exception):  # an outline that is damaged is none
        for mark in document.get_toc(max_depth=HEADINGS_MAX):
            place = mark.get_dest()
            index = place.get_index() if place is not None else None
            if index is not None:
                entries.append((index + 1, mark.level, " ".join(mark.get_title().split())))
    entries.sort(key=lambda one: one[0])  # stable: as they stand

    def headings(number: int) -> tuple[str, ...]:
        above: list[tuple[int, str]] = []
        for page, level, title in entries:
            if page > number:
                break
            above = [one for one in above if one[0] < level]
            above.append((level, title))
        return tuple(title for _, title in above if title)[-HEADINGS_MAX:]

    return headings


def web(content: bytes) -> Found:
    """The text of a web page as pieces, with the lines of its source in which they stand."""
    try:
        import trafilatura
    except ImportError as exc:
        return Found(why=f"HTML needs trafilatura ({exc}): pip install 'llmos[documents]'")
    source = content.decode("utf-8", "replace")
    text = trafilatura.extract(
        source, output_format="markdown", include_formatting=True, include_tables=True, include_comments=False
    )
    if not text or not text.strip():
        return Found(why="it has no text that is not navigation")
    places = _Places(source)
    found = []
    for piece in pieces(lines_of(text), markdown.blocks(text)):
        first, last = places.of(piece.text)
        found.append(msgspec.structs.replace(piece, first=first, last=last))
    return Found(tuple(found))


class _Places(html.parser.HTMLParser):
    """In which lines of a source words stand; texts are looked for one behind the other."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self._words: list[tuple[str, int]] = []
        self._at = 0
        self._line = 1
        self.feed(source)
        self.close()

    def handle_data(self, data: str) -> None:
        """Text between tags."""
        line, at = self.getpos()[0], 0
        for word in words(data):
            line += data.count("\n", at, word.start)
            at = word.start
            self._words.append((word.term, line))

    def of(self, text: str) -> tuple[int, int]:
        """The first and last line of a text: from where its first words stand next to where its last do."""
        wanted = [word.term for word in words(text)]
        start = self._next(wanted[:4])
        if start < 0:
            return self._line, self._line
        end = self._after(start, len(wanted))
        self._at, self._line = end, self._words[end - 1][1]
        return self._words[start][1], self._line

    def _next(self, wanted: list[str]) -> int:
        if not wanted:
            return -1
        for at in range(self._at, len(self._words) - len(wanted) + 1):
            if all(self._words[at + step][0] == term for step, term in enumerate(wanted)):
                return at
        return -1

    def _after(self, start: int, count: int) -> int:
        return min(len(self._words), start + max(1, count))


def _limited(size: int) -> Iterator[None]:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (COMPUTING_S, COMPUTING_S))
    limit = space(SPACE_BYTES + 20 * size)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    yield


def main(kind: str) -> Found:
    """Read what comes in, under limits."""
    content = sys.stdin.buffer.read()
    with contextlib.contextmanager(_limited)(len(content)):
        try:
            return {"pdf": pdf, "html": web}[kind](content)
        except BadInput as exc:
            return Found(why=str(exc))


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(main(sys.argv[1])))
