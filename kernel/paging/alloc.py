"""Pages are made here and nowhere else: measured, numbered, written. Also the kernel's own words.

Not here: where a page goes (queue.py, segments.py, archive.py).
"""

from __future__ import annotations

import msgspec

from kernel import records
from kernel.memory import pager
from kernel.memory.address_space import Entry
from kernel.memory.measure import Part
from kernel.memory.page import Area, Fact, FactPage, FilePage, Kind, Origin, Page, Role, Source
from kernel.process import Process
from kernel.state import Kernel


def measured(kernel: Kernel, model: str, text: str, tokens_max: int) -> tuple[Part, ...]:
    """A text in parts of at most `tokens_max` tokens, journaled with the step, so that a replay needs no model."""
    parts = kernel.measure(text, tokens_max, model)
    assert parts, "at least one"
    kernel.draft.sizes.append(tuple((len(part.text), part.ids) for part in parts))
    return parts


def size(kernel: Kernel, model: str, text: str) -> int:
    """Tokens of a text that stays in one piece, without frame."""
    return len(measured(kernel, model, text, 1 << 30)[0].ids) if text else 0


def page(
    kernel: Kernel,
    pid: int,
    part: Part,
    kind: Kind,
    origin: Origin,
    role: Role,
    *,
    area: Area = Area.NONE,
    gist: str = "",
    group: int = 0,
    model: str = "",
    at: int | None = None,
    fact: Fact | None = None,
    source: Source | None = None,
) -> Entry:
    """Make a page of a measured part, to be written with this step, and its page-table entry.

    `model` is by whose tokenizer, for a page that is nobody's (`pid` 0); `at` when it was made, if that is not now.
    """
    kernel.counters.page += 1
    number, seq = kernel.counters.page, 0
    if pid:
        proc = kernel.procs[pid]
        proc.seq += 1
        seq = proc.seq
        model = kernel.model_of(pid)
    costs = kernel.models[model].costs
    fields = (number, pid, seq, kind, origin, role, area, kernel.wall if at is None else at, part.text, gist)
    made = Page(*fields)
    if fact is not None:
        made = FactPage(*fields, fact=fact)
    elif source is not None:
        made = FilePage(*fields, source=source)
    kernel.draft.made.append((made, part.ids))
    kernel.write("page", records.key(number), records.encode(made))
    if part.ids:  # a page that comes from another machine is measured when it is first wanted
        kernel.write("ids", records.ids_key(costs.measure, number), records.pack_ids(part.ids))
    label = costs.labels.get(origin, 0) if role is Role.USER else 0
    return Entry(number, len(part.ids) + label + costs.role[role], kind, role, group)


def alias(kernel: Kernel, proc: Process, entry: Entry) -> Entry:
    """A page of `proc` that shows another process's."""
    assert 0 < entry.page <= kernel.counters.page, "it shows an older one"
    kernel.counters.page += 1
    proc.seq += 1
    number = kernel.counters.page
    made = Page(
        number, proc.pid, proc.seq, entry.kind, Origin.KERNEL, entry.role, Area.NONE, kernel.wall, "", of=entry.page
    )
    kernel.draft.made.append((made, ()))
    kernel.write("page", records.key(number), records.encode(made))
    return msgspec.structs.replace(entry, page=number)


def alert(
    kernel: Kernel, proc: Process, what: str, *, origin: Origin = Origin.KERNEL, **numbers: object
) -> list[Entry]:
    """Pages of the kernel's for an interrupt that is yet to be delivered; `origin`: of what it quotes."""
    text = kernel.iset.alert(what, proc.spec.calls, **numbers)
    assert text, "an interrupt says something whatever the mask"
    parts = measured(kernel, kernel.model_of(proc.pid), text, unit_text(kernel))
    return [page(kernel, proc.pid, part, Kind.ALERT, origin, Role.SYSTEM) for part in parts]


def quoted(kernel: Kernel, text: str) -> str:
    """A text of somebody's as words of the kernel's quote it: no line of it stands by itself. So since format 6."""
    return " ".join(text.splitlines()) if kernel.form.number >= 6 else text


def unit_text(kernel: Kernel) -> int:
    """Tokens of text that one kernel page may hold: what may arrive at once anyway."""
    assert kernel.config is not None
    return max(kernel.config.page_tokens, pager.reply_max(kernel.settings))


def told_max(kernel: Kernel, proc: Process) -> int:
    """Tokens that the kernel may say at a time."""
    return kernel.budgets(proc).queue // 3


def check(kernel: Kernel) -> None:
    """Assert that a page was made before it is used, is one process's, and is not seen before it is delivered.

    What a thread of the kernel's is shown is its owner's, and none of its own.
    """
    made = [page.id for page, _ in kernel.draft.made]
    last = kernel.counters.page
    assert made == list(range(last - len(made) + 1, last + 1)), "numbered in order, none left out"
    owned: set[int] = set()
    for proc in kernel.procs.values():
        resident, early = proc.space.resident(), proc.undelivered()
        assert not resident & early, "seen before its delivery"
        own = (
            (resident if not proc.thread else {entry.page for entry in proc.space.queue})
            | early
            | ({proc.space.data.page} if proc.space.data is not None else set())
        )
        assert len(own) <= proc.seq, "it has more pages than were made for it"
        assert not own or (min(own) > 0 and max(own) <= last)
        assert owned.isdisjoint(own), f"of two processes: pages {owned & own}"
        owned |= own
    assert sum(proc.seq for proc in kernel.procs.values()) <= last
