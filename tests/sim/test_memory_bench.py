"""`llmos bench memory` on live machines: LMDB, the index's process, demand faults; a script in the place of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from rich.console import Console

from bench.memory import live, rows, run
from bench.memory.conversations import load
from bench.memory.talk import Conversation, Dataset
from bench.sized import SizedCpu
from bench.tiny import mamba
from bench.vocabulary import ModelSizes
from drivers.cpu.scripted import ScriptedCpu
from kernel import records
from kernel.memory.page import Kind
from kernel.ports import Job
from llmos.commands.app import status
from syscalls.words import REFLECTS

FACTS = [
    ("My dog is called Archie.", "What is the dog called?", "Archie"),
    ("Marta keeps parrots on a houseboat in Ghent.", "Where is the houseboat with the parrots?", "Ghent"),
    ("The violin was repaired by Otto Lindqvist.", "Who repaired the violin?", "Otto Lindqvist"),
]
TALK = [
    "It rained all of {} and nobody went out.",
    "We ate soup number {} again.",
    "Train {} was late by an hour.",
]


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    """Three facts, then talk that pushes them out of a small window, and a question about each and about the end."""
    told = [fact for fact, _, _ in FACTS] + [TALK[n % 3].format(n) for n in range(60)]
    lines: list[dict[str, Any]] = [
        {"say": text, "at": f"2023-05-01T10:{n:02}:00", "id": f"m{n}"} for n, text in enumerate(told[:60])
    ]
    lines += [
        {"ask": question, "answers": [answer], "evidence": [f"m{n}"], "category": "old"}
        for n, (_, question, answer) in enumerate(FACTS)
    ]
    lines.append({"ask": "Which train was late?", "answers": ["56"], "evidence": ["m59", "m0"], "category": "both"})
    path = tmp_path / "talk.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def bench(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    """What the command prints with --json."""
    ended = status(["bench", "memory", *args, "--json"])
    said = capsys.readouterr()
    assert ended == 0, said.err
    found: dict[str, Any] = json.loads(said.out)
    return found


SMALL = ("--sizes", "scripted", "--window", "700", "--set", "memory.worth=1.0", "--set", "cpu.reply=40")


def test_every_row_on_a_talk_that_does_not_fit(talk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    details = tmp_path / "details.jsonl"
    found = bench(capsys, "--workload", str(talk), *SMALL, "--rows", "all", "--details", str(details))
    by_row = {row["row"]: row for row in found["rows"]}
    assert list(by_row) == list(rows.ROWS)
    assert {key: found[key] for key in ("window", "model", "sizes", "seed")} == {
        "window": 700,
        "model": None,
        "sizes": "scripted",
        "seed": 1,
    }
    assert found["settings"] == ["memory.worth=1.0", "cpu.reply=40"]
    assert found["evidence"] == by_row["llmos"]["evidence"]
    assert (found["questions"], found["references"]) == (4, 5)
    assert by_row["window"]["by_category"]["old"]["evidence"] == 0.0
    assert by_row["window"]["recalled_per_question"] == 0.0
    assert by_row["llmos"]["by_category"]["old"]["evidence"] == 1.0
    assert by_row["llmos"]["recalled_per_question"] > 0
    assert by_row["memgpt"]["by_category"]["old"]["evidence"] == 1.0
    assert by_row["memgpt"]["recalled_per_question"] > 0
    assert by_row["oracle"]["evidence"] == by_row["full"]["evidence"] == 1.0
    for row in by_row.values():
        assert (row["right"], row["late"]) == (None, 0)
        assert row["ci95"] == row["evidence_ci95"]
        assert row["prefill_per_new_token"] > 0
        assert set(row["by_scenario"]) == {"talk"}
    lines = [json.loads(line) for line in details.read_text().splitlines()]
    assert len(lines) == 5 * 4
    assert {line["reply"] for line in lines} == {live.ANSWER}
    where = {(line["row"], line["gold"][0]): line["evidence"][0]["where"] for line in lines}
    assert where["llmos", "Ghent"] == ["recall"]
    assert where["memgpt", "Ghent"] == ["search"]
    assert where["full", "Ghent"] == ["queue"]


def test_a_run_gives_the_same_figures_again(talk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def figures() -> dict[str, Any]:
        found = bench(capsys, "--workload", str(talk), *SMALL, "--questions", "2", "--seed", "3")
        return {key: found[key] for key in found if key not in ("seconds", "rows")}

    first = figures()
    assert first == figures()
    assert first["questions"] == 2


def test_a_window_that_no_model_has_is_said(talk: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = tmp_path / "tiny.gguf"
    mamba(model)
    text = talk.read_text().splitlines()
    longer = tmp_path / "longer.jsonl"
    longer.write_text("\n".join([text[0].replace("Archie", "Archie " * 900), *text[1:]]))
    found = bench(capsys, "--workload", str(longer), "--sizes", str(model), "--window", "2048", "--rows", "full")
    assert found["evidence"] is None
    assert "Tiny Mamba sees 4096" in found["why"]


async def test_telling_leaves_what_was_told_and_nothing_else(talk: Path, tmp_path: Path) -> None:
    (told,) = load(str(talk), None).conversations
    clock = live.Clock(told.messages[0].at)
    cpu, script = live.scripted(ScriptedCpu(lambda job: ""), "auto", False)
    async with live.session(tmp_path / "machine", cpu, clock, 8192, [], script=script) as session:
        pid = await session.spawn("main", rows.SPEAK)
        await session.tell(pid, told, lambda line: None)
        machine = session.machine
        space = machine.kernel.procs[pid].space
        assert [entry.kind for entry in space.queue] == [Kind.MESSAGE] * len(told.messages)
        assert machine.kernel.procs[pid].spec.calls == rows.SPEAK
        for message, entry in zip(told.messages, space.queue, strict=True):
            page = records.page_of(machine.disk.get("page", records.key(entry.page)) or b"", machine.disk.get)
            assert (page.text, page.at) == (message.text, message.at)
            assert session.told[message.id] == ((page.id, page.text),)
        assert machine.kernel.at == told.messages[-1].at, "no wall clock"


def test_a_model_answers_on_the_sizes_it_was_told_with(
    talk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, details = tmp_path / "tiny.gguf", tmp_path / "details.jsonl"
    mamba(model)
    args = ("--workload", str(talk), "--window", "2048", "--set", "cpu.reply=8", "--questions", "2")
    scripted = bench(capsys, *args, "--sizes", str(model))
    asked = bench(capsys, *args, "--model", str(model), "--rows", "llmos,memgpt,oracle,full", "--details", str(details))
    assert asked["evidence"] == scripted["evidence"]
    assert asked["recalled_per_question"] == scripted["recalled_per_question"]
    assert asked["right"] is not None
    assert asked["ci95"] != asked["evidence_ci95"]
    assert [row["questions"] for row in asked["rows"]] == [2] * 4
    assert all(json.loads(line)["right"] in (0.0, 1.0) for line in details.read_text().splitlines())


def test_while_a_conversation_is_told_a_model_speaks_for_the_threads_of_the_kernels(talk: Path) -> None:
    heard: list[str] = []

    def program(job: Job) -> str:
        if REFLECTS not in job.pages[0].text:
            return json.dumps({"op": "send_message", "text": "done"})
        if job.pages[-1].page.kind is Kind.RESULT:
            return json.dumps({"op": "yield"})
        seen = [one.page for one in job.pages if one.recalled]
        heard.extend(page.text for page in seen)
        about = {"subject": "Ann", "text": f"Ann was there, {seen[0].id}", "pages": [seen[0].id]}
        return json.dumps({"op": "fact", **about})

    sizes = ScriptedCpu(lambda job: "")
    (told,) = load(str(talk), None).conversations
    changes = ("cpu.reply=60", "memory.reflect=true")
    bench_ = rows.Bench(sizes, lambda settings: SizedCpu(sizes, program), 1_024, changes, lambda text: None)
    found = trio.run(rows.hear, bench_, "llmos", told, list(told.questions[:1]))
    assert heard[:3] == [fact for fact, _, _ in FACTS]
    assert len(set(heard)) > 20, "it had the time to look at what had left"
    assert len(found.asked) == 1


def test_sizes_without_weights_are_the_models(tmp_path: Path) -> None:
    from drivers.cpu.llama.engine import LlamaCpu

    mamba(tmp_path / "tiny.gguf")
    sizes, model = ModelSizes(tmp_path / "tiny.gguf"), LlamaCpu(tmp_path / "tiny.gguf")
    try:
        assert sizes.measure_id() == model.measure_id()
        assert sizes.tokenize("Où est Ann?") == model.tokenize("Où est Ann?")
        for name in ("frame", "model", "window_max", "encoding", "full_mask"):
            assert getattr(sizes, name) == getattr(model, name), name
    finally:
        sizes.close()
        model.close()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--rows", "best"), "--rows best: rows are llmos, window, memgpt, oracle, full, or all"),
        (("--only", "nobody"), "--only nobody: no such conversation; there are talk"),
        (("--sizes", "a", "--model", "b"), "give one of them"),
        (("--window", "100"), "window=100"),
        (("--set", "memory.recall=0.9"), "the window is too small"),
        (("--details", "/nowhere/at/all"), "--details /nowhere/at/all: No such file"),
    ],
)
def test_a_bad_argument_is_named_in_one_line(
    talk: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], says: str
) -> None:
    sizes = () if "--sizes" in args else ("--sizes", "scripted")
    assert status(["bench", "memory", "--workload", str(talk), *sizes, *args]) == 2
    said = capsys.readouterr()
    last = [line for line in said.err.splitlines() if line.startswith("llmos: ")]
    assert says in last[-1]
    assert not said.out


def test_a_table_for_people(talk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = load(str(talk), None)
    bench_ = rows.Bench(ScriptedCpu(lambda job: ""), None, 700, ("cpu.reply=40",), lambda text: None)
    found = trio.run(run.measure, bench_, ["llmos", "window"], dataset, 1, 1, list[str]().append)
    Console(width=90).print(run.table("talk", 700, "scripted", found))
    said = capsys.readouterr().out
    assert "evidence" in said
    assert "window" in said


def test_planted_facts_of_the_first_days(tmp_path: Path) -> None:
    (talk,) = load("facts", None, 5).conversations
    told = tuple(one for one in talk.messages if int(one.id.split(":")[0]) <= 12)
    known = {one.id for one in told}
    asked = tuple(one for one in talk.questions if one.evidence[0].message in known)[:8]
    short = Conversation(talk.name, told, asked)
    dataset = Dataset("facts", (short,), "newest")
    bench_ = rows.Bench(ScriptedCpu(lambda job: ""), None, 2048, ("cpu.reply=40",), lambda text: None)
    details: list[str] = []
    found = trio.run(run.measure, bench_, ["llmos", "window", "oracle"], dataset, 1, 0, details.append)
    llmos, window, oracle = (one.facts for one in found)
    assert llmos is not None
    assert window is not None
    assert oracle is not None
    assert len(asked) == llmos.asked == window.asked == oracle.asked == oracle.in_view
    assert llmos.in_view > window.in_view
    assert llmos.right is None
    assert sum(one.asked for one in llmos.by_language.values()) == len(asked)
    assert {json.loads(line)["row"] for line in details} == {"llmos", "window", "oracle"}
