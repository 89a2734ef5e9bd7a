"""Scenarios from files: read, checked as a whole before anything runs, and every mistake told with its line.

Guarantee: what comes back can be played; what cannot is one BadInput, in one line.
Not here: what a file may say (format.py), what may be wrong with it (mistakes.py), lines (places.py).
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

import msgspec

from kernel.errors import BadInput
from llmos.scenario import mistakes, places
from llmos.scenario.format import Scenario

BYTES_MAX: Final = 16 << 20  # of a file
TOLD_MAX: Final = 12  # mistakes of one file


def read(path: Path) -> Scenario:
    """A scenario's file. Raises BadInput naming what is wrong in it, and where."""
    return parse(text_of(path), str(path))


def text_of(path: Path) -> str:
    """The text of a file. Raises BadInput if there is none."""
    try:
        with path.open("rb") as file:
            raw = file.read(BYTES_MAX + 1)
        if len(raw) > BYTES_MAX:
            raise BadInput(f"{path}: more than {BYTES_MAX} bytes are no scenario")
        return raw.decode()
    except OSError as exc:
        raise BadInput(f"{path}: {exc.strerror}; name a scenario's TOML file") from exc
    except UnicodeDecodeError as exc:
        raise BadInput(f"{path}: it is no UTF-8 text (byte {exc.start + 1})") from exc


def parse(text: str, name: str = "scenario") -> Scenario:
    """A scenario from TOML. Raises BadInput with every mistake that can be told apart."""
    try:
        raw = tomllib.loads(text)
    except RecursionError as exc:
        raise BadInput(f"{name}: it nests too deep") from exc
    except ValueError as exc:
        raise BadInput(f"{name}: {_placed(str(exc), text)}") from exc
    scenario, wrong = mistakes.converted(raw)
    wrong += list(mistakes.mistakes(scenario))
    if wrong:
        known = places.lines(text)
        placed = sorted(((places.line_of(path, known), path, what) for path, what in wrong), key=lambda one: one[0])
        said = [f"line {line}: {_about(path, what)}" for line, path, what in placed]
        raise BadInput(_told(name, said))
    return scenario


def check(scenario: Scenario, name: str = "scenario") -> Scenario:
    """A scenario made in Python. Raises BadInput with every mistake that can be told apart."""
    found, wrong = mistakes.converted(msgspec.to_builtins(scenario))
    wrong += list(mistakes.mistakes(found))
    if wrong:
        raise BadInput(_told(name, [_about(path, what) for path, what in wrong]))
    return scenario


def _placed(message: str, text: str) -> str:
    """What tomllib says, its line first."""
    found = re.match(r"(.*) \(at line (\d+), column (\d+)\)\Z", message, re.S)
    if found is not None:
        return f"line {found[2]}, column {found[3]}: {found[1]}"
    return f"line {text.count(chr(10)) + 1}: {message.removesuffix(' (at end of document)')}"


def _about(path: places.Path, what: str) -> str:
    return f"{places.dotted(path)}: {what}" if path else what


def _told(name: str, said: list[str]) -> str:
    more = f"; and {len(said) - TOLD_MAX} more" if len(said) > TOLD_MAX else ""
    return f"{name}: {'; '.join(dict.fromkeys(said[:TOLD_MAX]))}{more}"
