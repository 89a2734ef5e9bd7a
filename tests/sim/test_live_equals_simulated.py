"""What the simulator says of a policy is what the live pager does: a conversation through both, turn by turn.

The live machine is that of `--pager live`, which is a live machine turn by turn (test_live_cells.py). What it was told
and asked, what its search found, and which pages its replies drew on or would have, is the reference string that the
simulator is given; it has the live queue's and the recall area's tokens, and decides for itself. Compared after each
turn: what faults, what was recalled, and what is resident, in prompt order. Stubs and replies to nobody are left out on
the live side, for a string has none.
"""

from __future__ import annotations

import functools
import json
import math
import random
from typing import Any, NamedTuple

import msgspec
import pytest

from bench.inline import InlineIndex
from bench.memory import live
from bench.memory.conversations import load
from bench.memory.run import drawn
from bench.memory.talk import Conversation
from bench.paging import field, machine
from bench.paging.simulator import Counts, Memory, Options, Path
from bench.paging.trace import Ref, Turn
from drivers.cpu.scripted import ScriptedCpu
from kernel.event import Hit, Search, Searched
from kernel.limits import NS
from kernel.memory import recall
from kernel.memory.page import Role
from tests.sim.test_live_cells import FACTS, TALK

WINDOW = 2048
WORTH = 64.0
SETTINGS = ("memory.on_evict=nothing", "memory.gate=likely", f"memory.worth={WORTH}", "memory.recall=0.08")


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Conversation:
    """Facts among talk, short messages all; each is asked for three times, none by its time, some in words of talk."""
    rng = random.Random(12)
    facts = [fact for fact in FACTS if not fact[1].startswith("When")]
    told = [TALK[n % len(TALK)].format(n + 2) for n in range(90)]
    lines: list[dict[str, Any]] = []
    for at, (fact, question, answer) in zip(sorted(rng.sample(range(80), len(facts))), facts, strict=True):
        told[at] = fact
        vague = f"What did the committee decide about item {at}, and was the train late?"
        asked = [question, vague, question] if at % 2 else [vague, question, vague]
        lines += [{"ask": one, "answers": [answer], "evidence": [f"m{at}"]} for one in asked]
    rng.shuffle(lines)
    said = [
        {"say": one, "at": f"2024-03-{n // 24 + 1:02}T{n % 24:02}:05:00", "id": f"m{n}"} for n, one in enumerate(told)
    ]
    path = tmp_path_factory.mktemp("talk") / "talk.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [*said, *lines]))
    (found,) = load(str(path), None).conversations
    return found


class Seen(NamedTuple):
    """What a turn left."""

    faults: int
    recalled: tuple[int, ...]
    resident: tuple[int, ...]


class Found(InlineIndex):
    """The kernel's index, or (`perfect`) one that finds the pages that are wanted and nothing else; `last` is noted."""

    perfect = False
    wanted: tuple[int, ...] = ()
    last: tuple[Hit, ...] = ()

    def start(self, post, sized):
        def noted(event):
            self.last = event.hits
            post(event)

        self.sized = sized
        super().start(noted, sized)

    def search(self, what: Search) -> None:
        if not self.perfect or self.silent:
            super().search(what)
            return
        pages = [page for page in self.wanted if page not in what.exclude]
        hits = self.sized([Hit(page, page, Role.USER, 0, 0, 1.0, 1.0, "") for page in pages])
        self._post(Searched(pid=what.pid, req=what.req, hits=tuple(hits)))


class Recorded(NamedTuple):
    """A live run: its string, what its searches found, what each turn left, and the budgets that it had."""

    turns: list[Turn]
    ranked: list[tuple[int, ...]]
    seen: list[Seen]
    queue: int
    recall: int
    label: int


def recorded(
    talk: Conversation, policy: str, perfect: bool, low: float, path: str, monkeypatch: pytest.MonkeyPatch
) -> Recorded:
    monkeypatch.setattr(machine, "InlineIndex", Found)
    join = f"memory.join={'true' if path == 'drawn' else 'false'}"
    setup = machine.Setup(ScriptedCpu(lambda job: ""), WINDOW, (*SETTINGS, f"memory.low={low}", join))
    turns, ranked, seen = [], [], []
    with machine.Machine(setup, policy, 1, talk.messages[0].at) as made:
        kernel, space, index = made.machine.kernel, made.proc.space, made.index
        limits, costs = kernel.budgets(made.proc), kernel.costs(made.proc)
        index.perfect = perfect
        known: set[int] = set()

        def note(query: str, refs: tuple[int, ...], faults: int) -> None:
            sizes = {entry.page: entry.tokens for entry in space.queue}
            fresh = [entry for entry in space.queue if entry.page not in known]
            (asked, *said) = [Ref(entry.page, entry.tokens, entry.kind) for entry in fresh]
            known.update(entry.page for entry in fresh)
            told.update({entry.page: entry.tokens for entry in fresh})
            wanted = tuple(Ref(page, told[page]) for page in refs)
            turns.append(Turn((asked,), wanted, query, 0, tuple(said)))
            sized = [(hit, hit.tokens + costs.recalled[hit.role]) for hit in index.last]
            ranked.append(tuple(hit.page for hit in recall.worthy(sized, WINDOW, WORTH)) if query else ())
            job = made.cpu.jobs[0]
            recalled = tuple(one.page.id for one in job.pages if one.recalled)
            seen.append(Seen(faults, recalled, tuple(sizes)))

        told: dict[int, int] = {}
        index.silent = True
        for message in talk.messages:
            made.tell(message)
            note("", (), 0)
        index.silent = False
        at = talk.messages[-1].at + live.ASKED_AFTER_S * NS
        for question in drawn(talk, 1, 0):
            at += live.ASKED_EVERY_S * NS
            evidence = live.evidence(made.told, talk, question)
            index.wanted = tuple(page for one in evidence for page, _ in one.pages)
            before = made.proc.accounts.faults
            asked = made.ask(talk, question, at)
            missing = sum(not any(s.page == page for s in asked.visible) for page in index.wanted)
            faults = made.proc.accounts.faults - before if perfect else missing
            note(question.text, index.wanted, faults)
        label = costs.recalled[Role.USER] - costs.role[Role.USER]
        return Recorded(turns, ranked, seen, limits.queue, limits.recall - costs.recall, label)


def simulated(run: Recorded, policy: str, perfect: bool, low: float, path: Path) -> list[Seen]:
    budget = run.queue + run.recall
    share = math.nextafter(run.recall / budget, 1)
    options = Options(low, share, "perfect" if perfect else "search", path, label=run.label)
    counts = Counts()
    memory = Memory(functools.partial(field.make, policy), budget, options, frozenset(), counts)
    assert (memory.queue, memory.room) == (run.queue, run.recall)
    found = []
    for turn, ranking in zip(run.turns, run.ranked, strict=True):
        before = msgspec.structs.replace(counts)
        recalled = memory.turn(turn, () if perfect else ranking)
        found.append(Seen(counts.faults - before.faults, recalled, tuple(memory.resident)))
    return found


@pytest.mark.parametrize(("low", "path"), [(0.33, "drawn"), (0.6, "area")])
@pytest.mark.parametrize("policy", ["fifo", "lru", "ours"])
@pytest.mark.parametrize("pager", ["perfect", "search"])
def test_a_turn_leaves_the_same_faults_and_pages_live_and_simulated(
    talk: Conversation, pager: str, policy: str, low: float, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = recorded(talk, policy, pager == "perfect", low, path, monkeypatch)
    ours = simulated(run, policy, pager == "perfect", low, path)
    for at, (one, other) in enumerate(zip(ours, run.seen, strict=True)):
        assert one == other, f"turn {at}: {run.turns[at]}"
    assert sum(one.faults for one in run.seen) >= 3
    assert len({page for one in run.seen for page in one.recalled}) >= 3
    assert len({page for one in run.seen for page in one.resident}) > 2 * len(run.seen[-1].resident)
