"""One scenario on both stages: what happens is the same, in the same order, whatever time it is played in."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from drivers.cpu.scripted import ScriptedCpu, echo
from llmos.scenario.reading import parse
from llmos.scenario.real import Real
from llmos.scenario.timeline import Ran
from llmos.scenario.virtual import play

pytestmark = pytest.mark.slow

EVERYTHING = """
title = "Everything"
teaches = "All verbs, on any machine."
until = "6s"
start = "2026-03-29 01:59:56 Europe/Berlin"

[machine]
token = "1ms"

[processes.a]
does = "echo"
nice = 3

[processes.b]
does = "echo"
mask = ["send_message"]
blocks = { notes = "Ada" }

[[events]]
name = "first"
at = "300ms"
to = ["a", "b"]
say = "hello"

[[events]]
name = "ended"
after = "first"
by = "400ms"
kill = "a"

[[events]]
after = "ended"
to = ["a", "b"]
say = "who is there?"

[[events]]
name = "again"
after = "ended"
by = "200ms"
start = "a"

[[events]]
after = "again"
by = "100ms"
start = "a"

[[events]]
at = "1500ms"
fails = 1

[[events]]
at = "1500ms"
silence = "100ms"

[[events]]
at = "1600ms"
to = ["a"]
raise = "device"
text = "ding"

[[events]]
at = "2200ms"
stall = "300ms"

[[events]]
at = "2210ms"
stall = "600ms"

[[events]]
at = "2300ms"
to = ["b"]
say = "are you standing still?"

[[events]]
name = "answered?"
at = "2650ms"
slow = "50ms"
lasts = "100ms"

[[events]]
name = "dark"
at = "3200ms"
cut = "300ms"

[[events]]
at = "3300ms"
to = ["a"]
say = "nobody hears"

[[events]]
name = "back"
at = "4500ms"
to = ["a"]
say = "are you back?"

[[events]]
name = "summer"
at = "dst"
jump = "dst"

[[events]]
after = "first"
every = "150ms"
times = 2
to = ["b"]
raise = "ipc"
text = "again"

[[expect]]
state = "zombie"
process = "a"
at = "800ms"

[[expect]]
state = "idle"
process = "a"
at = "1300ms"

[[expect]]
view = "you said: hello"
process = "b"
at = "2026-03-29 01:59:57"

[[expect]]
block = { notes = "Ada" }
process = "b"
at = "1s"

[[expect]]
below = 400
process = "b"
at = "1s"

[[expect]]
answers = "back"
see = { what = "said", process = "a", text = "are you back?" }
within = "1400ms"
"""
SAME = ("boot", "spawn", "interrupt", "delivered", "said", "exit", "error", "event", "refused", "cut")


def real(text: str, folder: Path) -> Ran:
    stage = Real(parse(text), lambda settings: ScriptedCpu(echo, token_s=0.001), folder, 0, lambda progress: None)
    return trio.run(stage.run)


def told(ran: Ran) -> list[tuple[str, str, str, str]]:
    """The entries that no stage may leave out, put elsewhere or tell differently, without what a device says."""
    kept = [one for one in ran.timeline if one.what in SAME]
    return [(one.what, one.process, one.line, one.text if one.what not in ("boot", "error") else "") for one in kept]


def test_a_scenario_with_every_verb_goes_the_same_way_in_both_times(tmp_path: Path) -> None:
    virtual, lived = play(parse(EVERYTHING)), real(EVERYTHING, tmp_path)
    assert told(lived) == told(virtual)
    for ran in (virtual, lived):
        assert [one.text for one in ran.timeline if one.what == "clock"] == ["set ahead by 3,600 s"]
    assert virtual.ok, virtual.broken
    assert lived.ok, lived.broken


def test_a_slow_disk_is_slow_when_the_power_is_back_too(tmp_path: Path) -> None:
    text = """
title = "Slow"
teaches = "A power cut makes no disk faster."
until = "4s"
[processes.a]
does = "yield"
[[events]]
at = "100ms"
slow = "300ms"
lasts = "3s"
[[events]]
at = "200ms"
cut = "300ms"
[[events]]
name = "asked"
at = "2300ms"
to = ["a"]
say = "x"
[[expect]]
count = { what = "cut" }
is = 1
"""
    for ran in (play(parse(text)), real(text, tmp_path)):
        asked = next(one.at for one in ran.timeline if one.what == "event" and one.text == "asked")
        heard = next(one.at for one in ran.timeline if one.what == "interrupt")
        assert heard - asked >= 300_000_000
