"""Replacement policies: which pages of a queue go when tokens are wanted. One policy a file, five verbs each.

A policy sees page numbers, token counts and kinds, never text; the order in which pages were admitted is their order
in the prompt. The pager owns pins, budgets and what eviction leaves. Residency is mandatory: an admitted page is in,
however large, and what a paper calls the size of a segment is a target in tokens.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Container, Iterable
from typing import Any, Final, Protocol

import msgspec

from kernel.errors import BadInput
from kernel.memory.page import Kind
from kernel.memory.policy.arc import Arc
from kernel.memory.policy.clock import Clock
from kernel.memory.policy.fifo import Fifo
from kernel.memory.policy.gdsf import Gdsf
from kernel.memory.policy.lru import Lru
from kernel.memory.policy.ours import Ours
from kernel.memory.policy.pin_on_fault import PinOnFault
from kernel.memory.policy.s3fifo import S3Fifo
from kernel.memory.policy.sieve import Sieve


class Policy(Protocol):
    """The five verbs, and the state that goes to disk with the PCB."""

    capacity: int  # tokens that the pager lets it hold; the pager may change it at any time

    def miss(self, page: int) -> None:
        """`page` was wanted and is not resident."""
        ...

    def admit(self, page: int, tokens: int, kind: Kind) -> None:
        """`page` becomes resident; always obeyed."""
        ...

    def hit(self, page: int) -> None:
        """A resident page was referenced."""
        ...

    def evict(self, tokens: int, pinned: Container[int]) -> list[int]:
        """Choose and forget victims of at least `tokens` tokens in all, none of them `pinned`; fewer if all else is."""
        ...

    def drop(self, page: int) -> None:
        """`page` has left without being chosen; unknown pages are ignored."""
        ...

    def state(self) -> Any:
        """What `make` needs to go on: plain lists and numbers."""
        ...


Maker = Callable[[int, Any], Policy]


class Described(msgspec.Struct, frozen=True):
    """A policy as listed: what it does in a sentence, who described it, what an access costs."""

    make: Maker
    does: str
    reference: str
    cost: str


POLICIES: Final[dict[str, Described]] = {
    "fifo": Described(Fifo, "The page resident longest goes.", "Belady 1966", "O(1)"),
    "lru": Described(Lru, "The page whose last reference is oldest goes.", "Mattson et al. 1970", "O(1)"),
    "clock": Described(Clock, "First in, first out, but a page hit since gets a second round.", "Corbato 1968", "O(1)"),
    "arc": Described(
        Arc,
        "Two lists, seen once and seen again; ghosts of both shift the border between them.",
        "Megiddo and Modha, FAST 2003",
        "O(1)",
    ),
    "s3fifo": Described(
        S3Fifo,
        "A small queue sorts out what is seen once; the rest goes round in a main queue.",
        "Yang et al., SOSP 2023",
        "O(1)",
    ),
    "sieve": Described(
        Sieve, "One queue and a hand that spares what was hit and never moves it.", "Zhang et al., NSDI 2024", "O(1)"
    ),
    "gdsf": Described(
        Gdsf,
        "The page with the fewest references per token goes; what goes raises the bar for the rest.",
        "Cherkasova 1998",
        "O(log n)",
    ),
    "ours": Described(
        Ours,
        "Six policies run as shadows, and the queue follows the one that has faulted least lately.",
        "experts: Blum and Burch 1997, Ari et al. 2002",
        "O(log n); O(n) to evict",
    ),
    "pin_on_fault": Described(
        PinOnFault,
        "First in, first out, but a page that faulted back stays until nothing else is left.",
        "Pichay, arXiv 2603.09023",
        "O(held)",
    ),
}


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
