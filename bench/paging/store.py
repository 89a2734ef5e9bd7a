"""What a benchmark derives from its data and need not derive twice: a folder of files named by what they depend on.

In $LLMOS_HOME/bench or ~/.cache/llmos/bench; all of it may be deleted. A damaged file counts as missing.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from drivers.cpu import verdicts
from drivers.disk import whole

T = TypeVar("T")


def folder() -> Path:
    """Where the files lie."""
    return verdicts.home() / "bench"


def digest(*what: Any) -> str:
    """A name for anything that msgpack can write."""
    return hashlib.blake2b(msgspec.msgpack.encode(what), digest_size=16).hexdigest()


def cached(kind: str, key: str, type_: type[T], make: Callable[[], T]) -> T:
    """The value stored under `kind` and `key`, or what `make` gives, stored."""
    path = folder() / kind / f"{key}.msgpack"
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.msgpack.decode(path.read_bytes(), type=type_)
    value = make()
    with contextlib.suppress(OSError):  # a full or read-only home: it is derived again
        path.parent.mkdir(parents=True, exist_ok=True)
        whole.write(path, msgspec.msgpack.encode(value), sync=False)
    return value
