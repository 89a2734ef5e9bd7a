"""Regret against budget, a picture a workload, as a paper would print it: bands, few lines, a caption that says all.

Regret 0 is the demand optimum; what nothing lies beyond is the prefetching bound. A picture is a PNG and a PDF, and the
captions stand in a file of their own. Not here: whose row a policy's line takes (report.py `fitted`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.paging.report import OURS, Fitted, fitted
from bench.paging.results import Row, Table
from bench.paging.run import Cell
from drivers.disk import whole
from llmos.commands.output import said
from llmos.policies import is_own

OTHERS: Final = ("lru",)  # who is shown besides, if there: what everybody knows, and the best of the rest
OURS_COLOUR: Final = "#d55e00"  # Okabe and Ito's, which those who are colour-blind tell apart
OWN_COLOUR: Final = "#0072b2"
REST: Final = (("#000000", "s", (0, (5, 2))), ("#009e73", "^", (0, (1, 1))))
STYLE: Final[Any] = {
    "font.family": "serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
}


def draw(cells: Sequence[Cell], folder: Path) -> list[Path]:
    """A picture of each workload with several budgets and bounds, and the captions; none without matplotlib."""
    table = Table([cell for cell in cells if cell.opt_hit is not None])
    found = fitted(table.rows, sorted({row.low_water for row in table.rows}))
    workloads = [
        name for name in dict.fromkeys(name for name, _ in found) if sum(place[0] == name for place in found) > 1
    ]
    if not workloads:
        return []
    try:
        import matplotlib

        matplotlib.use("agg")
    except ImportError:
        said("no pictures without matplotlib: pip install 'llmos[bench]'")
        return []
    made, captions = [], ["# Captions", ""]
    for workload in workloads:
        shown = chosen(found, workload)
        name = workload.replace("/", "-")
        with matplotlib.rc_context(STYLE):
            for kind in ("png", "pdf"):
                made.append(folder / f"{name}.{kind}")
                _picture(shown, workload, made[-1], kind)
        captions += [f"## {name}", "", caption(workload, shown), ""]
    whole.write(folder / "captions.md", "\n".join(captions).encode())
    return made


def chosen(found: Fitted, workload: str) -> dict[str, list[Row]]:
    """Whose lines are drawn, by budget: ours, one's own, those everybody knows, and the best of the rest on average."""
    places = sorted(place for place in found if place[0] == workload)
    here = [name for name in found[places[0]] if all(name in found[place] for place in places)]
    mean = {name: sum(found[place][name].hit for place in places) for name in here}
    names = [name for name in here if name == OURS or is_own(name)] + [name for name in OTHERS if name in here]
    rest = sorted((name for name in here if name not in names), key=lambda name: -mean[name])
    return {name: [found[place][name] for place in places] for name in [*names, *rest[:1]]}


def _picture(shown: dict[str, list[Row]], workload: str, path: Path, kind: str) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(4.6, 3.0))
    rows = next(iter(shown.values()))
    searched = rows[0].pager == "search"
    budgets = [row.budget for row in rows]
    limit = [100 * ((row.opt_hit or 0) - (row.limit_hit or 0)) if searched else 0.0 for row in rows]
    wide = [budgets[0] / 1.2, *budgets, budgets[-1] * 1.2]
    far = [limit[0], *limit, limit[-1]]
    axes.fill_between(wide, far, [min(limit) - 1e3] * len(wide), color="#e9e9e9", linewidth=0, zorder=0)
    axes.axhline(0, color="black", linewidth=0.8, zorder=1)
    low, high = min(limit), 0.0
    rest = itertools.cycle(REST)
    for name, mine in sorted(shown.items(), key=lambda item: (is_own(item[0]), item[0] == OURS)):
        emphasis = name == OURS or is_own(name)
        colour, marker, dashes = (OURS_COLOUR if name == OURS else OWN_COLOUR, "o", "solid") if emphasis else next(rest)
        regrets = [row.regret_pp or 0.0 for row in mine]
        bands = [row.regret_ci95 or (regret, regret) for row, regret in zip(mine, regrets, strict=True)]
        lower, upper = [band[0] for band in bands], [band[1] for band in bands]
        axes.fill_between(budgets, lower, upper, color=colour, alpha=0.22 if emphasis else 0.07, linewidth=0, zorder=2)
        for edge in () if emphasis else (lower, upper):
            axes.plot(budgets, edge, color=colour, linewidth=0.5, linestyle=dashes, zorder=2)
        axes.plot(
            *(budgets, regrets),
            color=colour,
            marker=marker,
            markersize=3.5,
            linestyle=dashes,
            linewidth=2.0 if emphasis else 1.1,
            label=name,
            zorder=4 if emphasis else 3,
        )
        low, high = min(low, *lower), max(high, *upper)
    room = max(1.0, high - low)
    axes.set_xscale("log", base=2)
    axes.set_xticks(budgets, [_short(budget) for budget in budgets])
    axes.minorticks_off()
    axes.set(xlim=(budgets[0] / 1.08, budgets[-1] * 1.08), ylim=(low - 0.14 * room, high + 0.05 * room))
    axes.set(xlabel="budget (tokens)", ylabel="regret (percentage points)")
    note: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "fontsize": 7}
    ends = [min(abs(mine[at].regret_pp or 0.0) for mine in shown.values()) for at in (0, -1)]
    left = ends[0] > ends[1]  # where there is more room
    axes.annotate(
        *("demand optimum", (budgets[0 if left else -1], 0), (0, 2)), **{**note, "ha": "left" if left else "right"}
    )
    said = "out of reach of any pager" if searched else "out of reach of demand paging"
    axes.annotate(said, (0.99, 0.02), (0, 0), xycoords="axes fraction", color="#555555", **note)
    axes.set_title(f"{workload}, {rows[0].pager} pager", fontsize=9, loc="left", pad=18)
    axes.legend(
        *axes.get_legend_handles_labels(),
        loc="lower left",
        bbox_to_anchor=(-0.02, 0.99),
        ncols=len(shown),
        frameon=False,
        fontsize=8,
        handlelength=2.4,
        columnspacing=1.2,
    )
    figure.tight_layout(pad=0.4)
    with whole.writing(path) as file:
        figure.savefig(file, format=kind, metadata={"CreationDate": None} if kind == "pdf" else None)
    pyplot.close(figure)


def _short(budget: int) -> str:
    return f"{budget // 1024}k" if budget % 1024 == 0 else f"{budget:,}"


def caption(workload: str, shown: dict[str, list[Row]]) -> str:
    """What a picture shows: pager, mark, path, what the bands are, and why a line may lie below 0."""
    first = next(iter(shown.values()))[0]
    pager = {
        "search": "A search for the question's text brings pages in before they are missed",
        "perfect": "Pages are brought in when they are missed, and every miss is a fault",
    }[first.pager]
    sets = "; ".join(f"{name}: {_settings(rows)}" for name, rows in shown.items())
    over = first.over or "nothing, so that there are none"
    said = [
        f"Regret of page replacement on {workload}, {first.references:,} references: percentage points of references",
        f"below the best demand pager with all of the budget as queue (0). {pager} ({first.pager} pager). {sets}.",
        f"Bands: 95 % intervals, bootstrap over {over}.",
    ]
    if first.pager == "search":
        said += [
            "A line below 0 is no error: the demand optimum is the best of all pagers that bring a page in when it is",
            "missed, so that the first reference after each absence is a fault; a pager that searches first has the",
            "page there in time.",
        ]
    prefetching = (
        "the prefetching bound, of a pager that knows what each turn wants and misses only pages that never were there "
        "and those that do not fit the budget together"
    )
    limits = [f"{100 * (row.limit_hit or 0):.1f}" for row in next(iter(shown.values()))]
    said.append(
        f"The grey area is out of reach of any pager: it ends at {prefetching}."
        if first.pager == "search"
        else f"The grey area is out of reach of demand paging. Not shown: {prefetching}; its hits are "
        f"{', '.join(limits)} % at these budgets."
    )
    return " ".join(said)


def _settings(rows: Sequence[Row]) -> str:
    """A policy's mark, share and path, each once."""
    lows = "/".join(dict.fromkeys(f"{row.low_water:g}" for row in rows))
    said = f"low-water mark {lows}"
    if rows[0].pager == "search":
        shares = "/".join(dict.fromkeys("learned" if row.recall is None else f"{row.recall:g}" for row in rows))
        said += f", recall share {shares}, path {'/'.join(dict.fromkeys(row.path for row in rows))}"
    return said
