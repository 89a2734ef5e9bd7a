"""Lines over a Unix socket, and the socket's address: what both ends of a connection need.

Guarantee: no more of a line than LINE_BYTES_MAX is held, whatever the other end sends.
Not here: what a line says (wire.py), who listens (socket.py), who connects (llmos/client.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from drivers.door import wire
from kernel.errors import BadInput

if TYPE_CHECKING:
    import trio

READ_BYTES: Final = 65_536
PATH_BYTES_MAX: Final = 107  # sockaddr_un holds 108 bytes, the last of them zero


@contextmanager
def address(path: Path) -> Iterator[str]:
    """A name for a socket's `path` that is short enough for the kernel of the host, while the context lasts.

    Raises BadInput if there is none: the directory is missing, or the path is long and the host has no /proc.
    """
    name = os.fspath(path.absolute())
    if len(os.fsencode(name)) <= PATH_BYTES_MAX:
        yield name
        return
    try:
        directory = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as exc:
        raise BadInput(f"{path.parent}: {exc.strerror}") from exc
    try:
        short = f"/proc/self/fd/{directory}/{path.name}"
        if len(os.fsencode(short)) > PATH_BYTES_MAX or not os.path.isdir(os.path.dirname(short)):
            raise BadInput(
                f"{path}: a socket's path has at most {PATH_BYTES_MAX} bytes, this one {len(os.fsencode(name))}; "
                "take a directory with a shorter name"
            )
        yield short
    finally:
        os.close(directory)


class Lines:
    """Lines of a stream, none longer than LINE_BYTES_MAX."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer that hold no newline

    async def next(self) -> bytes | None:
        """The next line without its newline; None at the end, and for a line that the end cuts off.

        Raises BadInput for a line that is too long, once it has been skipped.
        """
        skipping = False
        while True:  # until a newline or the end
            end = self._buffer.find(b"\n", self._searched)
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                self._searched = 0
                if skipping or len(line) > wire.LINE_BYTES_MAX:
                    raise BadInput(f"the line is longer than {wire.LINE_BYTES_MAX} bytes; send less in one line")
                return line
            if skipping or len(self._buffer) > wire.LINE_BYTES_MAX:
                skipping = True
                self._buffer.clear()
            self._searched = len(self._buffer)
            chunk = await self._stream.receive_some(READ_BYTES)
            if not chunk:
                return None
            self._buffer += chunk
