"""Replacement policies: which pages of a queue go when tokens are wanted. One policy a file, five verbs each.

A policy sees page numbers, token counts and kinds, never text. The pager owns pins, budgets and what eviction leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, Final, Protocol

from kernel.errors import BadInput
from kernel.memory.page import Kind
from kernel.memory.policy.fifo import Fifo
from kernel.memory.policy.lru import Lru


class Policy(Protocol):
    """The five verbs, and the state that goes to disk with the PCB."""

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


POLICIES: Final[dict[str, Callable[[Any], Policy]]] = {"fifo": Fifo, "lru": Lru}


def make(name: str, state: Any) -> Policy:
    """The policy of that name, going on from `state` (None: empty). Raises BadInput for an unknown name."""
    if name not in POLICIES:
        raise BadInput(f"memory.policy {name}: no such policy; policies are {', '.join(sorted(POLICIES))}")
    return POLICIES[name](state)
