"""Porter's stemmer (Program 14(3), 1980), with the departures that NLTK's PorterStemmer has by default.

LoCoMo's F1 is defined over its stems, so figures are comparable only with the same ones.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

IRREGULAR: Final = {
    "skies": "sky", "dying": "die", "lying": "lie", "tying": "tie", "innings": "inning", "outings": "outing",
    "cannings": "canning", **{word: word for word in ("sky", "news", "inning", "outing", "canning", "howe", "proceed",
    "exceed", "succeed")},
}  # fmt: skip
STEP_2: Final = (
    ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"), ("bli", "ble"),
    ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous"), ("ization", "ize"), ("ation", "ate"),
    ("ator", "ate"), ("alism", "al"), ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"),
    ("iviti", "ive"), ("biliti", "ble"), ("fulli", "ful"),
)  # fmt: skip
STEP_3: Final = (
    ("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", ""),
)  # fmt: skip
STEP_4: Final = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
)  # fmt: skip


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """The stem of a word in lower case."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if len(word) <= 2:
        return word
    for step in (_plural, _past, _y, _second, _third, _fourth, _e):
        word = step(word)
    return word


def _consonant(word: str, at: int) -> bool:
    if word[at] == "y":
        return at == 0 or not _consonant(word, at - 1)
    return word[at] not in "aeiou"


def _measure(stem_: str) -> int:
    """How often a vowel is followed by a consonant."""
    shape = [_consonant(stem_, at) for at in range(len(stem_))]
    return sum(after and not before for before, after in zip(shape, shape[1:], strict=False))


def _vowel(stem_: str) -> bool:
    return any(not _consonant(stem_, at) for at in range(len(stem_)))


def _short(word: str) -> bool:
    """Whether a word ends consonant, vowel, consonant (no w, x, y), or is vowel, consonant."""
    if len(word) == 2:
        return not _consonant(word, 0) and _consonant(word, 1)
    if len(word) < 3:
        return False
    shape = [_consonant(word, at) for at in (len(word) - 3, len(word) - 2, len(word) - 1)]
    return shape == [True, False, True] and word[-1] not in "wxy"


def _plural(word: str) -> str:
    if word.endswith("ies"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _past(word: str) -> str:
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for suffix in ("ed", "ing"):
        if word.endswith(suffix) and _vowel(word[: -len(suffix)]):
            return _mended(word[: -len(suffix)])
    return word


def _mended(word: str) -> str:
    """What a word ends in when its -ed or -ing is gone."""
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if len(word) > 1 and word[-1] == word[-2] and _consonant(word, len(word) - 1):
        return word if word[-1] in "lsz" else word[:-1]
    return word + "e" if _measure(word) == 1 and _short(word) else word


def _y(word: str) -> str:
    ends = word.endswith("y") and len(word) > 2 and _consonant(word, len(word) - 2)
    return word[:-1] + "i" if ends else word


def _second(word: str) -> str:
    if word.endswith("alli") and _measure(word[:-4]) > 0:
        return _second(word[:-2])
    if word.endswith("logi"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    return _replaced(word, STEP_2)


def _third(word: str) -> str:
    return _replaced(word, STEP_3)


def _replaced(word: str, rules: tuple[tuple[str, str], ...]) -> str:
    """By the first rule whose suffix a word has, if anything with a measure stands before it."""
    for suffix, instead in rules:
        if word.endswith(suffix):
            before = word[: -len(suffix)]
            return before + instead if _measure(before) > 0 else word
    return word


def _fourth(word: str) -> str:
    for suffix in STEP_4:
        if word.endswith(suffix):
            before = word[: -len(suffix)]
            fits = _measure(before) > 1 and (suffix != "ion" or before[-1] in "st")
            return before if fits else word
    return word


def _e(word: str) -> str:
    if word.endswith("e"):
        before = word[:-1]
        if _measure(before) > 1 or (_measure(before) == 1 and not _short(before)):
            word = before
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word
