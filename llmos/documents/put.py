"""A document as requests to a machine: parts of its pieces, each of which it takes in one step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from drivers.door import wire
from kernel.errors import BadInput
from kernel.limits import DOCUMENT_PARTS_MAX, DOCUMENT_PIECES_MAX
from kernel.machine.documents import Piece
from llmos.documents.read import Read

PART_BYTES: Final = 64 << 10  # of the text of a part: measured and committed within a tenth of a second


def requests(proc: str | int, document: Read) -> Iterator[wire.Put]:
    """What puts a document into a process's archive. Raises BadInput for one of too many pieces."""
    parts = list(_parts(document.pieces))
    if len(parts) > DOCUMENT_PARTS_MAX:
        raise BadInput(f"{document.path}: it has too much text for one document")
    for number, part in enumerate(parts):
        yield wire.Put(
            id=0,
            proc=proc,
            path=document.path,
            digest=document.digest,
            pieces=tuple(part),
            part=number,
            parts=len(parts),
            paged=document.paged,
        )


def _parts(pieces: tuple[Piece, ...]) -> Iterator[list[Piece]]:
    part: list[Piece] = []
    size = 0
    for piece in pieces:
        bytes_ = len(piece.text.encode())
        if part and (len(part) == DOCUMENT_PIECES_MAX or size + bytes_ > PART_BYTES):
            yield part
            part, size = [], 0
        part.append(piece)
        size += bytes_
    if part:
        yield part
