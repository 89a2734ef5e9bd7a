"""A page as passages: spans of whole sentences, of any text."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drivers.index.passages import LEAST, MOST, PARTS_MAX, WHOLE, passages

SENTENCES = (
    "The boat is blue. ",
    "Where is it? ",
    "東京は大きい。",
    "x" * 700 + " ",
    "\n\n",
    " " * 50,
    "no end ",
    "¿Qué?! ",
)
texts = st.text(max_size=1_200) | st.lists(st.sampled_from(SENTENCES), max_size=80).map("".join)


def sentences(n: int, seed: int = 1) -> list[str]:
    draw = random.Random(seed)
    return [" ".join("w" * draw.randint(2, 9) for _ in range(draw.randint(5, 14))) + f" {nth}." for nth in range(n)]


@settings(max_examples=300, deadline=None)
@given(texts)
@example("")
@example(" " * 5_000)
@example("\n" * 5_000)
@example("x" * 100_000)
@example("a. " * 30_000)
@example("\ud800" * 1_000)
@example("。" * 1_000)
def test_spans_are_in_order_bounded_and_leave_out_nothing_but_white_space(text: str) -> None:
    spans = passages(text)
    assert 1 <= len(spans) <= PARTS_MAX
    end = 0
    for start, stop in spans:
        assert end <= start <= stop <= len(text)
        assert not text[end:start].strip(), "left out"
        if len(spans) > 1:
            assert text[start:stop] == text[start:stop].strip() != ""
        end = stop
    assert not text[end:].strip()
    assert len(text) > WHOLE or spans == [(0, len(text))]


def test_passages_are_whole_sentences_of_about_one_size() -> None:
    said = sentences(60)
    text = " ".join(said)
    spans = passages(text)
    assert len(spans) > 5
    starts = {text.index(one) for one in said}
    assert {start for start, _ in spans} <= starts
    assert all(text[end - 1] == "." for _, end in spans)
    assert all(LEAST <= end - start <= MOST for start, end in spans)


@pytest.mark.parametrize("end", ["。", "！", "!\n", "?” ", "...\n\n"])
def test_sentences_end_in_many_ways(end: str) -> None:
    text = "".join("語" * 150 + end for _ in range(6))
    spans = passages(text)
    assert [text[start:stop].count("語") for start, stop in spans] == [300, 300, 300]
    assert all(text[start] == "語" for start, _ in spans)


def test_a_sentence_without_an_end_is_cut_at_spaces_and_a_word_without_one_anywhere() -> None:
    words = " ".join(f"word{n}" for n in range(400))
    spans = passages(words)
    assert len(spans) > 5
    assert " ".join(words[start:end] for start, end in spans) == words, "between words"
    assert max(end - start for start, end in spans) <= 2 * MOST
    solid = "x" * 4_000
    spans = passages(solid)
    assert "".join(solid[start:end] for start, end in spans) == solid
    assert max(end - start for start, end in spans) <= 2 * MOST


def test_the_last_passage_takes_what_more_there_is() -> None:
    text = " ".join(sentences(2_000))
    spans = passages(text)
    assert len(spans) == PARTS_MAX
    assert spans[-1][1] == len(text)
    assert spans[-1][1] - spans[-1][0] > len(text) / 2


def test_a_passage_depends_on_what_stands_before_it_alone() -> None:
    text = " ".join(sentences(60))
    spans = passages(text)
    assert passages(text + " And one more, behind it all.")[: len(spans) - 1] == spans[:-1]


def test_it_takes_time_in_proportion_to_the_text() -> None:
    def seconds(text: str) -> float:
        began = time.process_time()
        passages(text)
        return time.process_time() - began

    for piece in ("x", " ", "\n", "。", "a. ", "…» ", ".\"'"):
        assert seconds(piece * (200_000 // len(piece))) < 5.0, piece
