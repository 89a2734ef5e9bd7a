"""A manual of 300 pages made from a seed, with questions that it answers, each with its line, and such as it does not.

A page is a section of LINES lines about a part of a machine; all parts have the same kinds of properties, so a question
is answered by one page among three hundred that sound like it. What is not answered: a property that is told of other
parts and not of this one, or a part of a machine that there is not.
"""

from __future__ import annotations

import random
from typing import Final

import msgspec

MACHINES: Final = 60
PARTS: Final = ("intake valve", "drive belt", "control panel", "cooling fan", "oil filter")
LINES: Final = 24  # of a page
ASKED, UNSAID = 40, 10
_ONSETS: Final = ("k", "v", "t", "br", "st", "m", "l", "dr", "p", "gr", "n", "s")
_VOWELS: Final = ("a", "e", "i", "o", "u")
_ENDS: Final = ("rvan", "lto", "nsor", "dix", "ppel", "mark", "tron", "ssen")
_TOWNS: Final = ("Halden", "Orvik", "Leskova", "Tarnow", "Brigue", "Castelo", "Ekeby", "Norwell", "Ambrosi", "Pilsach")
_COLOURS: Final = ("amber", "violet", "turquoise", "white", "crimson", "green")
_OILS: Final = ("linseed oil", "silicone grease", "graphite paste", "pine tar", "white spirit", "beeswax")


class Kind(msgspec.Struct, frozen=True):
    """A property: how it is told ({p} part, {v} value), how it is asked for, and what it may be.

    `which`: how it is asked of whom a value is told, if many have the same.
    """

    tell: str
    ask: str
    values: tuple[str, ...]
    which: str = ""


KINDS: Final = (
    Kind("The {p} weighs {v}.", "How heavy is the {p} of the {m}?", tuple(f"{n}.{n % 7} kg" for n in range(3, 93))),
    Kind(
        "It is held by screws that are tightened to {v}.",
        "To which torque are the screws of the {p} of the {m} tightened?",
        tuple(f"{n} Nm" for n in range(11, 99)),
    ),
    Kind(
        "Spare ones are sent from the store in {v}.",
        "From where are spare parts for the {p} of the {m} sent?",
        _TOWNS,
        "Of which machines are spare parts sent from {v}?",
    ),
    Kind(
        "When it fails, the lamp beside it turns {v}.",
        "Which colour does the lamp show when the {p} of the {m} fails?",
        _COLOURS,
        "Of which machines does a lamp turn {v} when a part fails?",
    ),
    Kind(
        "It is treated with {v} before winter.",
        "What is the {p} of the {m} treated with before winter?",
        _OILS,
        "Which machines are treated with {v} before winter?",
    ),
    Kind(
        "It has to be replaced after {v} of service.",
        "After how long must the {p} of the {m} be replaced?",
        tuple(f"{n * 50} hours" for n in range(9, 99)),
    ),
)
_TALK: Final = (
    "Wear gloves whenever the cover is open, and keep the floor around the machine dry.",
    "Before any work the main switch is turned off and locked, and the key is kept by whoever does the work.",
    "A part that was dropped is not used again, even if nothing can be seen on it.",
    "Dust is removed with a soft brush; compressed air drives it into the bearings.",
    "Noise that was not there the day before is reported to the foreman before the shift goes on.",
    "Whoever has not read this section does not open the cover.",
)


class Question(msgspec.Struct, frozen=True):
    """A question; `answer` "" and `line` 0 where the manual does not say."""

    text: str
    answer: str
    line: int
    page: int
    kind: Kind | None = None  # what is told, and
    machine: str = ""  # of whose part


def made(
    seed: int, asked: int = ASKED, unsaid: int = UNSAID, machines: int = MACHINES
) -> tuple[str, list[Question], list[Question]]:
    """The manual of so many machines as Markdown, its questions, shuffled, and all that it tells, in order."""
    rng = random.Random(f"manual {seed}")
    names: list[str] = []
    while len(names) < machines + unsaid:  # ends: there are thousands
        name = (
            rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_ENDS)
        ).capitalize() + f" {rng.randrange(100, 999)}"
        if name not in names:
            names.append(name)
    lines: list[str] = []
    told: list[Question] = []
    left: list[Question] = []
    for number in range(machines * len(PARTS)):
        machine, part = names[number // len(PARTS)], PARTS[number % len(PARTS)]
        kinds = rng.sample(KINDS, len(KINDS) - 2)
        page = [f"## {part.capitalize()} of the {machine}", ""]
        for kind in kinds:
            value = rng.choice(kind.values)
            line = len(lines) + len(page) + 1
            told.append(Question(kind.ask.format(p=part, m=machine), value, line, number + 1, kind, machine))
            page += [kind.tell.format(p=part, v=value), rng.choice(_TALK), ""]
        left += [Question(kind.ask.format(p=part, m=machine), "", 0, 0) for kind in KINDS if kind not in kinds]
        page += [""] * (LINES - len(page))
        lines += page
    nobody = [
        Question(rng.choice(KINDS).ask.format(p=rng.choice(PARTS), m=name), "", 0, 0) for name in names[machines:]
    ]
    chosen = [*rng.sample(told, asked), *rng.sample(left, unsaid - unsaid // 2), *rng.sample(nobody, unsaid // 2)]
    rng.shuffle(chosen)
    return "\n".join(lines) + "\n", chosen, told
