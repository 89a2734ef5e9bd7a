"""What is too long for the queue enters as its head; the rest is on disk, and the process is told which pages.

Not here: what fits (queue.py).
"""

from __future__ import annotations

from kernel.event import What
from kernel.memory.address_space import Entry
from kernel.paging import backlog, queue, transcript
from kernel.process import Process
from kernel.state import Kernel


def enter(kernel: Kernel, proc: Process, entries: list[Entry], what: str = "message") -> int:
    """Append as many pages of a text as a quarter of the queue holds, and say where the rest is; returns their tokens.

    The first enters if it is no larger than a page of this machine's; of a larger window, or from one, it may be. The
    rest of a message is yet to be looked at by the kernel's threads; of other texts nobody does that.
    """
    limits, kept = kernel.budgets(proc), 0
    room = limits.queue // 4
    for entry in entries:
        if entry.tokens > (room if kept else limits.unit):
            break
        room -= entry.tokens
        kept += 1
        queue.append(kernel, proc, entry)
    rest = [entry.page for entry in entries[kept:]]
    assert rest, "the whole would have fitted"
    proc.space.evicted += len(rest)
    if what == "message":
        backlog.owe(kernel, proc, rest)
    kernel.note(What.EVICT, proc, pages=tuple(rest), tokens=sum(entry.tokens for entry in entries[kept:]))
    told = {"pages": len(rest), "first": rest[0], "last": rest[-1], "kind": what}
    transcript.tell(kernel, proc, kernel.iset.alert("rest", proc.spec.calls, **told))
    return sum(entry.tokens for entry in entries[:kept])
