"""Pages are made in one place: numbered without a gap, measured once, on disk with the step that made them."""

import msgspec

from drivers.cpu.scripted import echo, play
from kernel import records
from kernel.event import Filed, Forked
from kernel.memory.page import Area, Kind
from kernel.records import JournalEntry
from tests.fakes import Rig, op


def test_page_numbers_have_no_gap_and_a_process_counts_its_own() -> None:
    rig = Rig(play([op("remember", text="x"), op("core_append", block="b", text="y"), op("send_message", text="z")]))
    one, two = rig.spawn("one"), rig.spawn("two")
    for pid in (one, two, one):
        rig.say(pid, "go " * 100)
    child = rig.do(Forked(source="user", pid=one, name="child")).pid
    pages = [rig.page(number) for number in range(1, rig.kernel.counters.page + 1)]
    assert rig.disk.get("page", records.key(len(pages) + 1)) is None
    for pid in (one, two, child):
        assert [page.seq for page in pages if page.pid == pid] == list(range(1, rig.proc(pid).seq + 1))


def test_a_step_that_is_refused_numbers_nothing() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    before = rig.kernel.counters.page
    rig.do(Forked(source="user", pid=pid, name="p"))
    assert rig.kernel.counters.page == before
    rig.say(pid, "hello")
    assert rig.page(before + 1).text == "hello"


def test_a_page_counts_its_text_and_its_frame() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    rig.say(pid, "hello there")
    costs = rig.kernel.costs(rig.proc(pid))
    for entry in rig.proc(pid).space.queue:
        assert entry.tokens == len(rig.cpu.tokenize(rig.page(entry.page).text)) + costs.role[entry.role]


def test_what_a_step_measured_stands_in_its_journal_entry() -> None:
    rig = Rig(play([op("remember", text="amber and birch"), op("yield")]))
    pid = rig.spawn()
    rig.say(pid, "go")
    rows = [msgspec.msgpack.decode(value, type=JournalEntry) for _, value in rig.disk.scan("journal")]
    ids = [part[1] for row in rows for text in row.sizes for part in text]
    assert rig.cpu.tokenize("amber and birch") in ids


def test_an_archived_text_is_searched_and_in_nobodys_view() -> None:
    rig = Rig(play([op("remember", text="the vault opens at noon"), op("yield")]))
    pid = rig.spawn()
    rig.say(pid, "note it")
    (page,) = [one for n in range(1, rig.kernel.counters.page + 1) if (one := rig.page(n)).kind is Kind.ARCHIVE]
    assert page.area is Area.ARCHIVE
    assert page.id not in rig.proc(pid).space.resident()
    assert rig.proc(pid).space.evicted == 1  # a demand fault has something to find


def test_a_file_wakes_nobody_and_is_known_by_its_id() -> None:
    rig = Rig(echo)
    pid = rig.spawn()
    parts = rig.cpus("a long file about the harbour " * 40, 60, "")
    step = rig.do(Filed(source="user", pid=pid, mid="f1", parts=parts))
    assert rig.jobs == []
    assert rig.proc(pid).accounts.turns == 0
    assert rig.proc(pid).space.evicted == len(parts) == len(step.pages)
    row = rig.disk.get("mid", b"f1")
    assert row is not None
    assert records.unkey(row) == (pid, step.pages[0][0].id)
    assert "".join(page.text for page, _ in step.pages) == "a long file about the harbour " * 40
