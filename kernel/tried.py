"""What a turn has tried: its calls, in words, by how often each has failed; and what it has done that is done once.

A call that fails is no illegal instruction. The same one again and again ends the turn (turn.py), and the user is told
what was tried. So with one that has changed the world and was answered: until something else is heard, or another tool
used, the same again is a mistake of a model that does not see that it is done, and is not done again.
Not here: what cannot be decoded (trap.py), which calls change the world (external.py), what is answered to it
(guard.py).
"""

from __future__ import annotations

from typing import Final

from kernel.limits import SAME_FAILED_MAX, TURN_SYSCALLS_MAX
from kernel.process import Process
from kernel.state import Kernel

DONE: Final = -SAME_FAILED_MAX - 1  # of a call that is done: below zero, and so is one that was asked for again
FIRST: Final = 5  # the format whose PCB knows it; before, a call that failed was an illegal instruction


def known(kernel: Kernel, proc: Process) -> bool:
    """Whether it is known of a process: of one that is nobody's thread, and in this format."""
    return kernel.form.number >= FIRST and not proc.thread


def begun(kernel: Kernel, proc: Process) -> None:
    """The call of this step's trap is carried out, and may fail at once or when what it waits for is there."""
    call = kernel.draft.call
    if call and known(kernel, proc):
        proc.tried[call] = proc.tried.pop(call, 0)


def failed(kernel: Kernel, proc: Process, why: str) -> None:
    """The newest call has failed, of which the process is told by its caller."""
    if known(kernel, proc) and proc.tried:
        proc.tried[_newest(proc)] += 1
        kernel.draft.failed = why


def done(kernel: Kernel, proc: Process) -> None:
    """The newest call has changed the world, and is answered."""
    if known(kernel, proc) and proc.tried:
        proc.tried[_newest(proc)] = DONE


def is_done(kernel: Kernel, proc: Process) -> bool:
    """Whether the call of this step's trap is done, and nothing has come since that could ask for more of it."""
    return proc.tried.get(kernel.draft.call, 0) < 0


def news(proc: Process) -> None:
    """Something is heard, or another tool used: what was done may be wanted once more."""
    if any(times < 0 for times in proc.tried.values()):
        proc.tried = {call: times for call, times in proc.tried.items() if times >= 0}


def stuck(proc: Process) -> tuple[str, int, bool]:
    """The newest call, if it has failed as often as is allowed, how often, and whether it was done before; else ""."""
    call = _newest(proc)
    times = proc.tried.get(call, 0)
    again = times - DONE if times < 0 else times
    return (call if again >= SAME_FAILED_MAX else ""), again, times < 0


def _newest(proc: Process) -> str:
    return next(reversed(proc.tried), "")


def check(proc: Process) -> None:
    """Assert that nothing outlives its turn, and that nothing was tried more often than is allowed."""
    assert not proc.tried or proc.in_turn, "tried in a turn that is over"
    assert len(proc.tried) <= TURN_SYSCALLS_MAX
    assert all(DONE <= times < SAME_FAILED_MAX for times in proc.tried.values())
    assert -1 not in proc.tried.values(), "asked for again as often as is allowed"
    assert sum(times < 0 for times in proc.tried.values()) <= 1, "the newest use of a tool, and no other"
