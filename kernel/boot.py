"""Boot, as a table of contents: load the last commit, size memory for this model and window, derive what was under way.

Loads, never replays: the state on disk is always that of the last commit.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from kernel import aside, checkpoint, core, failpoint, records
from kernel.errors import BadInput
from kernel.event import AnyEvent, Booted, Killed
from kernel.machine.cpus import Cpus
from kernel.machine.devices import unwatched
from kernel.machine.loop import Machine, page_tokens_max
from kernel.ports import Cpu, Disk, Index, Record
from kernel.process import State
from kernel.settings import Settings
from kernel.state import InstructionSet, Kernel, Step, Watch


class Board(msgspec.Struct):
    """The hardware: what a machine is made of."""

    cpu: Cpu  # of all processes that name no model
    disk: Disk
    index: Index
    settings: Settings
    clock: Callable[[], int] = time.time_ns
    watch: Watch = unwatched
    others: dict[str, Cpu] = {}  # by the names that processes give them


async def boot(board: Board, table: InstructionSet) -> Machine:
    """A machine ready to `run`. Raises BadInput, before anything on disk has changed, if it cannot work like this."""
    disk, settings = board.disk, board.settings
    cpus = Cpus(board.cpu, board.others)
    kernel = Kernel(table, cpus)
    load(kernel, disk)
    failpoint.passing("boot.before")
    anew, resized, measured = measure_anew(kernel, disk, cpus)
    machine = Machine(kernel, cpus, table, disk, board.index, settings, board.clock)
    machine.watch = board.watch
    cpus.open(settings.window, machine.post, machine.stream)
    event: AnyEvent = booted(cpus, settings, at=board.clock(), anew=anew, resized=resized)
    step = core.step(kernel, event)
    if step.error:
        cpus.close()
        raise BadInput(step.error)
    await machine.commit([*measured, *recorded(cpus, settings), *step.records])
    failpoint.passing("boot.after")
    stopped = await _set_aside(machine)
    board.index.start(machine.post, machine.pages.sizes)
    steps = [(event, step), *stopped]
    machine.devices.committed([step for _, step in steps])
    for event, step in steps:
        machine.watch(event, step)
        for effect in step.effects:
            machine.devices.perform(effect)
    return machine


async def _set_aside(machine: Machine) -> list[tuple[AnyEvent, Step]]:
    """Stop the processes of events that panicked the kernel twice, before anything is performed."""
    kept = aside.known(machine.disk)
    bad = {one.event: one for one in kept if one.times >= aside.TIMES}
    machine.aside = set(bad)
    done: list[tuple[AnyEvent, Step]] = []
    for one in bad.values():
        proc = machine.kernel.procs.get(one.pid)
        if not one.stopped and proc is not None and proc.state is not State.ZOMBIE:
            status = f"an event panicked the kernel {one.times} times: {one.error}"
            event = Killed(at=machine.clock(), source="boot", pid=one.pid, status=status)
            step = core.step(machine.kernel, event)
            await machine.commit(step.records)
            done.append((event, step))
    if done:
        await machine.commit([aside.stopped(kept, set(bad))])
    return done


def booted(
    cpus: Cpus,
    settings: Settings,
    *,
    at: int = 0,
    anew: tuple[int, ...] = (),
    resized: dict[int, int] | None = None,
) -> Booted:
    """The first event of a machine of these CPUs; the pages of `anew` have been measured as `resized` says."""
    models = cpus.models(settings)
    first = models.pop("")
    return Booted(
        at=at,
        source="boot",
        settings=settings,
        costs=first.costs,
        model=first.title,
        encoding=first.encoding,
        slots=first.slots,
        page_tokens=page_tokens_max(settings),
        resized=resized or {},
        anew=anew,
        others=models,
    )


def recorded(cpus: Cpus, settings: Settings) -> list[Record]:
    """What a machine keeps of how it was booted, for the next boot."""
    return [
        Record("set", b"measure", records.encode(cpus.measures())),
        Record("set", b"settings", records.encode(settings)),
    ]


def load(kernel: Kernel, disk: Disk) -> None:
    """The state of the last commit, and the hash that was journaled with it."""
    state_hash = checkpoint.state_hash(disk)
    tables = {name: disk.scan(name) for name in ("proc", "timer", "outbox")}
    kernel.load(tables, disk.get("meta", b"kernel"), state_hash)


def measure_anew(kernel: Kernel, disk: Disk, cpus: Cpus) -> tuple[tuple[int, ...], dict[int, int], list[Record]]:
    """Processes that another model ran at the last boot, and the sizes of their resident pages by that of now."""
    anew: list[int] = []
    resized: dict[int, int] = {}
    written: list[Record] = []
    last = _last_measures(disk)
    for proc in kernel.procs.values():
        layout = cpus.layouts.get(proc.model, cpus.layouts[""])
        measure = layout.costs.measure
        if not last or last.get(proc.model, last[""]) == measure:
            continue
        anew.append(proc.pid)
        numbers = [entry.page for entry in proc.space.queue]
        numbers += [page for one in proc.pending for page, _ in one.pages]
        rows = disk.get_many("page", [records.key(n) for n in numbers])
        for number, row in zip(numbers, rows, strict=True):
            assert row is not None, f"page {number} is resident and not on disk"
            ids = layout.tokenize(records.page_of(row, disk.get).text)
            resized[number] = len(ids)
            written.append(Record("ids", records.ids_key(measure, number), records.pack_ids(ids)))
    return tuple(anew), resized, written


def _last_measures(disk: Disk) -> dict[str, str]:
    """By what the models of the last boot measured; empty if there was none."""
    row = disk.get("set", b"measure")
    if row is None:
        return {}
    try:
        return msgspec.msgpack.decode(row, type=dict[str, str])
    except msgspec.DecodeError:  # of a version with one model
        return {"": row.decode()}
