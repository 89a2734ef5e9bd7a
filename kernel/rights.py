"""What a process may address, as values: rights, limits, and what becomes of a call made under the eyes of others.

A right is `VERB:OBJECT`: `send:reviewer`, `kill:crew/*`, `tool:files/*`; what ends with `*` is all that begin so. The
verb is the call, but for blocks (`read`, `write`), tools, and what looks into an archive (`search`, whatever the call).
Calls are known by the right that they need, those that need none by their name; a policy says of such names, or of
their beginnings, what becomes of a call. Which syscalls a process may emit at all is its mask.
Not here: who holds what (kernel/capabilities.py), how much was used (kernel/quota.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from kernel.errors import BadInput
from kernel.limits import RIGHT_CHARS_MAX

ARCHIVES: Final = ("search", "remember")  # of a process, whose archive is looked into, or added to
VERBS: Final = ("send", "wait", "kill", "read", "write", "tool", *ARCHIVES)
Verdict: TypeAlias = Literal["allow", "ask", "deny"]
VERDICTS: Final[tuple[Verdict, ...]] = ("allow", "ask", "deny")  # the later, the stricter
Right: TypeAlias = Annotated[str, Meta(max_length=RIGHT_CHARS_MAX)]
Amount: TypeAlias = Annotated[int, Meta(ge=0, le=1 << 40)]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a process may use; 0: as much as the machine's own bounds let it."""

    turn_tokens: Amount = 0  # emitted in a turn
    turn_syscalls: Amount = 0  # instructions of a turn
    day_tokens: Amount = 0  # emitted in a day (UTC), its children's included
    pages: Amount = 0  # made for it
    children: Amount = 0  # at a time
    timers: Amount = 0
    mailbox: Amount = 0  # undelivered interrupts
    tools: Amount = 0  # tool calls of a turn


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """A right that a process holds: `by` whom it was given (0: from outside), `of` which grant of the giver's it is."""

    id: int
    right: str
    by: int = 0
    of: int = 0


def check(right: str) -> None:
    """Raises BadInput for what is no right."""
    verb, colon, thing = right.partition(":")
    if verb not in VERBS or not colon or not thing or len(right) > RIGHT_CHARS_MAX or not right.isprintable():
        raise BadInput(
            f"right {right[:80]!r}: VERB:OBJECT, such as send:reviewer or tool:files/*; verbs are {', '.join(VERBS)}"
        )
    if "*" in thing[:-1]:
        raise BadInput(f"right {right[:80]!r}: a star stands at the end, for all that begin so")


def covers(held: str, wanted: str) -> bool:
    """Whether what is said of one holds of the other: the same, a part of what it names, or of that verb."""
    if held.endswith("*"):
        return wanted.startswith(held[:-1])
    return held == wanted or wanted.startswith(f"{held}:")


def within(limits: Limits, most: Limits) -> Limits:
    """Limits that are no looser than others: of each the smaller one, where 0 is none."""
    pairs = zip(msgspec.structs.astuple(limits), msgspec.structs.astuple(most), strict=True)
    return Limits(*(min(filter(None, pair), default=0) for pair in pairs))


def verdict(policy: Mapping[str, Verdict], name: str) -> Verdict:
    """What becomes of a call: of the entries that hold of it the narrowest decides; without one it is allowed.

    Of two entries that hold of one name, what the one holds of is a part of what the other does: `send*`, `send`,
    `send:*`, `send:a*`, `send:a` in this order.
    """
    found = [key for key in policy if covers(key, name)]
    return policy[max(found, key=_narrow)] if found else "allow"


def _narrow(key: str) -> tuple[int, bool]:
    whole = not key.endswith("*")
    return len(key) if whole else len(key) - 1, whole


def stricter(one: Mapping[str, Verdict], other: Mapping[str, Verdict]) -> dict[str, Verdict]:
    """A policy that lets through only what both do, whatever the call."""
    keys = dict.fromkeys((*one, *other))
    return {key: max(verdict(one, key), verdict(other, key), key=VERDICTS.index) for key in keys}
