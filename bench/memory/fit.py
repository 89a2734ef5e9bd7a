"""Fits the weights of drivers/index/relevance.py: `python -m bench.memory.fit --data DIR`.

Rows are the candidates of the index's own search: for questions, with their evidence as what is wanted; and for what
people ask each other in passing ("How have you been?"), of which nothing is wanted. Logistic regression with a ridge,
by scipy. Printed: the weights from FIT; what they do on each conversation; and, over LoCoMo, what weights fitted on two
thirds of the conversations do on the last third, three times.
"""

from __future__ import annotations

import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import msgspec
import numpy as np
import numpy.typing as npt

from bench.memory import facts
from bench.memory.conversations import load
from bench.memory.shown import Evidence, Seen, shown
from bench.memory.talk import Conversation, Message, Question, Reference
from bench.vocabulary import ModelSizes
from drivers.embed.wordllama import WordLlamaEmbedder
from drivers.index import fts, hnsw, ranking, relevance
from kernel.event import Search
from kernel.limits import NS
from kernel.memory import recall
from kernel.memory.page import Area, Kind, Origin, Page, Role
from llmos.commands.output import show
from llmos.demo.talk import conversation
from llmos.models import find

FIT: Final = ("conv-26", "conv-30", "conv-41", "conv-42", "finance")  # the others of LoCoMo and BFCL are reported on
DEMOS: Final = {True: (101, 102, 103), False: (1, 2)}  # seeds of the demo's talk: fitted on, and reported on
FACTS: Final = {True: (101, 102), False: (1, 2)}  # and of planted facts
LONG: Final = 2
PASSING: Final = 60  # questions in passing of a conversation
RECENT: Final = 50  # messages that are in view when one is asked
RIDGE: Final = 1.0
WINDOW: Final = 4096
WORTH: Final = (3.0, 4.5, 6.0, 9.0)

Floats = npt.NDArray[np.float64]


class Asked(msgspec.Struct, frozen=True):
    """A question's candidates: features (n, FEATURES), wanted (n,), tokens (n,), and its number of references."""

    table: Floats
    wanted: Floats
    tokens: npt.NDArray[np.int64]
    pages: tuple[int, ...]
    references: int


def examples(talk: Conversation, count: Callable[[str], int], embedder: ranking.Embedder) -> tuple[list[Asked], ...]:
    """The questions of a conversation that was told whole, and those in passing at their time."""
    with tempfile.TemporaryDirectory(prefix="llmos-fit-") as folder:
        tables = _tables(talk, Path(folder), embedder)
        numbers = {message.id: number for number, message in enumerate(talk.messages, 1)}
        texts = {message.id: message.text for message in talk.messages}
        asked, end = [], talk.messages[-1].at
        for question in talk.questions:
            what = Search(
                pid=1, req=1, area=(Area.RECALL, Area.ARCHIVE), query=question.text, upto=len(numbers), at=end
            )
            found = ranking.candidates(tables, what, ranking.scope_of(what, len(numbers)), question.text)
            evidence = [
                Evidence(texts[one.message], ((numbers[one.message], texts[one.message]),), one.source, question.golds)
                for one in question.evidence
            ]
            wanted = [any(_is(doc, one) for one in evidence) for doc in found.docs]
            asked.append(_asked(found, wanted, count, len(evidence)))
        passing = []
        draws = random.Random(f"passing {talk.name}")
        said = [
            number
            for number, message in enumerate(talk.messages, 1)
            if number > RECENT and relevance.asks(message.text)
        ]
        for number in draws.sample(said, min(PASSING, len(said))):
            what = Search(
                pid=1,
                req=1,
                area=(Area.RECALL, Area.ARCHIVE),
                pages=(number,),
                upto=number,
                at=talk.messages[number - 1].at,
                exclude=tuple(range(max(1, number - RECENT), number)),
            )
            text = talk.messages[number - 1].text
            found = ranking.candidates(tables, what, ranking.scope_of(what, number), text)
            passing.append(_asked(found, [False] * len(found.docs), count, 0))
    return asked, passing


def _demo(seed: int, count: Callable[[str], int]) -> Conversation:
    """A conversation of the demo's, with all its questions."""
    talk = conversation(seed, facts=25, tokens=20_000, count=count)
    messages = [Message(str(at), (1 + at) * NS, turn.text) for at, turn in enumerate(talk.turns)]
    stated = {turn.fact: str(at) for at, turn in enumerate(talk.turns) if turn.fact is not None}
    questions = [Question(str(one.fact), one.text, one.gold, (Reference(stated[one.fact]),)) for one in talk.questions]
    return Conversation(f"demo-{seed}", tuple(messages), tuple(questions))


def _times(name: str) -> int:
    """How often a conversation counts: of few long pages there are few questions."""
    return LONG if name == "finance" else 1


def _tables(talk: Conversation, folder: Path, embedder: ranking.Embedder) -> ranking.Tables:
    sql = sqlite3.connect(":memory:", isolation_level=None)
    sql.executescript(fts.SCHEMA + hnsw.SCHEMA)
    tables = ranking.Tables(fts.Lexical(sql), hnsw.Spaces(sql, folder, embedder.dim, 1 << 20), embedder)
    for number, message in enumerate(talk.messages, 1):
        page = Page(number, 1, number, Kind.MESSAGE, Origin.USER, Role.USER, Area.RECALL, message.at, message.text)
        parts = fts.divided(page)
        tables.lexical.add(parts)
        vectors = embedder.embed([relevance.unlabelled(part.text) for part in parts])
        tables.spaces.admit(tables.spaces.add(parts, vectors))
    return tables


def _is(doc: fts.Doc, evidence: Evidence) -> bool:
    ((page, _),) = evidence.pages
    if doc.page != page:
        return False
    return not evidence.source or shown(evidence, [Seen(page, doc.text, "recall")])


def _asked(found: ranking.Candidates, wanted: Sequence[bool], count: Callable[[str], int], references: int) -> Asked:
    return Asked(
        found.table,
        np.array(wanted, np.float64),
        np.array([count(doc.text) + 1 for doc in found.docs]),
        tuple(doc.page for doc in found.docs),
        references,
    )


def fitted(rows: Iterable[Asked]) -> tuple[Floats, float]:
    """Weights and bias."""
    from scipy.optimize import minimize

    rows = list(rows)
    table = np.concatenate([row.table for row in rows])
    wanted = np.concatenate([row.wanted for row in rows])
    middle, width = table.mean(0), table.std(0) + 1e-9
    scaled = np.column_stack([(table - middle) / width, np.ones(len(table))])

    def loss(weights: Floats) -> tuple[float, Floats]:
        odds = scaled @ weights
        ridge = np.append(weights[:-1], 0.0)
        value = float((np.logaddexp(0, odds) - wanted * odds).sum() + RIDGE * (ridge @ ridge))
        return value, scaled.T @ (1 / (1 + np.exp(-odds)) - wanted) + 2 * RIDGE * ridge

    found: Any = minimize(loss, np.zeros(scaled.shape[1]), jac=True, method="L-BFGS-B")
    weights = found.x[:-1] / width
    return weights, float(found.x[-1] - weights @ middle)


class _Hit(NamedTuple):
    at: int  # its row in the table
    score: float
    tokens: int


def outcome(rows: Sequence[Asked], weights: Floats, bias: float, worth: float) -> tuple[float, float]:
    """The share of references that the gate lets in, and tokens a question."""
    inside = references = 0
    tokens = 0
    for row in rows:
        scores = 1 / (1 + np.exp(-(row.table @ weights + bias)))
        hits = [_Hit(int(at), scores[at], int(row.tokens[at])) for at in np.argsort(-scores, kind="stable")]
        let_in = recall.beside_best(((hit, hit.tokens) for hit in hits), WINDOW, worth)
        taken = [hit.at for hit in recall.fitting([(hit, hit.tokens) for hit in let_in], WINDOW // 4, 48)]
        tokens += int(row.tokens[taken].sum()) if taken else 0
        inside += len({row.pages[at] for at in taken if row.wanted[at]})
        references += row.references
    return inside / max(1, references), tokens / max(1, len(rows))


def folds(names: Sequence[str], thirds: int = 3) -> Iterator[tuple[list[str], list[str]]]:
    """Names to fit on and names to report on, each name reported once."""
    for first in range(thirds):
        held = list(names[first::thirds])
        yield [name for name in names if name not in held], held


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="LLMOS_DATA", required=True)
@click.option("--sizes", required=True, help="A GGUF whose tokenizer counts.")
def main(data: Path, sizes: str) -> None:
    """Fit the weights of the index's relevance, and say what they do."""
    embedder, counted = WordLlamaEmbedder(), ModelSizes(find(sizes))

    def count(text: str) -> int:
        return len(counted.tokenize(text))

    talks = [talk for workload in ("locomo", "bfcl") for talk in load(workload, data).conversations]
    for fits in (True, False):
        talks += [_demo(seed, count) for seed in DEMOS[fits]]
        talks += [talk for seed in FACTS[fits] for talk in facts.load(seed).conversations]
    fit = {*FIT, *(f"demo-{seed}" for seed in DEMOS[True]), *(f"facts-{seed}" for seed in FACTS[True])}
    rows: dict[str, list[Asked]] = {}
    passing: dict[str, list[Asked]] = {}
    for talk in talks:
        rows[talk.name], passing[talk.name] = examples(talk, count, embedder)
        show(f"{talk.name}: {len(rows[talk.name])} questions, {len(passing[talk.name])} in passing", error=True)
    weights, bias = fitted(
        row for name in sorted(fit & rows.keys()) for row in [*rows[name], *passing[name]] * _times(name)
    )
    rounded, bias = np.round(weights, 3), round(bias, 3)
    for name, weight in zip(relevance.FEATURES, rounded.tolist(), strict=True):
        show(f'    "{name}": {weight},')
    show(f"BIAS = {bias}")
    for name in rows:
        shown_ = "  ".join("{:.3f} at {:3.0f}".format(*outcome(rows[name], rounded, bias, worth)) for worth in WORTH)
        spare = outcome(passing[name], rounded, bias, WORTH[2])[1]
        show(f"{name:10} {'fit ' if name in fit else 'held'} {shown_}; in passing {spare:.0f}")
    names = [name for name in rows if name.startswith("conv-")]
    always = [
        row for name in sorted((fit & rows.keys()) - {*names}) for row in [*rows[name], *passing[name]] * _times(name)
    ]
    held: dict[float, list[tuple[float, float, int, int]]] = {worth: [] for worth in WORTH}
    for some, others in folds(names):
        weights, bias = fitted([*always, *(row for name in some for row in [*rows[name], *passing[name]])])
        for worth in WORTH:
            for name in others:
                share, tokens = outcome(rows[name], weights, bias, worth)
                held[worth].append((share, tokens, sum(row.references for row in rows[name]), len(rows[name])))
    for worth, found in held.items():
        share = sum(one[0] * one[2] for one in found) / max(1, sum(one[2] for one in found))
        tokens = sum(one[1] * one[3] for one in found) / max(1, sum(one[3] for one in found))
        show(f"three folds of LoCoMo, worth {worth}: {share:.3f} at {tokens:.0f}")


if __name__ == "__main__":
    main()
