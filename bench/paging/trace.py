"""Reference strings: what a process saw, wanted and generated, turn by turn.

A `Part` is one string with one budget; a workload is a list of them. Its turns come from an iterator, so that a trace
is never held as a whole unless its maker has it anyway.
Not here: files (formats.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from kernel.memory.page import Kind

GENERATED: Final = 100  # tokens that the model emits a turn


class Ref(NamedTuple):
    """A page as it arrives or is wanted: number, tokens, kind."""

    page: int
    tokens: int
    kind: Kind = Kind.MESSAGE


class Turn(NamedTuple):
    """One turn of process `pid`: pages that arrive for the first time, then pages that are wanted, in order.

    `query` is what a search for the wanted pages may know: the question's text and nothing else. `said`: pages that
    arrive when the turn has come so far, such as its reply.
    """

    new: tuple[Ref, ...] = ()
    refs: tuple[Ref, ...] = ()
    query: str = ""
    pid: int = 0
    said: tuple[Ref, ...] = ()


class Part(msgspec.Struct, frozen=True, eq=False):
    """One reference string. `turns` starts it anew each time; `rank` ranks all pages that arrived before a turn."""

    name: str
    turns: Callable[[], Iterable[Turn]]
    rank: Callable[[int, Turn], Sequence[int]] | None = None  # (index of the turn, turn) -> pages, best first
    pins: frozenset[int] = frozenset()  # pages that never leave
    unit: bool = False  # every page has size 1
    pids: int = 1
    stands_for: float = 0.0  # of a sample: how many references it counts for, whatever it has; 0: it is none
    prefix: bool = False  # the pages of a turn, from its last to its first, are of use only behind one another
    source: str = ""  # what it is one of several strings of, such as a conversation; "": it stands alone

    @property
    def drawn_of(self) -> str:
        """Strings of one source are no evidence of their own."""
        return self.source or self.name


def of(name: str, refs: Sequence[tuple[int, int]], **more: Any) -> Part:
    """A part of plain references (page, tokens), a turn each."""
    turns = [Turn(refs=(Ref(page, tokens),)) for page, tokens in refs]
    return Part(name, lambda: turns, unit=all(tokens == 1 for _, tokens in refs), **more)


def one_size(turns: Iterable[Turn]) -> Iterator[Turn]:
    """The same turns, in which a page has one size: the first that it came with."""
    sizes: dict[int, int] = {}
    for turn in turns:
        new, refs = (
            tuple(ref._replace(tokens=sizes.setdefault(ref.page, ref.tokens)) for ref in some)
            for some in (turn.new, turn.refs)
        )
        yield turn._replace(new=new, refs=refs)
