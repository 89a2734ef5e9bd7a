"""Where a conversation is drawn: lines for pipes and files here, a terminal with a line editor in editor.py.

Guarantee: a reply is drawn as it grows, and is either final or struck out. The caller draws nothing else while a reply
is half, and gives text that is `printable` (kernel/text.py).
Not here: what is said, and when it is final (conversation.py).
"""

from __future__ import annotations

import io
import math
from typing import Protocol, TextIO

from rich.console import RenderableType


class Screen(Protocol):
    """Where a conversation is drawn. A reply is half until `end` or `strike`; nothing else is drawn meanwhile."""

    colour: bool  # whether a picture may tell by colours alone

    def width(self) -> int:
        """Columns of a terminal; 0: it is none."""
        ...

    def working(self, who: str, on: bool) -> None:
        """Whether a reply of `who` is waited for."""
        ...

    def thinks(self, who: str, text: str) -> None:
        """What `who` thinks before it says something; replaced by whatever comes next."""
        ...

    def begin(self, who: str) -> None:
        """A reply of `who` begins."""
        ...

    def add(self, text: str) -> None:
        """It goes on."""
        ...

    def end(self) -> None:
        """It is final."""
        ...

    def strike(self) -> None:
        """It was not to be: what is there of it is struck out."""
        ...

    def sent(self, text: str) -> None:
        """A line of the user's was acknowledged."""
        ...

    def heard(self, text: str) -> None:
        """A message that came to the process from elsewhere."""
        ...

    def note(self, text: str) -> None:
        """Something of the kernel's."""
        ...

    def old(self, who: str, text: str) -> None:
        """A line of the history."""
        ...

    def picture(self, text: str) -> None:
        """A table or a picture that the user asked for."""
        ...

    def wait(self, text: str) -> None:
        """Something takes long; replaced by whatever comes next."""
        ...


class Plain:
    """A Screen of lines, for pipes and files: a line that has its end is final.

    `you> ` acknowledged, `you, elsewhere> ` from another client, `NAME> ` said, `NAME> ... [struck out]` unsaid, `· `
    the kernel's, `| ` history.
    """

    colour = False

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()

    def width(self) -> int:
        return 0

    def working(self, who: str, on: bool) -> None:
        pass  # a file wants no progress

    def thinks(self, who: str, text: str) -> None:
        pass  # nor what is no message

    def begin(self, who: str) -> None:
        self._write(f"{who}> ")

    def add(self, text: str) -> None:
        self._write(inner(text))

    def end(self) -> None:
        self._write("\n")

    def strike(self) -> None:
        self._write(" [struck out]\n")

    def sent(self, text: str) -> None:
        self._write(f"you> {inner(text)}\n")

    def heard(self, text: str) -> None:
        self._write(f"you, elsewhere> {inner(text)}\n")

    def note(self, text: str) -> None:
        self._write(f"· {text}\n")

    def old(self, who: str, text: str) -> None:
        self._write(f"| {who}> {inner(text)}\n")

    def picture(self, text: str) -> None:
        self._write(f"{text}\n")

    def wait(self, text: str) -> None:
        pass  # nor that


def drawn(what: RenderableType, *, colour: bool, width: int) -> str:
    """A renderable as text, without the last line's end."""
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, force_terminal=colour, no_color=not colour, width=width, legacy_windows=False).print(what)
    return out.getvalue().rstrip("\n")


def inner(text: str) -> str:
    """A text of several lines, with those after the first set in."""
    return text.replace("\n", "\n     ")


def rows(text: str, width: int) -> int:
    """Rows of a terminal that a text takes."""
    from rich.cells import cell_len

    return sum(max(1, math.ceil(cell_len(line) / max(1, width))) for line in text.split("\n"))
