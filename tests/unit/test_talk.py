"""The demo's conversation: what its questions may share with its facts, and what its talk may not give away."""

from __future__ import annotations

import hashlib
import re
from itertools import combinations, product
from pathlib import Path

import msgspec
import pytest

from kernel.errors import BadInput
from llmos.demo.grading import content_words, right
from llmos.demo.material import FILE, material
from llmos.demo.talk import NEAR_MISSES, Question, conversation

SEEDS = range(1, 61)
RELATIONS, NAMES, LEADS, OPENINGS = material().relations, material().names, material().leads, material().openings
SENTENCES = [sentence for topic in material().topics for sentence in topic.sentences]


def words(text: str) -> int:
    """A stand-in for a tokenizer."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def skeletons() -> list[str]:
    """Everything in a conversation that is no value: each text with its person and value cut out."""
    texts = [text for relation in RELATIONS for text in (*relation.statements, *relation.questions)]
    every = (*texts, *SENTENCES, *LEADS, *OPENINGS, *NAMES)
    return [text.replace("{n}", "#").replace("{v}", "#").lower() for text in every]


def asked(gold: str) -> Question:
    return Question("Which?", (gold,), 0, "", "")


def test_there_is_enough_to_draw_from() -> None:
    assert len(RELATIONS) >= 24
    assert len(NAMES) == len(set(NAMES)) >= 60
    assert len(SENTENCES) >= 200
    for relation in RELATIONS:
        assert len(relation.statements) >= 3
        assert len(relation.questions) >= 3
        assert len(relation.values) == len(set(relation.values)) >= 12


def test_no_value_stands_in_any_other_text_of_any_conversation() -> None:
    texts = skeletons()
    values = [value.lower() for relation in RELATIONS for value in relation.values]
    assert [(value, text) for value in values for text in texts if value in text] == []
    assert [(one, two) for one, two in combinations(values, 2) if one in two or two in one] == []


def test_no_name_stands_in_the_talk_or_in_another_name() -> None:
    names = {name.lower() for name in NAMES}
    assert {word for text in skeletons() if text not in names for word in re.findall(r"\w+", text)}.isdisjoint(names)
    assert [(one, two) for one, two in combinations(NAMES, 2) if one.lower() in two.lower()] == []


def test_a_question_shares_at_most_one_content_word_with_any_phrasing_of_its_statement() -> None:
    shared = []
    for relation in RELATIONS:
        for lead, statement, question in product(LEADS, relation.statements, relation.questions):
            both = content_words(lead + statement.format(n="Marta", v="#")) & content_words(question.format(n="Marta"))
            if len(both - content_words("Marta")) > 1:
                shared.append((statement, question, sorted(both)))
    assert shared == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_conversation_keeps_its_promises(seed: int) -> None:
    talk = conversation(seed, count=words)
    sizes = [words(turn.text) for turn in talk.turns]
    assert 6000 <= sum(sizes) < 6200
    assert 1800 < sum(sizes[: talk.told]) <= 2400
    assert sum(sizes[talk.told :]) >= 3600
    assert 60 <= len(talk.turns) <= 100
    assert sorted(turn.fact for turn in talk.turns if turn.fact is not None) == list(range(10))
    assert sorted(question.fact for question in talk.questions) == list(range(10))
    texts = [turn.text for turn in talk.turns]
    assert len(set(texts)) == len(texts)
    for question in talk.questions:
        told = next(turn for turn in talk.turns if turn.fact == question.fact)
        assert told.text.endswith(question.statement)
        assert question.name in question.text
        assert right(question, told.text)
        named = [turn for turn in talk.turns if question.name in turn.text]
        assert named == [told], "a person is named in one message"
        assert len(content_words(told.text) & content_words(question.text) - content_words(question.name)) <= 1
        assert len(question.misses) == NEAR_MISSES
        assert question.gold[0] not in question.misses
        for miss in question.misses:
            holders = [turn for turn in talk.turns if right(asked(miss), turn.text)]
            assert len(holders) == 1
            assert holders[0].fact is None


@pytest.mark.parametrize("seed", SEEDS)
def test_no_value_of_a_conversation_can_be_read_off_a_question(seed: int) -> None:
    talk = conversation(seed, count=words)
    for question in talk.questions:
        for other in talk.questions:
            assert not right(other, question.text)
            assert not any(right(asked(miss), question.text) for miss in other.misses)


def test_talk_turns_are_long_and_made_of_different_sentences() -> None:
    talk = conversation(3, count=words)
    chatter = [turn.text for turn in talk.turns if len(turn.text.split()) > 40]
    assert all(50 <= len(text.split()) <= 110 for text in chatter)
    sentences = [one for text in chatter[:30] for one in re.split(r"(?<=[.?]) ", text) if one not in OPENINGS]
    assert len(set(sentences)) == len(sentences)


def test_the_same_seed_gives_the_same_conversation_and_another_seed_another() -> None:
    assert conversation(7, count=words) == conversation(7, count=words)
    assert conversation(7, count=words) != conversation(8, count=words)


def test_a_small_conversation_is_as_long_after_the_last_fact_as_before() -> None:
    talk = conversation(1, facts=4, tokens=200, count=words)
    sizes = [words(turn.text) for turn in talk.turns]
    assert len(talk.questions) == 4
    assert sum(sizes[talk.told :]) >= sum(sizes[: talk.told])


def test_every_relation_can_be_drawn_at_once_up_to_the_names() -> None:
    most = min(len(RELATIONS), len(NAMES) // (1 + NEAR_MISSES))
    assert len(conversation(1, facts=most, count=words).questions) == most
    for facts in (0, most + 1):
        with pytest.raises(BadInput, match=f"{facts} facts: a conversation has 1 to {most}"):
            conversation(1, facts=facts, count=words)


def test_the_conversations_of_the_seeds_are_those_that_were_measured() -> None:
    """A changed text or draw changes every published number: change the digest together with them."""
    told = hashlib.sha256()
    for seed in range(1, 21):
        told.update(msgspec.json.encode(conversation(seed, count=lambda text: len(text.split()))))
    assert told.hexdigest()[:16] == "8c0f2f406ddc8811"


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("{n} was born in {v}", "Somebody was born in {v}", "$.relations[1].statements[0]"),
        ("Which food must {n} avoid?", "Must {n} avoid {v}?", "$.relations[3].questions[0]"),
        ("[grey|damp|windy|foggy] since", "[grey|damp|windy|foggy since", "$.topics[0].sentences[0]"),
        ("openings = [", "opnings = [", "opnings"),
        ("names = [", "names = ", "line"),
    ],
)
def test_a_mistake_in_the_material_is_named_when_it_is_read(old: str, new: str, place: str, tmp_path: Path) -> None:
    text = FILE.read_text()
    assert old in text
    (tmp_path / "material.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(BadInput, match=re.escape(place)):
        material(tmp_path / "material.toml")
