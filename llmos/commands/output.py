"""What a command prints: data on standard output, all else on standard error.

Guarantee: importing this costs nothing; rich is imported where a picture is printed, and only there. Not here: what the
lines of a table say (llmos/tables.py), errors, which main prints (app.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType


def progress(what: str, done: int, total: int) -> None:
    """A line on standard error that is redrawn on a terminal, and printed once at the end elsewhere."""
    share = f" {done / 1e6:,.0f} of {total / 1e6:,.0f} MB" if total else f" {done / 1e6:,.0f} MB" if done else ""
    over = total > 0 and done >= total
    if sys.stderr.isatty():
        print(f"\r\x1b[Kllmos: {what}{share}", end="\n" if over else "", file=sys.stderr, flush=True)
    elif over:
        print(f"llmos: {what}{share}", file=sys.stderr, flush=True)


def said(what: str) -> None:
    """A line on standard error."""
    print(f"llmos: {what}", file=sys.stderr, flush=True)


def tell(what: str) -> None:
    """What is being done, on standard error, redrawn on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[Kllmos: {what} ... ", end="", file=sys.stderr, flush=True)
    else:
        said(what)


def coloured() -> bool:
    """Whether standard output takes colours."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def columns() -> int:
    """Columns of the terminal that standard output is, or 0 if it is none."""
    return os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else 0


def print_lines(lines: Iterable[str]) -> None:
    """A table, or whatever else is lines."""
    for line in lines:
        print(line)


def print_rich(what: RenderableType) -> None:
    """A picture; in full width where nobody looks at a terminal."""
    from rich.console import Console

    (Console() if sys.stdout.isatty() else Console(width=160)).print(what)


def print_json(what: Any) -> None:
    """One JSON object on one line."""
    import msgspec

    print(msgspec.json.encode(what).decode())
