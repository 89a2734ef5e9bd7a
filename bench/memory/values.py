"""Values of facts: as they are said in English, Chinese, Spanish and German, and what is accepted for them.

time    a quarter of an hour from 8 to 17, in digits or in words, with the preposition where the language needs one;
        morning is from 5 to 9, evening from 17 to 21
date    a day from May to July 2026, likewise
weekday, code (four digits), plate (of a car), number (3 to 40)
A list gives one of its entries; `a|b` is said as a, and b is accepted, too.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

import msgspec

from bench.memory.numerals import spoken

MONTHS: Final = {
    "en": ("May", "June", "July"),
    "es": ("mayo", "junio", "julio"),
    "de": ("Mai", "Juni", "Juli"),
    "zh": ("5月", "6月", "7月"),
}
WEEKDAYS: Final = {
    "en": "Monday|Mon Tuesday|Tue|Tues Wednesday|Wed Thursday|Thu|Thurs Friday|Fri Saturday|Sat Sunday|Sun",
    "es": "lunes martes miércoles jueves viernes sábado domingo",
    "de": "Montag|montags Dienstag|dienstags Mittwoch|mittwochs Donnerstag|donnerstags Freitag|freitags "
    "Samstag|Sonnabend|samstags Sonntag|sonntags",
    "zh": "星期一|周一|礼拜一 星期二|周二|礼拜二 星期三|周三|礼拜三 星期四|周四|礼拜四 星期五|周五|礼拜五 "
    "星期六|周六|礼拜六 星期天|周日|星期日|周天|礼拜天",
}
HOURS: Final = {"time": (8, 17), "morning": (5, 9), "evening": (17, 21)}
YEARS: Final = ("", ".2026", "/2026")
WHOLE: Final = {"en": "{} o'clock", "es": "las {}", "de": "{} Uhr", "zh": "{}点"}  # hours
LETTERS: Final = "BCDFGHJKLMNPRSTVWX"
GERMAN_TOWNS: Final = ("HH", "KI", "HB", "MS", "KA", "DD")
PROVINCES: Final = "浙苏沪粤京川"


class Value(msgspec.Struct, frozen=True):
    """What is said, and what is accepted for it: one of it stands in what is said."""

    said: str
    accepted: tuple[str, ...]


def drawn(kind: str | Sequence[str], language: str, rng: random.Random) -> Value:
    """A value of a kind, or of a list."""
    if not isinstance(kind, str):
        return _listed(rng.choice(kind))
    match kind:
        case "time" | "morning" | "evening":
            return _time(rng.randint(*HOURS[kind]), rng.choice((0, 15, 30, 45)), language, rng.random() < 0.5)
        case "date":
            return _date(rng.randint(3, 28), rng.randrange(3), language, rng.random() < 0.5)
        case "weekday":
            return _listed(rng.choice(WEEKDAYS[language].split()))
        case "code":
            return _listed(str(rng.randint(1_000, 9_999)))
        case "plate":
            return _listed(_plate(language, rng))
        case "number":
            number = rng.randint(3, 40)
            return Value(spoken(number, language) if rng.random() < 0.5 else str(number), (str(number),))
    raise ValueError(f"no such kind of value: {kind}")


def _listed(entry: str) -> Value:
    forms = tuple(entry.split("|"))
    return Value(forms[0], forms)


def _plate(language: str, rng: random.Random) -> str:
    letters = "".join(rng.sample(LETTERS, 3))
    match language:
        case "de":
            return f"{rng.choice(GERMAN_TOWNS)}-{letters[:2]} {rng.randint(101, 999)}"
        case "es":
            return f"{rng.randint(1_000, 9_999)} {letters}"
        case "zh":
            return f"{rng.choice(PROVINCES)}{letters[0]}{rng.randint(10_000, 99_999)}"
    return f"{letters} {rng.randint(101, 999)}"


def _time(hour: int, minute: int, language: str, words: bool) -> Value:
    """The time of day; a whole hour may be given by its number alone, except in Chinese."""
    hour = 12 if hour == 13 and language == "es" else hour  # a la una
    short = (hour - 1) % 12 + 1
    after = short % 12 + 1
    exact = [f"{hour}:{minute:02}", f"{short}:{minute:02}"]
    if not minute:
        exact += [WHOLE[language].format(hour), WHOLE[language].format(short)]
        exact += [str(one) for one in (hour, short) if one > 2 and language != "zh"]  # one and two are said of much
    at, then = spoken(short, language), spoken(after, language)
    match language:
        case "en":
            half = "am" if hour < 12 else "pm"
            figures = f"{short}:{minute:02} {half}" if minute else f"{short} {half}"
            said = {0: f"{at} o'clock", 15: f"quarter past {at}", 30: f"half past {at}", 45: f"quarter to {then}"}
            forms = [said[minute], *([] if minute else [f"{short} {half}"])]
        case "es":
            figures = f"a las {hour}:{minute:02}"
            said = {0: f"a las {at} en punto", 15: f"a las {at} y cuarto", 30: f"a las {at} y media"}
            said[45] = f"a {'la' if after == 1 else 'las'} {'una' if after == 1 else then} menos cuarto"
            forms = [said[minute].split(maxsplit=2)[2]]
        case "de":
            figures = f"um {hour}:{minute:02} Uhr" if minute else f"um {hour} Uhr"
            at, then = ("eins" if one == 1 else "zwei" if one == 2 else spoken(one, "de") for one in (short, after))
            said = {0: f"um {at} Uhr", 15: f"um Viertel nach {at}", 30: f"um halb {then}", 45: f"um Viertel vor {then}"}
            if short == 1:
                said[0] = "um ein Uhr"
            forms = [said[minute].removeprefix("um "), f"viertel {then}", f"drei viertel {then}"][: 1 + (minute == 15)]
            forms += [f"dreiviertel {then}"] if minute == 45 else []
        case _:
            day = "早上" if hour < 9 else "上午" if hour < 12 else "中午" if hour == 12 else "下午"
            day = "晚上" if hour >= 18 else day
            tail = {0: "", 15: "一刻", 30: "半", 45: "三刻"}[minute]
            name = "两" if short == 2 else "一" if short == 1 else spoken(short, "zh")
            figures = f"{hour}:{minute:02}"
            said = {minute: f"{day}{name}点{tail}"}
            forms = [f"{one}点{two}" for one in (hour, short) for two in {tail, str(minute or "")}] if minute else []
            forms += [f"差一刻{after}点", f"{after}点差一刻"] if minute == 45 else []
    return Value(said[minute] if words else figures, tuple(dict.fromkeys((*exact, *forms))))


def _date(day: int, month: int, language: str, words: bool) -> Value:
    """A day of a month; the number of the day alone is accepted, since who is asked may leave the month out."""
    name = MONTHS[language][month]
    number = 5 + month
    exact = tuple(f"{day}{mark}{two}{year}" for mark in "./" for two in (number, f"{number:02}") for year in YEARS)
    exact = (f"{day} {name}", f"{name} {day}", f"2026-{number:02}-{day:02}", f"{number}/{day}", *exact, str(day))
    match language:
        case "en":
            suffix = "th" if 10 < day < 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
            said = f"the {day}{suffix} of {name}" if words else f"{name} {day}"
        case "es":
            said = f"el {day} de {name}"
        case "de":
            said = f"am {day}. {name}"
        case _:
            said = f"{name}{day}号"
    return Value(said, exact)
