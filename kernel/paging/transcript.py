"""The two voices of a queue, in order: what the process emitted, and what the kernel told it.

What the CPU emitted in a trap is appended at most once, as the ids it came as, before anything that answers it.
"""

from __future__ import annotations

import msgspec

from kernel.memory.measure import Part
from kernel.memory.page import Area, Kind, Origin, Role
from kernel.paging import alloc, queue
from kernel.process import Process
from kernel.state import Kernel


def tell(
    kernel: Kernel,
    proc: Process,
    text: str,
    kind: Kind = Kind.ALERT,
    group: int = 0,
    shows: tuple[int, ...] = (),
    origin: Origin = Origin.KERNEL,
) -> None:
    """Append a kernel page, or one that quotes somebody else (`origin`); an empty text is nothing to tell."""
    room, model = alloc.told_max(kernel, proc), kernel.model_of(proc.pid)
    for part in alloc.measured(kernel, model, text, min(room, alloc.unit_text(kernel))) if text else ():
        room -= len(part.ids)
        if room < 0:  # only results can be this long, and they can be asked for in smaller pages
            return
        entry = alloc.page(kernel, proc.pid, part, kind, origin, Role.SYSTEM, group=group)
        queue.append(kernel, proc, msgspec.structs.replace(entry, shows=shows) if shows else entry)


def emitted(kernel: Kernel, proc: Process, kind: Kind = Kind.SYSCALL, area: Area = Area.NONE, gist: str = "") -> int:
    """Append what the CPU emitted as a page of its own ids, once a trap, behind what was thought before it.

    Returns the page of the instruction, or 0 if there is none.
    """
    event, kernel.draft.emission = kernel.draft.emission, None
    if event is None or not event.ids:
        return 0
    assert kernel.draft.ran == proc.pid, "another's words"
    if event.thought:
        _thought(kernel, proc, Part(event.thinking, event.ids[: event.thought]))
    part = Part(event.text, event.ids[event.thought :])
    if not part.ids:
        return 0
    group = proc.space.group if kind is Kind.SYSCALL else 0
    entry = alloc.page(
        kernel,
        proc.pid,
        part,
        kind,
        own(kernel),
        Role.ASSISTANT,
        area=area,
        gist=gist if gist != event.text else "",
        group=group,
    )
    queue.append(kernel, proc, entry)
    return entry.page


def own(kernel: Kernel) -> Origin:
    """The origin of what the process of this step's trap makes: what was in view then may be in it."""
    return Origin.DERIVED if kernel.draft.low else Origin.PROCESS


def _thought(kernel: Kernel, proc: Process, part: Part) -> None:
    """Append what was thought before an instruction; what is longer than any page stands on disk alone."""
    entry = alloc.page(kernel, proc.pid, part, Kind.THOUGHT, own(kernel), Role.ASSISTANT)
    if entry.tokens <= kernel.budgets(proc).unit:
        queue.append(kernel, proc, entry)


def answer(kernel: Kernel, proc: Process, text: str, *, delta: bool = False, origin: Origin = Origin.KERNEL) -> None:
    """The result of the syscall, which continues the turn; `origin`: of whom it quotes."""
    emitted(kernel, proc)
    assert kernel.draft.emission is None, "before anything that answers it"
    tell(kernel, proc, text, Kind.DELTA if delta else Kind.RESULT, proc.space.group, origin=origin)
