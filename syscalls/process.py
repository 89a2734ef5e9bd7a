"""The process itself: yield and exit."""

from __future__ import annotations

from kernel import life, turn
from kernel.process import Process
from kernel.state import Kernel
from syscalls.abi import Exit, Yield


def sys_yield(kernel: Kernel, proc: Process, call: Yield) -> None:
    """Nothing to do until an interrupt."""
    turn.rest(kernel, proc)


def sys_exit(kernel: Kernel, proc: Process, call: Exit) -> None:
    """A zombie with its status; its memory is kept."""
    life.exit(kernel, proc, call.status or "exited")
