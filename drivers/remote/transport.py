"""One HTTP request at a time to a server, which another thread may cancel: the only file that opens a socket.

Guarantees: what goes wrong is a Fault whose text names the server and the fault, in one line and without the key; no
wait is without a bound, and no answer longer than ANSWER_BYTES_MAX is read. A connection serves one request: closing
it is how a server is told that nobody wants the rest.
Not here: what a request or an answer says (cpu/openai/protocol.py, embed/server.py), and what is tried again.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any, Final

import msgspec

from drivers.remote.address import KEY, Address
from kernel.errors import DeviceError, in_one_line

ANSWER_BYTES_MAX: Final = 64 << 20
PIECE_BYTES: Final = 65_536
QUOTED_CHARS_MAX: Final = 300  # of what a server says about an error
RETRY_AFTER_S_MAX: Final = 600.0
REFUSED: Final = (400, 413, 422)  # the request itself is not taken, and so neither the same one again


class Patience(msgspec.Struct, frozen=True):
    """How long what is waited for, in seconds."""

    connect_s: float = 10.0
    first_s: float = 600.0  # until an answer begins: a long prompt on a slow machine
    stall_s: float = 60.0  # between two pieces of it
    whole_s: float = 3_600.0  # of one answer
    try_out_s: float = 120.0  # for each small request by which a server is tried out at boot: it may load its model
    count_s: float = 0.5  # of counting tokens, for which the machine waits
    retry_s: tuple[float, ...] = (5.0, 60.0, 600.0)  # of one run, by how often the process's last runs failed
    back_off_s: tuple[float, float] = (0.25, 30.0)  # the first and the longest wait before a server is tried again


class Fault(DeviceError):
    """A request failed: `again` says whether it may be asked again, `after_s` from when on."""

    def __init__(self, what: str, *, again: bool = True, after_s: float = 0.0, status: int = 0) -> None:
        super().__init__(what)
        self.again, self.after_s, self.status = again, after_s, status


class Cancelled(Exception):
    """The request was cancelled by `Link.cancel`."""


class Link:
    """A server as one thread talks to it. `cancel` may be called from any other."""

    def __init__(self, address: Address, key: str, patience: Patience) -> None:
        self.address, self._key, self._patience = address, key, patience
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """Close what is open: the request under way, and all later ones, raise Cancelled. Returns at once."""
        with self._lock:
            self._cancelled = True
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)  # wakes who reads; that thread closes it

    def ask(self, path: str, body: Any = None, *, wait_s: float | None = None) -> Any:
        """The JSON that a path answers with: POST of `body`, or GET without one. Raises Fault, Cancelled."""
        raw = b"".join(self.pieces(path, body, wait_s=wait_s))
        try:
            return msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise self.fault(f"its answer to {path} is no JSON: {raw[:80].decode('utf-8', 'replace')!r}") from exc

    def pieces(self, path: str, body: Any = None, *, wait_s: float | None = None) -> Generator[bytes, None, None]:
        """The bytes of an answer as they come. Raises Fault, Cancelled; `wait_s`: for connecting, and each piece."""
        patience = self._patience
        waits = (patience.connect_s, patience.first_s, patience.stall_s) if wait_s is None else (wait_s,) * 3
        connection = self._connection(waits[0])
        try:
            yield from self._answer(connection, path, body, waits[1], waits[2])
        except TimeoutError as exc:
            raise self._failed("it stalled: nothing came for too long") from exc
        except http.client.IncompleteRead as exc:
            raise self._failed("it closed the connection in the middle of an answer") from exc
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise self._failed(_why(exc)) from exc
        finally:
            with self._lock:
                self._socket = None
            connection.close()

    def fault(self, what: str, *, again: bool = True, after_s: float = 0.0, status: int = 0) -> Fault:
        """A Fault of this server."""
        said = what.replace(self._key, "***") if self._key else what
        return Fault(
            f"{self.address}: {in_one_line(Exception(said), 2 * QUOTED_CHARS_MAX)}",
            again=again,
            after_s=after_s,
            status=status,
        )

    def _failed(self, what: str) -> Exception:
        with self._lock:
            return Cancelled() if self._cancelled else self.fault(what)

    def _connection(self, connect_s: float) -> http.client.HTTPConnection:
        one = self.address
        make = http.client.HTTPSConnection if one.scheme == "https" else http.client.HTTPConnection
        connection = make(one.host, one.port, timeout=connect_s)
        with self._lock:
            if self._cancelled:
                raise Cancelled
        try:
            connection.connect()
        except (OSError, ValueError) as exc:
            connection.close()
            raise self._failed(_why(exc)) from exc
        with self._lock:
            self._socket = connection.sock
            if not self._cancelled:
                return connection
            self._socket = None
        connection.close()
        raise Cancelled

    def _answer(
        self, connection: http.client.HTTPConnection, path: str, body: Any, first_s: float, stall_s: float
    ) -> Iterator[bytes]:
        sock = connection.sock
        headers = {"Connection": "close", "Accept": "application/json, text/event-stream"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        raw = None
        if body is not None:
            raw, headers["Content-Type"] = msgspec.json.encode(body), "application/json"
        connection.request("GET" if raw is None else "POST", self.address.base + path, raw, headers)
        sock.settimeout(first_s)
        with connection.getresponse() as response:
            sock.settimeout(stall_s)
            if response.status != 200:
                raise self._refused(
                    response.status, response.headers.get("Retry-After", ""), response.read(PIECE_BYTES)
                )
            taken, end = 0, time.monotonic() + self._patience.whole_s
            while piece := response.read1(PIECE_BYTES):  # ends: an answer is bounded in bytes and in time
                taken += len(piece)
                if taken > ANSWER_BYTES_MAX or time.monotonic() > end:
                    raise self.fault("its answer does not end")
                yield piece
            with self._lock:
                if self._cancelled:
                    raise Cancelled

    def _refused(self, status: int, retry_after: str, raw: bytes) -> Fault:
        """What an answer other than 200 means."""
        said = " ".join(_message(raw).split())[:QUOTED_CHARS_MAX]
        what = f"{status} {http.client.responses.get(status, '')}".strip() + (f": {said}" if said else "")
        if status in (401, 403):
            what += f" (the key is read from {KEY})"
        after_s = _seconds(retry_after)
        if after_s:
            what += f" (to be tried again in {after_s:.0f} s)"
        return self.fault(what, again=status not in REFUSED, after_s=after_s, status=status)


def _message(raw: bytes) -> str:
    """What an error's body says."""
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return raw.decode("utf-8", "replace")
    for _ in range(3):  # {"error": {"message": ...}} and its like
        if not isinstance(found, dict):
            break
        found = next((found[name] for name in ("error", "message", "detail") if name in found), "")
    return found if isinstance(found, str) else ""


def _seconds(retry_after: str) -> float:
    """A Retry-After header, which has seconds or a date; 0: none that can be read."""
    try:
        found = float(retry_after)
    except ValueError:
        try:
            found = email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return 0.0
    return min(max(found, 0.0), RETRY_AFTER_S_MAX) if found == found else 0.0


def _why(exc: Exception) -> str:
    """What an error of the network says, in words."""
    if isinstance(exc, TimeoutError):
        return "no connection in time"
    if isinstance(exc, ConnectionRefusedError):
        return "connection refused; is the server running?"
    if isinstance(exc, http.client.RemoteDisconnected):
        return "it closed the connection without an answer"
    if isinstance(exc, ssl.SSLError):
        return f"no safe connection: {exc.reason or exc}"
    if isinstance(exc, OSError):
        return exc.strerror or str(exc) or type(exc).__name__
    return f"no HTTP: {type(exc).__name__}"
