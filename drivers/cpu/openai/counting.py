"""How many tokens a text has: by the server's own tokenizer where it has an endpoint, else bounded by its bytes.

An id below BYTES is the server's. From BYTES on an id is a unit of bytes with the bytes in it, a token where the server
cannot be asked: UNIT bytes each to begin with, which is more tokens than most texts have. What a server says that a
prompt had (its usage) is compared with what was counted: where it has more, units become smaller, down to a byte, and
no vocabulary of bytes has more tokens than that.
Both kinds of id may stand in one text's place: only their number matters, for prompts are sent as texts.
The machine waits while a text is counted. So one answer is waited for `count_s`, a server that did not give it in time
is not asked for a while, and what was counted is kept.
Not here: what a template adds (discovery.py).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final

from drivers.cpu.openai.asking import plain
from drivers.remote.transport import Cancelled, Fault

BYTES: Final = 1 << 30  # ids from here on are units of bytes
UNIT: Final = 3
KEPT_MAX: Final = 4_096  # texts
KEPT_CHARS_MAX: Final = 4_096  # of one of them
REST_S: Final = (2.0, 300.0)  # the first and the longest time in which a server is not asked
LIE: Final = 64  # a prompt has no more tokens than its bytes, and so many a page for what a template adds

Ask = Callable[[str, Any], Any]
"""POST a body to a path of some server that runs; raises Fault."""


class Counter:
    """Counts by `paths`, (tokenize, detokenize) of the servers; ("", ""): by bytes. Any thread."""

    def __init__(self, ask: Ask, model: str, paths: tuple[str, str]) -> None:
        self._ask, self._model, self.paths = ask, model, paths
        self.unit = UNIT
        self._kept: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        self._lock = threading.Lock()
        self._rest_s, self._not_before = 0.0, 0.0

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Ids of a text, as many as it has tokens, or more. Raises nothing."""
        text = plain(text)
        if not text:
            return ()
        with self._lock:
            if text in self._kept:
                self._kept.move_to_end(text)
                return self._kept[text]
        ids = self._exactly(text)
        if ids is None:
            return in_bytes(text, self.unit)
        if len(text) <= KEPT_CHARS_MAX:
            with self._lock:
                self._kept[text] = ids
                if len(self._kept) > KEPT_MAX:
                    self._kept.popitem(last=False)
        return ids

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of ids; U+FFFD for what the server's vocabulary alone knows, where it cannot be asked."""
        units = [_unit(one) for one in ids if one >= BYTES]
        own = [one for one in ids if one < BYTES]
        text = b"".join(units).decode("utf-8", "replace")
        if not own:
            return text
        try:
            found = self._ask(self.paths[1], {"model": self._model, "tokens": own}) if self.paths[1] else None
        except (Fault, Cancelled):
            found = None
        said = (found.get("content") or found.get("prompt")) if isinstance(found, dict) else None
        return (said if isinstance(said, str) else "\ufffd") + text

    def bounds(self, counted: int, usage: int, size: int, pages: int) -> str:
        """Compare a prompt's tokens as counted with a server's usage; what there is to say, "" if nothing.

        `size`: bytes of the prompt's texts, in so many pages.
        """
        if usage > size + LIE * (pages + 1):
            return f"its usage says {usage} tokens for a prompt of {size} bytes, which is not believed"
        if usage <= counted:
            return ""
        said = f"its usage says {usage} tokens where {counted} were counted"
        if self.unit == 1 or self.paths[0]:
            return said
        self.unit -= 1
        return f"{said}; from now on a token is counted for each {self.unit} bytes"

    def _exactly(self, text: str) -> tuple[int, ...] | None:
        """By the server's tokenizer; None: it has none, or cannot be asked now."""
        if not self.paths[0] or time.monotonic() < self._not_before:
            return None
        try:
            ids = tokens(self._ask(self.paths[0], tokenizing(self._model, text)), text)
        except (Fault, Cancelled):
            ids = None
        if ids is None:
            self._rest_s = min(max(2 * self._rest_s, REST_S[0]), REST_S[1])
            self._not_before = time.monotonic() + self._rest_s
        else:
            self._rest_s = 0.0
        return ids


def in_bytes(text: str, unit: int) -> tuple[int, ...]:
    """A text as units of at most so many bytes."""
    raw = text.encode("utf-8", "replace")
    pieces = [raw[at : at + unit] for at in range(0, len(raw), unit)]
    return tuple(BYTES | len(piece) << 24 | int.from_bytes(piece, "big") for piece in pieces)


def _unit(one: int) -> bytes:
    """The bytes of a unit; an id of a frame has none."""
    length = one >> 24 & 0x3F
    return (one & 0xFFFFFF).to_bytes(3, "big")[3 - length :] if length <= UNIT else b""


def tokenizing(model: str, text: str) -> dict[str, Any]:
    """What a tokenizer is asked: servers call the text by one name or the other, and take both."""
    return {"model": model, "content": text, "prompt": text, "add_special": False, "add_special_tokens": False}


def tokens(answer: Any, text: str) -> tuple[int, ...] | None:
    """The ids of a tokenizer's answer, or None if it is no such thing: none at all, or more than the text has bytes."""
    found = answer.get("tokens") if isinstance(answer, dict) else None
    if not isinstance(found, list) or not 0 < len(found) <= len(text.encode("utf-8", "replace")) + 2:
        return None
    if not all(isinstance(one, int) and 0 <= one < BYTES for one in found):
        return None
    return tuple(found)
