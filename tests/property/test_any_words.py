"""Words of any text: inside it, in order, the same beside other text; and FTS5 finds exactly them."""

from __future__ import annotations

import sqlite3
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.memory import words
from kernel.memory.words import TOKENIZE, Word, encoded, folded, quoted, stem, terms

SCRIPTS = (
    "aZé ßﬁ.'’-_@#$%+:/,&\"\n\t\0\u0301\u00ad\u200d0７٣½我的了手機々ひガｶﾞー\u3099한ㅎ\u1112\u1161"
    "ไทยเ້မြန်ខ្មែរहिन्दीعَلىИйİıŉ🎉\ud800ﷺ\ufe0f\U00020000"
)
PHRASES = (
    "don't",
    "C++",
    "x@y.org",
    "https://a.b/c?d",
    "1,000",
    "$14.2B",
    "10:30",
    "snakeCase_x",
    "U.S.",
    "l'homme",
    "我们",
    "U.S",
    "A.\ufdfa",  # a letter that folds to four words
)
TEXTS = st.one_of(
    st.text(st.one_of(st.sampled_from(SCRIPTS), st.characters(exclude_categories=())), max_size=60),
    st.lists(st.sampled_from([*PHRASES, *SCRIPTS, " ", " went ", "Ann "]), max_size=12).map("".join),
)


@given(TEXTS)
@settings(max_examples=400, deadline=None)
def test_words_lie_in_the_text_in_order(text: str) -> None:
    found = words.words(text)
    for word in found:
        assert 0 <= word.start < word.end <= len(text)
        assert word.term
        assert not any(c.isspace() or c == "\0" or unicodedata.category(c) == "Cs" for c in word.term)
        assert not set(word.term) & set("'\"")
    places = [(word.start, -word.end) for word in found]
    assert places == sorted(places)
    assert found == words.words(text)
    assert terms(text) == {word.term for word in found if not word.stop}


@given(TEXTS)
@settings(max_examples=400, deadline=None)
def test_folding_twice_changes_nothing(text: str) -> None:
    assert folded(folded(text)) == folded(text)


@pytest.mark.parametrize(
    "text", ["\u0439\u00ad\u1037", "\u0438\u0306\u200b\u1037", "\u0439\u0301", "\u0438\u0301\u0306"]
)
def test_folding_a_short_i_with_marks_twice_changes_nothing(text: str) -> None:
    assert folded(folded(text)) == folded(text)


def test_folding_any_character_twice_changes_nothing() -> None:
    assert [c for c in map(chr, range(0x110000)) if folded(folded(c)) != folded(c)] == []


def bare(found: list[Word], by: int = 0) -> list[tuple[str, int, int]]:
    return [(word.term, word.start + by, word.end + by) for word in found]


@given(TEXTS, TEXTS)
@settings(max_examples=400, deadline=None)
def test_words_are_those_of_the_parts_around_a_space(one: str, two: str) -> None:
    """Names and the stopwords that they decide, as Will and US, are not: they look at sentences."""
    both = bare(words.words(f"{one} {two}"))
    assert both == bare(words.words(one)) + bare(words.words(two), len(one) + 1)


LATIN = st.text("abcdeXYZ", min_size=1, max_size=8)
HAN = st.text("手機電腦書店山水", min_size=1, max_size=6)


@given(LATIN, HAN, LATIN)
@settings(deadline=None)
def test_words_are_those_of_the_parts_around_a_change_of_script(one: str, two: str, three: str) -> None:
    found = bare(words.words(one + two + three))
    rest = bare(words.words(two), len(one)) + bare(words.words(three), len(one + two))
    assert found == bare(words.words(one)) + rest


@given(st.text("abcdefghilmnorstuvy", min_size=1, max_size=12))
@settings(deadline=None)
def test_a_stem_is_a_word_of_letters(word: str) -> None:
    assert stem(word).isalpha()


@given(TEXTS, TEXTS)
@settings(max_examples=300, deadline=None)
def test_fts5_finds_exactly_the_terms(one: str, two: str) -> None:
    sql = sqlite3.connect(":memory:")
    sql.execute(f"CREATE VIRTUAL TABLE fts USING fts5(text, content='', columnsize=0, tokenize=\"{TOKENIZE}\")")
    sql.execute("CREATE VIRTUAL TABLE vocabulary USING fts5vocab(fts, 'instance')")
    for row, text in enumerate((one, two), 1):
        sql.execute("INSERT INTO fts(rowid, text) VALUES (?, ?)", (row, encoded(text)))
    for row, text in enumerate((one, two), 1):
        stored = sql.execute("SELECT term FROM vocabulary WHERE doc = ?", (row,)).fetchall()
        assert sorted(term for (term,) in stored) == sorted(terms(text))
    for term in terms(one) | terms(two):
        found = {row for (row,) in sql.execute("SELECT rowid FROM fts WHERE fts MATCH ?", (quoted(term),))}
        assert found == {row for row, text in enumerate((one, two), 1) if term in terms(text)}
    sql.close()
