"""`llmos bench crash`: is anything that was acknowledged lost, or done twice, wherever the machine dies?

For each seed a workload runs without faults, and every passing of every failpoint is counted. Then it runs again and
again on a fresh directory, and is killed with SIGKILL at the first, the second, the last and ten seeded passings of
each point, started again, and led to its end; in every fifth run the machine that recovers is killed once more. Beside
the kills each point is passed once with a full disk (enospc), a failing one (eio) and a slow one (delay); once the kill
also tears the index's log and takes the host down (torn); and once the disk is one that syncs nothing (`disk.sync=off`)
and the power goes, so that the last transactions vanish (power): then what was acknowledged may be lost, and what is
left must be whole.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from typing import Final

import msgspec

from bench.crash.judge import Verdict, judge
from bench.crash.life import Client, live
from bench.crash.sabotage import SABOTAGES, Sabotage
from bench.crash.workload import KINDS, Kind, Workload, workload
from drivers.disk.left import LEFT
from drivers.disk.seal import boot_of_host
from drivers.index.fused import STAMP
from drivers.index.ranking import Embedder
from kernel.errors import BadInput
from kernel.failpoint import POINTS
from llmos.commands import output

ALL: Final = tuple(point for point in POINTS if not point.startswith("act"))
"""Where the workloads pass: they use no tools, whose points tests/drivers/test_mcp.py passes."""
SEEDED: Final = 10  # passings of a point besides the first, the second and the last
LIVES_MAX: Final = 6
SHOWN: Final = 20  # findings in the result
EXTRA: Final = ("enospc", "eio", "delay", "torn", "power")


class Run(msgspec.Struct, frozen=True):
    """One run: what is armed in its first life, and in its second."""

    kind: Kind
    seed: int
    point: str
    action: str  # kill, or one of EXTRA
    passing: int
    again: str = ""  # armed in the second life

    @property
    def name(self) -> str:
        """How it is called in findings; what it takes to see it again."""
        return f"{self.kind}/{self.seed} {self.point}={self.action}@{self.passing}" + (
            f", then {self.again}" if self.again else ""
        )


class Judged(msgspec.Struct):
    """A run's verdict, and how many lives it took."""

    run: Run
    verdict: Verdict
    lives: int
    died: int  # lives that ended as they were armed to


class Campaign(msgspec.Struct):
    """The result. The first five are the promise; `unreached` names points that no faultless run passed."""

    runs: int = 0
    lost: int = 0
    duplicated: int = 0
    hash_mismatch: int = 0
    unrecovered: int = 0
    died: int = 0
    points: int = 0
    unreached: list[str] = []
    findings: list[str] = []
    seeds: int = 0
    sabotage: str = ""
    seconds: float = 0.0


class Plain(msgspec.Struct):
    """A faultless run: how often each point was passed, and the state it came to."""

    passings: dict[str, int]
    logical: str
    verdict: Verdict


_embedder: Embedder | None = None


def _embed() -> Embedder:
    """One embedder for all lives: they are forks of who has loaded it."""
    global _embedder
    if _embedder is None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # no threads, that a fork would lose
        from drivers.embed.wordllama import WordLlamaEmbedder

        _embedder = WordLlamaEmbedder()
        _embedder.embed(["warm"])
    return _embedder


def plain(work: Workload, sabotage: Sabotage = "") -> Plain:
    """Run a workload without faults."""
    with tempfile.TemporaryDirectory(prefix="llmos-crash-") as name:
        client = Client()
        ended = live(Path(name), work, client, 1, "", _embed(), sabotage)
        verdict = judge(Path(name), work, client) if ended.done else Verdict(unrecovered=[ended.error])
        return Plain(ended.passings, verdict.logical, verdict)


def perform(run: Run, reference: str, sabotage: Sabotage = "") -> Judged:
    """Do one run, on a directory of its own."""
    work = workload(run.kind, run.seed)
    client, rng = Client(), Random(run.name)
    died = lives = 0
    folder = Path(tempfile.mkdtemp(prefix="llmos-crash-"))
    try:
        action = "kill" if run.action in ("torn", "power") else run.action
        armed = [f"{run.point}={action}@{run.passing}", run.again]
        done, error = False, ""
        while not done and lives < LIVES_MAX:
            life = armed[lives] if lives < len(armed) else ""
            lives += 1
            unsynced = run.action == "power" and lives == 1
            ended = live(folder, work, client, lives, life, _embed(), sabotage, unsynced=unsynced)
            done, error = ended.done, ended.error
            if not done and not life:
                break
            died += not done
            if ended.killed and run.action in ("torn", "power"):
                _tear(folder, rng)
            if unsynced:
                client = Client()  # what it was told may be gone; it begins anew
        if not done:
            return Judged(run, Verdict(unrecovered=[error or "it was killed where nothing was armed"]), lives, died)
        # A disk that loses commits has another history; an index that fails answers late, as it may, and not the same.
        failing = run.action in ("enospc", "eio") and run.point.startswith("index.")
        exact = run.kind == "confluent" and run.action != "power" and not failing
        return Judged(
            run, judge(folder, work, None if run.action == "power" else client, reference if exact else ""), lives, died
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _tear(folder: Path, rng: Random) -> None:
    """What a host that goes down with the kernel may leave: an index's log cut anywhere, and no note of a boot."""
    (folder / LEFT).unlink(missing_ok=True)
    stamp = folder / STAMP
    if stamp.exists():
        stamp.write_text(stamp.read_text().replace(boot_of_host(), "the boot before"))
    log = folder / "index.sqlite-wal"
    if log.exists() and log.stat().st_size:
        os.truncate(log, rng.randrange(log.stat().st_size))
    (folder / "index.sqlite-shm").unlink(missing_ok=True)


def plan(kind: Kind, seed: int, passings: dict[str, int], points: Sequence[str]) -> Iterator[Run]:
    """The runs of a workload."""
    rng = Random(f"plan/{kind}/{seed}")
    for point in points:
        most = passings.get(point, 0)
        if not most:
            continue
        chosen = {1, min(2, most), most} | {rng.randint(1, most) for _ in range(SEEDED)}
        for passing in sorted(chosen):
            again = ""
            if rng.random() < 0.2:
                other = rng.choice(["boot.before", "boot.after", "commit.after", "commit.inside", "index.apply.after"])
                again = f"{other}=kill@{1 if other.startswith('boot') else rng.randint(1, 3)}"
            yield Run(kind, seed, point, "kill", passing, again)
        for action in EXTRA:
            yield Run(kind, seed, point, action, rng.randint(1, most))


def campaign(
    points: Sequence[str], seeds: Sequence[int], jobs: int, sabotage: Sabotage = "", limit: int = 0, show: bool = True
) -> Campaign:
    """All runs of all seeds. `limit`: at most so many of them, drawn from all; `show`: progress on stderr."""
    began = time.monotonic()
    found = Campaign(points=len(points), seeds=len(seeds), sabotage=sabotage)
    _embed()
    runs: list[tuple[Run, str]] = []
    passed: set[str] = set()
    for seed in seeds:
        for kind in KINDS:
            first = plain(workload(kind, seed))
            passed |= {point for point, n in first.passings.items() if n}
            _count(found, f"{kind}/{seed} without faults", first.verdict)
            runs += [(run, first.logical) for run in plan(kind, seed, first.passings, points)]
    found.unreached = [point for point in points if point not in passed]
    if limit and len(runs) > limit:
        runs = Random(f"limit/{limit}").sample(runs, limit)
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        for judged in pool.map(_perform, [(run, hash_, sabotage) for run, hash_ in runs], chunksize=4):
            found.runs += 1
            found.died += judged.died
            _count(found, judged.run.name, judged.verdict)
            if (
                show
                and (found.runs % 20 == 0 or found.runs == len(runs))
                and sys.stderr.isatty() | (found.runs % 200 == 0)
            ):
                bad = found.lost + found.duplicated + found.hash_mismatch + found.unrecovered
                output.show(f"  {found.runs} of {len(runs)} runs, {bad} findings", error=True)
    found.seconds = round(time.monotonic() - began, 1)
    return found


def _perform(what: tuple[Run, str, Sabotage]) -> Judged:
    return perform(*what)


def _count(found: Campaign, name: str, verdict: Verdict) -> None:
    found.lost += bool(verdict.lost)
    found.duplicated += bool(verdict.duplicated)
    found.hash_mismatch += bool(verdict.hash_mismatch)
    found.unrecovered += bool(verdict.unrecovered)
    for what in ("lost", "duplicated", "hash_mismatch", "unrecovered"):
        for finding in getattr(verdict, what):
            if len(found.findings) < SHOWN:
                found.findings.append(f"{name}: {what}: {finding}")


def run(points: str, seeds: int, sabotage: str, limit: int, jobs: int, as_json: bool) -> int:
    """`llmos bench crash`: exit status 0 if nothing was found, or if a sabotage was noticed."""
    chosen = list(ALL) if points == "all" else [one.strip() for one in points.split(",")]
    unknown = [one for one in chosen if one not in POINTS]
    if unknown:
        raise BadInput(f"--points {unknown[0]}: no such failpoint; there are all, {', '.join(POINTS)}")
    if sabotage and sabotage not in SABOTAGES:
        raise BadInput(f"--sabotage {sabotage}: no such one; there are {', '.join(SABOTAGES)}")
    found = campaign(chosen, range(1, seeds + 1), jobs or os.cpu_count() or 1, sabotage, limit)  # type: ignore[arg-type]
    bad = found.lost + found.duplicated + found.hash_mismatch + found.unrecovered
    if as_json:
        output.show(json.dumps(msgspec.to_builtins(found)))
    else:
        for name, value in msgspec.to_builtins(found).items():
            if name != "findings":
                output.show(f"{name:14} {', '.join(value) if isinstance(value, list) else value}")
        for finding in found.findings:
            output.show(f"  {finding}")
    return int(bool(bad) != bool(sabotage))
