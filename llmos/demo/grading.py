"""Whether a reply is right, and what a question shares with its statement: words compared, no model asked.

Guarantee: a count of shared words errs on the high side, a reply is right only by whole words of the gold.
Not here: the questions (talk.py), what becomes of a reply (demo.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from llmos.demo.talk import Question


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_WORD: Final = re.compile(r"[^\W_]+")
_STOP: Final = frozenset(
    _words(
        "a an the this that these those and or but nor so as if than then because while of in on at by to from"
        " with without for about into onto over under up down out off after before behind beneath between through"
        " along across next is are was were be been being am do does did done doing have has had having will would"
        " can could shall should may might must i you he she it we they me him her us them my your his its our"
        " their mine yours one ones somebody someone everyone everybody nobody nothing something what which who"
        " whom whose where when why how not no never always again also even still now here there very too much many"
        " most more some any all each every such only just s t"
    )
)
"""Function words: they carry no content of their own, and every question has some."""
_IRREGULAR: Final = dict(
    pair.split(":")
    for pair in _words(
        "bought:buy sold:sell won:win winner:win lost:lose told:tell gave:give given:give grew:grow grown:grow"
        " came:come went:go gone:go goes:go ate:eat eaten:eat drank:drink drove:drive driven:drive wore:wear"
        " worn:wear broke:break broken:break fell:fall left:leave kept:keep built:build hid:hide hidden:hide"
        " shown:show met:meet took:take taken:take sat:sit chose:choose chosen:choose drew:draw drawn:draw"
        " made:make got:get knew:know known:know said:say feet:foot people:person lives:live flies:fly spent:spend"
        " paid:pay slept:sleep students:study student:study hung:hang stood:stand saw:see seen:see ran:run"
    )
)
"""Forms that no ending tells, and what they are forms of."""
_UNITS: Final = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
)
_TENS: Final = _words("zero ten twenty thirty forty fifty sixty seventy eighty ninety")


def content_words(text: str) -> frozenset[str]:
    """The stems of `text`'s words that are not function words; numbers are words.

    The stemming is light and rather joins too much than too little ("plays", "played", "playing", "player" are one), so
    that a count of shared words errs on the high side.
    """
    return frozenset(_stem(word) for word in _WORD.findall(text.lower()) if word not in _STOP)


def _stem(word: str) -> str:
    word = _IRREGULAR.get(word, word)
    for ending in ("ations", "ation", "ings", "ing", "ions", "ion", "ied", "ies", "ers", "er", "ed", "es", "ly", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    word = word.rstrip("eiy")
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word


def right(question: Question, reply: str) -> bool:
    """Whether every gold word stands in `reply` as a whole word, in any case; a number counts spelled out, too."""
    words = _WORD.findall(reply.lower())
    return all(_stands(gold, words) for gold in question.gold)


def _stands(gold: str, words: Sequence[str]) -> bool:
    if gold in words:
        return True
    if not gold.isdecimal():
        return False
    spelled = _spelled(int(gold))
    whole = range(len(words) - len(spelled) + 1)
    return "".join(spelled) in words or any(tuple(words[at : at + len(spelled)]) == spelled for at in whole)


def _spelled(number: int) -> tuple[str, ...]:
    """The English words of a number below 100."""
    if number < len(_UNITS):
        return (_UNITS[number],)
    tens, units = divmod(number, 10)
    return (_TENS[tens],) if units == 0 else (_TENS[tens], _UNITS[units])
