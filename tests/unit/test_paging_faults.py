"""Pages that are searched for: by a message, by an instruction, and what earns its place in view."""

from drivers.cpu.scripted import echo, play
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
