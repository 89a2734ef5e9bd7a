"""How a command prints: lines, tables, pictures, JSON, and progress. Whatever is printed goes through here.

Guarantees: no text reaches a terminal, a pipe or a file but as kernel/text.py lets it be seen; a style is the only
escape sequence, and stands where a terminal takes one: not in a pipe, not with TERM=dumb or NO_COLOR. A table fits the
terminal that shows it; where nobody looks at one it is whole, with tabs between its columns.
Importing this costs nothing; rich is imported where a picture is printed, and only there. Not here: what the lines of a
table say (llmos/tables.py), errors, which main prints (app.py).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TextIO

from kernel.text import escaped, printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from llmos.tables import Cell


WIDTH: Final = 80  # of a terminal that does not say
TOLD_S: Final = 10.0  # between two lines of progress where no terminal redraws them


def terminal(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can redraw a line."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def progress(what: str, done: int, total: int) -> None:
    """A line on standard error that is redrawn on a terminal, and printed once at the end elsewhere."""
    share = f" {done / 1e6:,.0f} of {total / 1e6:,.0f} MB" if total else f" {done / 1e6:,.0f} MB" if done else ""
    over = total > 0 and done >= total
    if terminal(sys.stderr):
        print(f"\r\x1b[Kllmos: {printable(what)}{share}", end="\n" if over else "", file=sys.stderr, flush=True)
    elif over:
        said(f"{what}{share}")


def said(what: str) -> None:
    """A line of llmos's own on standard error."""
    show(f"llmos: {what}", error=True)


def tell(what: str) -> None:
    """What is being done, on standard error, redrawn on a terminal."""
    if terminal(sys.stderr):
        print(f"\r\x1b[Kllmos: {printable(what)} ... ", end="", file=sys.stderr, flush=True)
    else:
        said(what)


class Paced:
    """Tells how far something long is, on standard error: on a terminal each time, elsewhere every TOLD_S seconds."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet, self._drawn = quiet, False
        self._began = self._told = time.monotonic()

    def __enter__(self) -> Paced:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the line that a terminal redraws, if there is one."""
        if self._drawn:
            print(file=sys.stderr)

    def tell(self, what: str) -> None:
        """It has come so far."""
        now = time.monotonic()
        if not self._quiet and (terminal(sys.stderr) or now - self._told > TOLD_S):
            self._told, self._drawn = now, terminal(sys.stderr)
            tell(what)

    def ahead(self, made: int, total: int) -> str:
        """How long the rest will take at this pace, as the end of a sentence; nothing if nothing is left."""
        if not 0 < made < total:
            return ""
        return f"; about {(time.monotonic() - self._began) * (total - made) / made:,.0f} s to go"


def redraw(what: str) -> None:
    """A line on standard output in the place of the last one, on a terminal; elsewhere one after it."""
    if terminal(sys.stdout):
        print(f"\r\x1b[K{printable(what)}", end="", flush=True)
    else:
        show(what, flush=True)


def coloured(stream: TextIO | None = None) -> bool:
    """Whether a stream takes colours; default: standard output."""
    return terminal(stream or sys.stdout) and "NO_COLOR" not in os.environ


def columns() -> int:
    """Columns of the terminal that standard output is, or 0 if it is none."""
    return (os.get_terminal_size(sys.stdout.fileno()).columns or WIDTH) if sys.stdout.isatty() else 0


def show(*parts: Cell, error: bool = False, flush: bool = False) -> None:
    """One text, or several lines of it, made of parts that may have a style; on standard error with `error`."""
    stream = sys.stderr if error else sys.stdout
    colour = coloured(stream)
    found = ""
    for part in parts:
        text, style = (part, "") if isinstance(part, str) else part
        found += f"\x1b[{style}m{printable(text)}\x1b[0m" if colour and style else printable(text)
    print(found, file=stream, flush=flush or error)


def print_lines(lines: Iterable[str]) -> None:
    """Lines that llmos/tables.py has made, and made printable."""
    for line in lines:
        print(line)


def print_table(
    names: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    left: Container[str] = (),
    spare: Sequence[str] = (),
    title: str = "",
    wrap: bool = False,
) -> None:
    """A table, under its title where somebody looks; `left`, `spare` and `wrap` as tables.aligned has them."""
    from llmos.tables import aligned

    if title and columns():
        show(title)
    print_lines(aligned(names, rows, left=left, spare=spare, colour=coloured(), width=columns(), wrap=wrap))


def print_rich(what: RenderableType) -> None:
    """A picture; in full width where nobody looks at a terminal."""
    from rich.console import Console
    from rich.segment import Segment, Segments

    console = Console() if terminal(sys.stdout) else Console(width=160)
    seen = [Segment(printable(one.text), one.style if coloured() else None) for one in console.render(what)]
    console.print(Segments(seen), end="")


def print_json(what: Any) -> None:
    """One JSON object on one line."""
    import msgspec

    try:
        text = msgspec.json.encode(what).decode()
    except UnicodeEncodeError:  # a file's name that is no text
        import json

        text = json.dumps(msgspec.to_builtins(what), separators=(",", ":"))
    print(escaped(text))
