"""What a turn has tried: its calls, in words, by how often each has failed.

A call that fails is no illegal instruction. The same one again and again ends the turn (turn.py), and the user is told
what was tried.
Not here: what cannot be decoded (trap.py).
"""

from __future__ import annotations

from typing import Final

from kernel.limits import SAME_FAILED_MAX, TURN_SYSCALLS_MAX
from kernel.process import Process
from kernel.state import Kernel

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


def stuck(proc: Process) -> str:
    """The newest call, if it has failed as often as is allowed."""
    call = _newest(proc)
    return call if proc.tried.get(call, 0) >= SAME_FAILED_MAX else ""


def _newest(proc: Process) -> str:
    return next(reversed(proc.tried), "")


def check(proc: Process) -> None:
    """Assert that nothing outlives its turn, and that nothing was tried more often than is allowed."""
    assert not proc.tried or proc.in_turn, "tried in a turn that is over"
    assert len(proc.tried) <= TURN_SYSCALLS_MAX
    assert all(times < SAME_FAILED_MAX for times in proc.tried.values())
