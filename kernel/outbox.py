"""The outbox: final messages, numbered per process, kept until a client has acknowledged them.

A message is delivered by its effect and stands on disk until then, so nobody misses one and nobody gets it twice who
remembers its last number. What it answered stays known, with the page that has its text, so whoever waits for the reply
to a message finds it even where somebody else has acknowledged it. Not here: who listens (machine/feed.py), who looks a
reply up (machine/replies.py).
"""

from __future__ import annotations

from kernel import records
from kernel.errors import SyscallError
from kernel.event import Acked, Deliver, Message
from kernel.limits import OUTBOX_MAX
from kernel.memory.page import Area, Kind, Origin, Role
from kernel.paging import alloc, transcript
from kernel.process import Process
from kernel.state import Kernel


def say(kernel: Kernel, proc: Process, text: str, *, more: bool, truncated: bool) -> None:
    """Send a message to whoever listens; `more` is to come in this turn. Raises SyscallError if nobody reads."""
    if proc.said - proc.acked >= OUTBOX_MAX:
        raise SyscallError(f"outbox full: {OUTBOX_MAX} messages wait for their reader")
    page = transcript.emitted(kernel, proc, Kind.MESSAGE, Area.RECALL, text)
    _put(kernel, proc, text, page, proc.instr, ends=not more, truncated=truncated)


def tell(kernel: Kernel, proc: Process, text: str, *, asks: bool = False) -> None:
    """Tell whoever listens that a turn is over, or that its process `asks`, if there is room; the process is not told.

    What of it is longer than a page is left out.
    """
    if proc.said - proc.acked < OUTBOX_MAX:
        part, *_ = alloc.measured(kernel, kernel.model_of(proc.pid), text, alloc.unit_text(kernel))
        entry = alloc.page(kernel, proc.pid, part, Kind.ALERT, Origin.KERNEL, Role.SYSTEM)
        _put(kernel, proc, part.text, entry.page, 0 if asks else proc.instr, ends=not asks)


def _put(
    kernel: Kernel, proc: Process, text: str, page: int, instr: int, *, ends: bool, truncated: bool = False
) -> None:
    proc.said += 1
    message = Message(proc.pid, proc.said, kernel.wall, text, proc.answers, instr, truncated, ends)
    kernel.write("outbox", records.key(proc.pid, proc.said), records.encode(message))
    if page:
        kept = records.Said(page, message.at, message.answers, message.instr, message.truncated, message.ends)
        kernel.write("said", records.key(proc.pid, proc.said), records.encode(kept))
    kernel.effect(Deliver(message))


def acked(kernel: Kernel, event: Acked) -> None:
    """A client has all messages up to a number: they go."""
    proc = kernel.proc(event.pid)
    upto = min(event.upto, proc.said)
    if upto <= proc.acked:
        return
    kernel.dirty(proc)
    for seq in range(proc.acked + 1, upto + 1):
        kernel.write("outbox", records.key(proc.pid, seq), None)
    assert proc.acked < upto <= proc.said
    proc.acked = upto


def check(kernel: Kernel, proc: Process) -> None:
    """Assert that what was said and not acknowledged is bounded, and stands on disk from its first to its last."""
    assert 0 <= proc.acked <= proc.said
    assert proc.said - proc.acked <= OUTBOX_MAX

    def there(seq: int) -> bool:
        return bool(kernel.shares.get("outbox", records.key(proc.pid, seq)))

    assert not there(proc.acked), "acknowledged and still there"
    assert not there(proc.said + 1), "not said yet"
    if proc.said > proc.acked:
        assert there(proc.acked + 1), "its reader would miss one"
        assert there(proc.said)
