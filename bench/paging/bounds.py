"""How good a pager could be: the exact optimum by integer program, bounds that scale, and Belady.

A page that is wanted again is either kept from one reference to the next (then the second is no fault) or not. So the
choices are one 0/1 variable for each such interval, and at every reference the kept pages and the one referenced must
fit. Residency is mandatory, a page above the budget passes through, pinned pages stay: the simulator's rules, without
its low-water mark and with all of the budget as queue, so that no policy that pages on demand can be better. A search
that brings in pages before they were ever missed can: regret below 0 is then no error.

What no pager can be better than, whatever it brings in before it is missed, is `prefetching`: it knows what each turn
wants, and faults only for pages that never were there, and for those that do not fit together.

Faults: the fewest. Cost: the least sum of fault tokens and KEEP * tokens * generated tokens of what is kept.
"""

from __future__ import annotations

import contextlib
import heapq
import importlib.util
import math
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from bench.paging.simulator import KEEP
from bench.paging.trace import GENERATED, Part
from kernel.errors import BadInput

INTERVALS_MAX: Final = 30_000  # beyond them PFOO
ENTRIES_MAX: Final = 1_000_000  # of an integer program's matrix; beyond them its linear relaxation
TIME_LIMIT_S: Final = 20.0  # of an integer program; its dual bound is taken then
Kind = Literal["belady", "integer", "dual", "relaxed", "pfoo"]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Bound(msgspec.Struct, frozen=True):
    """A lower bound: exact if `how` is belady (pages of one size) or integer."""

    value: float
    how: Kind
    seconds: float


class Intervals(msgspec.Struct, frozen=True):
    """What can be kept, by place in the string. A place is one page that arrives or is wanted."""

    sizes: list[int]  # of the page at each place; 0: it passes through
    turns: list[int]  # the turn of each place
    starts: list[int]  # intervals: place where it begins,
    ends: list[int]  # and ends with a reference
    references: int
    reference_tokens: int
    passing: int  # tokens of references that are faults whatever is done
    pinned: list[tuple[int, int]]  # place, tokens: resident from there on
    own: float  # cost of what the turns' own pages keep in their turn


def intervals(part: Part, budget: int) -> Intervals:
    """The intervals of a string under a budget. Duplicate references within a turn are intervals of their own."""
    sizes: list[int] = []
    turns: list[int] = []
    starts: list[int] = []
    ends: list[int] = []
    pinned: list[tuple[int, int]] = []
    last: dict[int, int] = {}
    references = tokens = passing = 0
    own = 0.0
    for index, turn in enumerate(part.turns()):
        distinct: dict[int, int] = {}
        for wanted, refs in ((False, turn.new), (True, turn.refs)):
            for ref in refs:
                place = len(sizes)
                fits = ref.tokens <= budget
                sizes.append(ref.tokens if fits else 0)
                turns.append(index)
                if wanted:
                    references += 1
                    tokens += ref.tokens
                    if fits and ref.page in last:
                        starts.append(last[ref.page])
                        ends.append(place)
                    else:
                        passing += ref.tokens
                elif ref.page in part.pins and ref.page not in last:
                    pinned.append((place, ref.tokens))
                if fits:
                    last[ref.page] = place
                    distinct[ref.page] = ref.tokens
        if sum(distinct.values()) <= budget:
            own += KEEP * GENERATED * sum(distinct.values())
    return Intervals(sizes, turns, starts, ends, references, tokens, passing, pinned, own)


def faults(part: Part, budget: int, limit_s: float = TIME_LIMIT_S) -> Bound:
    """The fewest faults."""
    began = time.monotonic()
    if part.unit:
        return Bound(belady(part, budget), "belady", time.monotonic() - began)
    found = intervals(part, budget)
    if len(found.starts) > INTERVALS_MAX:
        return Bound(pfoo(found, budget), "pfoo", time.monotonic() - began)
    kept, how = _program(found, budget, [1.0] * len(found.starts), limit_s)
    return Bound(math.ceil(found.references - kept - 1e-6), how, time.monotonic() - began)


def prefetching(part: Part, budget: int) -> int:
    """The fewest faults of a pager that brings in what a turn wants before it is asked for, as far as that fits.

    No demand pager is better: within a turn what it hits was there when the turn began, or faulted in it.
    """
    seen: set[int] = set()
    missed = 0
    for turn in part.turns():
        seen.update(ref.page for ref in turn.new)
        sizes = {ref.page: ref.tokens for ref in turn.refs}
        room = budget
        for tokens in sorted(tokens for page, tokens in sizes.items() if page in seen):
            room -= tokens
            if room < 0:
                break
            missed -= 1
        missed += len(sizes)
        seen.update(sizes)
    return missed


def cost(part: Part, budget: int, limit_s: float = TIME_LIMIT_S) -> Bound:
    """The least cost in prefilled tokens, see the module's text."""
    began = time.monotonic()
    found = intervals(part, budget)
    rate = KEEP * GENERATED
    gains = []
    for start, end in zip(found.starts, found.ends, strict=True):
        size, gap = found.sizes[start], found.turns[end] - found.turns[start]
        gains.append(size - rate * size * max(0, gap - 1))  # its own turn is paid in any case
    total = found.passing + found.own + sum(found.sizes[end] for end in found.ends)
    useful = [at for at, gain in enumerate(gains) if gain > 0]
    if len(useful) > INTERVALS_MAX:
        return Bound(total - _pfoo(found, budget, gains), "pfoo", time.monotonic() - began)
    gained, how = _program(found, budget, gains, limit_s)
    return Bound(total - gained, how, time.monotonic() - began)


def _program(found: Intervals, budget: int, gains: list[float], limit_s: float) -> tuple[float, Kind]:
    """The largest sum of gains of intervals that fit together, and whether it is exact or an upper bound.

    A row for each place that is tighter than those after it up to the next end of an interval; the others follow from
    it. Where that makes too large a program the occupancy of each place is a variable, which is sparse but gives the
    solver no knapsacks to cut, and only the linear relaxation is solved.
    """
    _scipy()
    room = _room(found, budget)
    width = {at: found.ends[at] - found.starts[at] for at, gain in enumerate(gains) if gain > 0}
    sure = sum(gains[at] for at, places in width.items() if places == 1)  # nothing stands between both references
    chosen = [at for at, places in width.items() if places > 1]
    if not chosen:
        return sure, "integer"
    value = np.array([gains[at] for at in chosen])
    sizes = np.array([found.sizes[found.starts[at]] for at in chosen], dtype=np.float64)
    first = np.array([found.starts[at] + 1 for at in chosen])  # kept from here
    after = np.array([found.ends[at] for at in chosen])  # up to before here
    places = _tight(room, np.unique(after), int(first.min()))
    if int((np.searchsorted(places, after) - np.searchsorted(places, first)).sum()) > ENTRIES_MAX:
        return sure + _relaxed(value, sizes, first, after, room), "relaxed"
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    columns = [np.flatnonzero((first <= place) & (place < after)) for place in places]
    full = [(column, room[place]) for column, place in zip(columns, places, strict=True)]
    full = [(column, cap) for column, cap in full if sizes[column].sum() > cap]
    if not full:
        return sure + float(value.sum()), "integer"
    indices = np.concatenate([column for column, _ in full])
    starts = np.cumsum([0] + [len(column) for column, _ in full])
    matrix = csr_array((sizes[indices], indices, starts), shape=(len(full), len(chosen)))
    caps = np.maximum(0.0, [cap for _, cap in full])
    with _quiet():
        result = milp(
            -value,
            integrality=np.ones(len(chosen)),
            bounds=Bounds(0, 1),
            constraints=LinearConstraint(matrix, -np.inf, caps),
            options={"time_limit": limit_s, "mip_rel_gap": 1e-6},
        )
    if result.status == 0:
        return sure + float(-result.fun), "integer"
    bound = result.mip_dual_bound
    if bound is None or not math.isfinite(bound):
        return sure + _relaxed(value, sizes, first, after, room), "relaxed"
    return sure + float(-bound), "dual"


def relaxed(found: Intervals, budget: int, gains: list[float]) -> float:
    """The linear relaxation's sum of gains: what no set of intervals that fits exceeds."""
    value = np.array(gains)
    sizes = np.array([found.sizes[start] for start in found.starts], dtype=np.float64)
    first, after = np.array(found.starts, dtype=np.int64) + 1, np.array(found.ends, dtype=np.int64)
    open_ = first < after
    sure = float(value[~open_].sum())
    if not open_.any():
        return sure
    return sure + _relaxed(value[open_], sizes[open_], first[open_], after[open_], _room(found, budget))


def _tight(room: Floats, ends: Ints, least: int) -> Ints:
    """Places that are tighter than each later one before the next end."""
    found: list[int] = []
    before = least
    for end in ends.tolist():
        lowest = math.inf
        kept = []
        for place in range(end - 1, before - 1, -1):
            if room[place] < lowest:
                lowest = room[place]
                kept.append(place)
        found += reversed(kept)
        before = max(before, end)
    return np.array(found, dtype=np.int64)


def _relaxed(value: Floats, sizes: Floats, first: Ints, after: Ints, room: Floats) -> float:
    """The linear relaxation's optimum: occupancy at a place is that before it, and what begins, less what ends."""
    from scipy.optimize import linprog
    from scipy.sparse import csr_array, hstack

    places, count = np.unique(np.concatenate([first, after])), len(value)
    upto = np.append(places[1:], len(room))
    caps = [max(0.0, float(room[a:b].min())) if a < b else math.inf for a, b in zip(places, upto, strict=True)]
    rows, ones = len(places), np.ones(len(places))
    which = np.arange(count)
    moves = csr_array((sizes, (np.searchsorted(places, after), which)), shape=(rows, count)) - csr_array(
        (sizes, (np.searchsorted(places, first), which)), shape=(rows, count)
    )
    occupied = csr_array((ones, (np.arange(rows), np.arange(rows))), shape=(rows, rows)) - csr_array(
        (ones[1:], (np.arange(1, rows), np.arange(rows - 1))), shape=(rows, rows)
    )
    with _quiet():
        result = linprog(
            np.concatenate([-value, np.zeros(rows)]),
            A_eq=hstack([moves, occupied]).tocsr(),
            b_eq=np.zeros(rows),
            bounds=[(0.0, 1.0)] * count + [(0.0, cap) for cap in caps],
            method="highs",
        )
    return float(-result.fun)


def _scipy() -> None:
    """Raises BadInput if scipy is not installed."""
    if importlib.util.find_spec("scipy") is None:
        raise BadInput("the optimum needs scipy: pip install 'llmos[bench]'; or leave it out with --no-bounds")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """HiGHS writes to the process's standard output in some cases, which would tear JSON."""
    sys.stdout.flush()
    kept = os.dup(1)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(sink)


def _room(found: Intervals, budget: int) -> Floats:
    """What each place leaves for kept pages: the budget less the page that must be there, less what is pinned."""
    room = budget - np.array(found.sizes, dtype=np.float64)
    for place, tokens in found.pinned:
        room[place + 1 :] -= tokens
    return room


def pfoo(found: Intervals, budget: int) -> int:
    """PFOO-L (Berger, Beckmann and Harchol-Balter 2018): a lower bound on faults in O(n log n).

    Intervals are taken by tokens * length until the space-time of the whole string is spent.
    """
    return math.ceil(found.references - _pfoo(found, budget, [1.0] * len(found.starts)) - 1e-6)


def _pfoo(found: Intervals, budget: int, gains: list[float]) -> float:
    area = float(_room(found, budget).clip(min=0).sum())
    costs = [
        (found.sizes[start] * (end - start - 1), gain)
        for start, end, gain in zip(found.starts, found.ends, gains, strict=True)
        if gain > 0
    ]
    costs.sort(key=lambda item: item[0] / item[1])
    total = 0.0
    for space, gain in costs:
        if space > area:
            return total + gain * area / space
        area -= space
        total += gain
    return total


def belady(part: Part, budget: int) -> int:
    """Faults of Belady's MIN: the page wanted furthest in the future goes. Optimal if all pages have one size."""
    uses: dict[int, deque[int]] = {}
    string: list[tuple[int, int, bool]] = []
    for turn in part.turns():
        for wanted, refs in ((False, turn.new), (True, turn.refs)):
            for ref in refs:
                if wanted:
                    uses.setdefault(ref.page, deque()).append(len(string))
                string.append((ref.page, ref.tokens, wanted))
    never = len(string)
    heap: list[tuple[int, int]] = []
    resident: dict[int, tuple[int, int]] = {}  # page -> next use, tokens
    used = missed = 0
    for place, (page, tokens, wanted) in enumerate(string):
        ahead = uses.get(page)
        while ahead and ahead[0] <= place:
            ahead.popleft()
        following = ahead[0] if ahead else never
        if page in resident:
            resident[page] = (following, resident[page][1])
            heapq.heappush(heap, (-following, page))
            continue
        missed += wanted
        if tokens > budget:
            continue
        while used + tokens > budget:
            far, victim = heapq.heappop(heap)
            if victim in resident and resident[victim][0] == -far and (victim not in part.pins):
                used -= resident.pop(victim)[1]
        resident[page] = (following, tokens)
        used += tokens
        heapq.heappush(heap, (-following, page))
    return missed


def brute(found: Intervals, budget: int) -> int:
    """The fewest faults by trying every set of intervals: for tests, on strings of a few references."""
    best = 0
    room = _room(found, budget)
    for chosen in range(1 << len(found.starts)):
        if chosen.bit_count() <= best:
            continue
        left = room.copy()
        for at, (start, end) in enumerate(zip(found.starts, found.ends, strict=True)):
            if chosen >> at & 1:
                left[start + 1 : end] -= found.sizes[start]
        if left.min(initial=0.0) >= 0:
            best = chosen.bit_count()
    return found.references - best
