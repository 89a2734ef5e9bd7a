"""`llmos bench memory`: which evidence stood in the prompt when a question about a long conversation was answered.

evidence    references in view / all references; a reference is a message that a question rests on
complete    share of questions all of whose references are in view
right       share of right replies, or mean F1, with a model; null without
Not here: what counts as in view (shown.py), which machines answer (rows.py), what a reply is worth (grading.py).
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import trio

from bench.memory import rows
from bench.memory.conversations import load
from bench.memory.grading import contained, f1
from bench.memory.live import Asked, Spent
from bench.memory.newest import newest
from bench.memory.rows import Bench, Heard
from bench.memory.shown import shown
from bench.memory.talk import Conversation, Dataset, Question
from bench.memory.tally import Outcome, Planted, planted
from bench.sized import Sizes
from drivers.cpu.scripted import ScriptedCpu
from drivers.disk import whole
from kernel.errors import BadInput
from kernel.ports import Cpu, Job
from kernel.settings import Settings, apply
from llmos.commands.output import print_table, said, show
from llmos.intervals import Interval, bootstrap, wilson

SCRIPTED = "scripted"  # --sizes: three bytes a token
DEFAULT_SIZES = "smollm2-135m"
SAY_S = 5.0  # between two lines of progress


class Group(msgspec.Struct, frozen=True):
    """The questions of a category or a conversation; null where there are none, or no model answers."""

    questions: int
    references: int
    evidence: float | None
    complete: float | None
    right: float | None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row's figures; null, with `why`, if it could not be run. `ci95` is of `right`, without it of `evidence`."""

    row: str
    evidence: float | None = None
    complete: float | None = None
    questions: int = 0
    references: int = 0
    recalled_per_question: float | None = None
    prefill_per_new_token: float | None = None  # without what was recalled
    prefill_per_question: float | None = None
    right: float | None = None
    right_of_complete: float | None = None
    ci95: Interval | None = None
    evidence_ci95: Interval | None = None
    by_category: dict[str, Group] = {}
    by_scenario: dict[str, Group] = {}
    facts: Planted | None = None  # of planted facts
    late: int = 0  # searches that missed their deadline: on a slower machine less is in view
    seconds: float = 0.0
    why: str = ""


class Judged(msgspec.Struct, frozen=True):
    """One question's outcome. `score`: 0 to 1, None where no model answered."""

    scenario: str
    asked: Asked
    in_view: tuple[bool, ...]
    score: float | None

    @property
    def complete(self) -> bool:
        """Whether all that it rests on was in view."""
        return all(self.in_view)


def judge(grading: Literal["f1", "contains", "newest"], scenario: str, asked: Asked, answered: bool) -> Judged:
    """What became of a question; `answered`: by a model."""
    question, score = asked.question, None
    if answered and grading == "f1":
        score = max(f1(asked.reply, gold, question.category) for gold in question.golds)
    elif answered and grading == "newest":
        score = float(newest(asked.reply, question.golds, question.wrong, question.category))
    elif answered:
        score = contained(asked.reply, question.golds)
    return Judged(scenario, asked, tuple(shown(one, asked.visible) for one in asked.evidence), score)


def summary(
    name: str, judged: Sequence[Judged], spent: Spent, dataset: Dataset, seed: int, seconds: float, why: str = ""
) -> Row:
    """The figures of a row. Every category and conversation of the workload has a group, empty ones too."""
    if why or not judged:
        return Row(row=name, why=why or "nothing was asked", seconds=round(seconds, 1))
    hits = [hit for one in judged for hit in one.in_view]
    scores = [one.score for one in judged if one.score is not None]
    complete = [one.score for one in judged if one.score is not None and one.complete]
    evidence_ci95 = wilson(sum(hits), len(hits))
    if not scores:
        ci95 = evidence_ci95
    else:
        ci95 = bootstrap(scores, seed) if dataset.grading == "f1" else wilson(round(sum(scores)), len(scores))
    outcomes = [Outcome(one.asked, one.complete, None if one.score is None else bool(one.score)) for one in judged]
    categories = sorted({one.category for talk in dataset.conversations for one in talk.questions} - {""})
    return Row(
        row=name,
        evidence=round(sum(hits) / len(hits), 4),
        complete=round(sum(one.complete for one in judged) / len(judged), 4),
        questions=len(judged),
        references=len(hits),
        recalled_per_question=round(spent.recalled / len(judged), 1),
        prefill_per_new_token=round((spent.prefill - spent.recalled) / max(1, spent.new), 3),
        prefill_per_question=round(spent.prefill / len(judged), 1),
        right=_mean(scores),
        right_of_complete=_mean(complete),
        ci95=ci95,
        evidence_ci95=evidence_ci95,
        by_category={
            category: group([one for one in judged if one.asked.question.category == category])
            for category in categories
        },
        by_scenario={
            talk.name: group([one for one in judged if one.scenario == talk.name]) for talk in dataset.conversations
        },
        facts=planted(outcomes) if dataset.grading == "newest" else None,
        late=spent.late,
        seconds=round(seconds, 1),
    )


def group(judged: Sequence[Judged]) -> Group:
    """The figures of some questions."""
    hits = [float(hit) for one in judged for hit in one.in_view]
    scores = [one.score for one in judged if one.score is not None]
    return Group(len(judged), len(hits), _mean(hits), _mean([float(one.complete) for one in judged]), _mean(scores))


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None


def drawn(talk: Conversation, seed: int, most: int) -> list[Question]:
    """At most `most` of a conversation's questions (0: all), in an order that the seed and the name decide."""
    questions = list(talk.questions)
    random.Random(f"memory {seed} {talk.name}").shuffle(questions)
    return questions[:most] if most else questions


def details(row: str, judged: Judged) -> str:
    """A question as a line of JSON."""
    asked = judged.asked
    where = {one.page: one.where for one in asked.visible}
    evidence = [
        {
            "pages": [page for page, _ in one.pages],
            "where": [where.get(page, "") for page, _ in one.pages],
            "shown": hit,
        }
        for one, hit in zip(asked.evidence, judged.in_view, strict=True)
    ]
    found = {
        "row": row,
        "id": asked.question.id,
        "question": asked.question.text,
        "gold": asked.question.golds,
        "wrong": asked.question.wrong,
        "reply": asked.reply,
        "evidence": evidence,
        "recalled": asked.recalled,
        "right": judged.score,
        "category": asked.question.category,
        "scenario": judged.scenario,
    }
    return json.dumps(found, ensure_ascii=False)


async def measure(
    bench: Bench, names: Sequence[str], dataset: Dataset, seed: int, most: int, write: Callable[[str], object]
) -> list[Row]:
    """All rows, conversation by conversation; `write` is given a line of details a question."""
    found = []
    for name in names:
        began, judged, spent, why = time.perf_counter(), list[Judged](), Spent(), ""
        for talk in dataset.conversations:
            heard: Heard = await rows.hear(bench, name, talk, drawn(talk, seed, most))
            why = heard.why
            if why:
                break
            mine = [judge(dataset.grading, talk.name, one, bench.model is not None) for one in heard.asked]
            judged += mine
            for one in mine:
                write(details(name, one) + "\n")
            spent.prefill += heard.spent.prefill
            spent.recalled += heard.spent.recalled
            spent.new += heard.spent.new
            spent.late += heard.spent.late
            evidence = group(mine).evidence
            _say(f"{name}, {talk.name}: evidence {evidence}, {time.perf_counter() - began:.0f} s so far")
        found.append(summary(name, judged, spent, dataset, seed, time.perf_counter() - began, why))
    return found


def run(
    workload: str,
    data: Path | None,
    window: int,
    model: str | None,
    sizes: str | None,
    changes: list[str],
    only: str,
    questions: int,
    row_names: str,
    seed: int,
    details_file: Path | None,
    as_json: bool,
) -> None:
    """`llmos bench memory`: measure and print."""
    began = time.perf_counter()
    names = rows.known(row_names)
    if model and sizes:
        raise BadInput("--model and --sizes: give one of them; a model has its own sizes")
    settings = apply(Settings(), [f"window={window}", *changes])  # what is wrong is said before anything long begins
    dataset = chosen(load(workload, data, seed), only)
    for lost in dataset.lost:
        show(f"llmos: {lost}: its source stands in no message as it is; the likeliest is taken", error=True)
    asked = None if model is None else processor(model)
    counted = sizes_of(model or sizes or DEFAULT_SIZES)
    if settings.window > counted.window_max:
        raise BadInput(f"window {window}: {counted.model} sees at most {counted.window_max} tokens")
    bench = Bench(counted, asked, window, tuple(changes), _seldom())
    try:
        with whole.writing(Path(details_file or os.devnull)) as file:
            found = trio.run(measure, bench, names, dataset, seed, questions, lambda text: file.write(text.encode()))
    except OSError as exc:
        raise BadInput(f"--details {details_file}: {exc.strerror or exc}") from exc
    if not as_json:
        table(dataset.workload, window, counted.model, found)
        return
    first = {key: value for key, value in msgspec.to_builtins(found[0]).items() if key != "row"}
    first["seconds"] = round(time.perf_counter() - began, 1)
    about = {
        "workload": workload,
        "window": window,
        "model": model,
        "sizes": sizes or model or DEFAULT_SIZES,
        "settings": changes,
        "seed": seed,
    }
    show(json.dumps({**first, **about, "rows": msgspec.to_builtins(found)}))


def _say(text: str) -> None:
    show(f"  {text}", error=True)


def _seldom() -> Callable[[str], None]:
    """Says something if nothing was said for SAY_S."""
    last = time.monotonic()

    def progress(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= SAY_S:
            last = time.monotonic()
            _say(text)

    return progress


def chosen(dataset: Dataset, only: str) -> Dataset:
    """The conversations that `only` names, with commas; all if it is empty. Raises BadInput for an unknown one."""
    if not only:
        return dataset
    wanted, all_ = only.split(","), [talk.name for talk in dataset.conversations]
    wrong = [name for name in wanted if name not in all_]
    if wrong:
        raise BadInput(f"--only {wrong[0]}: no such conversation; there are {', '.join(all_)}")
    return msgspec.structs.replace(
        dataset, conversations=tuple(talk for talk in dataset.conversations if talk.name in wanted)
    )


def sizes_of(name: str) -> Sizes:
    """What counts tokens: `scripted`, or a model by file or name. Raises BadInput for one that is not there."""
    if name == SCRIPTED:
        return ScriptedCpu(_silent)
    from bench.vocabulary import ModelSizes
    from llmos.models import find

    return ModelSizes(find(name))


def _silent(job: Job) -> str:
    raise AssertionError("it counts, and runs nothing")


def processor(name: str) -> rows.Processor:
    """What makes the CPU of a model by file or name. Raises BadInput for one that is not there."""
    from drivers.cpu.llama.engine import LlamaCpu
    from llmos.models import find

    path = find(name)

    def make(settings: Settings) -> Cpu:
        return LlamaCpu(path, settings.cpu)

    return make


def table(workload: str, window: int, model: str, found: Sequence[Row]) -> None:
    """For people."""
    title = f"{workload}, window {window:,}, {model}, {found[0].questions} questions; % (95 %)"
    names = ("row", "evidence", "complete", "recalled", "prefill", "/ new", "right", "s")
    told = [
        (
            one.row,
            _percent(one.evidence, one.evidence_ci95),
            _percent(one.complete),
            _number(one.recalled_per_question),
            _number(one.prefill_per_question),
            "" if one.prefill_per_new_token is None else f"{one.prefill_per_new_token:.2f}",
            _percent(one.right, one.ci95),
            f"{one.seconds:.0f}",
        )
        for one in found
    ]
    print_table(names, told, left=("row",), title=title)
    for one in found:
        if one.why:
            said(f"{one.row}: {one.why}")


def _percent(share: float | None, ci95: Interval | None = None) -> str:
    if share is None:
        return ""
    return f"{100 * share:.1f}" + (f" ({100 * ci95[0]:.0f}-{100 * ci95[1]:.0f})" if ci95 else "")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
