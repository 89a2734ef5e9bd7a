"""How a model's words are best drawn: as its file recommends, and what is sensible where nobody recommends anything.

A file says it in the keys `general.sampling.*` of llama.cpp, which its converter copies from the maker's own
generation_config.json. They are a stranger's: what is out of bounds is passed over.
Not here: what llmos knows of models whose files say nothing (llmos/catalogue.py), who draws so (kernel/sampling.py).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from drivers.cpu.gguf import Header
from kernel.sampling import Drawn

KEYS: Final = {
    "temperature": "temp",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repeat": "penalty_repeat",
    "recent": "penalty_last_n",
}
"""Choices by what a file calls them, behind `general.sampling.`."""
DIGITS: Final = 6  # a file has floats of 32 bits: 0.95 is 0.949999988
RECENT: Final = 64  # tokens that llama.cpp's penalty is on where a file does not say; -1: all
SENSIBLE: Final = Drawn(temperature=0.7, top_p=0.9, min_p=0.05, repeat=1.1)
"""For models of which nothing is known."""


def of(header: Header) -> Drawn | None:
    """What a file recommends; None: nothing. What it leaves out is left alone, but for the temperature."""
    found: dict[str, Any] = {}
    for choice, key in KEYS.items():
        value = header.meta.get(f"general.sampling.{key}")
        if isinstance(value, float):
            value = round(value, DIGITS)
        try:
            found[choice] = getattr(msgspec.convert({choice: value}, Drawn), choice)
        except msgspec.ValidationError:
            continue
    if not found:
        return None
    found = {"temperature": SENSIBLE.temperature} | found
    last = header.meta.get(f"general.sampling.{KEYS['recent']}", RECENT)
    if last == 0:  # of no tokens: there is no penalty
        found.pop("repeat", None)
    elif "repeat" in found and last == RECENT:
        found["recent"] = RECENT
    return Drawn(**found)
