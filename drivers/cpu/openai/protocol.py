"""What a server streams, from bytes to an answer: server-sent events, and the chunks of a chat completion. Sans-IO.

Guarantees: whatever the bytes are, the result is an Answer or a Malformed with one line; fields that are missing or of
another type than the protocol has count as not said. Reasoning is kept apart, in `thought`: it is never part of the
text, be it told apart by the server, between marks, or in front of the mark that ends it (templates may open it).
Not here: where the bytes come from (remote/transport.py), what is asked for (asking.py), whether a usage is believed
(counting.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

LINE_BYTES_MAX: Final = 8 << 20
WHOLE: Final = ("stop", "tool_calls", "function_call")  # finish reasons of an answer that was not cut off
THINKS, THOUGHT = "<think>", "</think>"  # of a server that does not tell thoughts apart
ENDED: Final = re.compile(r"(?:^|\n)[ \t]*</think>[ \t]*(?:\n|$)")  # on a line of its own: not what a text speaks of
REASONING: Final = ("reasoning_content", "reasoning")


class Malformed(Exception):
    """What came is not the protocol; the text says what."""


class Usage(msgspec.Struct, frozen=True):
    """What a server says that it counted; -1: it does not say."""

    prompt: int = -1
    emitted: int = -1
    evaluated: int = -1  # of the prompt, what was not found in its cache


class Events:
    """Server-sent events out of bytes, whatever pieces they come in."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> Iterator[str]:
        """The data of each event that `piece` completes. Raises Malformed."""
        lines = (self._rest + piece).replace(b"\r\n", b"\n").split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > LINE_BYTES_MAX:
            raise Malformed("a line of its stream does not end")
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" ").decode("utf-8", "replace"))
            elif not line and self._data:
                yield "\n".join(self._data)
                self._data.clear()

    def end(self) -> Iterator[str]:
        """The data of an event that nothing came after."""
        yield from self.feed(b"\n\n")


class Answer:
    """A chat completion as it comes: text, calls of tools, how it ended, what was counted."""

    def __init__(self) -> None:
        self.text = ""
        self.finish = ""  # "" until the server says how it ended
        self.model = ""
        self.usage = Usage()
        self.thought = ""  # its reasoning
        self.done = False
        self._raw, self._tool, self._arguments = "", "", ""

    @property
    def begun(self) -> bool:
        """Whether anything of an instruction has come."""
        return bool(self.text or self._tool)

    @property
    def cut_off(self) -> bool:
        """Whether the server ended it before it was complete."""
        return bool(self.finish) and self.finish not in WHOLE

    def take(self, data: str) -> str:
        """Take the data of an event; the text that it adds. Raises Malformed."""
        if data.strip() == "[DONE]":
            self.done = True
            return ""
        return self.add(_decoded(data))

    def add(self, chunk: Any) -> str:
        """Take a chunk, or an answer that came whole; the text that it adds. Raises Malformed."""
        if not isinstance(chunk, dict):
            raise Malformed("its answer is no JSON object")
        if chunk.get("error"):
            error = chunk["error"]
            said = error.get("message") if isinstance(error, dict) else error
            raise Malformed(f"an error instead of an answer: {_text(said)[:300]}")
        self.model = _text(chunk.get("model")) or self.model
        self._count(chunk)
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return ""
        choice = choices[0]
        self.finish = _text(choice.get("finish_reason")) or self.finish
        said = choice.get("delta") or choice.get("message") or {}
        if not isinstance(said, dict):
            raise Malformed("a delta that is no JSON object")
        self.thought += max((_text(said.get(name)) for name in REASONING), key=len)
        self._call(said.get("tool_calls"))
        self._raw += _text(said.get("content"))
        seen, last = self._seen(), self.text
        self.text = seen
        return seen.removeprefix(last) if seen.startswith(last) else seen  # else it was a thought

    def _seen(self) -> str:
        """The text so far, without white space in front and without a thought that the server left in it."""
        raw = self._raw.lstrip()
        if not self.finish and THINKS.startswith(raw):
            return ""  # it may become the mark of a thought
        if not raw.startswith(THINKS) and ENDED.search(raw) is None:
            return raw
        thought, mark, rest = raw.removeprefix(THINKS).partition(THOUGHT)
        if len(thought) > len(self.thought):  # its end may be the beginning of the mark
            self.thought = thought if mark else thought[: max(len(self.thought), len(thought) - len(THOUGHT) + 1)]
        return rest.lstrip() if mark else ""

    def instruction(self) -> str:
        """What was emitted: the text, or the call of a tool as the JSON of an instruction. Raises Malformed."""
        if not self._tool:
            return self.text
        try:
            arguments = msgspec.json.decode(self._arguments or "{}")
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise Malformed("the arguments of a tool that are no JSON") from exc
        if not isinstance(arguments, dict):
            raise Malformed("the arguments of a tool that are no JSON object")
        return msgspec.json.encode({"op": self._tool, **arguments}).decode()

    def _call(self, calls: Any) -> None:
        """The first call of a tool, in parts; there is one instruction at a time."""
        for call in calls if isinstance(calls, list) else ():
            if not isinstance(call, dict) or call.get("index", 0) not in (0, None):
                continue
            function = call.get("function")
            if isinstance(function, dict):
                self._tool = self._tool or _text(function.get("name"))
                self._arguments += _text(function.get("arguments"))

    def _count(self, chunk: dict[str, Any]) -> None:
        usage, timings = chunk.get("usage"), chunk.get("timings")
        if isinstance(usage, dict):
            prompt, details = _number(usage.get("prompt_tokens")), usage.get("prompt_tokens_details")
            cached = _number(details.get("cached_tokens")) if isinstance(details, dict) else -1
            evaluated = prompt - cached if 0 <= cached <= prompt else -1
            self.usage = Usage(prompt, _number(usage.get("completion_tokens")), evaluated)
        if isinstance(timings, dict) and (evaluated := _number(timings.get("prompt_n"))) >= 0:
            self.usage = msgspec.structs.replace(self.usage, evaluated=evaluated)


class Intake:
    """An answer out of bytes: a stream of events, or, from a server that does not stream, one JSON object."""

    def __init__(self) -> None:
        self.answer = Answer()
        self._events, self._whole = Events(), b""
        self._begun = False

    def feed(self, piece: bytes) -> str:
        """The text that a piece adds. Raises Malformed."""
        if self._whole or (not self._begun and piece.lstrip()[:1] == b"{"):
            self._whole += piece
            return ""
        self._begun = self._begun or bool(piece.strip())
        return "".join([self.answer.take(data) for data in self._events.feed(piece)])

    def end(self) -> str:
        """Nothing more comes; the text that this adds. Raises Malformed, too where the end has no end mark."""
        text = "".join([self.answer.take(data) for data in self._events.end()])
        if self._whole:
            text += self.answer.take(self._whole.decode("utf-8", "replace"))
        if not self.answer.finish and not self.answer.done:
            raise Malformed("it closed the connection in the middle of an answer")
        return text


def _decoded(data: str) -> Any:
    try:
        return msgspec.json.decode(data.encode())
    except (msgspec.DecodeError, UnicodeError) as exc:
        raise Malformed(f"a piece of its stream is no JSON: {data[:80]!r}") from exc


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> int:
    """A count that a server gives; -1 for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31 else -1
