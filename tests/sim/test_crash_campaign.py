"""A part of the crash campaign (`make crash` runs all of it), and the broken kernels that it must notice."""

import os
from pathlib import Path

import pytest

from bench.crash.run import ALL, campaign, plan
from bench.crash.sabotage import SABOTAGES
from bench.crash.workload import workload
from drivers.host import cores
from kernel import failpoint
from kernel.errors import BadInput
from kernel.failpoint import POINTS

RUNS = 70
NOTICED = {  # what each sabotage must be reported as, and where the machine is killed for it
    "ack-before-commit": ("lost", ["answer.before", "perform.after", "publish.after", "commit.before"]),
    "apply-twice": ("duplicated", ["commit.after"]),
    "skip-outbox": ("lost", ["publish.before", "perform.before"]),
    "stale-index": ("lost", ["index.apply.before", "commit.inside"]),
}


@pytest.fixture(autouse=True)
def _in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill leaves a file as the host has it, synced or not: where the host can, its memory is faster."""
    if os.access("/dev/shm", os.W_OK):
        monkeypatch.setattr("tempfile.tempdir", "/dev/shm")


@pytest.mark.slow
def test_nothing_is_lost_wherever_the_machine_is_killed() -> None:
    found = campaign(list(ALL), [11], cores(), limit=RUNS, show=False)
    assert found.findings == []
    assert (found.lost, found.duplicated, found.hash_mismatch, found.unrecovered) == (0, 0, 0, 0)
    assert (found.runs, found.unreached) == (RUNS, [])
    assert found.died > RUNS // 2


@pytest.mark.slow
@pytest.mark.parametrize("sabotage", SABOTAGES)
def test_a_kernel_that_is_broken_on_purpose_is_noticed(sabotage: str) -> None:
    what, points = NOTICED[sabotage]
    found = campaign(points, [12], cores(), sabotage, limit=16, show=False)  # type: ignore[arg-type]
    assert getattr(found, what) > 0, found.findings


def test_the_plan_passes_each_point_first_second_last_and_at_ten_seeded_places() -> None:
    runs = list(plan("mixed", 1, {"commit.before": 60, "boot.before": 1}, ["commit.before", "boot.before"]))
    kills = [run.passing for run in runs if run.point == "commit.before" and run.action == "kill"]
    assert {1, 2, 60} < set(kills)
    assert 8 < len(kills) <= 13
    assert [run.passing for run in runs if run.point == "boot.before" and run.action == "kill"] == [1]
    assert workload("mixed", 1) == workload("mixed", 1)


def test_failpoints_are_named_once_each_and_armed_by_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [path.read_text() for folder in ("kernel", "drivers") for path in Path(folder).rglob("*.py")]
    for point in POINTS:
        assert sum(source.count(f'passing("{point}")') for source in sources) == 1, point
    with pytest.raises(BadInput, match="no failpoint 'nowhere'"):
        failpoint.arm("nowhere=kill")
    with pytest.raises(BadInput, match="NAME=ACTION@N"):
        failpoint.arm("commit.before=explode@1")
    try:
        failpoint.arm("commit.before=enospc@2")
        failpoint.passing("commit.before")
        with pytest.raises(OSError, match="No space left on device"):
            failpoint.passing("commit.before")
        failpoint.passing("commit.before")
    finally:
        failpoint.arm("")
        failpoint.passing("commit.before")
