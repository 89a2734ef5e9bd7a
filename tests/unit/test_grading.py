"""What counts as a right answer, and as a shared word."""

from __future__ import annotations

import pytest

from llmos.demo.grading import content_words, right
from llmos.demo.talk import Question


def test_content_words_joins_inflections_and_drops_function_words() -> None:
    assert content_words("She plays what he played, the players were playing") == content_words("play")
    assert content_words("Who lives there? I lived here") == content_words("living")
    assert content_words("studies") == content_words("studying") == content_words("student")
    assert content_words("What does it do with them?") == frozenset()
    assert len(content_words("Marta painted the kitchen")) == 3


@pytest.mark.parametrize(
    ("gold", "reply", "is_right"),
    [
        ("parrot", "She keeps a PARROT.", True),
        ("parrot", "She keeps parrots.", False),
        ("parrot", "A rabbit, I think.", False),
        ("parrot", "", False),
        ("47", "It is number 47.", True),
        ("47", "Number Forty-Seven.", True),
        ("47", "forty seven", True),
        ("47", "fortyseven", True),
        ("47", "It is 147.", False),
        ("47", "forty", False),
        ("47", "seven and forty", False),
        ("14", "fourteen", True),
        ("14", "four teen", False),
    ],
)
def test_a_reply_is_right_when_the_gold_stands_in_it_as_a_whole_word(gold: str, reply: str, is_right: bool) -> None:
    assert right(Question("Which?", (gold,), 0, "", ""), reply) is is_right
