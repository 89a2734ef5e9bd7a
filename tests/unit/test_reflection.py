"""Reflection: facts found in what has left, with their pages and dates; what corrects what; core memory; trust."""

from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.cpu.scripted import echo
from drivers.disk import parcel
from kernel import records
from kernel.errors import SyscallError
from kernel.event import Filed
from kernel.limits import FACTS_SHOWN_MAX, ITEM_TOKENS_MAX, SUPERSEDED_MAX
from kernel.memory.page import Area, FactPage, Kind, Origin, Page, Role
from kernel.ports import Job
from kernel.process import State
from syscalls.decode import decode
from syscalls.grammar import grammar
from syscalls.table import Table
from tests.fakes import Rig, op
from tests.sim.test_crash import replayed

FACTS = Table.threads["reflection"][0]


def reflects(job: Job) -> bool:
    """Whether a job is the thread's."""
    return job.pages[0].text.endswith("said in it.")


def above(job: Job) -> list[Page]:
    """What the thread looks at."""
    return [page.page for page in job.pages if page.recalled and page.page.kind is not Kind.FACT]


def answers(job: Job) -> list[str]:
    """What it was answered in this item."""
    return [page.text for page in job.pages if page.page.kind is Kind.RESULT]


def once(make: Callable[[Job], str]) -> Callable[[Job], str]:
    """A program whose thread does one thing an item, and everybody else echoes."""

    def program(job: Job) -> str:
        if not reflects(job):
            return echo(job)
        return op("yield") if answers(job) else make(job)

    return program


def reflecting(make: Callable[[Job], str], *changes: str, turns: int = 30, **fields: object) -> tuple[Rig, int]:
    rig = Rig(once(make), "window=2048", "cpu.reply=100", "memory.reflect=true", "memory.fault=false", *changes)
    pid = rig.spawn(**fields)
    for n in range(turns):
        tell(rig, pid, n)
    return rig, pid


def tell(rig: Rig, pid: int, n: int) -> None:
    rig.say(pid, f"filler {n}: bread, weather, trains and again the weather")


def first(job: Job) -> str:
    """A fact of the first page above."""
    return op("fact", subject="Ana", text="likes bread", pages=[above(job)[0].id])


def facts(rig: Rig) -> list[FactPage]:
    """All facts, oldest first."""
    found = [records.fact_of(value) for _, value in rig.disk.scan("page")]
    return [page for page in found if page is not None]


def test_a_fact_is_a_page_of_the_archive_with_its_date_and_the_pages_it_rests_on() -> None:
    rig, pid = reflecting(first)
    page = facts(rig)[0]
    assert page.fact is not None
    (source,) = page.fact.rests
    assert (page.pid, page.kind, page.area, page.origin) == (pid, Kind.FACT, Area.ARCHIVE, Origin.PROCESS)
    assert page.text == f"Ana: likes bread (said 1970-01-01, page {source})"
    assert page.at == page.fact.said == rig.page(source).at
    assert rig.page(source).pid == pid
    assert source not in rig.proc(pid).space.resident()
    assert rig.proc(pid).facts == tuple(one.id for one in facts(rig))


def test_by_default_nothing_of_this_happens() -> None:
    rig, pid = reflecting(first, "memory.reflect=false")
    assert rig.proc(pid).accounts.evictions
    assert not rig.kernel.threads
    assert not facts(rig)


def test_a_fact_is_recalled_for_a_message_like_any_page() -> None:
    rig, pid = reflecting(lambda job: op("fact", subject="Ana", text="owns a zeppelin", pages=[above(job)[0].id]))
    rig = Rig(rig.program, "window=2048", "cpu.reply=100", "memory.reflect=true", disk=rig.disk)
    rig.say(pid, "zeppelin")
    seen = [page.page for job in rig.jobs if job.pid == pid for page in job.pages if page.recalled]
    assert Kind.FACT in {page.kind for page in seen}


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ({"pages": [1]}, "pages 1 do not stand above"),
        ({"pages": [99_999]}, "pages 99999 do not stand above"),
        ({"corrects": 7}, "fact 7 does not stand above"),
        ({"text": ""}, "Expected `str` of length >= 1"),
    ],
)
def test_a_fact_that_rests_on_nothing_above_is_refused(call: dict[str, object], why: str) -> None:
    def make(job: Job) -> str:
        return op("fact", **({"subject": "Ana", "text": "x", "pages": [above(job)[0].id]} | call))

    rig, _ = reflecting(make)
    assert not facts(rig)
    said = [answer for job in rig.jobs if reflects(job) for answer in answers(job)]
    assert said
    assert all(why in answer for answer in said)


def test_when_a_fact_holds_is_said_by_the_model_or_by_its_text() -> None:
    def make(job: Job) -> str:
        return op("fact", subject="Ana", text="moved on 5 May 1969", pages=[above(job)[0].id])

    rig, _ = reflecting(make)
    page = facts(rig)[0]
    assert page.fact is not None
    assert page.fact.holds == "1969-05-05"
    assert "holds 1969-05-05" in page.text


def correcting(job: Job) -> str:
    """A fact, and in each later pass one that corrects the last."""
    known = [page.page.id for page in job.pages if page.recalled and page.page.kind is Kind.FACT]
    text = f"lives in town {len(known)}"
    return op("fact", subject="Ana", text=text, pages=[above(job)[0].id], **({"corrects": known[-1]} if known else {}))


def test_what_is_corrected_is_found_no_more_and_not_shown_again() -> None:
    rig, pid = reflecting(correcting, "cpu.manual=whole", turns=70)
    made = facts(rig)
    assert len(made) > 2
    assert [page.fact.corrects for page in made if page.fact] == [0, *(page.id for page in made[:-1])]
    assert rig.proc(pid).superseded == tuple(page.id for page in made[:-1])
    assert rig.proc(pid).facts == (made[-1].id,)
    rig.program = rig.cpu.program = lambda job: op("search", query="town") if not answers(job) else op("yield")
    rig.say(pid, "where does Ana live?")
    found = [text for job in rig.jobs[-2:] for text in answers(job) if "results" in text][-1]
    assert f"(page {made[-1].id}, " in found
    assert not any(f"(page {page.id}, " in found for page in made[:-1])


def test_the_newest_facts_are_shown_to_the_next_pass_and_both_lists_are_bounded() -> None:
    rig, pid = reflecting(first, turns=60)
    made = [page.id for page in facts(rig)]
    shown = [
        [page.page.id for page in job.pages if page.recalled and page.page.kind is Kind.FACT]
        for job in rig.jobs
        if reflects(job) and not answers(job)
    ]
    assert shown[0] == []
    assert shown[-1] == made[:-1][-FACTS_SHOWN_MAX:]
    assert len(rig.proc(pid).facts) <= FACTS_SHOWN_MAX
    assert len(rig.proc(pid).superseded) <= SUPERSEDED_MAX


def from_a_file(make: Callable[[Job], str]) -> tuple[Rig, int]:
    """A process that has read a file's page, which has left its queue since."""
    rig = Rig(once(make), "window=2048", "cpu.reply=100", "memory.reflect=true", "memory.fault=false")
    pid = rig.spawn(blocks={"human": "Ana"})
    rig.do(Filed(source="user", pid=pid, parts=rig.cpus("The bank's new number is 555.", 100, "")))
    page = rig.kernel.counters.page
    rig.program = rig.cpu.program = lambda job: op("read", pages=[page]) if not answers(job) else op("yield")
    rig.say(pid, "read it")
    rig.program = rig.cpu.program = once(make)
    n = 0
    while not any(page in {one.id for one in above(job)} for job in rig.jobs if reflects(job)):
        tell(rig, pid, n)
        n += 1
    return rig, page


def test_what_is_made_of_a_file_is_a_files_and_stands_beside_nothing_else() -> None:
    rig, page = from_a_file(first)
    (job,) = [job for job in rig.jobs if reflects(job) and not answers(job) and page in {p.id for p in above(job)}]
    assert {one.origin for one in above(job)} == {Origin.FILE}
    assert not any(one.page.kind is Kind.FACT for one in job.pages), "facts of what was said stand elsewhere"
    (made,) = [one for one in facts(rig) if one.fact and page in one.fact.rests]
    assert (made.origin, made.role) == (Origin.FILE, Role.USER)
    said = [job for job in rig.jobs if reflects(job) and page not in {one.id for one in above(job)}]
    seen = {one.id: one.origin for job in said for one in above(job)}
    for one in facts(rig):
        rests = {seen[rest] for rest in one.fact.rests} if one.fact and one.id != made.id else set()
        assert one.id == made.id or (one.origin is Origin.FILE) >= (Origin.DERIVED in rests), "of the file, by a detour"


def test_core_memory_is_never_written_of_a_file() -> None:
    rig, page = from_a_file(lambda job: op("block", label="human", text="Ana; the bank is 555"))
    said = [text for job in rig.jobs if reflects(job) and page in {p.id for p in above(job)} for text in answers(job)]
    assert said == ["error: what stands above is a file's; core memory is written of what was said"]


def test_a_core_block_is_written_within_its_budget_and_is_in_view_at_once() -> None:
    rig, pid = reflecting(
        lambda job: op("block", label="human", text="Ana, who likes bread"), blocks={"human": "Ana", "persona": "Kind."}
    )
    assert rig.proc(pid).spec.blocks == {"human": "Ana, who likes bread", "persona": "Kind."}
    job = next(job for job in rig.jobs if reflects(job))
    assert "[human]\nAna\n\n[persona]\nKind." in job.pages[-1].text
    assert any("Ana, who likes bread" in text for text in rig.texts(pid))


@pytest.mark.parametrize(
    ("label", "text", "why"),
    [("human", "word " * 45, "core memory would have"), ("nobody", "x", "no block nobody; blocks are human")],
)
def test_a_block_that_does_not_fit_or_is_not_there_is_refused(label: str, text: str, why: str) -> None:
    rig, pid = reflecting(lambda job: op("block", label=label, text=text), "memory.data=0.03", blocks={"human": "Ana"})
    assert rig.proc(pid).spec.blocks == {"human": "Ana"}
    assert any(why in text for job in rig.jobs if reflects(job) for text in answers(job))


def test_a_pass_is_bounded_and_its_process_is_none_the_worse() -> None:
    def endless(job: Job) -> str:
        return first(job) if reflects(job) else echo(job)

    rig = Rig(endless, "window=8192", "cpu.reply=100", "memory.reflect=true", "memory.fault=false")
    pid = rig.spawn()
    n = 0
    while not rig.kernel.threads:
        tell(rig, pid, n)
        n += 1
    (own,) = rig.kernel.threads
    assert rig.proc(own).accounts.emitted <= (ITEM_TOKENS_MAX + 100) * rig.proc(own).accounts.turns
    assert (rig.proc(own).state, rig.proc(pid).state) == (State.IDLE, State.IDLE)
    assert not rig.proc(own).space.queue


def test_summaries_and_facts_are_made_beside_each_other() -> None:
    def program(job: Job) -> str:
        if job.pages[0].text.endswith("asked in it."):
            return op("send_message", text="They spoke of bread.")
        return once(first)(job)

    rig = Rig(program, "window=2048", "cpu.reply=100", "memory.reflect=true", "memory.on_evict=summary", slots=2)
    pid = rig.spawn()
    for n in range(60):
        tell(rig, pid, n)
    assert [rig.proc(own).name for own in rig.kernel.threads] == ["[summary]", "[reflection]"]
    assert facts(rig)
    assert rig.proc(pid).space.queue[0].kind is Kind.SUMMARY
    rig.boot()
    for n in range(30):
        tell(rig, pid, n)
    assert len(rig.kernel.threads) == 2
    assert replayed(rig) == rig.kernel.hash


@pytest.mark.parametrize("encoding", ["json", "prose"])
def test_the_grammar_of_a_thread_leaves_nothing_but_its_calls(encoding: str) -> None:
    lark = grammar(FACTS, encoding)
    assert lark is not None
    assert lark.splitlines()[0] == ("start: yield | fact | block" if encoding == "json" else 'start: "!" call')
    with pytest.raises(SyscallError, match="not allowed"):
        decode("hello", "prose", FACTS, truncated=False)


def test_prose_models_reflect_too() -> None:
    rig = Rig(
        lambda job: (
            f"you said {len(job.pages)} things"
            if not reflects(job)
            else "!" + (first(job) if not answers(job) else op("yield"))
        ),
        "window=2048",
        "cpu.reply=100",
        "memory.reflect=true",
        "memory.fault=false",
        encoding="prose",
    )
    pid = rig.spawn(mask=("send_message",))
    for n in range(50):
        tell(rig, pid, n)
    assert facts(rig)
    assert replayed(rig) == rig.kernel.hash


def test_in_an_export_a_fact_is_a_text_of_the_archive(tmp_path: Path) -> None:
    rig, pid = reflecting(first)
    parcel.write(rig.disk, pid, tmp_path / "p", 7)
    texts = [page.text for page in facts(rig)]
    assert [page.text for page in parcel.read(tmp_path / "p").pages if page.kind is Kind.ARCHIVE] == texts
