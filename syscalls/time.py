"""Timers and sleep."""

from __future__ import annotations

import datetime

from kernel.core import Kernel
from kernel.errors import SyscallError
from kernel.limits import TIMER_S_MIN
from syscalls.abi import CancelTimer, SetTimer, Sleep


def sys_set_timer(kernel: Kernel, pid: int, call: SetTimer) -> None:
    """One-shot, or repeating with `every`."""
    if 0 < call.every < TIMER_S_MIN:
        raise SyscallError(f"every {call.every}: at least {TIMER_S_MIN} s")
    timer = kernel.set_timer(pid, call.seconds, call.text, call.every)
    due = datetime.datetime.fromtimestamp(timer.due // 1_000_000_000, datetime.UTC)
    kernel.answer(pid, f"ok: timer {timer.id} at {due:%Y-%m-%d %H:%M:%S} UTC")


def sys_cancel_timer(kernel: Kernel, pid: int, call: CancelTimer) -> None:
    """A timer that has fired is gone already."""
    kernel.cancel_timer(pid, call.timer)
    kernel.answer(pid, f"ok: timer {call.timer} is cancelled")


def sys_sleep(kernel: Kernel, pid: int, call: Sleep) -> None:
    """A timer and the end of the turn."""
    kernel.set_timer(pid, call.seconds, "you woke up", 0)
    kernel.rest(pid)
