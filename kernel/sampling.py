"""How the words of a process are drawn: what somebody chose, what that comes to, and both as text.

Guarantee: a choice that is not made is the machine's (`cpu.*`), or with `model` what is recommended for the model, and
nothing else; what a CPU draws is a function of `Drawn`, the logits, and keys that the machine has.
Not here: what is recommended for a model (drivers/cpu/recommended.py, llmos/catalogue.py), the draw
(drivers/cpu/llama/sampler.py).
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

import msgspec
from msgspec import Meta

from kernel.errors import BadInput, in_one_line
from kernel.limits import WINDOW_MAX

Temperature: TypeAlias = Annotated[float, Meta(ge=0.0, le=2.0)]
TopK: TypeAlias = Annotated[int, Meta(ge=0, le=1 << 20)]
TopP: TypeAlias = Annotated[float, Meta(gt=0.0, le=1.0)]
MinP: TypeAlias = Annotated[float, Meta(ge=0.0, le=1.0)]
Repeat: TypeAlias = Annotated[float, Meta(ge=1.0, le=2.0)]
Recent: TypeAlias = Annotated[int, Meta(ge=0, le=WINDOW_MAX)]


class Drawn(msgspec.Struct, frozen=True):
    """How words are drawn, every choice made."""

    temperature: Temperature = 0.0  # 0: the likeliest token, always
    top_k: TopK = 0  # only so many of the likeliest are drawn; 0: all
    top_p: TopP = 1.0  # only the likeliest that have this share together
    min_p: MinP = 0.0  # none below this share of the likeliest one's
    repeat: Repeat = 1.0  # penalty, in prose, on what it has said; 1: none
    recent: Recent = 0  # how many of the newest tokens that it has said the penalty is on; 0: all in view


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What somebody chose, each as in Drawn. `model`: what is not chosen is as recommended for the model."""

    model: bool = False
    temperature: Temperature | None = None
    top_k: TopK | None = None
    top_p: TopP | None = None
    min_p: MinP | None = None
    repeat: Repeat | None = None
    recent: Recent | None = None

    def chosen(self) -> dict[str, float]:
        """What was chosen, by name."""
        found = ((name, getattr(self, name)) for name in CHOICES)
        return {name: value for name, value in found if value is not None}


CHOICES: Final = Drawn.__struct_fields__
MACHINE: Final = "machine"
WORDS: Final = f"model, {MACHINE}, greedy, and KEY=VALUE of {', '.join(CHOICES)}"
"""What a sampling may be as text: a word, or choices with commas between them, or both."""
RECOMMENDED: Final = Sampling(model=True)


def settled(chosen: Sampling | None) -> Sampling | None:
    """`chosen`, or None where nothing is."""
    return None if chosen == Sampling() else chosen


def drawn(chosen: Sampling | None, machine: Drawn, model: Drawn) -> Drawn:
    """What a process draws by; `machine` as the settings say, `model` as is recommended for its model."""
    if chosen is None:
        return machine
    return msgspec.structs.replace(model if chosen.model else machine, **chosen.chosen())


def read(text: str) -> Sampling | None:
    """The choices in a text; None: nothing is chosen. Raises BadInput naming what is wrong and what is allowed.

    `model`, `machine` and `greedy` (a temperature of 0) stand first, if at all: "model,temperature=0.5".
    """
    first, *rest = (part.strip() for part in text.split(","))
    found: dict[str, Any] = {}
    match first:
        case "model":
            found["model"] = True
        case "greedy":
            found["temperature"] = 0.0
        case "machine":  # nothing is chosen
            pass
        case _:
            rest.insert(0, first)
    for part in rest:
        key, equals, value = part.partition("=")
        if not equals or key not in CHOICES:
            raise BadInput(f"sampling {text[:200]!r}: {part[:80]!r} is none of {WORDS}")
        try:
            found[key] = getattr(msgspec.convert({key: value}, Drawn, strict=False), key)
        except msgspec.ValidationError as exc:
            raise BadInput(f"sampling {key}={value[:80]}: {in_one_line(exc, 200)}") from exc
    return settled(Sampling(**found))


def written(chosen: Sampling | None) -> str:
    """Choices as `read` takes them."""
    if chosen is None:
        return MACHINE
    choices = [f"{name}={number(value)}" for name, value in chosen.chosen().items()]
    return ",".join([*(["model"] if chosen.model else []), *choices]) or MACHINE


def number(value: float) -> str:
    """A number as short as it can be read again."""
    return f"{value!r}".removesuffix(".0")
