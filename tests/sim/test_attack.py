"""A part of `make attack` (all of it takes minutes): nothing from outside breaks the machine, and a guard is missed."""

import pytest

from bench.attack import values
from bench.attack.run import GUARDS, SURFACES, campaign
from drivers.door import wire
from kernel.settings import Settings

PART = {
    "protocol": 300,
    "http": 300,
    "export": 60,
    "settings": 100,
    "scenario": 120,
    "trace": 150,
    "commands": 150,
    "gguf": 600,
    "template": 30,
    "model": 6,
    "marks": 300,
}
NOTICED = {  # in how many trials, and as what
    "connection": (80, "died"),
    "protocol-bounds": (300, "wrong"),
    "http-token": (120, "wrong"),
    "http-statuses": (60, "wrong"),
    "settings-bounds": (40, "wrong"),
    "scenario-checks": (400, "tracebacks"),
    "scenario-bounds": (100, "wrong"),
    "trace-unpacking": (60, "tracebacks"),
    "trace-bounds": (60, "wrong"),
    "one-line": (10, "tracebacks"),
    "control-characters": (80, "wrong"),
    "gguf-dimensions": (200, "wrong"),
    "gguf-count": (300, "wrong"),
    "template-time": (40, "wrong"),
    "template-memory": (40, "wrong"),
    "model-trial": (12, "died"),
    "marks": (100, "wrong"),
    "import-belief": (60, "wrong"),
    "export-bounds": (120, "wrong"),
}


@pytest.mark.parametrize("surface", SURFACES)
def test_nothing_from_outside_breaks_it(surface: str) -> None:
    tally, findings = campaign([surface], PART[surface], 7)[surface]
    assert findings == []
    assert (tally.trials, tally.bad) == (PART[surface], 0)


@pytest.mark.parametrize("guard", GUARDS)
def test_a_guard_that_is_taken_away_is_missed(guard: str) -> None:
    trials, what = NOTICED[guard]
    surface = GUARDS[guard]
    tally, findings = campaign([surface], trials, 1, guard)[surface]
    assert getattr(tally, what) > 0, findings


@pytest.mark.parametrize("type_", [wire.AnyRequest, Settings])
def test_what_is_made_of_a_type_is_admitted_by_it_or_refused_as_it_says(type_: object) -> None:
    import random

    import msgspec

    shape, draw = values.Shape(type_), random.Random(3)
    for _ in range(1_000):
        value = shape.good(draw)
        if any(half in str(value) for half in values.HALVES):
            continue
        msgspec.json.decode(values.raw(value), type=type_)
        bad, wrong = shape.bad(draw)
        with pytest.raises((msgspec.DecodeError, RecursionError, UnicodeDecodeError)):
            raise AssertionError(f"{wrong}: {msgspec.json.decode(values.raw(bad), type=type_)}")
