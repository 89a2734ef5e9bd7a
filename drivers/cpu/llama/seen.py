"""Which pages stood in each process's last prompt: what is evaluated of them once more is work done again.

Pure. Guarantee: it remembers a bounded number of processes, those that ran last.
Not here: what is still evaluated (kv/seats.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from kernel.memory.measure import Frame, Visible
from kernel.memory.page import Kind

LAST_MAX: Final = 4096  # processes whose last prompt is known


class Seen:
    """The last prompts of processes, as pages."""

    def __init__(self, frame: Frame) -> None:
        self._costs = {role: len(frame.prefix[role]) + len(frame.suffix[role]) for role in frame.prefix}
        self._last: OrderedDict[int, frozenset[int]] = OrderedDict()

    def fork(self, parent: int, child: int) -> None:
        """`child` has seen what `parent` saw."""
        self._last[child] = self._last.get(parent, frozenset())

    def forget(self, pid: int) -> None:
        """`pid` is no more, nor is what it was asked apart."""
        for one in (pid, -pid):
            self._last.pop(one, None)

    def again(self, pid: int, visible: Sequence[Visible], kept: int) -> int:
        """Tokens of pages that stood in the last prompt of `pid`, too, and are not among the `kept` from the front.

        `visible` is its last prompt from now on. What is recalled comes and goes, and does not count.
        """
        pages = [page for page in visible if not page.recalled]
        last = self._last.pop(pid, frozenset())
        self._last[pid] = frozenset(page.page.of or page.page.id for page in pages)
        if len(self._last) > LAST_MAX:
            self._last.popitem(last=False)
        seen = sum(
            len(page.ids) + (self._costs[page.role] if page.page.kind is not Kind.THOUGHT else 0)
            for page in pages
            if (page.page.of or page.page.id) in last
        )
        return max(0, seen - kept)
