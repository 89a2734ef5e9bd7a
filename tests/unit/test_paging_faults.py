"""Pages that are searched for: by a message, by an instruction, and what earns its place in view."""

from drivers.cpu.scripted import echo, play
from kernel.event import Filed, Raised
from kernel.interrupts import Line
from tests.fakes import ONLY_SPEAK, Rig, op


def test_what_was_evicted_is_faulted_in_when_a_message_asks_for_it() -> None:
    rig = Rig(echo, "window=1024", "cpu.reply=100")
    pid = rig.spawn(mask=ONLY_SPEAK)
    rig.say(pid, "the harbour master keeps a lighthouse key under the blue stone")
    for n in range(40):
        rig.say(pid, f"filler {n}: bread, weather, trains and again the weather")
    assert all("lighthouse" not in text for text in rig.texts(pid))
    rig.jobs.clear()
    rig.say(pid, "lighthouse key?")
    seen = [(page.page.text, page.recalled) for page in rig.jobs[0].pages]
    assert ("the harbour master keeps a lighthouse key under the blue stone", True) in seen
    assert rig.proc(pid).space.recall == []  # dropped after the turn
    assert rig.proc(pid).accounts.faults > 0


def test_without_demand_paging_nothing_is_brought_in() -> None:
    rig = Rig(echo, "window=1024", "cpu.reply=100", "memory.fault=false")
    pid = rig.spawn(mask=ONLY_SPEAK)
    for n in range(40):
        rig.say(pid, f"filler {n}: bread, weather, trains and again the weather")
    rig.say(pid, "filler 3: bread?")
    assert rig.proc(pid).accounts.evictions > 0
    assert (rig.proc(pid).accounts.faults, rig.proc(pid).accounts.recalled) == (0, 0)


def test_search_returns_hits_of_the_archive_and_the_turn_goes_on() -> None:
    calls = [
        op("remember", text="the vault opens at noon"),
        op("search", query="vault"),
        op("send_message", text="found"),
    ]
    rig = Rig(play(calls))
    pid = rig.spawn()
    rig.say(pid, "when does it open?")
    assert rig.messages[-1].text == "found"
    assert any(text.startswith("1 results") and "the vault opens at noon" in text for text in rig.texts(pid))


def flooded() -> Rig:
    """A process whose user's message is pushed out of view by what is delivered together with it."""
    rig = Rig(
        lambda job: op("mask", lines=["user", "ipc"], seconds=60) if job.instr == 1 else op("yield"),
        "window=2048", "cpu.reply=100", "memory.recall_min=0.0",
    )  # fmt: skip
    pid = rig.spawn(mask=("mask", "yield", "send_message"))
    rig.do(Filed(source="user", pid=pid, parts=rig.cpus("the lighthouse key lies under the blue stone", 60, "")))
    rig.say(pid, "mask yourself")
    rig.say(pid, "lighthouse key stone?")
    for n in range(30):
        rig.do(Raised(source="device", pid=pid, line=Line.IPC, text=f"note {n} " + "tea and bread " * 14))
    rig.jobs.clear()
    rig.tick(100)
    return rig


def test_nothing_is_recalled_for_a_message_that_has_left_already() -> None:
    rig = flooded()
    assert not any("lighthouse key stone?" in text for text in rig.texts(1))
    assert rig.jobs
    assert not [page for job in rig.jobs for page in job.pages if page.recalled]
    assert rig.proc(1).accounts.faults == 0
