"""Waiting for other processes: for the end of a child, or for the answer to a message.

The process is blocked as with any request, and nobody is asked: another process's step ends the wait, or a timer, or
an interrupt that is not another process's (a user is never kept waiting by that). A wait that nobody could end, since
all that could end it wait for the waiter, is refused with the cycle.
Not here: what ends a child (kin.py), messages (ipc.py), requests to devices (waiting.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from kernel import timers, waiting
from kernel.errors import SyscallError
from kernel.interrupts import Line
from kernel.limits import NS
from kernel.memory.page import Kind
from kernel.paging import transcript
from kernel.process import Await, Process
from kernel.state import Kernel

ENDS: Final = (Line.USER, Line.TIMER, Line.DEVICE)
"""Lines whose interrupts end a wait for others."""


def begin(kernel: Kernel, proc: Process, on: Iterable[int], seconds: int, *, letter: int = 0) -> None:
    """Let a process wait for processes `on`, for the end of one of them or for their answer to `letter`.

    Raises SyscallError, before anything has changed, where that would close a cycle.
    """
    on = tuple(on)
    if cycle := _closes(kernel, proc, on):
        raise SyscallError(f"nobody would ever go on: {', and '.join(cycle)}")
    transcript.emitted(kernel, proc)
    timer = timers.alarm(kernel, proc, seconds * NS) if seconds else 0
    waiting.block(kernel, proc, Await(proc.pid, proc.req + 1, () if letter else on, letter, timer))


def _closes(kernel: Kernel, proc: Process, on: tuple[int, ...]) -> list[str]:
    """The first cycle, in words, that a wait for any of `on` would close; empty if one of them could still go on."""
    found: list[str] = []
    for pid in on:
        path = _path(kernel, pid, proc.pid, set())
        if not path:
            return []
        names = [kernel.procs[one].name for one in (proc.pid, *path)]
        found = found or [f"{one} waits for {other}" for one, other in zip(names, names[1:], strict=False)]
    return found


def _path(kernel: Kernel, start: int, goal: int, seen: set[int]) -> list[int]:
    """From who waits to whom, from `start` to `goal`, where each can only go on by the next; empty if there is none."""
    if start == goal:
        return [goal]
    if start in seen:
        return []
    seen.add(start)
    nexts = kernel.procs[start].awaited if start in kernel.procs else ()
    paths = [_path(kernel, one, goal, seen) for one in nexts]
    return [start, *paths[0]] if paths and all(paths) else []


def over(kernel: Kernel, proc: Process, text: str) -> None:
    """The wait is over, and the process is told how; it is ready."""
    cancel(kernel, proc)
    waiting.over(kernel, proc)
    transcript.tell(kernel, proc, text, Kind.RESULT, proc.space.group)


def cancel(kernel: Kernel, proc: Process) -> None:
    """No timer ends the wait any more."""
    if isinstance(proc.wait, Await) and proc.wait.timer:
        timers.disarm(kernel, proc.wait.timer)
        proc.wait = msgspec.structs.replace(proc.wait, timer=0)


def looked(kernel: Kernel, proc: Process) -> bool:
    """Something became pending for a process, or its time is up: end its wait for others if this does."""
    what = proc.wait
    if not isinstance(what, Await):
        return False
    held = proc.holding(kernel.at)
    if what.late:
        over(kernel, proc, "error: nothing came of it in that time")
    elif any(one.line in ENDS and one.line not in held for one in proc.pending):
        over(kernel, proc, "error: the wait was interrupted")
    else:
        return False
    return True
