"""What a label costs: the same question over the same gold passage, in each form in which its line may say whose it is.

A line of the recall block is all that differs, so a difference is the label's. Questions are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from bench.documents import nq
from kernel.memory.prompt import line

NONE: Final = "none"
FORMS: Final[Mapping[str, Callable[[str, str], str]]] = {
    NONE: lambda name, text: text,
    "[file]": lambda name, text: f"[file] {text}",
    "[file NAME]": lambda name, text: f"[file {name}] {text}",
    "File NAME:": lambda name, text: f"File {name}: {text}",
    "File:": lambda name, text: f"File: {text}",
    "behind": lambda name, text: f"{text} [file]",
    ">": lambda name, text: f"> {text}",
}
"""Layouts of a labelled line, of a document's name and its text. `[file NAME]` is llmos's (kernel/memory/prompt.py)."""
OWN: Final = "[file NAME]"


def labelled(form: str, passage: nq.Passage) -> str:
    """A passage as its line."""
    return FORMS[form](passage.title, line(passage.text, None))
