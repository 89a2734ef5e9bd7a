"""How right a reply is: BFCL's rule for exact answers, and LoCoMo's F1.

BFCL v4 (berkeley-function-call-leaderboard): an accepted answer stands in the reply between word boundaries, both
without `,./-_*^()`, in lower case, single quotes as double. LoCoMo (its own evaluation): F1 of stemmed words
without articles and punctuation; category 1 has several answers with commas, category 3 the gold before a semicolon.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Final

from bench.memory.porter import stem

MULTI_HOP: Final = "1"  # LoCoMo's categories
OPEN_DOMAIN: Final = "3"


def contained(reply: str, answers: Sequence[str]) -> float:
    """1 if an answer stands in the reply by BFCL's rule, else 0."""
    said = _plain(reply)
    return float(any(re.search(rf"\b{re.escape(_plain(answer))}\b", said) for answer in answers if _plain(answer)))


def _plain(text: str) -> str:
    return re.sub(r"[,./\-_*^()]", "", text).lower().replace("'", '"')


def f1(reply: str, gold: str, category: str = "") -> float:
    """LoCoMo's F1 of a reply, by the question's category."""
    if category == OPEN_DOMAIN:
        gold = gold.split(";")[0].strip()
    if category != MULTI_HOP:
        return _f1(reply, gold)
    said = reply.split(",")
    golds = gold.split(",")
    return sum(max(_f1(one, wanted) for one in said) for wanted in golds) / len(golds)


def _f1(reply: str, gold: str) -> float:
    said, wanted = _stems(reply), _stems(gold)
    same = sum((Counter(said) & Counter(wanted)).values())
    return 2 * same / (len(said) + len(wanted)) if same else 0.0


def _stems(text: str) -> list[str]:
    bare = "".join(one for one in text.lower() if one not in string.punctuation)
    return [stem(word) for word in re.sub(r"\b(a|an|the|and)\b", " ", bare).split()]
