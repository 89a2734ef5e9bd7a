"""`llmos bench paging`: cells made on all cores or a cluster, and what is printed and written of them.

With a folder each job's cells are added to its `cells.jsonl` as they are done, so that a sweep that was cut goes on
where it stopped, and may be widened later; `cells.csv`, `report.md` and the pictures are written anew from all of them.
Not here: which cells (plan.py), who makes them (work.py), what follows (results.py, report.py), pictures (pictures.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from bench.memory.run import sizes_of
from bench.paging import pictures, plan, report, results, work, workloads
from bench.paging.plan import Job, Wanted, Wish
from bench.paging.results import Kept, Row, Table
from bench.paging.run import Cell, cell, live_options, optimum
from drivers.disk import whole
from kernel.errors import BadInput
from llmos import policies
from llmos.commands.output import Paced, print_json, print_table, show


def run(wish: Wish, folder: Path | None, out: Path | None, jobs: int, on: str, as_json: bool) -> None:
    """Make the cells, and tell of them: all that was asked for, or where they are kept."""
    if out is not None:
        results.form(out)
    wanted = plan.jobs(wish)
    if folder is None:
        cells = _asked(wanted, {one.key: one.cell for made in make(wanted, {}, jobs, on) for one in made})
    else:
        began = time.monotonic()
        with _held(folder):
            cells = _sweep(wanted, folder, jobs, on)
        if not as_json:
            show(f"{folder}/report.md: {len(cells):,} cells, {time.monotonic() - began:.0f} s")
    if as_json:
        for row in _in_order(cells):
            print_json(row)
    elif folder is None:
        _table(cells)
    if out is not None:
        results.write(out, cells)


def _in_order(cells: Sequence[Cell]) -> list[Row]:
    """Their rows, in the order in which the cells were asked for."""
    asked = [(cell.workload, cell.budget, cell.policy, results.setting_of(cell)) for cell in cells]
    places = {place: at for at, place in reversed(list(enumerate(asked)))}
    return sorted(Table(cells).rows, key=lambda row: places[row.workload, row.budget, row.policy, row.setting])


def _table(cells: Sequence[Cell]) -> None:
    """For people, the best of each workload and budget first."""
    rows = Table(cells).rows
    names, lines = results.lines(rows, titled=True)
    first, places = rows[0], {row.place for row in rows}
    title = f"{first.workload}, {first.budget:,} tokens, {first.pager} pager, {first.references:,} references"
    if len(places) > 1:
        title = f"{len(places)} workloads and budgets, {len(cells)} cells"
    print_table(names, lines, left=("workload", "policy"), spare=results.SPARE, title=title)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """A sweep's folder is one sweep's at a time. Raises BadInput if it is another's, or cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("wb")
    except OSError as exc:
        raise BadInput(f"--sweep {folder}: {exc.strerror or exc}") from exc
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise BadInput(f"--sweep {folder}: another sweep runs there") from exc
        yield


def _sweep(jobs: Sequence[Job], folder: Path, at_once: int, on: str) -> list[Cell]:
    """Fill a folder; the cells that were asked for."""
    file = folder / "cells.jsonl"
    found = results.kept(file)
    for made in make(jobs, found, at_once, on):
        results.append(file, made)
        found |= {one.key: one.cell for one in made}
    cells = results.ordered(found.values())
    whole.write(folder / "cells.csv", results.flat(Table(cells).rows).encode())
    whole.write(folder / "report.md", report.report(cells).encode())
    pictures.draw(cells, folder)
    return _asked(jobs, found)


def _asked(jobs: Sequence[Job], found: dict[str, Cell]) -> list[Cell]:
    """The cells of jobs, in the order in which they were asked for."""
    return [found[one.key] for job in jobs for one in job.cells]


def make(jobs: Sequence[Job], done: dict[str, Cell], at_once: int, on: str) -> Iterator[list[Kept]]:
    """The cells that are not `done`, a job's at a time, told of on standard error."""
    left = [less for job in jobs if (less := _less(job, done)).cells]
    total = sum(len(job.cells) for job in left)
    made = 0
    alone = total <= 1 or len(left) == 1
    with Paced(quiet=alone) as progress:
        progress.tell(f"{total:,} cells in {len(left)} jobs")
        for some in work.spread(cells_of, left, at_once, on):
            made += len(some)
            cell_ = some[0].cell
            last = f"{cell_.workload} at {cell_.budget:,}, seed {cell_.seed}"
            progress.tell(f"{made:,} of {total:,} cells, the last of them {last}{progress.ahead(made, total)}")
            yield some


def _less(job: Job, done: dict[str, Cell]) -> Job:
    return msgspec.structs.replace(job, cells=tuple(one for one in job.cells if one.key not in done))


def cells_of(job: Job) -> list[Kept]:
    """A job's cells, wherever it is made."""
    for own in job.own:
        policies.use(own)
    folder = Path(job.data) if job.data else None
    loaded = workloads.load(job.workload, folder, job.seed, job.budget, live=job.live, how=job.how)
    if job.sample is not None:  # all cells of a workload that can be sampled have one pager
        loaded = plan.sampled(loaded, job.cells[0].options, job.sample)
    counted = sizes_of(job.sizes) if job.live else None
    best = functools.cache(lambda: optimum(loaded, job.budget, job.limit_s)) if job.bounds else None

    def made(one: Wanted) -> Cell:
        setup = None
        if counted is not None:
            changes = job.changes
            _, setup = live_options(loaded, job.budget, one.low, one.recall, one.path, False, changes, counted)
        return cell(loaded, one.policy, job.budget, one.options, job.seed, best, setup)

    return [Kept(one.key, made(one)) for one in job.cells]
