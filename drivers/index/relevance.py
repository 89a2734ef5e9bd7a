"""How likely a passage is what a message asks for: a logistic model over what can be seen of both.

The features of a passage, by the words and vectors of the message and of what was said around it:

- own, near, beside, around: the share of the message's words (by weight) in the passage; with one before and after it;
  with two; with eight. An answer often has none of the question's words, but stands among them.
- named, rarest: the share in it of the message's names and numbers, and whether it has the rarest of its known words.
- stranger: the message names what few passages name, and neither it nor one beside it does.
- echo: the share in it of the words that the best by the features so far have and the message has not.
- meaning: cosine of the message and the passage with its neighbours, at half weight; and the same with the process's
  mean taken off all, where what all passages have in common no longer counts.
- speaker: it begins with the one name among the passages' labels ("Ada: ...") that the message names.
- asks, answers: it is a question itself; it follows one.
- names: the message asks who, where or which, and it has a name in it.
- days: the message names days ("last May"), and the passage was said on one of them or names one, as few others do.
- length, up to LENGTH_MAX: what is short says little.
- rank, best: its place by the sum of shares and meaning, and the best one's sum: of many that match as well as it, each
  is less likely.
- known, unknown, rare, said: of the message alone: how many of its words passages have, and how many none has; what the
  rarest of them weighs, and all: a long message, and one without a rare word, asks for less that was said before.

A message that asks nothing is answered from what is in view; what would be found for it counts SILENT less.
Weights are fitted by `python -m bench.memory.fit` (docs/numbers.md, "Memory": on what, and what they do on the rest).
Scores are rounded to SCORE_DIGITS, so that the last bits of a logarithm, which are the host's, decide nothing.
Not here: who is a candidate (ranking.py), what is brought in (kernel/memory/recall.py).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from drivers.index.fts import Doc, Ints, Matches, Term, Weights
from kernel.memory.words import terms

REACHES: Final = (0, 1, 2, 8)  # passages on either side that are own, near, beside and around
ECHOED: Final = 6  # best candidates whose words are echoed,
ECHOES_MAX: Final = 12  # and words of theirs
LENGTH_MAX: Final = 300  # bytes
RARE: Final = 4  # passages that may hold a name that tells strangers
LABELS_MIN: Final = 3  # candidates that must begin with a label for it to be one
SCORE_DIGITS: Final = 9
SILENT: Final = 5.0  # in log odds

WEIGHTS: Final = {
    "own": 1.422,
    "near": -0.479,
    "beside": 2.571,
    "around": 1.392,
    "named": 0.888,
    "rarest": 0.787,
    "stranger": -0.948,
    "echo": 0.522,
    "meaning": 1.593,
    "centred": 2.024,
    "speaker": 0.864,
    "asks": -1.248,
    "answers": 0.398,
    "names": 0.476,
    "days": 2.065,
    "length": -0.241,
    "rank": -0.517,
    "best": -1.581,
    "known": -0.993,
    "unknown": 0.345,
    "rare": 4.163,
    "said": -0.067,
}
FEATURES: Final = tuple(WEIGHTS)
OWN: Final = FEATURES.index("own")
BIAS: Final = -4.793

_LABEL: Final = re.compile(r"([^\W\d_][\w .'’-]{0,30})[:：]\s*")
_ASKS: Final = re.compile(r"[?？؟][\s\"'”’»)\]」』]*$")
_NAMED: Final = re.compile(r"(?<=[a-zß-ÿ,;] )[A-ZÀ-Þ][a-zß-ÿ]|[\"“«「]")
_WHICH: Final = re.compile(
    r"\b(?:who|whom|whose|where|which|name|title|called|quién|dónde|cuál|nombre|qui|où|quel|quelle|nom|wer|wo|welche[rs]?|"
    r"wie heißt|chi|dove|quale|quem|onde|qual)\b|谁|誰|哪|名字|叫什么|どこ|だれ",
    re.I,
)
_TIME: Final = re.compile(
    r"\bwhen(?:'s| (?:did|do|does|was|were|is|are|am|will|have|has|had|should|can|could|would|exactly))\b|"
    r"\b(?:how long|since when|(?:what|which) (?:day|date|week|month|year|season|weekday)|"
    r"cuándo|hace cuánto|qué (?:día|fecha|mes|año|semana)|"
    r"wann|wie lange|welche[nmrs]? (?:tag|datum|monat|jahr)|"
    r"quand|depuis combien|quel(?:le)? (?:jour|date|mois|année)|quando|da quanto)\b|"
    r"什么时候|什麼時候|何时|何時|几号|幾號|哪天|哪一天|多久|星期几|いつ|何日",
    re.I,
)
_OPENS: Final = re.compile(
    r"\W*(?:(?:so|and|but|ok|okay|hey|hi|well|please|now|also)\W+)*"
    r"(?:what|when|where|who|whom|whose|which|why|how|is|are|was|were|do|does|did|have|has|had|can|could|will|would|should|"
    r"whats|wheres|whos|hows|remind|recall|tell me|do you remember|list|name|give me|find|show me|"
    r"qué|cuándo|dónde|quién|cuál|cómo|cuánt[oa]s?|recuérdame|dime|"
    r"was|wann|wo|wer|wie|welche[rs]?|wieviel|warum|erinnere|sag mir|"
    r"que|quand|où|qui|quel|quelle|comment|combien|pourquoi|est-ce|rappelle|dis-moi|"
    r"cosa|quando|dove|chi|come|quanto|perché|quem|onde|qual|quanto|como)\b",
    re.I,
)
_ASIDE: Final = re.compile(r"\([^()]*\)|（[^（）]*）")
_WANTS: Final = re.compile(
    r"(?:please )?(?:return|answer|reply|respond|give|list|name|tell me|use|write|just|only|be|explain|describe|"
    r"include|"
    r"responde|contesta|dame|antworte|gib|nenne|réponds|donne|rispondi|dammi)\b|请|請|用",
    re.I,
)
_TELLS: Final = re.compile(
    r"^\W*(?:(?:so|and|but|ok|okay|hey|oh|wait)\W+)*"
    r"(?:(?:did|have|had|haven't|didn't) (?:i|we) (?:ever |already |not )*(?:tell|told|mention(?:ed)?|say|said|"
    r"show(?:n|ed)?)|(?:did|do) you know that|guess what|you know what|"
    r"te (?:he )?(?:cont|dij|dich)|sab[ií]as que|hab(?:e|en) (?:ich|wir) (?:dir|euch|ihnen)|wusstest du|"
    r"t'ai-je|je t'ai|tu savais que|ti ho|sapevi che|j[aá] te|sabias que)|告诉过|告訴過|你知道|言ったっけ",
    re.I,
)
_BACK: Final = re.compile(
    r"\byou(?:'ve| have| had| did| just)* (?:said|say|saying|told|tell|suggest(?:ed)?|recommend(?:ed)?|mention(?:ed)?|"
    r"mean(?:t)?|answer(?:ed)?|propose(?:d)?|explain(?:ed)?|wr[io]te|written|list(?:ed)?)\b|"
    r"\byour (?:last|previous|first|earlier) |\byour (?:answer|reply|suggestion|advice|list|plan|idea)\b|"
    r"\b(?:dijiste|has dicho|sugeriste|recomendaste|tu respuesta|hast du gesagt|du gesagt|vorgeschlagen|deine antwort|"
    r"tu as dit|ta réponse|hai detto|você disse)\b|你说|你說|你刚才|你剛才|你建议|言いました|言った",
    re.I,
)
_CJK: Final = re.compile(r"[吗嗎呢]\s*$|什么|什麼|谁|誰|哪|几|幾|多少|怎么|怎麼|何|か\s*$|どこ|いつ|だれ|なに")

Floats = npt.NDArray[np.float64]


class Seen(msgspec.Struct, frozen=True):
    """A candidate passage and what the vectors say of it: cosines with its neighbours, the second centred.

    `falls`: it is of the days that the message names.
    """

    doc: Doc
    meaning: float
    centred: float
    falls: bool


class Heard(msgspec.Struct, frozen=True):
    """A message, what its words weigh, where they stand, and how other words are weighed."""

    message: str
    weights: Weights
    found: Matches
    weigh: Callable[[list[Term]], Weights]


def asks(message: str) -> bool:
    """Whether a message asks for something: by its marks, or by the words it begins a sentence with."""
    for line in re.split(r"(?<=[.!。！\n])\s*", message):
        if re.search(r"[?？؟]", line) or _OPENS.match(line) or _CJK.search(line):
            return True
    return False


def asks_time(message: str) -> bool:
    """Whether it asks on which day something was or will be, or how long since; not for an hour."""
    return _TIME.search(message) is not None


def asks_back(message: str) -> bool:
    """Whether it asks for what the process said itself, which is not recalled: it stands in the queue."""
    return _BACK.search(message) is not None


def only_asks(text: str) -> bool:
    """Whether a passage is a question, with how it is to be answered, and none that tells something by asking."""
    plain = _ASIDE.sub("", unlabelled(text)).strip()
    said = [one for one in re.split(r"(?<=[.!?؟])\s+|(?<=[。！？])\s*", plain) if one]
    questions = [one for one in said if _ASKS.search(one)]
    rest = [one for one in said if one not in questions and not _WANTS.match(one)]
    return bool(questions) and not rest and _TELLS.search(plain) is None


def unlabelled(text: str) -> str:
    """A passage without the name of who says it."""
    label = _LABEL.match(text)
    return text[label.end() :] if label is not None and label.end() < len(text) else text


def shares(weights: Weights, found: Matches, places: Ints, reach: int, of: Collection[int] | None = None) -> Floats:
    """The weighed share of the query's words that stand within `reach` places of each of `places`.

    `of`: places of the words that count; None: all.
    """
    total = weights.total if of is None else sum((weights.idf[at] for at in sorted(of)), 0.0)
    summed = np.zeros(len(places))
    for at, where in zip(weights.matched, found.places, strict=True):
        if of is not None and at not in of:
            continue
        first = np.searchsorted(where, places - reach)
        inside = first < len(where)
        inside[inside] = where[first[inside]] <= places[inside] + reach
        summed += np.where(inside, weights.idf[at], 0.0)
    return summed / total if total else summed


def sums(shared: Sequence[Floats], meaning: Floats) -> Floats:
    """By what candidates are ranked before all is known of them; `shared` by REACHES."""
    own, near, _, around = shared
    return own + 0.5 * near + 0.3 * around + meaning


def echoed(
    docs: Sequence[Doc], ranked: Floats, asked: Collection[str], weigh: Callable[[list[Term]], Weights]
) -> Floats:
    """For each passage the share of the echoed words in it; `ranked` says which are the best.

    Words count by how many of the best have them, how well these rank, and their weight; a word that no other passage
    has leads nowhere, and an identifier to itself alone.
    """
    inside = [terms(unlabelled(doc.text)) for doc in docs]
    best = sorted(range(len(docs)), key=lambda at: (-ranked[at], -docs[at].unit))[:ECHOED]
    heard: Counter[str] = Counter()
    for at in best:
        for term in sorted(inside[at].difference(asked)):
            if not _identifies(term):
                heard[term] += ranked[at]
    likely = sorted(heard, key=lambda term: (-heard[term], term))[: 3 * ECHOES_MAX]
    weights = weigh([Term(term, name=False) for term in likely])
    worth = {
        term: heard[term] * idf
        for term, count, idf in zip(likely, weights.counts, weights.idf, strict=True)
        if count > 1
    }
    total, found = 0.0, np.zeros(len(docs))
    for term in sorted(worth, key=lambda term: (-worth[term], term))[:ECHOES_MAX]:
        total += worth[term]
        found += np.fromiter((term in one for one in inside), np.float64, len(docs)) * worth[term]
    return found / total if total else found


def _identifies(term: str) -> bool:
    """Whether a word has letters and digits, as a key or a code has."""
    return any(map(str.isdigit, term)) and any(map(str.isalpha, term))


def features(heard: Heard, seen: Sequence[Seen], before: Mapping[int, Doc]) -> Floats:
    """(candidates, FEATURES). `before`: passages by place, in which that before a candidate is looked for."""
    weights, docs = heard.weights, [one.doc for one in seen]
    places = np.fromiter((doc.place for doc in docs), np.int64, len(docs))

    def share(reach: int, of: Collection[int] | None = None) -> Floats:
        return shares(weights, heard.found, places, reach, of)

    shared = [share(reach) for reach in REACHES]
    meaning = np.fromiter((one.meaning for one in seen), np.float64, len(docs))
    ranked = sums(shared, meaning)
    names = {at for at, term in enumerate(weights.terms) if term.name}
    rare = {at for at in names if 0 < weights.counts[at] <= RARE}
    asked = [term.term for term in weights.terms]
    falls = np.fromiter((one.falls for one in seen), np.float64, len(docs))
    units = np.fromiter((doc.unit for doc in docs), np.int64, len(docs))
    rank = np.empty(len(docs))
    rank[np.lexsort((-units, -ranked))] = [math.log1p(place) for place in range(len(docs))]
    which = _WHICH.search(heard.message) is not None
    last = [before.get(doc.place - 1) for doc in docs]
    columns: dict[str, Any] = {
        "own": shared[0],
        "near": shared[1],
        "beside": shared[2],
        "around": shared[3],
        "named": share(0, names),
        "rarest": share(0, set(weights.matched[:1])),
        "stranger": (share(1, rare) == 0) * float(bool(rare)),
        "echo": echoed(docs, ranked, asked, heard.weigh),
        "meaning": meaning,
        "centred": [one.centred for one in seen],
        "speaker": _spoken(docs, asked),
        "asks": [_ASKS.search(doc.text) is not None for doc in docs],
        "answers": [doc is not None and _ASKS.search(doc.text) is not None for doc in last],
        "names": [which and _NAMED.search(unlabelled(doc.text)) is not None for doc in docs],
        "days": falls * (1.0 - float(falls.sum()) / max(1, len(docs))),
        "length": [math.log(min(LENGTH_MAX, max(1, len(doc.text.encode())))) for doc in docs],
        "rank": rank,
        "best": ranked.max(initial=0.0),
    }
    known = [idf for idf, count in zip(weights.idf, weights.counts, strict=True) if count]
    unit = math.log(1 + 2 * max(1, weights.size))  # what a word of one passage weighs
    columns |= {
        "known": math.log1p(len(known)),
        "unknown": math.log1p(len(weights.terms) - len(known)),
        "rare": max(known, default=0.0) / unit,
        "said": weights.total / unit,
    }
    table = np.empty((len(docs), len(FEATURES)))
    for at, name in enumerate(FEATURES):
        table[:, at] = columns[name]
    return table


def scores(table: Floats, *, asking: bool) -> list[float]:
    """The probability of each row of `features`."""
    odds = np.full(len(table), BIAS if asking else BIAS - SILENT)
    for column, weight in enumerate(WEIGHTS.values()):  # in this order: the host's order of a sum would be another
        odds += table[:, column] * weight
    return [round(1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, one)))), SCORE_DIGITS) for one in odds.tolist()]


def _spoken(docs: Sequence[Doc], asked: Collection[str]) -> list[bool]:
    """Which passages begin with the one label that the words `asked` name."""
    labels = [match.group(1) if (match := _LABEL.match(doc.text)) is not None else "" for doc in docs]
    common = {label for label, count in Counter(labels).items() if label and count >= LABELS_MIN}
    named = [label for label in common if not terms(label).isdisjoint(asked)]
    return [len(named) == 1 and label == named[0] for label in labels]
