"""A process that comes from another machine: what it may claim to have been, and what of it is measured here.

An export is a file that anybody can write. Guarantees: nothing of it stands in the kernel's frame but its instructions
and core memory, which are its own as a spawned one's are; pages that say the kernel wrote them, and the process's own
notes, which would be read in that frame, come in as origin `import` in a user's. What is pending is what users said.
Pins and groups are such as this kernel makes, so that evictions and folds are those of any process. What is measured
is bounded by the window and PENDING_MAX, however long the file is.
Not here: how a file is read (drivers/disk/parcel.py), how pages and timers are made of it (kernel/life.py).
"""

from __future__ import annotations

import msgspec

from kernel.event import Imported, Moved
from kernel.limits import PENDING_MAX
from kernel.memory.page import OWN, Kind, Origin, Role
from kernel.memory.prompt import Layout

EMITTED = (Kind.MESSAGE, Kind.SYSCALL)


def admitted(event: Imported) -> Imported:
    """The process as far as it is believed. Callable from any thread, as is `measured`."""
    groups: dict[int, int] = {}
    return msgspec.structs.replace(event, pages=tuple(_believed(page, groups) for page in event.pages))


def _believed(page: Moved, groups: dict[int, int]) -> Moved:
    """A page as one that this machine may show; `groups` are the numbers given so far."""
    said = page.origin in OWN and page.kind in EMITTED
    theirs = page.origin in (Origin.USER, Origin.FILE)
    where = page.where if page.where != "pending" or (page.kind, page.origin) == (Kind.MESSAGE, Origin.USER) else ""
    group = 0
    if where == "queue" and (page.group or page.kind is Kind.DELTA):
        alone = page.group or -1 - len(groups)  # a write to core memory leaves at a fold, with what belongs to it
        group = groups.setdefault(alone, len(groups) + 1)
    return Moved(
        page.kind,
        page.origin if said or theirs else Origin.IMPORT,
        Role.ASSISTANT if said else Role.USER,
        page.area,
        page.at,
        page.text,
        page.gist if said else "",
        where,
        group,
        page.pinned and where == "queue" and page.kind is not Kind.DELTA,
    )


def measured(event: Imported, layout: Layout, window: int, page_tokens: int) -> Imported:
    """The process with the ids of what may be in view or is pending; of the rest no more than the window holds.

    A message that is larger than a page of this machine's is several.
    """
    pinned, room, waiting = window // 16, window, 0
    pages: list[Moved] = []
    for page in reversed(event.pages):
        if page.where == "queue" and (pinned if page.pinned else room) > 0:
            ids = layout.tokenize(page.text)
            pages.append(msgspec.structs.replace(page, ids=ids))
            if page.pinned:
                pinned -= len(ids)
            else:
                room -= len(ids)
        elif page.where == "pending" and waiting < PENDING_MAX:
            waiting += 1
            made = [
                msgspec.structs.replace(page, text=part.text, ids=part.ids) for part in layout(page.text, page_tokens)
            ]
            pages += reversed(made)
        else:
            pages.append(msgspec.structs.replace(page, where="", pinned=False, group=0) if page.where else page)
    return msgspec.structs.replace(event, pages=tuple(reversed(pages)))
