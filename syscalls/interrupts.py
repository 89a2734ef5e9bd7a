"""Masks of interrupt lines."""

from __future__ import annotations

from kernel.core import Kernel
from kernel.interrupts import Line
from syscalls.abi import Mask, Unmask


def sys_mask(kernel: Kernel, pid: int, call: Mask) -> None:
    """A line that is held back already is held back until the new time."""
    kernel.hold(pid, [Line[name.upper()] for name in call.lines], call.seconds)
    kernel.answer(pid, f"ok: {', '.join(call.lines)} held back for {call.seconds} s")


def sys_unmask(kernel: Kernel, pid: int, call: Unmask) -> None:
    """What is pending on the lines is delivered with the result."""
    kernel.hold(pid, [Line[name.upper()] for name in call.lines], 0)
    kernel.answer(pid, f"ok: {', '.join(call.lines)} let through")
