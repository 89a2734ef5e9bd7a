"""What a boot or a checkpoint makes of the records: what no record holds is derived here and nowhere else.

After `booted`, `derive` and `from_checkpoint` the run queues, admission, policies and texts are functions of the
records, the settings and the slots alone; so a replay can start there. A boot that is refused has changed nothing.
Not here: reading the records (state.py), measuring pages by another model (machine/measures.py).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kernel import dispatch, external, formats, ipc, kin, records, removal, turn, waiting
from kernel.errors import BadInput, KernelPanic
from kernel.event import Act, Arm, Booted, Tag, Upgraded, What
from kernel.interrupts import Line, Pending
from kernel.limits import THRASH_WINDOWS
from kernel.memory import pager
from kernel.memory.address_space import Entry
from kernel.memory.page import Role
from kernel.memory.policy import make
from kernel.paging import alloc, backlog, queue, segments, summary
from kernel.ports import Record
from kernel.process import Move, Process, State
from kernel.scheduler import make as make_scheduler
from kernel.scheduler.admission import Admission
from kernel.scheduler.fifo import Fifo
from kernel.settings import Settings
from kernel.state import Kernel, Lane, Slot


def from_checkpoint(kernel: Kernel, booted: Booted, slots: Iterable[Tag]) -> None:
    """Go on after a Checkpointed event whose state was loaded: make what no record holds as that step did."""
    _configure(kernel, booted)
    for slot, tag in zip(kernel.slots, slots, strict=True):
        slot.tag = tag
    derive(kernel)


def _configure(kernel: Kernel, booted: Booted) -> None:
    """Have the models and the free slots that a boot says."""
    kernel.config, kernel.models = booted, booted.models()
    kernel.slots = [Slot(model=name) for name, model in kernel.models.items() for _ in range(model.slots)]


def derive(kernel: Kernel) -> None:
    """Make all that is not on disk a function of what is, and of the last Booted and of the slots."""
    kernel.policies.clear()
    kernel.seen.clear()
    segments.known_texts(kernel)
    _known(kernel)
    for slot in kernel.slots:
        slot.yielding = False
    kernel.lanes = {name: _empty_lane(kernel.settings) for name in kernel.models}
    inside = {name: dict[int, int]() for name in kernel.models}
    outside = {name: dict[int, int]() for name in kernel.models}
    for pid, proc in sorted(kernel.procs.items()):
        name = kernel.model_of(pid)
        if proc.state is State.SUSPENDED:
            outside[name][pid] = proc.spec.nice
        elif not proc.thread and (
            proc.state in (State.READY, State.RUNNING) or (proc.state is State.BLOCKED and not waiting.apart(proc))
        ):
            inside[name][pid] = proc.spec.nice
        if proc.state is State.READY:
            dispatch.queue_of(kernel, proc).add(pid, proc.spec.nice, ran=False)
    for name, lane in kernel.lanes.items():
        lane.admission.restore(inside[name], outside[name])


def _empty_lane(settings: Settings) -> Lane:
    """What the processes of a model will compete in. Raises BadInput for an unknown policy."""
    sched = settings.sched
    admission = Admission(sched.flight, THRASH_WINDOWS * settings.window if sched.suspend else 0)
    return Lane(make_scheduler(sched.policy, sched.quantum), admission, Fifo(sched.quantum))


def _known(kernel: Kernel) -> None:
    """Who is in a turn, which threads are the kernel's own, and whose pages they are yet to look at."""
    kernel.busy = {pid for pid, proc in kernel.procs.items() if proc.in_turn and not proc.thread}
    kin.known(kernel)
    ipc.known(kernel)
    kernel.threads = sorted(pid for pid, proc in kernel.procs.items() if proc.thread)
    kernel.owing = {}
    for proc in kernel.procs.values():
        if proc.backlog:
            backlog.owing(kernel, proc)


def booted(kernel: Kernel, event: Booted) -> None:
    """Take over settings and model, size memory by them, and derive again what was under way."""
    before = kernel.config, kernel.models, kernel.slots
    kernel.divided.clear()
    try:
        make(event.settings.memory.policy, event.settings.window)
        _configure(kernel, event)
        lanes = {name: _empty_lane(event.settings) for name in kernel.models}
        _fits(kernel)
    except BadInput:
        kernel.config, kernel.models, kernel.slots = before
        raise
    kernel.policies.clear()
    segments.known_texts(kernel)
    _known(kernel)
    kernel.lanes = lanes  # their order is not on disk: boot begins with the lowest number
    kernel.seen.clear()
    titles = " and ".join(model.title for model in kernel.models.values())
    kernel.note(What.BOOT, text=f"{titles}, window {event.settings.window}, {len(kernel.procs)} processes")
    for proc in kernel.procs.values():
        _bring_back(kernel, proc, event)
    for timer in kernel.timers.values():
        kernel.effect(Arm(timer.id, timer.due, timer.wall))
    removal.forgotten(kernel)
    kin.reaping(kernel)


def _fits(kernel: Kernel) -> None:
    """Refuse a window in which a process of this directory, or an empty one, has no room."""
    for model in kernel.models:
        kernel.divide(model, 0, "off")
    sizes: dict[tuple[str, str], int] = {}  # of equal texts one is measured

    def size(model: str, text: str) -> int:
        if (model, text) not in sizes:
            sizes[model, text] = alloc.size(kernel, model, text)
        return sizes[model, text]

    for proc in kernel.procs.values():
        model, frame = kernel.model_of(proc.pid), kernel.costs(proc).role[Role.SYSTEM]
        text = segments.text_of(kernel, model, proc.spec.calls, proc.spec.system)
        tokens = size(model, text)
        try:
            limits = kernel.divide(model, tokens + frame if text else 0, proc.spec.think)
        except BadInput as exc:
            raise BadInput(f"process {proc.name}: {exc}") from exc
        data = size(model, segments.render_blocks(proc.spec.blocks)) + frame
        if proc.spec.blocks and data > limits.data:
            raise BadInput(
                f"process {proc.name}: its core memory has {data} tokens, "
                f"this window allows {limits.data}; take a larger window or memory.data"
            )


def _bring_back(kernel: Kernel, proc: Process, event: Booted) -> None:
    """Bring one process of the last run into this one."""
    space = proc.space
    before = (space.text_key, space.queue, space.data)
    segments.text(kernel, proc)
    anew = proc.pid in event.anew if event.anew else bool(event.resized)  # older journals name no processes
    if anew:
        pager.remove(space, {entry.page for entry in space.thoughts(0, len(space.queue))})  # in another's marks
        space.queue = [_resized(kernel, proc, entry, event) for entry in space.queue]
        space.recall = []
        proc.pending = [_resized_pending(kernel, proc, one, event) for one in proc.pending]
        if space.data is not None:
            segments.data(kernel, proc)
        proc.policy = None
    if anew or summary.overflows(kernel, proc):
        summary.fit(kernel, proc)
    if proc.state is State.RUNNING:
        proc.move(Move.REBOOT)
        kernel.dirty(proc)
    elif proc.state is State.SUSPENDED:  # boot judges anew who has room
        proc.move(Move.RESUME)
        kernel.dirty(proc)
    if proc.ids:
        proc.restarted = True  # whoever saw tokens of this attempt has lost the connection
        if anew:  # ids of another vocabulary: the instruction begins again
            proc.ids = ()
        kernel.dirty(proc)
    if space.pinned() > kernel.budgets(proc).pinned:
        space.queue = _unpinned(space.queue, kernel.budgets(proc).pinned)
    if (space.text_key, space.queue, space.data) != before:
        kernel.dirty(proc)
    limits = kernel.budgets(proc)
    victims = pager.make_room(space, kernel.policy(proc), limits, 0, kernel.settings.memory.low)
    if victims:
        queue.evicted(kernel, proc, victims)
        kernel.dirty(proc)
    if sum(entry.tokens for entry in space.recall) > limits.recall:
        space.recall = []
        kernel.dirty(proc)
    if external.resumed(kernel, proc):
        turn.go_on(kernel, proc)
        return
    if not isinstance(proc.wait, Act):
        waiting.ask(kernel, proc)
    if proc.thread and proc.in_turn and proc.wait is None and not space.recall:
        _begin_anew(kernel, proc)
        return
    if proc.state is not State.READY:
        return
    if proc.discard:  # its run is lost, and what it had emitted is to go, too
        turn.discard(kernel, proc)
    else:
        dispatch.ready(kernel, proc)


def _begin_anew(kernel: Kernel, thread: Process) -> None:
    """What a thread of the kernel's saw has another size now: it is looked at once more."""
    assert thread.state is State.READY, "it was to run"
    kernel.dirty(thread)
    thread.open, thread.ids, thread.restarted = False, (), False
    backlog.put_back(kernel, thread)
    turn.give_up(kernel, thread, "another window")


def _unpinned(entries: list[Entry], limit: int) -> list[Entry]:
    """A queue whose pins fit a smaller window: the first that do stay."""
    kept: list[Entry] = []
    for entry in entries:
        fits = entry.pinned and entry.tokens <= limit
        limit -= entry.tokens if fits else 0
        kept.append(msgspec.structs.replace(entry, pinned=fits))
    return kept


def _resized_pending(kernel: Kernel, proc: Process, one: Pending, event: Booted) -> Pending:
    """An undelivered interrupt with the sizes that its pages have now."""
    role = Role.USER if one.line is Line.USER or ipc.is_letter(kernel, one) else Role.SYSTEM
    pages = tuple((page, event.resized[page] + kernel.costs(proc).role[role]) for page, _ in one.pages)
    return msgspec.structs.replace(one, pages=pages)


def _resized(kernel: Kernel, proc: Process, entry: Entry, event: Booted) -> Entry:
    """A page-table entry with the size that its page has now."""
    size = event.resized.get(entry.page)
    if size is None:
        raise KernelPanic(f"page {entry.page} is resident and was not measured anew")
    return msgspec.structs.replace(entry, tokens=size + kernel.costs(proc).role[entry.role])


def upgraded(kernel: Kernel, event: Upgraded) -> None:
    """Write PCBs and timers in a later format; whatever stands elsewhere is read as it is (formats.py).

    It is the present one but in a replay that goes through a boot of a kernel of then.
    """
    before, kernel.form = kernel.form, formats.FORMS[event.to]
    for proc in kernel.procs.values():
        kernel.dirty(proc)
    for timer in kernel.timers.values():
        kernel.write("timer", records.key(timer.id), kernel.form.row(timer))
    step = records.key(kernel.counters.lsn + 1, before.number)
    kernel.draft.written += [
        Record(*records.FORMAT_ROW, str(kernel.form.number).encode()),
        Record(*records.upgraded_row(kernel.form.number), step),
    ]
    kernel.note(What.UPGRADE, text=f"format {before.number} to {kernel.form.number}, {len(kernel.procs)} processes")
