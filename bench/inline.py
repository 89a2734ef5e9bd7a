"""An index in the caller's own process that answers while it is asked, for machines in virtual time.

It is the kernel's index (drivers/index/fused.py): pages are applied when the first search wants them, and there is no
deadline, so that an answer never depends on how fast the machine is.
"""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Final

import msgspec

from drivers.index.fused import FusedIndex
from drivers.index.ranking import Embedder
from kernel.event import AnyEvent, Search, Searched
from kernel.ports import Post, Reads, Sized

ANSWER_S: Final = 60.0  # an index that takes longer has failed


class InlineIndex:
    """ports.Index over FusedIndex in `folder`. While it is `silent` it says that there is nothing, without a look."""

    anew = False
    idle = True
    trouble = ""

    def __init__(self, folder: Path, disk: Reads, embedder: Embedder, exact_max: int) -> None:
        self._inner = FusedIndex(folder, disk, embedder, exact_max)
        self._answers: queue.SimpleQueue[AnyEvent] = queue.SimpleQueue()
        self.applied = 0  # what was fed is, as far as anybody can tell
        self.damaged = ""
        self.silent = False

    def start(self, post: Post, sized: Sized) -> None:
        """See ports.Index."""
        self._post = post
        self._inner.start(self._answers.put, sized)

    def feed(self, upto: int) -> None:
        """See ports.Index."""
        self.applied = upto

    def search(self, what: Search) -> None:
        """Answer before it returns. Raises RuntimeError if the index has failed."""
        if self.silent:
            self._post(Searched(pid=what.pid, req=what.req))
            return
        self._inner.feed(self.applied)
        self._inner.search(msgspec.structs.replace(what, deadline_s=0.0))
        answer = self._answers.get(timeout=ANSWER_S)
        self.damaged = self._inner.damaged
        if self.damaged:
            raise RuntimeError(f"the index failed: {self.damaged}")
        self._post(answer)

    def lag(self) -> int:
        """See ports.Index."""
        return 0

    def close(self) -> None:
        """Stop; nothing is saved that was not applied."""
        self._inner.close(at_once=True)
