"""A file as a document: what kind it is, its content's digest, its pieces; and which files a path means.

Guarantees: of what cannot be read one line says why; nothing is read beyond FILE_BYTES_MAX, no link out of a folder is
followed, and of a folder FILES_MAX files at most are taken.
Not here: how it is told to a machine (put.py).
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from kernel.errors import BadInput
from kernel.machine.documents import Piece
from llmos.documents import apart, code, markdown
from llmos.documents.pieces import lines_of, paragraphs, pieces

FILE_BYTES_MAX: Final = 64 << 20
FILES_MAX: Final = 10_000
LOOKED_AT: Final = 8_192  # bytes in which a file shows that it is no text

MARKDOWN: Final = {".md", ".markdown", ".mdown"}
WEB: Final = {".html", ".htm", ".xhtml"}
TEXT: Final = {
    ".txt",
    ".text",
    ".rst",
    ".adoc",
    ".org",
    ".tex",
    ".csv",
    ".tsv",
    ".log",
    ".json",
    ".toml",
    ".yaml",
    ".yml",
    "",
}
CODE: Final = {
    *(".py", ".pyi", ".c", ".h", ".cc", ".cpp", ".hpp", ".cs", ".java", ".kt", ".go", ".rs", ".js", ".mjs", ".ts"),
    *(".tsx", ".jsx", ".rb", ".php", ".pl", ".lua", ".sh", ".bash", ".zig", ".swift", ".scala", ".hs", ".ml", ".ex"),
    *(".erl", ".clj", ".sql", ".r", ".jl", ".vue", ".css", ".cmake", ".mk"),
}
BEGINS: Final = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


class Read(msgspec.Struct, frozen=True):
    """A file that was read. `paged`: its pieces stand on pages."""

    path: str
    digest: str
    pieces: tuple[Piece, ...]
    paged: bool = False


def read(path: Path, name: str = "") -> Read:
    """The document at `path`, called `name`. Raises BadInput in one line if it cannot be read."""
    name = name or os.fspath(path)
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as exc:
        raise BadInput(f"{name}: {exc.strerror or exc}") from exc
    if len(content) > FILE_BYTES_MAX:
        raise BadInput(f"{name}: it has more than {FILE_BYTES_MAX >> 20} MiB")
    if not content.strip():
        raise BadInput(f"{name}: it is empty")
    paged = content.startswith(b"%PDF-") or path.suffix.lower() == ".pdf"
    found = _apart(name, "pdf", content) if paged else _textual(name, path.suffix.lower(), content)
    if not found:
        raise BadInput(f"{name}: it has no text")
    return Read(name, hashlib.blake2b(content, digest_size=16).hexdigest(), found, paged)


def _textual(name: str, suffix: str, content: bytes) -> tuple[Piece, ...]:
    text = _decoded(name, content)
    if suffix in WEB or text[:200].lstrip().lower().startswith(("<!doctype html", "<html")):
        return _apart(name, "html", text.encode())
    lines = lines_of(text)
    if suffix in MARKDOWN:
        return tuple(pieces(lines, markdown.blocks("\n".join(lines))))
    if suffix in CODE:
        return tuple(pieces(lines, code.blocks(lines, python=suffix in (".py", ".pyi"))))
    return tuple(pieces(lines, paragraphs(lines)))


def _decoded(name: str, content: bytes) -> str:
    encoding = next((one for begin, one in BEGINS if content.startswith(begin)), "utf-8")
    if encoding != "utf-16" and b"\0" in content[:LOOKED_AT]:
        raise BadInput(f"{name}: it is binary, and no PDF")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as exc:
        raise BadInput(
            f"{name}: it is no {encoding.upper()} (byte {exc.start + 1}); convert it, as with iconv"
        ) from exc


def _apart(name: str, kind: str, content: bytes) -> tuple[Piece, ...]:
    found = apart.read(kind, content)
    if found.why:
        raise BadInput(f"{name}: {found.why}")
    return found.pieces


def files(given: Sequence[str]) -> list[Path]:
    """The files that paths, folders and patterns mean, each once, in order. Raises BadInput for one that means none.

    Of a folder: what has an ending that is known, no hidden file, no link.
    """
    found: dict[Path, None] = {}
    for one in given:
        path = Path(os.path.expanduser(one))
        if path.is_dir():
            mine = list(_below(path))
        elif path.exists():
            mine = [path]
        else:
            mine = [
                Path(match) for match in sorted(glob.glob(os.fspath(path), recursive=True)) if os.path.isfile(match)
            ]
        if not mine:
            raise BadInput(f"{one}: {'no document in this folder' if path.is_dir() else 'no such file'}")
        found |= dict.fromkeys(mine)
        if len(found) > FILES_MAX:
            raise BadInput(f"{one}: these are more than {FILES_MAX} files; give fewer at once")
    return list(found)


def _below(folder: Path) -> Iterator[Path]:
    known = (MARKDOWN | WEB | TEXT | CODE | {".pdf"}) - {""}
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(root, name)
            if not name.startswith(".") and path.suffix.lower() in known and not path.is_symlink() and path.is_file():
                yield path
