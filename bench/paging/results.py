"""What came of the cells: rows with their intervals, kept in a file and written as tables, CSV, Markdown and JSON.

A row is a policy and a setting under a workload and a budget, over all seeds. Its intervals are drawn over strings:
conversations and traces, of which some have several (shuffles, seeds), which are drawn together. Where there are fewer
than FEW, stretches of them are drawn instead, and the interval says nothing of other strings. What is compared has the
same draws, so that its difference is paired; a difference whose interval holds 0 is a tie.
Not here: the figures of a cell (run.py), what follows from many (report.py).
"""

from __future__ import annotations

import csv
import functools
import io
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from bench.paging.bounds import Floats
from bench.paging.plan import WORKLOADS
from bench.paging.run import FEW, Cell
from drivers.disk import whole
from kernel.errors import BadInput
from llmos.intervals import Draws, Interval, between, tie

FORMS: Final = (".json", ".csv", ".md")
Place: TypeAlias = tuple[str, int]
"""Workload and budget."""
Setting: TypeAlias = tuple[float, str, str, str, bool]
"""Low-water mark, share, path, pager, local."""


class Kept(msgspec.Struct, frozen=True):
    """A line of a sweep's file."""

    key: str
    cell: Cell


class Row(msgspec.Struct, frozen=True):
    """Figures over all seeds; intervals are null where there is nothing to draw from."""

    workload: str
    policy: str
    budget: int
    low_water: float
    recall: float | None
    pager: str
    path: str
    local: bool
    seeds: tuple[int, ...]
    faults: int
    references: int
    hit: float
    hit_ci95: Interval | None
    opt_hit: float | None
    regret_pp: float | None
    regret_ci95: Interval | None
    limit_hit: float | None
    below_best_pp: float  # of the same workload and budget
    below_best_ci95: Interval | None
    tie: bool  # with the best, for all that is known
    over: str  # what the intervals are drawn over
    token_hit: float
    question_complete: float
    headroom_closed: float | None
    cost_ratio: float | None
    prefill_amplification: float
    recall_tokens_per_question: float
    evictions: int
    bound: str
    cost_bound: str
    seconds: float
    bound_seconds: float
    requests_per_s: int
    sample: float = 1.0  # the share of pages that was simulated
    error_pp: float | None = None  # of hit: half of its 95 % interval over samples

    @property
    def place(self) -> Place:
        """Where it is compared."""
        return self.workload, self.budget

    @property
    def reach(self) -> float | None:
        """The most hits that its pager can have."""
        return self.opt_hit if self.pager == "perfect" else self.limit_hit

    @property
    def setting(self) -> Setting:
        """What else it is a figure of."""
        return self.low_water, shown(self.recall), self.path, self.pager, self.local


class Units:
    """What a row was counted on, unit by unit, and its draws."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        strands = [strand for cell in cells for strand in cell.strings if strand.references]
        sources = {strand.source for strand in strands}
        split = len(sources) < FEW and all(strand.stretches for strand in strands)
        sums: dict[str, list[float]] = {}
        for strand in strands:
            if split:
                for at, (references, faults) in enumerate(strand.stretches):
                    _add(sums.setdefault(f"{strand.source}\0{at}", [0.0] * 3), references, faults, 0.0)
            else:
                _add(sums.setdefault(strand.source, [0.0] * 3), strand.references, strand.faults, strand.best or 0.0)
        self.workload = cells[0].workload
        self.names = tuple(sums)
        self.over = f"{len(sums)} {'stretches' if split else 'strings'}"
        self.split = split
        self.references, self.faults, self.best = ([one[at] for one in sums.values()] for at in range(3))

    @functools.cached_property
    def _of(self) -> Draws | None:
        return _draws(self.workload, self.names) if len(self.names) > 1 else None

    @functools.cached_property
    def hits(self) -> Floats | None:
        """The hit ratio on each draw."""
        return None if self._of is None else 1 - self._of.sums(self.faults) / self._of.sums(self.references)

    def regrets(self, optimum: float | None, limit: float | None) -> Floats | None:
        """Percentage points below the optimum on each draw.

        A stretch has no optimum of its own: it takes the whole's, and no draw is better than the `limit`.
        """
        if optimum is None or self._of is None or self.hits is None:
            return None
        if self.split:
            return 100 * (optimum - self.hits.clip(max=1.0 if limit is None else limit))
        return 100 * (1 - self._of.sums(self.best) / self._of.sums(self.references) - self.hits)

    def above(self, other: Units) -> Floats | None:
        """How many percentage points of hits this has more on each draw: the same draws if the units are the same."""
        if self.hits is None or other.hits is None:
            return None
        if self.names == other.names or self.workload != other.workload:
            return 100 * (self.hits - other.hits)
        apart = _draws(f"{other.workload} apart", other.names)
        return 100 * (self.hits - (1 - apart.sums(other.faults) / apart.sums(other.references)))


def _add(sums: list[float], *more: float) -> None:
    for at, one in enumerate(more):
        sums[at] += one


@functools.lru_cache(maxsize=64)
def _draws(workload: str, names: tuple[str, ...]) -> Draws:
    return Draws(len(names), workload)


def shown(recall: float | None) -> str:
    """A share, as people are told it."""
    return "auto" if recall is None else f"{recall:g}"


def setting_of(cell: Cell) -> Setting:
    """See Row."""
    return cell.low_water, shown(cell.recall), cell.path, cell.pager, cell.local


class Table:
    """Cells as rows, the best of each workload and budget first; `units` are those of each row."""

    def __init__(self, cells: Iterable[Cell]) -> None:
        by: dict[Place, dict[tuple[str, Setting], list[Cell]]] = {}
        for cell in cells:
            mine = by.setdefault((cell.workload, cell.budget), {})
            mine.setdefault((cell.policy, setting_of(cell)), []).append(cell)
        self.rows: list[Row] = []
        self.units: dict[tuple[Place, str, Setting], Units] = {}
        for place, found in by.items():
            units = {name: Units(ones) for name, ones in found.items()}
            hits = {name: _hit(ones) for name, ones in found.items()}
            order = sorted(found, key=hits.__getitem__, reverse=True)
            for name in order:
                self.units[place, *name] = units[name]
                self.rows.append(_row(found[name], units[name], units[order[0]], hits[order[0]]))

    def of(self, row: Row) -> Units:
        """What a row was counted on."""
        return self.units[row.place, row.policy, row.setting]


def _hit(cells: Sequence[Cell]) -> float:
    return 1 - sum(cell.faults for cell in cells) / max(1, sum(cell.references for cell in cells))


def _row(cells: Sequence[Cell], units: Units, best: Units, best_hit: float) -> Row:
    first, hit = cells[0], _hit(cells)
    optimum = _mean([cell.opt_hit for cell in cells])
    limit = _mean([cell.limit_hit for cell in cells])
    regrets = units.regrets(optimum, optimum if first.pager == "perfect" else limit)
    below = best.above(units)
    below_ci = None if below is None else between(below)
    return Row(
        workload=first.workload,
        policy=first.policy,
        budget=first.budget,
        low_water=first.low_water,
        recall=first.recall,
        pager=first.pager,
        path=first.path,
        local=first.local,
        seeds=tuple(cell.seed for cell in cells),
        faults=sum(cell.faults for cell in cells),
        references=sum(cell.references for cell in cells),
        hit=round(hit, 5),
        hit_ci95=None if units.hits is None else between(units.hits),
        opt_hit=optimum,
        regret_pp=None if optimum is None else round(100 * (optimum - hit), 3),
        regret_ci95=None if regrets is None else between(regrets),
        limit_hit=limit,
        below_best_pp=round(100 * (best_hit - hit), 3),
        below_best_ci95=below_ci,
        tie=best_hit - hit < 5e-6 or (below_ci is not None and tie(below_ci)),
        over=units.over if units.hits is not None else "",
        token_hit=round(statistics.fmean(cell.token_hit for cell in cells), 5),
        question_complete=round(statistics.fmean(cell.question_complete for cell in cells), 5),
        headroom_closed=_mean([cell.headroom_closed for cell in cells], 3),
        cost_ratio=_mean([cell.cost_ratio for cell in cells], 4),
        prefill_amplification=round(statistics.fmean(cell.prefill_amplification for cell in cells), 3),
        recall_tokens_per_question=round(statistics.fmean(cell.recall_tokens_per_question for cell in cells), 1),
        evictions=sum(cell.evictions for cell in cells),
        bound="+".join(dict.fromkeys(cell.bound for cell in cells)),
        cost_bound="+".join(dict.fromkeys(cell.cost_bound for cell in cells)),
        seconds=round(sum(cell.seconds for cell in cells), 4),
        bound_seconds=round(sum(cell.bound_seconds for cell in cells), 3),
        requests_per_s=round(statistics.fmean(cell.requests_per_s for cell in cells)),
        sample=first.sample,
        error_pp=_mean([cell.error_pp for cell in cells], 3),
    )


def _mean(values: Sequence[float | None], digits: int = 5) -> float | None:
    there = [value for value in values if value is not None]
    return round(statistics.fmean(there), digits) if there else None


# Files.


def append(path: Path, made: Iterable[Kept]) -> None:
    """Add to a sweep's file; a line that was cut off before ends there."""
    with path.open("ab+") as file:
        if file.seek(0, io.SEEK_END) and (file.seek(-1, io.SEEK_END), file.read(1))[1] != b"\n":
            file.write(b"\n")
        file.write(b"".join(msgspec.json.encode(one) + b"\n" for one in made))


def kept(path: Path) -> dict[str, Cell]:
    """The cells of a sweep's file by their keys; a line that was cut off is left out."""
    found: dict[str, Cell] = {}
    if not path.exists():
        return found
    for line in path.read_bytes().splitlines():
        try:
            one = msgspec.json.decode(line, type=Kept)
        except msgspec.DecodeError:
            continue
        found[one.key] = one.cell
    return found


def ordered(cells: Iterable[Cell]) -> list[Cell]:
    """As they stand in tables: the workloads of the grid first, as it has them."""
    places = {name: at for at, name in enumerate(WORKLOADS)}
    return sorted(
        cells,
        key=lambda cell: (places.get(cell.workload, len(places)), cell.workload, cell.budget, cell.policy, cell.seed),
    )


class Result(msgspec.Struct, frozen=True):
    """A file of `--out`."""

    cells: tuple[Cell, ...]


def read(path: Path) -> list[Cell]:
    """The cells of a sweep's folder, or of a JSON of `--out`. Raises BadInput for another file."""
    if path.is_dir():
        cells = ordered(kept(path / "cells.jsonl").values())
        if not cells:
            raise BadInput(f"{path}: holds no sweep; give the folder of --sweep, or a JSON of --out")
        return cells
    try:
        return list(msgspec.json.decode(path.read_bytes(), type=Result).cells)
    except OSError as exc:
        raise BadInput(f"{path}: {exc.strerror or exc}") from exc
    except msgspec.DecodeError as exc:
        raise BadInput(f"{path}: no result of llmos bench paging --out FILE.json: {exc}") from exc


def form(path: Path) -> str:
    """The form that a file's name says. Raises BadInput for none."""
    if path.suffix not in FORMS:
        raise BadInput(f"--out {path}: its name ends with {', '.join(FORMS)}")
    return path.suffix


def write(path: Path, cells: Sequence[Cell]) -> None:
    """Cells in the form that the file's name says. Raises BadInput if it cannot be written."""
    rows = Table(cells).rows
    made = {
        ".json": lambda: msgspec.json.encode(Result(tuple(cells))) + b"\n",
        ".csv": lambda: flat(rows).encode(),
        ".md": lambda: markdown(*lines(rows)).encode(),
    }[form(path)]()
    written(path, made)


def written(path: Path, raw: bytes) -> None:
    """A file as a whole. Raises BadInput if it cannot be written."""
    try:
        whole.write(path, raw)
    except OSError as exc:
        raise BadInput(f"--out {path}: {exc.strerror or exc}") from exc


def flat(rows: Sequence[msgspec.Struct]) -> str:
    """As CSV, a column a figure, two an interval."""
    file = io.StringIO()
    out = csv.writer(file, lineterminator="\n")
    for at, row in enumerate(rows):
        cells: dict[str, Any] = {}
        for name, value in msgspec.structs.asdict(row).items():
            if name.endswith("_ci95"):
                cells[f"{name}_low"], cells[f"{name}_high"] = value or ("", "")
            else:
                cells[name] = " ".join(map(str, value)) if isinstance(value, tuple) else "" if value is None else value
        if at == 0:
            out.writerow(cells)
        out.writerow(cells.values())
    return file.getvalue()


# For people.

SPARE: Final = (
    *("s", "recall/question", "prefill", "cost", "complete", "headroom", "over", "low", "recall", "path"),
    *("optimum", "regret 95 %", "hit 95 %"),
)


def lines(rows: Sequence[Row], *, titled: bool = False) -> tuple[list[str], list[list[str]]]:
    """Names of columns and what stands in them; what is the same in all rows and stands in a title is left out."""
    columns: dict[str, Callable[[Row], str]] = {
        "workload": lambda row: row.workload,
        "budget": lambda row: f"{row.budget:,}",
        "policy": lambda row: row.policy,
        "pager": lambda row: row.pager,
        "path": lambda row: row.path,
        "recall": lambda row: shown(row.recall),
        "low": lambda row: f"{row.low_water:g}",
        "hit": lambda row: f"{100 * row.hit:.2f} %" + ("" if row.error_pp is None else f" ± {row.error_pp:.2f}"),
        "hit 95 %": lambda row: span(row.hit_ci95, 100),
        "to the best": below,
        "optimum": lambda row: _percent(row.opt_hit),
        "regret pp": lambda row: "" if row.regret_pp is None else f"{row.regret_pp:.2f}",
        "regret 95 %": lambda row: span(row.regret_ci95),
        "headroom": lambda row: _percent(row.headroom_closed),
        "complete": lambda row: f"{100 * row.question_complete:.1f} %",
        "cost": lambda row: "" if row.cost_ratio is None else f"{row.cost_ratio:.2f} x",
        "prefill": lambda row: f"{row.prefill_amplification:.2f} x",
        "recall/question": lambda row: f"{row.recall_tokens_per_question:.0f}",
        "over": lambda row: row.over,
        "s": lambda row: f"{row.seconds:.2f}",
    }
    alike = {name for name in ("workload", "budget", "pager", "path") if len({getattr(row, name) for row in rows}) == 1}
    names = [name for name in columns if not titled or name not in alike]
    return names, [[columns[name](row) for name in names] for row in rows]


def below(row: Row) -> str:
    """How far it is from the best beside it."""
    if row.below_best_pp == 0:
        return "best"
    return f"-{row.below_best_pp:.2f}{' tie' if row.tie else ''}"


def span(interval: Interval | None, times: float = 1.0) -> str:
    """An interval, for people."""
    return "" if interval is None else f"{times * interval[0]:.2f} to {times * interval[1]:.2f}"


def markdown(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    cells = [names, ["---"] * len(names), *rows]
    return "".join(f"| {' | '.join(one.replace('|', chr(92) + '|') for one in row)} |\n" for row in cells)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
