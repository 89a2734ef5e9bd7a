"""Masks of interrupt lines."""

from __future__ import annotations

from kernel import timers
from kernel.interrupts import Line
from kernel.paging import transcript
from kernel.process import Process
from kernel.state import Kernel
from syscalls.abi import Mask, Unmask


def sys_mask(kernel: Kernel, proc: Process, call: Mask) -> None:
    """A line that is held back already is held back until the new time."""
    timers.hold(kernel, proc, [Line[name.upper()] for name in call.lines], call.seconds)
    transcript.answer(kernel, proc, f"ok: {', '.join(call.lines)} held back for {call.seconds} s")


def sys_unmask(kernel: Kernel, proc: Process, call: Unmask) -> None:
    """What is pending on the lines is delivered with the result."""
    timers.hold(kernel, proc, [Line[name.upper()] for name in call.lines], 0)
    transcript.answer(kernel, proc, f"ok: {', '.join(call.lines)} let through")
