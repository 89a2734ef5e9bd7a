"""The process itself: yield and exit."""

from __future__ import annotations

from kernel.core import Kernel
from syscalls.abi import Exit


def sys_yield(kernel: Kernel, pid: int) -> None:
    """Nothing to do until an interrupt."""
    kernel.rest(pid)


def sys_exit(kernel: Kernel, pid: int, call: Exit) -> None:
    """A zombie with its status; its memory is kept."""
    kernel.exit(pid, call.status or "exited")
