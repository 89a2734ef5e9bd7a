"""Timers and sleep."""

from __future__ import annotations

import datetime

from kernel import timers, turn
from kernel.errors import SyscallError
from kernel.limits import NS, TIMER_S_MAX, TIMER_S_MIN
from kernel.paging import transcript
from kernel.process import Process
from kernel.state import Kernel
from syscalls.abi import CancelTimer, SetTimer, Sleep


def sys_set_timer(kernel: Kernel, proc: Process, call: SetTimer) -> None:
    """One-shot, or repeating with `every`; after a time that passes, or at one of the wall clock's with `at`."""
    if 0 < call.every < TIMER_S_MIN:
        raise SyscallError(f"every {call.every}: at least {TIMER_S_MIN} s")
    if call.at:
        due = _time(call.at, kernel.wall)
        timer = timers.arm(kernel, proc, due, call.text, call.every * NS, wall=True)
    else:
        due = kernel.wall + call.seconds * NS
        timer = timers.arm(kernel, proc, kernel.at + call.seconds * NS, call.text, call.every * NS)
    when = datetime.datetime.fromtimestamp(due // NS, datetime.UTC)
    transcript.answer(kernel, proc, f"ok: timer {timer.id} at {when:%Y-%m-%d %H:%M:%S} UTC")


def _time(text: str, now: int) -> int:
    """Nanoseconds of a time in UTC that lies ahead."""
    try:
        given = datetime.datetime.fromisoformat(text)
        due = int((given if given.tzinfo else given.replace(tzinfo=datetime.UTC)).timestamp()) * NS
    except (ValueError, OverflowError) as exc:
        raise SyscallError(f"at {text!r} is no time; write 2026-01-31 08:00") from exc
    if not now < due <= now + TIMER_S_MAX * NS:
        here = datetime.datetime.fromtimestamp(now // NS, datetime.UTC)
        raise SyscallError(
            f"at {text} is not ahead, or more than {TIMER_S_MAX // 86_400} days; it is {here:%Y-%m-%d %H:%M} UTC"
        )
    return due


def sys_cancel_timer(kernel: Kernel, proc: Process, call: CancelTimer) -> None:
    """A timer that has fired is gone already."""
    timers.cancel(kernel, proc, call.timer)
    transcript.answer(kernel, proc, f"ok: timer {call.timer} is cancelled")


def sys_sleep(kernel: Kernel, proc: Process, call: Sleep) -> None:
    """A timer and the end of the turn."""
    timers.arm(kernel, proc, kernel.at + call.seconds * NS, "you woke up", 0)
    turn.rest(kernel, proc)
