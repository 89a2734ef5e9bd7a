"""Timers, and masks, which end by one.

All times are integer nanoseconds, of the state's time, which only passes; a timer that was set for a date waits for the
wall clock to say so, and its repetitions are of the state's time again. A timer that fires late says by how much; one
whose interrupt is still pending is counted as coalesced and raises nothing. Masks are kept as the time at which each
ends, and one timer of the kernel's stands for the first of them. Who is interrupted goes on in turn.py; this file
returns the process.
Not here: when a machine fires (machine/loop.py), which lines may be held back (interrupts.py).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kernel import quota, records
from kernel.errors import SyscallError, some
from kernel.event import Arm, Disarm, MovedTimer, TimerFired, What
from kernel.interrupts import MASKABLE, Line
from kernel.limits import NS, TIMER_S_MAX, TIMERS_MAX
from kernel.memory.page import Origin
from kernel.paging import alloc
from kernel.process import Await, Process, Timer
from kernel.state import Kernel

WALL = 5  # the format whose timers know the wall clock


def clock(kernel: Kernel) -> None:
    """Note it if the wall clock was set since the last step."""
    by = kernel.ahead - kernel.counters.ahead
    if by:
        kernel.note(What.CLOCK, text=f"set {'ahead' if by > 0 else 'back'} by {abs(by) / NS:,.0f} s")


def arm(kernel: Kernel, proc: Process, due: int, text: str, every_ns: int, *, wall: bool = False) -> Timer:
    """Arm a timer of the process, for `due` and then every `every_ns` if that is not 0; `wall`: by the wall clock."""
    allowed = quota.most(proc.spec.limits.timers, TIMERS_MAX)
    if len(proc.timers) >= allowed:
        raise SyscallError(f"{allowed} timers are set already; cancel one of {some(proc.timers)}")
    assert due >= (kernel.wall if wall else kernel.at), "it would come late"
    assert every_ns >= 0
    timer = _made(kernel, proc, due, every_ns, text, wall=wall and kernel.form.number >= WALL)
    proc.timers = [*proc.timers, timer.id]
    if kernel.draft.low:
        proc.low = (*proc.low, f"timer {timer.id}")
    return timer


def take_over(kernel: Kernel, proc: Process, moved: MovedTimer) -> None:
    """Arm a timer that comes from another machine: what it had left to wait for, or the date it waits for."""
    if moved.wall:
        arm(kernel, proc, max(moved.due, kernel.wall), moved.text, moved.every_ns, wall=True)
        return
    left = max(0, moved.due - kernel.wall)
    if kernel.form.number >= WALL:  # another machine's clock may say anything
        left = min(left, TIMER_S_MAX * NS)
    arm(kernel, proc, kernel.at + left, moved.text, moved.every_ns)


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


def alarm(kernel: Kernel, proc: Process, ns: int) -> int:
    """Arm a timer that ends the wait which a process begins, in so long; its number."""
    return _made(kernel, proc, kernel.at + ns).id


def set_masks(kernel: Kernel, proc: Process, held: dict[int, int]) -> None:
    """Set the masks of a process, those that have ended left out, and the timer at which the first of them ends."""
    proc.held = {line: until for line, until in held.items() if until > kernel.at}
    assert all(line in MASKABLE for line in proc.held)
    if proc.unmask:
        disarm(kernel, proc.unmask)
        proc.unmask = 0
    if proc.held:
        proc.unmask = _made(kernel, proc, min(proc.held.values()), unmask=True).id


def _made(
    kernel: Kernel,
    proc: Process,
    due: int,
    every_ns: int = 0,
    text: str = "",
    *,
    unmask: bool = False,
    wall: bool = False,
) -> Timer:
    """A new timer, armed and on disk."""
    kernel.counters.timer += 1
    timer = Timer(kernel.counters.timer, proc.pid, due, every_ns, text, unmask=unmask, wall=wall)
    _keep(kernel, timer)
    return timer


def _keep(kernel: Kernel, timer: Timer) -> None:
    """Have a timer, new or due at another time, on disk too."""
    kernel.timers[timer.id] = timer
    kernel.write("timer", records.key(timer.id), kernel.form.row(timer))
    kernel.effect(Arm(timer.id, timer.due, timer.wall))


def disarm(kernel: Kernel, timer: int) -> None:
    """Forget a timer, on disk too."""
    proc = kernel.procs[kernel.timers.pop(timer).pid]
    proc.low = tuple(one for one in proc.low if one != f"timer {timer}")
    kernel.write("timer", records.key(timer), None)
    kernel.effect(Disarm(timer))


def fired(kernel: Kernel, event: TimerFired) -> Process | None:
    """A timer came due: its process, to be woken; None if the timer is gone, or its time has not come."""
    timer = kernel.timers.get(event.timer)
    if timer is None:
        return None
    late = (kernel.wall if timer.wall else kernel.at) - timer.due
    if late < 0:  # the clock was set back since it was fired
        kernel.effect(Arm(timer.id, timer.due, timer.wall))
        return None
    proc = kernel.procs[timer.pid]
    kernel.dirty(proc)
    if timer.unmask:
        assert timer.id == proc.unmask, "one timer stands for all masks"
        set_masks(kernel, proc, proc.held)
        return proc
    if isinstance(proc.wait, Await) and proc.wait.timer == timer.id:
        disarm(kernel, timer.id)
        proc.wait = msgspec.structs.replace(proc.wait, timer=0, late=True)
        return proc
    assert timer.id in proc.timers
    if any(one.timer == timer.id for one in proc.pending):
        proc.accounts.coalesced += 1
        kernel.note(What.COALESCED, proc, line=Line.TIMER)
    else:
        origin = Origin.DERIVED if f"timer {timer.id}" in proc.low else Origin.KERNEL
        text = alloc.quoted(kernel, timer.text)
        pages = alloc.alert(kernel, proc, "timer", origin=origin, timer=timer.id, text=text, late_s=late // NS)
        kernel.raise_(proc, Line.TIMER, pages, timer=timer.id)
    if timer.every_ns:
        timer.due, timer.wall = kernel.at + timer.every_ns - late % timer.every_ns, False
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
        for number in proc.timers:
            assert kernel.timers[number].pid == proc.pid
            assert not kernel.timers[number].unmask
        assert bool(proc.held) == bool(proc.unmask), "a mask without end, or an end without mask"
        if proc.unmask:
            timer = kernel.timers[proc.unmask]
            assert (timer.pid, timer.unmask) == (proc.pid, True)
            assert timer.due == min(proc.held.values()), "it is not the first that ends"
    waits = [proc.wait.timer for proc in kernel.procs.values() if isinstance(proc.wait, Await) and proc.wait.timer]
    known = waits + [timer for proc in kernel.procs.values() for timer in (*proc.timers, proc.unmask) if timer]
    assert sorted(known) == sorted(kernel.timers), "a timer that nobody has, or two do"
    assert all(key == timer.id for key, timer in kernel.timers.items())
    assert max(kernel.timers, default=0) <= kernel.counters.timer
