"""What a process may ask of its own queue: pins, evictions, pages by number."""

from kernel.ports import Job
from tests.fakes import Rig, op


def test_a_pinned_page_stays_and_pins_are_bounded() -> None:
    rig = Rig(
        lambda job: op("pin", page=job.pages[1].page.id) if job.instr == 1 else op("yield"),
        "window=2048",
        "cpu.reply=100",
    )
    pid = rig.spawn()
    rig.say(pid, "keep this in view")
    pinned = [entry.page for entry in rig.proc(pid).space.queue if entry.pinned]
    assert [rig.page(page).text for page in pinned] == ["keep this in view"]
    for n in range(60):
        rig.say(pid, f"filler {n}: bread, weather, trains and again the weather")
    assert rig.proc(pid).accounts.evictions
    assert "keep this in view" in rig.texts(pid)


def test_evict_and_read_bring_a_page_out_and_in_again() -> None:
    def program(job: Job) -> str:
        first = next((page.page.id for page in job.pages if page.page.text == "a page"), 2)
        return [op("evict", pages=[first]), op("read", pages=[2]), op("yield")][min(job.instr, 3) - 1]

    rig = Rig(program)
    pid = rig.spawn()
    rig.say(pid, "a page")
    assert rig.page(2).text == "a page"
    assert [text for text in rig.texts(pid) if text == "a page"] == ["a page"]
    assert "a page" not in [page.page.text for page in rig.jobs[1].pages]
    assert "a page" in [page.page.text for page in rig.jobs[2].pages]


def test_read_of_another_process_s_page_finds_nothing() -> None:
    rig = Rig(lambda job: op("read", pages=[2]) if job.pid == 2 and job.instr == 1 else op("yield"))
    one, two = rig.spawn("one"), rig.spawn("two")
    rig.say(one, "secret of one")
    assert rig.page(2).text == "secret of one"
    rig.say(two, "go")
    assert "secret of one" not in rig.texts(two)
    assert any("none of these pages" in text for text in rig.texts(two))
