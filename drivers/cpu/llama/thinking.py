"""How a chat template has its model think: between which marks, as far as its text shows them.

Not here: what a template does with thought that is past (derive.py finds it by rendering).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class Marks(NamedTuple):
    """What stands before a thought and what after it."""

    open: str
    close: str
    apart: bool = False  # a thought is a message of its own, and the answer the next one


WORD: Final = r"(?:think|thought|reason)"
PAIRS: Final = (  # an expression for one of the two marks, and both made of what it found
    (rf"</?([\w:]*{WORD}\w*)>", "<{0}>", "</{0}>"),
    (rf"\[/?(\w*{WORD}\w*)\]", "[{0}]", "[/{0}]"),
    (rf"◁/?(\w*{WORD}\w*)▷", "◁{0}▷", "◁/{0}▷"),
    (rf"<\|(?:START|start)_(\w*{WORD}\w*)\|>", "<|START_{0}|>", "<|END_{0}|>"),
    (rf"<\|(?:BEGIN|begin)_(\w*{WORD}\w*)\|>", "<|begin_{0}|>", "<|end_{0}|>"),
    (rf"<\|(\w*{WORD}\w*)_start\|>", "<|{0}_start|>", "<|{0}_end|>"),
    (r"<\|(inner)_prefix\|>", "<|{0}_prefix|>", "<|{0}_suffix|>"),
    (rf"<\|channel>({WORD})", "<|channel>{0}\n", "<channel|>"),
    (r"<\|channel\|>(analysis)<\|message\|>", "<|channel|>{0}<|message|>", "<|end|>"),
    (r"(\[BEGIN FINAL RESPONSE\])", "", "{0}"),
)


def thinking(source: str) -> Marks | None:
    """The marks of thought in a chat template's source, None if it shows none.

    What closes is enough: a template that only takes thought away need not know how it opens.
    """
    for shape, left, right in PAIRS:
        for found in re.findall(shape, source, re.IGNORECASE):
            if right.format(found) in source:
                return Marks(left.format(found), right.format(found), apart=right == "<|end|>")
    return None
