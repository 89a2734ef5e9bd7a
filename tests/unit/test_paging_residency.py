"""What a process may ask of its own queue: pins, evictions, pages by number."""

from drivers.cpu.scripted import play
from kernel.memory.page import Kind, Role
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


def answers(rig: Rig, pid: int) -> list[str]:
    """Results and errors that the process was told."""
    kinds = (Kind.RESULT, Kind.DELTA)
    return [rig.page(entry.page).text for entry in rig.proc(pid).space.queue if entry.kind in kinds]


def test_pins_beyond_their_share_are_refused_with_the_sum() -> None:
    rig = Rig(
        lambda job: (
            op("pin", page=next(p.page.id for p in reversed(job.pages) if p.role is Role.USER))
            if job.instr % 2
            else op("yield")
        ),
        "window=2048",
        "cpu.reply=100",
    )
    pid = rig.spawn()
    for n in range(3):
        rig.say(pid, f"keep {n}: " + "bread and tea " * 12)
    assert sum(entry.pinned for entry in rig.proc(pid).space.queue) == 2
    assert any("error: pins would hold" in text and "128 are allowed" in text for text in answers(rig, pid))


def test_an_unpinned_page_may_leave_again() -> None:
    rig = Rig(play([op("pin", page=2), op("yield"), op("unpin", page=2), op("yield")]), "window=2048", "cpu.reply=100")
    pid = rig.spawn()
    rig.say(pid, "keep this")
    assert [entry.page for entry in rig.proc(pid).space.queue if entry.pinned] == [2]
    rig.say(pid, "no, let it go")
    for n in range(60):
        rig.say(pid, f"filler {n}: bread, weather, trains and again the weather")
    assert "keep this" not in rig.texts(pid)


def test_what_the_kernel_wrote_is_neither_pinned_nor_evicted() -> None:
    def program(job: Job) -> str:
        deltas = [page.page.id for page in job.pages if page.page.kind is Kind.DELTA]
        if not deltas:
            return op("core_append", block="b", text="x")
        return [op("yield"), op("pin", page=deltas[0]), op("evict", pages=[deltas[0]])][job.instr % 3]

    rig = Rig(program)
    pid = rig.spawn()
    for _ in range(4):
        rig.say(pid, "go on")
    said = answers(rig, pid)
    assert any("is the kernel's (delta) and cannot be pinned" in text for text in said)
    assert any("are not evictable" in text for text in said)
    assert any(entry.kind is Kind.DELTA for entry in rig.proc(pid).space.queue)


def test_a_pinned_page_is_evicted_by_nobody_not_even_its_owner() -> None:
    rig = Rig(play([op("pin", page=2), op("evict", pages=[2]), op("yield")]))
    pid = rig.spawn()
    rig.say(pid, "keep this")
    assert any("pages 2 are not evictable" in text for text in answers(rig, pid))
    assert "keep this" in rig.texts(pid)


def test_what_one_call_cannot_do_whole_it_does_not_do_at_all() -> None:
    rig = Rig(play([op("evict", pages=[2, 999]), op("yield")]))
    pid = rig.spawn()
    rig.say(pid, "stay")
    assert "stay" in rig.texts(pid)
    assert rig.proc(pid).accounts.evictions == 0


def test_a_page_that_is_in_view_already_is_not_brought_in_twice() -> None:
    rig = Rig(play([op("read", pages=[2]), op("yield")]))
    pid = rig.spawn()
    rig.say(pid, "here I am")
    assert [text for text in rig.texts(pid) if text == "here I am"] == ["here I am"]
    assert rig.proc(pid).accounts.faults == 0


def test_a_message_that_is_not_delivered_yet_is_not_read_before_its_time() -> None:
    rig = Rig(lambda job: op("mask", lines=["user"], seconds=60) if job.instr == 1 else op("read", pages=[5, 6]))
    pid = rig.spawn()
    rig.say(pid, "mask yourself", pump=False)
    rig.pump(1)
    rig.say(pid, "a secret", pump=False)
    held = rig.proc(pid).pending[0].pages[0][0]
    assert held in (5, 6)
    rig.pump(3)
    assert "a secret" not in rig.texts(pid)
