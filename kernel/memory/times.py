"""Dates in texts: which days an expression means, given when it was said; in English, Chinese, Spanish, German, French.

Without a year the latest such day or month is meant that is not after the saying, as in what is told of the past. A
range is as wide as its words: May 2023 is a month, two weeks ago a week around that day, three months ago a calendar
month, a few days ago two to five. Weeks run Monday to Sunday, winters from December; everything is UTC. Day and month
of 07/05/2023 are not guessed, and a month's or weekday's name by itself is none: April may be a person, may a verb.

Not here: clocks; the kernel is told the time by its events.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Final, TypeAlias

import msgspec

from kernel.limits import DAY_NS, NS
from kernel.memory.words import folded

MENTIONS_MAX: Final = 8  # expressions of one text
YEARS: Final = (1900, 2100)
FEW: Final = (2, 5)  # what a few and several are
COUPLE: Final = (2, 3)

_NAMES: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_MONTH_NAMES: Final = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_YEAR: Final = re.compile(r"\d{4}")

_Range: TypeAlias = tuple[int, int] | None  # days, inclusive


class Days(msgspec.Struct, frozen=True):
    """Days since 1970-01-01, both ends included, and where the text names them: [start, end) in characters."""

    first: int
    last: int
    start: int
    end: int


def day_of(at: int) -> int:
    """The day of a time in ns UTC, counted from 1970-01-01."""
    return at // DAY_NS


def date_of(day: int) -> str:
    """A day, counted from 1970-01-01, as 2023-05-07."""
    year, month, of_month = _civil(day)
    return f"{year:04}-{month:02}-{of_month:02}"


def text_of(at: int) -> str:
    """A time in ns UTC as a model is told it: 2023-05-07 13:56 (Sunday)."""
    days = day_of(at)
    minutes = at % DAY_NS // (60 * NS)
    return f"{date_of(days)} {minutes // 60:02}:{minutes % 60:02} ({_NAMES[_weekday(days)]})"


def spoken(day: int) -> str:
    """A day as a model is told it: 7 May 2023."""
    year, month, number = _civil(day)
    return f"{number} {_MONTH_NAMES[month - 1]} {year}"


def span_of(first: int, last: int) -> str:
    """Days as a model is told them: 7 May 2023, May 2023, 2022, or 1 May 2023 to 7 May 2023."""
    year, month, number = _civil(first)
    if first == last:
        return spoken(first)
    if number == 1 and (_number(year, month + 1, 1) if month < 12 else _number(year + 1, 1, 1)) == last + 1:
        return f"{_MONTH_NAMES[month - 1]} {year}"
    if (month, number) == (1, 1) and _number(year + 1, 1, 1) == last + 1:
        return str(year)
    return f"{spoken(first)} to {spoken(last)}"


def glossed(text: str, at: int) -> str:
    """A text said at `at` (ns UTC), with its days in brackets behind what names them only from there."""
    out, done = [], 0
    for one in mentioned(text, at):
        if one.start >= done and not _YEAR.search(text, one.start, one.end):
            out.append(f"{text[done : one.end]} [{span_of(one.first, one.last)}]")
            done = one.end
    return "".join(out) + text[done:]


def _number(year: int, month: int, day: int) -> int:
    """The number of a day of the Gregorian calendar, for any year."""
    year -= month <= 2
    of_era = year % 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return year // 400 * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def _civil(days: int) -> tuple[int, int, int]:
    """Year, month and day of a day's number; the inverse of `_number`."""
    era, of_era = divmod(days + 719_468, 146_097)
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    place = (5 * of_year + 2) // 153
    month = place + 3 if place < 10 else place - 9
    return year + era * 400 + (month <= 2), month, of_year - (153 * place + 2) // 5 + 1


def _weekday(days: int) -> int:
    """0 for Monday."""
    return (days + 3) % 7


def _month(year: int, month: int, by: int = 0, long: int = 1) -> tuple[int, int]:
    """The days of `long` months, the first of them `by` months from one given."""
    start = year * 12 + month - 1 + by
    first, after = (_number(one // 12, one % 12 + 1, 1) for one in (start, start + long))
    return first, after - 1


def _date(year: int, month: int, day: int) -> _Range:
    """One day, if the calendar has it."""
    if not 1 <= month <= 12 or not 1 <= day <= 31:
        return None
    days = _number(year, month, day)
    return (days, days) if _civil(days) == (year, month, day) else None


def _near(unit: str, by: int, now: int) -> tuple[int, int]:
    """The day, week, weekend, month or year that is `by` of them from the one of day `now`."""
    year, month, _ = _civil(now)
    monday = now - _weekday(now)
    match unit:
        case "day":
            return now + by, now + by
        case "week":
            return monday + 7 * by, monday + 7 * by + 6
        case "weekend":
            return monday + 7 * by + 5, monday + 7 * by + 6
        case "month":
            return _month(year, month, by)
        case _:
            return _month(year + by, 1, long=12)


# Names. Keys are folded; patterns take the letters with their accents, too.
def _split(names: str) -> list[str]:
    return names.split()


_MONTHS: Final = {
    name: at % 12 + 1
    for at, name in enumerate(
        _split(
            """
            january february march april may june july august september october november december
            enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre
            januar februar marz april mai juni juli august september oktober november dezember
            janvier fevrier mars avril mai juin juillet aout septembre octobre novembre decembre
            jan feb mar apr may jun jul aug sep oct nov dec
            """
        )
    )
} | {"sept": 9}
_DAYS: Final = {
    name: at % 7
    for at, name in enumerate(
        _split(
            """
            monday tuesday wednesday thursday friday saturday sunday
            lunes martes miercoles jueves viernes sabado domingo
            montag dienstag mittwoch donnerstag freitag samstag sonntag
            lundi mardi mercredi jeudi vendredi samedi dimanche
            """
        )
    )
} | {"mon": 0, "tue": 1, "tues": 1, "wed": 2, "thu": 3, "thur": 3, "thurs": 3, "fri": 4, "sat": 5, "sun": 6}
_SEASONS: Final = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}  # their first months
_COUNTS: Final = {
    name: at
    for line in (
        "zero one two three four five six seven eight nine ten eleven twelve",
        "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce",
        "null eins zwei drei vier funf sechs sieben acht neun zehn elf zwolf",
        "zero un deux trois quatre cinq six sept huit neuf dix onze douze",
        "零 一 二 三 四 五 六 七 八 九 十 十一 十二",
    )
    for at, name in enumerate(line.split())
} | {"a": 1, "an": 1, "una": 1, "ein": 1, "einem": 1, "einer": 1, "une": 1, "两": 2, "兩": 2}
_UNITS: Final = {
    "hour": "hour",
    "day": "day dia tag jour nuit night 天 日",
    "week": "week semana woche semaine 周 週 星期 礼拜 個星期 个星期",
    "weekend": "weekend",
    "month": "month mes monat mois 月 个月 個月 か月 ヶ月",
    "year": "year ano jahr an annee 年",
}
_UNIT_OF: Final = {name: unit for unit, names in _UNITS.items() for name in names.split()}

_PHRASES: Final = {  # what lies how many units from when it is said
    ("day", -2): "the day before yesterday/anteayer/antes de ayer/vorgestern/avant-hier",
    ("day", -1): "yesterday/last night/ayer/anoche/gestern/hier/hier soir/yesterday night",
    ("day", 0): "today/tonight/this morning/this afternoon/this evening/earlier today/hoy/esta manana/esta noche/heute"
    "/aujourd'hui/aujourd’hui/ce matin/ce soir",
    ("day", 1): "tomorrow/demain",
    ("day", 2): "the day after tomorrow/pasado manana/ubermorgen/apres-demain",
    ("week", -1): "last week/the past week/la semana pasada/letzte woche/letzter woche/la semaine derniere",
    ("week", 0): "this week/esta semana/diese woche/dieser woche/cette semaine",
    ("week", 1): "next week/la proxima semana/la semana que viene/nachste woche/la semaine prochaine",
    ("weekend", -1): "last weekend/this past weekend/the past weekend/el fin de semana pasado/letztes wochenende"
    "/le week-end dernier",
    ("weekend", 0): "this weekend/este fin de semana/dieses wochenende/ce week-end",
    ("weekend", 1): "next weekend/nachstes wochenende/le week-end prochain",
    ("month", -1): "last month/the past month/el mes pasado/letzten monat/letztem monat/le mois dernier",
    ("month", 0): "this month/este mes/diesen monat/ce mois-ci",
    ("month", 1): "next month/el proximo mes/el mes que viene/nachsten monat/le mois prochain",
    ("year", -2): "the year before last/vorletztes jahr",
    ("year", -1): "last year/el ano pasado/letztes jahr/letzten jahr/l'annee derniere/l’annee derniere"
    "/l'an dernier/l’an dernier",
    ("year", 0): "this year/este ano/dieses jahr/cette annee",
    ("year", 1): "next year/el proximo ano/el ano que viene/nachstes jahr/l'annee prochaine/l’annee prochaine",
}
_SPACED: Final = {phrase: near for near, phrases in _PHRASES.items() for phrase in phrases.split("/")}
_UNSPACED: Final = {
    phrase: near
    for near, phrases in {
        ("day", -3): "大前天",
        ("day", -2): "前天 一昨日 그저께",
        ("day", -1): "昨天 昨晚 昨夜 昨日 어제",
        ("day", 0): "今天 今晚 今早 今日 오늘",
        ("day", 1): "明天 明日 내일",
        ("day", 2): "后天 後天 明後日",
        ("week", -1): "上周 上週 上星期 上礼拜 上禮拜 上个星期 上個星期 先週 지난주",
        ("week", 0): "这周 這週 本周 本週 这星期 这个星期 今週 이번주",
        ("week", 1): "下周 下週 下星期 下个星期 下個星期 来週 다음주",
        ("weekend", -1): "上周末 上週末 先週末",
        ("weekend", 0): "这周末 這週末 本周末 今週末",
        ("weekend", 1): "下周末 下週末 来週末",
        ("month", -1): "上个月 上個月 上月 先月",
        ("month", 0): "这个月 這個月 本月 今月",
        ("month", 1): "下个月 下個月 来月",
        ("year", -2): "前年 一昨年",
        ("year", -1): "去年 昨年",
        ("year", 0): "今年",
        ("year", 1): "明年 来年",
    }.items()
    for phrase in phrases.split()
}

_ACCENTS: Final = {
    "a": "[aáàâä]",
    "e": "[eéèê]",
    "i": "[ií]",
    "o": "[oóö]",
    "u": "[uúûü]",
    "n": "[nñ]",
    " ": r"\s{1,3}",
}


def _any(names: Iterable[str]) -> str:
    """A pattern of any of the names, the longest first, with or without accents."""
    rows = sorted(names, key=lambda name: (-len(name), name))
    return "|".join("".join(_ACCENTS.get(c, re.escape(c)) for c in name) for name in rows)


_SHORT: Final = frozenset(_split("jan feb mar apr may mai jun jul aug sep sept oct nov dec"))  # with a capital only
_PART: Final = {
    "y": r"(?:19\d\d|20\d\d|2100)(?!\d)",
    "s": r"\s{1,3}",
    "d": r"(?:3[01]|[12]\d|0?[1-9])",
    "m": f"(?:{_any(_MONTHS.keys() - _SHORT)}"
    r"|(?-i:May|MAY|[Mm]ai|(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?))(?![^\W_])",
    "w": f"(?:{_any(name for name in _DAYS if len(name) > 4)}|(?-i:(?:Mon|Tues?|Wed|Thu(?:rs?)?|Fri|Sat|Sun)\\b\\.?))",
    "count": rf"(?:\d{{1,3}}|{_any(filter(str.isascii, _COUNTS))})",
    "unit": "(?:hour|day|night|weekend|week|month|year)s?",
    "units": f"(?:{_any(filter(str.isascii, _UNIT_OF))})(?:e?[sn])?",
    "many": "[零一二两兩三四五六七八九十]{1,3}",
}


@functools.cache
def _pattern() -> re.Pattern[str]:
    """One alternative an expression; of those that begin at one place the first counts. Compiled at the first use."""
    spaced = {
        "season": "(?:(?P<which_s>last|this|next|in|during){s}(?:the{s})?)?(?P<season_s>"
        "spring|summer|autumn|fall|winter)(?:(?:{s}of)?{s}(?P<y_s>{y}))?",
        "phrase": _any(_SPACED),
        "ago": "(?:(?P<some>a{s}few|few|several|a{s}couple(?:{s}of)?|couple{s}of)|(?P<n_a>{count})){s}"
        "(?P<unit_a>{unit}){s}ago",
        "since": "(?:hace|vor|il{s}y{s}a){s}(?P<n_b>{count}){s}(?P<unit_b>{units})",
        "weekend": "(?:over|on|at|during){s}the{s}weekend",
        "weekday": "(?:(?P<which_w>last|past|this|on|next|letzten|am|nachsten|nächsten|el){s})?(?P<w>{w})"
        "(?:{s}(?P<after>pasado|dernier|prochain))?",
        "dmy": "(?P<d1>{d})(?:st|nd|rd|th|er|º|\\.)?{s}(?:(?:of|de){s})?(?P<m1>{m})(?:,?{s}(?:del?{s})?(?P<y1>{y}))?",
        "my": "(?P<m3>{m}),?{s}(?:del?{s})?(?P<y3>{y})",
        "mdy": "(?P<m2>{m}){s}(?:the{s})?(?P<d2>{d})(?:st|nd|rd|th)?(?![^\\W_]|[:.]\\d|%)(?:,?{s}(?P<y2>{y}))?",
        "month": "(?P<which>in|of|since|until|by|during|early|late|mid|last|next|this|en|im|seit|letzten)[ -]"
        "(?P<m4>{m})(?:,?{s}(?:del?{s})?(?P<y4>{y}))?",
        "year": "(?:in|of|since|during|year|en|im{s}jahr|jahr|desde|depuis){s}(?P<y5>{y})(?![.,:]\\d|%|-\\d)",
    }
    unspaced = {
        "iso": "(?<![\\d.\\-/])(?P<y6>{y})(?P<mark>[-/.])(?P<m6>\\d\\d?)(?P=mark)(?P<d6>\\d\\d?)(?!\\d|[-/]\\d)",
        "numeric": "(?<![\\d.\\-/])(?P<a7>\\d\\d?)(?P<mark7>[./-])(?P<b7>\\d\\d?)(?P=mark7)(?P<y7>{y})(?![-/.]\\d)",
        "han": "(?<!\\d)(?:(?P<y8>{y})年|(?P<rel8>前年|去年|今年|明年)的?)?(?P<m8>\\d\\d?|{many})月(?!前)"
        "(?:(?P<d8>\\d\\d?|{many})[日号號])?",
        "hanyear": "(?<!\\d)(?P<y9>{y})年",
        "hanago": "(?P<n10>\\d{1,3}|{many})(?P<unit10>天|日|周|週|星期|个星期|個星期|个月|個月|か月|ヶ月|年)[之以]?前",
        "hanweekday": "(?P<week11>上|这|這|下)个?(?:周|週|星期|礼拜)(?P<w11>[一二三四五六日]|天(?!气|氣))",
        "hanphrase": _any(_UNSPACED),
    }
    parts = [f"(?P<{name}>{pattern})" for name, pattern in unspaced.items()]
    inner = "|".join(f"(?P<{name}>{pattern})" for name, pattern in spaced.items())
    text = "|".join(parts) + rf"|(?<![^\W_])(?i:{inner})(?![^\W_])"
    for name, part in _PART.items():
        text = text.replace(f"{{{name}}}", part)
    return re.compile(text)


_GERMAN: Final = re.compile(r"\b(?:ist|und|das|der|ich|nicht|wir|sind|es)\b", re.I)  # where hier is here


def mentioned(text: str, at: int) -> list[Days]:
    """The first MENTIONS_MAX dates of any text that was said at `at` (ns UTC), in order. O(characters).

    What is not in YEARS, or in no calendar, as 30 February, is left out.
    """
    found: list[Days] = []
    now = day_of(at)
    low, high = _number(YEARS[0], 1, 1), _number(YEARS[1], 12, 31)
    if not low <= now <= high:
        now, at = min(max(now, low), high), min(max(at, low * DAY_NS), high * DAY_NS)
    for match in _pattern().finditer(text):
        days = _days(match, now, at)
        if days is None or days[0] < low or days[1] > high:
            continue
        if match.group().casefold().startswith("hier") and _GERMAN.search(text):
            continue
        found.append(Days(days[0], days[1], match.start(), match.end()))
        if len(found) == MENTIONS_MAX:
            break
    return found


def _days(match: re.Match[str], now: int, at: int) -> _Range:
    """What an expression means on day `now`, at `at`."""
    part = match.groupdict(default="")
    match match.lastgroup:
        case "iso":
            return _date(int(part["y6"]), int(part["m6"]), int(part["d6"]))
        case "numeric":
            return _numeric(int(part["a7"]), int(part["b7"]), int(part["y7"]), part["mark7"] == ".")
        case "dmy":
            return _dated(part["y1"], _month_of(part["m1"]), int(part["d1"]), now)
        case "mdy":
            return _dated(part["y2"], _month_of(part["m2"]), int(part["d2"]), now)
        case "my":
            return _month(int(part["y3"]), _month_of(part["m3"]))
        case "month":
            if part["y4"]:
                return _month(int(part["y4"]), _month_of(part["m4"]))
            return _named_month(_month_of(part["m4"]), 1, part["which"].lower(), now)
        case "year":
            return _month(int(part["y5"]), 1, long=12)
        case "season":
            return _season(part, now)
        case "weekend":
            return _near("weekend", 0 if _weekday(now) >= 5 else -1, now)
        case "weekday":
            return _weekday_of(part, now)
        case "phrase":
            return _near(*_SPACED[" ".join(folded(part["phrase"]).split())], now)
        case "hanphrase":
            return _near(*_UNSPACED[part["hanphrase"]], now)
        case "ago":
            if part["some"]:
                few = COUPLE if "couple" in part["some"].lower() else FEW
                return _ago(_unit(part["unit_a"]), few[0], few[1], at)
            return _ago(_unit(part["unit_a"]), _count(part["n_a"]), 0, at)
        case "since":
            return _ago(_unit(part["unit_b"]), _count(part["n_b"]), 0, at)
        case "hanago":
            return _ago(_unit(part["unit10"]), _count(part["n10"]), 0, at)
        case "hanyear":
            return _month(int(part["y9"]), 1, long=12)
        case "hanweekday":
            by = {"上": -7, "下": 7}.get(part["week11"], 0)
            day = now - _weekday(now) + "一二三四五六日天".index(part["w11"]) + by - (part["w11"] == "天")
            return day, day
        case _:
            return _han(part, now)


def _count(text: str) -> int:
    """A number below 100 in words, or any in digits; 0 for what is none."""
    if text.isdecimal():
        return int(text)
    tens, ten, ones = folded(text).rpartition("十")
    if not ten or not (tens or ones):
        return _COUNTS.get(ten or ones, 0)
    return (_COUNTS.get(tens, 0) if tens else 1) * 10 + _COUNTS.get(ones, 0)


def _unit(text: str) -> str:
    name = folded(text)
    for end in ("", "s", "n", "en", "es"):
        if name.endswith(end) and name.removesuffix(end) in _UNIT_OF:
            return _UNIT_OF[name.removesuffix(end)]
    return "day"


def _month_of(text: str) -> int:
    return _MONTHS[folded(text).rstrip(".")]


def _numeric(a: int, b: int, year: int, dots: bool) -> _Range:
    """7.5.2023 is in May; 07/05/2023 may be in May or July, 13/05/2023 and 05/13/2023 in May alone."""
    if dots or a > 12 or a == b:
        return _date(year, b, a)
    return _date(year, a, b) if b > 12 else None


def _dated(year: str, month: int, day: int, now: int) -> _Range:
    """A day with its year, or the latest such day not after `now`."""
    if year:
        return _date(int(year), month, day)
    this = _civil(now)[0]
    for one in range(this, this - 9, -1):  # 29 February is absent for up to eight years
        days = _date(one, month, day)
        if days is not None and days[0] <= now:
            return days
    return None


def _named_month(month: int, long: int, which: str, now: int) -> tuple[int, int]:
    """The months from one named: the latest begun; with last the latest that is over, with next the first to come."""
    year = _civil(now)[0]
    if which == "this":
        return _month(year, month, long=long)
    around = [_month(year + by, month, long=long) for by in range(-2, 3)]
    if which == "next":
        return next(one for one in around if one[0] > now)
    over = which in ("last", "letzten")
    return next(one for one in reversed(around) if (one[1] < now if over else one[0] <= now))


def _season(part: dict[str, str], now: int) -> _Range:
    month = _SEASONS[part["season_s"].lower()]
    if part["y_s"]:
        return _month(int(part["y_s"]), month, long=3)
    return _named_month(month, 3, part["which_s"].lower(), now) if part["which_s"] else None


def _weekday_of(part: dict[str, str], now: int) -> _Range:
    """On Friday: the latest, today included; last Friday: before today; next and this Friday: after it, or today."""
    which, after = part["which_w"].lower(), part["after"].lower()
    if not which and not after:
        return None
    back = (_weekday(now) - _DAYS[folded(part["w"]).rstrip(".")]) % 7
    if which in ("next", "nachsten", "nächsten") or after == "prochain":
        day = now + (7 - back)
    elif which == "this":
        day = now + (-back % 7)
    elif which in ("last", "past", "letzten") or after:
        day = now - (back or 7)
    else:
        day = now - back
    return day, day


def _ago(unit: str, least: int, most: int, at: int) -> _Range:
    """So many units before `at`, or from `least` to `most` of them. A week is that around the day."""
    if most:
        far, near = _ago(unit, most, 0, at), _ago(unit, least, 0, at)
        return (far[0], near[1]) if far and near else None
    now = day_of(at)
    match unit:
        case "hour":
            day = day_of(at - least * 3_600 * NS)
            return day, day
        case "week":
            return now - 7 * least - 3, now - 7 * least + 3
        case _:
            return _near(unit, -least, now)


def _han(part: dict[str, str], now: int) -> _Range:
    """2023年5月7日, 去年5月, 5月7日, 五月."""
    month = _count(part["m8"])
    if not 1 <= month <= 12:
        return None
    day = part["d8"]
    year = int(part["y8"]) if part["y8"] else 0
    if part["rel8"]:
        year = _civil(now)[0] + {"前年": -2, "去年": -1, "今年": 0}.get(part["rel8"], 1)
    if day:
        return _dated(str(year) if year else "", month, _count(day), now)
    return _month(year, month) if year else _named_month(month, 1, "", now)
