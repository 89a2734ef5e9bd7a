"""What follows from many rows: how policies stand, ours beside the best of the others, costs, bounds, and two results.

Where a policy has several settings it has, for a workload, the one that is best on the *others* of the same pager
(leave one out), so that no setting is fitted on what it is judged by; ours finds its share while running.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from bench.paging.bounds import Floats
from bench.paging.plan import PATHS
from bench.paging.results import Place, Row, Setting, Table, lines, markdown, span
from bench.paging.run import Cell
from kernel.errors import BadInput
from llmos.intervals import Interval, between, tie

TIE_PP: Final = 1.0  # a difference below it is a tie, whatever its interval
LIVE_LOW: Final = 0.5  # the mark at which prefill stays near twice what arrives
ROWS_MAX: Final = 200  # of a report's table of all rows
OURS: Final = "ours"
Fitted: TypeAlias = dict[Place, dict[str, Row]]
"""For each workload and budget every policy's row."""


def fitted(rows: Sequence[Row], lows: Sequence[float], paths: Sequence[str] = PATHS[:1]) -> Fitted:
    """Every policy with the setting that is best on the other workloads, or its first where there is no other.

    Of settings that there are with and without it, `lows` and `paths` say which count; ours has its own path and the
    share that it finds.
    """
    table: dict[str, dict[Place, dict[Setting, Row]]] = {}
    for row in rows:
        table.setdefault(row.policy, {}).setdefault(row.place, {})[row.setting] = row
    found: Fitted = {}
    for policy, places in table.items():
        allowed = {place: _allowed(policy, mine, lows, paths) for place, mine in places.items()}
        for place, mine in allowed.items():
            if not mine:
                continue
            pager = next(iter(mine.values())).pager
            others = [
                ones
                for (name, _), ones in allowed.items()
                if name != place[0] and ones and next(iter(ones.values())).pager == pager
            ]
            best = max(mine, key=lambda setting: sum(ones[setting].hit for ones in others if setting in ones))  # noqa: B023
            found.setdefault(place, {})[policy] = mine[best]
    return found


def _allowed(policy: str, mine: dict[Setting, Row], lows: Sequence[float], paths: Sequence[str]) -> dict[Setting, Row]:
    """The settings that count, in an order of their own."""
    found = {setting: row for setting, row in sorted(mine.items()) if row.low_water in lows}
    tests: list[Callable[[Row], bool]] = [lambda row: row.path in paths]
    if policy == OURS:
        tests = [lambda row: row.recall is None, lambda row: row.path == "drawn"]
    for test in tests:
        found = {setting: row for setting, row in found.items() if test(row)} or found
    return found


class Standing(msgspec.Struct, frozen=True):
    """How a policy does over all workloads and budgets; in percentage points."""

    policy: str
    regret: float | None
    regret_ci95: Interval | None
    below: float  # under the best of a workload and budget, mean
    worst: float  # and at most


def standings(table: Table, found: Fitted) -> list[Standing]:
    """Every policy that ran everywhere, by its mean regret, or where that is not known by how far it is below."""
    every = [set(row) for row in found.values()]
    made = []
    for name in sorted(set.intersection(*every)) if every else []:
        mine = [row[name] for row in found.values()]
        regrets = [row.regret_pp for row in mine if row.regret_pp is not None]
        below = [100 * (max(one.hit for one in row.values()) - row[name].hit) for row in found.values()]
        made.append(
            Standing(
                name,
                sum(regrets) / len(regrets) if regrets else None,
                _over([table.of(row).regrets(row.opt_hit, row.reach) for row in mine]),
                sum(below) / len(below),
                max(below),
            )
        )
    return sorted(made, key=lambda one: (one.below if one.regret is None else one.regret, one.policy))


def _over(draws: Sequence[Floats | None]) -> Interval | None:
    """The interval of a mean over workloads and budgets; a workload's draws are the same under all budgets."""
    there = [one for one in draws if one is not None]
    return between(sum(there[1:], start=there[0]) / len(there)) if there and len(there) == len(draws) else None


class Duel(msgspec.Struct, frozen=True):
    """A policy beside the best of the others."""

    mine: Row
    other: Row
    difference_pp: float
    difference_ci95: Interval | None

    @property
    def said(self) -> Literal["won", "lost", "tie"]:
        """What is known of it."""
        sure = self.difference_ci95 is None or not tie(self.difference_ci95)
        if not sure or abs(self.difference_pp) <= TIE_PP:
            return "tie"
        return "won" if self.difference_pp > 0 else "lost"


def duels(table: Table, found: Fitted, policy: str) -> list[Duel]:
    """A policy in each workload and budget where others ran, too."""
    made = []
    for row in found.values():
        others = [one for name, one in row.items() if name != policy]
        if policy not in row or not others:
            continue
        mine, best = row[policy], max(others, key=lambda one: one.hit)
        draws = table.of(mine).above(table.of(best))
        made.append(Duel(mine, best, 100 * (mine.hit - best.hit), None if draws is None else between(draws)))
    return made


def report(cells: Sequence[Cell]) -> str:
    """The tables, in Markdown."""
    table = Table(cells)
    seeds = sorted({cell.seed for cell in cells})
    said = [
        "# Paging policies",
        "",
        f"{len(cells):,} cells, {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}.",
        "hit: share of references to resident pages. regret: percentage points below the best that demand paging can",
        "do with all of the budget as queue; a search can do better than that, because it brings pages in before they",
        "were missed. headroom: (hit - LRU) / (optimum - LRU), LRU page by page with the perfect pager. 95 %:",
        "bootstrap over strings, those of one source together, or over stretches of them where there are fewer than",
        f"five; differences are paired. A difference is a tie if its interval holds 0, or is at most {TIE_PP:g} pp. A",
        "policy with several settings has, for a workload, the one that is best on the others; ours finds its share",
        "while running, and a recalled page that was drawn on joins its queue.",
    ]
    lows = sorted({row.low_water for row in table.rows})
    kinds: list[tuple[str, Sequence[float], Sequence[str]]] = [("As it was run", lows, PATHS)]
    if len(table.rows) > len({(row.place, row.policy) for row in table.rows}):
        kinds = [
            ("Free: any low-water mark, prefill at any price", lows, PATHS[:1]),
            ("Free, and the others' recalled pages join the queue when they are drawn on, as ours do", lows, PATHS),
            (f"Live: low-water mark {LIVE_LOW}, prefill near twice what arrives", (LIVE_LOW,), PATHS[:1]),
        ]
    for title, marks, paths in kinds:
        found = fitted(table.rows, marks, paths)
        if found:
            said += ["", f"## {title}", "", _standings(table, found), *_duels(table, found)]
    first = fitted(table.rows, kinds[0][1])
    if any(row.cost_ratio is not None for row in table.rows):
        said += ["## Cost", "", *_costs(first), "## Bounds", "", *_bounds(table.rows)]
    if len(table.rows) <= ROWS_MAX:
        said += ["## All rows", "", markdown(*lines(table.rows))]
    return "\n".join(said) + "\n"


def _standings(table: Table, found: Fitted) -> str:
    rows = [
        (
            one.policy,
            "" if one.regret is None else f"{one.regret:.2f}",
            span(one.regret_ci95),
            f"{one.below:.2f}",
            f"{one.worst:.2f}",
        )
        for one in standings(table, found)
    ]
    return markdown(("policy", "mean regret", "95 %", "mean below the best", "at most"), rows)


def _duels(table: Table, found: Fitted) -> list[str]:
    policies = dict.fromkeys(name for row in found.values() for name in row)
    said = []
    for policy in (name for name in policies if name == OURS or ":" in name):
        rows = duels(table, found, policy)
        if not rows:
            continue
        won, lost = (sum(one.said == what for one in rows) for what in ("won", "lost"))
        said += [f"{policy} wins {won} of {len(rows)} cells by more than {TIE_PP:g} pp and loses {lost}.", ""]
        names = ("workload", "budget", policy, "best other", "which", "difference", "95 %", "", "optimum", "headroom")
        made = []
        for one in rows:
            mine = one.mine
            closed = "" if mine.headroom_closed is None else f"{100 * mine.headroom_closed:.0f} %"
            made.append(
                (
                    *(mine.workload, f"{mine.budget:,}", f"{100 * mine.hit:.1f}", f"{100 * one.other.hit:.1f}"),
                    *(one.other.policy, f"{one.difference_pp:+.2f}", span(one.difference_ci95), one.said),
                    *("" if mine.opt_hit is None else f"{100 * mine.opt_hit:.1f}", closed),
                    f"{mine.prefill_amplification:.2f}",
                )
            )
        said.append(markdown((*names, "prefill"), made))
    return said


def _costs(found: Fitted) -> list[str]:
    """Where nothing is searched: elsewhere the ratio is mostly the price of recall at every question."""
    made = []
    for (workload, budget), row in found.items():
        ratios = {
            name: one.cost_ratio for name, one in row.items() if one.cost_ratio is not None and one.pager == "perfect"
        }
        mine = ratios.pop(OURS, None)
        if mine is None or not ratios:
            continue
        best = min(ratios, key=ratios.__getitem__)
        made.append((workload, f"{budget:,}", f"{mine:.2f}", f"{ratios[best]:.2f}", best))
    if not made:
        return []
    names = ("workload", "budget", OURS, "best other", "which")
    return ["Cost over the least possible (faults, recall, and keeping), tokens of prefill.", "", markdown(names, made)]


def _bounds(rows: Sequence[Row]) -> list[str]:
    seen: dict[Place, Row] = {}
    for row in rows:
        if row.opt_hit is not None:
            seen.setdefault(row.place, row)
    made = [
        (
            *(workload, f"{budget:,}", f"{100 * (row.opt_hit or 0):.1f}"),
            *(f"{100 * (row.limit_hit or 0):.1f}", row.bound, row.cost_bound),
        )
        for (workload, budget), row in seen.items()
    ]
    return [
        "integer: exact. dual: the integer program's own bound when its time was up. relaxed: the linear relaxation.",
        "prefetching: what a turn wants is brought in before it is asked for, as far as it fits.",
        "",
        markdown(("workload", "budget", "optimum", "prefetching", "faults by", "cost by"), made),
    ]


# Two results.


class Compared(msgspec.Struct, frozen=True):
    """A row of one result beside that of another."""

    workload: str
    budget: int
    before: str  # the policy
    after: str
    before_hit: float
    after_hit: float
    difference_pp: float
    difference_ci95: Interval | None
    said: Literal["better", "worse", "tie", "unknown"]


def compared(before: Sequence[Cell], after: Sequence[Cell]) -> list[Compared]:
    """What both have: the same workload, budget, policy and setting; or, where each has one row, whatever that is.

    Raises BadInput if there is nothing to compare.
    """
    one, other = Table(before), Table(after)
    named = {(row.place, row.policy, row.setting): row for row in other.rows}
    pairs = [(row, named[key]) for row in one.rows if (key := (row.place, row.policy, row.setting)) in named]
    if not pairs:
        alone = {row.place: row for row in other.rows}
        single = len(alone) == len(other.rows) and len({row.place for row in one.rows}) == len(one.rows)
        pairs = [(row, alone[row.place]) for row in one.rows if row.place in alone] if single else []
    if not pairs:
        raise BadInput("nothing to compare: no workload, budget, policy and setting is in both results")
    found = []
    for was, now in pairs:
        draws = other.of(now).above(one.of(was))
        interval = None if draws is None else between(draws)
        difference = 100 * (now.hit - was.hit)
        said: Literal["better", "worse", "tie", "unknown"] = "better" if difference > 0 else "worse"
        if abs(difference) < 5e-4 or (interval is not None and tie(interval)):
            said = "tie"
        elif interval is None:
            said = "unknown"
        found.append(
            Compared(
                was.workload,
                was.budget,
                was.policy,
                now.policy,
                was.hit,
                now.hit,
                round(difference, 3),
                interval,
                said,
            )
        )
    return found
