"""What clients read of rights, limits, waits and the audit: pure functions of state and disk, and their structs.

Not here: all else that clients read (views.py), what changes any of it (requests.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from kernel import capabilities, records
from kernel.limits import DAY_NS
from kernel.machine import views
from kernel.memory.page import Origin
from kernel.process import ORPHAN, OUTSIDE, Await, Consent, Fate, Process, asker
from kernel.rights import Grant, Limits, Verdict
from kernel.text import one_line

if TYPE_CHECKING:
    from kernel.ports import Reads
    from kernel.state import Kernel

AUDIT_MAX: Final = 500  # calls of one reading of the audit
PAGES_MAX: Final = 12  # that a question names
CALL_CHARS_MAX: Final = 600  # of a call in it


class GrantView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A right that a process holds; `by`: who gave it, "": somebody outside."""

    right: str
    by: str = ""


class Asking(msgspec.Struct, frozen=True):
    """A call that waits for consent: whose, by the number of its request, and under which pages' eyes it was made.

    `call`: by what policies know it. `text`: as it was emitted.
    """

    pid: int
    name: str
    req: int
    call: str
    text: str
    low: tuple[int, ...]


class Rights(msgspec.Struct, frozen=True):
    """What a process may do, and what it has used of that. `archives`: that it has mapped, and whether there is one
    that it may search now.
    """

    pid: int
    name: str
    parent: str  # "" if somebody outside has made it, "init" of an orphan
    calls: tuple[str, ...]
    grants: tuple[GrantView, ...]
    limits: Limits
    used: Limits
    tainted: dict[str, Verdict]
    audits: int  # calls that its audit has numbered
    asks: Asking | None = None
    archives: dict[str, bool] = {}


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
    """A call that the audit of a process keeps, by its number.

    `low`: pages that were in view and not the user's; `origins`: whose they are.
    """

    n: int
    at: int  # ns UTC
    lsn: int
    call: str
    verdict: str
    why: str
    rights: tuple[str, ...]
    low: tuple[int, ...]
    origins: tuple[Origin, ...]


def rights(kernel: Kernel, proc: str | int) -> Rights:
    """What a process may do. Raises BadInput as views.find does."""
    found = kernel.procs[views.find(kernel, proc)]
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
        audits=found.audits,
        asks=_asking(found),
        archives={name: capabilities.searched(kernel, found, name) is not None for name in found.spec.archives},
    )


def asking(kernel: Kernel, pid: int) -> Asking | None:
    """What a process, or one that it waits for, is to be allowed; None if there is no such thing."""
    found = asker(kernel.procs, kernel.procs[pid])
    return None if found is None else _asking(found)


def _asking(proc: Process) -> Asking | None:
    what = proc.wait
    return Asking(proc.pid, proc.name, what.req, what.name, what.text, what.low) if isinstance(what, Consent) else None


def question(asked: Asking) -> str:
    """What is asked, in a line of the kernel's."""
    pages = ", ".join(map(str, asked.low[:PAGES_MAX])) + (" and more" if len(asked.low) > PAGES_MAX else "")
    call = one_line(" ".join(asked.text.split()))
    call = call if len(call) <= CALL_CHARS_MAX else f"{call[:CALL_CHARS_MAX]} ..."
    return f"{one_line(asked.name)} asks whether it may do this: {call} (not the user's, and in view: pages {pages})"


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
    pages = views.looked_up(disk, sorted({page for _, one in found for page in one.low}))

    def origins(one: records.Audited) -> tuple[Origin, ...]:
        return tuple(sorted({pages[page].origin for page in one.low if page in pages}))

    return [
        AuditView(n, one.at, one.lsn, one.call, one.verdict, one.why, one.rights, one.low, origins(one))
        for n, one in found
    ]
