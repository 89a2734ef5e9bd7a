"""Rankings for the simulated pager, made by the kernel's own index: the pages of what it finds, the likeliest first.

A ranking sees the pages up to a number and no others, as a demand fault would at that moment, and nothing of a question
but its text.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from bench.paging import store
from drivers.disk.memory import MemoryDisk
from drivers.embed.wordllama import WordLlamaEmbedder
from drivers.index.fused import FORMAT, FusedIndex
from kernel.event import Search, Searched
from kernel.limits import NS
from kernel.memory.page import Area, Kind, Origin, Page, Role
from kernel.ports import Record

DEPTH: Final = 400  # pages of a ranking: more than any recall area holds
MADE_BY: Final = 4  # goes up when rankings change with the same index format


def rankings(texts: Sequence[str], asked: Iterable[tuple[str, int]]) -> dict[tuple[str, int], list[int]]:
    """The ranking of pages 1 to `upto` for each (query, upto); page n has the text `texts[n - 1]`. Cached."""
    wanted = sorted(set(asked))
    key = store.digest("rank", FORMAT, MADE_BY, DEPTH, WordLlamaEmbedder.name, list(texts), wanted)
    found = store.cached("rank", key, list[list[int]], lambda: _rank(texts, wanted))
    return dict(zip(wanted, found, strict=True))


def _rank(texts: Sequence[str], wanted: Sequence[tuple[str, int]]) -> list[list[int]]:
    disk = MemoryDisk()
    disk.commit(
        [
            Record(
                "page",
                number.to_bytes(8, "big"),
                msgspec.msgpack.encode(
                    Page(number, 1, number, Kind.MESSAGE, Origin.USER, Role.USER, Area.RECALL, number * NS, text)
                ),
            )
            for number, text in enumerate(texts, 1)
        ]
    )
    answers: dict[int, list[int]] = {}
    arrived = threading.Condition()

    def post(event: object) -> None:
        assert isinstance(event, Searched)
        with arrived:
            answers[event.req] = list(dict.fromkeys(hit.page for hit in event.hits))
            arrived.notify_all()

    with tempfile.TemporaryDirectory(prefix="llmos-rank-") as folder:
        index = FusedIndex(folder, disk, WordLlamaEmbedder())
        index.start(post, list)
        for req, (query, upto) in enumerate(wanted):
            index.search(
                Search(
                    pid=1,
                    req=req,
                    area=(Area.RECALL,),
                    query=query,
                    limit=DEPTH,
                    upto=min(upto, len(texts)),
                )
            )
        with arrived:
            while len(answers) < len(wanted):
                arrived.wait()
        index.close(at_once=True)
        if index.damaged:
            raise RuntimeError(f"the index failed: {index.damaged}")
    return [answers[req] for req in range(len(wanted))]
