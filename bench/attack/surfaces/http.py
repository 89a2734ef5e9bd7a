"""The HTTP door: requests to a real machine over TCP, one a trial.

A third asks the native API what its types admit, or says it wrong in one place, which must be refused; a fifth asks
OpenAI's protocol, as its clients do or damaged; a tenth comes without the token, by another name or from another page,
and must be refused; a quarter is no HTTP, or was; a tenth sends a part, keeps its connection and says no more. After
each the machine answers another client. Whatever is refused says why and in which request, and nothing is a 5xx but a
kernel that stops.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import urlencode

from bench.attack import values
from bench.attack.machines import Machines, checked
from bench.attack.mutate import mutated
from bench.attack.surface import HANG_S, Guard, Surface, Trial, Wrong, instead
from bench.attack.surfaces.protocol import AGAIN, ANEW, HINTS
from drivers.door import wire
from drivers.door.http import errors, server, token
from drivers.door.http.access import Access
from drivers.door.http.openapi import REFUSED
from drivers.door.wire import READS, op
from kernel.text import printable

SLOW_MAX: Final = 400  # connections that were begun and left
SHORT_S: Final = 2.0  # for a head or a body, here: slow ones are cut while others are tried
GETS: Final = frozenset(op(kind) for kind in READS)
HINTS_HERE: Final = {**HINTS, "within_s": lambda draw: 0.0, "part": lambda draw: "bm90aGluZw=="}
MODELS: Final = (
    "main",
    "clerk",
    "1",
    "new:default",
    "new:nobody",
    "nobody",
    "",
    "~0",
    "[summary]",
    7,
    None,
    "embedder",
)
ROLES: Final = ("user", "assistant", "system", "developer", "tool", "", None)
SCHEMA: Final = {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "string"}}}
TOOL: Final = {"type": "function", "function": {"name": "f", "description": "does", "parameters": SCHEMA}}
EXTRA: Final[tuple[tuple[str, tuple[Any, ...]], ...]] = (
    ("stream", (True, False, "yes")),
    ("max_tokens", (1, 5, 0, -1, 1 << 70, 1.5)),
    ("stop", ("a", ["b", "c"], [], [""], "x" * 999, 3)),
    ("temperature", (0, 0.5, 2, 9, "hot", None)),
    ("seed", (1, 1 << 80, "s")),
    ("n", (1, 2)),
    ("tools", ([], [{"type": "function"}], "x", [TOOL], [TOOL, TOOL], [{"name": "f", "input_schema": SCHEMA}])),
    ("tool_choice", ("auto", "none", "required", {"type": "any"}, {"type": "function", "name": "f"}, 3)),
    ("response_format", ({"type": "text"}, {"type": "json_object"}, {"type": "json_schema", "json_schema": {}})),
    ("text", ({"format": {"type": "json_schema", "schema": SCHEMA}}, {"format": 1}, 2)),
    ("system", ("Be brief.", [{"type": "text", "text": "Be brief."}], 5)),
    ("stream_options", ({"include_usage": True}, 3)),
    ("previous_response_id", ("resp_nobody", "", 1)),
    ("conversation", ("conv_1", "conv_99", {"id": "conv_2"}, {"id": 1}, "x")),
    ("store", (False, True)),
    ("instructions", ("Be brief.", 5)),
    ("mirostat", (2,)),
)
STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3}) ")


class _Client:
    """Connections to one machine."""

    def __init__(self, url: str, key: str) -> None:
        self.host, self.key = url.removeprefix("http://"), key
        self.kept = http.client.HTTPConnection(self.host, timeout=HANG_S / 2)
        self.slow: deque[socket.socket] = deque()

    def close(self) -> None:
        self.kept.close()
        while self.slow:
            self.slow.pop().close()

    def asked(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        """Status and body of an answer."""
        given = {"Host": self.host, "Authorization": f"Bearer {self.key}", **headers}
        try:
            self.kept.request(method, path, body, {name: value for name, value in given.items() if value})
            found = self.kept.getresponse()
            return found.status, found.read()
        except (http.client.HTTPException, OSError):
            self.kept.close()
            raise

    def raw(self, sent: bytes) -> bytes:
        """What comes back for bytes as they are."""
        address = self.host.rpartition(":")
        got = b""
        sock = socket.create_connection((address[0], int(address[2])), HANG_S / 2)
        with sock, suppress(ConnectionError):
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
            while chunk := sock.recv(1 << 16):
                got += chunk
        return got

    def left(self, sent: bytes) -> None:
        """Begin a request, and leave it so."""
        address = self.host.rpartition(":")
        sock = socket.create_connection((address[0], int(address[2])), HANG_S / 2)
        sock.sendall(sent)
        self.slow.append(sock)
        if len(self.slow) > SLOW_MAX:
            self.slow.popleft().close()


class _Attack:
    def __init__(self, machines: Machines) -> None:
        self.machines, self.made = machines, 0
        self.shape = values.Shape(wire.AnyCommand, HINTS_HERE)
        self.seen: list[bytes] = []
        self.client = self._client()

    def _client(self) -> _Client:
        served = self.machines.served
        return _Client(served.url, token.read(served.folder / token.FILE))

    def trial(self, draw: Random) -> None:
        self.made += 1
        if self.made % AGAIN == 0:
            self._again(new=self.made % ANEW == 0)
        try:
            self._tried(draw)
            self._looked()
        except BaseException:
            self._again()
            raise

    def _looked(self) -> None:
        """Raises Wrong where the machine does not serve another client, unless it was told to stop."""
        served = self.machines.served
        if not served.machine.stopping:
            status, body = self.client.asked("GET", "/healthz", None, {})
            if (status, body) != (200, b'{"status":"ok"}') and not served.machine.stopping:
                raise Wrong(f"then another client was answered {status}: {body[:80]!r}")
        if served.machine.stopping:
            served.join()
        served.look()
        if served.ended:
            self._again()

    def _tried(self, draw: Random) -> None:
        choice = draw.random()
        if choice < 0.35:
            self._native(draw)
        elif choice < 0.55:
            self._openai(draw)
        elif choice < 0.65:
            self._foreign(draw)
        elif choice < 0.9 and self.seen:
            raw = mutated(draw, draw.choice(self.seen), self.seen) if draw.random() < 0.9 else draw.randbytes(300)
            for status in STATUS.findall(self.client.raw(raw)):
                self._judged(int(status), None, repr(raw[:60]))
        elif self.seen:
            whole = draw.choice(self.seen)
            self.client.left(whole[: draw.randrange(len(whole))])

    def _native(self, draw: Random) -> None:
        value, wrong = self.shape.bad(draw) if draw.random() < 0.4 else (self.shape.good(draw), "")
        if not isinstance(value, dict) or not isinstance(value.get("op"), str) or not value["op"].isalpha():
            return
        name = value["op"]
        if name == "stop" and draw.random() < 0.95:
            return
        wrong = "" if "id" in wrong or "op" in wrong else wrong  # which the route has
        fields = {key: one for key, one in value.items() if key not in ("op", "id")}
        if name in GETS:
            query = {key: json.dumps(one) if isinstance(one, bool) else one for key, one in fields.items()}
            with suppress(UnicodeEncodeError):  # half a surrogate pair is in no query
                self._ask("GET", f"/api/{name}?{urlencode(query)}", None)
            return
        raw = values.raw(fields, ascii_only=draw.random() < 0.5) if name != "import" else draw.randbytes(200)
        self._ask("POST", f"/api/{name}", raw, wrong if name != "import" else "no export")

    def _openai(self, draw: Random) -> None:
        texts = [draw.choice(values.TEXTS) for _ in range(draw.randint(1, 5))]
        messages = [{"role": draw.choice(ROLES if draw.random() < 0.3 else ROLES[:2]), "content": one} for one in texts]
        if draw.random() < 0.7:
            messages.append({"role": "user", "content": draw.choice(values.TEXTS)})
        kinds: list[tuple[str, dict[str, Any]]] = [
            ("/v1/chat/completions", {"messages": messages}),
            ("/v1/messages", {"messages": messages, "max_tokens": 9}),
            ("/v1/responses", {"input": draw.choice([messages, texts[0]])}),
            ("/v1/embeddings", {"input": draw.choice([texts, texts[0], [], 5])}),
            ("/v1/conversations", {}),
        ]
        path, body = draw.choice(kinds)
        body["model"] = draw.choice(MODELS)
        for name, some in draw.sample(EXTRA, draw.randint(0, 3)):
            body[name] = draw.choice(some)
        raw = values.raw(body)
        if draw.random() < 0.3:
            raw = mutated(draw, raw, self.seen[-3:])
        self._ask("POST", path, raw)
        self._ask("GET", f"/v1/models/{draw.choice(MODELS)}".replace("[", "%5B").replace("]", "%5D"), None)

    def _foreign(self, draw: Random) -> None:
        headers, wanted = draw.choice(
            [
                ({"Authorization": ""}, 401),
                ({"Authorization": f"Bearer {self.client.key[:-1]}"}, 401),
                ({"Authorization": "Bearer \xff"}, 401),
                ({"Host": "evil.example"}, 421),
                ({"Origin": "https://evil.example"}, 403),
            ]
        )
        path = draw.choice(["/api/info", "/v1/models", "/openapi.json", "/", "/api/events", "/nowhere"])
        status, _ = self._ask("GET", path, None, headers=headers)
        if status != wanted:
            raise Wrong(f"{path} with {headers} was answered {status}")

    def _ask(
        self, method: str, path: str, body: bytes | None, wrong: str = "", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        line = f"{method} {path} HTTP/1.1\r\nHost: {self.client.host}\r\nAuthorization: Bearer {self.client.key}\r\n"
        size = f"Content-Length: {len(body)}\r\n" if body is not None else ""
        self.seen = [*self.seen[-30:], f"{line}{size}\r\n".encode("latin-1", "replace") + (body or b"")[:2_000]]
        status, got = self.client.asked(method, path, body, headers or {})
        self._judged(status, got, printable(f"{method} {path[:60]} {(body or b'')[:100]!r}"))
        if wrong and status < 400:
            raise Wrong(f"{wrong} was accepted: {path[:60]} {(body or b'')[:120]!r} was answered {status}")
        return status, got

    def _judged(self, status: int, got: bytes | None, what: str) -> None:
        if status >= 500 and status not in (503, 505):
            raise Wrong(f"{what} was answered {status}: {(got or b'')[:200]!r}")
        if status not in (100, 200, 204, 303, 505, *REFUSED):
            raise Wrong(f"{what} was answered {status}, which no document has")
        if got is not None and status >= 400 and not json.loads(got)["error"]["request_id"].startswith("req_"):
            raise Wrong(f"{what}: {status} without a request id")

    def _again(self, *, new: bool = False) -> None:
        self.client.close()
        try:
            (self.machines.anew if new else self.machines.again)()
        finally:
            self.client = self._client()


@contextmanager
def _opened(folder: Path) -> Iterator[Trial]:
    with checked() as found, instead(server, "HEAD_S", SHORT_S), instead(server, "BODY_S", SHORT_S):
        attack = _Attack(Machines(folder, found, web=True))
        yield attack.trial
        attack.client.close()
        attack.machines.again()
        attack.machines.served.stop()


def _no_token() -> AbstractContextManager[None]:
    """Whoever comes is let in."""
    return instead(Access, "matches", lambda self, given: True)


def _no_statuses() -> AbstractContextManager[None]:
    """What the kernel refuses is its own mistake."""
    return instead(errors, "STATUSES", ())


GUARDS: Final[dict[str, Guard]] = {"http-token": _no_token, "http-statuses": _no_statuses}
SURFACE: Final = Surface(_opened, guards=GUARDS)
