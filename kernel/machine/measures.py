"""Sizes by the models of a machine, and the Booted event, which tells the kernel of them before its first step.

What another model ran at the last boot is measured anew by the model of now; the ids go to the disk in one transaction
with Booted's step, so a boot that is refused has changed nothing.
Not here: how a text is measured (cpus.py), pages measured when they are first wanted (pages.py), the boot (boot.py).
"""

from __future__ import annotations

import msgspec

from kernel import core, records
from kernel.event import AnyEvent, Booted, Upgraded
from kernel.limits import PAGE_TOKENS_MAX, PAGE_TOKENS_MIN
from kernel.machine.cpus import Cpus
from kernel.ports import Disk, Record
from kernel.settings import Settings
from kernel.state import Kernel, Step


def page_tokens_max(settings: Settings) -> int:
    """By how many tokens text from outside is split: a sixteenth of the window, within the limits."""
    return max(PAGE_TOKENS_MIN, min(PAGE_TOKENS_MAX, settings.window // 16))


def upgraded(kernel: Kernel, at: int, ahead: int = 0) -> list[tuple[AnyEvent, Step]]:
    """The step that brings what was loaded to the present format, before Booted; none if it has that."""
    if kernel.form is records.CURRENT:
        return []
    event = Upgraded(source="boot", at=at, ahead=ahead, to=records.CURRENT.number)
    return [(event, core.step(kernel, event))]


def booted(
    cpus: Cpus,
    settings: Settings,
    *,
    at: int = 0,
    ahead: int = 0,
    anew: tuple[int, ...] = (),
    resized: dict[int, int] | None = None,
) -> Booted:
    """The first event of a machine of these CPUs; the pages of `anew` have been measured as `resized` says."""
    models = cpus.models(settings)
    first = models.pop("")
    return Booted(
        at=at,
        ahead=ahead,
        source="boot",
        settings=settings,
        costs=first.costs,
        model=first.title,
        encoding=first.encoding,
        slots=first.slots,
        calling=first.calling,
        manual=first.manual,
        page_tokens=page_tokens_max(settings),
        resized=resized or {},
        anew=anew,
        others=models,
        thinks=first.thinks,
    )


def recorded(cpus: Cpus, settings: Settings) -> list[Record]:
    """What a machine keeps of how it was booted, for the next boot."""
    return [
        Record("set", b"measure", records.encode(cpus.measures())),
        Record("set", b"settings", records.encode(settings)),
    ]


def measure_anew(kernel: Kernel, disk: Disk, cpus: Cpus) -> tuple[tuple[int, ...], dict[int, int], list[Record]]:
    """Processes that another model ran at the last boot, and the sizes of their resident pages by that of now."""
    anew: list[int] = []
    resized: dict[int, int] = {}
    written: list[Record] = []
    last = _last_measures(disk)
    for proc in kernel.procs.values():
        layout = cpus.layouts.get(proc.spec.model, cpus.layouts[""])
        measure = layout.costs.measure
        if not last or last.get(proc.spec.model, last[""]) == measure:
            continue
        anew.append(proc.pid)
        numbers = [entry.page for entry in proc.space.queue]
        numbers += [page for one in proc.pending for page, _ in one.pages]
        for number, page in zip(numbers, records.pages_of(disk, numbers), strict=True):
            assert page is not None, f"page {number} is resident and not on disk"
            ids = layout.tokenize(page.text)
            resized[number] = len(layout.labelled(page, ids))
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
