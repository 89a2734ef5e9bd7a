"""What tells whether a file can be trusted: records with their checksums, and the host's boot.

What stands in a table is the value and four bytes of CRC-32 behind it. The checksum covers the table's name, the key
and the value, so a value that damage or a wrong pointer brought to another key is noticed as a flipped bit is. The one
record without is the format's version, which every version reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from kernel.errors import DeviceError
from kernel.formats import FORMS
from kernel.records import CURRENT, FORMAT_ROW, TABLES

try:
    from isal.isal_zlib import crc32  # the same, and many times as fast
except ImportError:
    from zlib import crc32

FORMAT: Final = str(CURRENT.number).encode()  # of what is made here
SEALED: Final = tuple(str(number).encode() for number in FORMS)
"""Formats of this layout, which differ in what stands in the values (kernel/formats.py)."""
UNSEALED: Final = b"1"  # no checksums, no table `base`
SEEDS: Final = {table: crc32(table.encode()) for table in TABLES}
FORMAT_KEY: Final = FORMAT_ROW[1]
PLAIN: Final = dict([FORMAT_ROW])  # the key of a table that has no checksum
BYTES: Final = 4
BLOCK: Final = 4 << 20  # bytes of a file that are read at a time
LATER: Final = frozenset({"said", "audit", "shared", "intent", "used", "tool"})
"""Tables that a directory of before lacks; they are made at its next boot."""


def checksum(data: bytes | memoryview, before: int = 0) -> int:
    """CRC-32 of `data`, behind what has the checksum `before`."""
    return int(crc32(data, before))


def checksum_of(file: Path) -> int:
    """The checksum of a whole file."""
    crc, block = 0, memoryview(bytearray(BLOCK))
    with file.open("rb", buffering=0) as stream:
        while count := stream.readinto(block):  # ends with the file
            crc = checksum(block[:count], crc)
    return crc


def seal(table: str, key: bytes, value: bytes) -> bytes:
    """What is stored for a value."""
    if PLAIN.get(table) == key:
        return value
    return value + crc32(value, crc32(key, SEEDS[table])).to_bytes(BYTES, "little")


def unseal(table: str, key: bytes, raw: bytes) -> bytes:
    """The value of what is stored. Raises DeviceError if it is damaged."""
    if PLAIN.get(table) == key:
        return raw
    value = raw[:-BYTES]
    if crc32(value, crc32(key, SEEDS[table])).to_bytes(BYTES, "little") != raw[-BYTES:]:
        raise DeviceError(
            f"disk: the record of key {key.hex()} in table {table} fails its checksum: data.mdb is damaged;"
            " `llmos fsck` says how far, `llmos restore` brings a backup back"
        )
    return value


def boot_of_host() -> str:
    """What tells one boot of the host from the next: what the page cache held is lost between them. "" if unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
