"""All cells: workloads x budgets x policies x low-water marks x recall shares, on all cores, and what follows.

`cells.csv` gets a row a cell as it is done, so that a sweep that was cut goes on where it stopped. Then `report.md` is
written, and a picture a workload. Ours and the classical policies are compared as a user would meet them: with one
low-water mark and one recall share each, fitted on all other workloads (leave one out), while ours finds its share
while running.
"""

from __future__ import annotations

import csv
import itertools
import multiprocessing
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from bench.paging import field, workloads
from bench.paging.run import Cell, Optimum, cell, optimum
from bench.paging.simulator import Options
from drivers.disk import whole
from kernel.errors import BadInput
from llmos.commands.output import show

WORKLOADS: Final = ("locomo-late", "locomo-live", "docs", "own", "git/h11", "git/msgspec", "git/trio", "mix")
BUDGETS: Final = (1024, 2048, 4096, 8192, 16384)
LOWS: Final = (0.5, 1.0)
PATHS: Final = ("area", "drawn")
SHARES: Final = (0.0, 0.25, 0.5, 0.75)
LIMIT_S: Final = 10.0  # of an integer program
TIE_PP: Final = 1.0  # a difference below it is a tie
LIVE_LOW: Final = 0.5  # the mark at which prefill stays near twice what arrives
Key = tuple[str, int]  # workload, budget
Setting = tuple[float, str, str]  # low, recall, path
FIELDS: Final = tuple(field_.name for field_ in msgspec.structs.fields(Cell))


class Job(msgspec.Struct, frozen=True):
    """A workload under a budget: its cells are made together, for they share the optimum."""

    workload: str
    budget: int
    seed: int
    data: str
    skip: frozenset[tuple[str, Setting]]  # policies and settings that are there


def sweep(out: Path, data: Path | None, seed: int) -> None:
    """Fill `out`. Raises BadInput if the data is missing, or `out` holds a sweep of another seed."""
    out.mkdir(parents=True, exist_ok=True)
    cells = read(out / "cells.csv")
    if any(one.seed != seed for one in cells):
        raise BadInput(f"{out}: holds a sweep of seed {cells[0].seed}; take another folder, or --seed {cells[0].seed}")
    for name in WORKLOADS:
        workloads.load(name, data, seed, BUDGETS[0])  # what is missing is said now
    done: dict[Key, set[tuple[str, Setting]]] = {}
    for one in cells:
        done.setdefault((one.workload, one.budget), set()).add((one.policy, _setting(one)))
    jobs = [
        Job(name, budget, seed, str(data or ""), frozenset(done.get((name, budget), ())))
        for name, budget in itertools.product(WORKLOADS, BUDGETS)
    ]
    jobs.sort(key=lambda job: -job.budget if job.workload == "locomo-late" else 0)  # the long ones first
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    began = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("cells", total=len(jobs))
        with multiprocessing.get_context("spawn").Pool(min(len(jobs), os.cpu_count() or 1)) as pool:
            for job, made in pool.imap_unordered(_cells, jobs):
                _append(out / "cells.csv", made)
                cells += made
                progress.advance(task)
                if not console.is_terminal and made:
                    show(
                        f"{job.workload} at {job.budget:,}: {len(made)} cells, {time.monotonic() - began:.0f} s",
                        error=True,
                    )
    cells.sort(key=lambda one: (WORKLOADS.index(one.workload), one.budget))
    whole.write(out / "report.md", report(cells).encode())
    pictures(cells, out)
    show(f"{out}/report.md: {len(cells):,} cells, {time.monotonic() - began:.0f} s")


def _cells(job: Job) -> tuple[Job, list[Cell]]:
    loaded = workloads.load(job.workload, Path(job.data) if job.data else None, job.seed, job.budget)
    best: Optimum | None = None
    made = []
    for policy, low in itertools.product(field.EVERY, LOWS):
        shares: Sequence[float | None] = SHARES if loaded.pager == "search" else (0.0,)
        if policy == "ours" and loaded.pager == "search":
            shares = (None, *SHARES)
        for share, path in itertools.product(shares, PATHS if loaded.pager == "search" else PATHS[:1]):
            if (policy, (low, _share(share), path)) not in job.skip:
                best = best or optimum(loaded, job.budget, LIMIT_S)
                chosen = Options(low, share, loaded.pager, path)
                made.append(cell(loaded, policy, job.budget, chosen, job.seed, best))
    return job, made


def _setting(one: Cell) -> Setting:
    return one.low_water, _share(one.recall), one.path


def _share(recall: float | None) -> str:
    return "auto" if recall is None else f"{recall:g}"


def read(path: Path) -> list[Cell]:
    """The whole rows of a file; one that was cut while it was written is left out."""
    if not path.exists():
        return []
    cells = []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            values = {key: (None if value in ("", None) else value) for key, value in row.items() if key in FIELDS}
            values.update({key: values.get(key) or "" for key in ("bound", "cost_bound")})
            try:
                cells.append(msgspec.convert(values, Cell, strict=False))
            except msgspec.ValidationError:
                continue
    return cells


def _append(path: Path, cells: Iterable[Cell]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        if new:
            out.writerow(FIELDS)
        for one in cells:
            out.writerow(["" if value is None else value for value in msgspec.structs.astuple(one)])
        file.flush()
        os.fsync(file.fileno())


# What follows from the cells.


class Fitted(msgspec.Struct, frozen=True):
    """A policy's cell with the setting that is best on all other workloads."""

    policy: str
    cell: Cell
    setting: Setting


def fitted(
    cells: Sequence[Cell], lows: Sequence[float], paths: Sequence[str] = PATHS[:1]
) -> dict[Key, dict[str, Fitted]]:
    """For each workload and budget, every policy with its settings fitted on the other workloads of the same pager.

    `paths` are those the others may take; ours takes `drawn` and the share that it finds.
    """
    table: dict[str, dict[Key, dict[Setting, Cell]]] = {}
    for one in cells:
        ours = (one.recall is None and one.path == "drawn") or one.pager == "perfect"
        if one.low_water in lows and (ours if one.policy == "ours" else one.path in paths):
            mine = table.setdefault(one.policy, {}).setdefault((one.workload, one.budget), {})
            mine[_setting(one)] = one
    found: dict[Key, dict[str, Fitted]] = {}
    for policy, places in table.items():
        for (workload, budget), settings in places.items():
            pager = next(iter(settings.values())).pager
            others = [
                cells_
                for (name, _), cells_ in places.items()
                if name != workload and next(iter(cells_.values())).pager == pager
            ]
            best = max(
                sorted(settings),
                key=lambda setting: sum(cells_[setting].hit for cells_ in others if setting in cells_),  # noqa: B023
            )
            found.setdefault((workload, budget), {})[policy] = Fitted(policy, settings[best], best)
    return found


class Standing(msgspec.Struct, frozen=True):
    """How a policy does over all cells; regrets in percentage points."""

    policy: str
    regret: float
    below: float  # under the best of a cell, mean
    worst: float  # and at most


def standings(found: dict[Key, dict[str, Fitted]]) -> list[Standing]:
    """Every policy, by its mean regret."""
    names = sorted({name for row in found.values() for name in row})
    made = []
    for name in names:
        regrets = [row[name].cell.regret_pp or 0.0 for row in found.values() if name in row]
        below = [100 * (max(one.cell.hit for one in row.values()) - row[name].cell.hit) for row in found.values()]
        made.append(Standing(name, sum(regrets) / len(regrets), sum(below) / len(below), max(below)))
    return sorted(made, key=lambda one: one.regret)


def report(cells: Sequence[Cell]) -> str:
    """The tables, in Markdown."""
    lines = [
        "# Paging policies",
        "",
        f"{len(cells):,} cells, seed {cells[0].seed}. `llmos bench paging --sweep DIR` makes this again. hit: share of",
        "references to resident pages. regret: percentage points below the best that demand paging can do with all of",
        "the budget as queue; a search can do better than that, because it brings pages in before they were missed.",
        "headroom: (hit - LRU) / (optimum - LRU), LRU page by page with the perfect pager. A difference below",
        f"{TIE_PP:g} pp is a tie. Each policy has the low-water mark and the recall share that are best for it on the",
        "other workloads; ours finds its share while running, and a recalled page that was drawn on joins the queue.",
    ]
    for title, lows, paths in (
        ("Free: any low-water mark, prefill at any price", LOWS, PATHS[:1]),
        ("Free, and the others' recalled pages join the queue when they are drawn on, as ours do", LOWS, PATHS),
        (f"Live: low-water mark {LIVE_LOW}, prefill near twice what arrives", (LIVE_LOW,), PATHS[:1]),
    ):
        found = fitted(cells, lows, paths)
        lines += [
            "",
            f"## {title}",
            "",
            "| policy | mean regret | mean below the best | at most |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {one.policy} | {one.regret:.2f} | {one.below:.2f} | {one.worst:.2f} |" for one in standings(found)
        ]
        lines += ["", *_duel(found)]
    lines += ["", "## Cost", "", *_costs(fitted(cells, LOWS))]
    lines += ["", "## Bounds", "", *_bounds(cells)]
    return "\n".join(lines) + "\n"


def _duel(found: dict[Key, dict[str, Fitted]]) -> list[str]:
    lines = [
        "| workload | budget | ours | best other | which | difference | optimum | headroom closed | prefill |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    won = lost = 0
    for (workload, budget), row in found.items():
        mine = row["ours"].cell
        best = max((one for name, one in row.items() if name != "ours"), key=lambda one: one.cell.hit)
        difference = 100 * (mine.hit - best.cell.hit)
        won += difference > TIE_PP
        lost += difference < -TIE_PP
        closed = "" if mine.headroom_closed is None else f"{100 * mine.headroom_closed:.0f} %"
        lines.append(
            f"| {workload} | {budget:,} | {100 * mine.hit:.1f} | {100 * best.cell.hit:.1f} | {best.policy} "
            f"| {difference:+.2f} | {100 * (mine.opt_hit or 0):.1f} | {closed} | {mine.prefill_amplification:.2f} |"
        )
    return [f"Ours wins {won} of {len(found)} cells by more than {TIE_PP:g} pp and loses {lost}.", "", *lines]


def _costs(found: dict[Key, dict[str, Fitted]]) -> list[str]:
    lines = ["| workload | budget | ours | best other | which |", "|---|---|---|---|---|"]
    for (workload, budget), row in found.items():
        mine = row["ours"].cell.cost_ratio
        if not (workload.startswith("git") or workload == "mix") or mine is None:
            continue
        best = min((one for name, one in row.items() if name != "ours"), key=lambda one: one.cell.cost_ratio or 0)
        lines.append(f"| {workload} | {budget:,} | {mine:.2f} | {best.cell.cost_ratio:.2f} | {best.policy} |")
    return ["Cost over the least possible (faults, recall, and keeping), tokens of prefill.", "", *lines]


def _bounds(cells: Sequence[Cell]) -> list[str]:
    seen: dict[Key, Cell] = {}
    for one in cells:
        seen.setdefault((one.workload, one.budget), one)
    lines = ["| workload | budget | optimum | faults by | cost by |", "|---|---|---|---|---|"]
    for (workload, budget), one in seen.items():
        best = f"{100 * (one.opt_hit or 0):.1f}"
        lines.append(f"| {workload} | {budget:,} | {best} | {one.bound} | {one.cost_bound} |")
    return [
        "integer: exact. dual: the integer program's own bound when its time was up. relaxed: the linear relaxation.",
        "",
        *lines,
    ]


SHOWN: Final = ("fifo", "lru", "arc", "s3fifo", "sieve", "gdsf", "lirs", "ours")


def pictures(cells: Sequence[Cell], out: Path) -> None:
    """Hit over the budget, a picture a workload, with the optimum."""
    try:
        import matplotlib

        matplotlib.use("agg")
        from matplotlib import pyplot
    except ImportError:
        show("no pictures without matplotlib: pip install 'llmos[bench]'", error=True)
        return
    found = fitted(cells, LOWS)
    for workload in dict.fromkeys(name for name, _ in found):
        budgets = sorted(budget for name, budget in found if name == workload)
        figure, axes = pyplot.subplots(figsize=(7, 4.5))
        opt = [100 * (found[workload, budget]["ours"].cell.opt_hit or 0) for budget in budgets]
        axes.plot(budgets, opt, color="black", linestyle=":", label="optimum, on demand")
        for name in SHOWN:
            hits = [100 * found[workload, budget][name].cell.hit for budget in budgets]
            axes.plot(budgets, hits, marker="o", markersize=3, linewidth=2.5 if name == "ours" else 1, label=name)
        axes.set(xscale="log", xlabel="budget in tokens", ylabel="references resident, %", title=workload)
        axes.set_xticks(budgets, [f"{budget // 1024}k" for budget in budgets])
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        figure.tight_layout()
        with whole.writing(out / f"{workload.replace('/', '-')}.png") as picture:
            figure.savefig(picture, format="png", dpi=120)
        pyplot.close(figure)
