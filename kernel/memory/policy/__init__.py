"""Replacement policies: which pages of a queue go when tokens are wanted. One policy a file, five verbs each.

A policy sees page numbers, token counts and kinds, never text; the order in which pages were admitted is their order
in the prompt. The pager owns pins, budgets and what eviction leaves. Residency is mandatory: an admitted page is in,
however large, and what a paper calls the size of a segment is a target in tokens.
A file of this folder that says POLICY is a policy under its own name; nothing else lists it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Final

from kernel.discover import discover
from kernel.errors import BadInput
from kernel.memory.policy.contract import Described, Maker, Policy

POLICIES: Final[dict[str, Described]] = discover(__name__, "POLICY")


def make(name: str, capacity: int, state: Any = None) -> Policy:
    """The policy of that name for `capacity` tokens, going on from `state` (None: empty).

    Raises BadInput for an unknown name.
    """
    if name not in POLICIES:
        raise BadInput(f"memory.policy {name}: {unknown(name, POLICIES)}")
    return POLICIES[name].make(capacity, state)


def unknown(name: str, known: Iterable[str]) -> str:
    """What to say of a name that is not `known`."""
    close = difflib.get_close_matches(name, known, 1)
    return f"no such policy; {f'did you mean {close[0]}? ' if close else ''}policies are {', '.join(sorted(known))}"


__all__ = ["POLICIES", "Described", "Maker", "Policy", "make", "unknown"]
