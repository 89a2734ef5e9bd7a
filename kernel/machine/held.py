"""What clients read of rights, limits, waits and the audit: pure functions of state and disk, and their structs.

Not here: all else that clients read (views.py), what changes any of it (requests.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from kernel import records
from kernel.limits import DAY_NS
from kernel.machine import views
from kernel.process import ORPHAN, OUTSIDE, Await, Consent, Fate, Process
from kernel.rights import Grant, Limits, Verdict

if TYPE_CHECKING:
    from kernel.ports import Reads
    from kernel.state import Kernel

AUDIT_MAX: Final = 500  # calls of one reading of the audit


class GrantView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A right that a process holds; `by`: who gave it, "": somebody outside."""

    right: str
    by: str = ""


class Asking(msgspec.Struct, frozen=True):
    """A call that waits for consent, by the number of its request, and the pages under whose eyes it was made."""

    req: int
    call: str
    text: str
    low: tuple[int, ...]


class Rights(msgspec.Struct, frozen=True):
    """What a process may do, and what it has used of that."""

    pid: int
    name: str
    parent: str  # "" if somebody outside has made it, "init" of an orphan
    calls: tuple[str, ...]
    grants: tuple[GrantView, ...]
    limits: Limits
    used: Limits
    tainted: dict[str, Verdict]
    asks: Asking | None = None


class Edge(msgspec.Struct, frozen=True, omit_defaults=True):
    """That one process is the parent of another, waits for it, or has written to it what is yet to be answered.

    `letter`: the number of what was written, and what became of it.
    """

    kind: str  # parent, waits, letter
    of: str
    to: str
    letter: int = 0
    fate: Fate | None = None


class AuditView(msgspec.Struct, frozen=True):
    """A call that the audit of a process keeps, by its number; `low`: pages that were in view and not the user's."""

    n: int
    at: int  # ns UTC
    lsn: int
    call: str
    verdict: str
    why: str
    rights: tuple[str, ...]
    low: tuple[int, ...]


def rights(kernel: Kernel, proc: str | int) -> Rights:
    """What a process may do. Raises BadInput as views.find does."""
    found = kernel.procs[views.find(kernel, proc)]
    what = found.wait
    return Rights(
        pid=found.pid,
        name=found.name,
        parent=_parent(kernel, found),
        calls=found.spec.calls,
        grants=tuple(_grant(kernel, grant) for grant in found.grants),
        limits=found.spec.limits,
        used=Limits(
            turn_tokens=found.turn_tokens,
            turn_syscalls=found.turn_syscalls,
            day_tokens=found.used_on(kernel.wall // DAY_NS),
            pages=found.seq,
            children=len(kernel.children.get(found.pid, ())),
            timers=len(found.timers),
            mailbox=len(found.pending),
            tools=kernel.used.get(found.pid, 0),
        ),
        tainted=dict(found.spec.tainted),
        asks=Asking(what.req, what.name, what.text, what.low) if isinstance(what, Consent) else None,
    )


def _parent(kernel: Kernel, proc: Process) -> str:
    if proc.parent == OUTSIDE:
        return ""
    return "init" if proc.parent == ORPHAN else kernel.procs[proc.parent].name


def _grant(kernel: Kernel, grant: Grant) -> GrantView:
    return GrantView(grant.right, kernel.procs[grant.by].name if grant.by in kernel.procs else "")


def graph(kernel: Kernel) -> list[Edge]:
    """Who is whose parent, who waits for whom, and which letters are without an answer, by process."""
    found: list[Edge] = []
    for proc in kernel.procs.values():
        if proc.parent > 0 and not proc.reaped:
            found.append(Edge("parent", kernel.procs[proc.parent].name, proc.name))
        if isinstance(proc.wait, Await):
            found += [
                Edge("waits", proc.name, kernel.procs[pid].name, proc.wait.letter)
                for pid in proc.awaited
                if pid in kernel.procs
            ]
        found += [
            Edge("letter", proc.name, kernel.procs[letter.to].name, letter.id, letter.fate)
            for letter in proc.letters
            if letter.fate is not Fate.ANSWERED and letter.to in kernel.procs
        ]
    return found


def audit(disk: Reads, pid: int, audits: int, since: int, limit: int) -> list[AuditView]:
    """The first calls of a process's audit after number `since`, of the `audits` that it has numbered."""
    numbers = range(since + 1, min(audits, since + limit) + 1)
    rows = disk.get_many("audit", [records.key(pid, n) for n in numbers])
    found = [
        (n, msgspec.msgpack.decode(row, type=records.Audited))
        for n, row in zip(numbers, rows, strict=True)
        if row is not None
    ]
    return [AuditView(n, one.at, one.lsn, one.call, one.verdict, one.why, one.rights, one.low) for n, one in found]
