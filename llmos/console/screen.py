"""Where a conversation is drawn: a terminal that redraws, or lines for pipes and files.

Guarantee: a reply is drawn as it grows, and is either final or struck out; what is drawn while the user types brings
the prompt back after it. The caller draws nothing else while a reply is half, and gives text that is `printable`.
Not here: what is said, and when it is final (conversation.py).
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Final, Protocol, TextIO

from rich.console import RenderableType

PLAIN_WIDTH: Final = 160  # of tables in a file


class Screen(Protocol):
    """Where a conversation is drawn. A reply is half until `end` or `strike`; nothing else is drawn meanwhile."""

    colour: bool  # whether a picture may tell by colours alone

    def width(self) -> int:
        """Columns of a terminal; 0: it is none."""
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

    def note(self, text: str) -> None:
        """Something of the kernel's."""
        ...

    def old(self, who: str, text: str) -> None:
        """A line of the history."""
        ...

    def picture(self, what: RenderableType) -> None:
        """A table or a picture that the user asked for."""
        ...

    def wait(self, text: str) -> None:
        """Something takes long; replaced by whatever comes next."""
        ...

    def prompt(self) -> None:
        """The user may type."""
        ...

    def typed(self) -> None:
        """The user has ended a line: the cursor stands on a new one."""
        ...


class Plain:
    """A Screen of lines, for pipes and files: a line that has its end is final.

    `you> ` acknowledged, `NAME> ` said, `NAME> ... [struck out]` unsaid, `· ` the kernel's, `| ` history.
    """

    colour = False

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def width(self) -> int:
        return 0

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()

    def begin(self, who: str) -> None:
        self._write(f"{who}> ")

    def add(self, text: str) -> None:
        self._write(_inner(text))

    def end(self) -> None:
        self._write("\n")

    def strike(self) -> None:
        self._write(" [struck out]\n")

    def sent(self, text: str) -> None:
        self._write(f"you> {_inner(text)}\n")

    def note(self, text: str) -> None:
        self._write(f"· {text}\n")

    def old(self, who: str, text: str) -> None:
        self._write(f"| {who}> {_inner(text)}\n")

    def picture(self, what: RenderableType) -> None:
        self._write(drawn(what, colour=False, width=PLAIN_WIDTH))

    def wait(self, text: str) -> None:
        pass  # a file wants no progress

    def prompt(self) -> None:
        pass

    def typed(self) -> None:
        pass


class Terminal:
    """A Screen that redraws: notes are dim, a struck-out reply stays and is seen to be struck out."""

    PROMPT = "you> "

    def __init__(self, out: TextIO, *, colour: bool, width: Callable[[], int]) -> None:
        self._out, self.colour, self.width = out, colour, width
        self._half = ""  # what stands on the screen of a reply that is not final
        self._passing = False  # the cursor's line holds a prompt or progress, which may go
        self._prompting = False  # the user may type, so the prompt comes back after whatever is drawn

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()

    def _styled(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text

    def _cleared(self) -> str:
        passing, self._passing = self._passing, False
        return "\r\x1b[K" if passing else ""

    def _line(self, text: str) -> None:
        """A whole line, and the prompt after it."""
        self._write(f"{self._cleared()}{text}\n")
        if self._prompting:
            self.prompt()

    def begin(self, who: str) -> None:
        self._half = f"{who}> "
        self._write(self._cleared() + self._styled(self._half, "1;36"))

    def add(self, text: str) -> None:
        inner = _inner(text)
        self._half += inner
        self._write(inner)

    def end(self) -> None:
        self._half = ""
        self._line("")

    def strike(self) -> None:
        half, self._half = self._half, ""
        if not self.colour:
            self._line(" [struck out]")
            return
        rows = _rows(half, self.width())
        up = f"\x1b[{rows - 1}A" if rows > 1 else ""
        self._line(f"\r{up}\x1b[J" + self._styled(half.replace("\n", "\x1b[0m\n\x1b[2;9m"), "2;9"))

    def sent(self, text: str) -> None:
        pass  # it stands where it was typed

    def note(self, text: str) -> None:
        self._line(self._styled(f"· {text}", "2"))

    def old(self, who: str, text: str) -> None:
        self._line(self._styled(f"{who}> {_inner(text)}", "2"))

    def picture(self, what: RenderableType) -> None:
        self._line(drawn(what, colour=self.colour, width=self.width()).rstrip("\n"))

    def wait(self, text: str) -> None:
        self._write("\r\x1b[K" + self._styled(f"· {text}", "2"))
        self._passing = True

    def prompt(self) -> None:
        self._prompting = True
        if not self._half:
            self._write(self._cleared() + self._styled(self.PROMPT, "1;32"))
            self._passing = True

    def typed(self) -> None:
        self._passing = self._prompting = False


def drawn(what: RenderableType, *, colour: bool, width: int) -> str:
    """A renderable as text."""
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, force_terminal=colour, no_color=not colour, width=width, legacy_windows=False).print(what)
    return out.getvalue()


def _inner(text: str) -> str:
    """A text of several lines, with those after the first set in."""
    return text.replace("\n", "\n     ")


def _rows(text: str, width: int) -> int:
    """Rows of a terminal that a text takes."""
    from rich.cells import cell_len

    return sum(max(1, math.ceil(cell_len(line) / max(1, width))) for line in text.split("\n"))
