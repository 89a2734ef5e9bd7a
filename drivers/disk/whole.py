"""Files that are written whole or not at all: beside their place, and renamed when they are complete.

Guarantees: until the last byte is written the file of before stays as it was, so a source may be its own target; what
fails leaves it and nothing else. A file that was there keeps its mode, a new one is its owner's alone. What is no file
(a pipe, /dev/stdout) is written to as it is. Raises OSError, with the name that was asked for.
Who writes a file in another way says why, in tests/unit/test_whole.py.
"""

from __future__ import annotations

import contextlib
import glob
import gzip
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, cast

NAME_CHARS: Final = 100  # of the name of before, in the name beside it: names have at most 255 bytes


@contextlib.contextmanager
def writing(path: Path, *, gz: bool = False, sync: bool = True) -> Iterator[IO[bytes]]:
    """A stream whose bytes are the file's, once the context ends without an error. `gz`: packed on the way.

    `sync`: on disk before it has its name; without it a host that goes down may leave less than the whole.
    """
    try:
        place = Path(os.path.realpath(path))  # a link stays one
        mode = _mode(place)
        if mode is not None and not stat.S_ISREG(mode):
            with place.open("wb") as stream, _packed(stream, gz=gz) as out:
                yield out
            return
        aside = place.with_name(f".{place.name[:NAME_CHARS]}.{os.getpid()}-{threading.get_ident()}.part")
        try:
            _sweep(place, aside)
            fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as stream:
                if mode is not None:
                    os.fchmod(stream.fileno(), stat.S_IMODE(mode))
                with _packed(stream, gz=gz) as out:
                    yield out
                stream.flush()
                if sync:
                    os.fsync(stream.fileno())
            os.replace(aside, place)
        except BaseException:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise
    except OSError as exc:
        if exc.errno is None:
            raise
        raise OSError(exc.errno, os.strerror(exc.errno), str(path)) from exc


def write(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Make `content` the file's."""
    with writing(path, sync=sync) as stream:
        stream.write(content)


def _sweep(place: Path, aside: Path) -> None:
    """Remove what writers that were killed have left beside `place`, and `aside`, if it is such a one."""
    for left in place.parent.glob(f".{glob.escape(place.name[:NAME_CHARS])}.*-*.part"):
        with contextlib.suppress(OSError, ValueError):
            writer = int(left.name.removesuffix(".part").rpartition(".")[2].partition("-")[0])
            if left == aside or not _lives(writer):
                left.unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _mode(place: Path) -> int | None:
    try:
        return place.stat().st_mode
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _packed(stream: IO[bytes], *, gz: bool) -> Iterator[IO[bytes]]:
    if not gz:
        yield stream
        return
    packer = gzip.GzipFile(filename="", fileobj=stream, mode="wb")
    yield cast(IO[bytes], packer)
    packer.close()
