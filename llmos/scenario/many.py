"""Many runs of a scenario in virtual time: by seeds and settings, several at a time, and what comes of them in numbers.

Guarantee: an outcome is a function of the scenario, its settings and the seed, however many runs are made at a time.
Runs that a file of outcomes has are not made again; a line of it that was cut off is made anew.
Not here: one run (virtual.py), what is changed to find what breaks (fuzz.py), tables (llmos/commands/scenario.py).
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import multiprocessing
import os
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from drivers.host import cores
from kernel.errors import BadInput, KernelError
from kernel.limits import NS
from llmos import policies
from llmos.intervals import Interval, bootstrap, wilson
from llmos.scenario.format import Scenario, draws
from llmos.scenario.reading import check
from llmos.scenario.virtual import played

RUNS_MAX: Final = 100_000
SEED_MAX: Final = 1 << 53

Told = Callable[[int, int, int], None]
"""Progress: runs that are made, of how many, and how many of them broke."""


class Case(msgspec.Struct, frozen=True):
    """One run to be made."""

    settings: tuple[str, ...]
    seed: int


class Outcome(msgspec.Struct, frozen=True):
    """What became of one run. `index` is that of the first expectation that broke, -1 if it died of something else."""

    settings: tuple[str, ...]
    seed: int
    ok: bool
    hash: str = ""
    index: int = -1
    why: str = ""
    said: str = ""
    events: int = 0
    p50_s: float | None = None  # from a message to its first reply; None: nothing was replied to
    p99_s: float | None = None
    unanswered: int = 0


class _Kept(msgspec.Struct, frozen=True):
    """A line of a file of outcomes: whose, and what became of it."""

    key: str
    outcome: Outcome


class Row(msgspec.Struct, frozen=True):
    """What became of all runs with the same settings; `played` of them were made, the others are the same runs."""

    settings: tuple[str, ...]
    runs: int
    played: int
    held: int
    held_ci95: Interval
    reply_p50_s: float | None  # means over runs
    reply_p50_ci95: Interval | None
    reply_p99_s: float | None
    reply_p99_ci95: Interval | None
    unanswered: int
    broke: tuple[Outcome, ...]


def seeds(text: str) -> tuple[int, ...]:
    """Seeds as they are given: "1-100", "1,5,9-12". Raises BadInput."""
    found: dict[int, None] = {}
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,16})(?:-(\d{1,16}))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last <= SEED_MAX or last - first >= RUNS_MAX:
            raise BadInput(f"--seeds {text[:80]}: give seeds such as 1-100 or 1,5,9-12, at most {RUNS_MAX} of them")
        found |= dict.fromkeys(range(first, last + 1))
    return tuple(found)


def grid(changes: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Each combination of settings of which some have several values: "sched.policy=rr,fair"."""
    options = []
    for change in changes:
        key, equals, values = change.partition("=")
        options.append([f"{key}{equals}{value}" for value in values.split(",")])
    return tuple(itertools.product(*options))


def with_settings(scenario: Scenario, settings: tuple[str, ...]) -> Scenario:
    """A scenario whose machine has other settings, too. Raises BadInput if it cannot have them."""
    for change in settings:  # what somebody typed, and no scenario's file: it is run
        key, _, value = change.partition("=")
        if key == "memory.policy" and policies.is_own(value):
            policies.use(policies.read(value))
    return check(_set(scenario, settings), f"--set {' '.join(settings)}") if settings else scenario


def _set(scenario: Scenario, settings: tuple[str, ...]) -> Scenario:
    machine = msgspec.structs.replace(scenario.machine, set=(*scenario.machine.set, *settings))
    return msgspec.structs.replace(scenario, machine=machine)


def outcome(scenario: Scenario, case: Case) -> Outcome:
    """Make a run of a scenario that has been checked.

    Raises BadInput if the machine cannot be; what else it dies of is an outcome.
    """
    try:
        ran = played(_set(scenario, case.settings), case.seed)
    except KernelError:
        raise
    except Exception as exc:
        said = f"the kernel died: {type(exc).__name__}: {exc}"
        return Outcome(case.settings, case.seed, False, why="died", said=said[:400])
    waited = sorted(one / NS for one in ran.waited)
    p50, p99 = (waited[min(len(waited) - 1, int(share * len(waited)))] if waited else None for share in (0.5, 0.99))
    found = Outcome(
        case.settings, case.seed, ran.ok, ran.hash, events=ran.events, p50_s=p50, p99_s=p99, unanswered=ran.unanswered
    )
    if ran.ok:
        return found
    first = ran.failed[0]
    return msgspec.structs.replace(found, index=first.index, why=first.why, said=first.said)


def run(scenario: Scenario, cases: Sequence[Case], jobs: int, out: Path | None, told: Told) -> list[Outcome]:
    """Make runs, `jobs` at a time (0: one a core), with `out` for outcomes that were made before and are made now.

    Of seeds that change nothing one is played. Raises BadInput if a machine cannot be, or `out` cannot be written.
    """
    if len(cases) > RUNS_MAX:
        raise BadInput(f"{len(cases)} runs; at most {RUNS_MAX} are made at once")
    for settings in dict.fromkeys(case.settings for case in cases):
        with_settings(scenario, settings)
    keys = {case: _key(scenario, case) for case in cases}
    found = _read(out, set(keys.values())) if out is not None else {}
    alike: dict[tuple[str, ...], Case] = {}  # of each combination of settings the one that is played for all
    if not draws(scenario):
        for case in cases:
            if keys[case] in found or case.settings not in alike:
                alike[case.settings] = case
    wanted = [case for case in cases if keys[case] not in found and alike.get(case.settings, case) == case]
    broke = sum(not one.ok for one in found.values())
    for n, one in enumerate(_made(scenario, wanted, jobs or cores()), 1):
        key = keys[Case(one.settings, one.seed)]
        found[key] = one
        broke += not one.ok
        if out is not None:
            _append(out, _Kept(key, one))
        told(n, len(wanted), broke)
    return [
        found[keys[case]]
        if keys[case] in found
        else msgspec.structs.replace(found[keys[alike[case.settings]]], seed=case.seed)
        for case in cases
    ]


def rows(scenario: Scenario, outcomes: Sequence[Outcome]) -> list[Row]:
    """Outcomes by settings, in the order of the first of each."""
    by: dict[tuple[str, ...], list[Outcome]] = {}
    for one in outcomes:
        by.setdefault(one.settings, []).append(one)
    found = []
    for settings, ones in by.items():
        played = ones if draws(scenario) else ones[:1]
        (p50, p50_ci), (p99, p99_ci) = (
            _mean([value for one in played if (value := getattr(one, name)) is not None]) for name in ("p50_s", "p99_s")
        )
        found.append(
            Row(
                settings,
                len(ones),
                len(played),
                sum(one.ok for one in ones),
                wilson(sum(one.ok for one in played), len(played)),
                p50,
                p50_ci,
                p99,
                p99_ci,
                sum(one.unanswered for one in played),
                tuple(one for one in ones if not one.ok),
            )
        )
    return found


def ranges(numbers: Sequence[int], most: int = 8) -> str:
    """Seeds in few words: 3, 7-12 and 5 more."""
    spans: list[list[int]] = []
    for one in sorted(numbers):
        if spans and one == spans[-1][1] + 1:
            spans[-1][1] = one
        else:
            spans.append([one, one])
    said = ", ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in spans[:most])
    left = sum(high - low + 1 for low, high in spans[most:])
    return f"{said} and {left} more" if left else said


def _mean(values: list[float]) -> tuple[float | None, Interval | None]:
    return (statistics.fmean(values), bootstrap(values, 0)) if values else (None, None)


def _made(scenario: Scenario, cases: Sequence[Case], jobs: int) -> Iterator[Outcome]:
    """Outcomes as they come."""
    if jobs <= 1 or len(cases) <= 1:
        yield from (outcome(scenario, case) for case in cases)
        return
    with workers(min(jobs, len(cases)), scenario) as pool:
        for done in as_completed([pool.submit(_work, case) for case in cases]):
            yield done.result()


@contextmanager
def workers(jobs: int, scenario: Scenario) -> Iterator[ProcessPoolExecutor]:
    """Processes that know the scenario; what they have not begun when the context ends is left."""
    gc.collect()
    gc.freeze()  # what all of them share is looked at no more
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else None)
    with ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=(scenario,)) as pool:
        try:
            yield pool
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_scenario: Scenario  # of a worker


def given() -> Scenario:
    """The scenario, in a process of `workers`."""
    return _scenario


def _begin(scenario: Scenario) -> None:
    global _scenario
    _scenario = scenario


def _work(case: Case) -> Outcome:
    return outcome(_scenario, case)


def _key(scenario: Scenario, case: Case) -> str:
    """What a run is, in a word: equal ones have equal outcomes."""
    whole: Any = (scenario, case)
    return hashlib.blake2b(msgspec.msgpack.encode(whole), digest_size=16).hexdigest()


def _read(path: Path, wanted: set[str]) -> dict[str, Outcome]:
    """The outcomes of a file that are wanted, none if there is no file. Raises BadInput for another file."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    found: dict[str, Outcome] = {}
    for n, line in enumerate(lines, 1):
        try:
            kept = msgspec.json.decode(line, type=_Kept)
        except msgspec.DecodeError as exc:
            if n == len(lines):  # cut off
                break
            raise BadInput(f"--out {path}: line {n} is no outcome of a run; name a new file") from exc
        if kept.key in wanted:
            found[kept.key] = kept.outcome
    return found


def _append(path: Path, kept: _Kept) -> None:
    """Add a line; one that was cut off before it ends there."""
    with path.open("ab+") as file:
        if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            file.seek(0)
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)
        file.write(msgspec.json.encode(kept) + b"\n")
