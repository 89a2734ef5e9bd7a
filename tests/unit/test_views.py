"""What clients read: a process's last messages are found whoever wrote since, without reading all pages."""

import msgspec
import pytest

from drivers.cpu.scripted import echo, play
from drivers.disk.memory import MemoryDisk
from kernel.errors import BadInput
from kernel.event import Filed, Forked
from kernel.machine import views
from kernel.machine.views import HISTORY_PAGES
from kernel.memory.measure import Part
from kernel.memory.page import Kind, Role
from tests.fakes import Rig, op

MANY = 3 * HISTORY_PAGES
SAID = ["hello", "you said: hello", "and now?", "you said: and now?"]


class CountingDisk(MemoryDisk):
    """A disk that counts the rows it gives out."""

    given = 0

    def scan(
        self, table: str, start: bytes = b"", *, reverse: bool = False, limit: int = 0
    ) -> list[tuple[bytes, bytes]]:
        rows = super().scan(table, start, reverse=reverse, limit=limit)
        self.given += len(rows)
        return rows


def crowd(rig: Rig, pid: int, pages: int = MANY) -> None:
    """Many pages of one process."""
    part = Part("a page", rig.cpu.tokenize("a page"))
    assert not rig.do(Filed(source="user", pid=pid, parts=(part,) * pages)).error


def history(rig: Rig, pid: int, limit: int) -> tuple[list[str], int]:
    """Its texts, and how many rows were read for it."""
    disk = rig.disk
    assert isinstance(disk, CountingDisk)
    before = disk.given
    found = views.history(disk, pid, limit, views.newest(rig.kernel, disk, pid))
    return [page.searched for page in found], disk.given - before


@pytest.fixture
def rig() -> Rig:
    """Two processes, of which the first has made many pages, and the second has then said something."""
    rig = Rig(echo, "window=3000", disk=CountingDisk())
    crowd(rig, rig.spawn("crowd"))
    pid = rig.spawn("quiet")
    rig.say(pid, "hello")
    rig.say(pid, "and now?")
    return rig


def test_history_is_found_behind_many_pages_of_others_in_one_piece(rig: Rig) -> None:
    pid = rig.kernel.names["quiet"]
    crowd(rig, rig.kernel.names["crowd"])
    for limit in (1, 2, 4):
        assert history(rig, pid, limit) == (SAID[-limit:], HISTORY_PAGES)


def test_history_ends_with_the_first_page_of_its_process(rig: Rig) -> None:
    assert history(rig, rig.kernel.names["quiet"], 100) == (SAID, HISTORY_PAGES)


def test_history_is_found_where_the_newest_page_is_not_in_view(rig: Rig) -> None:
    pid = rig.kernel.names["quiet"]
    crowd(rig, pid, 1)  # in the archive, which nobody sees by itself
    crowd(rig, rig.kernel.names["crowd"])
    texts, rows = history(rig, pid, 100)
    assert texts == SAID
    assert MANY < rows <= MANY + HISTORY_PAGES


def test_history_of_a_process_that_said_nothing_is_empty_and_ends(rig: Rig) -> None:
    assert history(rig, rig.kernel.names["crowd"], 5)[0] == []
    assert views.history(MemoryDisk(), 1, 5) == []


def test_history_of_a_fork_is_what_both_have_said(rig: Rig) -> None:
    step = rig.do(Forked(source="user", pid=rig.kernel.names["quiet"], name="child"))
    assert not step.error
    assert history(rig, step.pid, 100)[0] == SAID


def test_a_row_of_pmap_is_an_array_on_the_wire() -> None:
    row = views.Row(page=7, kind=Kind.MESSAGE, role=Role.USER, tokens=3, pinned=False)
    assert msgspec.json.encode(row) == b'[7,"message","user",3,false]'


def traced(rig: Rig, pid: int, **bounds: int) -> list[tuple[str, str]]:
    """Its calls as the disk has them, each with its result."""
    asked = {"since": 0, "upto": 0, "limit": 100, "bytes_max": 1 << 20} | bounds
    found = views.calls(rig.disk, pid, rig.cpu.measure_id(), **asked)  # type: ignore[arg-type]
    assert all(one.tokens == len(rig.cpu.tokenize(one.text)) for one in found)
    return [(one.text, one.result) for one in found]


def test_what_a_process_did_is_visible_with_its_results_oldest_first() -> None:
    calls = [op("remember", text="tea"), op("cancel_timer", timer=7), op("search", query="tea"), "nonsense"]
    rig = Rig(play([*calls, op("send_message", text="done")]), "window=3000", "cpu.manual=whole")
    pid, other = rig.spawn(), rig.spawn("other")
    rig.say(pid, "go")
    rig.say(other, "go")
    found = traced(rig, pid)
    assert [text for text, _ in found] == [*calls, op("send_message", text="done")]
    results = [result for _, result in found]
    assert results[1] == "error: no timer 7; timers are none"
    assert "tea" in results[2], "what came of a search, which took its time"
    assert results[3].startswith("error: JSON is malformed")
    assert results[4] == ""
    assert traced(rig, pid, limit=2) == found[3:]
    first = views.calls(rig.disk, pid, "", since=0, upto=0, limit=9, bytes_max=1)
    assert len(first) == 1, "one alone, however long it is"
    assert traced(rig, pid, upto=first[0].page - 1) == found[:4]
    assert traced(rig, pid, since=first[0].page) == []


def test_a_page_is_shown_to_who_asks_for_its_process_and_to_nobody_else() -> None:
    rig = Rig(echo, "window=3000")
    pid, other = rig.spawn(), rig.spawn("other")
    rig.say(pid, "a secret")
    number = max(rig.proc(pid).space.resident())
    assert views.page(rig.kernel, rig.disk, pid, number).text.endswith('"you said: a secret"}')
    text = rig.proc(pid).space.text
    assert text is not None
    assert views.page(rig.kernel, rig.disk, pid, text.page).kind is Kind.TEXT
    for proc, absent in ((other, number), (pid, 9_999)):
        with pytest.raises(BadInput, match="no page"):
            views.page(rig.kernel, rig.disk, proc, absent)


def test_the_past_of_a_process_is_read_backwards_in_pieces_with_what_its_runs_cost(rig: Rig) -> None:
    pid, before = rig.kernel.names["quiet"], rig.kernel.counters.lsn + 1
    found = list[views.Entry]()
    while before:
        piece, before = views.past_piece(rig.disk, pid, before, 2)
        assert len(piece) <= 2
        found += piece
    assert [entry.lsn for entry in found] == sorted((entry.lsn for entry in found), reverse=True)
    notes = [note for entry in found[::-1] for note in entry.notes]
    assert {note.pid for note in notes} == {pid}
    assert [note.what for note in notes if note.what in ("spawn", "delivered")] == ["spawn", "delivered", "delivered"]
    ran = [entry.ran for entry in found[::-1] if entry.ran is not None]
    assert [cost.pid for cost in ran] == [pid, pid]
    assert ran[0].prompt == ran[0].prefill  # nothing was evaluated before
    assert ran[1].prefill < ran[1].prompt


def test_pages_are_found_by_their_words_newest_first_in_pieces(rig: Rig) -> None:
    pid = rig.kernel.names["quiet"]
    assert not rig.do(Forked(source="user", pid=pid, name="fork")).error

    def grep(*words: str, proc: int = 0, limit: int = 10) -> list[tuple[int, str]]:
        found, before = list[views.Match](), 0
        for _ in range(MANY // HISTORY_PAGES + 10):
            piece, before = views.grep_piece(rig.disk, words, proc, before, limit)
            found += piece
            if not before:
                return [(one.pid, one.text) for one in found]
        raise AssertionError("it does not end")

    assert grep("hello", "said") == [(pid, "you said: hello")]
    assert grep("hello") == [(pid, "you said: hello"), (pid, "hello")]
    assert grep("hello", limit=1) == grep("hello")
    assert grep("hello", proc=rig.kernel.names["crowd"]) == []
    assert [text for _, text in grep("hello", proc=rig.kernel.names["fork"])] == ["you said: hello", "hello"]
    assert grep("a page", limit=HISTORY_PAGES).count((rig.kernel.names["crowd"], "a page")) == MANY


def test_a_match_is_shown_with_what_stands_around_it() -> None:
    rig = Rig(echo)
    rig.say(rig.spawn(), f"{'x' * 100} Ghent {'y' * 80}")
    found, _ = views.grep_piece(rig.disk, ["ghent"], 0, 0, 2)
    assert [one.text.index("Ghent") for one in found] == [views.AROUND_CHARS] * 2  # as said, and as said back
