"""Scenarios: those that come along hold, runs repeat, and no file, however broken, is more than an error message."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from kernel.errors import BadInput
from llmos.scenario import format as form
from llmos.scenario import reading as scenario
from llmos.scenario.virtual import play
from tests import tutorial

FOLDER = Path(form.__file__).parents[1] / "scenarios"
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
        (
            "[processes.barber]",
            "[processes.barber]\ncolour = 1",
            "line 6: processes.barber.colour: no such field; fields",
        ),
        ('at = "1s"', 'at = "-1s"', "line 10: events[0].at: -1s is not a time since the start, such as 250ms"),
        (
            'until = "1m"',
            'until = "five minutes"',
            "line 3: until: five minutes is not a duration, such as 250ms, 1h30m",
        ),
        ('at = "1s"', "", "line 8: events[0]: one of at, every and after"),
        (
            'at = "1s"',
            'after = "bib"',
            "line 10: events[0].after: no event of the name bib; did you mean bob? there are",
        ),
        ('to = ["barber"]', 'to = ["barbar"]', "line 8: events[0]: no process barbar; did you mean barber? there are"),
        ('say = "Ann here."', 'kill = "barber"', "to goes with say, raise, grant, revoke or allow"),
        ('say = "Ann here."', 'raise = "device"', "raise and a text that is not empty go together"),
        ('say = "Ann here."', 'raise = "user"', "line 12: events[0].raise: no user; there are ipc, child, device"),
        ('at = "1s"', 'slow = "1s"\nat = "1s"', "slow and lasts go together"),
        ('say = "Ann here."', "", "one of say, raise, kill"),
        ('say = "Ann here."', 'sya = "Ann here."', "events[0].sya: no such field; did you mean say? fields are"),
        ('what = "said"', 'what = "sayd"', "nothing of the kind sayd; did you mean said? there are"),
        ('process = "barber", text = "Ann"', 'process = "ghost"', ": no process ghost"),
        ('name = "bob"', 'name = "ann"', "the name ann is given twice"),
        ('until = "1m"', 'until = "0s"', "line 3: until: 0s"),
        ('does = "echo"', 'does = "echo"\nplays = [{ op = "exit" }]', "one of plays, does and on"),
        (
            'does = "echo"',
            'does = "echo"\nmask = ["send_mesage"]',
            "send_mesage is no syscall; did you mean send_message?",
        ),
        (
            "[processes.barber]",
            '[machine]\nset = ["sched.polcy=rr"]\n[processes.barber]',
            "line 6: machine.set[0]: sched.polcy: no such setting; did you mean sched.policy? settings are",
        ),
        ("is = 2", "", "count needs is, least or most"),
        ('title = "Two', 'title = Two"', "line 1, column 9: Invalid value"),
        ('title = "Two', 'titel = "Two', "titel: no such field; did you mean title?"),
    ],
)
def test_a_mistake_is_named_before_anything_runs(old: str, new: str, said: str) -> None:
    message = refused(edited(old, new))
    assert said in message


def test_a_cycle_of_after_is_named() -> None:
    text = edited('at = "1s"', 'after = "bob"').replace('at = "1s"', 'after = "ann"')
    assert "events[0]: ann comes after itself" in refused(text)
    assert "bob comes after itself" in refused(text)


PLAYS = """title = "t"
teaches = "t"
until = "1m"

[processes.a]
plays = [
  { op = "set_timer", secnds = 4, text = "tea" },
  { op = "set_tmer", seconds = 4, text = "tea" },
  { op = "set_timer", seconds = "4", text = "tea" },
  { op = "set_timer", text = "tea" },
  { op = "yield" },
]

[[processes.a.on]]
call = "serch"
plays = [{ op = "send_message" }]

[[events]]
at = "1 s"
to = ["a"]
say = "x"

[[events]]
at = "1s"
to = ["b"]
say = "x"
"""


def test_several_mistakes_are_told_at_once_each_with_its_line() -> None:
    message = refused(PLAYS)
    told = [
        "scenario: line 5: processes.a: one of plays, does and on, or does with on; given are plays, on",
        "line 7: processes.a.plays[0]: set_timer has no secnds; did you mean seconds? it takes text, seconds,",
        "line 8: processes.a.plays[1]: no syscall set_tmer; did you mean set_timer? it may emit send_message,",
        "line 9: processes.a.plays[2]: set_timer: Expected `int`, got `str`",
        "line 10: processes.a.plays[3]: set_timer: a timer needs seconds or at, and not both",
        "line 15: processes.a.on[0].call: no syscall serch of this process; did you mean search?",
        "line 16: processes.a.on[0].plays[0]: send_message: Object missing required field `text`",
        "line 19: events[0].at: 1 s is not a time since the start",
        "line 23: events[1]: no process b; there are a",
    ]
    at = [message.find(one) for one in told]
    assert -1 not in at, (message, [one for one in told if one not in message])
    assert at == sorted(at)
    assert "\n" not in message


def test_nonsense_that_is_meant_says_so_and_a_reply_fits_its_limit() -> None:
    nonsense = edited('does = "echo"', 'plays = [{ op = "fly" }]')
    assert "say garbage = true for the process" in refused(nonsense)
    scenario.parse(nonsense.replace("plays", "garbage = true\nplays"))
    long = edited('does = "echo"', 'does = "talk"\ntokens = 300')
    assert "line 7: processes.barber.tokens: 300: at most cpu.reply, 204 here" in refused(long)
    scenario.parse(long.replace("[processes", '[machine]\nset = ["cpu.reply=300", "window=4096"]\n[processes', 1))
    text = "x" * 2_000
    assert "at most cpu.reply" in refused(
        edited('does = "echo"', f'plays = [{{ op = "send_message", text = "{text}" }}]')
    )
    assert "is not in its mask" in refused(
        edited('does = "echo"', 'mask = ["yield"]\nplays = [{ op = "send_message", text = "x" }]')
    )


def test_ten_thousand_malformed_files_are_error_messages_or_run() -> None:
    rng = Random(1)
    texts = [file.read_text() for file in FILES]
    bits = ["=", "[", "]", "{", "}", '"', "-", "1e9", "99999999d", "\n", "nan", "true", "\x00", "after", "[[events]]"]
    good = placed = 0
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
        except BadInput as exc:
            told = str(exc)
            assert "\n" not in told
            assert len(told) < 3_000
            placed += told.startswith("scenario: line ")
    assert 0 < good < 10_000
    assert placed == 10_000 - good


def test_a_seed_moves_what_is_spread() -> None:
    text = edited('at = "1s"', 'at = "1s"\nspread = "10s"')
    assert len({play(scenario.parse(text), seed).hash for seed in (1, 2)}) == 2
    assert len({play(scenario.parse(text), 1).hash for _ in range(2)}) == 1


def test_the_three_scenarios_of_the_tutorial_hold_in_under_forty_lines_each() -> None:
    page = tutorial.PAGE.read_text()
    _, _, three = page.partition("## Three scenarios\n")
    found = re.findall(r"```toml\n(.*?)```", three.partition("\n## ")[0], re.S)
    assert len(found) == 3
    for text in found:
        lines = [line for line in text.splitlines() if line]
        assert len(lines) < 40
        ran = play(scenario.parse(text))
        assert ran.ok, ran.broken
    digest, alarms, _ = (play(scenario.parse(text)) for text in found)
    nights = [one.at / 3_600e9 for one in digest.timeline if one.what == "event"]
    assert nights == [14.5, 38.5, 63.5]  # half past two each night; after the second the clocks go back
    late = [one.at / 60e9 for one in alarms.timeline if one.what == "delivered" and one.line == "device"]
    assert sum(one > 15 for one in late) > 30  # what rang meanwhile came when the line was let through


def test_the_tutorial_shows_what_its_commands_print() -> None:
    page = tutorial.PAGE.read_text()
    assert tutorial.filled(page) == page, "run `make docs`"
    for file in FILES:
        assert f"| `{file.stem}` | {scenario.read(file).teaches} |" in page
    for what in form.WHATS:
        assert f"`{what}`" in page
