"""Policies of one's own: the one that docs/policy.md builds, those that break a law, and those of packages."""

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.paging import laws
from bench.paging.laws import LAWS, check
from drivers.cpu.scripted import echo
from kernel.errors import BadInput
from kernel.memory import policy
from llmos import policies
from llmos.commands.app import status
from llmos.policies import Own
from tests.fakes import Rig
from tests.mine import COMMANDS, PAGE, SOURCE

BROKEN = {  # law -> what of the page's policy is written otherwise, what it becomes, and what is said of it
    "runs": ("= [tokens, 0]", "= [tokens]", "IndexError"),
    "pinned": ("tokens > 0 and page not in pinned", "tokens > 0", "page 1 is pinned"),
    "holds": ("self.pages.pop(page, None)", "...", "which it does not hold"),
    "enough": ("if tokens > 0", "if tokens > 10", "tokens, and [1] could go"),
    "deterministic": (
        "victims = []\n        for page in sorted(self.pages, key=lambda page: self.pages[page][1])",
        "victims = []; Mine.n = 1 - getattr(Mine, 'n', 0)\n        for page in sorted(self.pages, reverse=Mine.n)",
        "and then",
    ),
    "state": ("return [[page, *kept]", "return [[page, kept[0], 0]", "gone on from its state"),
    "bounded": (": ...", ": self.seen = [*getattr(self, 'seen', ()), page]; sum(1 for _ in self.seen)", "work grows"),
}


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the page's policy in it; what becomes known by name meanwhile is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path / "home"))
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    before = dict(policy.POLICIES)
    yield path
    policy.POLICIES.clear()
    policy.POLICIES.update(before)


def test_the_page_builds_a_policy_in_20_lines(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len([line for line in SOURCE.splitlines() if line.strip()]) == 20
    assert COMMANDS
    for line in COMMANDS:
        assert status(shlex.split(line)) == 0, line
        out, err = capsys.readouterr()
        assert "mine.py:Mine" in out
        assert not [line for line in err.splitlines() if "cells" not in line], "progress, where the optimum takes long"
    for law in LAWS:
        assert f"| {law} |" in PAGE.read_text()


@pytest.mark.parametrize("law", BROKEN)
def test_a_broken_law_is_one_line_with_the_smallest_case(law: str) -> None:
    assert list(BROKEN) == list(LAWS)
    old, new, says = BROKEN[law]
    assert old in SOURCE
    make = policies.plain(Own("mine.py:Mine", SOURCE.replace(old, new))).make
    found = {one.law: one.broken for one in check(make, examples=120)}
    assert says in found[law]
    assert "\n" not in found[law]
    if law == "pinned":
        assert f"broken  {LAWS[law]}: {found[law]}\n" in PAGE.read_text()


HIT = "self.pages[page][1] += 1"


@pytest.mark.parametrize(
    ("law", "new", "says"),
    [
        ("runs", "raise SystemExit(3)", "hit(1) died of SystemExit: 3"),
        ("runs", "\n        while True: pass", "has not come back within 0.5 s"),
        ("runs", f"{HIT}\n        while len(self.pages) > 30: pass", "1,500 accesses had no end within 0.5 s"),
        ("bounded", f"{HIT}; self.seen = [*getattr(self, 'seen', ()), page]", "its memory grows"),
    ],
)
def test_a_policy_that_ends_the_check_never_ends_or_keeps_what_is_no_state_breaks_a_law(
    monkeypatch: pytest.MonkeyPatch, law: str, new: str, says: str
) -> None:
    monkeypatch.setattr(laws, "STUCK_S", 0.5)
    if "0.5" in says:
        monkeypatch.setattr(laws, "STUCK_LONG_S", 0.5)
    make = policies.plain(Own("mine.py:Mine", SOURCE.replace(HIT, new))).make
    broken = {one.law: one.broken for one in check(make, examples=60) if one.broken}
    assert list(broken) == [law]
    assert says in broken[law]


def test_a_broken_law_is_the_exit_status(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine.write_text(SOURCE.replace("and page not in pinned", ""))
    check_ = ["policies", "--check", "mine.py:Mine", "--examples", "60"]
    assert status(check_) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ok", "broken", *["ok"] * 5, "mine.py:Mine:"]
    assert status([*check_, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [one["law"] for one in found["laws"] if one["broken"]] == ["pinned"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mine.py:Yours", "no Yours there; its classes are Mine"),
        ("other.py:Mine", "No such file"),
        ("mine.py:Mine", "no hit; a policy has"),
        ("wrong.py:Mine", "SyntaxError"),
        ("dies.py:Mine", "ZeroDivisionError: division by zero (dies.py, line 2)"),
        ("takes.py:Mine", "it takes (capacity, state=None)"),
    ],
)
def test_what_is_no_policy_is_named(mine: Path, capsys: pytest.CaptureFixture[str], name: str, says: str) -> None:
    if "no hit" in says:
        mine.write_text(SOURCE.replace("def hit", "def struck"))
    (mine.parent / "wrong.py").write_text("class Mine(:\n")
    (mine.parent / "dies.py").write_text("class Mine:\n    x = 1 / 0\n")
    (mine.parent / "takes.py").write_text("class Mine:\n    pass\n")
    for words in (["policies", "--check", name], ["bench", "paging", "--workload", "own", "--policy", name]):
        assert status(words) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert says in err
        assert err.count("\n") == 1


def test_a_rule_that_breaks_in_a_bench_is_one_line(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine.write_text(SOURCE.replace("if tokens > 0 and page not in pinned", "if tokens > 60"))
    words = ["--workload", "synthetic/phase", "--policy", "mine.py:Mine", "--budget", "2048", "--no-bounds"]
    assert status(["bench", "paging", *words]) == 2
    said = capsys.readouterr().err
    assert "mine.py:Mine" in said
    assert "llmos policies --check" in said
    assert said.count("\n") == 1


def test_a_scenario_is_run_with_it_and_no_scenario_can_name_a_file(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(["run", "storm", "--set", "memory.policy=mine.py:Mine"]) == 0
    assert status(["run", "storm", "--set", "memory.policy=mine.py:Mine,lru", "--seeds", "1-2", "--jobs", "2"]) == 0
    capsys.readouterr()
    mine.write_text(SOURCE.replace("        victims = []", "        return [999]"))
    long = ["run", "pressure", "--set", "memory.policy=mine.py:Mine"]
    assert status(long) == 2
    assert "gave [999]: page 999, which it does not hold; llmos policies --check" in capsys.readouterr().err
    policy.POLICIES.pop("mine.py:Mine")
    (mine.parent / "evil.toml").write_text(
        'title = "a"\nteaches = "b"\nuntil = "1s"\n[machine]\nset = ["memory.policy=mine.py:Mine"]\n'
        '[processes.main]\ndoes = "echo"\n[[events]]\nat = "0s"\nto = ["main"]\nsay = "hello"\n'
        '[[expect]]\norder = [{ what = "interrupt", process = "main" }]\n'
    )
    assert status(["run", "evil.toml"]) == 2
    assert "no such policy" in capsys.readouterr().err


def test_a_machine_with_a_directory_takes_no_file(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["boot", "--cpu", "scripted", "--dir", str(mine.parent / "machine"), "--set", "memory.policy=mine.py:Mine"]
    assert status(words) == 2
    assert "a machine takes one of a package's llmos.policies" in capsys.readouterr().err


def test_a_package_offers_policies_to_every_command(
    mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (mine.parent / "counting.py").write_text(SOURCE.replace("class Mine:", 'class Mine:\n    """Counts."""'))
    info = mine.parent / "counting-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: counting\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[llmos.policies]\ncounting = counting:Mine\nbroken = absent:Mine\n")
    monkeypatch.syspath_prepend(str(mine.parent))
    monkeypatch.delitem(sys.modules, "counting", raising=False)
    rig = Rig(echo, "window=2048", "cpu.reply=100", "memory.policy=counting")
    pid = rig.spawn()
    for n in range(100):
        rig.say(pid, f"message {n} of which nothing else is to be said", f"m{n}")
    assert rig.proc(pid).accounts.evictions > 0
    (info / "entry_points.txt").write_text("[llmos.policies]\ncounting = counting:Mine\n")
    assert status(["policies"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("counting")][0].endswith("Counts.")
    assert status(["policies", "--check", "counting"]) == 0
    (info / "entry_points.txt").write_text("[llmos.policies]\nbroken = absent:Mine\n")
    with pytest.raises(BadInput, match="absent:Mine cannot be imported: ModuleNotFoundError"):
        policy.make("broken", 100)
