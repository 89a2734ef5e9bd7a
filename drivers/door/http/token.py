"""The token of a machine's HTTP door: made once, in a file of its directory that its owner alone may read.

Not here: who is let in with it (access.py).
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from drivers.disk import whole
from kernel.errors import BadInput

FILE: Final = "http.token"
TOKEN_BYTES: Final = 32
TOKEN_CHARS_MAX: Final = 512  # of a file's: more is none that was made here


def made(file: Path) -> str:
    """The token of a file, which is made if it is not there. Raises BadInput if it cannot be."""
    if not file.exists():
        renew(file)
    return read(file)


def renew(file: Path) -> None:
    """Make another token; whoever has the old one is shut out."""
    try:
        file.unlink(missing_ok=True)  # its mode would stay
        whole.write(file, f"{secrets.token_urlsafe(TOKEN_BYTES)}\n".encode())
    except OSError as exc:
        raise BadInput(f"{file}: {exc.strerror}") from exc


def read(file: Path) -> str:
    """The token of a file. Raises BadInput for a file that others may read, or that holds none."""
    try:
        with file.open("rb") as stream:
            seen = os.fstat(stream.fileno())
            raw = stream.read(TOKEN_CHARS_MAX + 1)
    except OSError as exc:
        raise BadInput(f"{file}: {exc.strerror}; `llmos boot --http ADDRESS` makes it") from exc
    if seen.st_mode & 0o077 or seen.st_uid != os.geteuid():
        raise BadInput(f"{file}: others may read it; `llmos token --new` makes another")
    found = raw.decode("ascii", "replace").strip()
    if not TOKEN_BYTES <= len(found) <= TOKEN_CHARS_MAX or not found.isprintable():
        raise BadInput(f"{file}: holds no token; `llmos token --new` makes one")
    return found
