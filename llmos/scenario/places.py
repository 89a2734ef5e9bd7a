"""Where in a TOML text each value stands: what a mistake's line is looked up in.

Guarantee: of a text that tomllib reads, the line of every key, table and item of an array, by the path to it:
("events", 0, "at"). Values are skipped over, not read. Not here: reading (reading.py).
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

Path: TypeAlias = tuple[str | int, ...]

_SPACE: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY: Final = re.compile(r'[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'')
_STRING: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")|\'\'\'.*?\'{3,5}(?!\')|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', re.S
)
_SCALAR: Final = re.compile(r"[^,\]}\n#]*")


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.at, self.found = text, 0, dict[Path, int]()
        self._arrays: dict[Path, int] = {}  # of tables: how many so far
        self._line, self._counted = 1, 0

    def read(self) -> dict[Path, int]:
        base: Path = ()
        while self._space() < len(self.text):  # ends: each round takes a head or a key
            before = self.at
            if self.text[self.at] == "[":
                base = self._head()
            else:
                self._pair(base)
            if self.at == before:
                return self.found
        return self.found

    def _space(self) -> int:
        self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]  # it matches nothing at least
        return self.at

    def _note(self, path: Path) -> None:
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        self.found.setdefault(path, self._line)

    def _keys(self) -> list[str]:
        keys: list[str] = []
        while True:  # ends: each round takes a key
            self._space()
            one = _KEY.match(self.text, self.at)
            if one is None:
                return keys
            self.at = one.end()
            raw = one[0]
            keys.append(raw[1:-1] if raw[0] in "\"'" else raw)
            self._space()
            if self.text[self.at : self.at + 1] != ".":
                return keys
            self.at += 1

    def _under(self, base: Path, keys: list[str]) -> Path:
        """The path of a table, in the last item of each array of tables on the way."""
        path = base
        for key in keys:
            path = (*path, key)
            if path in self._arrays:
                path = (*path, self._arrays[path] - 1)
        return path

    def _head(self) -> Path:
        array = self.text.startswith("[[", self.at)
        began = self.at
        self.at += 2 if array else 1
        keys = self._keys()
        self._space()
        ends, self.at = self.at + (2 if array else 1), began
        path = self._under((), keys[:-1] if array else keys)
        if array and keys:
            path = (*path, keys[-1])
            self._arrays[path] = self._arrays.get(path, 0) + 1
            self._note(path)
            path = (*path, self._arrays[path] - 1)
        self._note(path)
        self.at = ends
        return path

    def _pair(self, base: Path) -> None:
        began = self.at
        keys = self._keys()
        if not keys:
            return
        ends, self.at = self.at, began
        path = base
        for key in keys:
            path = (*path, key)
            self._note(path)
        self.at = ends
        self._space()
        self.at += 1  # =
        self._value(path)

    def _value(self, path: Path) -> None:
        self._space()
        first = self.text[self.at : self.at + 1]
        if first in ("[", "{"):
            self.at += 1
            n = 0
            while (here := self.text[self._space() : self.at + 1]) not in ("]", "}", ""):  # ends: each takes an item
                before = self.at
                if here == ",":
                    self.at += 1
                elif first == "[":
                    self._note((*path, n))
                    self._value((*path, n))
                    n += 1
                else:
                    self._pair(path)
                if self.at == before:
                    return
            self.at += 1
            return
        one = (_STRING if first in ('"', "'") else _SCALAR).match(self.text, self.at)
        self.at = one.end() if one is not None else len(self.text)


def lines(text: str) -> dict[Path, int]:
    """Lines by path, from 1; of a text that nests too deep to be followed, as far as it was."""
    reader = _Reader(text)
    try:
        return reader.read()
    except RecursionError:
        return reader.found


def line_of(path: Path, known: dict[Path, int]) -> int:
    """The line of what stands nearest around a path; the first one of what is nowhere."""
    for end in range(len(path), 0, -1):
        if path[:end] in known:
            return known[path[:end]]
    return 1


def dotted(path: Path) -> str:
    """A path as people write it: events[0].at."""
    said = ""
    for one in path:
        said += f"[{one}]" if isinstance(one, int) else f".{one}" if said else one
    return said[:200]
