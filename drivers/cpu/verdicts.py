"""What was found out about files of strangers, kept by what they are, so that it is found out once.

A verdict is a file in the user's cache beside the models. One that cannot be kept is found out again: nothing here
fails. Caller's duty: a key names all that the verdict depends on.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from drivers.disk import whole

VERDICTS_MAX: Final = 256  # files; the oldest go


def home() -> Path:
    """Where llmos keeps what it can get or find out again: models and verdicts. It need not exist yet."""
    named = os.environ.get("LLMOS_HOME")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "llmos"


def get(key: str) -> bytes:
    """What was put under a key; b"" for nothing."""
    try:
        return (_folder() / key).read_bytes()
    except OSError:
        return b""


def put(key: str, verdict: bytes) -> None:
    """Keep a verdict, whole or not at all."""
    with contextlib.suppress(OSError):
        _folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        whole.write(_folder() / key, verdict, sync=False)
        kept = sorted(_folder().iterdir(), key=lambda file: file.stat().st_mtime)
        for old in kept[:-VERDICTS_MAX]:
            old.unlink(missing_ok=True)


def _folder() -> Path:
    return home() / "verdicts"
