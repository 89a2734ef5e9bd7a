"""What a message was answered: looked up by its id, whoever has acknowledged the reply meanwhile.

The kernel knows which turn has which messages in it, and says with each final message what it answers. A message that
was acknowledged has left the outbox; its text stands in its page, and the table `said` leads there.
The caller's duty: call `sent` on the machine's own thread, between two steps; `reply` and `said` on any,
for they read the disk and nothing else.
Not here: who waits until there is one (drivers/door/desk.py), what is not acknowledged yet (views.py).
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from kernel import records
from kernel.errors import Unknown
from kernel.event import Message
from kernel.limits import MID_CHARS_MAX
from kernel.machine.views import OUTBOX_BYTES
from kernel.ports import Reads
from kernel.process import State
from kernel.records import Said

if TYPE_CHECKING:
    from kernel.state import Kernel

ROWS: Final = 256  # of `said` in one read
SAID_MAX: Final = 256  # messages of a piece of it: a page is read for each


class Standing(enum.StrEnum):
    """How a message stands with the process that it was sent to."""

    OPEN = "open"  # it is pending, or in the turn under way: a reply may come
    ANSWERED = "answered"
    ENDED = "ended"  # its turn is over, and nothing that was said ended it
    DIED = "died"  # the process is dead


class Reply(msgspec.Struct, frozen=True):
    """What a message was answered, and whether there may be more; `why` the process is dead, if it is."""

    standing: Standing
    messages: tuple[Message, ...]
    why: str = ""


class Sent(msgspec.Struct, frozen=True):
    """A message from outside, as the kernel knows it now: whose it is, its first page, and what may still come."""

    pid: int
    page: int
    said: int  # messages of the process so far
    standing: Standing  # never ANSWERED: that is known from what was said
    why: str
    lsn: int  # of the last step that is known here; the disk may still be a commit behind


def committed(disk: Reads) -> int:
    """The log number of the last step that the disk has."""
    return records.counters(disk).lsn


def sent(kernel: Kernel, disk: Reads, mid: str) -> Sent:
    """A message by its id. Raises BadInput if there is none."""
    can_be = 0 < len(mid) <= MID_CHARS_MAX and mid.isascii()  # any other is no key
    row = disk.get("mid", mid.encode()) if can_be else None
    if row is None:
        raise Unknown(f"no message has the id {mid[:80]!r}")
    pid, page = records.unkey(row)
    proc = kernel.proc(pid)
    is_open = mid in proc.answers or any(mid == one.mid for one in proc.pending)
    if proc.state is State.ZOMBIE:
        return Sent(pid, page, proc.said, Standing.DIED, proc.status, kernel.counters.lsn)
    return Sent(pid, page, proc.said, Standing.OPEN if is_open else Standing.ENDED, "", kernel.counters.lsn)


def reply(disk: Reads, mid: str, found: Sent) -> Reply:
    """What it was answered, of a disk that has step `found.lsn` (`committed`).

    Reads few rows if there is an answer, and all that was said after it if there is none.
    """

    def page(number: int) -> int:
        row = disk.get("said", records.key(found.pid, number))
        return 0 if row is None else _said.decode(row).page

    numbers = range(1, found.said + 1)
    before = bisect_right(numbers, found.page, key=page)  # what was said before it was sent is no answer
    messages: list[Message] = []
    for number, one in _rows(disk, found.pid, before):
        if mid in one.answers:
            messages.append(_message(disk, found.pid, number, one))
            if one.ends:
                return Reply(Standing.ANSWERED, tuple(messages))
    return Reply(found.standing, tuple(messages), found.why)


def said(disk: Reads, pid: int, after: int) -> tuple[list[Message], bool]:
    """What a process said after message number `after`, acknowledged or not, as much as a line holds; is there more?"""
    found, size = list[Message](), 0
    for number, one in _rows(disk, pid, after):
        if size > OUTBOX_BYTES or len(found) == SAID_MAX:
            return found, True
        found.append(_message(disk, pid, number, one))
        size += len(found[-1].text.encode())
    return found, False


def _rows(disk: Reads, pid: int, since: int) -> Iterator[tuple[int, Said]]:
    """Rows of `said` of a process, with the messages' numbers, in order."""
    while rows := disk.scan("said", records.key(pid, since + 1), limit=ROWS):  # ends at the process's last message
        for row, value in rows:
            owner, since = records.unkey(row)
            if owner != pid:
                return
            yield since, _said.decode(value)


def _message(disk: Reads, pid: int, number: int, one: Said) -> Message:
    row = disk.get("page", records.key(one.page))
    text = "" if row is None else records.page_of(row, disk.get).searched
    return Message(pid, number, one.at, text, one.answers, one.instr, one.truncated, one.ends)


_said: Final = msgspec.msgpack.Decoder(Said)
