"""Sizes as values: a measured text, what a model's frame adds to it, and the frame itself.

A text is measured by the tokenizer of a model; sizes and ids are comparable where the measure's name is equal.
Not here: who measures (machine/cpus.py), how a prompt is made of it (prompt.py).
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from kernel.memory.page import Page, Role


class Part(msgspec.Struct, frozen=True, array_like=True):
    """A measured piece of text: its token ids by the model's tokenizer, without any frame."""

    text: str
    ids: tuple[int, ...]


class Costs(msgspec.Struct, frozen=True):
    """Tokens that the template's frame adds, by measure: what the kernel must know to count exactly."""

    measure: str  # hash of vocabulary and frame
    begin: int  # once, before everything (BOS)
    role: dict[Role, int]  # per page placed in a role's frame: prefix + suffix
    generate: int  # generation prompt at the end
    recall: int  # once, if anything is recalled: the head of the block
    recalled: dict[Role, int]  # per recalled page: label + separator


class Frame(msgspec.Struct, frozen=True):
    """A chat template as token ids: what stands before and after a text in each role's frame."""

    begin: tuple[int, ...]
    prefix: dict[Role, tuple[int, ...]]
    suffix: dict[Role, tuple[int, ...]]
    generate: tuple[int, ...]


class Visible(msgspec.Struct, frozen=True):
    """A page as a CPU sees it, or the passage [start, end) of it: `ids` are the tokens of `text`, without frame."""

    page: Page
    role: Role
    ids: tuple[int, ...]
    recalled: bool = False
    start: int = 0
    end: int = 0  # 0: all of it
    dated: bool = False  # recalled, with the day it was said

    @property
    def text(self) -> str:
        """What is seen."""
        return self.page.text[self.start : self.end] if self.end else self.page.text


class Measure(Protocol):
    """Text to parts with token ids: the kernel's only way to know a size."""

    def __call__(self, text: str, tokens_max: int, model: str) -> tuple[Part, ...]:
        """Split `text` at characters into parts of at most `tokens_max` tokens of a model of the machine's.

        At least one part, none empty.
        """
        ...
