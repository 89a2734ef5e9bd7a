"""One cell: a workload under a policy and a budget, beside what would have been possible.

A live cell (`--pager live`) has a machine's window for budget, and stands alone: its bounds are not known.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from bench.memory.run import drawn
from bench.paging import belady, bounds, field, machine, sampling, simulator, store
from bench.paging.machine import Setup
from bench.paging.simulator import Counts, Options, Stretches
from bench.paging.trace import Part
from bench.paging.workloads import Workload
from bench.sized import Sizes
from kernel.errors import BadInput, KernelPanic
from llmos.policies import Broken

FEW: Final = 5  # of strings; fewer are too few to draw from


class Strand(msgspec.Struct, frozen=True, array_like=True):
    """What was counted on one string: what intervals are drawn from."""

    source: str  # strings of one source are drawn together
    references: int
    faults: int
    best: float | None  # faults of the demand optimum
    limit: float | None  # and of a pager that knows what each turn wants
    stretches: tuple[tuple[int, int], ...] = ()  # references and faults, where strings are too few to draw from


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
    limit_hit: float | None = None  # of a pager that brings in what a turn wants before it is asked for
    strings: tuple[Strand, ...] = ()


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


class Ran(NamedTuple):
    """What was counted on one string."""

    source: str
    counts: Counts
    stretches: tuple[tuple[int, int], ...]


def simulate(
    workload: Workload, policy: str, budget: int, chosen: Options, seed: int, setup: Setup | None = None
) -> list[Ran]:
    """A run of each of the workload's parts; with a `setup` of its conversations, as a live machine hears them."""
    try:
        return list(_runs(workload, policy, sampling.budget_of(budget, workload.rate), chosen, seed, setup))
    except (Broken, KernelPanic) as exc:
        broken = exc.__cause__ if isinstance(exc, KernelPanic) else exc
        if not isinstance(broken, Broken):
            raise
        said = f"--policy {policy}: {broken}; llmos policies --check {policy} finds the smallest case"
        raise BadInput(said) from exc


def _runs(
    workload: Workload, policy: str, budget: int, chosen: Options, seed: int, setup: Setup | None
) -> Iterator[Ran]:
    if setup is not None:
        assert workload.heard is not None, "there is nothing to tell"
        for talk in workload.heard().conversations:
            yield Ran(talk.name, machine.run(talk, drawn(talk, seed, 0), setup, policy, seed), ())
        return
    for part in workload.parts:
        make = belady.maker(part) if policy == belady.NAME else functools.partial(field.make, policy, seed=seed)
        stretches = Stretches()
        counts = simulator.run(part, make, budget, chosen, stretches)
        found = stretches.found()
        if part.stands_for:
            counts.references, found = round(part.stands_for), ()
        yield Ran(part.drawn_of, counts, found)


def summed(made: Iterable[Ran]) -> Counts:
    """All of them."""
    total = Counts()
    for one in made:
        total.add(one.counts)
    return total


class Optimum(msgspec.Struct, frozen=True):
    """Bounds of a whole workload under a budget, and LRU for the headroom. `each` and `limits`: faults by part."""

    each: tuple[float, ...]
    limits: tuple[float, ...]
    cost: float
    lru: int
    how: str
    cost_how: str
    seconds: float

    @property
    def faults(self) -> float:
        """Of all parts."""
        return sum(self.each)


def optimum(workload: Workload, budget: int, limit_s: float = bounds.TIME_LIMIT_S) -> Optimum:
    """The bounds of the parts; each is kept in the store, by what its string is."""
    lru = summed(simulate(workload, "lru", budget, Options(1.0, 0.0, "perfect"), 0)).faults
    room = sampling.budget_of(budget, workload.rate)
    found = [_optimum(part, room, limit_s) for part in workload.parts]
    return Optimum(
        each=tuple(one[0].value for one in found),
        limits=tuple(float(bounds.prefetching(part, room)) for part in workload.parts),
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
    bounded: Callable[[], Optimum] | None,
    setup: Setup | None = None,
) -> Cell:
    """Simulate, and then compare with what would have been possible."""
    for part in workload.parts:
        if part.rank is not None and chosen.pager == "search":  # rankings are made before the clock runs
            first = next(((at, turn) for at, turn in enumerate(part.turns()) if turn.query), None)
            if first is not None:
                part.rank(*first)
    began = time.perf_counter()
    made = simulate(workload, policy, budget, chosen, seed, setup)
    error = None
    if workload.rate < 1.0:
        error = sampling.half_width([1 - one.counts.faults / max(1, one.counts.references) for one in made])
    seconds = time.perf_counter() - began
    counts, best = summed(made), bounded() if bounded else None
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
        limit_hit=round(1 - sum(best.limits) / max(1, counts.references), 5) if best else None,
        strings=_strings(made, best),
    )


def _strings(made: Sequence[Ran], best: Optimum | None) -> tuple[Strand, ...]:
    few = len({one.source for one in made}) < FEW
    none: list[None] = [None] * len(made)
    return tuple(
        Strand(one.source, one.counts.references, one.counts.faults, least, limit, one.stretches if few else ())
        for one, least, limit in zip(made, best.each if best else none, best.limits if best else none, strict=True)
    )
