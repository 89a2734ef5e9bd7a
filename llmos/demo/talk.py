"""The demo's conversation, drawn from a seed: facts told among other talk, and a question for each in other words.

Guarantees, each held by tests/unit/test_talk.py over all templates and many seeds:
- the same seed and counter give the same conversation on every Python: draws use `Random.random()` only, whose
  sequence the language promises, and nothing iterates over a set;
- every fact has exactly two near misses (same relation, another person, another value), each a message of its own,
  and no person is named in two of these messages, nor in the talk between;
- a question shares at most one content word besides the person's name with any phrasing of its statement;
- no value stands, even as a part of a word, in a question, in the talk between, or in another relation's text, so
  that a right answer can only come from the statement;
- facts and near misses stand in the first `FACTS_SHARE` of the tokens: the talk after the last one evicts it.
Not here: the sentences (material.toml, read by material.py), whether a reply is right (grading.py), who tells it to
whom, and when the telling stops (demo.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, TypeVar

import msgspec

from kernel.errors import BadInput
from llmos.demo.material import Material, material

FACTS_SHARE: Final = 0.4  # of the user's tokens: all facts and near misses are told before it
NEAR_MISSES: Final = 2  # statements about others that a question could be confused with
TURN_WORDS: Final = (58, 88)  # a talk turn takes sentences until it has so many words: long, for each costs a reply

T = TypeVar("T")

_CHOICE: Final = re.compile(r"\[([^\]]*)\]")


class Turn(msgspec.Struct, frozen=True):
    """One message of the user's. `fact` numbers the question it answers; None: a near miss or other talk."""

    text: str
    fact: int | None = None


class Question(msgspec.Struct, frozen=True):
    """One question, the words that answer it, and the sentence it asks for. `misses` are the near misses' values."""

    text: str
    gold: tuple[str, ...]
    fact: int
    statement: str
    name: str
    misses: tuple[str, ...] = ()


class Talk(msgspec.Struct, frozen=True):
    """What the user tells, in order, then what the user asks.

    `told` counts the turns up to the last fact or near miss.
    """

    turns: tuple[Turn, ...]
    questions: tuple[Question, ...]
    told: int


class _Draws:
    """Random draws that stay the same over versions of Python."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def below(self, n: int) -> int:
        """An integer from 0 to n - 1."""
        return int(self._random.random() * n)

    def one(self, items: Sequence[T]) -> T:
        """One of `items`."""
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """`items` in a random order (Fisher and Yates)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            at = self.below(last + 1)
            order[last], order[at] = order[at], order[last]
        return order


class _Chatter:
    """The talk between: turns of one topic each, no sentence twice before its topic's are used up."""

    def __init__(self, draws: _Draws, drawn_from: Material) -> None:
        self._draws, self._openings = draws, drawn_from.openings
        self._sentences = [topic.sentences for topic in drawn_from.topics]
        self._topics: list[int] = []
        self._decks: list[list[str]] = [[] for _ in self._sentences]

    def turn(self) -> str:
        """The next talk turn, TURN_WORDS long."""
        if not self._topics:
            self._topics = self._draws.shuffled(range(len(self._sentences)))
        topic = self._topics.pop()
        words = TURN_WORDS[0] + self._draws.below(TURN_WORDS[1] - TURN_WORDS[0])
        sentences = [self._draws.one(self._openings)]
        drawn: list[str] = []
        while len(" ".join(sentences).split()) < words:  # ends: a topic has many more words than a turn
            if not self._decks[topic]:
                self._decks[topic] = [one for one in self._draws.shuffled(self._sentences[topic]) if one not in drawn]
            drawn.append(self._decks[topic].pop())
            sentences.append(self._filled(drawn[-1]))
        return " ".join(sentences).strip()

    def _filled(self, sentence: str) -> str:
        return _CHOICE.sub(lambda found: self._draws.one(found[1].split("|")), sentence)


class _Told(msgspec.Struct, frozen=True):
    """A statement to be told, and its place in the conversation."""

    turn: Turn
    relation: int


def conversation(seed: int, facts: int = 10, tokens: int = 6000, *, count: Callable[[str], int]) -> Talk:
    """Draw a conversation whose user turns alone have at least `tokens` tokens by `count`.

    All facts and near misses come within FACTS_SHARE of the tokens (or, where `tokens` is too small for that, at least
    as many tokens follow the last one as came before). Whoever tells it may stop earlier, as replies count as well, but
    not before the last fact is evicted.
    Raises BadInput for a number of facts that the relations or names do not allow.
    """
    known = material()
    most = min(len(known.relations), len(known.names) // (1 + NEAR_MISSES))
    if not 1 <= facts <= most:
        raise BadInput(f"{facts} facts: a conversation has 1 to {most}")
    draws = _Draws(seed)
    chatter = _Chatter(draws, known)
    names = draws.shuffled(known.names)
    told: list[_Told] = []
    questions: list[Question] = []
    for fact, number in enumerate(draws.shuffled(range(len(known.relations)))[:facts]):
        relation = known.relations[number]
        values = draws.shuffled(relation.values)[: 1 + NEAR_MISSES]
        for miss, value in enumerate(values):
            name = names.pop()
            statement = draws.one(relation.statements).format(n=name, v=value)
            told.append(_Told(Turn(draws.one(known.leads) + statement, None if miss else fact), number))
            if not miss:
                asked = draws.one(relation.questions).format(n=name)
                gold = (value.lower(),)
                missed = tuple(other.lower() for other in values[1:])
                questions.append(Question(asked, gold, fact, statement, name, missed))
    turns = _scattered(draws, chatter, _apart(draws.shuffled(told)), int(tokens * FACTS_SHARE), count)
    first = len(turns)
    before = sum(count(turn.text) for turn in turns)
    after = 0
    while after < before or before + after < tokens:  # ends: every turn has tokens
        turns.append(Turn(chatter.turn()))
        after += count(turns[-1].text)
    return Talk(tuple(turns), tuple(draws.shuffled(questions)), first)


def _apart(told: list[_Told]) -> list[_Told]:
    """The same messages, with no two of one relation next to each other where that can be helped. O(n^2)."""
    left = list(told)
    order: list[_Told] = []
    while left:  # ends: one leaves in every round
        at = next((at for at, one in enumerate(left) if not order or one.relation != order[-1].relation), 0)
        order.append(left.pop(at))
    return order


def _scattered(
    draws: _Draws, chatter: _Chatter, told: list[_Told], tokens: int, count: Callable[[str], int]
) -> list[Turn]:
    """The statements in order among talk, a statement last, in all at most `tokens` unless the statements have more."""
    left = tokens - sum(count(one.turn.text) for one in told)
    talk: list[Turn] = []
    while True:  # ends: every turn has tokens
        turn = Turn(chatter.turn())
        left -= count(turn.text)
        if left < 0:
            break
        talk.append(turn)
    # Talk stands before a statement, never after the last: what follows that is what evicts it.
    slots = sorted(draws.below(len(told)) for _ in talk)
    turns: list[Turn] = []
    for at, one in enumerate(told):
        turns += [talk.pop() for slot in slots if slot == at]
        turns.append(one.turn)
    return turns
