"""The gate of demand paging: what is worth its tokens, and what fits."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.memory.recall import LEAST, NEAR, STANDARD, beside_best, fitting, price, worthy


class Scored(NamedTuple):
    """What was found."""

    score: float
    nth: int


scores = st.floats(0.0, 1.0)
sizes = st.integers(1, 500)
found = st.lists(st.tuples(scores, sizes), max_size=20).map(
    lambda rows: [(Scored(score, nth), size) for nth, (score, size) in enumerate(rows)]
)
windows = st.integers(512, 100_000)
worths = st.floats(0.0, 64.0)


@settings(deadline=None)
@given(found, windows, worths)
def test_what_is_worth_its_place_is_an_ordered_part_of_what_was_found(hits, window, worth):
    taken = worthy(hits, window, worth)
    assert taken == [hit for hit, _ in hits if hit in taken]
    price = worth * window * min(1.0, window / 4096)
    assert all((hit in taken) == (size <= hit.score * price) for hit, size in hits)
    assert not any(hit.score == 0.0 for hit in taken), "nothing is worth anything if it is not wanted"
    assert worthy(hits, window, 0.0) == []


@settings(deadline=None)
@given(found, windows, st.integers(1, 4), worths)
def test_a_larger_window_a_higher_worth_and_a_better_score_take_no_less(hits, window, more, worth):
    taken = set(worthy(hits, window, worth))
    assert taken <= set(worthy(hits, window * more, worth))
    assert taken <= set(worthy(hits, window, worth * more))
    surer = [(Scored(min(1.0, hit.score * more), hit.nth), size) for hit, size in hits]
    assert {hit.nth for hit in taken} <= {hit.nth for hit in worthy(surer, window, worth)}


@settings(deadline=None)
@given(found, windows, st.integers(1, 4), worths)
def test_beside_the_best_others_are_worth_what_it_leaves_of_the_question(hits, window, more, worth):
    taken = beside_best(hits, window, worth)
    assert taken == [hit for hit, _ in hits if hit in taken]
    assert set(taken) <= set(worthy(hits, window, worth)), "it takes no more than each by itself would"
    assert set(taken) <= set(beside_best(hits, window * more, worth))
    assert set(taken) <= set(beside_best(hits, window, worth * more))
    best = max((hit.score for hit, _ in hits), default=0.0)
    for hit, size in hits:
        if hit in taken:
            assert best >= LEAST
            assert hit.score >= best * min(1.0, NEAR * (STANDARD / window) ** 2)
            assert hit.score == best or size <= hit.score * price(window, worth) * (1 - best)


def test_beside_a_sure_answer_little_else_is_brought_in_and_where_nothing_is_likely_nothing() -> None:
    def kept(*scores: float) -> list[int]:
        hits = [(Scored(score, nth), 50) for nth, score in enumerate(scores)]
        return [hit.nth for hit in beside_best(hits, 4096, 1.0)]

    assert kept(0.3, 0.05, 0.05) == [0, 1, 2]
    assert kept(0.9, 0.05, 0.05) == [0]
    assert kept(1.0, 1.0) == [0], "the first of two that are equally sure"
    assert kept(LEAST / 2) == []
    assert kept() == []


@settings(deadline=None)
@given(found, st.integers(-10, 2_000), st.integers(0, 25))
def test_what_fits_is_taken_in_order_and_nothing_is_left_that_would_have_fitted(hits, room, most):
    taken = fitting(hits, room, most)
    assert taken == [hit for hit, _ in hits if hit in taken]
    assert len(taken) <= most
    left = room
    for hit, size in hits:
        if hit in taken:
            left -= size
        else:
            assert size > left or sum(one.nth < hit.nth for one in taken) == most, "it was passed over without a reason"
    assert left >= min(0, room)


def test_one_that_does_not_fit_is_passed_over_for_a_smaller_one():
    assert fitting([("a", 6), ("b", 6), ("c", 4), ("d", 1)], 10, 9) == ["a", "c"]
    assert fitting([("a", 6), ("b", 6), ("c", 4), ("d", 1)], 10, 1) == ["a"]
