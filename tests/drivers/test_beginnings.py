"""A word that no passage of a process has is matched by its longest beginning that one has."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from drivers.index import fts
from kernel.memory.page import Area, Kind, Origin, Page, Role

TOLD = (
    "Das Zahlenschloss an unserem Kellerabteil ist neu.",
    "Der Yogakurs wurde verlegt.",
    "Juan repara la bici.",
    "The restaurant was shut.",
    "A yogurt, please.",
)
SCOPE = fts.Scope(1, (Area.RECALL,), 100)


@pytest.fixture
def lexical() -> Iterator[fts.Lexical]:
    connection = sqlite3.connect(":memory:")
    connection.executescript(fts.SCHEMA)
    made = fts.Lexical(connection)
    for number, text in enumerate((*TOLD, "Kellerschloss", "Kellerschlosserei")):
        pid = 1 if number < len(TOLD) else 2
        page = Page(number + 1, pid, number, Kind.MESSAGE, Origin.USER, Role.USER, Area.RECALL, number, text)
        made.add(fts.divided(page))
    yield made
    connection.close()


@pytest.mark.parametrize(
    ("query", "begins", "page"),
    [
        ("Kellerschloss", "keller", 1),
        ("Yoga", "yoga", 2),
        ("reparando", "repara", 3),
        ("restauranteur", "restaurant", 4),
        ("Yogurt", "", 5),
        ("Kel", "", None),
        ("yogi", "", None),
        ("res7aurant", "", None),
    ],
)
def test_a_word_that_is_not_there_is_found_by_how_it_begins(
    lexical: fts.Lexical, query: str, begins: str, page: int | None
) -> None:
    weights = lexical.weigh(fts.parse(query), SCOPE)
    (term,) = weights.terms
    assert term.begins == begins
    found = lexical.matches(weights, SCOPE)
    assert [unit >> fts.PART_BITS for units in found.units for unit in units.tolist()] == ([page] if page else [])


def test_a_beginning_weighs_less_than_the_word(lexical: fts.Lexical) -> None:
    exact = lexical.weigh(fts.parse("Yogakurs"), SCOPE).idf
    begun = lexical.weigh(fts.parse("Yogakursleiterin"), SCOPE)
    assert begun.terms[0].begins == "yogakur", "its stem"
    assert begun.idf[0] == pytest.approx(fts.BEGUN_WEIGHT * exact[0])
    (apart,) = lexical.weigh(fts.parse("Yogakurs"), SCOPE, without=(2,)).terms
    assert apart.begins == "", "its own page is left out"
