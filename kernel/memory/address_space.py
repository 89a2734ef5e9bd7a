"""The address space of a process: which pages it sees, in prompt order, and what each costs in tokens.

text, data, queue, recall, turn: stable first, volatile last, so that the KV cache of a prefix survives. `queue` holds
the turn too: its pages from `turn` on. Recalled pages are no part of the queue; they are placed with the user's
message of the turn and dropped when the turn ends. One may stand further up in the queue, too.
Invariants (`check`): no page twice in the queue; `turn` within the queue; sizes positive.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

import msgspec

from kernel.memory.page import Kind, Placed, Role


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A page-table entry. `tokens` counts the page's text and its frame; pages of one `group` leave together."""

    page: int
    tokens: int
    kind: Kind
    role: Role
    group: int = 0  # 0: alone
    pinned: bool = False
    shows: tuple[int, ...] = ()  # pages whose text a result quotes


class Recalled(Entry, frozen=True, array_like=True):
    """A page of the recall area, or the passage [start, end) of it in characters; end 0: all of it.

    `whole`: tokens of the whole page, without frame. `asked`: for a message that asks for something. `dated`: its line
    says when it was said. `follows`: for one that says little without the turn before it, or may not ask for this.
    """

    start: int = 0
    end: int = 0
    whole: int = 0
    asked: bool = False
    dated: bool = False
    follows: bool = False


class AddressSpace(msgspec.Struct, array_like=True):
    """The page table of one process."""

    text: Entry | None = None
    text_key: str = ""  # digest of the text and of the measure it was counted by
    data: Entry | None = None
    queue: list[Entry] = []
    turn: int = 0  # index into the queue where the turn begins
    recall: list[Recalled] = []
    pressed: bool = False  # the pressure edge has been raised and not yet fallen
    evicted: int = 0  # pages that have left the queue, for the stub
    group: int = 0  # last group number given

    def used(self) -> int:
        """Tokens of the queue, turn included. O(pages)."""
        return sum([entry.tokens for entry in self.queue])

    def size(self) -> int:
        """Tokens of the whole prompt: the working set. O(pages)."""
        heads = sum(head.tokens for head in (self.text, self.data) if head is not None)
        return heads + self.used() + sum(entry.tokens for entry in self.recall)

    def pinned(self) -> int:
        """Tokens of pinned pages in the queue."""
        return sum(entry.tokens for entry in self.queue if entry.pinned)

    def resident(self) -> set[int]:
        """Numbers of all pages in the queue or the recall area."""
        return {entry.page for entry in self.queue} | {entry.page for entry in self.recall}

    def shown(self) -> set[int]:
        """Pages that are not resident and whose text results in the queue quote."""
        return {page for entry in self.queue for page in entry.shows}

    def thoughts(self, start: int, end: int) -> list[Entry]:
        """What was thought, of the queue's entries from `start` to `end`."""
        return [entry for entry in self.queue[start:end] if entry.kind is Kind.THOUGHT]

    def tokens(self, pages: Collection[int]) -> int:
        """Tokens of these pages of the queue."""
        return sum(entry.tokens for entry in self.queue if entry.page in pages)

    def find(self, page: int) -> int:
        """Index of a page in the queue, or -1."""
        for index, entry in enumerate(self.queue):
            if entry.page == page:
                return index
        return -1

    def anchor(self) -> int:
        """Index of the turn's first user message, with which recalled pages are placed; -1 if there is none."""
        for index in range(self.turn, len(self.queue)):
            if self.queue[index].role is Role.USER and self.queue[index].kind is Kind.MESSAGE:
                return index
        return -1

    def before(self) -> list[Entry]:
        """What was last said to the process before this turn, and what it said then, as far as in the queue."""
        said: list[Entry] = []
        for entry in reversed(self.queue[: self.turn]):
            if entry.kind is Kind.MESSAGE and entry.role is not Role.SYSTEM:
                said.append(entry)
                if entry.role is Role.USER:
                    break
        return said[::-1]

    def earlier(self, *, apart: bool = False) -> list[Entry]:
        """What of the queue before the turn stands in the prompt; `apart`: only what the message follows."""
        if not apart:
            return self.queue[: self.turn]
        return self.before() if any(entry.follows for entry in self.recall) else []

    def placed(self, *, apart: bool = False) -> list[Placed]:
        """All pages in prompt order; `apart`: see `earlier`."""
        placed = [Placed(head.page, head.role) for head in (self.text, self.data) if head is not None]
        earlier = self.earlier(apart=apart)
        queue = [Placed(entry.page, entry.role) for entry in [*earlier, *self.queue[self.turn :]]]
        if self.recall:
            anchor = self.anchor() - self.turn + len(earlier)
            queue[anchor:anchor] = [
                Placed(entry.page, entry.role, True, entry.start, entry.end, entry.dated) for entry in self.recall
            ]
        return placed + queue

    def check(self) -> None:
        """Assert the invariants; called after every step in tests."""
        pages = [entry.page for entry in self.queue]
        own = {entry.page for entry in self.queue[self.turn :]}
        assert not any(entry.page in own for entry in self.recall), "recalled beside itself"
        assert len(pages) == len(set(pages)), f"a page stands twice: {pages}"
        ends = sorted((entry.page, entry.start, entry.end) for entry in self.recall)
        for one, other in pairwise(ends):
            assert one[0] < other[0] or 0 < one[2] <= other[1], f"passages overlap: {one}, {other}"
        assert 0 <= self.turn <= len(self.queue)
        assert all(entry.tokens > 0 for entry in self.queue)
        assert all(entry.tokens > 0 for entry in self.recall)
        for head in (self.text, self.data):
            assert head is None or head.tokens > 0
            assert head is None or head.page not in self.resident(), "a head stands in the queue, too"
        assert self.group >= 0
        assert self.evicted >= 0
