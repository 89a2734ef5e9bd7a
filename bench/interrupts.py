"""Interrupts in bulk, in virtual time: a week of hourly timers, and a storm over many processes.

The week: processes with ten timers each, which repeat hourly. The storm: interrupts on four lines, within 20 s, drawn
by Zipf's weights, so that a few processes get more than they may have pending; what is pushed back is counted, and
what was accepted is followed: delivered once, in the order raised within its line.
"""

from __future__ import annotations

import functools
import json
import resource
import time
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Final

import msgspec

from drivers.cpu.virtual import VirtualCpu
from drivers.disk.memory import MemoryDisk
from drivers.index.words import WordIndex
from kernel.errors import BadInput
from kernel.event import AnyEvent, Raised, Spawned, What
from kernel.interrupts import OUTSIDE, Line
from kernel.limits import NS, PENDING_MAX
from kernel.machine.virtual import VirtualMachine
from kernel.ports import Job
from kernel.settings import Settings
from kernel.spec import Spec
from kernel.state import Step
from llmos.commands.output import show
from syscalls.table import Table

DAY: Final = 86_400
TIMERS: Final = 10  # of a process
STORM_S: Final = 20
LINES: Final = (Line.USER, *OUTSIDE)


class Week(msgspec.Struct, frozen=True):
    """How long the timers of `days` took, in seconds of the host's."""

    processes: int
    days: float
    deliveries: int
    seconds: float


class Storm(msgspec.Struct, frozen=True):
    """What became of a storm; `peak_pending` is of one process, `peak_mb` of the whole run of Python."""

    processes: int
    raised: int
    accepted: int
    pushed_back: int
    delivered: int
    lost: int
    duplicated: int
    out_of_order: int
    peak_pending: int
    peak_mb: int
    seconds: float


def _machine(program: Callable[[Job], str], processes: int, token_ns: int) -> VirtualMachine:
    machine, disk = VirtualMachine(), MemoryDisk()
    cpu = VirtualCpu(program, machine, token_ns=token_ns, slots=8)
    machine.boot(Table(), cpu, disk, WordIndex(disk), Settings())
    for n in range(processes):
        machine.do(Spawned(source="user", spec=Spec(f"p{n}", calls=Table.names)))
    return machine


def week(processes: int, days: float) -> Week:
    """Hourly timers, ten a process, set in the processes' first turn."""

    def program(job: Job) -> str:
        if job.instr > TIMERS:
            return '{"op":"yield"}'
        first = 1 + job.instr * 300 + job.pid
        return f'{{"op":"set_timer","seconds":{first},"every":3600,"text":"tick"}}'

    machine = _machine(program, processes, NS // 1_000)
    for pid in list(machine.kernel.procs):
        machine.do(machine.say(pid, "go"))
    began = time.perf_counter()
    machine.run(round(days * DAY * NS))
    took = time.perf_counter() - began
    return Week(processes, days, machine.latency.lines[Line.TIMER].delivered, round(took, 1))


def storm(processes: int, interrupts: int, seed: int = 1, within_s: int = STORM_S) -> Storm:
    """Interrupts at random times within so many seconds, to processes that only listen."""
    rng = Random(seed)
    machine = _machine(lambda job: '{"op":"yield"}', processes, NS // 50)
    pids = list(machine.kernel.procs)
    waiting: dict[tuple[int, Line], deque[int]] = {}
    counts = {"accepted": 0, "pushed_back": 0, "delivered": 0, "duplicated": 0, "out_of_order": 0}
    peak = 0

    def watch(event: AnyEvent, step: Step) -> None:
        for note in step.notes:
            if note.what is not What.DELIVERED or note.line not in LINES:
                continue
            counts["delivered"] += 1
            due = waiting[note.pid, note.line]
            page = note.pages[0]
            if page not in due:
                counts["duplicated"] += 1
            elif due[0] != page:
                counts["out_of_order"] += 1
                due.remove(page)
            else:
                due.popleft()

    def interrupt(pid: int, line: Line) -> None:
        nonlocal peak
        text = "Something happened."
        user = line is Line.USER
        event = machine.say(pid, text) if user else Raised(source="bench", pid=pid, line=line, text=text)
        # Noted before the step, for an idle process has it delivered by the same step: pages are numbered in a row.
        waiting.setdefault((pid, line), deque()).append(machine.kernel.counters.page + 1)
        try:
            machine.do(event)
        except BadInput:
            waiting[pid, line].pop()
            counts["pushed_back"] += 1
        else:
            counts["accepted"] += 1
            peak = max(peak, len(machine.kernel.procs[pid].pending))

    machine.watch = watch
    weights = [1 / (rank + 20) for rank in range(processes)]
    for pid in rng.choices(pids, weights, k=interrupts):
        line = rng.choice(LINES)
        machine.call_at(rng.randrange(within_s * NS), "user", functools.partial(interrupt, pid, line))
    began = time.perf_counter()
    machine.run(DAY * NS)
    took = time.perf_counter() - began
    assert peak <= PENDING_MAX
    return Storm(
        processes=processes,
        raised=interrupts,
        lost=sum(map(len, waiting.values())),
        peak_pending=peak,
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        seconds=round(took, 1),
        **counts,
    )


def run(processes: int, interrupts: int, days: float, as_json: bool) -> None:
    """`llmos bench interrupts`: both, printed."""
    show(f"  {interrupts} interrupts to {processes} processes", error=True)
    stormed = storm(processes, interrupts)
    show(f"  {days:g} days of hourly timers, 100 processes", error=True)
    found = {"storm": msgspec.to_builtins(stormed), "week": msgspec.to_builtins(week(100, days))}
    if as_json:
        show(json.dumps(found))
        return
    for name, fields in found.items():
        show(name)
        for field, value in fields.items():
            show(f"  {field:14} {value}")
