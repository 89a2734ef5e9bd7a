"""Timers, and masks, which end by one.

All times are integer nanoseconds. A timer that fires late says by how much; one whose interrupt is still pending is
counted as coalesced and raises nothing. Masks are kept as the time at which each ends, and one timer of the kernel's
stands for the first of them. Who is interrupted goes on in turn.py; this file returns the process.
Not here: when a machine fires (machine/loop.py), which lines may be held back (interrupts.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from kernel import records
from kernel.errors import SyscallError, some
from kernel.event import Arm, Disarm, TimerFired, What
from kernel.interrupts import MASKABLE, Line
from kernel.limits import TIMERS_MAX
from kernel.paging import alloc
from kernel.process import Process, Timer
from kernel.state import Kernel

NS = 1_000_000_000


def arm(kernel: Kernel, proc: Process, due: int, text: str, every_ns: int) -> Timer:
    """Arm a timer of the process, for `due` and then every `every_ns` if that is not 0."""
    if len(proc.timers) >= TIMERS_MAX:
        raise SyscallError(f"{TIMERS_MAX} timers are set already; cancel one of {some(proc.timers)}")
    assert due >= kernel.at, "it would come late"
    assert every_ns >= 0
    kernel.counters.timer += 1
    timer = Timer(kernel.counters.timer, proc.pid, due, every_ns, text)
    proc.timers = [*proc.timers, timer.id]
    _keep(kernel, timer)
    return timer


def cancel(kernel: Kernel, proc: Process, timer: int) -> None:
    """Disarm a timer of the process."""
    if timer not in proc.timers:
        raise SyscallError(f"no timer {timer}; timers are {some(proc.timers)}")
    proc.timers = [one for one in proc.timers if one != timer]
    disarm(kernel, timer)


def hold(kernel: Kernel, proc: Process, lines: Iterable[Line], seconds: int) -> None:
    """Hold back what is raised on `lines` for so long from now; 0: let them through."""
    until = kernel.at + seconds * NS
    set_masks(kernel, proc, {**proc.held, **dict.fromkeys(map(int, lines), until)})


def set_masks(kernel: Kernel, proc: Process, held: dict[int, int]) -> None:
    """Set the masks of a process, those that have ended left out, and the timer at which the first of them ends."""
    proc.held = {line: until for line, until in held.items() if until > kernel.at}
    assert all(line in MASKABLE for line in proc.held)
    if proc.unmask:
        disarm(kernel, proc.unmask)
        proc.unmask = 0
    if proc.held:
        kernel.counters.timer += 1
        timer = Timer(kernel.counters.timer, proc.pid, min(proc.held.values()), 0, "", unmask=True)
        proc.unmask = timer.id
        _keep(kernel, timer)


def _keep(kernel: Kernel, timer: Timer) -> None:
    """Have a timer, new or due at another time, on disk too."""
    kernel.timers[timer.id] = timer
    kernel.write("timer", records.key(timer.id), records.encode(timer))
    kernel.effect(Arm(timer.id, timer.due))


def disarm(kernel: Kernel, timer: int) -> None:
    """Forget a timer, on disk too."""
    del kernel.timers[timer]
    kernel.write("timer", records.key(timer), None)
    kernel.effect(Disarm(timer))


def fired(kernel: Kernel, event: TimerFired) -> Process | None:
    """A timer came due: its process, to be woken; None if the timer is gone, or its time has not come."""
    timer = kernel.timers.get(event.timer)
    if timer is None or kernel.at < timer.due:
        return None
    proc = kernel.procs[timer.pid]
    kernel.dirty(proc)
    if timer.unmask:
        assert timer.id == proc.unmask, "one timer stands for all masks"
        set_masks(kernel, proc, proc.held)
        return proc
    assert timer.id in proc.timers
    late_s = (kernel.at - timer.due) // NS
    if any(one.timer == timer.id for one in proc.pending):
        proc.accounts.coalesced += 1
        kernel.note(What.COALESCED, proc, line=Line.TIMER)
    else:
        pages = alloc.alert(kernel, proc, "timer", timer=timer.id, text=timer.text, late_s=late_s)
        kernel.raise_(proc, Line.TIMER, pages, timer=timer.id)
    if timer.every_ns:
        timer.due += timer.every_ns * ((kernel.at - timer.due) // timer.every_ns + 1)
        assert timer.due > kernel.at, "it would fire for ever"
        _keep(kernel, timer)
    else:
        proc.timers.remove(timer.id)
        disarm(kernel, timer.id)
    return proc


def check(kernel: Kernel) -> None:
    """Assert that each timer is one process's, who knows it, and that one stands for the first mask to end."""
    for proc in kernel.procs.values():
        assert len(proc.timers) <= TIMERS_MAX
        assert all(kernel.timers[timer].pid == proc.pid for timer in proc.timers)
        assert not any(kernel.timers[timer].unmask for timer in proc.timers)
        assert bool(proc.held) == bool(proc.unmask), "a mask without end, or an end without mask"
        if proc.unmask:
            timer = kernel.timers[proc.unmask]
            assert (timer.pid, timer.unmask) == (proc.pid, True)
            assert timer.due == min(proc.held.values()), "it is not the first that ends"
    known = [timer for proc in kernel.procs.values() for timer in (*proc.timers, proc.unmask) if timer]
    assert sorted(known) == sorted(kernel.timers), "a timer that nobody has, or two do"
    assert all(key == timer.id for key, timer in kernel.timers.items())
    assert max(kernel.timers, default=0) <= kernel.counters.timer
