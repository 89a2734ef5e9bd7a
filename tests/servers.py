"""A server of the OpenAI protocol in a thread, over real sockets, whose faults are chosen request by request.

It says back what the user said last: as prose, or as the instruction that a schema or tools ask for. It counts four
bytes a token, and so says its usage, unless it is told to lie.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = (
    "500",
    "429",
    "html",
    "no json",
    "bad chunk",
    "error event",
    "closed at once",
    "closed in the middle",
    "no end",
    "stall at once",
    "stall in the middle",
    "other model",
    "empty",
)
"""What can go wrong with a request that is to be asked again, or begun anew."""

UNEMBEDDED = (
    "500",
    "429",
    "html",
    "no json",
    "closed at once",
    "stall at once",
    "no vectors",
    "nan",
    "null",
    "too large",
    "one too few",
    "one too many",
    "uneven",
    "other dimension",
    "other model",
    "numbered from one",
)
"""What can go wrong with a request for vectors."""

STALL_S = 2.0  # a stall; half of it is more than a busy host takes to answer


def vector(text: str, dim: int, seed: str = "") -> list[float]:
    """Of any length, a sum over the words of the text: texts that share words are near each other."""
    found = [0.0] * dim
    for word in text.lower().replace(".", " ").replace("?", " ").split():
        at = hashlib.blake2b(f"{seed}{word}".encode(), digest_size=2 * dim or 1).digest()
        for n in range(dim):
            found[n] += int.from_bytes(at[2 * n : 2 * n + 2], "big") / 4096 - 8
    return found


def tokens(text: str) -> list[int]:
    """Four bytes a token."""
    raw = text.encode()
    return [int.from_bytes(raw[at : at + 4], "big") % (1 << 29) for at in range(0, len(raw), 4)]


class Fake:
    """What a server can and how it fails: `fault(n)` is that of the n-th chat, "" for none."""

    def __init__(self, port: int = 0) -> None:
        self.models = ["fake-7b"]
        self.window = 0  # what /props says; 0: there is no /props
        self.tokenizer = False
        self.schema = self.tools = True
        self.system = "anywhere"  # or first, never
        self.usage: Callable[[int], int] | None = lambda prompt: prompt
        self.reasoning = ""
        self.reasons_as = "reasoning_content"  # the field that has it
        self.inline = ""  # a thought in the content
        self.key = ""
        self.piece_s = 0.0
        self.retry_after = "0.05"  # of a 429
        self.fault: Callable[[int], str] = lambda n: ""
        self.reply: Callable[[str], str] = lambda said: f"you said: {said}"
        self.chats: list[dict[str, Any]] = []  # those of the machine: probes are not counted
        self.dim, self.weights = 16, ""  # of what makes its vectors
        self.embeds = True
        self.refuses: Callable[[str], bool] = lambda text: False  # a text that has no vector
        self.unembedded: Callable[[int], str] = lambda n: ""  # the fault of the n-th request for vectors
        self.embedded: list[list[str]] = []  # texts, by request
        self.cancelled = 0  # streams that the client closed
        self.probing = True
        self._dead = False
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self.up(port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def up(self, port: int = 0) -> None:
        """Listen."""
        fake, self._dead = self, False

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:  # noqa: N802
                fake.answer(self, self.path, None)

            def do_POST(self) -> None:  # noqa: N802
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.answer(self, self.path, body)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Listen no more; what is under way ends in the middle."""
        if self._server is not None:
            self._dead = True
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, http: BaseHTTPRequestHandler, path: str, body: Any) -> None:
        if self.key and http.headers.get("Authorization") != f"Bearer {self.key}":
            said = http.headers.get("Authorization", "nothing").removeprefix("Bearer ")
            return _json(http, {"error": {"message": f"Incorrect API key provided: {said}"}}, 401)
        if path == "/v1/models":
            return _json(http, {"data": [{"id": name, "object": "model"} for name in self.models]})
        if path == "/props" and self.window:
            return _json(http, {"default_generation_settings": {"n_ctx": self.window}, "total_slots": 2})
        if path == "/tokenize" and self.tokenizer:
            return _json(http, {"tokens": tokens(body["content"])})
        if path == "/v1/chat/completions":
            return self._chat(http, body)
        if path == "/v1/embeddings" and self.embeds:
            return self._embed(http, body)
        return _json(http, {"error": "not found"}, 404)

    def _chat(self, http: BaseHTTPRequestHandler, body: Any) -> None:
        with self._lock:
            number = len(self.chats)
            fault = "" if self.probing else self.fault(number)
            if not self.probing:
                self.chats.append(body)
        roles = [one["role"] for one in body["messages"]]
        if self.system != "anywhere" and "system" in roles[1:] or self.system == "never" and "system" in roles:
            return _json(http, {"error": {"message": "the template takes no system message here"}}, 400)
        if self._failed(http, fault):
            return None
        with contextlib.suppress(OSError):
            self._stream(http, body, fault)
        return None

    def _embed(self, http: BaseHTTPRequestHandler, body: Any) -> None:
        texts = body["input"]
        with self._lock:
            fault = self.unembedded(len(self.embedded))
            self.embedded.append(texts)
        if any(map(self.refuses, texts)):
            fault = "400"
        if self._failed(http, fault):
            return
        dim = self.dim * 2 if fault == "other dimension" else self.dim
        rows: list[Any] = [vector(text, dim, "x" if fault == "other model" else self.weights) for text in texts]
        match fault:
            case "nan":
                rows[0][0] = math.nan
            case "null":
                rows[0][0] = None
            case "too large":
                rows[0][0] = 1e300
            case "uneven":
                rows[0] = rows[0][1:]
            case "one too few":
                rows = rows[1:]
            case "one too many":
                rows = [*rows, rows[0]]
        numbers = [n + (fault == "numbered from one") for n in range(len(rows))]
        data = [{"object": "embedding", "index": n, "embedding": row} for n, row in zip(numbers, rows, strict=True)]
        _json(http, {} if fault == "no vectors" else {"data": data[::-1], "model": body["model"]})

    def _failed(self, http: BaseHTTPRequestHandler, fault: str) -> bool:
        """Whether a request ends with a fault that has nothing to do with what was asked."""
        match fault:
            case "500":
                _json(http, {"error": {"message": "out of memory"}}, 500)
            case "429":
                _json(http, {"error": {"message": "too many"}}, 429, {"Retry-After": self.retry_after})
            case "400":
                _json(http, {"error": {"message": "the prompt exceeds the context"}}, 400)
            case "html":
                _raw(http, b"<html>bad gateway</html>", 502)
            case "no json":
                _raw(http, b"{not json", 200)
            case "closed at once":
                pass
            case "stall at once":
                time.sleep(STALL_S)
            case _:
                return False
        return True

    def _stream(self, http: BaseHTTPRequestHandler, body: Any, fault: str) -> None:
        http.send_response(200)
        http.send_header("Content-Type", "text/event-stream")
        http.end_headers()
        prompt = sum(len(tokens(one["content"])) + 5 for one in body["messages"]) + 3
        pieces, finish = list(self._pieces(body)), "stop"
        most = 3 if fault == "length" else body["max_tokens"]
        if len(pieces) > most:
            pieces, finish = pieces[:most], "length"
        model = "another" if fault == "other model" else body["model"]
        for number, delta in enumerate(pieces if fault != "empty" else []):
            if number == len(pieces) // 2 and fault in ("closed in the middle", "stall in the middle"):
                time.sleep(STALL_S if fault[0] == "s" else 0)
                return
            if number == 1 and fault == "bad chunk":
                http.wfile.write(b'data: {"choices": [\n\n')
            if number == 1 and fault == "error event":
                http.wfile.write(b'data: {"error": {"message": "the engine died"}}\n\n')
            time.sleep(0.0 if self.probing else self.piece_s)
            if self._dead:
                return
            try:
                _event(http, {"model": model, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
            except OSError:
                self.cancelled += 1
                raise
        if fault in ("no end", "empty"):
            return
        last: dict[str, Any] = {"model": model, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
        if self.usage is not None:
            last["usage"] = {"prompt_tokens": self.usage(prompt), "completion_tokens": len(pieces)}
        _event(http, last)
        http.wfile.write(b"data: [DONE]\n\n")

    def _pieces(self, body: Any) -> Iterator[dict[str, Any]]:
        """The deltas of an answer, a token each."""
        for piece in _cut(self.reasoning):
            yield {self.reasons_as: piece}
        said = next((one["content"] for one in reversed(body["messages"]) if one["role"] == "user"), "")
        text = self.reply(said)
        wanted = body.get("response_format") if self.schema else None
        if wanted is not None:
            schema = wanted["json_schema"]["schema"]
            names = [form["properties"]["op"]["enum"][0] for form in schema.get("anyOf", [schema])]
            call = {"op": "send_message", "text": text} if "send_message" in names else {"op": names[-1]}
            text = json.dumps(call)
        elif self.tools and body.get("tools"):
            names = [tool["function"]["name"] for tool in body["tools"]]
            name = "send_message" if "send_message" in names else names[-1]
            arguments = json.dumps({"text": text} if name == "send_message" else {})
            yield {"tool_calls": [{"index": 0, "function": {"name": name, "arguments": ""}}]}
            for piece in _cut(arguments):
                yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
            return
        for piece in _cut(self.inline + text):
            yield {"content": piece}


def _cut(text: str) -> Iterator[str]:
    for at in range(0, len(text), 4):
        yield text[at : at + 4]


def _event(http: BaseHTTPRequestHandler, what: Any) -> None:
    http.wfile.write(b"data: " + json.dumps(what).encode() + b"\n\n")
    http.wfile.flush()


def _json(http: BaseHTTPRequestHandler, what: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
    _raw(http, json.dumps(what).encode(), status, headers)


def _raw(http: BaseHTTPRequestHandler, raw: bytes, status: int, headers: dict[str, str] | None = None) -> None:
    http.send_response(status)
    for name, value in {"Content-Length": str(len(raw)), **(headers or {})}.items():
        http.send_header(name, value)
    http.end_headers()
    http.wfile.write(raw)
