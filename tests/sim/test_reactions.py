"""What a scenario may script and expect: reactions, dates, answers, a process at a time; and why it is broken."""

from __future__ import annotations

import pytest

from llmos.scenario.days import Days
from llmos.scenario.reading import parse
from llmos.scenario.timeline import Ran
from llmos.scenario.virtual import play

TOP = 'title = "t"\nteaches = "t"\n'


def ran(text: str, start: str = "", until: str = "1h") -> Ran:
    head = f'{TOP}until = "{until}"\n' + (f'start = "{start}"\n' if start else "")
    return play(parse(head + text))


def said(one: Ran, who: str = "") -> list[tuple[float, str]]:
    return [(row.at / 1e9, row.text) for row in one.timeline if row.what == "said" and who in ("", row.process)]


def say(at: str, text: str, name: str = "") -> str:
    return f'[[events]]\nat = "{at}"\nto = ["a"]\nsay = "{text}"\n' + (f'name = "{name}"\n' if name else "")


def ring(at: str, text: str = "ding") -> str:
    return f'[[events]]\nat = "{at}"\nto = ["a"]\nraise = "device"\ntext = "{text}"\n'


def reply(text: str) -> str:
    return f'{{ op = "send_message", text = "{text}" }}'


def test_a_process_reacts_by_line_by_text_by_call_and_by_count() -> None:
    one = ran(
        f"""
[processes.a]
does = "echo"
[[processes.a.on]]
text = "find"
plays = [{{ op = "search", query = "tea" }}]
[[processes.a.on]]
call = "search"
plays = [{reply("found")}]
[[processes.a.on]]
line = "device"
nth = 3
plays = [{reply("the third")}]
[[processes.a.on]]
line = "device"
times = 1
plays = [{reply("the first")}]
[[processes.a.on]]
line = "device"
plays = [{{ op = "yield" }}]
"""
        + say("1s", "find it")
        + say("2s", "hello")
        + "".join(ring(f"{n}s") for n in (3, 4, 5, 6))
        + say("7s", "hello again")
    )
    assert [(int(at), text) for at, text in said(one)] == [
        *((1, "found"), (2, "you said: hello"), (3, "the first")),
        *((5, "the third"), (7, "you said: hello again")),
    ]


def test_a_list_goes_on_where_nothing_fits_and_another_begins_where_something_does() -> None:
    lists = f"""
[processes.a]
[[processes.a.on]]
text = "count"
plays = [{reply("one")}, {{ op = "sleep", seconds = 60 }}, {reply("two")}, {reply("three")}]
[[processes.a.on]]
text = "stop"
plays = [{reply("stopped")}]
"""
    on = ran(lists + say("1s", "count") + say("2s", "go on") + say("3s", "go on") + say("90s", "go on"))
    assert [text for _, text in said(on)] == ["one", "two", "three"]
    assert said(on)[1][0] < 5  # the second message wakes it from its sleep
    stopped = ran(lists + say("1s", "count") + say("2s", "stop") + say("3s", "go on"))
    assert [text for _, text in said(stopped)] == ["one", "stopped"]


def test_what_came_at_once_is_one_occasion_and_counts_one_by_one() -> None:
    masked = f"""
[processes.a]
[[processes.a.on]]
line = "user"
plays = [{{ op = "mask", lines = ["device"], seconds = 60 }}, {{ op = "yield" }}]
[[processes.a.on]]
line = "device"
nth = 4
plays = [{reply("four at least")}]
"""
    one = ran(masked + say("1s", "mask") + "".join(ring(f"{n}s") for n in range(5, 12)))
    assert [text for _, text in said(one)] == ["four at least"]


def test_an_instruction_is_the_same_after_preemptions_failures_and_power_cuts() -> None:
    text = f"""
[machine]
set = ["sched.quantum=8"]
[processes.a]
[[processes.a.on]]
text = "find"
plays = [{{ op = "remember", text = "tea at four" }}, {{ op = "search", query = "tea" }}]
[[processes.a.on]]
call = "search"
text = "tea at four"
plays = [{reply("found " + "x" * 200)}]
[processes.b]
does = "talk"
""" + say("1s", "find it", "asked")
    plain = ran(text)
    assert [line[:5] for _, line in said(plain, "a")] == ["found"]
    for fault in ('fails = 2\nat = "1100ms"', 'cut = "5s"\nat = "2100ms"', 'stall = "3s"\nat = "1500ms"'):
        other = ran(f'{text}[[events]]\n{fault}\n[[events]]\nat = "0s"\nto = ["b"]\nsay = "talk"\n')
        assert [line for _, line in said(other, "a")] == [line for _, line in said(plain, "a")], fault


def test_times_are_since_the_start_after_others_by_date_and_by_the_calendar_of_a_zone() -> None:
    processes = '[processes.a]\ndoes = "yield"\n'
    every = ran(
        processes
        + '[[events]]\nname = "x"\nat = "5m"\nevery = "10m"\ntimes = 3\nto = ["a"]\nsay = "x"\n'
        + '[[events]]\nname = "y"\nafter = "x"\nby = "1m"\nevery = "2m"\ntimes = 2\nto = ["a"]\nsay = "y"\n'
        + '[[events]]\nname = "z"\nafter = "x"\nevery = "3m"\nto = ["a"]\nsay = "z"\n'
    )
    at = {name: [row.at / 60e9 for row in every.timeline if row.what == "event" and row.text == name] for name in "xyz"}
    assert at == {"x": [5, 15, 25], "y": [6, 8, 16, 18, 26, 28], "z": [8, 18, 28]}
    nights = '[[events]]\nname = "n"\nat = "2026-10-24 02:30"\nevery = "day"\ntimes = 3\nto = ["a"]\nsay = "x"\n'
    autumn = ran(processes + nights, "2026-10-24 00:30 Europe/Berlin", "4d")
    hours = [row.at / 3_600e9 for row in autumn.timeline if row.what == "event"]
    assert hours == [2, 26, 51]  # the first half past two of the night that has two, and the hour more
    assert "Mon 2026-10-26 02:30:00.100" in autumn.timeline[-1].shown(Days("2026-10-24 00:30 Europe/Berlin"))


@pytest.mark.parametrize(
    ("zone", "hours", "by"),
    [("Europe/Berlin", 14, "3,600 s"), ("America/New_York", None, ""), ("Australia/Lord_Howe", None, "")],
)
def test_the_clocks_of_a_zone_change_when_and_as_they_do(zone: str, hours: float | None, by: str) -> None:
    days = Days(f"2026-03-28 12:00 {zone}")
    at, change = days.change()
    if hours is not None:
        one = ran(
            '[processes.a]\ndoes = "yield"\n[[events]]\nat = "dst"\njump = "dst"\n', f"2026-03-28 12:00 {zone}", "2d"
        )
        clock = next(row for row in one.timeline if row.what == "clock")
        assert (clock.at / 3_600e9, clock.text) == (hours, f"set ahead by {by}")
    else:
        assert change in (-3_600 * 10**9, -1_800 * 10**9)
        assert at > 0


def test_a_date_without_a_start_and_a_zone_that_is_none_are_named() -> None:
    for text, told in (
        ('[[events]]\nat = "2026-01-01 08:00"\nfails = 1\n', "dates need a start, such as"),
        ('[[events]]\nat = "1s"\njump = "dst"\n', "events[0].jump: dst: dates need a start"),
    ):
        with pytest.raises(Exception, match=told.replace("[", r"\[").replace("]", r"\]")):
            ran("[processes.a]\ndoes = 'yield'\n" + text)
    with pytest.raises(Exception, match="start: no time zone Europe/Berlinn; zones are such as UTC, Europe/Berlin"):
        ran("[processes.a]\ndoes = 'yield'\n", "2026-01-01 08:00 Europe/Berlinn")
    with pytest.raises(Exception, match="not before the start"):
        ran(
            "[processes.a]\ndoes = 'yield'\n[[events]]\nat = '2025-12-31 08:00'\nfails = 1\n",
            "2026-01-01 08:00 UTC",
        )


ASKED = f"""
[processes.a]
[[processes.a.on]]
text = "slow"
plays = [{{ op = "search", query = "x" }}, {reply("at last")}]
[[processes.a.on]]
text = "quick"
plays = [{reply("at once")}]
"""


def test_a_reply_to_another_question_does_not_count() -> None:
    events = say("1s", "a slow one", "slow") + say("1100ms", "quick", "quick")
    plain = '[[expect]]\nafter = { what = "event", text = "slow" }\nsee = { what = "said" }\nwithin = "5s"\n'
    assert ran(ASKED.replace('"slow"', '"never"') + say("1s", "slow", "slow") + say("2s", "quick") + plain).ok
    asked = '[[expect]]\nanswers = "slow"\nsee = { what = "said" }\nwithin = "5s"\n'
    assert ran(ASKED + say("1s", "a slow one", "slow") + asked).ok
    silent = ran(ASKED.replace('"slow"', '"never"') + say("1s", "slow", "slow") + say("2s", "quick") + asked)
    assert silent.failed[0].why == "missing"
    assert "(what 'said') in answer to slow within 5s, but it never came" in silent.broken
    both = ran(ASKED + events + '[[expect]]\ncount = { what = "said" }\nanswers = "quick"\nis = 1\n')
    assert both.ok, both.broken
    assert len(both.waited) == 2
    assert both.unanswered == 0


MADE = f"""
[processes.a]
blocks = {{ human = "Ada" }}
[[processes.a.on]]
text = "tea"
plays = [
  {{ op = "set_timer", seconds = 3000, text = "kettle" }},
  {{ op = "core_append", block = "human", text = "likes tea" }},
  {{ op = "mask", lines = ["ipc"], seconds = 3000 }},
  {reply("noted")},
]
{say("1m", "tea, please")}
[[expect]]
process = "a"
at = "5m"
"""


@pytest.mark.parametrize(
    ("holds", "breaks", "told"),
    [
        ('state = "idle"', 'state = "running"', "a running at 5m, but it was idle"),
        ('view = "kettle"', 'view = "pot"', "a view pot at 5m, but it stood in none of"),
        ('gone = "pot"', 'gone = "kettle"', "a gone kettle at 5m, but it stood in view: kettle"),
        ('block = { human = "tea" }', 'block = { human = "gin" }', "but human held Ada likes tea"),
        ('timer = "kettle"', 'timer = "egg"', "a timer egg at 5m, but its timers were kettle"),
        ('timer = "kettle"\nis = 1', 'timer = "kettle"\nis = 2', "but its timers were kettle"),
        ('masked = "ipc"', 'masked = "timer"', "a masked timer at 5m, but it held back ipc"),
        ("below = 500", "below = 20", "a below 20 at 5m, but its queue had"),
    ],
)
def test_what_a_process_is_at_a_time_may_be_expected(holds: str, breaks: str, told: str) -> None:
    assert ran(MADE + holds).ok, ran(MADE + holds).broken
    broken = ran(MADE + breaks).failed[0]
    assert (broken.why, broken.at_s) == ("looked", 300)
    assert told in broken.said


def test_a_broken_expectation_explains_itself() -> None:
    """The entry that came too late or should not have come, and the errors and exits of the process concerned."""
    text = f"""
[processes.a]
garbage = true
loop = true
plays = [{{ op = "fly" }}]
[processes.b]
does = "echo"
[processes.c]
[[processes.c.on]]
line = "user"
plays = [{{ op = "sleep", seconds = 90000 }}, {reply("good morning")}]
{say("1s", "hello", "hello")}
[[events]]
at = "2s"
to = ["c"]
say = "sleep"
name = "sleep"
[[events]]
every = "1m"
times = 20
to = ["b"]
say = "hi"
[[expect]]
after = {{ what = "event", text = "sleep" }}
see = {{ what = "said", process = "c" }}
within = "1d"
[[expect]]
never = {{ what = "exit", process = "a" }}
[[expect]]
answers = "hello"
see = {{ what = "said", process = "a" }}
within = "1m"
[[expect]]
count = {{ what = "said", process = "b" }}
most = 5
"""
    late, came, missing, count = ran(text, until="2d").failed
    assert (late.index, late.why, late.at_s) == (0, "late", pytest.approx(90_002, abs=2))
    assert "within 1d, but it came 1d 1h" in late.said
    assert [row.what for row in late.entries if row.mark] == ["event", "said"]
    assert "\n  ...\n" in str(late)
    assert "1d 01:00:02" in str(late)
    assert [row.what for row in came.entries if row.mark] == ["exit"]
    assert missing.why == "missing"
    told = [*missing.entries, *missing.concerned]
    assert [row.what for row in told if row.process == "a" and row.what in ("error", "exit")].count("exit") == 1
    assert (count.why, [row.text for row in count.entries if row.mark]) == ("count", ["you said: hi"])
