"""Boot, as a table of contents: load the last commit, size memory for this model and window, derive what was under way.

Loads, never replays: the state on disk is always that of the last commit. A boot that is refused leaves the disk as it
was; a machine that is returned has begun anew all that its state says is under way.
Not here: what Booted says (machine/measures.py), and the machine's life after it (machine/loop.py).
"""

from __future__ import annotations

import msgspec

from kernel import aside, checkpoint, core, failpoint
from kernel.event import AnyEvent, Killed, Offered
from kernel.machine.clock import Sources
from kernel.machine.cpus import Cpus
from kernel.machine.devices import unwatched
from kernel.machine.loop import Machine
from kernel.machine.measures import booted, measure_anew, recorded, upgraded
from kernel.ports import Cpu, Device, Disk, Index
from kernel.process import State
from kernel.settings import Settings
from kernel.state import InstructionSet, Kernel, Step, Watch


class Board(msgspec.Struct):
    """The hardware: what a machine is made of."""

    cpu: Cpu  # of all processes that name no model
    disk: Disk
    index: Index
    settings: Settings
    clock: Sources = Sources()
    watch: Watch = unwatched
    others: dict[str, Cpu] = {}  # by the names that processes give them
    tools: Device | None = None


async def boot(board: Board, table: InstructionSet) -> Machine:
    """A machine ready to `run`. Raises BadInput, before anything on disk has changed, if it cannot work like this."""
    disk, settings = board.disk, board.settings
    cpus = Cpus(board.cpu, board.others)
    kernel = Kernel(table, cpus)
    checkpoint.last_commit(kernel, disk)
    failpoint.passing("boot.before")
    anew, resized, measured = measure_anew(kernel, disk, cpus)
    machine = Machine(kernel, cpus, table, disk, board.index, settings, board.clock, board.tools)
    machine.watch = board.watch
    cpus.open(settings.window, machine.post, machine.stream)
    anchored = machine.clock.resume(kernel.counters, disk)
    at, ahead = machine.clock.read()
    steps = upgraded(kernel, at, ahead)
    event: AnyEvent = booted(cpus, settings, at=at, ahead=ahead, anew=anew, resized=resized)
    step = core.step(kernel, event)
    if step.refused is not None:
        cpus.close()
        raise step.refused
    steps.append((event, step))
    kept = [*measured, *recorded(cpus, settings), *anchored]
    await machine.commit([*kept, *(row for _, one in steps for row in one.records)])
    failpoint.passing("boot.after")
    steps += await _set_aside(machine)
    board.index.start(machine.post, machine.pages.sized)
    machine.devices.committed([step for _, step in steps])
    for event, step in steps:
        machine.watch(event, step)
        for effect in step.effects:
            machine.devices.perform(effect)
    for server in sorted(kernel.offers.keys() - set(board.tools.names if board.tools is not None else ())):
        machine.post(Offered(source="boot", server=server))
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
            at, ahead = machine.clock.read()
            event = Killed(at=at, ahead=ahead, source="boot", pid=one.pid, status=status)
            step = core.step(machine.kernel, event)
            await machine.commit(step.records)
            done.append((event, step))
    if done:
        await machine.commit([aside.stopped(kept, set(bad))])
    return done
