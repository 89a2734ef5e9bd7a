"""Whether a reply says the newest value of a fact and no older one, in four languages.

Texts are compared as tokens: a run of letters, a run of digits, a Chinese character; without case, accents, width and
punctuation, number words as digits. A value stands in a reply where some of its tokens spell it and blanks do not
matter: K7RTX is K 7 RTX. Of a value of numbers each is one token: 16.30 is 16:30, and 1630 is not. A number is no
part of a longer one, as 4 of 4:30 or 3,4; nor is a word of one that goes on with digits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from bench.memory.numerals import LONGEST, WORDS, chinese
from kernel.memory.words import folded

_HAN: Final = "\u3400-\u4dbf\u4e00-\u9fff"
_TOKEN: Final = re.compile(rf"\d+|[{_HAN}]|[^\W\d_{_HAN}]+")
_BEFORE: Final = re.compile(r"\d[.:,]\Z")
_AFTER: Final = re.compile(r"[.:,]\d")
_DIGIT: Final = re.compile(r"\d")
_ARTICLE: Final = re.compile(
    r"\A(?:the|an?|el|l[ao]s?|una?|der|die|das|dem|den|eine?|einen|einem|einer)\s+(?=\S)", re.I
)


class _Token(msgspec.Struct, frozen=True):
    """A token, and whether it is a part of a number, or of a word with digits, that goes on before or behind it."""

    text: str
    goes_before: bool
    goes_on: bool


def newest(reply: str, accepted: Sequence[str], older: Iterable[str], language: str) -> bool:
    """Whether one of `accepted` stands in the reply, and of `older` none beside it."""
    tokens = _tokens(reply, language)
    taken = _covered(tokens, accepted, language)
    rest = [None if at in taken else token for at, token in enumerate(tokens)]
    return bool(taken) and not _covered(rest, older, language)


def said(text: str, values: Iterable[str], language: str) -> bool:
    """Whether one of `values` stands in a text."""
    return bool(_covered(_tokens(text, language), values, language))


def _covered(tokens: Sequence[_Token | None], values: Iterable[str], language: str) -> set[int]:
    """The places of tokens that spell one of the values."""
    found: set[int] = set()
    for value in values:
        parts = [token.text for token in _tokens(_ARTICLE.sub("", value), language)]
        numbers = len(parts) > 1 and all(map(str.isdigit, parts))
        for first in range(len(tokens)) if parts else ():
            last = _spelt(tokens, first, "".join(parts))
            if not numbers or last - first == len(parts):
                found.update(range(first, last))
    return found


def _spelt(tokens: Sequence[_Token | None], first: int, wanted: str) -> int:
    """The place behind the tokens from `first` that spell `wanted`; `first` if they do not."""
    at, left = first, wanted
    while left:
        token = tokens[at] if at < len(tokens) else None
        if token is None or not left.startswith(token.text):
            return first
        if (at == first and token.goes_before) or (token.text == left and token.goes_on):
            return first
        left, at = left[len(token.text) :], at + 1
    return at


@lru_cache(maxsize=8192)
def _tokens(text: str, language: str) -> tuple[_Token, ...]:
    plain = folded(text)
    if language == "zh":
        plain = chinese(plain)
    matches = list(_TOKEN.finditer(plain))
    words = [match.group() for match in matches]
    known, found, at = WORDS[language], list[_Token](), 0
    while at < len(words):
        size = next((n for n in range(min(LONGEST, len(words) - at), 0, -1) if tuple(words[at : at + n]) in known), 0)
        word = str(known[tuple(words[at : at + size])]) if size else words[at]
        first, last = matches[at], matches[at + max(1, size) - 1]
        number = word.isdigit()
        found.append(
            _Token(
                word,
                number and _BEFORE.search(plain, max(0, first.start() - 2), first.start()) is not None,
                (_AFTER if number else _DIGIT).match(plain, last.end()) is not None and word.isascii(),
            )
        )
        at += max(1, size)
    return tuple(found)
