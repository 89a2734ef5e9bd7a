"""One cell: a workload under a policy and a budget, beside what would have been possible.

A live cell (`--pager live`) has a machine's window for budget, and stands alone: its bounds are not known.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from bench.memory.run import DEFAULT_SIZES, drawn, sizes_of
from bench.paging import belady, bounds, field, machine, sampling, simulator, store, workloads
from bench.paging.formats import AS_NAMED, Reading
from bench.paging.machine import Setup
from bench.paging.simulator import Counts, Options
from bench.paging.trace import Part
from bench.paging.workloads import Workload
from bench.sized import Sizes
from kernel.errors import BadInput
from llmos.commands.output import print_table, show


class Cell(msgspec.Struct, frozen=True):
    """The figures of `llmos bench paging`; null where a workload has nothing to count, or bounds were not wanted."""

    workload: str
    policy: str
    budget: int
    low_water: float
    recall: float | None  # null: the share was found while running
    pager: str
    path: str
    local: bool
    seed: int
    faults: int
    references: int
    hit: float
    token_hit: float
    question_complete: float
    opt_hit: float | None
    regret_pp: float | None
    headroom_closed: float | None  # (hit - hit of LRU) / (opt_hit - hit of LRU), perfect pager, page by page
    cost_ratio: float | None
    prefill_amplification: float
    recall_tokens_per_question: float
    evictions: int
    bound: str
    cost_bound: str
    seconds: float  # of the simulation alone
    bound_seconds: float
    requests_per_s: int
    sample: float = 1.0  # the share of pages that was simulated
    error_pp: float | None = None  # of hit: half of its 95 % interval over samples


def options(
    workload: Workload, low: float | None, recall: str, pager: str, path: str, local: bool, ours: bool
) -> Options:
    """What was asked for, else the workload's own. Raises BadInput for what cannot be."""
    chosen = pager or workload.pager
    if chosen not in ("search", "perfect"):
        raise BadInput(f"--pager {chosen}: it is search, perfect or live")
    path = path or ("drawn" if ours or chosen == "perfect" else "area")  # what faulted was drawn on
    if path not in ("area", "queue", "drawn"):
        raise BadInput(f"--path {path}: it is area, queue or drawn")
    if chosen == "search" and not workload.searchable:
        raise BadInput(f"--pager search: {workload.name} has no texts to search; take --pager perfect")
    if local and any(part.pids == 1 for part in workload.parts):
        raise BadInput(f"--local: {workload.name} has one process; mix has several")
    share: float | None
    if recall == "auto" or (not recall and ours and chosen == "search"):
        share = None
    else:
        try:
            share = float(recall) if recall else (workload.recall if chosen == workload.pager else 0.0)
        except ValueError:
            raise BadInput(f"--recall {recall}: it is auto or a share from 0 to 0.95") from None
        if not 0.0 <= share <= 0.95:
            raise BadInput(f"--recall {recall}: it is auto or a share from 0 to 0.95")
    return Options(workload.low if low is None else low, share, chosen, path, local)  # type: ignore[arg-type]


def live_options(
    workload: Workload,
    budget: int,
    low: float | None,
    recall: str,
    path: str,
    local: bool,
    changes: Sequence[str],
    sizes: Sizes,
) -> tuple[Options, Setup]:
    """A machine that is set as was asked for, else by its defaults. Raises BadInput for what cannot be."""
    if workload.heard is None:
        raise BadInput(f"--pager live: {workload.name} is no conversation; take locomo-late, bfcl, or a file of them")
    if local:
        raise BadInput("--local: a live machine of one process has all of its window")
    if path not in ("", "area", "drawn"):
        raise BadInput(f"--path {path}: with --pager live it is area or drawn")
    own = [] if low is None else [f"memory.low={low}"]
    if recall:
        own.append("memory.share=learned" if recall == "auto" else f"memory.recall={recall}")
    if path:
        own.append(f"memory.join={'true' if path == 'drawn' else 'false'}")
    setup = Setup(sizes, budget, (*changes, *own))
    memory = setup.settings("fifo").memory
    share = None if memory.share == "learned" else memory.recall
    return Options(memory.low, share, "live", "drawn" if memory.join else "area"), setup


def simulate(
    workload: Workload, policy: str, budget: int, chosen: Options, seed: int, setup: Setup | None = None
) -> Counts:
    """The sum over the workload's parts; with a `setup` over its conversations, as a live machine hears them."""
    total = Counts()
    budget = sampling.budget_of(budget, workload.rate)
    if setup is not None:
        assert workload.heard is not None, "there is nothing to tell"
        for talk in workload.heard().conversations:
            total.add(machine.run(talk, drawn(talk, seed, 0), setup, policy, seed))
        return total
    for part in workload.parts:
        make = belady.maker(part) if policy == belady.NAME else functools.partial(field.make, policy, seed=seed)
        counts = simulator.run(part, make, budget, chosen)
        if part.stands_for:
            counts.references = round(part.stands_for)
        total.add(counts)
    return total


class Optimum(msgspec.Struct, frozen=True):
    """Bounds of a whole workload under a budget, and LRU for the headroom."""

    faults: float
    cost: float
    lru: int
    how: str
    cost_how: str
    seconds: float


def optimum(workload: Workload, budget: int, limit_s: float = bounds.TIME_LIMIT_S) -> Optimum:
    """The sum over the parts; each is kept in the store, by what its string is."""
    lru = simulate(workload, "lru", budget, Options(1.0, 0.0, "perfect"), 0).faults
    found = [_optimum(part, sampling.budget_of(budget, workload.rate), limit_s) for part in workload.parts]
    return Optimum(
        faults=sum(one[0].value for one in found),
        cost=sum(one[1].value for one in found),
        lru=lru,
        how="+".join(sorted({one[0].how for one in found})),
        cost_how="+".join(sorted({one[1].how for one in found})),
        seconds=round(sum(bound.seconds for one in found for bound in one), 3),
    )


def _optimum(part: Part, budget: int, limit_s: float) -> tuple[bounds.Bound, bounds.Bound]:
    key = store.digest("bound", 3, string_digest(part), budget, limit_s, bounds.ENTRIES_MAX)
    return store.cached(
        "bound",
        key,
        tuple[bounds.Bound, bounds.Bound],
        lambda: (bounds.faults(part, budget, limit_s), bounds.cost(part, budget, limit_s)),
    )


@functools.cache
def string_digest(part: Part) -> str:
    """Names a part's string: what arrives and is wanted when, and what is pinned."""
    return store.digest(
        [([ref[:2] for ref in turn.new], [ref[:2] for ref in turn.refs]) for turn in part.turns()], sorted(part.pins)
    )


def cell(
    workload: Workload,
    policy: str,
    budget: int,
    chosen: Options,
    seed: int,
    best: Optimum | None,
    setup: Setup | None = None,
) -> Cell:
    """Simulate and compare."""
    for part in workload.parts:
        if part.rank is not None and chosen.pager == "search":  # rankings are made before the clock runs
            first = next(((at, turn) for at, turn in enumerate(part.turns()) if turn.query), None)
            if first is not None:
                part.rank(*first)
    began = time.perf_counter()
    counts, error = Counts(), None
    if workload.rate < 1.0:
        each = [
            simulate(msgspec.structs.replace(workload, parts=(part,)), policy, budget, chosen, seed)
            for part in workload.parts
        ]
        for one in each:
            counts.add(one)
        error = sampling.half_width([1 - one.faults / max(1, one.references) for one in each])
    else:
        counts = simulate(workload, policy, budget, chosen, seed, setup)
    seconds = time.perf_counter() - began
    hit = 1 - counts.faults / max(1, counts.references)
    opt = 1 - best.faults / max(1, counts.references) if best else None
    room = (best.lru - best.faults) / max(1, counts.references) if best else 0.0
    return Cell(
        workload=workload.name,
        policy=policy,
        budget=budget,
        low_water=chosen.low,
        recall=chosen.recall,
        pager=chosen.pager,
        path=chosen.path,
        local=chosen.local,
        seed=seed,
        faults=counts.faults,
        references=counts.references,
        hit=round(hit, 5),
        token_hit=round(1 - counts.fault_tokens / max(1, counts.reference_tokens), 5),
        question_complete=round(counts.complete / max(1, counts.questions), 5),
        opt_hit=None if opt is None else round(opt, 5),
        regret_pp=None if opt is None else round(100 * (opt - hit), 3),
        headroom_closed=round((hit - opt) / room + 1, 3) if opt is not None and room > 1e-9 else None,
        cost_ratio=round(counts.cost / best.cost, 4) if best and best.cost else None,
        prefill_amplification=round(counts.prefilled / max(1, counts.arrived), 3),
        recall_tokens_per_question=round(counts.recalled / max(1, counts.questions), 1),
        evictions=counts.evictions,
        bound=best.how if best else "",
        cost_bound=best.cost_how if best else "",
        seconds=round(seconds, 4),
        bound_seconds=best.seconds if best else 0.0,
        requests_per_s=round((counts.references + counts.evictions) / max(1e-9, seconds)),
        sample=workload.rate,
        error_pp=None if error is None else round(100 * error, 3),
    )


def run(
    workload: str,
    policy: str,
    budget: int,
    low: float | None,
    recall: str,
    pager: str,
    path: str,
    local: bool,
    seed: int,
    data: Path | None,
    changes: Sequence[str],
    sizes: str | None,
    with_bounds: bool,
    as_json: bool,
    how: Reading = AS_NAMED,
    sample: float | None = None,
) -> None:
    """`llmos bench paging` for one cell a policy."""
    live = pager == "live"
    if not live and (changes or sizes):
        raise BadInput(f"--{'set' if changes else 'sizes'}: a machine is set by it; it goes with --pager live")
    names = [one.strip() for one in policy.split(",")]
    for name in names:
        if name != belady.NAME:
            field.make(name, budget)  # its name is checked before anything long begins
    if live and sample is not None:
        raise BadInput("--sample: a live machine hears all of a conversation")
    loaded = workloads.load(workload, data, seed, budget, live=live, how=how)
    if belady.NAME in names and (pager or loaded.pager) != "perfect":
        raise BadInput(f"--policy {belady.NAME}: it knows what will be wanted; add --pager perfect")
    if sample is not None:
        loaded = workloads.sampled(msgspec.structs.replace(loaded, pager=pager or loaded.pager), sample)
    setup = None
    if live:
        counted = sizes_of(sizes or DEFAULT_SIZES)
        asked, setup = live_options(loaded, budget, low, recall, path, local, changes, counted)
        every = [asked] * len(names)
    else:
        every = [options(loaded, low, recall, pager, path, local, name == "ours") for name in names]
    console = Console(stderr=True)
    with console.status(f"{loaded.name} at {budget:,} tokens") if console.is_terminal else console.capture():
        best = optimum(loaded, budget) if with_bounds and not live else None
        cells = [
            cell(loaded, name, budget, chosen, seed, best, setup) for name, chosen in zip(names, every, strict=True)
        ]
    if as_json:
        for one in cells:
            show(json.dumps(msgspec.to_builtins(one)))
        return
    table(cells)


def table(cells: list[Cell]) -> None:
    """For people."""
    first = cells[0]
    title = f"{first.workload}, {first.budget:,} tokens, {first.pager} pager, {first.references:,} references"
    names = (
        "policy",
        "recall",
        "low",
        "hit",
        "optimum",
        "regret pp",
        "headroom",
        "complete",
        "cost",
        "prefill",
        "recall/question",
        "s",
    )
    rows = [
        (
            one.policy,
            "auto" if one.recall is None else f"{one.recall:g}",
            f"{one.low_water:g}",
            f"{100 * one.hit:.2f} %" + (f" ± {one.error_pp:.2f}" if one.error_pp is not None else ""),
            _percent(one.opt_hit),
            "" if one.regret_pp is None else f"{one.regret_pp:.2f}",
            _percent(one.headroom_closed),
            f"{100 * one.question_complete:.1f} %",
            "" if one.cost_ratio is None else f"{one.cost_ratio:.2f} x",
            f"{one.prefill_amplification:.2f} x",
            f"{one.recall_tokens_per_question:.0f}",
            f"{one.seconds:.2f}",
        )
        for one in sorted(cells, key=lambda one: -one.hit)
    ]
    spare = ("s", "recall/question", "prefill", "cost", "complete", "headroom", "low", "recall")
    print_table(names, rows, left=("policy",), spare=spare, title=title)


def _percent(share: Any) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
