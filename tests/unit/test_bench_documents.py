"""The bench of documents: its manual, its grading, how a pool becomes a document, and what a cut run goes on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.documents import labels, manual, nq, pooled
from bench.documents.placed import placed
from bench.documents.run import Book, Outcome, drawn, rows_of
from drivers.cpu.scripted import ScriptedCpu
from kernel.errors import BadInput
from kernel.ports import Job
from tests.fakes import op

POOL = nq.Pool(
    (
        nq.Passage("Lodz", "The fair of Lodz opened on 12 March. " * 20),
        nq.Passage("Deadpool 2", "It came out on May 18, 2018.\n1. It is long."),
        nq.Passage("Tides [sea]", "The moon makes tides, and the sun makes them as well."),
    ),
    (nq.Asked("When did the fair of Lodz open?", ("12 March",), 0), nq.Asked("What makes tides?", ("the moon",), 2)),
)


def test_the_manual_answers_what_it_is_to_answer_and_nothing_else() -> None:
    text, questions, told = manual.made(1)
    lines = text.splitlines()
    assert (text, questions, told) == manual.made(1)
    assert text != manual.made(2)[0]
    assert sum(line.startswith("## ") for line in lines) == 300
    assert (sum(one.line > 0 for one in questions), sum(one.line == 0 for one in questions)) == (40, 10)
    for one in questions:
        if one.line:
            assert one.answer in lines[one.line - 1]
            machine = lines[(one.page - 1) * manual.LINES].rpartition(" of the ")[2]
            assert f"of the {machine}" in one.text
            assert (one.line - 1) // manual.LINES == one.page - 1


def test_replies_are_graded_as_the_questions_authors_do() -> None:
    answers = ("Wilhelm Conrad Röntgen", "Röntgen")
    assert nq.exact("The Wilhelm Conrad Röntgen.", answers) == 1
    assert nq.exact("It was Röntgen", answers) == 0
    assert nq.stands("It was Röntgen!", answers) == 1
    assert nq.stands("It was Röntgens", answers) == 0
    assert nq.f1("Röntgen, it was", answers) == pytest.approx(0.5)
    assert nq.f1("no", answers) == 0
    assert nq.spoken("who was it") == "Who was it?"


def test_every_piece_of_a_pool_is_of_its_passage_and_the_index_finds_it() -> None:
    told = pooled.told(POOL)
    found = pooled.document(told).pieces
    assert len(found) > len(POOL.passages)
    for piece in found:
        passage = POOL.passages[told.passage(piece.first)]
        assert piece.headings == (passage.title,)
        assert piece.text.split()[0] in passage.text
    rank = pooled.Ranker(told)
    assert [rank(one.question)[0] for one in POOL.asked] == [0, 2]
    assert pooled.lines(POOL, [2]) == [f"[file Tides [sea]] {POOL.passages[2].text}"]
    assert set(labels.FORMS) >= {labels.NONE, labels.OWN}


def test_a_run_that_was_cut_goes_on_where_it_was(tmp_path: Path) -> None:
    details, numbers = tmp_path / "d.jsonl", drawn(20, 1, 4)
    assert numbers == drawn(20, 1, 10)[:4]
    book = Book(details)
    for number in numbers[:3]:
        book.add(Outcome("1", 2048, number, "x", right=float(number == numbers[0])))
    again = Book(details)
    assert again.left("1", 2048, numbers) == numbers[3:]
    assert again.row("1", 2048, numbers, "llmos", 1) is None
    again.add(Outcome("1", 2048, numbers[3], "x", right=1.0))
    row = again.row("1", 2048, numbers, "1", 1)
    assert row is not None
    assert (row.questions, row.right) == (4, 0.5)


def test_a_row_that_is_none_is_refused_in_one_line() -> None:
    assert rows_of("llmos, 3") == ("llmos", "3")
    for wrong in ("", "x", "0", "51"):
        with pytest.raises(BadInput, match="rows are llmos, gold"):
            rows_of(wrong)


async def test_given_lines_are_cut_where_the_window_ends_and_only_whole_ones_count_as_shown() -> None:
    asked: list[str] = []

    def program(job: Job) -> str:
        asked.append("|".join(one.page.text for one in job.pages if one.recalled))
        return op("send_message", text="In March.")

    line = "The fair opened in March, as it does. " * 20
    async with placed(lambda _: ScriptedCpu(program), 2048, ["cpu.reply=40"]) as asker:
        assert await asker.ask("When?", [line]) == "In March."
        assert (asker.whole, asked) == (1, [line])
        one = asker.tokens
        await asker.ask("When?", [line] * 50)
    assert 1 < asker.whole < 50
    assert asker.whole * len(line) // 3 < asker.tokens < 2048
    assert asker.tokens < (asker.whole + 1) * one
