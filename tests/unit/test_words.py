"""What is a word, in every script, and which words are equal."""

from __future__ import annotations

import pytest

from kernel.memory.words import TERM_MAX, encoded, folded, quoted, stem, terms, words


def seen(text: str) -> list[str]:
    """Terms in order; a name in brackets, a stopword with a minus."""
    return [f"[{w.term}]" if w.name else f"-{w.term}" if w.stop else w.term for w in words(text)]


@pytest.mark.parametrize(
    "equal",
    [
        "hope hopes hoped hoping",
        "hop hops hopped hopping",
        "plan plans planned planning",
        "study studies studied studying",
        "travel travels travelled travelling traveled",
        "box boxes",
        "class classes",
        "movie movies",
        "city cities",
        "quick quickly",
        "happy happily",
        "basic basically",
        "buy buys bought buying",
        "teach taught teaching teaches",
        "write wrote written writing",
        "child children children's",
        "wife wives wife’s",
        "person people",
        "add added adding",
        "use used using uses",
        "café cafe CAFÉ cafe\u0301 ＣＡＦÉ cafés",
        "straße STRASSE strasse",
        "fine ﬁne",
        "istanbul İstanbul ıstanbul ISTANBUL",
        "dont don't don’t DON'T",
        "homme l'homme L’homme hommes",
        "año ano años",
        "ciudad ciudades",
        "7 7th ７ ٧ ७",
        "مدرسة مَدرَسه",
        "ガギ ｶﾞｷﾞ カ\u3099キ\u3099",
        "한국 \u1112\u1161\u11ab\u1100\u116e\u11a8",
        "Ελλάς ελλασ",
    ],
)
def test_these_are_equal(equal: str) -> None:
    assert len({words(one)[0].term for one in equal.split()}) == 1


@pytest.mark.parametrize(
    "apart",
    [
        "car care",
        "plan plane",
        "hop hope",
        "even evening",
        "string strain",
        "C C++ C#",
        "NET .NET",
        "мой мои",
        "か が",
        "कि की",
        "มา ม้า",
        "1.2.3 1.2.4",
        "us U.S.A",
        "thing nothing",
    ],
)
def test_these_are_not(apart: str) -> None:
    assert len({words(one)[0].term for one in apart.split()}) == len(apart.split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yesterday Ann bought 3 books.", "yesterday [ann] buy [3] book"),
        ("Ann left. Bob met Mr. Smith", "ann leave bob meet [mr] [smith]"),
        ("I love Ann! Bob does not", "-i love [ann] bob -do -not"),
        ("C++ and C#, .NET", "[c++] [c] -and [c#] [c] [.net] [net]"),
        ("ask jo.doe@ex.org", "ask [jo.doe@ex.org] jo doe ex org"),
        ("see https://a.org/b_1?q=2.", "see [https://a.org/b_1?q=2] http -a org -b [1] -q [2]"),
        ("on 2023-05-07", "-on [2023-05-07] [2023] [05] [07]"),
        ("v1.2.3 at 10:30", "[v1.2.3] [v1] [2] [3] -at [10:30] [10] [30]"),
        ("paid $14.2B, 50% of 1,000", "pay [$14.2b] [14.2] [50%] [50] -of [1000]"),
        ("snake_case camelCase", "[snake_case] snake case [camelcas] camel [case]"),
        ("HTTPServer and IDs", "[httpserver] [http] [server] -and [ids]"),
        ("my #HashTag", "-my [#hashtag] [hashtag] [hash] [tag]"),
        ("ran 5km on the 7th", "run [5km] [5] km -on -the [7]"),
        ("an e-mail, an x-ray", "-an email -e mail -an xray -x ray"),
        ("AT&T in the U.S., e.g. here", "[at&t] -at [t] -in -the [us] -eg -here"),
        ("we met Will in May, us", "-we meet [will] -in [may] -us"),
        ("Will it? May I? us", "-will -it may -i -us"),
        ("TELL US WHO IN MAY", "-tell -us -who -in -may"),
        ("I'll be ill", "-ill -be ill"),
        ("and/or well-known", "-and -or -well -know"),
        ("_emphasis_ __init__", "emphasis init"),
    ],
)
def test_words_of_latin_text(text: str, expected: str) -> None:
    assert seen(text) == expected.replace("leave", "leav").split()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("手機", "手機 手 機"),
        ("书", "书"),
        ("我的书", "-我的 -我 -的书 -的 书"),
        ("目的", "目的 目 -的"),
        ("2023年5月", "[2023] 年 [5] 月"),
        ("iPhone手机", "[iphon] -i [phone] 手机 手 机"),
        ("食べるカタカナ", "食 べる カタ タカ カナ"),
        ("本を", "本 -を"),
        ("한국어 책", "한국 국어 책"),
        ("ภาษา", "ภาษ าษา"),
        ("ไป", "ไป"),
        ("हिन्दी में", "हिन्दी में"),
    ],
)
def test_words_of_other_scripts(text: str, expected: str) -> None:
    assert seen(text) == expected.split()


def test_a_query_of_one_han_character_finds() -> None:
    assert terms("书") <= terms("我喜欢你的书")


@pytest.mark.parametrize("text", ["", " ", "\0", "\ud800", "🎉 👨\u200d👩", "...", "_", "'", "\u0301", "#@$", "\u0640"])
def test_these_have_no_words(text: str) -> None:
    assert words(text) == []
    assert encoded(text) == ""


def test_offsets_are_those_of_the_text_as_given() -> None:
    text = "ﬁne Cafe\u0301s, l'été ｶﾞｷﾞ"
    assert [text[w.start : w.end] for w in words(text)] == ["ﬁne", "Cafe\u0301s", "été", "ｶﾞｷﾞ"]


def test_a_very_long_word_counts_by_its_beginning() -> None:
    (word,) = words("a" * 1_000_000)
    assert (word.term, word.end) == ("a" * TERM_MAX, 1_000_000)


@pytest.mark.parametrize("piece", ["a-", "a..", "a@", "1,", "http://", "'a", "\u1112", "\u0301", "我", "a_", "#"])
def test_a_megabyte_of_anything_is_read(piece: str) -> None:
    words(piece * (1_000_000 // len(piece)))


def test_encoded_has_each_term_once_and_no_stopwords() -> None:
    assert encoded("The cat saw the cats. C++!") == "cat see c++ c"
    assert quoted('say "x"') == '"say ""x"""'
    assert folded("ÀB") == "ab"
    assert stem("x1s") == "x1s"
