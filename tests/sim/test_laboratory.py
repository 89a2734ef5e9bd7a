"""Many runs, fuzzing, tests of a reader's own: what `llmos run` and `pytest --llmos` make of scenarios."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from kernel import restart
from kernel.event import Arm, Booted
from kernel.state import Kernel
from llmos.commands.app import status
from llmos.lab import Event, Expect, Pattern, Process, Scenario, parse, play, read, scenario, toml
from llmos.scenario import format as form
from llmos.scenario import many
from llmos.scenario.written import duration

FOLDER = Path(form.__file__).parents[1] / "scenarios"
FILES = sorted(FOLDER.glob("*.toml"))
CALLS = """
title = "Calls"
teaches = "A clerk beside a writer."
until = "1m"
[machine]
set = ["sched.policy=fair", "cpu.reply=300", "window=4096"]
[processes.writer]
does = "talk"
tokens = 300
[processes.clerk]
does = "echo"
[[events]]
at = "0s"
every = "7s"
times = 8
to = ["writer"]
say = "Go on."
[[events]]
name = "call"
at = "1s"
every = "6s"
spread = "4s"
times = 8
to = ["clerk"]
say = "Are you there?"
[[expect]]
answers = "call"
see = { what = "said", process = "clerk" }
within = "3s"
"""
MASK = """
title = "A mask that ends"
teaches = "What is held back comes through when the mask ends, whatever happens meanwhile."
until = "3m"
[processes.guard]
[[processes.guard.on]]
line = "user"
plays = [{ op = "mask", lines = ["device"], seconds = 60 }, { op = "send_message", text = "Not now." }]
[[processes.guard.on]]
line = "device"
plays = [{ op = "send_message", text = "I look at it." }]
[processes.clerk]
does = "echo"
[[events]]
at = "10s"
to = ["guard"]
say = "Do not be disturbed."
[[events]]
name = "alarm"
at = "20s"
every = "5s"
times = 3
to = ["guard"]
raise = "device"
text = "smoke"
[[events]]
every = "20s"
times = 4
to = ["clerk"]
say = "Hello?"
[[events]]
at = "150s"
to = ["guard"]
raise = "device"
text = "a last one"
[[expect]]
after = { what = "interrupt", process = "guard", line = "device" }
see = { what = "delivered", process = "guard", line = "device" }
within = "90s"
[fuzz]
times = "5s"
faults = ["stall", "cut", "slow"]
lasts = "5s"
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "calls.toml").write_text(CALLS)
    (tmp_path / "mask.toml").write_text(MASK)
    return tmp_path


def test_many_runs_are_a_table_with_intervals_and_the_seeds_that_broke(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "calls.toml", "--seeds", "1-4,9", "--set", "sched.policy=fair,fifo"]
    assert status([*command, "--jobs", "2"]) == 1
    head, fair, fifo, broken = capsys.readouterr().out.splitlines()
    assert head.split("\t")[:4] == ["settings", "runs", "held %", "95 %"]
    assert fair.split("\t")[:4] == ["sched.policy=fair", "5", "100", "57-100"]
    assert fair.endswith("\t-")
    assert fifo.split("\t")[:2] == ["sched.policy=fifo", "5"]
    assert fifo.endswith("\t1-4, 9")
    assert broken.startswith(
        "broken with seed 1: sched.policy=fifo expected (what 'said', process 'clerk') in answer to"
    )
    assert status([*command, "--jobs", "1", "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)["rows"]
    low, high = rows[1]["reply_p99_ci95"]
    assert low <= rows[1]["reply_p99_s"] <= high
    assert low < high
    assert {one["seed"] for one in rows[1]["broke"]} == {1, 2, 3, 4, 9}
    hashes = {one["hash"] for one in rows[1]["broke"]}
    assert len(hashes) == 5
    one = play(many.with_settings(read(here / "calls.toml"), ("sched.policy=fifo",)), 9)
    assert one.hash in hashes  # a run among many is the run that it is alone


def test_many_runs_go_on_where_they_were_cut_off(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = read(here / "calls.toml")
    cases = [many.Case((), seed) for seed in range(6)]
    out = here / "out.jsonl"
    whole = many.run(wanted, cases, 1, None, lambda *_: None)
    many.run(wanted, cases[:4], 1, out, lambda *_: None)
    out.write_bytes(out.read_bytes()[:-30])  # as a kill leaves it
    made: list[int] = []
    outcome = many.outcome
    monkeypatch.setattr(many, "outcome", lambda scenario, case: (made.append(case.seed), outcome(scenario, case))[1])
    assert many.run(wanted, cases, 1, out, lambda *_: None) == whole
    assert made == [3, 4, 5]
    assert many.run(wanted, cases, 1, out, lambda *_: None) == whole
    assert made == [3, 4, 5]


def test_a_hundred_seeds_of_storm_take_less_than_fifteen_runs_of_it() -> None:
    """Counted in plays, not in seconds: nothing in it has a spread, so all seeds are one run."""
    storm = read(FOLDER / "storm.toml")
    made: list[int] = []
    cases = [many.Case((), seed) for seed in many.seeds("1-100")]
    found = many.run(storm, cases, 1, None, lambda n, total, broke: made.append(n))
    assert made == [1]
    assert {one.hash for one in found} == {play(storm, 77).hash}
    assert [one.seed for one in found] == list(range(1, 101))
    assert many.rows(storm, found)[0].played == 1


@pytest.mark.parametrize("text", ["", "5-1", "a", "1-", "-1", "1-999999", "99999999999999999999"])
def test_seeds_that_are_none_are_named(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(["run", "storm", "--seeds", text]) == 2
    assert "give seeds such as 1-100" in capsys.readouterr().err


def test_seeds_are_told_in_few_words() -> None:
    assert many.ranges([3, 7, 8, 9, 12]) == "3, 7-9, 12"
    assert many.ranges(list(range(0, 40, 2)), 3) == "0, 2, 4 and 17 more"


def test_a_seeded_bug_is_found_by_fuzzing_and_shrunk_to_a_file_of_six_events_at_most(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bug: a mask's end is dropped at a boot. The file that is found breaks with it, and holds without."""
    booted = restart.booted

    def dropping(kernel: Kernel, event: Booted) -> None:
        booted(kernel, event)
        effects = kernel.draft.effects
        effects[:] = [one for one in effects if not (isinstance(one, Arm) and kernel.timers[one.timer].unmask)]

    with monkeypatch.context() as seeded:
        seeded.setattr(restart, "booted", dropping)
        assert status(["run", "mask.toml", "--fuzz", "500", "--json"]) == 1
        told = json.loads(capsys.readouterr().out)
        assert told["events"] <= 6
        assert "delivered" in told["said"]
        assert any("cut" in one for one in told["changes"])
        assert status(["run", told["file"]]) == 1
        assert told["said"] in capsys.readouterr().out
    found = read(Path(told["file"]))
    assert len(found.events) == told["events"]
    assert sum(event.times for event in found.events) <= 6
    assert "clerk" not in found.processes
    assert play(found).ok


def test_what_holds_is_not_broken_by_what_its_file_allows(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(["run", "mask.toml", "--fuzz", "25", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"]
    assert not (here / "mask-breaks.toml").exists()


def test_what_is_found_is_the_same_however_many_are_tried_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmos.scenario import fuzz

    monkeypatch.setattr(fuzz, "CHUNK", 10)
    monkeypatch.setattr(fuzz, "SHRINK_MAX", 15)  # fewer than Hypothesis would take
    small = scenario(
        "Small",
        until="5s",
        processes={"a": Process(does="echo")},
        events=[Event(name="call", at="1s", to=("a",), say="x")],
        expect=[Expect(answers="call", see=Pattern(what="said"), within="1s")],
    )
    text = f'{toml(small)}\n[fuzz]\nfaults = ["stall"]\nlasts = "1500ms"\n'
    found = [fuzz.fuzz(parse(text), 60, 5, lambda n: None, jobs) for jobs in (1, 2)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].text() == found[1].text()
    told: list[int] = []
    assert fuzz.fuzz(parse(text.replace("stall", "clock")), 25, 3, told.append, 2) is None
    assert told == [10, 20, 25]


def test_what_breaks_without_any_event_is_a_file_that_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    call = scenario(
        "Call",
        until="5s",
        processes={"a": Process(does="echo")},
        events=[Event(at="1s", to=("a",), say="x")],
        expect=[Expect(see=Pattern(what="said"))],
    )
    Path("call.toml").write_text(f"{toml(call)}\n[fuzz]\ndrops = true\n")
    assert status(["run", "call.toml", "--fuzz", "50"]) == 1
    assert status(["run", "call-breaks.toml"]) == 1
    assert "it never happened" in capsys.readouterr().out
    assert read(Path("call-breaks.toml")).events == ()


@pytest.mark.parametrize("allowed", ["replies = true", "drops = true", 'times = "30s"', 'faults = ["clock"]'])
def test_each_kind_of_change_is_made_where_the_file_allows_it(here: Path, allowed: str) -> None:
    from llmos.scenario.fuzz import fuzz

    base = scenario(
        "Order",
        until="3m",
        start="2026-01-01 08:00",
        processes={"a": Process(plays=({"op": "set_timer", "at": "2026-01-01 08:02", "text": "x"}, {"op": "yield"}))},
        events=[
            Event(name="one", at="1m", to=("a",), say="x"),
            Event(name="two", after="one", by="10s", to=("a",), raise_="ipc", text="y"),
            Event(name="three", at="1m5s", to=("a",), raise_="device", text="z"),
        ],
        expect=[
            Expect(order=tuple(Pattern(what="event", text=name) for name in ("one", "three", "two"))),
            Expect(
                after=Pattern(what="event", text="one"), see=Pattern(what="delivered", line="timer"), within="60100ms"
            ),
        ],
    )
    wanted = parse(
        f"{toml(base)}\n[fuzz]\ntimes = '0s'\n{allowed}"
        if "times" not in allowed
        else f"{toml(base)}\n[fuzz]\n{allowed}"
    )
    found = fuzz(wanted, 150, 0, lambda n: None)
    assert found is not None
    assert len(found.changes) == 1
    assert not play(parse(found.text())).ok
    assert play(wanted).ok


def test_a_scenario_that_is_written_reads_as_itself() -> None:
    for file in FILES:
        one = read(file)
        assert parse(toml(one)) == one
    odd = Process(
        blocks={'a "b".c': "tab\t\x7f end\nüñ\\"},
        on=(form.Reaction(line="user", nth=2, plays=({"op": "evict", "pages": [1, 2]},)),),
    )
    made = scenario("", until="366d", processes={"x y.z": odd}, events=[Event(at="1s", to=("x y.z",), say="\u202e'")])
    assert parse(toml(made)) == made
    rng = Random(3)
    for _ in range(200):
        length = rng.randrange(1, 10**16) // 1_000 * 1_000
        assert form.ns(duration(length)) == length


TESTS = """
from llmos.lab import Event, Expect, Pattern, Process, scenario
parrot = {"parrot": Process(does="echo")}
asked = [Event(name="hi", at="1s", to=("parrot",), say="hi")]
polite = scenario("A polite parrot", until="10s", processes=parrot, events=asked,
                  expect=[Expect(answers="hi", see=Pattern(what="said"), within="1s")])
rude = scenario("A rude parrot", until="10s", processes=parrot, events=asked,
                expect=[Expect(never=Pattern(what="said"))])
def test_plain():
    assert polite.title
"""


def pytest_of(folder: Path, *arguments: str) -> str:
    known = {one.name for one in importlib.metadata.entry_points(group="pytest11")}
    plugin = [] if "llmos" in known else ["-p", "llmos.pytest_plugin"]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "--color=no", *plugin, *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment).stdout


def test_pytest_collects_files_and_objects_as_tests(here: Path) -> None:
    (here / "test_parrot.py").write_text(TESTS)
    (here / "late.toml").write_text(CALLS.replace('"3s"', '"10ms"'))
    (here / "typo.toml").write_text(CALLS.replace('to = ["clerk"]', 'to = ["clrk"]'))
    (here / "other.toml").write_text("[tool.other]\nx = 1\n")
    (here / "slip.toml").write_text(
        'title = "A slip"\nteaches = "That a slip in one word hides no file."\nuntill = "5m"\n'
    )
    said = pytest_of(here, "--llmos", ".")
    assert re.search(r"slip\.toml: line \d+: .*untill", said), said
    assert re.search(r"typo\.toml: line \d+: events\[1\]: no process clrk; did you mean clerk\?", said), said
    assert re.search(r"other\.toml: .*title is missing", pytest_of(here, "--llmos", "other.toml"))  # it is named
    (here / "slip.toml").unlink()
    (here / "typo.toml").unlink()
    said = pytest_of(here, "--llmos", ".")
    assert "4 passed" in said
    assert "2 failed" in said
    assert "expect[0]: expected (what 'said', process 'clerk') in answer to call within 10ms, but it came" in said
    assert "> " in said
    assert "1 passed" in pytest_of(here, ".")  # what asks for nothing gets nothing


def test_scenarios_are_listed_with_their_titles(capsys: pytest.CaptureFixture[str]) -> None:
    assert status(["run", "--list"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[:2] for row in rows] == [[file.stem, read(file).title] for file in FILES]
    assert status(["run", "strom"]) == 2
    assert "strom: no such file; did you mean storm?" in capsys.readouterr().err


def test_a_file_that_is_watched_is_played_again_when_it_is_saved(here: Path) -> None:
    command = [sys.executable, "-m", "llmos", "run", "calls.toml", "--watch"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    watching = subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, text=True, env=environment)
    assert watching.stdout is not None
    try:
        told = [watching.stdout.readline() for _ in range(2)]
        assert told[1].startswith("ok: ")
        (here / "calls.toml").write_text(CALLS.replace('"3s"', '"10ms"'))
        told = [watching.stdout.readline() for _ in range(2)]
        assert told[1].startswith("broken: line 26: expected")
    finally:
        watching.kill()
        watching.communicate()


def test_many_runs_are_refused_what_one_run_alone_has(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, told in (
        (["--seeds", "1-2", "--timeline"], "many runs: --timeline goes with one run alone"),
        (["--fuzz", "2", "--cpu", "x"], "--fuzz: --cpu goes with one run alone"),
        (["--fuzz", "2", "--seeds", "1-2"], "give it without --seeds"),
        (["--out", "x"], "--out goes with --seeds or --fuzz"),
        (["--set", "sched.policy=rr,fiar"], "sched.policy=fiar: no such policy; did you mean fair?"),
    ):
        assert status(["run", "storm", *arguments]) == 2
        assert told in capsys.readouterr().err
    assert status(["run"]) == 2
    assert "FILE is missing" in capsys.readouterr().err


def test_what_is_typed_is_checked_where_it_is_made() -> None:
    with pytest.raises(Exception, match=r"Parrot: events\[0\]: no process parot; did you mean parrot\?"):
        scenario(
            "Parrot",
            until="1s",
            processes={"parrot": Process(does="echo")},
            events=[Event(at="0s", to=("parot",), say="x")],
        )
    assert isinstance(read(FILES[0]), Scenario)
