"""Pages of another process's archive as one that may search it has them: whose they are, what they say, how large.

What it has of them is the text, by its own model's measure and behind a label of the kernel's: a file's stays a file's,
and what the owner wrote is a peer's.
Not here: who may (kernel/capabilities.py), what comes into view of it (kernel/paging/residency.py,
kernel/paging/faults.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from kernel import records
from kernel.event import AnyEvent, Hit, Lent, Searched
from kernel.machine import documents
from kernel.machine.cpus import Cpus
from kernel.memory.page import FilePage, Kind, Page, lent
from kernel.memory.prompt import labelled, line
from kernel.ports import Reads


class Theirs:
    """What a machine knows of such pages."""

    def __init__(self, disk: Reads, cpus: Cpus, model_of: Callable[[int], str]) -> None:
        """`model_of`: by whose ids the pages of a process are seen."""
        self._disk, self._layouts, self._model_of = disk, cpus.layouts, model_of

    def answer(self, pages: Sequence[Page], pid: int) -> dict[str, Any]:
        """The fields `pages` and `lent` of an answer to process `pid`."""
        layout, seen = self._layouts[self._model_of(pid)], [lent(page) for page in pages]
        rows = tuple(
            (page.id, len(layout.tokenize(page.text)) + layout.label_size(page), page.role, Kind.RESULT.value)
            for page in seen
        )
        texts = (
            Lent(page.text, page.origin, page.at, page.source if isinstance(page, FilePage) else None) for page in seen
        )
        return {"pages": rows, "lent": tuple(texts)}

    def cited(self, event: AnyEvent) -> AnyEvent:
        """An event as the kernel is to have it: what a search has found, with whose it is, and how large that is."""
        event = documents.cited(event, self._disk)
        if not isinstance(event, Searched) or not event.owners:
            return event
        hits = (self._hit(hit, event.pid) if hit.page in event.owners else hit for hit in event.hits)
        return msgspec.structs.replace(event, hits=tuple(hits))

    def _hit(self, hit: Hit, pid: int) -> Hit:
        """A hit as it stands for a process: with the text of its passage, in a line of its own."""
        row = self._disk.get("page", records.key(hit.page))
        assert row is not None, "it was cited"
        layout, page = self._layouts[self._model_of(pid)], lent(records.page_of(row, self._disk.get))
        text = page.text[hit.start : hit.end] if hit.end else page.text
        shown = layout.tokenize(labelled(page, line(text, page.at if hit.dated else None)))
        whole = len(layout.tokenize(text)) + layout.label_size(page)
        return msgspec.structs.replace(hit, text=text, role=page.role, tokens=len(shown), whole=whole)
