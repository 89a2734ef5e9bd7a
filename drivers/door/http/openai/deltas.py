"""A reply that grows, as what a stream tells of it: text, or the call of a tool by and by.

Not here: in which form that is told (chat.py, responses.py).
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from drivers.door.http.openai.talking import Answered

_HEAD: Final = re.compile(r'\s*\{\s*"name"\s*:\s*"([\w.-]+)"\s*,\s*"arguments"\s*:\s*')
_END: Final = re.compile(r"[}\s]*\Z")


class Delta(msgspec.Struct, frozen=True):
    """A piece of text, or of the arguments of a call; `name`: with which a call begins."""

    text: str = ""
    arguments: str = ""
    name: str = ""


class Deltas:
    """Of one reply. `calls`: it may be a call; `held`: what begins like one is one."""

    def __init__(self, *, calls: bool, held: bool) -> None:
        self._calls, self._held = calls, held
        self._text = ""
        self._told = ""  # of the arguments
        self.name = ""  # of the tool that is being called

    def feed(self, piece: str) -> list[Delta]:
        """What a piece of the reply adds."""
        self._text += piece
        if not self._calls:
            return [Delta(piece)]
        begun = self._text.lstrip()
        if not begun:
            return []
        if not begun.startswith("{"):
            self._calls = False
            return [Delta(self._text)]
        head = _HEAD.match(self._text) if self._held else None
        if head is None:
            return []
        first, self.name = [] if self.name else [Delta(name=head[1])], head[1]
        return first + self._argued(_END.sub("", self._text[head.end() :]))

    def end(self, found: Answered) -> list[Delta]:
        """What is left to tell of the whole."""
        if not self._calls:
            return []
        if found.call is None:
            return [Delta(self._text)] if self._text and not self.name else []
        first, self.name = [] if self.name else [Delta(name=found.call.name)], found.call.name
        return first + self._argued(found.call.arguments)

    def _argued(self, arguments: str) -> list[Delta]:
        piece, self._told = arguments[len(self._told) :], max(self._told, arguments, key=len)
        return [Delta(arguments=piece)] if piece else []
