"""Which cells a run of `llmos bench paging` makes: a product of lists, or the grid of docs/paging.md, as jobs.

A job is a workload under a budget and a seed with all of its cells, for they share the optimum; it carries what whoever
makes it cannot have, the text of one's own policies. A cell has a key: what it depends on and no more, so that what was
made is found again. Not here: how a job is made (sweep.py), and by whom (work.py).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from bench.memory.run import DEFAULT_SIZES, sizes_of
from bench.paging import belady, field, store, workloads
from bench.paging.bounds import TIME_LIMIT_S
from bench.paging.formats import AS_NAMED, Reading
from bench.paging.run import live_options, options
from bench.paging.simulator import Options
from bench.paging.simulator import Path as Path_
from bench.paging.workloads import Workload
from kernel.errors import BadInput
from llmos import policies
from llmos.policies import Own

WORKLOADS: Final = ("locomo-late", "locomo-live", "docs", "own", "git/h11", "git/msgspec", "git/trio", "mix")
BUDGETS: Final = (1024, 2048, 4096, 8192, 16384)
LOWS: Final = (0.5, 1.0)
PATHS: Final[tuple[Path_, ...]] = ("area", "drawn")
SHARES: Final = (0.0, 0.25, 0.5, 0.75)
SWEEP_LIMIT_S: Final = 10.0  # of an integer program, where there are many
CELLS_MAX: Final = 1_000_000
AnyT = TypeVar("AnyT")


class Wish(msgspec.Struct, frozen=True):
    """What was asked for, an axis a list; `grid`: every mark, share and path, whatever the lists say."""

    workloads: tuple[str, ...]
    policies: tuple[str, ...]
    budgets: tuple[int, ...]
    seeds: tuple[int, ...] = (1,)
    lows: tuple[float | None, ...] = (None,)
    recalls: tuple[str, ...] = ("",)
    pagers: tuple[str, ...] = ("",)
    paths: tuple[str, ...] = ("",)
    local: bool = False
    data: Path | None = None
    changes: tuple[str, ...] = ()
    sizes: str | None = None
    bounds: bool = True
    limit_s: float = TIME_LIMIT_S
    grid: bool = False
    how: Reading = AS_NAMED
    sample: float | None = None


class Wanted(msgspec.Struct, frozen=True):
    """A cell to be made. `low`, `recall` and `path` as they were asked for: a live machine is set by them."""

    key: str
    policy: str
    options: Options
    low: float | None = None
    recall: str = ""
    path: str = ""


class Job(msgspec.Struct, frozen=True):
    """A workload under a budget, and its cells."""

    workload: str
    budget: int
    seed: int
    data: str
    cells: tuple[Wanted, ...]
    own: tuple[Own, ...]
    changes: tuple[str, ...]
    sizes: str
    bounds: bool
    limit_s: float
    how: Reading = AS_NAMED
    sample: float | None = None

    @property
    def live(self) -> bool:
        """Whether its cells are those of a live machine."""
        return any(one.options.pager == "live" for one in self.cells)


def listed(text: str, read: Callable[[str], AnyT]) -> tuple[AnyT, ...]:
    """A list with commas, each word once. Raises what `read` does."""
    return tuple(dict.fromkeys(read(word.strip()) for word in text.split(",") if word.strip()))


def tokens(word: str) -> int:
    """A budget: 4096, 4k, or 4m, in powers of 1,024. Raises BadInput."""
    found = re.fullmatch(r"(\d{1,9})([km]?)", word.lower())
    size = int(found[1]) * 1024 ** " km".index(found[2] or " ") if found else 0
    if not size:
        raise BadInput(f"--budget {word}: give tokens, such as 4096, 4k, 1m, or 1k,2k,4k")
    return size


def share(word: str) -> float:
    """A low-water mark. Raises BadInput."""
    try:
        found = float(word)
    except ValueError:
        found = -1.0
    if not 0.0 <= found <= 1.0:
        raise BadInput(f"--low-water {word}: it is from 0 to 1 (page by page)")
    return found


def jobs(wish: Wish) -> list[Job]:
    """All jobs, the long ones first. Raises BadInput for whatever cannot be, before anything long begins."""
    live = "live" in wish.pagers
    if live and len(set(wish.pagers)) > 1:
        raise BadInput("--pager live: a machine stands alone; give it without the others")
    if not live and (wish.changes or wish.sizes):
        raise BadInput(f"--{'set' if wish.changes else 'sizes'}: a machine is set by it; it goes with --pager live")
    if live and wish.sample is not None:
        raise BadInput("--sample: a live machine hears all of a conversation")
    for name in wish.policies:
        if name != belady.NAME:
            field.make(name, wish.budgets[0])
    own = {name: policies.read(name) for name in wish.policies if policies.is_own(name) and "(" not in name}
    sizes = wish.sizes or DEFAULT_SIZES
    made = []
    for name, budget in itertools.product(wish.workloads, wish.budgets):
        loaded = workloads.load(name, wish.data, wish.seeds[0], budget, live=live, how=wish.how)
        asked = _grid(loaded, wish) if wish.grid else _asked(loaded, budget, wish, sizes)
        for seed in wish.seeds:
            cells: dict[str, Wanted] = {}
            for one in asked:
                mine = own[one.policy].digest if one.policy in own else ""
                what = (loaded.name, one.policy, mine, budget, msgspec.to_builtins(one.options), seed)
                how: tuple[Any, ...] = (wish.changes, sizes if live else "", wish.bounds, wish.limit_s)
                how += (wish.how, wish.sample)
                key = store.digest("cell", 1, what, how)
                cells[key] = msgspec.structs.replace(one, key=key)
            made.append(
                Job(
                    name,
                    budget,
                    seed,
                    str(wish.data or ""),
                    tuple(cells.values()),
                    tuple(own.values()),
                    wish.changes,
                    sizes,
                    wish.bounds and not live,
                    wish.limit_s,
                    wish.how,
                    wish.sample,
                )
            )
    if sum(len(job.cells) for job in made) > CELLS_MAX:
        raise BadInput(f"more than {CELLS_MAX:,} cells; give fewer of each")
    return sorted(made, key=lambda job: -job.budget if job.workload == "locomo-late" else 0)


def sampled(loaded: Workload, chosen: Options, share: float | None) -> Workload:
    """A workload as it is simulated: whole, or by samples of its pages. Raises BadInput for one that has none."""
    if share is None:
        return loaded
    return workloads.sampled(msgspec.structs.replace(loaded, pager=chosen.pager), share)


def _asked(loaded: Workload, budget: int, wish: Wish, sizes: str) -> list[Wanted]:
    """The product of what was asked for."""
    made = []
    for policy, low, recall, pager, path in itertools.product(
        wish.policies, wish.lows, wish.recalls, wish.pagers, wish.paths
    ):
        if pager == "live":
            chosen, _ = live_options(loaded, budget, low, recall, path, wish.local, wish.changes, sizes_of(sizes))
        else:
            chosen = options(loaded, low, recall, pager, path, wish.local, policy == "ours")
        if policy == belady.NAME and chosen.pager != "perfect":
            raise BadInput(f"--policy {belady.NAME}: it knows what will be wanted; add --pager perfect")
        if wish.sample is not None:
            sampled(loaded, chosen, wish.sample)
        made.append(Wanted("", policy, chosen, low, recall, path))
    return made


def _grid(loaded: Workload, wish: Wish) -> list[Wanted]:
    """Every mark, share and path of a workload; ours finds its share besides."""
    searched = loaded.pager == "search"
    made = []
    for policy, low in itertools.product(wish.policies, LOWS):
        shares: Sequence[float | None] = SHARES if searched else (0.0,)
        if policy == "ours" and searched:
            shares = (None, *SHARES)
        for part, path in itertools.product(shares, PATHS if searched else PATHS[:1]):
            made.append(Wanted("", policy, Options(low, part, loaded.pager, path)))
    return made
