"""Number words as digits, in English, Chinese, Spanish and German: what graded texts are made equal by.

English, Spanish and German: 0 to 99, and English ordinals as far as the days of a month. Chinese: digits
one after the other, and numbers below 10,000. Articles that are also the number one (ein, un, una) stay words.
"""

from __future__ import annotations

import re
from typing import Final

Words = dict[tuple[str, ...], int]


def _list(text: str) -> list[str]:
    return text.split()


_EN: Final = _list(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_EN_TENS: Final = _list("twenty thirty forty fifty sixty seventy eighty ninety")
_EN_ORDINALS: Final = _list(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
    "fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"
)
_ES: Final = _list(
    "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciseis diecisiete "
    "dieciocho diecinueve veinte veintiuno veintidos veintitres veinticuatro veinticinco veintiseis veintisiete "
    "veintiocho veintinueve"
)
_ES_TENS: Final = _list("treinta cuarenta cincuenta sesenta setenta ochenta noventa")
_DE: Final = _list(
    "null eins zwei drei vier funf sechs sieben acht neun zehn elf zwolf dreizehn vierzehn funfzehn sechzehn siebzehn "
    "achtzehn neunzehn"
)
_DE_TENS: Final = _list("zwanzig dreissig vierzig funfzig sechzig siebzig achtzig neunzig")
_ZH_DIGITS: Final = {char: at for at, chars in enumerate(("零〇", "一", "二两兩", *"三四五六七八九")) for char in chars}
_ZH_UNITS: Final = {"十": 10, "百": 100, "千": 1_000}
_ZH_RUN: Final = re.compile(f"[{''.join(_ZH_DIGITS)}{''.join(_ZH_UNITS)}]+")


def _english() -> Words:
    found: Words = {(word,): at for at, word in enumerate(_EN)}
    for tens, word in enumerate(_EN_TENS, 2):
        found[word,] = 10 * tens
        for unit in range(1, 10):
            found[word, _EN[unit]] = 10 * tens + unit
    found |= {(word,): at for at, word in enumerate(_EN_ORDINALS, 1) if word != "second"}
    found |= {("twenty", word): 20 + at for at, word in enumerate(_EN_ORDINALS[:9], 1)}
    return found | {("thirtieth",): 30, ("thirty", "first"): 31}


def _spanish() -> Words:
    found: Words = {(word,): at for at, word in enumerate(_ES)}
    for tens, word in enumerate(_ES_TENS, 3):
        found[word,] = 10 * tens
        for unit in range(1, 10):
            found[word, "y", _ES[unit]] = 10 * tens + unit
    return found


def _german() -> Words:
    found: Words = {(word,): at for at, word in enumerate(_DE)}
    for tens, word in enumerate(_DE_TENS, 2):
        found[word,] = 10 * tens
        for unit in range(1, 10):
            found[("ein" if unit == 1 else _DE[unit]) + "und" + word,] = 10 * tens + unit
    return found


WORDS: Final[dict[str, Words]] = {"en": _english(), "es": _spanish(), "de": _german(), "zh": {}}  # folded words
LONGEST: Final = 3  # words of a number


def chinese(text: str) -> str:
    """A text with its runs of Chinese digits in Arabic ones."""
    return _ZH_RUN.sub(lambda run: _read(run.group()), text)


def _read(run: str) -> str:
    if not any(char in _ZH_UNITS for char in run):
        return "".join(str(_ZH_DIGITS[char]) for char in run)
    total = digit = 0
    for char in run:
        if char in _ZH_UNITS:
            total += (digit or 1) * _ZH_UNITS[char]
            digit = 0
        else:
            digit = _ZH_DIGITS[char]
    return str(total + digit)


def spoken(number: int, language: str) -> str:
    """A number from 3 to 12 in words; any other in digits."""
    if not 3 <= number <= 12:
        return str(number)
    match language:
        case "en":
            return _EN[number]
        case "es":
            return _ES[number]
        case "de":
            return _DE[number].replace("funf", "fünf").replace("zwolf", "zwölf")
        case _:
            return "三四五六七八九十"[number - 3] if number <= 10 else f"十{'一二'[number - 11]}"
