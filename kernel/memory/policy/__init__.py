"""Replacement policies: which pages of a queue go when tokens are wanted. One policy a file, five verbs each.

A policy sees page numbers, token counts and kinds, never text; the order in which pages were admitted is their order
in the prompt. The pager owns pins, budgets and what eviction leaves. Residency is mandatory: an admitted page is in,
however large, and what a paper calls the size of a segment is a target in tokens.
A file of this folder that says POLICY is a policy under its own name; nothing else lists it. An installed package
offers others as entry points of the group `llmos.policies`, by the same verbs (docs/policy.md).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Final

from kernel.discover import discover, offered
from kernel.errors import BadInput
from kernel.memory.policy.contract import Described, Maker, Policy

POLICIES: Final[dict[str, Described]] = discover(__name__, "POLICY")
GROUP: Final = "llmos.policies"  # of entry points: a class, or a Described


def lookup(name: str) -> Described | None:
    """The policy of that name: of this folder, added, or of an installed package; None if there is none.

    Raises BadInput for a package that cannot be imported.
    """
    if name not in POLICIES and (found := offered(GROUP, name)) is not None:
        POLICIES[name] = described(found)
    return POLICIES.get(name)


def described(found: Any) -> Described:
    """A policy as listed, made of a class by the first line of what it says of itself."""
    if isinstance(found, Described):
        return found
    says = (found.__doc__ or "").strip().partition("\n")[0]
    return Described(found, says or "It does not say.", "", "")


def make(name: str, capacity: int, state: Any = None) -> Policy:
    """The policy of that name for `capacity` tokens, going on from `state` (None: empty).

    Raises BadInput for an unknown name.
    """
    found = lookup(name)
    if found is None:
        raise BadInput(f"memory.policy {name}: {unknown(name, POLICIES)}")
    return found.make(capacity, state)


def unknown(name: str, known: Iterable[str]) -> str:
    """What to say of a name that is not `known`."""
    if ":" in name:  # a directory outlives a file beside it, and a replay needs the same policy
        return (
            f"a file's policy runs in `llmos bench paging` and `llmos run`; a machine takes one of a package's {GROUP}"
        )
    close = difflib.get_close_matches(name, known, 1)
    return f"no such policy; {f'did you mean {close[0]}? ' if close else ''}policies are {', '.join(sorted(known))}"


__all__ = ["GROUP", "POLICIES", "Described", "Maker", "Policy", "described", "lookup", "make", "unknown"]
