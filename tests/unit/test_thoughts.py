"""What a process thinks before an instruction: in its turn alone, in nobody's message, found by no search."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.disk import parcel
from kernel.event import Changed, Forked
from kernel.limits import MARKS_TOKENS_MAX
from kernel.memory.page import Kind
from kernel.ports import Job
from tests.fakes import ONLY_SPEAK, Rig, op

CHANGES = ("window=2048", "cpu.reply=100", "memory.fault=false")


def thinking(thought: str, said: str = "so it is") -> str:
    return f"{thought}</think>" + op("send_message", text=said)


def kinds(rig: Rig, pid: int) -> list[Kind]:
    return [entry.kind for entry in rig.proc(pid).space.queue]


def test_a_thought_is_a_page_before_its_answer_and_no_part_of_the_message() -> None:
    rig = Rig(
        lambda job: thinking("the user greets me, I shall greet back", "hello there, dear user of mine"),
        *CHANGES,
        thinks=True,
    )
    pid = rig.spawn()
    rig.say(pid, "hello")
    assert kinds(rig, pid) == [Kind.MESSAGE, Kind.THOUGHT, Kind.MESSAGE]
    thought, answer = (rig.page(entry.page) for entry in rig.proc(pid).space.queue[1:])
    assert thought.text == "the user greets me, I shall greet back"
    assert (thought.area, answer.text) == ("", op("send_message", text="hello there, dear user of mine"))
    assert [message.text for message in rig.messages] == ["hello there, dear user of mine"]


def test_it_is_in_no_search_no_recall_no_reading_and_no_export(tmp_path: Path) -> None:
    def program(job: Job) -> str:
        calls = [op("search", query="xylophone"), op("read", pages=[2]), op("yield")]
        return "the xylophone must stay secret</think>" + calls[(job.instr - 1) % 3]

    rig = Rig(program, "window=2048", "cpu.reply=100", thinks=True)
    pid = rig.spawn()
    rig.say(pid, "look it up")
    thoughts = [page for page in map(rig.page, range(1, rig.kernel.counters.page + 1)) if page.kind is Kind.THOUGHT]
    assert len(thoughts) == 3
    assert thoughts[0].id == 3  # behind text and message: `read` asked for a page that the process may read
    said = [page.text for page in map(rig.page, range(1, rig.kernel.counters.page + 1)) if page.kind is Kind.RESULT]
    assert not any("secret" in text for text in said)
    rig.say(pid, "what about the xylophone?")
    assert not rig.proc(pid).space.recall
    parcel.write(rig.disk, pid, tmp_path / "export", rig.now)
    moved = parcel.read(tmp_path / "export")
    assert any("look it up" in page.text for page in moved.pages)
    assert not any("secret" in page.text for page in moved.pages)


@pytest.mark.parametrize(
    ("thought", "said", "stays"), [("brief", "a long answer " * 6, True), ("long " * 50, "ok", False)]
)
def test_it_leaves_with_the_turn_where_that_costs_no_more_than_that_it_stays(
    thought: str, said: str, stays: bool
) -> None:
    rig = Rig(lambda job: thinking(thought, said), *CHANGES, thinks=True)
    pid = rig.spawn()
    rig.say(pid, "hello")
    assert (Kind.THOUGHT in kinds(rig, pid)) is stays
    rig.say(pid, "and now?")
    assert kinds(rig, pid).count(Kind.THOUGHT) == (2 if stays else 0)


def test_it_leaves_with_the_turn_where_something_was_recalled_for_that_breaks_the_prefix_anyway() -> None:
    rig = Rig(lambda job: thinking("brief", "a long answer " * 6), "window=2048", "cpu.reply=100", thinks=True)
    pid = rig.spawn()
    rig.say(pid, "the copper kettle stands in the green pantry")
    n = 0
    while not rig.proc(pid).accounts.evictions:  # ends: a queue is finite
        rig.say(pid, f"filler {n}: bread, weather, trains and again the weather")
        n += 1
    faults = rig.proc(pid).accounts.faults
    rig.say(pid, "where does the copper kettle stand?")
    assert rig.proc(pid).accounts.faults > faults
    assert kinds(rig, pid)[-1] is Kind.MESSAGE
    assert kinds(rig, pid)[-2] is Kind.MESSAGE


def test_what_was_thought_goes_first_when_something_must_go_and_counts_as_nothing_that_left() -> None:
    rig = Rig(lambda job: thinking("brief", "a long answer " * 4), *CHANGES, thinks=True)
    pid = rig.spawn()
    n, before = 0, 0
    while not rig.proc(pid).accounts.evictions:  # ends: a queue is finite
        before = kinds(rig, pid).count(Kind.THOUGHT)
        rig.say(pid, f"filler {n}: bread, weather")
        n += 1
    space = rig.proc(pid).space
    assert before > 3
    assert kinds(rig, pid).count(Kind.THOUGHT) <= 1  # that of this turn
    own = [rig.page(number) for number in range(1, rig.kernel.counters.page + 1)]
    gone = [page for page in own if page.pid == pid and page.kind is Kind.MESSAGE and page.id not in space.resident()]
    assert space.evicted == len(gone)


@pytest.mark.parametrize(("think", "most"), [("auto", 256), ("on", 256), ("40", 40), ("off", 0)])
def test_how_much_may_be_thought_is_a_choice_of_a_process_and_has_its_room(think: str, most: int) -> None:
    rig = Rig(lambda job: thinking("word " * 400), *CHANGES, thinks=True)
    pid = rig.spawn(mask=ONLY_SPEAK, think=think)
    plain = rig.spawn("plain", mask=ONLY_SPEAK, think="off")
    rig.say(pid, "hello")
    job = rig.jobs[-1]
    assert (job.thought.most if job.thought else 0) == most
    pages = [page for page in map(rig.page, range(1, rig.kernel.counters.page + 1)) if page.kind is Kind.THOUGHT]
    assert len(pages) == bool(most)
    assert all(len(rig.cpu.tokenize(page.text)) <= most for page in pages)
    room = rig.kernel.budgets(rig.proc(plain)).queue - rig.kernel.budgets(rig.proc(pid)).queue
    assert room == (most + MARKS_TOKENS_MAX if most else 0)


def test_where_room_is_short_less_is_thought_and_no_window_is_too_small_for_a_model_that_thinks() -> None:
    for window in (1100, 1200, 1400, 1700, 2048):
        changes = (f"window={window}", "cpu.reply=100", "memory.fault=false")
        rig = Rig(lambda job: thinking("word " * 400), *changes, thinks=True)
        pid = rig.spawn(mask=ONLY_SPEAK)
        rig.say(pid, "hello")
        thought = rig.jobs[-1].thought
        limits = rig.kernel.budgets(rig.proc(pid))
        plain = rig.kernel.divide("", rig.proc(pid).space.text.tokens if rig.proc(pid).space.text else 0, "off")
        room = plain.queue - plain.pinned - 2 * plain.unit
        assert limits.thought <= max(0, room) // 2
        assert (thought is None) == (limits.thought == 0)
        assert thought is None or thought.most >= 32
    assert thought is not None


def test_a_thought_that_no_page_holds_is_on_disk_alone() -> None:
    rig = Rig(lambda job: thinking("word " * 400), *CHANGES, thinks=True)
    pid = rig.spawn(think="200")
    rig.say(pid, "hello")
    assert Kind.THOUGHT not in kinds(rig, pid)
    assert any(rig.page(number).kind is Kind.THOUGHT for number in range(1, rig.kernel.counters.page + 1))


def test_what_cannot_be_thought_is_refused_in_a_line() -> None:
    rig = Rig(lambda job: thinking("x"), *CHANGES, thinks=True)
    pid = rig.spawn()
    large = rig.do(Changed(source="user", pid=pid, think="1500")).error
    assert "the window is too small" in large
    assert "thought 1524" in large
    assert "think" in rig.do(Changed(source="user", pid=pid, think="much")).error
    dull = Rig(lambda job: op("yield"), *CHANGES)
    pid = dull.spawn()
    assert "does not think; auto and off are allowed" in dull.do(Changed(source="user", pid=pid, think="on")).error
    assert not dull.do(Changed(source="user", pid=pid, think="off")).error


def test_a_model_that_does_not_think_does_not_think_and_old_thoughts_of_a_fork_are_seen() -> None:
    rig = Rig(lambda job: thinking("brief", "a long answer " * 6), *CHANGES, thinks=True)
    pid = rig.spawn()
    rig.say(pid, "hello")
    child = rig.do(Forked(source="user", pid=pid, name="child")).pid
    rig.pump()
    rig.say(child, "and you?")
    assert kinds(rig, child)[:3] == [Kind.MESSAGE, Kind.THOUGHT, Kind.MESSAGE]
    prompt = rig.jobs[-1].prompt
    rig.say(pid, "and you?")
    assert rig.jobs[-1].prompt == prompt


@pytest.mark.parametrize("fault", ["true", "false"])
def test_forty_turns_of_a_model_that_thinks_evaluate_no_more_per_new_token_than_of_one_that_does_not(
    fault: str,
) -> None:
    def run(thought: str) -> float:
        def program(job: Job) -> str:
            said = f"answer {job.instr}: " + "words " * 12
            return f"{thought}</think>{said}" if thought else said

        rig = Rig(program, "window=2048", f"memory.fault={fault}", thinks=bool(thought), encoding="prose")
        pid = rig.spawn(mask=ONLY_SPEAK)
        for n in range(40):
            rig.say(pid, f"question {n}: bread, weather, trains and again the weather?")
        counts = rig.proc(pid).accounts
        assert counts.evictions
        return counts.prefill / (counts.entered + counts.emitted)

    plain = run("")
    for words in (4, 20, 60, 120):
        assert run("think " * words) <= 1.1 * plain, words
