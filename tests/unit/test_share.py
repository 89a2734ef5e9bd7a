"""The share of its window that recall has, learned from what replies drew on."""

from __future__ import annotations

import pytest

from drivers.cpu.scripted import echo
from kernel import formats
from kernel.audit import audit
from kernel.event import Checkpointed, Forked, Searched
from kernel.memory import pager
from kernel.memory.measure import Costs
from kernel.memory.page import Role
from kernel.memory.split import STEPS, Learned, Split
from kernel.paging import share
from kernel.ports import Job
from kernel.process import Ranked
from kernel.replay import Replay
from kernel.settings import Settings, apply
from syscalls.table import Table
from tests.fakes import ONLY_SPEAK, PowerCut, Rig

LEARNED = ("memory.share=learned", "window=1024", "cpu.reply=60")
COSTS = Costs("m", 1, dict.fromkeys(Role, 3), 2, 0, dict.fromkeys(Role, 3))


def program(job: Job) -> str:
    """`KEY?` is answered from what is in view, and `before` with the value of the tenth fact back of those in view."""
    said = [page.page.text for page in job.pages if page.role is Role.USER and not page.recalled]
    facts = {text.split()[1]: text.split()[2] for text in said if text.startswith("told ")}
    facts |= {p.page.text.split()[1]: p.page.text.split()[2] for p in job.pages if p.page.text.startswith("told ")}
    if said[-1] == "before":
        return [text for text in said if text.startswith("told ")][-10:][0].split()[2]
    return facts.get(said[-1].rstrip("?"), "noted")


def told(n: int) -> str:
    return f"told key{n} value{n} bread weather trains tea rain and bread again and more tea and more weather"


def talk(rig: Rig, pid: int, turns: int, question: str) -> None:
    """A fact a turn, and a question after each."""
    for n in range(turns):
        rig.say(pid, told(n))
        if n > 1:
            rig.say(pid, question.format(n // 2))


def machine(*changes: str) -> tuple[Rig, int]:
    rig = Rig(program, *LEARNED, *changes, encoding="prose")
    return rig, rig.spawn(mask=ONLY_SPEAK)


def place(rig: Rig, pid: int) -> int:
    split = rig.proc(pid).split
    return -1 if split is None else split.place


@pytest.mark.parametrize("window", [700, 1024, 2048, 8192])
def test_every_share_that_may_be_taken_leaves_a_queue_to_run_in(window: int) -> None:
    settings = apply(Settings(), ["memory.share=learned", f"window={window}", "cpu.reply=60"])
    limits = pager.budgets(settings, COSTS, 50, 64, None)
    assert limits.places[0] == pager.LEAST
    assert limits.places[-1] <= pager.MOST
    for place in range(STEPS + 1):
        found = pager.budgets(settings, COSTS, 50, 64, place)
        assert found.pinned + 2 * found.unit <= found.queue
        assert (found.shared, found.places) == (limits.shared, limits.places)
        assert place not in found.places or found.recall == found.shared * place // STEPS
    begins = settings.window * settings.memory.recall
    assert abs(limits.recall - begins) <= limits.shared / STEPS or limits.places[-1] < pager.MOST


def test_what_the_queue_serves_and_a_search_does_not_find_gives_the_queue_more() -> None:
    rig, pid = machine()
    first = rig.kernel.budgets(rig.proc(pid))
    talk(rig, pid, 60, "before")
    assert 0 < place(rig, pid) < 6
    now = rig.kernel.budgets(rig.proc(pid))
    assert now.queue > first.queue
    assert now.shared == first.shared
    assert rig.kernel.policies[pid].capacity == now.queue
    assert not any(taken.why for taken in Replay(rig.disk, Table()).steps())
    assert audit(rig.disk).findings == []


def test_what_a_search_finds_anyway_moves_nothing() -> None:
    rig, pid = machine()
    talk(rig, pid, 60, "key{}?")
    split = rig.proc(pid).split
    assert split is not None
    assert split.weight > 20
    assert split.place == pager.first(rig.settings, rig.kernel.budgets(rig.proc(pid)).shared)


def grown(*changes: str) -> tuple[Rig, int]:
    """A process whose queue is nearly full and whose recall area should be larger: it can be only by an eviction."""
    rig, pid = machine(*changes)
    for n in range(30):
        rig.say(pid, told(n))
    rig.proc(pid).split = Learned((0.0,) * 12 + (20.0,) * 9, 20.0, 6)
    while rig.proc(pid).space.used() < 0.9 * rig.kernel.budgets(rig.proc(pid)).queue:
        rig.say(pid, "more")
    return rig, pid


def test_a_smaller_queue_waits_for_the_next_eviction() -> None:
    rig, pid = grown()
    before = rig.kernel.budgets(rig.proc(pid))
    evictions = rig.proc(pid).accounts.evictions
    rig.say(pid, "key2?")
    assert trapped(rig) != ()
    if rig.proc(pid).accounts.evictions == evictions:
        assert rig.kernel.budgets(rig.proc(pid)) == before, "what is in view does not fit it"
    while rig.proc(pid).accounts.evictions == evictions:
        rig.say(pid, "more and more bread and weather and trains")
    after = rig.kernel.budgets(rig.proc(pid))
    assert after.recall > before.recall
    assert rig.proc(pid).space.used() <= after.queue


def trapped(rig: Rig) -> tuple[int, ...]:
    """What the last run drew on."""
    events = [formats.entry(value).event for _, value in rig.disk.scan("journal", reverse=True, limit=3)]
    return next((event.drew for event in events if hasattr(event, "drew")), ())


def test_a_fork_has_the_division_of_its_parent() -> None:
    rig, pid = machine()
    talk(rig, pid, 60, "before")
    child = rig.do(Forked(source="user", pid=pid, name="child")).pid
    assert rig.kernel.budgets(rig.proc(child)) == rig.kernel.budgets(rig.proc(pid))
    talk(rig, child, 5, "before")


def test_it_goes_on_after_a_boot_and_a_checkpoint_and_ends_where_the_setting_does() -> None:
    rig, pid = machine()
    talk(rig, pid, 60, "before")
    kept, limits = rig.proc(pid).split, rig.kernel.budgets(rig.proc(pid))
    rig.do(Checkpointed(source="user"))
    rig.boot()
    assert rig.proc(pid).split == kept
    assert rig.kernel.budgets(rig.proc(pid)) == limits
    rig.say(pid, told(99))
    fixed = Rig(program, *LEARNED[1:], disk=rig.disk, encoding="prose")
    assert fixed.kernel.budgets(fixed.proc(pid)).recall == 256
    talk(fixed, pid, 10, "before")
    assert fixed.proc(pid).split == rig.proc(pid).split, "and is kept for when it is learned again"


def test_where_nothing_is_recalled_nothing_is_learned() -> None:
    rig, pid = machine("memory.recall=0")
    talk(rig, pid, 30, "before")
    assert rig.proc(pid).split is None
    assert rig.kernel.budgets(rig.proc(pid)).recall == 0


def test_a_search_that_came_too_late_says_nothing() -> None:
    rig = Rig(echo, *LEARNED, encoding="prose")
    pid = rig.spawn(mask=ONLY_SPEAK)
    for n in range(60):
        rig.say(pid, told(n))
    rig.index.silent = True
    rig.say(pid, "key2?")
    wait = rig.proc(pid).wait
    assert wait is not None
    rig.do(Searched(source="index", pid=pid, req=wait.req, late=True))
    assert rig.proc(pid).ranked is None


@pytest.mark.parametrize("seed", range(6))
def test_power_cuts_leave_the_division_that_there_would_have_been(seed: int) -> None:
    whole, pid = machine("memory.join=true", "memory.policy=lru")
    talk(whole, pid, 40, "before")
    rig, pid = machine("memory.join=true", "memory.policy=lru")
    texts = [text for n in range(40) for text in ((told(n), "before") if n > 1 else (told(n),))]
    for n, text in enumerate(texts):
        rig.cut_at = (seed + n) % 7
        try:
            rig.say(pid, text, f"m{n}")
        except PowerCut:
            rig.cut_at = 0
            rig.boot()
            rig.pump()
            if rig.disk.get("mid", b"m%d" % n) is None:
                rig.say(pid, text, f"m{n}")
        rig.cut_at = 0
    assert rig.proc(pid).split == whole.proc(pid).split
    assert rig.proc(pid).space == whole.proc(pid).space
    assert not any(taken.why for taken in Replay(rig.disk, Table()).steps())


def test_of_passages_of_a_page_that_was_drawn_on_the_best_one_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, pid = machine()
    talk(rig, pid, 10, "key{}?")
    proc, seen = rig.proc(pid), []
    monkeypatch.setattr(Split, "observe", lambda _, age, tokens, ahead, low: seen.append((age, tokens, ahead)))
    first, drawn = (entry.page for entry in proc.space.queue[:2])
    proc.drawn = (drawn,)
    proc.ranked = (Ranked(first, 300, 40), Ranked(drawn, 400, 20), Ranked(first, 300, 30), Ranked(drawn, 400, 10))
    share.closed(rig.kernel, proc)
    assert seen == [(400, 20, [(300, 40)])]
