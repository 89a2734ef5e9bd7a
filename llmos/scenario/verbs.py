"""What can happen to a machine in a scenario, as values: one struct a verb, lengths in ns.

Guarantee: a verb is whole; what its event's fields may not say together, format.py has refused before it is one.
Not here: how a file says it and when it happens (format.py), what it does to a machine (director.py).
"""

from __future__ import annotations

from typing import Final, TypeAlias, get_args

import msgspec

from kernel.interrupts import Line


class Verb(msgspec.Struct, frozen=True, tag_field="verb", tag=str.lower):
    """Base of all verbs; its tag is the field by which an event names it."""


class Say(Verb, frozen=True):
    """A user's message to each."""

    to: tuple[str, ...]
    text: str


class Raise(Verb, frozen=True):
    """An interrupt on a line to each."""

    to: tuple[str, ...]
    line: Line
    text: str


class Kill(Verb, frozen=True):
    """A process ends."""

    who: str


class Start(Verb, frozen=True):
    """A process that has ended starts again, with its memory."""

    who: str


class Grant(Verb, frozen=True):
    """Each is given a right."""

    to: tuple[str, ...]
    right: str


class Revoke(Verb, frozen=True):
    """A right is taken from each."""

    to: tuple[str, ...]
    right: str


class Allow(Verb, frozen=True):
    """Each may make the call that it asks for, or may not."""

    to: tuple[str, ...]
    yes: bool


class Fails(Verb, frozen=True):
    """The CPU's next runs fail."""

    runs: int


class Stall(Verb, frozen=True):
    """The CPU stands still."""

    length: int


class Silence(Verb, frozen=True):
    """The index answers nothing."""

    length: int


class Slow(Verb, frozen=True):
    """A transaction takes so long, for so long."""

    each: int
    length: int


class Cut(Verb, frozen=True):
    """The power is off."""

    length: int


class Clock(Verb, frozen=True):
    """The wall clock is set, ahead or back; what passes goes on."""

    by: int


class Jump(Verb, frozen=True):
    """The wall clock is set to a time, in ns UTC; what passes goes on."""

    to: int


AnyVerb: TypeAlias = (
    Say | Raise | Kill | Start | Grant | Revoke | Allow | Fails | Stall | Silence | Slow | Cut | Clock | Jump
)
VERBS: Final = tuple(str(verb.__struct_config__.tag) for verb in get_args(AnyVerb))
