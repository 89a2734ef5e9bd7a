"""Sizes as values: a measured text, what a model's frame adds to it, and the frame itself.

A text is measured by the tokenizer of a model; sizes and ids are comparable where the measure's name is equal.
Not here: who measures (machine/cpus.py), how a prompt is made of it (prompt.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec

from kernel.memory.page import Origin, Page, Role


class Part(msgspec.Struct, frozen=True, array_like=True):
    """A measured piece of text: its token ids by the model's tokenizer, without any frame."""

    text: str
    ids: tuple[int, ...]


class Costs(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens that the template's frame adds, by measure: exact for a plain frame, else never too few."""

    measure: str  # hash of vocabulary and frame
    begin: int  # once, before everything (BOS, and what a template says once), where a text segment leads
    role: dict[Role, int]  # per page placed in a role's frame: prefix + suffix
    generate: int  # generation prompt at the end
    recall: int  # once, if anything is recalled: the head of the block
    recalled: dict[Role, int]  # per recalled page: label + separator
    bare: int = 0  # what `begin` has more where no text segment leads: a template's default text
    labels: dict[Origin, int] = {}  # before the text of a page that is not the user's nor the process's own


T = TypeVar("T", str, tuple[int, ...])


class Head(msgspec.Struct, Generic[T], frozen=True):
    """What stands around the system texts that lead a prompt, where a template frames them as no others.

    `joined`: what stands between the last of them and a user's text that is in the same turn, None if none is.
    """

    begin: T  # before the first, with all that the template says once
    between: T
    end: T  # after the last, where nothing is joined
    joined: T | None = None


class Sum(msgspec.Struct, Generic[T], frozen=True, omit_defaults=True):
    """A chat template as a sum: what stands before and after a text in each role's frame, as text or as token ids."""

    begin: T  # where no system text leads, or there is no `head`
    prefix: dict[Role, T]
    suffix: dict[Role, T]
    generate: T
    head: Head[T] | None = None
    again: T | None = None  # between two user's texts in a row, where that is not suffix and prefix
    lead: T | None = None  # before an answer that begins with thought, in place of its prefix; None: no thought
    plain: T | None = None  # what an answer without thought is generated from, where that may be

    def around(self, roles: Sequence[Role], *, generate: bool = True, thought: Collection[int] = ()) -> list[T]:
        """What stands before each text of these roles, and what after the last; which of them begin with `thought`."""
        head, nothing = self.head, self.begin[:0]
        leading = next((n for n, role in enumerate(roles) if role is not Role.SYSTEM), len(roles)) if head else 0
        prefixes = [self.prefix[role] for role in roles]
        for n in thought:
            assert self.lead is not None, "it does not think"
            prefixes[n] = self.lead
        found = [head.begin if head and leading else self.begin + (prefixes[0] if roles else nothing)]
        for n, role in enumerate(roles):
            then = roles[n + 1] if n + 1 < len(roles) else None
            before = prefixes[n + 1] if then else self.generate if generate else nothing
            if head and n + 1 < leading:
                found.append(head.between)
            elif head and n < leading:
                joined = head.joined if then is Role.USER else None
                found.append(head.end + before if joined is None else joined)
            elif self.again is not None and role is then is Role.USER:
                found.append(self.again)
            else:
                found.append(self.suffix[role] + before)
        if not roles and generate:
            found[0] += self.generate
        return found


class Frame(Sum[tuple[int, ...]], frozen=True):
    """A chat template as token ids. `trims`: what a user says stands in a prompt without white space at its ends."""

    trims: bool = False


class Visible(msgspec.Struct, frozen=True):
    """A page as a CPU sees it, or the passage [start, end) of it: `ids` are the tokens of `text`, without frame."""

    page: Page
    role: Role
    ids: Sequence[int]
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
