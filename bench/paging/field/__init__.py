"""The rest of the field: policies that are compared and not worth running live, by the same five verbs.

They keep no state between runs: `state` is empty and `make` ignores it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from bench.paging.field.classes import Classes
from bench.paging.field.lfu import Lfu
from bench.paging.field.lirs import Lirs
from bench.paging.field.lru_k import LruK
from bench.paging.field.rand import Random
from bench.paging.field.sink import SinkWindow
from bench.paging.field.two_q import TwoQ
from bench.paging.field.wtinylfu import WTinyLfu
from kernel.discover import offers
from kernel.errors import BadInput
from kernel.memory.policy import GROUP, POLICIES, Described, Maker, Policy, lookup, unknown
from kernel.memory.policy.pin_on_fault import PinOnFault
from llmos import policies

FIELD: Final[dict[str, Described]] = {
    "lfu": Described(
        Lfu,
        "The page with the fewest references since admission goes, the oldest of these first.",
        "Maffeis 1993",
        "O(counts)",
    ),
    "lru_k": Described(
        LruK, "The page whose last reference but one is oldest goes.", "O'Neil et al., SIGMOD 1993, K = 2", "O(log n)"
    ),
    "two_q": Described(
        TwoQ, "A queue for what is new, whose ghosts join an LRU list.", "Johnson and Shasha, VLDB 1994", "O(1)"
    ),
    "lirs": Described(
        Lirs,
        "Pages with short gaps between references stay, the others share 1 %.",
        "Jiang and Zhang, SIGMETRICS 2002",
        "O(1)",
    ),
    "wtinylfu": Described(
        WTinyLfu,
        "A small window, and a main part that only what is asked for more often may enter.",
        "Einziger et al., TOS 2017",
        "O(1)",
    ),
    "random": Described(Random, "Any page goes, by a seed.", "Belady 1966", "O(1)"),
    "sink_window": Described(
        SinkWindow, "The first pages stay, the rest is a sliding window.", "Xiao et al., ICLR 2024", "O(1)"
    ),
    "classes": Described(
        Classes, "Results and calls go before what was said, the oldest of a class first.", "context editing", "O(1)"
    ),
}
EVERY: Final[dict[str, Described]] = {**POLICIES, **FIELD}


def described(name: str) -> Described:
    """Any policy by name: of the kernel's, of the field, of an installed package, or mine.py:Mine.

    `pin_on_fault(NAME)` pins around another policy than first in, first out. Raises BadInput for what there is not.
    """
    outer, found, inner = name.partition("(")
    if found and outer == "pin_on_fault" and inner.endswith(")"):
        around = described(inner[:-1])
        kept = POLICIES["pin_on_fault"]
        return msgspec.structs.replace(kept, make=lambda tokens, state: PinOnFault(tokens, state, around.make))
    if name in FIELD:
        return FIELD[name]
    known = lookup(name) or (policies.use(policies.read(name)) if policies.is_own(name) else None)
    if known is None:
        raise BadInput(f"--policy {name}: {unknown(name, EVERY)}")
    return known


def every() -> dict[str, Described]:
    """All that are known by name, those of installed packages behind ours."""
    named = {name: found for name in offers(GROUP) if (found := lookup(name)) is not None}
    return {**EVERY, **named}


def maker(name: str, seed: int = 0) -> Maker:
    """How a policy is made; one that draws has its seed for a state. Raises BadInput for an unknown name."""
    found = described(name).make
    return (lambda capacity, _: found(capacity, seed)) if name == "random" else found


def make(name: str, capacity: int, seed: int = 0) -> Policy:
    """An empty policy by its name; `seed` is for those that draw. Raises BadInput for an unknown name."""
    return maker(name, seed)(capacity, None)
