"""The workload `facts` of `llmos bench memory`: what is planted, what is asked, and what a reply is worth."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from bench.memory import facts, run
from bench.memory.conversations import load
from bench.memory.live import Asked, Spent
from bench.memory.newest import newest, said
from bench.memory.numerals import chinese
from bench.memory.shown import Evidence, Seen
from bench.memory.talk import Question, Reference
from bench.memory.values import drawn
from kernel.limits import NS

LISTED = {"v", "p", "q", "n"}


def test_a_seed_is_a_conversation() -> None:
    assert load("facts", None, 4) == facts.load(4)
    assert facts.load(4) == facts.load(4)
    one, other = facts.load(4).conversations[0], facts.load(5).conversations[0]
    told = {message.text for message in one.messages}
    assert len({message.text for message in other.messages} & told) < 100
    same = {question.id: question.golds for question in one.questions}
    assert sum(same.get(question.id) == question.golds for question in other.questions) < 25


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 77, 123_456])
def test_a_hundred_facts_in_four_languages_of_which_ten_are_corrected(seed: int) -> None:
    (talk,) = facts.load(seed).conversations
    assert Counter(question.category for question in talk.questions) == dict.fromkeys(facts.LANGUAGES, 25)
    assert len({question.id for question in talk.questions}) == 100
    assert Counter(len(question.older) for question in talk.questions) == {0: 90, 1: 5, 2: 5}
    corrected = Counter(question.category for question in talk.questions if question.older)
    assert sorted(corrected.values()) == [2, 2, 3, 3]
    ids = [message.id for message in talk.messages]
    assert len(set(ids)) == len(ids)
    assert all(one.at < other.at for one, other in zip(talk.messages, talk.messages[1:], strict=False))
    days = {int(one.id.split(":")[0]) for one in talk.messages}
    assert days == set(range(1, facts.DAYS + 1))
    assert (talk.messages[-1].at - talk.messages[0].at) // (86_400 * NS) == facts.DAYS - 1
    assert not [one.text for one in talk.messages if re.search(r"[{}]", one.text)]


@pytest.mark.parametrize("seed", range(8))
def test_evidence_says_the_newest_value_and_the_older_messages_what_it_was(seed: int) -> None:
    (talk,) = facts.load(seed).conversations
    at = {message.id: place for place, message in enumerate(talk.messages)}
    for question in talk.questions:
        language = question.category
        (reference,) = question.evidence
        text = talk.messages[at[reference.message]].text
        assert newest(text, question.golds, question.wrong, language), (question, text)
        assert not said(question.text, question.golds, language), question
        places = [at[one.message] for one in (*question.older, reference)]
        assert places == sorted(set(places))
        for older in question.older:
            before = talk.messages[at[older.message]].text
            assert said(before, question.wrong, language)
            assert not said(before, question.golds, language)
        assert bool(question.wrong) == bool(question.older)


@pytest.mark.parametrize("language", facts.LANGUAGES)
def test_the_material_is_whole(language: str) -> None:
    material = facts.material(language)
    assert len(set(material.talk)) >= 60
    assert len(material.facts) >= 30
    assert sum(bool(kind.again) for kind in material.facts.values()) >= 12
    assert len(set(material.lists[facts.PEOPLE])) >= 2 * facts.EACH
    known = LISTED | set(material.lists)
    slots = {slot for text in material.talk for slot in facts.SLOT.findall(text)}
    assert slots <= known - {"v", "p", "q"}
    for name, kind in material.facts.items():
        assert len(kind.again) in (0, 2), name
        assert all("{v}" in text for text in (*kind.tell, *kind.again, *kind.near)), name
        assert all("{q}" in text for text in kind.near), name
        assert not any("{v}" in text or "{q}" in text for text in kind.ask), name
        about = {"{p}" in text for text in (*kind.tell, *kind.again, *kind.ask)}
        assert len(about) == 1, f"{name}: every sentence says who it is about, or none does"
        assert set(facts.SLOT.findall("".join((*kind.tell, *kind.again, *kind.near)))) <= {"v", "p", "q"}, name


@pytest.mark.parametrize("language", facts.LANGUAGES)
@pytest.mark.parametrize("kind", ["time", "morning", "evening", "date", "weekday", "code", "plate", "number"])
def test_what_is_said_of_a_value_is_accepted(language: str, kind: str) -> None:
    rng = random.Random(f"{language} {kind}")
    for _ in range(200):
        value = drawn(kind, language, rng)
        assert said(f"x {value.said} x", value.accepted, language), value


@pytest.mark.parametrize(
    ("language", "reply", "accepted", "older", "right"),
    [
        ("en", "Half past four, I think.", ("16:30", "4:30", "half past four"), (), True),
        ("en", "It is at 4:30 PM.", ("16:30", "4:30"), (), True),
        ("en", "It is 97.", ("9.7", "9/7"), (), False),
        ("en", "It is one of many.", ("1 o'clock", "13:00"), (), False),
        ("en", "At one o'clock.", ("1 o'clock", "13:00"), (), True),
        ("en", "It is at 14:30.", ("16:30", "4:30"), (), False),
        ("en", "It is on the twelfth.", ("12",), ("5",), True),
        ("en", "It was on the 5th and is now on the 12th.", ("12",), ("5",), False),
        ("en", "It costs 3.12 pounds.", ("12",), (), False),
        ("en", "Platform twenty-one.", ("21",), (), True),
        ("en", "Platform twenty.", ("21",), (), False),
        ("en", "The plate is K7RTX.", ("K 7 RTX",), (), True),
        ("en", "The plate is K-7 rtx9.", ("K 7 RTX",), (), False),
        ("en", "in old boot", ("the old boot",), (), True),
        ("en", "All right.", ("5",), (), False),
        ("en", "", ("5",), (), False),
        ("es", "Es a las CUATRO Y MEDIA.", ("cuatro y media",), (), True),
        ("es", "El sabado.", ("sábado",), (), True),
        ("es", "La línea treinta y uno.", ("31",), (), True),
        ("es", "Son once personas.", ("11",), (), True),
        ("es", "El lunes, antes era el martes.", ("lunes",), ("martes",), False),
        ("es", "una cafetera nueva", ("la cafetera",), (), True),
        ("de", "Um halb fünf.", ("halb fünf",), ("5",), True),
        ("de", "Gleis einundzwanzig.", ("21",), (), True),
        ("de", "ZWOELF oder zwölf", ("12",), (), True),
        ("de", "Rosenstrasse 31", ("Rosenstraße 31",), (), True),
        ("de", "Am 12.5.2026.", ("12.5.2026", "12"), (), True),
        ("de", "Um 16.30 Uhr", ("16:30",), (), True),
        ("de", "Donnerstags", ("Donnerstag",), (), False),
        ("zh", "你的体检是五月十二号。", ("5月12", "12"), (), True),
        ("zh", "下午四点半开始", ("4点半",), (), True),
        ("zh", "密码是四七一一", ("4711",), (), True),
        ("zh", "密码是４７１１。", ("4711",), (), True),
        ("zh", "以前是周一，现在是周五。", ("周五",), ("周一",), False),
        ("zh", "他是钟表匠", ("钟表匠",), ("翻译",), True),
        ("zh", "坐二十三路", ("23",), (), True),
        ("zh", "坐二十三路", ("3",), (), False),
    ],
)
def test_what_a_reply_is_worth(
    language: str, reply: str, accepted: tuple[str, ...], older: tuple[str, ...], right: bool
) -> None:
    assert newest(reply, accepted, older, language) is right


def test_chinese_numbers() -> None:
    read = {"十": "10", "十二": "12", "三十": "30", "二〇二六": "2026", "一百零八": "108", "两千三百": "2300"}
    assert {text: chinese(text) for text in read} == read


def asked(name: str, language: str, visible: tuple[Seen, ...], reply: str, older: int = 0) -> Asked:
    question = Question(name, "?", ("12",), (Reference("new"),), language, ("5",) if older else ())
    before = tuple(Evidence("old", ((page, "old"),)) for page in range(1, 1 + older))
    return Asked(question, (Evidence("new", ((9, "new"),)),), visible, reply, 0, before)


def test_the_figures_of_planted_facts() -> None:
    new, old = Seen(9, "new", "recall"), Seen(2, "old", "recall")
    heard = [
        asked("a", "en", (new,), "12"),
        asked("b", "en", (), "It is twelve."),
        asked("c", "zh", (new, old), "十二", older=2),
        asked("d", "zh", (old, new), "从5改成12", older=2),
    ]
    dataset = facts.load(1)
    judged = [run.judge("newest", "t", one, True) for one in heard]
    found = run.summary("llmos", judged, Spent(), dataset, 1, 1.0).facts
    assert found is not None
    assert (found.asked, found.in_view, found.right, found.from_right_page) == (4, 3, 3, 2)
    corrected = found.corrected
    assert (corrected.asked, corrected.in_view, corrected.right) == (2, 2, 1)
    assert (corrected.older_in_view, corrected.newest_behind) == (2, 1)
    assert {name: (one.asked, one.right) for name, one in found.by_language.items()} == {"en": (2, 2), "zh": (2, 1)}
    silent = run.summary("llmos", [run.judge("newest", "t", one, False) for one in heard], Spent(), dataset, 1, 1.0)
    assert silent.facts is not None
    assert (silent.facts.in_view, silent.facts.right, silent.facts.from_right_page) == (3, None, None)
