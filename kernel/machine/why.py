"""Why a page is where it is: what the journal says of it, from the step that made it on.

Which pages an instruction drew on is a guess by words (memory/attribution.py), made and journaled as it trapped.
Pure functions of the disk; a journal that was cut says nothing of what was before (`Because` begins later then).
The caller's duty: one piece at a time, each some milliseconds; any thread.
Not here: what stands in view now (views.py `pmap`), how it is told (llmos/tables.py).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final

import msgspec

from kernel import formats, records
from kernel.errors import BadInput
from kernel.event import AnyEvent, Kept, Messaged, Searched, Trapped, What
from kernel.machine.views import HEAD_CHARS, LOG_BYTES, LOG_PIECE
from kernel.memory.page import Page
from kernel.ports import Reads


class Why(enum.StrEnum):
    """What happened to a page."""

    CAME = "came"  # a user's message brought it
    SAID = "said"  # an instruction made it; `pages`: those that it drew on
    MADE = "made"  # another step did
    RECALLED = "recalled"  # a message's search found it, and it was worth its tokens
    READ = "read"  # the process asked for it
    BROUGHT = "brought"  # somebody outside wanted it in view
    DREW = "drew"  # an instruction drew on it
    LEFT = "left"  # it made room, with `pages`


class Because(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that happened to a page. `at` is ns UTC; `text` is how that begins for which, or by which, it did."""

    why: Why
    lsn: int
    at: int
    text: str = ""
    pages: tuple[int, ...] = ()
    tokens: int = 0  # recalled: of it in the prompt; left: of all that did
    score: float = 0.0  # recalled: how likely it was what was asked for
    thought: str = ""  # said: how what was thought before begins


BEGINS: Final = (Why.CAME, Why.SAID, Why.MADE)
FOR_A_MESSAGE: Final = (Why.SAID, Why.RECALLED, Why.READ)
BECAUSE_MAX: Final = 200  # things that are told of a page, the newest of them
PAGES_MAX: Final = 32  # pages that are told by how they begin, of one thing


def last_said(disk: Reads, pid: int, said: int) -> int:
    """The page of the last message of a process that has said so many. Raises BadInput if it has said nothing."""
    row = disk.get("said", records.key(pid, said))
    if row is None:
        raise BadInput("it has said nothing yet; give a page, as pmap and strace number them")
    return msgspec.msgpack.decode(row, type=records.Said).page


def piece(disk: Reads, page: Page, before: int) -> tuple[list[Because], int]:
    """What happened to a page in a piece of the journal that ends before log number `before`, newest first.

    And the log number before which to go on, 0 if there is nothing more.
    """
    found: list[Because] = []
    size, lsn = 0, before
    for entry, read in _backwards(disk, before):
        lsn, size = entry.lsn, size + read
        at = entry.event.at + entry.event.ahead
        if at < page.at:
            return found, 0
        found += _happened(entry, page, at)
        if size > LOG_BYTES:
            return found, lsn
    return found, lsn if lsn < before else 0


def message(disk: Reads, pid: int, before: int) -> tuple[str, int]:
    """How the last message to a process before log number `before` begins; else where to go on, 0 for nowhere."""
    lsn = before
    for entry, _ in _backwards(disk, before):
        lsn = entry.lsn
        if isinstance(entry.event, Messaged) and entry.event.pid == pid:
            return _text(entry.event), 0
    return "", lsn if lsn < before else 0


def _backwards(disk: Reads, before: int) -> Iterator[tuple[records.JournalEntry, int]]:
    """The entries of a piece that ends before log number `before`, newest first, each with its bytes."""
    for _, row in disk.scan("journal", records.key(before - 1), reverse=True, limit=LOG_PIECE) if before > 1 else ():
        yield formats.entry(row), len(row)


def _happened(entry: records.JournalEntry, page: Page, at: int) -> list[Because]:
    """What a step did to a page, the last thing first."""
    event, found = entry.event, list[Because]()
    for note in entry.notes:
        if page.id not in note.pages or note.pid != page.pid:
            continue
        others = tuple(one for one in note.pages if one != page.id)
        if note.what is What.EVICT:
            found.append(Because(Why.LEFT, entry.lsn, at, _text(event), others, note.tokens))
        elif note.what is What.FAULT and isinstance(event, Searched):
            best = max((hit for hit in event.hits if hit.page == page.id), key=lambda hit: hit.score, default=None)
            if best is not None:
                found.append(Because(Why.RECALLED, entry.lsn, at, "", others, best.tokens, round(best.score, 3)))
        elif note.what is What.FAULT:
            why = Why.BROUGHT if isinstance(event, Kept) else Why.READ
            found.append(Because(why, entry.lsn, at, "", others, note.tokens))
    if getattr(event, "pid", 0) != page.pid:
        return found
    if isinstance(event, Trapped) and page.id in event.drew:
        found.append(Because(Why.DREW, entry.lsn, at, _text(event)))
    if at == page.at:
        found.append(_began(entry, page, at))
    return found


def _began(entry: records.JournalEntry, page: Page, at: int) -> Because:
    """The step that made it; another of the same process at the same time cannot have."""
    event = entry.event
    if isinstance(event, Trapped) and event.text == page.text:
        return Because(Why.SAID, entry.lsn, at, "", event.drew, thought=event.thinking[:HEAD_CHARS])
    if isinstance(event, Messaged) and any(part.text == page.text for part in event.parts):
        return Because(Why.CAME, entry.lsn, at, event.mid)
    return Because(Why.MADE, entry.lsn, at, type(event).__name__)


def _text(event: AnyEvent) -> str:
    """How what an event brought begins, or what it was."""
    if isinstance(event, Messaged):
        return "".join(part.text for part in event.parts)[:HEAD_CHARS]
    if isinstance(event, Trapped):
        return event.text[:HEAD_CHARS]
    if isinstance(event, Kept):
        return "somebody outside"
    return type(event).__name__
