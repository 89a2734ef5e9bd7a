"""Dates of any text, said at any time: inside it, in order, within the years that are read, and the same by epoch."""

from __future__ import annotations

from datetime import date

from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.memory.times import MENTIONS_MAX, day_of, mentioned, text_of

EPOCH = date(1970, 1, 1).toordinal()
LOW, HIGH = date(1900, 1, 1).toordinal() - EPOCH, date(2100, 12, 31).toordinal() - EPOCH
WORDS = """
    May June 7 31 29 2023 2100 1900 in of last next this on the ago a few days weeks months years Friday summer winter
    2023-05-07 7.5.2023 , . 月 日 年 去年 5 十 二 前 周 上 de mayo vor zwei Wochen hace hier yesterday week weekend
"""
PARTS = WORDS.split()
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=60),
    st.lists(st.sampled_from([*PARTS, "", " "]), max_size=14).map(" ".join),
    st.lists(st.sampled_from(PARTS), max_size=14).map("".join),
)
TIMES = st.one_of(st.integers(-(2**70), 2**70), st.integers(LOW, HIGH).map(lambda day: day * 86_400 * 10**9))


@given(TEXTS, TIMES)
@settings(deadline=None)
def test_days_are_in_order_and_in_the_years_that_are_read(text: str, at: int) -> None:
    found = mentioned(text, at)
    assert len(found) <= MENTIONS_MAX
    assert found == mentioned(text, at)
    end = 0
    for one in found:
        assert end <= one.start < one.end <= len(text)
        assert LOW <= one.first <= one.last <= HIGH
        end = one.end


@given(st.dates(date(1900, 1, 1), date(2100, 12, 31)), TIMES)
@settings(deadline=None)
def test_a_whole_date_means_itself_whenever_it_is_said(day: date, at: int) -> None:
    for text in (
        f"{day}",
        f"{day.day}.{day.month}.{day.year}",
        f"{day.year}年{day.month}月{day.day}日",
        f"{day:%d %B %Y}",
    ):
        assert [(one.first, one.last) for one in mentioned(text, at)] == [(day.toordinal() - EPOCH,) * 2], text


@given(TIMES)
@settings(deadline=None)
def test_a_time_is_told_in_one_line(at: int) -> None:
    assert "\n" not in text_of(at)
    assert day_of(at) * 86_400 * 10**9 <= at
