"""How data.mdb was left, and so whether it is to be walked over before LMDB opens it: LMDB trusts its file.

`kernel.left` says that a kernel has the file open, on which boot of the host; or, after a clean end, its size, time and
a CRC-32 of all its bytes. Whoever opens it next compares them, which costs a second a GiB at most and mostly far less:
so what befell a file at rest is found, wherever in it and whatever its time says.
Not here: the walk (walk.py), what is done with a damaged file (lmdb.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from drivers.disk import whole
from drivers.disk.seal import boot_of_host, checksum_of

LEFT: Final = "kernel.left"
DEEP_BYTES: Final = 64 << 20  # up to this size a walk compares every checksum, above it only where there is a reason


class Left(msgspec.Struct, frozen=True):
    """How a data.mdb was left: by a clean end of this size, time and content, or open on a host of that boot."""

    ended: bool
    size: int = 0
    mtime_ns: int = 0
    host: str = ""
    crc: int | None = None  # of all bytes; None: nobody has looked


def leave(path: Path, *, ended: bool) -> None:
    """Write down how the file in directory `path` is left. Raises OSError."""
    file = path / "data.mdb"
    crc = checksum_of(file) if ended else None
    seen = file.stat()
    left = Left(ended, seen.st_size, seen.st_mtime_ns, boot_of_host(), crc)
    whole.write(path / LEFT, msgspec.json.encode(left), sync=False)


def reason_to_walk(path: Path) -> tuple[bool, bool]:
    """Whether data.mdb is to be walked over before LMDB opens it, and whether its checksums are to be compared.

    Not after a clean end, if the file is as it was left, to the byte. After a kernel was killed, its pages are the
    host's to write: the structure is enough, unless the host went down too or the file is small; likewise after a clean
    end of an llmos that wrote no CRC.
    """
    file = path / "data.mdb"
    try:
        seen = file.stat()
    except FileNotFoundError:
        return False, False
    try:
        left = msgspec.json.decode((path / LEFT).read_bytes(), type=Left)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return True, True
    if not left.ended:
        return True, left.host != boot_of_host() or not left.host or seen.st_size <= DEEP_BYTES
    if (left.size, left.mtime_ns) != (seen.st_size, seen.st_mtime_ns):
        return True, True
    if left.crc is None:
        return True, seen.st_size <= DEEP_BYTES
    changed = checksum_of(file) != left.crc
    return changed, changed
