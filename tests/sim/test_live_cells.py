"""`llmos bench paging --pager live` beside a live machine: LMDB and the index's process here, virtual time there.

Both are told and asked the same; what stands in every prompt, what was recalled and what has left is equal, page by
page and passage by passage.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench.memory import live, rows
from bench.memory.conversations import load
from bench.memory.run import drawn
from bench.memory.shown import shown
from bench.memory.talk import Conversation
from bench.memory.watched import WatchedCpu
from bench.paging import machine
from drivers.cpu.scripted import ScriptedCpu
from kernel.limits import NS
from kernel.memory.page import Kind, Role
from kernel.ports import Job
from llmos.commands.app import status

FACTS = [
    ("My brother Anselm moved to Trondheim in March.", "Where did Anselm move?", "Trondheim"),
    ("The boiler was serviced by Petra Nowak.", "Who serviced the boiler?", "Petra Nowak"),
    ("I lent the red ladder to our neighbour Idris.", "Who has the red ladder?", "Idris"),
    ("The violin recital is in the Lindgren hall.", "In which hall is the violin recital?", "Lindgren"),
    ("Our cat Mabel hates the vacuum cleaner.", "What does the cat Mabel hate?", "vacuum"),
    ("The recipe wants two spoons of cardamom.", "How much cardamom does the recipe want?", "two spoons"),
    ("Grandmother was born in Szeged in 1931.", "When was grandmother born?", "1931"),
    ("The spare key is under the blue flowerpot.", "Where is the spare key?", "blue flowerpot"),
    ("Ravi passed his pilot examination at last.", "Which examination did Ravi pass?", "pilot"),
    ("The ferry to Gozo leaves at a quarter to seven.", "When does the ferry to Gozo leave?", "quarter to seven"),
]
DEEP = [
    ("The password of the greenhouse router is marigold", "What is the password of the greenhouse router?", "marigold"),
    ("Doctor Okafor wants to see the X-ray on Tuesday", "When does doctor Okafor want to see the X-ray?", "Tuesday"),
    ("Aunt Birgit will pay for the piano", "Who will pay for the piano?", "Birgit"),
    ("The insurance number ends in 4471", "In what does the insurance number end?", "4471"),
    ("The tent has a hole near the zip", "Where does the tent have a hole?", "zip"),
]
TALK = [
    "It rained all morning, so number {} of the walks was put off again.",
    "We had soup for the {}th time this month, and nobody minded.",
    "Train {} was late by an hour; I read half a book on the platform.",
    "The committee spoke about item {} and decided nothing, as ever.",
]
TURNS = 60
WINDOW = 4096
Seen = tuple[int, bool, int, int]  # page, recalled, passage


class Turn(NamedTuple):
    """What a turn left: the prompt, and the counts of the process."""

    prompt: tuple[Seen, ...]
    tokens: tuple[int, ...]
    evictions: int
    faults: int
    shown: tuple[bool, ...]


def written(path: Path, turns: int, seed: int = 1) -> Path:
    """A conversation: facts early on, five of them deep within long messages, among talk."""
    rng = random.Random(f"live cells {seed}")
    told = [TALK[n % len(TALK)].format(n + 2) for n in range(turns)]
    places = sorted(rng.sample(range(turns * 3 // 4), len(FACTS) + len(DEEP)))
    rng.shuffle(places)
    lines: list[dict[str, Any]] = []
    for at, (fact, question, answer) in zip(places, [*FACTS, *DEEP], strict=True):
        told[at] = fact
        if (fact, question, answer) in DEEP:
            around = [TALK[n % len(TALK)].format(rng.randint(100, 999)) for n in range(12)]
            told[at] = " ".join([*around[:7], fact + ".", *around[7:]])
        lines.append({"ask": question, "answers": [answer], "evidence": [f"m{at}"]})
    said = [
        {"say": one, "at": f"2024-03-{n // 24 + 1:02}T{n % 24:02}:05:00", "id": f"m{n}"} for n, one in enumerate(told)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in [*said, *lines]))
    return path


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Conversation:
    path = written(tmp_path_factory.mktemp("talk") / "talk.jsonl", TURNS)
    (told,) = load(str(path), None).conversations
    return told


def turn(job: Job, evictions: int, faults: int, in_view: tuple[bool, ...] = ()) -> Turn:
    prompt = tuple((one.page.id, one.recalled, one.start, one.end) for one in job.pages)
    return Turn(prompt, job.prompt, evictions, faults, in_view)


async def alive(folder: Path, talk: Conversation, changes: tuple[str, ...]) -> list[Turn]:
    """Turn by turn on a live machine, whose CPU says which evidence a reply drew on."""
    clock, draws = live.Clock(talk.messages[0].at), machine.Drawn()
    cpu, script = live.scripted(ScriptedCpu(lambda job: ""), "auto", False)
    found = []
    settings = [*rows.BASE, *changes]
    async with live.session(folder, WatchedCpu(cpu, drew=draws), clock, WINDOW, settings, script=script) as session:
        pid = await session.spawn("main", rows.SPEAK)
        accounts = session.machine.kernel.procs[pid].accounts
        for message in talk.messages:
            session.cpu.jobs.clear()
            session.told[message.id] = await session.say(pid, message.text, message.at)
            found.append(turn(session.cpu.jobs[0], accounts.evictions, accounts.faults))
        clock.reach(talk.messages[-1].at + live.ASKED_AFTER_S * NS)
        for question in drawn(talk, 1, 0):
            draws.wanted = session.evidence(talk, question)
            asked = await session.ask(pid, question, draws.wanted, last=False)
            in_view = tuple(shown(one, asked.visible) for one in asked.evidence)
            found.append(turn(session.cpu.jobs[0], accounts.evictions, accounts.faults, in_view))
        assert not session.spent.late, "its searches are to be in time"
    return found


def simulated(talk: Conversation, changes: tuple[str, ...], policy: str, silent: bool = False) -> Iterator[Turn]:
    """The same as a live cell has it; `silent`: nothing is searched for while it is told."""
    setup = machine.Setup(ScriptedCpu(lambda job: ""), WINDOW, changes)
    with machine.Machine(setup, policy, 1, talk.messages[0].at) as made:
        accounts = made.proc.accounts
        made.index.silent = silent
        for message in talk.messages:
            made.tell(message)
            yield turn(made.cpu.jobs[0], accounts.evictions, accounts.faults)
        made.index.silent = False
        at = talk.messages[-1].at + live.ASKED_AFTER_S * NS
        for question in drawn(talk, 1, 0):
            at += live.ASKED_EVERY_S * NS
            asked = made.ask(talk, question, at)
            in_view = tuple(shown(one, asked.visible) for one in asked.evidence)
            yield turn(made.cpu.jobs[0], accounts.evictions, accounts.faults, in_view)


@pytest.mark.parametrize(
    ("policy", "changes"),
    [
        ("fifo", ()),
        ("lru", ("memory.join=true", "memory.low=0.6", "memory.recall=0.15")),
        ("ours", ("memory.share=learned", "memory.join=true")),
    ],
)
async def test_a_live_cell_is_a_live_machine_turn_by_turn(
    talk: Conversation, tmp_path: Path, policy: str, changes: tuple[str, ...]
) -> None:
    ours = list(simulated(talk, changes, policy))
    theirs = await alive(tmp_path / "machine", talk, (*changes, f"memory.policy={policy}"))
    assert len(ours) == len(theirs) == TURNS + len(talk.questions) == TURNS + 15
    for at, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        assert one == other, f"turn {at}"
    recalled = [seen for one in ours for seen in one.prompt if seen[1]]
    assert any(end for *_, end in recalled), "a passage of a long page was recalled"
    assert any(not end for *_, end in recalled)
    assert ours[-1].evictions > 20
    assert sum(hit for one in ours for hit in one.shown) >= 12


def test_what_is_recalled_while_it_is_told_leaves_no_trace(talk: Conversation) -> None:
    changes = ("memory.share=learned", "memory.join=true", "memory.worth=64", "memory.gate=likely")
    with_, without = (list(simulated(talk, changes, "ours", silent)) for silent in (False, True))
    assert any(recalled for one in with_[:TURNS] for _, recalled, *_ in one.prompt)
    assert not any(recalled for one in without[:TURNS] for _, recalled, *_ in one.prompt)
    assert [(one.prompt, one.tokens) for one in with_[TURNS:]] == [(one.prompt, one.tokens) for one in without[TURNS:]]


def figures(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    ended = status(["bench", *args, "--json"])
    said = capsys.readouterr()
    assert ended == 0, said.err
    found: dict[str, Any] = json.loads(said.out)
    return found


@pytest.mark.parametrize("extra", [(), ("--set", "memory.worth=0.4", "--set", "memory.recall=0.1")])
def test_both_commands_report_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: tuple[str, ...]
) -> None:
    folder = tmp_path / "talks"
    folder.mkdir()
    for seed in range(1, 4):
        written(folder / f"talk{seed}.jsonl", 150, seed)
    common = ("--workload", str(folder), "--sizes", "scripted", *extra)
    asked = figures(capsys, "memory", *common, "--window", "2048")
    cell = figures(capsys, "paging", *common, "--budget", "2048", "--pager", "live")
    assert abs(cell["hit"] - asked["evidence"]) < 0.02
    assert abs(cell["question_complete"] - asked["complete"]) < 0.02
    assert cell["recall_tokens_per_question"] == pytest.approx(asked["recalled_per_question"], abs=0.1)
    assert cell["prefill_amplification"] == pytest.approx(asked["prefill_per_new_token"], abs=0.001)
    assert cell["references"] == asked["references"] == 45


def test_any_policy_runs_and_is_set_by_the_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talk = str(written(tmp_path / "talk.jsonl", TURNS))
    cell = ("paging", "--workload", talk, "--pager", "live", "--sizes", "scripted", "--budget", "2048")
    for policy in ("gdsf", "lirs", "random", "sink_window"):
        found = figures(capsys, *cell, "--policy", policy)
        assert (found["policy"], found["pager"], found["opt_hit"]) == (policy, "live", None)
        assert (found["low_water"], found["recall"], found["path"]) == (0.33, 0.25, "area")
        assert found["evictions"] > 0
        assert found["hit"] > 0.5
    found = figures(capsys, *cell, "--low-water", "0.5", "--recall", "0.1", "--path", "drawn")
    assert (found["low_water"], found["recall"], found["path"]) == (0.5, 0.1, "drawn")
    assert figures(capsys, *cell, "--recall", "auto")["recall"] is None


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--workload", "synthetic/zipf", "--pager", "live"), "no conversation; take locomo-late, bfcl, or a file"),
        (("--workload", "synthetic/zipf", "--set", "memory.low=0.5"), "it goes with --pager live"),
        (("--workload", "synthetic/zipf", "--pager", "best"), "it is search, perfect or live"),
        (("--pager", "live", "--path", "queue"), "with --pager live it is area or drawn"),
        (("--pager", "live", "--recall", "much"), "memory.recall=much"),
        (("--pager", "live", "--budget", "600", "--set", "memory.recall=0.8"), "the window is too small"),
        (("--pager", "live", "--local"), "--local"),
    ],
)
def test_a_bad_argument_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], says: str
) -> None:
    if "--workload" not in args:
        args = ("--workload", str(written(tmp_path / "talk.jsonl", TURNS)), *args)
    sizes = ("--sizes", "scripted") if "live" in args else ()
    assert status(["bench", "paging", *args, *sizes]) == 2
    assert says in capsys.readouterr().err


def test_what_is_said_is_a_page_of_the_machine(talk: Conversation) -> None:
    setup = machine.Setup(ScriptedCpu(lambda job: ""), WINDOW)
    with machine.Machine(setup, "fifo", 1, talk.messages[0].at) as made:
        made.tell(talk.messages[0])
        (entry,) = made.proc.space.queue
        assert (entry.kind, entry.role) == (Kind.MESSAGE, Role.USER)
        assert made.told[talk.messages[0].id] == ((entry.page, talk.messages[0].text),)
