"""What happened to a page, as the journal tells it."""

from __future__ import annotations

import pytest

from drivers.door.wire import Explained
from kernel import records
from kernel.errors import BadInput
from kernel.machine import why
from kernel.machine.why import Because, Why
from kernel.ports import Job
from llmos.why import explained, lines
from tests.fakes import Rig, op

FACT = "The copper kettle stands in the green pantry."
ASKED = "Where does the copper kettle stand?"


def answering(job: Job) -> str:
    asked = any(page.text == ASKED for page in job.pages)
    return "it must be the pantry</think>" + op(
        "send_message", text="In the green pantry." if asked else "I see, very well."
    )


@pytest.fixture
def rig() -> Rig:
    """A fact was told, left, and was asked for."""
    rig = Rig(answering, "window=2048", "cpu.reply=100", thinks=True)
    pid = rig.spawn()
    rig.say(pid, FACT, "m1")
    n = 0
    while rig.proc(pid).space.find(fact(rig)) >= 0:  # ends: a queue is finite
        rig.say(pid, f"filler {n}: bread, weather, trains and again the weather")
        n += 1
    rig.say(pid, ASKED, "m2")
    return rig


def fact(rig: Rig) -> int:
    return next(n for n in range(1, rig.kernel.counters.page + 1) if rig.page(n).text == FACT)


def told(rig: Rig, number: int) -> list[Because]:
    """All pieces, oldest first."""
    found: list[Because] = []
    before = rig.kernel.counters.lsn + 1
    while before:
        more, before = why.piece(rig.disk, rig.page(number), before)
        found += more
    return found[::-1]


def test_a_page_tells_who_brought_it_when_it_left_for_what_and_what_it_was_recalled_for(rig: Rig) -> None:
    found = told(rig, fact(rig))
    assert [one.why for one in found] == [Why.CAME, Why.LEFT, Why.RECALLED, Why.DREW]
    came, left, recalled, drew = found
    assert came.text == "m1"
    assert "filler" in left.text or "I see" in left.text
    assert left.pages
    assert 0.0 < recalled.score <= 1.0
    assert why.message(rig.disk, 1, recalled.lsn) == (ASKED, 0)
    assert "In the green pantry." in drew.text
    assert came.at < left.at < recalled.at < drew.at


def test_a_message_tells_what_it_drew_on_and_what_was_thought_before_it(rig: Rig) -> None:
    page = why.last_said(rig.disk, 1, rig.proc(1).said)
    (said,) = told(rig, page)
    assert (said.why, said.pages, said.thought) == (Why.SAID, (fact(rig),), "it must be the pantry")


def test_it_is_told_in_lines_that_no_text_can_forge(rig: Rig) -> None:
    page = rig.page(fact(rig))
    because = (*told(rig, page.id), Because(Why.READ, 1, 1, "a\n  2026  left\x1b[2J"))
    found = Explained(id=1, page=page, segment="", because=because, heads={}, whole=True)
    text = lines(found)
    assert text[0] == f'page {page.id}, message of user, not in view: "{FACT}"'
    assert len(text) == 1 + len(because)
    assert "\x1b" not in "".join(text)
    assert [one["why"] for one in explained(found)["because"]] == ["came", "left", "recalled", "drew", "read"]


def test_a_journal_that_was_cut_says_so_and_who_has_said_nothing_is_told_in_a_line(rig: Rig) -> None:
    rows = [lsn for lsn, _ in rig.disk.scan("journal")]
    rig.disk.commit([records.Record("journal", lsn, None) for lsn in rows[: len(rows) // 2]])
    page = rig.page(fact(rig))
    found = told(rig, page.id)
    assert found
    assert Why.CAME not in [one.why for one in found]
    shown = lines(Explained(id=1, page=page, segment="", because=tuple(found), heads={}, whole=False))
    assert "what was before is in no journal any more" in shown[1]
    with pytest.raises(BadInput, match="it has said nothing yet"):
        why.last_said(rig.disk, 2, 0)
