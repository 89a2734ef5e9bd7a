"""A reference string out of a machine's data directory: what one process was told and said, and what it drew on.

Each user message begins a turn: it and the reply before it arrive, and the pages that the new reply drew on are its
references (attribution.py), besides those that the process asked to read. The directory is only
read, and a kernel may run on it meanwhile.
"""

from __future__ import annotations

from pathlib import Path

from bench.paging.attribution import Attribution
from bench.paging.trace import Ref, Turn
from drivers.disk.lmdb import LmdbReader
from kernel import formats, records
from kernel.errors import BadInput
from kernel.event import Loaded
from kernel.memory.page import Area, Kind, Origin, Page

FRAME = 5  # tokens that a chat template puts around a page


def record(directory: Path, name: str) -> tuple[list[Turn], list[str]]:
    """Turns and texts of process `name`, or of the only one ("").

    Raises BadInput if there is no machine there, or no such process.
    """
    disk = LmdbReader(directory)
    try:
        form = formats.of(disk)
        found = [form.proc(value) for _, value in disk.scan("proc")]
        names = ", ".join(sorted(proc.name for proc in found)) or "none"
        mine = [proc for proc in found if not name or name in (proc.name, str(proc.pid))]
        if not mine or (not name and len(mine) > 1):
            raise BadInput(f"{directory}: {f'no process {name}' if name else 'several processes'}; there are {names}")
        pid = mine[0].pid
        rows = [records.page_of(value, disk.get) for _, value in disk.scan("page")]
        pages = [page for page in rows if page.pid == pid and page.area is Area.RECALL]
        sizes = {
            int.from_bytes(key[-8:], "big"): len(records.unpack_ids(value)) + FRAME for key, value in disk.scan("ids")
        }
        asked = [  # when, and the pages that came
            (entry.event.at, [row[0] for row in entry.event.pages])
            for _, value in disk.scan("journal")
            if isinstance((entry := formats.entry(value)).event, Loaded) and entry.event.pid == pid
        ]
    finally:
        disk.close()
    numbers = {page.id: number for number, page in enumerate(pages, 1)}
    turns: list[Turn] = []
    words = Attribution()
    fresh: list[Ref] = []
    query = ""
    reply: list[Page] = []
    began = 0
    said: list[Page] = []

    def close(until: int) -> None:
        """The turn is over: who drew on what is known now."""
        drawn = words.drawn(query, " ".join(page.searched for page in reply)) if reply else []
        read = [numbers[page] for at, came in asked if began <= at < until for page in came if page in numbers]
        refs = tuple(
            Ref(number, sizes.get(pages[number - 1].id, FRAME), Kind.MESSAGE) for number in dict.fromkeys(drawn + read)
        )
        if fresh or refs:
            turns.append(Turn(tuple(fresh), refs, query))
        for page in said:
            words.add(numbers[page.id], page.searched)

    for page in pages:
        ref = Ref(numbers[page.id], sizes.get(page.id, FRAME), page.kind)
        if page.origin is Origin.USER and (reply or not query):
            if query:
                close(page.at)
            fresh = [
                Ref(numbers[one.id], sizes.get(one.id, FRAME), one.kind) for one in reply
            ]  # stands there from now on
            query, reply, said, began = "", [], [], page.at
        if page.origin is Origin.USER:
            query = f"{query}\n{page.text}".strip()
            fresh.append(ref)
        else:
            reply.append(page)
        said.append(page)
    if query:
        close(1 << 62)
    return turns, [page.searched for page in pages]
