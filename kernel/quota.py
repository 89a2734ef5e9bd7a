"""What a process may use, and what of that is left: reserved before it is used, settled after.

A limit of nobody's choice is the machine's own bound (limits.py). Tokens of a day are counted for whoever has a limit
of them, and its children's with its own: so no tree of processes has more than its root. Each instruction has its
tokens set apart before it begins (`Process.lent`); it cannot emit more, and what it did not need is free again.
Not here: what a limit is (rights.py), what becomes of a turn whose tokens are used up (turn.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from kernel.errors import SyscallError
from kernel.event import What
from kernel.limits import DAY_NS, TURN_SYSCALLS_MAX, TURN_TOKENS_MAX
from kernel.memory import pager
from kernel.process import Process
from kernel.state import Kernel


def most(chosen: int, bound: int) -> int:
    """What holds where somebody chose so much, or nothing (0)."""
    return min(chosen, bound) if chosen else bound


def chain(kernel: Kernel, proc: Process) -> Iterator[Process]:
    """A process, its parent, and so on: whose share of a day it uses."""
    found: Process | None = proc
    while found is not None:  # ends: a parent is older than its child
        yield found
        found = kernel.procs.get(found.parent)


def used_today(kernel: Kernel, proc: Process) -> int:
    """Tokens that it has used of its day, its children's included."""
    return proc.used_on(kernel.wall // DAY_NS)


def _kept(kernel: Kernel, proc: Process) -> int:
    """Tokens set apart for instructions under way of a process and of all below it. O(who is in a turn)."""
    return sum(
        one.lent
        for pid in kernel.busy
        if (one := kernel.procs[pid]).lent and any(above is proc for above in chain(kernel, one))
    )


def reserve(kernel: Kernel, proc: Process) -> str:
    """Set apart what the next instruction may emit; why there is nothing for it, in words, or ""."""
    if proc.thread or proc.lent:
        return ""
    limits, lend = proc.spec.limits, 0
    if limits.turn_tokens:
        lend = min(pager.reply_max(kernel.settings), limits.turn_tokens - proc.turn_tokens)
    for one in chain(kernel, proc):
        allowed = one.spec.limits.day_tokens
        if allowed:
            left = allowed - used_today(kernel, one) - _kept(kernel, one)
            lend = min(lend or pager.reply_max(kernel.settings), left)
            if left <= 0:
                return f"{one.name} may emit {allowed} tokens a day, and has; it may again from 00:00 UTC"
    proc.lent = max(0, lend)
    return ""


def settle(kernel: Kernel, proc: Process, tokens: int, *, over: bool) -> None:
    """So many tokens were emitted; with `over`, the instruction is done, and what was set apart for it is free."""
    for one in chain(kernel, proc):
        if one.spec.limits.day_tokens:
            kernel.dirty(one)
            one.day_tokens = used_today(kernel, one) + tokens
            one.day = max(one.day, kernel.wall // DAY_NS)
    if over:
        proc.lent = 0


def spent(proc: Process) -> bool:
    """Whether a turn has had its instructions or tokens."""
    limits = proc.spec.limits
    return proc.turn_syscalls >= most(limits.turn_syscalls, TURN_SYSCALLS_MAX) or proc.turn_tokens >= most(
        limits.turn_tokens, TURN_TOKENS_MAX
    )


def need(kernel: Kernel, proc: Process, what: str, have: int, chosen: int, bound: int) -> None:
    """Raises SyscallError where one more would be too many, and notes that a limit was reached."""
    allowed = most(chosen, bound)
    if have >= allowed:
        kernel.note(What.LIMIT, proc, text=f"{what}: {allowed} are allowed")
        raise SyscallError(f"{have} {what}; {allowed} are allowed")


def need_page(kernel: Kernel, proc: Process) -> None:
    """Raises SyscallError where a process has as many pages as somebody allowed it; the machine has no such bound."""
    if proc.spec.limits.pages:
        need(kernel, proc, "pages", proc.seq, proc.spec.limits.pages, proc.spec.limits.pages)


def check(proc: Process) -> None:
    """Assert that tokens are set apart within a turn alone."""
    assert proc.lent >= 0
    assert proc.in_turn or not proc.lent, "kept for a turn that is over"
