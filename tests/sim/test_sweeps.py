"""Sweeps of `llmos bench paging`: any subset, gone on with, on a cluster; their intervals, files and pictures."""

import csv
import functools
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from bench.paging import bounds, field, pictures, plan, report, results, simulator, work, workloads
from bench.paging.results import Kept, Table
from bench.paging.run import Cell, Strand, cell
from bench.paging.simulator import Options
from bench.paging.trace import Part, Ref, Turn
from kernel.errors import BadInput
from llmos.commands.app import status
from llmos.intervals import Draws, between, tie

SMALL = ("--policy", "lru,fifo", "--budget", "1k,2k", "--jobs", "1")


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path_factory.getbasetemp() / "home"))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over a workload and two budgets, with bounds."""
    folder = tmp_path_factory.mktemp("swept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMOS_HOME", str(tmp_path_factory.getbasetemp() / "home"))
        words = ["--workload", "own", *SMALL, "--sweep", str(folder / "a"), "--out", str(folder / "a.json")]
        assert status(["bench", "paging", *words]) == 0
    return folder


def test_budgets_are_tokens_with_or_without_a_unit_and_else_one_line() -> None:
    assert plan.listed("4096, 4k,3K,10m", plan.tokens) == (4096, 3072, 10 * 1024**2)
    for wrong in ("0", "0m", "4g", "-1", "1.5k", "m", "4 k"):
        with pytest.raises(BadInput, match="^--budget .*: give tokens, such as 4096, 4k, 1m"):
            plan.tokens(wrong)


@functools.cache
def one() -> Cell:
    loaded = workloads.load("own", None, 1, 1024)
    plain = cell(loaded, "lru", 1024, Options(1.0, 0.0, "perfect"), 1, None)
    return msgspec.structs.replace(plain, headroom_closed=0.5, cost_ratio=1.5, bound="integer", cost_bound="integer")


def made(workload: str, hits: dict[str, dict[float, float]], strings: int = 6, seed: int = 1) -> list[Cell]:
    """Cells by policy and mark, of strings of 100 references that all have the same hits."""
    return [
        msgspec.structs.replace(
            one(),
            workload=workload,
            policy=policy,
            low_water=low,
            path="area",
            seed=seed,
            references=100 * strings,
            faults=round(100 * strings * (1 - hit)),
            hit=hit,
            opt_hit=1.0,
            limit_hit=1.0,
            strings=tuple(Strand(f"s{at}", 100, round(100 * (1 - hit)), 0.0, 0.0) for at in range(strings)),
        )
        for policy, row in hits.items()
        for low, hit in row.items()
    ]


def test_any_subset_is_every_combination_of_what_is_listed(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    words = ["--workload", "own,synthetic/loop", "--policy", "lru,fifo", "--budget", "1k,2000", "--seed", "1-2"]
    more = ["--low-water", "0.5,1", "--no-bounds", "--jobs", "1", "--out", str(out)]
    assert status(["bench", "paging", *words, *more]) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    seen = {(row["workload"], row["policy"], row["budget"], row["low_water"]) for row in rows}
    assert len(rows) == len(seen) == 2 * 2 * 2 * 2
    assert {row["budget"] for row in rows} == {"1024", "2000"}
    assert {row["seeds"] for row in rows} == {"1 2"}
    assert {row["path"] for row in rows if row["workload"] == "own"} == {"area"}


def test_a_sweep_that_was_cut_goes_on_and_is_widened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []
    plain = simulator.run
    monkeypatch.setattr(simulator, "run", lambda part, *rest: counted.append(part.name) or plain(part, *rest))
    folder = tmp_path / "swept"
    words = ["bench", "paging", "--workload", "own", *SMALL, "--no-bounds", "--sweep", str(folder)]
    assert status(words) == 0
    whole = (folder / "cells.jsonl").read_bytes()
    first = len(counted)
    assert first == 4 * 3
    rows = list(csv.DictReader((folder / "cells.csv").read_text().splitlines()))
    cut = whole.splitlines(keepends=True)
    (folder / "cells.jsonl").write_bytes(cut[0] + cut[1] + cut[2][:100])  # the power went
    assert status(words) == 0
    assert len(counted) == first + 2 * 3, "two cells were there"
    again = list(csv.DictReader((folder / "cells.csv").read_text().splitlines()))
    timed = ("seconds", "requests_per_s")
    assert [{k: v for k, v in row.items() if k not in timed} for row in again] == [
        {k: v for k, v in row.items() if k not in timed} for row in rows
    ]
    assert status([*words[:4], "--policy", "lru,fifo,clock", *SMALL[2:], "--no-bounds", "--sweep", str(folder)]) == 0
    assert len(counted) == first + 2 * 3 + 2 * 3, "only what is new"
    assert len(results.read(folder)) == 6
    capsys.readouterr()
    assert status([*words, "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["policy"], row["budget"]) for row in told] == [
        ("lru", 1024),
        ("fifo", 1024),
        ("lru", 2048),
        ("fifo", 2048),
    ]


def test_a_string_without_references_has_no_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "a.jsonl"
    trace.write_text('{"new":[[1,5,"message"]]}\n{"new":[[2,5,"message"]]}\n')
    assert status(["bench", "paging", "--workload", str(trace), "--policy", "lru,fifo", "--budget", "8", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["references"], row["hit_ci95"], row["tie"]) for row in rows] == [(0, None, True)] * 2


def test_an_edited_policy_of_ones_own_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.mine import SOURCE

    monkeypatch.chdir(tmp_path)
    words = ["bench", "paging", "--workload", "own", "--policy", "mine.py:Mine", "--no-bounds", "--sweep", "out"]
    Path("mine.py").write_text(SOURCE)
    assert status(words) == 0
    Path("mine.py").write_text(SOURCE.replace("[page][1])", "[page][1] * -1)"))
    assert status(words) == 0
    before, after = results.read(tmp_path / "out")
    assert before.faults != after.faults


def test_processes_make_what_one_makes(swept: Path, tmp_path: Path) -> None:
    words = ["--workload", "own", *SMALL[:4], "--jobs", "2", "--no-bounds", "--out", str(tmp_path / "b.json")]
    assert status(["bench", "paging", *words]) == 0
    alone, many = (results.read(path) for path in (swept / "a.json", tmp_path / "b.json"))
    assert [(one.policy, one.budget, one.faults, [s.stretches for s in one.strings]) for one in alone] == [
        (one.policy, one.budget, one.faults, [s.stretches for s in one.strings]) for one in many
    ]


def test_progress_is_told_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmos.commands import output

    monkeypatch.setattr(output, "TOLD_S", 0.0)
    assert status(["bench", "paging", "--workload", "own", *SMALL, "--no-bounds", "--sweep", str(tmp_path)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("4 cells in 2 jobs")
    assert "2 of 4 cells, the last of them own at 1,024, seed 1; about" in lines[1]
    assert "4 of 4 cells" in lines[2]


def test_the_files_of_a_sweep(swept: Path) -> None:
    assert {path.name for path in (swept / "a").iterdir()} >= {"cells.jsonl", "cells.csv", "report.md", "captions.md"}
    written = (swept / "a" / "report.md").read_text()
    assert "| own | 1,024 | lru |" in written
    assert "stretches" in written
    found = json.loads((swept / "a.json").read_bytes())
    assert len(found["cells"]) == 4
    table = Table(results.read(swept / "a"))
    assert [row.place for row in table.rows] == [("own", 1024)] * 2 + [("own", 2048)] * 2
    for row in table.rows:
        assert row.hit_ci95 is not None
        assert row.hit_ci95[0] < row.hit < row.hit_ci95[1]
        assert row.regret_ci95 is not None
        assert row.regret_ci95[0] < row.regret_pp < row.regret_ci95[1]
        assert (row.below_best_pp == 0) <= row.tie


def test_a_picture_has_bands_and_a_caption_that_says_all(swept: Path) -> None:
    pytest.importorskip("matplotlib")
    raw = (swept / "a" / "own.png").read_bytes()
    assert raw.startswith(b"\x89PNG")
    assert (swept / "a" / "own.pdf").read_bytes().startswith(b"%PDF")
    said = (swept / "a" / "captions.md").read_text()
    for wanted in ("search pager", "low-water mark 0.5", "path area", "bootstrap over", "below 0 is no error", "bound"):
        assert wanted in said
    table = Table(results.read(swept / "a"))
    shown = pictures.chosen(report.fitted(table.rows, (0.5,)), "own")
    assert list(shown) == ["lru", "fifo"]


def test_strings_are_drawn_and_those_of_one_source_together() -> None:
    cells = made("a", {"lru": {0.5: 0.5}})
    spread = [
        msgspec.structs.replace(s, faults=f) for s, f in zip(cells[0].strings, (0, 20, 40, 60, 80, 100), strict=True)
    ]
    (wide,) = Table([msgspec.structs.replace(cells[0], strings=tuple(spread))]).rows
    assert wide.over == "6 strings"
    assert wide.hit_ci95 is not None
    assert wide.hit_ci95[1] - wide.hit_ci95[0] > 0.4
    shuffled = tuple(strand for strand in spread for _ in range(20))  # twenty shuffles are no more evidence
    (again,) = Table([msgspec.structs.replace(cells[0], strings=shuffled)]).rows
    assert again.hit_ci95 == wide.hit_ci95
    (seeds,) = Table([msgspec.structs.replace(cells[0], strings=tuple(spread), seed=s) for s in (1, 2, 3)]).rows
    assert seeds.hit_ci95 == wide.hit_ci95
    assert seeds.seeds == (1, 2, 3)


def test_an_interval_covers_what_it_says() -> None:
    rng = random.Random(5)
    covered = 0
    for trial in range(200):
        n = [rng.randint(50, 150) for _ in range(30)]
        faults = [sum(rng.random() < 0.3 for _ in range(m)) for m in n]
        draws = Draws(30, trial)
        low, high = between(draws.sums(faults) / draws.sums(n))
        covered += low <= 0.3 <= high
    assert 180 <= covered <= 198


def test_a_difference_within_its_interval_is_a_tie() -> None:
    cells = made("a", {"lru": {0.5: 0.5}, "fifo": {0.5: 0.49}})
    (best, other) = Table(cells).rows
    assert (best.policy, other.policy) == ("lru", "fifo")
    assert not other.tie, "one point on each string is no chance"
    faults = (20, 80, 20, 80, 20, 86)
    mixed = msgspec.structs.replace(
        cells[1],
        strings=tuple(msgspec.structs.replace(s, faults=f) for s, f in zip(cells[1].strings, faults, strict=True)),
    )
    (_, other) = Table([cells[0], mixed]).rows
    assert other.tie
    assert "tie" in results.below(other)
    assert tie((-0.1, 0.1))
    assert not tie((0.1, 0.2))


def test_settings_are_fitted_on_the_other_workloads() -> None:
    cells = made("a", {"ours": {0.5: 0.5, 1.0: 0.6}, "lru": {0.5: 0.9, 1.0: 0.1}})
    cells += made("b", {"ours": {0.5: 0.5, 1.0: 0.6}, "lru": {0.5: 0.2, 1.0: 0.3}})
    table = Table(cells)
    found = report.fitted(table.rows, (0.5, 1.0))
    assert found["a", 1024]["lru"].hit == 0.1  # on b the mark 1.0 was better
    assert found["b", 1024]["lru"].hit == 0.2
    assert found["a", 1024]["ours"].hit == 0.6
    standing = report.standings(table, found)
    assert [one.policy for one in standing] == ["ours", "lru"]
    assert standing[0].regret_ci95 == (40.0, 40.0)
    assert [one.said for one in report.duels(table, found, "ours")] == ["won", "won"]
    assert "ours wins 2 of 2 cells" in report.report(cells)


def test_two_results_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    results.write(a, made("w", {"lru": {0.5: 0.5}, "fifo": {0.5: 0.4}}))
    results.write(b, made("w", {"lru": {0.5: 0.55}, "fifo": {0.5: 0.4}, "clock": {0.5: 0.1}}))
    assert status(["bench", "compare", str(a), str(b), "--json"]) == 0
    found = {one["before"]: one for one in json.loads(capsys.readouterr().out)["compared"]}
    assert set(found) == {"lru", "fifo"}
    assert (found["lru"]["said"], found["lru"]["difference_pp"]) == ("better", 5.0)
    assert found["lru"]["difference_ci95"] == [5.0, 5.0]
    assert found["fifo"]["said"] == "tie"
    for kind in ("csv", "md", "json"):
        out = tmp_path / f"out.{kind}"
        assert status(["bench", "compare", str(a), str(b), "--out", str(out)]) == 0
        assert "better" in out.read_text()
    results.write(b, made("w", {"mine.py:Mine": {1.0: 0.45}}))
    results.write(a, made("w", {"lru": {0.5: 0.5}}))
    (alone,) = report.compared(results.read(a), results.read(b))
    assert (alone.before, alone.after, alone.said) == ("lru", "mine.py:Mine", "worse")
    results.write(b, made("other", {"lru": {0.5: 0.45}}))
    for path, says in ((b, "nothing to compare"), (tmp_path / "c.json", "No such file")):
        assert status(["bench", "compare", str(a), str(path)]) == 2
        assert says in capsys.readouterr().err
    (tmp_path / "c.json").write_text('{"cells":[{"workload":1}]}')
    with pytest.raises(BadInput, match="no result of"):
        results.read(tmp_path / "c.json")


def test_nothing_is_better_than_the_prefetching_bound() -> None:
    rng = random.Random(3)
    for _ in range(15):
        sizes = [rng.randint(1, 40) for _ in range(12)]
        turns = []
        for _ in range(30):
            new = [Ref(page, sizes[page - 1]) for page in rng.sample(range(1, 13), rng.randint(0, 2))]
            refs = [Ref(page, sizes[page - 1]) for page in rng.choices(range(1, 13), k=rng.randint(0, 4))]
            turns.append(Turn(tuple(new), tuple(refs), "q"))
        order = rng.sample(range(1, 13), 12)
        there = [{ref.page for turn in turns[: at + 1] for ref in turn.new} for at in range(30)]
        part = Part(
            "random",
            lambda turns=turns: turns,
            lambda index, _, order=order, there=there: [page for page in order if page in there[index]],
        )
        budget = rng.randint(20, 150)
        least = bounds.prefetching(part, budget)
        assert least <= bounds.faults(part, budget).value
        for pager in ("search", "perfect"):
            for path in ("area", "drawn", "queue"):
                for share in (0.0, 0.5, None):
                    options = Options(0.5, share, pager, path)
                    for name in ("lru", "ours"):
                        assert simulator.run(part, functools.partial(field.make, name), budget, options).faults >= least


def test_stretches_are_the_same_turns_for_every_policy() -> None:
    for turns in (1, 5, 31, 32, 33, 700):
        part = Part("n", lambda turns=turns: [Turn(refs=(Ref(at % 7, 10),)) for at in range(turns)])
        found = []
        for name in ("lru", "fifo"):
            stretches = simulator.Stretches()
            counts = simulator.run(
                part, functools.partial(field.make, name), 50, Options(1.0, 0.0, "perfect"), stretches
            )
            found.append(stretches.found())
            assert sum(faults for _, faults in found[-1]) == counts.faults
        assert [refs for refs, _ in found[0]] == [refs for refs, _ in found[1]]
        assert sum(refs for refs, _ in found[0]) == turns
        assert len(found[0]) <= 32


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("LLMOS_DATA"), reason="LLMOS_DATA names no folder with the benchmark data")
def test_the_path_from_a_clone_to_a_picture_is_as_the_page_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.mine import PAGE, SOURCE

    (block,) = re.findall(
        r"^## From a clone.*?^```console\n(.*?)^```", PAGE.with_name("paging.md").read_text(), re.M | re.S
    )
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(SOURCE)
    for line in block.splitlines():
        assert status(shlex.split(line.removeprefix("$ llmos "))) == 0, line
    assert Path("out/own.png").read_bytes().startswith(b"\x89PNG")
    assert Path("out/git-h11.pdf").exists()
    assert capsys.readouterr().out.splitlines()[-1].split("\t")[-1] in ("better", "worse", "tie")


SCRIPT = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        print(cluster.scheduler_address, *[worker.pid for worker in cluster.workers.values()], flush=True)
        sys.stdin.read()
"""


@pytest.mark.slow
def test_a_cluster_makes_what_one_process_makes_though_a_worker_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed", reason="pip install 'llmos[cluster]'")
    pytest.importorskip("joblib")
    from tests.mine import SOURCE

    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(SOURCE)
    Path("cluster.py").write_text(SCRIPT)
    words = ["bench", "paging", "--workload", "own,synthetic/phase,synthetic/zipf,synthetic/loop"]
    words += ["--policy", "mine.py:Mine,ours", "--budget", "1k,2k", "--no-bounds"]
    assert status([*words, "--jobs", "1", "--out", "alone.json"]) == 0
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "DASK_DISTRIBUTED__ADMIN__LOG_LENGTH": "0"}
    home = tmp_path / "elsewhere"  # the workers have no mine.py where they are
    home.mkdir()
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "cluster.py")],
        cwd=home,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as cluster:
        assert cluster.stdout is not None
        address, *pids = cluster.stdout.readline().split()
        appended = results.append
        killed: list[int] = []

        def append(path: Path, kept: list[Kept]) -> None:
            appended(path, kept)
            if not killed:
                killed.append(int(pids[0]))
                os.kill(killed[0], signal.SIGKILL)

        monkeypatch.setattr(results, "append", append)
        on = address.replace("tcp://", "dask://")
        done = status([*words, "--sweep", "out", "--on", on])
        assert cluster.stdin is not None
        cluster.stdin.close()
    assert done == 0, capsys.readouterr().err
    assert killed
    alone, there = results.read(Path("alone.json")), results.read(Path("out"))
    assert len(there) == len(alone) == 16
    assert {(o.workload, o.budget, o.policy, o.faults, o.strings) for o in alone} == {
        (o.workload, o.budget, o.policy, o.faults, o.strings) for o in there
    }


def test_a_cluster_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="pip install 'llmos[cluster]'")
    monkeypatch.setattr(work, "PATIENCE_S", 0.3)
    with pytest.raises(BadInput, match="no scheduler answers there"):
        list(work.spread(str, [1], 0, "dask://127.0.0.1:9"))
