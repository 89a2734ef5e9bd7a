"""LIRS (Jiang and Zhang 2002): pages with short gaps between references stay (LIR), the others (HIR) share a queue.

Sizes are tokens: HIR pages should have 1 % of the capacity. The stack holds LIR pages and every page referenced since
the least recent of them, resident or not. O(1) an access, amortised.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from typing import Any, Final

from kernel.memory.page import Kind
from kernel.memory.policy.sized import Sized

HIR: Final = 0.01


class Lirs:
    """`stack` is S of the paper, oldest first; `queue` is Q, the resident HIR pages; `lir` the LIR pages with sizes."""

    def __init__(self, capacity: int, state: Any = None) -> None:
        self.capacity = capacity
        self.stack: OrderedDict[int, None] = OrderedDict()
        self.lir: dict[int, int] = {}
        self.lir_tokens = 0
        self.queue = Sized()

    def miss(self, page: int) -> None:
        """Nothing to learn before it is admitted."""

    def admit(self, page: int, tokens: int, kind: Kind) -> None:
        """LIR while there is room, or if its gap is shorter than that of the oldest LIR page; else HIR."""
        if page in self.stack or self.lir_tokens + tokens <= self._target():
            self._promote(page, tokens)
            self._touch(page)
            self._demote()
        else:
            self.queue.push(page, tokens)
            self._touch(page)

    def hit(self, page: int) -> None:
        """A HIR page that is in the stack becomes LIR."""
        if page in self.lir:
            oldest = next(iter(self.stack)) == page
            self._touch(page)
            if oldest:
                self._prune()
        elif page in self.queue:
            tokens = self.queue.pop(page)
            if page in self.stack:
                self._promote(page, tokens)
                self._touch(page)
                self._demote()
            else:
                self.queue.push(page, tokens)
                self._touch(page)

    def evict(self, tokens: int, pinned: Container[int]) -> list[int]:
        """Resident HIR pages, the oldest first; then LIR pages from the bottom of the stack."""
        victims: list[int] = []
        while tokens > 0:
            page = self.queue.oldest(pinned)
            if page is not None:
                tokens -= self.queue.pop(page)  # stays in the stack, if it is there, as a ghost
            else:
                page = next((page for page in self.stack if page in self.lir and page not in pinned), None)
                if page is None:
                    break
                tokens -= self._unlir(page)
                self._prune()
            victims.append(page)
        return victims

    def drop(self, page: int) -> None:
        """Forget."""
        self.queue.pop(page)
        if page in self.lir:
            self._unlir(page)
        self.stack.pop(page, None)
        self._prune()

    def state(self) -> Any:
        """None is kept."""
        return []

    def _target(self) -> int:
        """Tokens of LIR pages; the others have at least one token."""
        return self.capacity - max(1, int(HIR * self.capacity))

    def _promote(self, page: int, tokens: int) -> None:
        self.lir[page] = tokens
        self.lir_tokens += tokens

    def _unlir(self, page: int) -> int:
        tokens = self.lir.pop(page)
        self.lir_tokens -= tokens
        return tokens

    def _demote(self) -> None:
        """The oldest LIR pages become HIR until the target holds."""
        while self.lir_tokens > self._target() and len(self.lir) > 1:
            oldest = next(iter(self.stack))
            del self.stack[oldest]
            self.queue.push(oldest, self._unlir(oldest))
            self._prune()

    def _touch(self, page: int) -> None:
        self.stack[page] = None
        self.stack.move_to_end(page)

    def _prune(self) -> None:
        """The stack begins with a LIR page."""
        while self.stack:
            oldest = next(iter(self.stack))
            if oldest in self.lir:
                break
            del self.stack[oldest]
