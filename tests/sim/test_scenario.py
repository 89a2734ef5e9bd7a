"""Scenarios: those that come along hold, runs repeat, and no file, however broken, is more than an error message."""

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from kernel.errors import BadInput
from llmos.scenario import format as scenario
from llmos.scenario.timeline import trace
from llmos.scenario.virtual import play
from tests import tutorial

FOLDER = Path(scenario.__file__).parents[1] / "scenarios"
FILES = sorted(FOLDER.glob("*.toml"))
SMALL = (FOLDER / "two_users.toml").read_text()


def refused(text: str) -> str:
    with pytest.raises(BadInput) as caught:
        scenario.parse(text)
    return str(caught.value)


def edited(old: str, new: str) -> str:
    assert old in SMALL
    return SMALL.replace(old, new, 1)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_scenario_holds_and_repeats(file: Path) -> None:
    runs = [play(scenario.read(file)) for _ in range(3)]
    assert runs[0].ok, runs[0].broken
    assert len({ran.hash for ran in runs}) == 1


def test_there_are_a_dozen_and_each_teaches_something() -> None:
    found = [scenario.read(file) for file in FILES]
    assert len(found) >= 12
    assert len({one.teaches for one in found}) == len(found)


def test_the_hash_does_not_depend_on_the_hash_seed_of_python() -> None:
    command = [sys.executable, "-m", "llmos", "run", "storm", "--json"]
    hashes = set()
    for seed in ("0", "1", "2", "3", "4"):
        done = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True)
        hashes.add(json.loads(done.stdout)["hash"])
    assert len(hashes) == 1


def test_a_broken_expectation_is_exit_status_1_with_the_timeline_around_it(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(edited("is = 2", "is = 3") + '\n[[expect]]\nnever = { what = "said", text = "Bob" }\n')
    done = subprocess.run(
        [sys.executable, "-m", "llmos", "run", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "3 of (what 'said', process 'barber'), but there were 2" in done.stdout
    never = scenario.parse(edited("is = 2", "most = 2") + '\n[[expect]]\nnever = { what = "said", text = "Bob" }\n')
    assert "\n> " in play(never).broken


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[processes.barber]", "[processes.barber]\ncolour = 1", "unknown field `colour` - at `$.processes[...]`"),
        ('at = "1s"', 'at = "-1s"', "$.events[0] (line 8).at"),
        ('at = "1s"', "", "events[0] (line 8): one of at, every and after"),
        ('at = "1s"', 'after = "carl"', "after = carl: no event of that name"),
        ('to = ["barber"]', 'to = ["nobody"]', "events[0] (line 8): no process nobody; there are barber"),
        ('say = "Ann here."', 'kill = "barber"', "to goes with say or raise"),
        ('say = "Ann here."', 'raise = "device"', "raise and a text that is not empty go together"),
        ('say = "Ann here."', 'raise = "user"', "events[0] (line "),
        ('at = "1s"', 'slow = "1s"\nat = "1s"', "slow and lasts go together"),
        ('say = "Ann here."', "", "one of say, raise, kill"),
        ('what = "said"', 'what = "sung"', "nothing of the kind sung"),
        ('process = "barber", text = "Ann"', 'process = "ghost"', ": no process ghost"),
        ('name = "bob"', 'name = "ann"', "the name ann is given twice"),
        ('until = "1m"', 'until = "0s"', "until = 0s"),
        ('does = "echo"', 'does = "echo"\nplays = [{ op = "exit" }]', "one of does and plays"),
        ('does = "echo"', 'does = "echo"\nmask = ["fly"]', "fly is no syscall"),
        ("[processes.barber]", '[machine]\nset = ["colour=1"]\n[processes.barber]', "no such setting"),
        ("is = 2", "", "count needs is, least or most"),
        ('title = "Two', 'title = Two"', "line 1"),
    ],
)
def test_a_mistake_is_named_before_anything_runs(old: str, new: str, said: str) -> None:
    message = refused(edited(old, new))
    assert said in message


def test_a_cycle_of_after_is_named() -> None:
    text = edited('at = "1s"', 'after = "bob"').replace('at = "1s"', 'after = "ann"')
    assert "ann comes after itself" in refused(text)
    assert "bob comes after itself" in refused(text)


def test_several_mistakes_are_told_at_once() -> None:
    message = refused(edited('to = ["barber"]', 'to = ["x"]').replace('to = ["barber"]', 'to = ["y"]'))
    assert "no process x" in message
    assert "no process y" in message


def test_ten_thousand_malformed_files_are_error_messages_or_run() -> None:
    rng = Random(1)
    texts = [file.read_text() for file in FILES]
    bits = ["=", "[", "]", "{", "}", '"', "-", "1e9", "99999999d", "\n", "nan", "true", "\x00", "after", "[[events]]"]
    good = 0
    for _ in range(10_000):
        text = rng.choice(texts)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(text))
            how = rng.randrange(4)
            if how == 0:
                text = text[:at] + text[at + rng.randint(1, 9) :]
            elif how == 1:
                text = text[:at] + rng.choice(bits) + text[at:]
            elif how == 2:
                other = rng.choice(texts)
                text = text[:at] + other[rng.randrange(len(other)) :][:40] + text[at:]
            else:
                lines = text.splitlines()
                rng.shuffle(lines) if rng.random() < 0.2 else lines.pop(rng.randrange(len(lines)))
                text = "\n".join(lines) or "x"
        try:
            scenario.parse(text)
            good += 1
        except BadInput:
            continue
    assert 0 < good < 10_000


def test_a_trace_has_slots_interrupts_and_windows() -> None:
    ran = play(scenario.read(FOLDER / "inversion.toml"))
    events = list(trace(ran))
    json.dumps(events)
    runs = [event for event in events if event["ph"] == "X"]
    assert {event["name"] for event in runs} == {"novelist", "alarm"}
    ends = sorted((event["ts"], event["ts"] + event["dur"]) for event in runs)
    assert all(end <= start for (_, end), (start, _) in zip(ends, ends[1:], strict=False))  # one slot, one at a time
    assert any(event["ph"] == "i" and event["name"].startswith("interrupt user") for event in events)
    assert any(event["ph"] == "C" and event["name"] == "window of alarm" for event in events)


def test_a_seed_moves_what_is_spread() -> None:
    text = edited('at = "1s"', 'at = "1s"\nspread = "10s"')
    assert len({play(scenario.parse(text), seed).hash for seed in (1, 2)}) == 2
    assert len({play(scenario.parse(text), 1).hash for _ in range(2)}) == 1


def test_the_tutorial_shows_what_its_commands_print() -> None:
    page = tutorial.PAGE.read_text()
    assert tutorial.filled(page) == page, "run `make docs`"
    for file in FILES:
        assert f"| `{file.stem}` | {scenario.read(file).teaches} |" in page
    for what in scenario.WHATS:
        assert f"`{what}`" in page
