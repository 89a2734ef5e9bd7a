"""`llmos bench paging` as users call it, and the figures that others have measured on the same data."""

import functools
import json
import os
import random
from pathlib import Path

import pytest

from bench.paging import bounds, field, formats, record, repository, simulator, store, trace, workloads
from bench.paging.attribution import Attribution
from bench.paging.simulator import Options
from bench.paging.trace import Part, Ref, Turn
from kernel.errors import BadInput
from kernel.memory.split import Split
from kernel.spec import Spec
from llmos.commands.app import status

DATA = Path(os.environ.get("LLMOS_DATA") or "absent")
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="LLMOS_DATA names no folder with the benchmark data")
ONE_BY_ONE = Options(low=1.0, recall=0.0, pager="perfect")
# Agreed miss for miss between an independent implementation and libCacheSim (the data's README).
GOLDEN = {
    489: {"fifo": 96_518, "lru": 95_420, "clock": 95_332, "sieve": 94_419, "lfu": 96_765, "arc": 94_229},
    4_897: {"fifo": 91_716, "lru": 91_657, "clock": 91_599, "sieve": 90_040, "lfu": 90_040, "arc": 88_002},
}
CLASSICAL = [  # hit ratios in percent, as the policies' papers and libraries have them
    ("loop", 500, "lirs", 48.9),
    ("cs", 1000, "lirs", 58.7),
    ("cs", 1000, "fifo", 1.8),
    ("cs", 1000, "lru", 1.8),
    ("cs", 1000, "clock", 1.8),
    ("sprite", 800, "lru", 88.5),
    ("2_pools", 200, "arc", 50.4),
    ("multi1", 1600, "lirs", 82.6),
    ("loop", 500, "s3fifo", 0.0),
]


@pytest.fixture(autouse=True)
def _home(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path_factory.getbasetemp() / "home"))


def run(part: Part, policy: str, budget: int, options: Options = ONE_BY_ONE) -> simulator.Counts:
    return simulator.run(part, functools.partial(field.make, policy), budget, options)


def told(capsys, *arguments: str) -> tuple[int, str, str]:
    ended = status(["bench", "paging", *arguments])
    said = capsys.readouterr()
    return ended, said.out, said.err


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("budget", GOLDEN)
def test_golden_counts(budget):
    (part,) = workloads.load("cloudphysics", DATA, 1, budget).parts
    assert {name: run(part, name, budget).faults for name in GOLDEN[budget]} == GOLDEN[budget]


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize(("name", "budget", "policy", "hit"), CLASSICAL)
def test_the_classical_table(name, budget, policy, hit):
    (part,) = workloads.load(name, DATA, 1, budget).parts
    counts = run(part, policy, budget)
    assert 100 * (1 - counts.faults / counts.references) == pytest.approx(hit, abs=0.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("fifo", "FIFO"), ("lru", "LRU"), ("clock", "Clock"), ("sieve", "Sieve"), ("lfu", "LFU"), ("arc", "ARC")],
)
def test_as_libcachesim(ours, theirs, tmp_path):
    oracle = pytest.importorskip("libcachesim", reason="libcachesim is a development extra: pip install libcachesim")
    rng = random.Random(7)
    weights = [1 / (place + 1) ** 0.8 for place in range(2_000)]
    refs = [page + 1 for page in rng.choices(range(2_000), weights, k=30_000)]
    for size in (50, 400):
        cache = getattr(oracle, theirs)(size)
        missed = 0
        for at, page in enumerate(refs):
            request = oracle.Request()
            request.obj_id, request.obj_size, request.clock_time = page, 1, at
            missed += not cache.get(request)
        assert run(trace.of("zipf", [(page, 1) for page in refs]), ours, size).faults == missed


@needs_data
@pytest.mark.slow
def test_conversations_with_search(capsys):
    options = (
        "--budget",
        "4096",
        "--pager",
        "search",
        "--recall",
        "0.5",
        "--low-water",
        "0.5",
        "--no-bounds",
        "--json",
    )
    for workload, least in (("locomo-live", 0.89), ("locomo-late", 0.67)):
        for policy in ("fifo", "lru", "ours"):
            status, out, _ = told(capsys, "--workload", workload, "--policy", policy, "--data", str(DATA), *options)
            found = json.loads(out)
            assert status == 0
            assert found["hit"] >= least
            assert found["prefill_amplification"] <= 2.2


def test_the_keys_and_what_they_count(capsys):
    status, out, err = told(capsys, "--workload", "synthetic/sized", "--policy", "lru", "--budget", "2048", "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    keys = "faults references hit token_hit question_complete opt_hit regret_pp cost_ratio prefill_amplification"
    assert set(found) >= {*keys.split(), "recall_tokens_per_question", "seconds"}
    assert found["references"] == 6_000
    assert found["hit"] == pytest.approx(1 - found["faults"] / 6_000, abs=1e-5)
    assert found["regret_pp"] == pytest.approx(100 * (found["opt_hit"] - found["hit"]), abs=1e-2)
    assert found["cost_ratio"] >= 1


def test_an_optimum_that_takes_too_long_is_a_bound_from_below():
    (part,) = workloads.load("synthetic/phase", None, 1, 2_048).parts
    for bound, policy in ((bounds.faults, lambda counts: counts.faults), (bounds.cost, lambda counts: counts.cost)):
        found = bound(part, 2_048, 0.3)
        assert found.how in ("dual", "relaxed")
        assert 0 < found.value <= policy(run(part, "lru", 2_048))


def test_own_traces_need_no_data(capsys):
    status, out, _ = told(capsys, "--workload", "own", "--policy", "fifo,ours", "--budget", "1024", "--json")
    cells = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [one["policy"] for one in cells] == ["fifo", "ours"]
    assert [one["recall"] for one in cells] == [0.25, None]
    assert all(0 < one["hit"] < 1 and one["recall_tokens_per_question"] > 0 for one in cells)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--workload", "locomo"), "no such workload"),
        (("--workload", "synthetic/zipf", "--policy", "lur"), "did you mean lru?"),
        (("--workload", "synthetic/zipf", "--pager", "search"), "no texts to search"),
        (("--workload", "synthetic/zipf", "--recall", "much"), "auto or a share"),
        (("--workload", "synthetic/zipf", "--recall", "1"), "0.95"),
        (("--workload", "synthetic/zipf", "--local"), "one process"),
        (("--workload", "git", "--data", "/nowhere"), "/nowhere: no such folder"),
        ((), "--workload is missing"),
        (("--workload", "own", "--budget", "2g"), "--budget 2g"),
        (("--workload", "own", "--low-water", "0.5,2"), "--low-water 2"),
        (("--workload", "own", "--seed", "1-"), "--seeds 1-"),
        (("--workload", "own", "--out", "cells.txt"), ".json, .csv, .md"),
        (("--workload", "own", "--on", "spark://a:1"), "dask://HOST:PORT"),
        (("--workload", "own", "--pager", "live,perfect"), "a machine stands alone"),
    ],
)
def test_mistakes_are_named(capsys, arguments, says):
    status, out, err = told(capsys, *arguments)
    assert status == 2
    assert out == ""
    assert says in err
    assert err.count("\n") == 1


def test_damaged_traces_are_named(tmp_path):
    cases = {
        "a.jsonl": b'{"refs":[[1,5,"message"]]}\n{"refs":[[1,5,"nonsense"]]}\n',
        "b.csv": b"page,tokens\n1,0\n",
        "c.csv": b"tokens\n1\n",
        "d.oracleGeneral.bin": b"123",
    }
    for name, raw in cases.items():
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(BadInput, match=name):
            list(formats.read(tmp_path / name))
    with pytest.raises(BadInput, match="ends with"):
        formats.format_of(tmp_path / "e.dat")


def test_prefill_behind_what_left():
    turns = [Turn(new=(Ref(page, 10),)) for page in range(1, 12)]
    string = Part("fill", lambda: turns)
    batches = run(string, "fifo", 100, Options(0.5, 0.0, "perfect"))
    assert (batches.arrived, batches.prefilled, batches.evictions) == (110, 110 + 40, 6)  # down to 50, with the new one
    single = run(string, "fifo", 100)
    assert (single.prefilled, single.evictions) == (110 + 90, 1)


def test_recall_stands_apart_and_is_dropped():
    turns = [Turn(new=(Ref(page, 10),)) for page in range(1, 11)]
    turns += [Turn(refs=(Ref(1, 10),), query="one"), Turn(refs=(Ref(2, 10),), query="two")]
    string = Part("ask", lambda: turns, lambda index, turn: [1, 3] if turn.query == "one" else [9, 1])
    counts = run(string, "fifo", 50, Options(1.0, 0.4, "search"))
    assert (counts.faults, counts.references) == (1, 2)  # page 1 was found; page 2 was not, and page 9 was there anyway
    assert counts.recalled == 20 + 10
    assert counts.arrived == counts.prefilled - 7 * 20 == 100


def test_a_queue_path_pollutes():
    turns = [Turn(new=(Ref(page, 10),)) for page in range(1, 11)] + [Turn(refs=(Ref(10, 10),), query="q")]
    string = Part("ask", lambda: turns, lambda index, turn: [1, 2, 3])
    apart = run(string, "fifo", 60, Options(1.0, 0.5, "search"))
    mixed = run(string, "fifo", 60, Options(1.0, 0.5, "search", "queue"))
    assert apart.arrived == 100
    assert mixed.arrived == 130


def test_each_process_has_its_part():
    turns = [Turn(refs=(Ref(1 + at % 3, 10),), pid=0) for at in range(30)]
    turns += [Turn(refs=(Ref(11 + at % 9, 10),), pid=1) for at in range(90)]
    random.Random(1).shuffle(turns)
    string = Part("two", lambda: turns, pids=2)
    one, two = run(string, "lru", 60), run(string, "lru", 60, Options(1.0, 0.0, "perfect", local=True))
    assert two.faults != one.faults
    alone = [run(Part("p", lambda pid=pid: [t for t in turns if t.pid == pid]), "lru", 30).faults for pid in (0, 1)]
    assert two.faults == sum(alone)


def test_the_split_follows_what_would_have_been_found():
    inf = float("inf")
    cases = [  # age, what was ranked before it, and the shares that serve it
        (10_000, [(inf, 250)], 0.3, 0.5),
        (200, None, 0.0, 0.5),
        (10_000, [(inf, 830)], 0.88, 0.95),
        (900, [(100, 400), (inf, 100)], 0.15, 0.5),  # the young one is no rival while the queue holds it
    ]
    for age, ahead, low, high in cases:
        split = Split(1_000)
        for _ in range(60):
            split.observe(age, 50, ahead, 1.0)
            split.settle()
        assert low <= split.share <= high
        assert Split(1_000, split.state()).share == split.share


def test_a_repository_becomes_tasks(tmp_path):
    import subprocess

    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, capture_output=True)

    git("init", "-q")
    git("config", "user.email", "a@example.org")
    git("config", "user.name", "a")
    lines = [f"line {number}\n" for number in range(250)]
    (tmp_path / "a.py").write_text("".join(lines))
    (tmp_path / "b.txt").write_text("not source\n")
    git("add", "-A")
    git("commit", "-qm", "one")
    lines[120] = "changed\n"
    (tmp_path / "a.py").write_text("".join(lines))
    git("commit", "-qam", "two")
    turns = repository.tasks(tmp_path, (".py",))
    assert [[ref.page for ref in turn.refs] for turn in turns] == [[1, 2, 3], [2]]
    with pytest.raises(BadInput, match="not a git repository"):
        repository.tasks(Path("/"), (".py",))


def test_what_is_derived_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path))
    made: list[int] = []

    def make() -> list[int]:
        made.append(1)
        return [1, 2]

    assert [store.cached("x", "k", list[int], make) for _ in range(3)] == [[1, 2]] * 3
    assert len(made) == 1
    (tmp_path / "bench" / "x" / "k.msgpack").write_bytes(b"torn")
    assert store.cached("x", "k", list[int], make) == [1, 2]
    assert len(made) == 2


def test_a_machine_without_pages_is_named(tmp_path):
    with pytest.raises(BadInput, match="cannot be read"):
        record.record(tmp_path, "")


async def test_a_machine_records_what_it_drew_on(tmp_path, capsys):
    from kernel.event import Message
    from llmos.init import powered

    said = [
        "The boat is called Heron.",
        "My aunt keeps nine parrots in Lisbon.",
        "It rains.",
        "What is the boat called?",
    ]
    async with powered(tmp_path / "machine", cpu="scripted") as machine:
        pid = (await machine.requests.spawn(Spec("clerk", ("send_message",)))).pid
        async with machine.feed.subscribe(-1) as published:
            for number, text in enumerate(said):
                await machine.requests.message(pid, f"m{number}", text)
                async for item in published:
                    if isinstance(item, Message) and item.ends:
                        break
    file = tmp_path / "mine.jsonl.gz"
    assert status(["trace", "record", str(tmp_path / "machine"), str(file), "--process", "clerk"]) == 0
    turns, texts = formats.read_jsonl(file)
    assert [turn.query for turn in turns] == said
    assert texts[0] == said[0]
    assert all(ref.tokens > 5 for turn in turns for ref in turn.new)
    assert workloads.load(str(file), None, 1, 64).pager == "search"
    assert status(["trace", "convert", str(file), str(tmp_path / "mine.csv")]) == 0
    assert "pages" in capsys.readouterr().out
    assert list(formats.read(tmp_path / "mine.csv"))[0].new == turns[0].new
    with pytest.raises(BadInput, match="no process dog; there are clerk"):
        record.record(tmp_path / "machine", "dog")


def test_what_a_reply_drew_on():
    known = Attribution()
    for page, text in enumerate(["The boat is called Heron.", "Nine parrots live in Lisbon.", "It rains today."], 1):
        known.add(page, text)
    assert known.drawn("What is the boat called?", "She is called Heron.") == [1]
    assert known.drawn("How many parrots?", "Nine, I think.") == [2]
    assert known.drawn("Are you well?", "Quite.") == []


def test_the_list_of_policies(capsys):
    assert status(["policies", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    live = {"fifo", "lru", "clock", "arc", "s3fifo", "sieve", "gdsf", "ours", "pin_on_fault"}
    assert {name for name, row in rows.items() if row["live"]} >= live
    others = {"lfu", "lru_k", "two_q", "lirs", "wtinylfu", "random", "sink_window", "classes"}
    assert set(rows) >= live | others
    assert not any(rows[name]["live"] for name in others)
    assert all(row["does"].endswith(".") and row["reference"] and row["cost"].startswith("O(") for row in rows.values())
