"""What a process is made of, changed from outside: instructions, mask, share of the CPU, how its
words are drawn, core memory, name, and which pages stay in its queue.

Every check stands above the first change. What stands in the prompt, and what may be thought, changes between two
turns, so that no instruction begins with one text and ends with another: who is in a turn is not changed now (Busy).
Where the text grows the queue has less room, and what must leave does, as at a boot with a smaller window.
Not here: what the process writes itself (syscalls/memory.py), how it begins and ends (life.py).
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from kernel import capabilities, life, naming
from kernel.errors import BadInput, Busy, Exists, SyscallError
from kernel.event import Changed, CoreWritten, Keeping, Kept, Renamed, What
from kernel.limits import BLOCKS_MAX, NAME_CHARS_MAX
from kernel.memory.page import Role
from kernel.paging import alloc, queue, residency, segments
from kernel.process import Process
from kernel.sampling import settled
from kernel.spec import Spec, digest, within
from kernel.state import Kernel


def changed(kernel: Kernel, event: Changed) -> None:
    """Give a process other instructions, another mask, another share, or another way with messages or with words."""
    proc = kernel.proc(event.pid)
    kernel.draft.about = proc.pid
    spec = proc.spec
    if event.calls is not None:
        life.check_calls(kernel, event.calls)
        spec = msgspec.structs.replace(spec, calls=life.in_order(kernel, event.calls))
    if event.nice is not None:
        life.check_nice(event.nice)
        spec = msgspec.structs.replace(spec, nice=event.nice)
    if event.system is not None:
        spec = msgspec.structs.replace(spec, system=event.system)
    if event.abort is not None:
        spec = msgspec.structs.replace(spec, abort=event.abort)
    if event.sampling is not None:
        _resting(proc)  # an instruction is drawn in one way
        spec = msgspec.structs.replace(spec, sampling=settled(event.sampling))
    if event.think is not None:
        spec = msgspec.structs.replace(spec, think=event.think)
        life.check_think(kernel, kernel.model_of(proc.pid), event.think)
    if event.limits is not None:
        spec = msgspec.structs.replace(spec, limits=event.limits)
    if event.tainted is not None:
        spec = msgspec.structs.replace(spec, tainted=event.tainted)
    if event.archives is not None:
        _searchable(kernel, proc, event.archives)
        spec = msgspec.structs.replace(spec, archives=tuple(dict.fromkeys(event.archives)))
    within(spec)
    if (spec.system, spec.calls, spec.think) != (proc.spec.system, proc.spec.calls, proc.spec.think):
        _resting(proc)
        _fits(kernel, proc, spec)
    fields = [name for name in Spec.__struct_fields__ if getattr(spec, name) != getattr(proc.spec, name)]
    kernel.dirty(proc)
    proc.spec = spec
    segments.text(kernel, proc)
    queue.settled(kernel, proc)
    kernel.note(What.CHANGE, proc, text=", ".join(fields) or "nothing")


def core_written(kernel: Kernel, event: CoreWritten) -> None:
    """Set or remove a core block; `data` has it at once, and with it all that the process wrote itself meanwhile."""
    proc = kernel.proc(event.pid)
    kernel.draft.about = proc.pid
    block, blocks = event.block, dict(proc.spec.blocks)
    if not block or len(block) > NAME_CHARS_MAX or not block.isprintable():
        raise BadInput(f"block {block[:80]!r}: 1 to {NAME_CHARS_MAX} printable characters")
    if digest(blocks.get(block, "")) != event.seen:
        raise BadInput(f"block {block} of {proc.name} was written meanwhile; look at it again with `llmos core`")
    _resting(proc)
    if event.text:
        blocks[block] = event.text
    else:
        blocks.pop(block, None)
    if len(blocks) > BLOCKS_MAX:
        raise BadInput(f"{len(blocks)} core blocks; at most {BLOCKS_MAX} are allowed")
    size, limit = segments.core_size(kernel, proc, blocks), kernel.budgets(proc).data
    if blocks and size > limit:
        raise BadInput(f"core memory would have {size} tokens; {limit} fit this window")
    spec = msgspec.structs.replace(proc.spec, blocks=blocks)
    within(spec)
    kernel.dirty(proc)
    proc.spec = spec
    proc.low = tuple(one for one in proc.low if one != f"block {block}")
    queue.fold(kernel, proc)
    kernel.note(What.CHANGE, proc, text=f"block {block}")


def kept(kernel: Kernel, event: Kept) -> None:
    """Pin a page of a queue, unpin it, or let it leave or come, which is between two turns: the one breaks the prefix,
    and the other is nobody's answer."""
    proc = kernel.proc(event.pid)
    kernel.draft.about = proc.pid
    try:
        match event.how:
            case Keeping.PIN | Keeping.UNPIN:
                residency.pin(kernel, proc, event.page, event.how is Keeping.PIN)
                kernel.dirty(proc)
            case Keeping.EVICT:
                known = residency.evictable(proc, (event.page,))
                _resting(proc)
                kernel.dirty(proc)
                residency.let_go(kernel, proc, (event.page,), known)
            case Keeping.BRING:
                residency.check_brought(kernel, proc, event.page, event.rows)
                _resting(proc)
                kernel.dirty(proc)
                residency.bring(kernel, proc, event.rows, 0)
                proc.space.turn = len(proc.space.queue)  # it is of no turn
            case _:
                assert_never(event.how)
    except SyscallError as exc:
        raise BadInput(str(exc)) from exc
    kernel.note(What.CHANGE, proc, text=f"{event.how} page {event.page}")


def renamed(kernel: Kernel, event: Renamed) -> None:
    """Give a process another name, with all that goes by it."""
    proc = kernel.proc(event.pid)
    kernel.draft.about = proc.pid
    names = naming.moving(kernel, proc, event.name)
    for name in names.values():
        life.check_name(kernel, name)
        if name in kernel.names:
            raise Exists(f"process {name} exists; take another name")
    naming.renamed(kernel, names)


def _searchable(kernel: Kernel, proc: Process, names: tuple[str, ...]) -> None:
    """Refuse archives that a process may not search."""
    for name in names:
        if capabilities.held(kernel, proc, f"search:{name}") is None:
            how = f"`llmos caps {proc.name} --grant search:{name}` lets it"
            raise BadInput(f"process {proc.name} may not search the archive of {name[:80]!r}; {how[:200]}")


def _resting(proc: Process) -> None:
    """Refuse while a turn is under way."""
    if proc.in_turn:
        raise Busy(f"process {proc.name} is in a turn; what stands in its prompt can be changed between two", 2)


def _fits(kernel: Kernel, proc: Process, spec: Spec) -> None:
    """Refuse a text that leaves the queue too little room, with the sum."""
    model = kernel.model_of(proc.pid)
    text = segments.text_of(kernel, model, spec.calls, spec.system)
    tokens = alloc.size(kernel, model, text)
    kernel.divide(model, tokens + kernel.costs(proc).role[Role.SYSTEM] if text else 0, spec.think)
