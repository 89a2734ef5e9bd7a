"""`llmos bench documents`: what is found, what is answered, and what a label costs.

With --details FILE each outcome is a line of it, and what stands there already is not asked again: a long run can be
cut at any time, and goes on where it was.
Not here: the rows (pooled.py), the manual (manual.py), the labels (labels.py).
"""

from __future__ import annotations

import itertools
import random
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
import trio

from bench.documents import labels, manual, nq, pooled, whole
from bench.documents.placed import placed
from bench.memory.rows import BASE, Processor
from bench.memory.run import processor
from kernel.errors import BadInput
from llmos.commands.output import print_json, print_table, show
from llmos.documents.asking import Asker, Place
from llmos.documents.read import read
from llmos.init import powered
from llmos.intervals import Interval, bootstrap, wilson

AT: Final = (1, 5, 10, 20)
ROWS: Final = ("llmos", "gold", "1", "2", "3", "5", "10", "20", "50")
LABEL_WINDOW: Final = 1024

Outcomes: TypeAlias = dict[tuple[str, int, int], "Outcome"]


class Outcome(msgspec.Struct, frozen=True):
    """A question's. `shown`: the gold passage, or the line, was in view; `cited`: it was cited; `said`: as Answered."""

    row: str
    window: int
    question: int
    reply: str
    right: float  # an answer stands in the reply, or such a share of it
    exact: float = 0.0
    f1: float = 0.0
    shown: bool = False
    cited: bool = False
    said: bool = True
    answerable: bool = True
    tokens: int = 0  # of what was brought in
    noted: float = 0.0  # of a question about the whole: the share of its lines in the places noted or brought in,
    places: int = 0  # of which there are so many

    @property
    def key(self) -> tuple[str, int, int]:
        """Which question, in which row."""
        return self.row, self.window, self.question


class Row(msgspec.Struct, frozen=True):
    """The figures of a row."""

    row: str
    window: int
    questions: int
    right: float
    ci95: Interval
    exact: float
    f1: float
    f1_ci95: Interval
    shown: float
    tokens: float
    difference: float | None = None  # in `right`, from the row it is compared with, question by question,
    difference_ci95: Interval | None = None


class Book:
    """Outcomes, of before and of now; each new one is written at once."""

    def __init__(self, details: Path | None) -> None:
        self.found: Outcomes = {}
        self._file = details
        if details is not None and details.exists():
            for line in details.read_bytes().splitlines():
                one = msgspec.json.decode(line, type=Outcome)
                self.found[one.key] = one

    def add(self, one: Outcome) -> None:
        """A new one."""
        self.found[one.key] = one
        if self._file is not None:
            with self._file.open("ab") as file:
                file.write(msgspec.json.encode(one) + b"\n")

    def left(self, row: str, window: int, numbers: Iterable[int]) -> list[int]:
        """Those of `numbers` that are yet to be asked."""
        return [one for one in numbers if (row, window, one) not in self.found]

    def row(self, row: str, window: int, numbers: Sequence[int], beside: str, seed: int) -> Row | None:
        """The figures of a row over these questions, and its difference from row `beside`; None if it lacks some."""
        if self.left(row, window, numbers):
            return None
        mine = [self.found[row, window, one] for one in numbers]
        rights, f1s = [one.right for one in mine], [one.f1 for one in mine]
        apart, apart_ci95 = None, None
        if beside != row and not self.left(beside, window, numbers):
            pairs = [one.right - self.found[beside, window, one.question].right for one in mine]
            apart, apart_ci95 = _mean(pairs), bootstrap(pairs, seed)
        return Row(
            row,
            window,
            len(mine),
            _mean(rights),
            wilson(round(sum(rights)), len(mine)),
            _mean([one.exact for one in mine]),
            _mean(f1s),
            bootstrap(f1s, seed),
            _mean([float(one.shown) for one in mine]),
            round(sum(one.tokens for one in mine) / len(mine), 1),
            apart,
            apart_ci95,
        )


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)


def drawn(count: int, seed: int, most: int) -> list[int]:
    """At most `most` of so many questions, in an order that the seed decides."""
    numbers = list(range(count))
    random.Random(f"documents {seed}").shuffle(numbers)
    return numbers[:most]


def _graded(row: str, window: int, number: int, asked: nq.Asked, reply: str, tokens: int, *, shown: bool) -> Outcome:
    answers = asked.answers
    return Outcome(
        row,
        window,
        number,
        reply,
        nq.stands(reply, answers),
        nq.exact(reply, answers),
        nq.f1(reply, answers),
        shown,
        tokens=tokens,
    )


async def _pooled(
    model: Processor,
    pool: nq.Pool,
    rows: Sequence[str],
    windows: Sequence[int],
    numbers: Sequence[int],
    book: Book,
    changes: Sequence[str],
) -> None:
    whole = pooled.told(pool)
    rank = pooled.Ranker(whole)
    for window in windows:
        left = book.left("llmos", window, numbers) if "llmos" in rows else []
        if left:
            async with pooled.machine(model, window, whole, changes, _say) as asking:
                for number in left:
                    asked = pool.asked[number]
                    reply = await asking.ask(asked.question)
                    shown = asked.gold in asking.shown
                    book.add(_graded("llmos", window, number, asked, reply, asking.tokens, shown=shown))
        others = [row for row in rows if row != "llmos" and book.left(row, window, numbers)]
        if not others:
            continue
        async with placed(model, window, changes) as asker:
            for row in others:
                for number in book.left(row, window, numbers):
                    asked = pool.asked[number]
                    given = [asked.gold] if row == "gold" else rank(asked.question)[: int(row)]
                    reply = await asker.ask(asked.question, pooled.lines(pool, given))
                    shown = asked.gold in given[: asker.whole]
                    book.add(_graded(row, window, number, asked, reply, asker.tokens, shown=shown))
                _say(f"window {window}: row {row} asked")


async def _labels(model: Processor, pool: nq.Pool, numbers: Sequence[int], book: Book, changes: Sequence[str]) -> None:
    async with placed(model, LABEL_WINDOW, changes) as asker:
        for number in numbers:
            asked = pool.asked[number]
            for form in labels.FORMS:
                if book.left(form, LABEL_WINDOW, [number]):
                    reply = await asker.ask(asked.question, [labels.labelled(form, pool.passages[asked.gold])])
                    book.add(_graded(form, LABEL_WINDOW, number, asked, reply, asker.tokens, shown=True))


async def _manual(model: str, windows: Sequence[int], seed: int, most: int, book: Book, changes: Sequence[str]) -> None:
    text, questions, _ = manual.made(seed)
    for window in windows:
        left = book.left("manual", window, range(len(questions))[:most])
        if not left:
            continue
        with tempfile.TemporaryDirectory(prefix="llmos-manual-") as folder:
            path = Path(folder, "manual.md")
            path.write_text(text)
            document = read(path, path.name)
            own = [*BASE, pooled.ALONE, *changes]
            async with powered(Path(folder, "machine"), model=model, window=window, changes=own) as machine:
                pooled.alone(machine)
                asker = Asker(machine)
                await asker.begin([document])
                for number in left:
                    one = questions[number]
                    found = await asker.ask(one.text)
                    book.add(
                        Outcome(
                            "manual",
                            window,
                            number,
                            found.text,
                            right=float(bool(one.answer) and one.answer.lower() in found.text.lower()),
                            shown=any(place.first <= one.line <= place.last for place in found.seen),
                            cited=any(place.first <= one.line <= place.last for place in found.places),
                            said=found.said,
                            answerable=bool(one.line),
                        )
                    )


async def _whole(model: str, windows: Sequence[int], seed: int, most: int, book: Book, changes: Sequence[str]) -> None:
    text, asked = whole.questions(seed, most)
    for window, row in itertools.product(windows, whole.ROWS):
        left = book.left(row, window, range(len(asked)))
        if not left:
            continue

        def answered(
            at: int,
            reply: str,
            said: bool,
            places: Sequence[Place],
            window: int = window,
            row: str = row,
            left: list[int] = left,
        ) -> None:
            book.add(_of_all(row, window, left[at], asked[left[at]], reply, places, said=said))
            _say(f"window {window}, {row}: {at + 1} of {len(left)} questions asked")

        await whole.ask(row, model, window, text, [asked[number].text for number in left], changes, answered)


def _of_all(
    row: str, window: int, number: int, asked: whole.Asked, reply: str, places: Sequence[Place], *, said: bool
) -> Outcome:
    told = whole.named(reply) if said else frozenset()
    right, all_ = len(told & asked.machines), len(asked.machines)
    return Outcome(
        row,
        window,
        number,
        reply,
        right=right / all_ if all_ else 0.0,
        exact=float(told == asked.machines),
        f1=2 * right / (len(told) + all_) if all_ else 0.0,
        shown=whole.covered(asked, places) == 1.0,
        noted=whole.covered(asked, places),
        places=len(places),
        said=said,
        answerable=bool(all_),
    )


def _say(text: str) -> None:
    show(f"  {text}", error=True)


def found_at(pool: nq.Pool, tell: Callable[[str], None] = _say) -> dict[str, object]:
    """Of all questions: the share whose gold passage is among the first K that the index finds, by K."""
    rank = pooled.Ranker(pooled.told(pool))
    tell(f"{len(pool.passages)} passages are indexed")
    hits: dict[int, int] = defaultdict(int)
    for asked in pool.asked:
        ranked = rank(asked.question)
        for k in AT:
            hits[k] += asked.gold in ranked[:k]
    n = len(pool.asked)
    recall = {str(k): round(hits[k] / n, 4) for k in AT}
    return {"recall": recall, "recall_ci95": {str(k): wilson(hits[k], n) for k in AT}, "questions": n}


def run(
    workload: str,
    data: Path | None,
    model: str | None,
    windows: Sequence[int],
    rows: Sequence[str],
    questions: int,
    seed: int,
    changes: list[str],
    details: Path | None,
    as_json: bool,
) -> None:
    """Measure and print."""
    book = Book(details)
    about: dict[str, object] = {
        "workload": workload,
        "model": model,
        "seed": seed,
        "windows": list(windows),
        "settings": changes,
    }
    if workload == "manual":
        if model is None:
            raise BadInput("--workload manual: --model says who answers")
        trio.run(_manual, model, windows, seed, questions or manual.ASKED + manual.UNSAID, book, changes)
        found = [_of_manual(window, book) for window in windows]
        if as_json:
            print_json({**about, "rows": found})
        else:
            print_table(list(found[0]), [[str(value) for value in one.values()] for one in found])
        return
    if workload == "whole":
        if model is None or not questions:
            raise BadInput("--workload whole: --model says who answers, and --questions how many")
        trio.run(_whole, model, windows, seed, questions, book, changes)
        rows_ = [_of_whole(window, row, book, seed) for window in windows for row in whole.ROWS]
        if as_json:
            print_json({**about, "rows": rows_})
        else:
            print_table(list(rows_[0]), [[str(value) for value in one.values()] for one in rows_], left=("row",))
        return
    pool = nq.load(data)
    numbers = drawn(len(pool.asked), seed, questions)
    if workload == "labels":
        if model is None or not numbers:
            raise BadInput("--workload labels: --model says who answers, and --questions how many")
        trio.run(_labels, processor(model), pool, numbers, book, changes)
        _print(about, {}, [book.row(form, LABEL_WINDOW, numbers, labels.NONE, seed) for form in labels.FORMS], as_json)
        return
    recall = found_at(pool)
    if model is not None and numbers:
        trio.run(_pooled, processor(model), pool, rows, windows, numbers, book, changes)
    made = [book.row(row, window, numbers, "llmos", seed) for window in windows for row in rows] if numbers else []
    _print(about, recall, made, as_json)


def _of_manual(window: int, book: Book) -> dict[str, object]:
    mine = [one for one in book.found.values() if (one.row, one.window) == ("manual", window)]
    told = [one for one in mine if one.answerable]
    rest = [one for one in mine if not one.answerable]
    right = sum(one.right > 0 for one in told)
    cited = sum(one.right > 0 and one.cited for one in told)
    return {
        "window": window,
        "questions": len(told),
        "shown": _mean([float(one.shown) for one in told]) if told else None,
        "right": _mean([one.right for one in told]) if told else None,
        "right_ci95": wilson(right, len(told)) if told else None,
        "right_and_cited": round(cited / len(told), 4) if told else None,
        "wrong": sum(one.said and not one.right for one in told),
        "unanswerable": len(rest),
        "refused": _mean([float(not one.said) for one in rest]) if rest else None,
        "refused_ci95": wilson(sum(not one.said for one in rest), len(rest)) if rest else None,
    }


def _of_whole(window: int, row: str, book: Book, seed: int) -> dict[str, object]:
    mine = [one for one in book.found.values() if (one.row, one.window) == (row, window)]
    told = [one for one in mine if one.answerable]
    refused = sum(not one.said for one in mine if not one.answerable)
    f1s = [one.f1 for one in told]
    return {
        "row": row,
        "window": window,
        "questions": len(told),
        "noted": _mean([one.noted for one in told]),
        "places": _mean([float(one.places) for one in told]),
        "named": _mean([one.right for one in told]),
        "f1": _mean(f1s),
        "f1_ci95": bootstrap(f1s, seed),
        "answered": sum(one.said for one in told),
        "unanswerable": len(mine) - len(told),
        "refused": refused,
    }


def _print(about: dict[str, object], recall: dict[str, object], rows: Sequence[Row | None], as_json: bool) -> None:
    made = [one for one in rows if one is not None]
    if as_json:
        print_json({**about, **recall, "rows": msgspec.to_builtins(made)})
        return
    if recall:
        show(f"gold passage among the first K of {recall['questions']} questions: {recall['recall']}")
    if made:
        names = ("row", "window", "right", "exact", "F1", "gold shown", "tokens", "difference")
        print_table(names, [_cells(one) for one in made], left=("row",), title=f"{made[0].questions} questions")


def _cells(one: Row) -> list[str]:
    apart = "" if one.difference is None or one.difference_ci95 is None else f"{100 * one.difference:+.1f}"
    if apart and one.difference_ci95 is not None:
        apart += " ({:+.0f} to {:+.0f})".format(*(100 * edge for edge in one.difference_ci95))
    return [
        one.row,
        str(one.window),
        f"{100 * one.right:.1f} ({100 * one.ci95[0]:.0f}-{100 * one.ci95[1]:.0f})",
        f"{100 * one.exact:.1f}",
        f"{100 * one.f1:.1f}",
        f"{100 * one.shown:.1f}",
        f"{one.tokens:.0f}",
        apart,
    ]


def rows_of(text: str) -> tuple[str, ...]:
    """Rows by name, with commas. Raises BadInput for one that is none."""
    found = tuple(dict.fromkeys(one.strip() for one in text.split(",") if one.strip()))
    wrong = [
        one for one in found if one not in ("llmos", "gold") and not (one.isdigit() and 0 < int(one) <= pooled.RANKED)
    ]
    if wrong or not found:
        raise BadInput(f"--rows {text}: rows are llmos, gold, and numbers of passages from 1 to {pooled.RANKED}")
    return found
