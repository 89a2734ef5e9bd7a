"""Boot, as a table of contents: load the last commit, size memory for this model and window, derive what was under way.

Loads, never replays: the state on disk is always that of the last commit.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from kernel import aside, checkpoint, failpoint, records
from kernel.core import Kernel, Step, Watch
from kernel.errors import BadInput
from kernel.event import Booted, Killed
from kernel.machine import Machine, page_tokens_max, unwatched
from kernel.memory.prompt import Layout
from kernel.ports import Cpu, Disk, Index, InstructionSet, Record
from kernel.process import State
from kernel.settings import Settings


class Board(msgspec.Struct):
    """The hardware: what a machine is made of."""

    cpu: Cpu
    disk: Disk
    index: Index
    settings: Settings
    clock: Callable[[], int] = time.time_ns
    watch: Watch = unwatched


async def boot(board: Board, table: InstructionSet) -> Machine:
    """A machine ready to `run`. Raises BadInput, before anything on disk has changed, if it cannot work like this."""
    cpu, disk, settings = board.cpu, board.disk, board.settings
    if settings.window > cpu.window_max:
        raise BadInput(
            f"window {settings.window} is larger than the model's {cpu.window_max}; take --window {cpu.window_max}"
        )
    layout = Layout(cpu.frame, cpu.tokenize, cpu.measure_id())
    kernel = Kernel(table, layout)
    load(kernel, disk)
    failpoint.passing("boot.before")
    resized, measured = _measure_anew(kernel, disk, layout)
    machine = Machine(kernel, layout, table, cpu, disk, board.index, settings, board.clock)
    machine.watch = board.watch
    cpu.open(settings.window, machine.post, machine.stream)
    event = booted(cpu, layout, settings, at=board.clock(), resized=resized)
    step = kernel.step(event)
    if step.error:
        cpu.close()
        raise BadInput(step.error)
    measure = Record("set", b"measure", layout.costs.measure.encode())
    await machine.commit([*measured, measure, Record("set", b"settings", records.encode(settings)), *step.records])
    failpoint.passing("boot.after")
    stopped = await _set_aside(machine)
    board.index.start(machine.post, machine.pages.sizes)
    machine.began(event, step)
    for killed, ended in stopped:
        machine.began(killed, ended)
    return machine


async def _set_aside(machine: Machine) -> list[tuple[Killed, Step]]:
    """Stop the processes of events that panicked the kernel twice, before anything is performed."""
    kept = aside.known(machine.disk)
    bad = {one.event: one for one in kept if one.times >= aside.TIMES}
    machine.aside = set(bad)
    done = []
    for one in bad.values():
        proc = machine.kernel.procs.get(one.pid)
        if not one.stopped and proc is not None and proc.state is not State.ZOMBIE:
            status = f"an event panicked the kernel {one.times} times: {one.error}"
            event = Killed(at=machine.clock(), source="boot", pid=one.pid, status=status)
            step = machine.kernel.step(event)
            await machine.commit(step.records)
            done.append((event, step))
    if done:
        await machine.commit([aside.stopped(kept, set(bad))])
    return done


def booted(
    cpu: Cpu, layout: Layout, settings: Settings, *, at: int = 0, resized: dict[int, int] | None = None
) -> Booted:
    """The first event of a machine of this CPU, whose pages have been measured anew as `resized` says."""
    return Booted(
        at=at,
        source="boot",
        settings=settings,
        costs=layout.costs,
        model=cpu.model,
        encoding=cpu.encoding if settings.cpu.encoding == "auto" else settings.cpu.encoding,
        slots=cpu.slots,
        page_tokens=page_tokens_max(settings),
        resized=resized or {},
    )


def load(kernel: Kernel, disk: Disk) -> None:
    """The state of the last commit, and the hash that was journaled with it."""
    state_hash = checkpoint.state_hash(disk)
    tables = {name: disk.scan(name) for name in ("proc", "timer", "outbox")}
    kernel.load(tables, disk.get("meta", b"kernel"), state_hash)


def _measure_anew(kernel: Kernel, disk: Disk, layout: Layout) -> tuple[dict[int, int], list[Record]]:
    """Sizes of all resident pages by this model, if the directory was last opened with another one."""
    last = disk.get("set", b"measure")
    if last is None or last == layout.costs.measure.encode():
        return {}, []
    resized: dict[int, int] = {}
    written: list[Record] = []
    for proc in kernel.procs.values():
        numbers = [entry.page for entry in proc.space.queue]
        pending = [page for one in proc.pending for page, _ in one.pages]
        for number, row in zip(
            numbers + pending, disk.get_many("page", [records.key(n) for n in numbers + pending]), strict=True
        ):
            assert row is not None, f"page {number} is resident and not on disk"
            ids = layout.tokenize(records.page_of(row, disk.get).text)
            resized[number] = len(ids)
            written.append(Record("ids", records.ids_key(layout.costs.measure, number), records.pack_ids(ids)))
    return resized, written
