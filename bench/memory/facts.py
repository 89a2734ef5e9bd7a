"""The workload `facts`: a user's 60 days in four languages, with 100 facts planted in talk, and a question about each.

From a seed alone. Each language has 25 facts of 25 different kinds; 10 of the 100 are corrected days later, and 5 of
these a second time. Beside them stand near misses: the same kind of fact about somebody else. A day has a block of
messages in each language. The material is a file a language in planted/: sentences of `talk`, `lists` that fill their
slots, and `facts` by kind: how it is told, asked about in other words, corrected, and said of somebody else.
Slots: {v} the value, {p} who it is about, {q} somebody else, {n} a number, {LIST} an entry of a list.
Not here: what values are and what is accepted for them (values.py), what a reply is worth (newest.py).
"""

from __future__ import annotations

import datetime
import random
import re
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from typing import Final

import msgspec

from bench.memory.newest import said
from bench.memory.talk import Conversation, Dataset, Message, Question, Reference
from bench.memory.values import Value, drawn
from kernel.limits import NS

LANGUAGES: Final = ("en", "zh", "es", "de")
EACH: Final = 25  # facts of a language
CORRECTED: Final = 10  # of all,
TWICE: Final = 5  # and of these
DAYS: Final = 60
BEGINS: Final = datetime.datetime(2026, 3, 2, 8, tzinfo=datetime.UTC)
TALK: Final = (2, 4)  # messages of a block that are talk alone
NEAR: Final = 0.5  # how likely a fact that is not corrected has a near miss
NUMBERS: Final = (41, 99)  # in talk: none that is the value of a fact
PEOPLE: Final = "people"  # the list of first names
SLOT: Final = re.compile(r"\{(\w+)\}")
REDRAWS: Final = 1_000  # of a value that is too like another; the lists are long enough by far


class Kind(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A kind of fact. `again` is empty where it is not corrected; otherwise it has a sentence for each time."""

    value: str | list[str]
    tell: list[str]
    ask: list[str]
    near: list[str]
    again: list[str] = []


class Material(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a language has."""

    talk: list[str]
    lists: dict[str, list[str]]
    facts: dict[str, Kind]


class Said(msgspec.Struct, frozen=True):
    """A sentence that must be told, on a day; `key` names the fact and how often it was told before, "" a near miss."""

    day: int
    text: str
    key: tuple[str, int] | None


class Fact(msgspec.Struct, frozen=True):
    """A planted fact: its kind and its values, the newest last."""

    name: str
    kind: Kind
    person: str
    values: tuple[Value, ...]


@cache
def material(language: str) -> Material:
    """The material of a language."""
    text = resources.files("bench.memory").joinpath("planted", f"{language}.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), Material)


def load(seed: int) -> Dataset:
    """The conversation of a seed and its questions."""
    rng = random.Random(f"facts {seed}")
    times = [1] * (CORRECTED - TWICE) + [2] * TWICE
    rng.shuffle(times)
    first = rng.randrange(len(LANGUAGES))
    days: list[list[list[tuple[str, tuple[str, int] | None]]]] = [[] for _ in range(DAYS)]
    facts: list[tuple[str, Fact]] = []
    for at, language in enumerate(LANGUAGES):
        voice = Voice(language, rng)
        mine = voice.facts(times[(at + first) % len(LANGUAGES) :: len(LANGUAGES)])
        facts += [(language, fact) for fact in mine]
        told: list[list[Said]] = [[] for _ in range(DAYS)]
        for fact in mine:
            for one in voice.statements(fact):
                told[one.day].append(one)
        for day, block in enumerate(told):
            days[day].append(voice.block(block))
    for blocks in days:
        rng.shuffle(blocks)
    messages, where = _told(days, rng)
    questions = tuple(_question(language, fact, where, rng) for language, fact in facts)
    return Dataset("facts", (Conversation(f"facts-{seed}", messages, questions),), "newest")


class Voice:
    """The user in one language. What it draws is drawn from `rng`, in order."""

    def __init__(self, language: str, rng: random.Random) -> None:
        self.language, self.rng, self.material = language, rng, material(language)
        self._people = rng.sample(self.material.lists[PEOPLE], len(self.material.lists[PEOPLE]))
        self._bag: list[str] = []

    def facts(self, corrected: Sequence[int]) -> list[Fact]:
        """The facts of this language; `corrected`: how often each of the first ones is."""
        kinds = sorted(self.material.facts)
        often = self.rng.sample([name for name in kinds if self.material.facts[name].again], len(corrected))
        others = self.rng.sample([name for name in kinds if name not in often], EACH - len(often))
        found = []
        for name, times in zip([*often, *others], [*corrected, *[0] * len(others)], strict=True):
            kind, values = self.material.facts[name], list[Value]()
            for _ in range(times + 1):
                values.append(self._value(kind, values))
            found.append(Fact(name, kind, self._person(), tuple(values)))
        return found

    def statements(self, fact: Fact) -> Iterator[Said]:
        """A fact as it is told, its corrections, and perhaps its near miss."""
        rng, times = self.rng, len(fact.values) - 1
        day = rng.randrange(DAYS - 1) if not times else rng.randrange(3, DAYS // 2)
        person = {"p": fact.person}
        yield Said(day, self._filled(rng.choice(fact.kind.tell), person | {"v": fact.values[0].said}), (fact.name, 0))
        for number, value in enumerate(fact.values[1:], 1):
            day += rng.randint(4, 13)
            text = self._filled(fact.kind.again[number - 1], person | {"v": value.said})
            yield Said(day, text, (fact.name, number))
        if times or rng.random() < NEAR:
            other = self._value(fact.kind, fact.values)
            slots = {"p": fact.person, "q": self._person(), "v": other.said}
            yield Said(rng.randrange(DAYS), self._filled(rng.choice(fact.kind.near), slots), None)

    def block(self, told: Sequence[Said]) -> list[tuple[str, tuple[str, int] | None]]:
        """The messages of a day in this language: what must be told, among talk."""
        rng, glue = self.rng, "" if self.language == "zh" else " "
        found: list[tuple[str, tuple[str, int] | None]] = []
        for one in told:
            around = [one.text]
            if rng.random() < 0.5:
                around.insert(rng.randrange(2), self._talk())
            found.append((glue.join(around), one.key and (f"{self.language}/{one.key[0]}", one.key[1])))
        for _ in range(rng.randint(*TALK)):
            found.append((glue.join(self._talk() for _ in range(rng.randint(1, 3))), None))
        rng.shuffle(found)
        return found

    def _value(self, kind: Kind, others: Sequence[Value]) -> Value:
        """A value that is none of the others, nor stands in what is said of one, nor the other way round."""
        source = self.material.lists.get(kind.value, kind.value) if isinstance(kind.value, str) else kind.value
        for _ in range(REDRAWS):
            value = drawn(source, self.language, self.rng)
            if not any(self._alike(value, other) or self._alike(other, value) for other in others):
                return value
        raise AssertionError(f"too few values in {kind.value}")

    def _alike(self, one: Value, other: Value) -> bool:
        return any(said(text, one.accepted, self.language) for text in (other.said, *other.accepted))

    def _person(self) -> str:
        """Somebody who is in no other fact."""
        return self._people.pop()

    def _talk(self) -> str:
        if not self._bag:
            self._bag = self.rng.sample(self.material.talk, len(self.material.talk))
        return self._filled(self._bag.pop(), {})

    def _filled(self, template: str, slots: dict[str, str]) -> str:
        def fill(slot: re.Match[str]) -> str:
            name = slot[1]
            if name == "n":
                return str(self.rng.randint(*NUMBERS))
            return slots[name] if name in slots else self.rng.choice(self.material.lists[name])

        return SLOT.sub(fill, template)


def _told(
    days: list[list[list[tuple[str, tuple[str, int] | None]]]], rng: random.Random
) -> tuple[tuple[Message, ...], dict[tuple[str, int], str]]:
    """All messages in order of time, and the message of each statement of a fact."""
    messages, where = list[Message](), dict[tuple[str, int], str]()
    for day, blocks in enumerate(days):
        number = 0
        for place, block in enumerate(blocks):
            at = BEGINS + datetime.timedelta(days=day, hours=3 * place)
            for text, key in block:
                number, at = number + 1, at + datetime.timedelta(seconds=rng.randint(60, 600))
                messages.append(Message(f"{day + 1}:{number}", round(at.timestamp()) * NS, text))
                if key is not None:
                    where[key] = messages[-1].id
    return tuple(messages), where


def _question(language: str, fact: Fact, where: dict[tuple[str, int], str], rng: random.Random) -> Question:
    key = f"{language}/{fact.name}"
    last = len(fact.values) - 1
    text = rng.choice(fact.kind.ask).replace("{p}", fact.person)
    return Question(
        key,
        text,
        fact.values[-1].accepted,
        (Reference(where[key, last]),),
        category=language,
        wrong=tuple(form for value in fact.values[:-1] for form in value.accepted),
        older=tuple(Reference(where[key, number]) for number in range(last)),
    )
