"""A file brought here over HTTP, which goes on where it was broken off.

It grows in a part beside its place, with the server's validator of it in a tag; what is there is kept only if the
server still has the same file (RFC 9110, section 13.1.5). The caller's duty: to check what came, and to put it in its
place.
Not here: models (models.py), the data of benchmarks (bench/data.py).
"""

from __future__ import annotations

import contextlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

from kernel.errors import BadInput

BLOCK: Final = 1 << 20  # bytes read at a time
CONNECT_S: Final = 30.0  # silence of a server after which a download is given up

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, bytes done, bytes in all or 0 if unknown), often."""


def download(url: str, headers: dict[str, str], part: Path, tag: Path, what: str, progress: Progress) -> None:
    """Bring `part` to the whole of `url`. `what` begins each message.

    Raises BadInput for what the server says or does not say, and if the connection ends early: then it can be called
    again.
    """
    try:
        _download(url, headers, part, tag, what, progress)
    except urllib.error.HTTPError as exc:
        exc.close()
        raise BadInput(f"{what}: the server says {exc.code} {exc.reason}; check the name") from exc
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as exc:
        why = getattr(exc, "reason", None) or exc or type(exc).__name__
        raise BadInput(f"{what}: {why}; check the name and the network, and pull again to go on") from exc


def _download(url: str, headers: dict[str, str], part: Path, tag: Path, what: str, progress: Progress) -> None:
    """As `download`; raises what urllib does, too."""
    have = part.stat().st_size if part.exists() else 0
    validator = tag.read_text() if tag.exists() else ""
    request = urllib.request.Request(url, headers=headers)
    if have and validator:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", validator)
    try:
        answer = urllib.request.urlopen(request, timeout=CONNECT_S)
    except urllib.error.HTTPError as exc:
        if exc.code != 416:
            raise
        exc.close()  # nothing lies beyond what is there: begin again, for only the server knows whether that is all
        part.unlink()
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=CONNECT_S)
    with answer:
        goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if answer.status == 206 and not goes_on:
            part.unlink(missing_ok=True)
            raise BadInput(f"{what}: the server sent another part than was asked for; pull again")
        have = have if goes_on else 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else 0
        strong = answer.headers.get("ETag", "")
        tag.write_text("" if strong.startswith("W/") else strong or answer.headers.get("Last-Modified", ""))
        with part.open("ab" if goes_on else "wb") as out:
            done = _copy(answer, out, have, total, progress)
    if total and done < total:
        raise BadInput(f"{what}: the connection ended after {done:,} of {total:,} bytes; pull again to go on")


def _copy(answer: Any, out: IO[bytes], done: int, total: int, progress: Progress) -> int:
    """Copy a response's body; returns the bytes there are now, which may be fewer than `total`."""
    with contextlib.suppress(http.client.IncompleteRead, ConnectionError):  # the caller compares the counts
        while block := answer.read1(BLOCK):  # until its end
            out.write(block)
            done += len(block)
            progress("downloading", done, total)
    return done
