"""Which days an expression means, said on Wednesday, 10 May 2023, at 13:56 UTC."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from kernel.memory import times
from kernel.memory.times import MENTIONS_MAX, day_of, mentioned, text_of

EPOCH = date(1970, 1, 1)
SAID = int(datetime(2023, 5, 10, 13, 56, tzinfo=UTC).timestamp()) * 10**9


def seen(text: str, at: int = SAID) -> list[str]:
    """Days as ISO dates, a range with two dots."""
    dates = [
        [date.fromordinal(day + EPOCH.toordinal()) for day in (one.first, one.last)] for one in mentioned(text, at)
    ]
    return [str(first) if first == last else f"{first}..{last}" for first, last in dates]


@pytest.mark.parametrize(
    "text",
    """
    2023-05-07|2023/5/7|2023-05-07T10:00|7 May 2023|7th of May, 2023|May 7, 2023|May 7th 2023|7.5.2023|on 7 May|May 7th
    2023年5月7日|5月7日|五月七日|7 de mayo de 2023|7. Mai 2023|7 mai 2023|el 7 de mayo|3 days ago|three days ago|三天前
    hace tres días|vor drei Tagen|il y a trois jours|last Sunday|on Sunday|上周日|el domingo pasado|am Sonntag
    dimanche dernier|letzten Sonntag|on Sunday night|on May 7|in 7 May|大前天
    """.strip()
    .replace("\n    ", "|")
    .split("|"),
)
def test_all_of_these_mean_7_may(text: str) -> None:
    assert seen(text) == ["2023-05-07"]


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("today, tonight, this morning, hoy, heute, aujourd’hui, 今天", ["2023-05-10"] * 7),
        ("yesterday, last night, ayer, anoche, hier soir, 昨天", ["2023-05-09"] * 6),
        ("gestern", ["2023-05-09"]),
        ("the day before yesterday; vorgestern; anteayer; 前天", ["2023-05-08"] * 4),
        ("tomorrow 明天", ["2023-05-11"] * 2),
        ("the day after tomorrow", ["2023-05-12"]),
        ("last week; la semana pasada; letzte Woche; la semaine dernière; 上周", ["2023-05-01..2023-05-07"] * 5),
        ("上周天气很好", ["2023-05-01..2023-05-07"]),
        ("this week", ["2023-05-08..2023-05-14"]),
        ("next week, nächste Woche", ["2023-05-15..2023-05-21"] * 2),
        ("last weekend, over the weekend, 上周末", ["2023-05-06..2023-05-07"] * 3),
        ("this weekend", ["2023-05-13..2023-05-14"]),
        ("last month, 上个月", ["2023-04-01..2023-04-30"] * 2),
        ("last year, 去年, el año pasado, in 2022, 2022年", ["2022-01-01..2022-12-31"] * 5),
        ("this year 今年", ["2023-01-01..2023-12-31"] * 2),
        ("a week ago", ["2023-04-30..2023-05-06"]),
        ("two weeks ago, vor zwei Wochen, 两周前", ["2023-04-23..2023-04-29"] * 3),
        ("a few days ago", ["2023-05-05..2023-05-08"]),
        ("a couple of days ago", ["2023-05-07..2023-05-08"]),
        ("5 months ago", ["2022-12-01..2022-12-31"]),
        ("10 years ago", ["2013-01-01..2013-12-31"]),
        ("20 hours ago", ["2023-05-09"]),
        ("二十天前", ["2023-04-20"]),
        ("May 2023, in May, in May 2023, 2023年5月, 5月", ["2023-05-01..2023-05-31"] * 5),
        ("last May, 去年5月", ["2022-05-01..2022-05-31"] * 2),
        ("in June, last June", ["2022-06-01..2022-06-30"] * 2),
        ("next May", ["2024-05-01..2024-05-31"]),
        ("in the summer of 2022, last summer, summer 2022", ["2022-06-01..2022-08-31"] * 3),
        ("this winter", ["2023-12-01..2024-02-29"]),
        ("on Friday, last Friday, last Fri. we", ["2023-05-05"] * 3),
        ("on Wednesday", ["2023-05-10"]),
        ("last Wednesday", ["2023-05-03"]),
        ("next Friday, this Friday", ["2023-05-12"] * 2),
        ("13/05/2023 05/13/2023", ["2023-05-13"] * 2),
        ("12 May", ["2022-05-12"]),
        ("29 February, Feb. 29", ["2020-02-29"] * 2),
        ("31 December 2100, 1900-01-01", ["2100-12-31", "1900-01-01"]),
    ],
)
def test_expressions(text: str, days: list[str]) -> None:
    assert seen(text) == days


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I may go, may 7 people come?",
        "April said that May is here",
        "Friday, on Fridays, Sun, I last sat on",
        "07/05/2023",
        "31 April 2023",
        "2023-02-29",
        "1899-12-31, in 1850, 2101-01-01",
        "1.2.2023.4.5x 12-2023-05-07-1",
        "May 20:30",
        "2000 people",
        "Wir sind hier",
        "一个月",
        "999 years ago",
        "spring",
        "\ud800\0",
    ],
)
def test_these_name_no_day(text: str) -> None:
    assert seen(text) == []


def test_the_offsets_are_those_of_the_expression() -> None:
    text = "We met two weeks ago and on 7 May 2023."
    assert [text[one.start : one.end] for one in mentioned(text, SAID)] == ["two weeks ago", "7 May 2023"]


def test_there_are_at_most_eight() -> None:
    assert len(mentioned("today " * 20, SAID)) == MENTIONS_MAX


def test_the_calendar_is_that_of_the_standard_library() -> None:
    for day in range(date(1890, 1, 1).toordinal(), date(2110, 1, 1).toordinal()):
        one, days = date.fromordinal(day), day - EPOCH.toordinal()
        assert times._civil(days) == (one.year, one.month, one.day)
        assert times._number(one.year, one.month, one.day) == days
        assert times._weekday(days) == one.weekday()


def test_a_time_as_a_model_is_told_it() -> None:
    assert text_of(SAID) == "2023-05-10 13:56 (Wednesday)"
    assert text_of(0) == "1970-01-01 00:00 (Thursday)"
    assert text_of(-1) == "1969-12-31 23:59 (Wednesday)"
    assert day_of(-1) == -1
    assert day_of(SAID) == (date(2023, 5, 10) - EPOCH).days


@pytest.mark.parametrize(
    "piece", ["a few ", "2", "May ", "in ", " ", "the day before ", "一", "1-", "上", "last  ", "5 "]
)
def test_a_long_text_is_read(piece: str) -> None:
    mentioned(piece * (200_000 // len(piece)), SAID)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("I ran yesterday.", "I ran yesterday [9 May 2023]."),
        ("We met last month and last year.", "We met last month [April 2023] and last year [2022]."),
        ("Last week it rained", "Last week [1 May 2023 to 7 May 2023] it rained"),
        ("On 7 May 2023, and in 2021", "On 7 May 2023, and in 2021"),  # says its year itself
        ("我昨天去了", "我昨天 [9 May 2023]去了"),
        ("nothing of the kind", "nothing of the kind"),
    ],
)
def test_days_that_are_named_from_a_day_are_told_with_their_date(text: str, told: str) -> None:
    assert times.glossed(text, SAID) == told


def test_a_span_of_days_is_told_by_the_largest_unit_that_it_is() -> None:
    day = times.day_of(SAID)
    assert times.spoken(day) == "10 May 2023"
    assert times.span_of(day, day) == "10 May 2023"
    assert times.span_of(day - 9, day + 21) == "May 2023"
    assert times.span_of(day - 129, day + 235) == "2023"
    assert times.span_of(day - 1, day) == "9 May 2023 to 10 May 2023"
