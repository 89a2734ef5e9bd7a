"""What a replacement policy is: five verbs, the state that goes to disk, and how it is listed.

Not here: who asks (memory/pager.py and paging/), which policies there are (the files beside this one).
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, Protocol

import msgspec

from kernel.memory.page import Kind


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
"""An empty policy for so many tokens, or one that goes on from a state."""


class Described(msgspec.Struct, frozen=True):
    """A policy as listed: what it does in a sentence, who described it, what an access costs."""

    make: Maker
    does: str
    reference: str
    cost: str
