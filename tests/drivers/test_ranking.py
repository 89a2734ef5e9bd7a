"""What a search finds and how likely it is: places, vectors with their neighbours, passages, the turn before."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.cpu.scripted import ScriptedCpu
from drivers.disk.memory import MemoryDisk
from drivers.index import fts, fused, hnsw, relevance
from drivers.index.fts import PART_BITS, PAUSE_NS
from drivers.index.passages import passages
from kernel.boot import Board, boot
from kernel.event import Hit, Search, Searched
from kernel.limits import NS
from kernel.memory.page import Area, Kind, Origin, Page, Role
from kernel.ports import Job, Record
from kernel.replay import Replay
from kernel.settings import Settings, apply
from kernel.spec import Spec
from syscalls.table import Table
from tests.drivers.test_index import BOTH, EMBEDDER, Bench, chatter, everything, vectors

REACH = max(relevance.REACHES)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "index")
    yield made
    made.index.close()


# Places


def page(number: int, at: int, text: str = "x", pid: int = 1, area: Area = Area.RECALL) -> Page:
    return Page(number, pid, number, Kind.MESSAGE, Origin.USER, Role.USER, area, at, text)


def lexical(pages: Sequence[Page], batch: int = 1_000, *, reopened: bool = False) -> fts.Lexical:
    """The words of pages, added `batch` at a time; `reopened`: each time by another object."""
    sql = sqlite3.connect(":memory:", isolation_level=None)
    sql.executescript(fts.SCHEMA)
    found = fts.Lexical(sql)
    for at in range(0, len(pages), batch):
        found = fts.Lexical(sql) if reopened else found
        found.add([one for some in pages[at : at + batch] for one in fts.divided(some)])
    return found


def docs(pages: Sequence[Page], found: fts.Lexical) -> list[fts.Doc]:
    """The stored passages of pages, in their order."""
    units = [(one.pid, part.unit) for one in pages for part in fts.divided(one)]
    by_pid = {pid: found.docs(pid, [unit for other, unit in units if other == pid]) for pid, _ in units}
    return [by_pid[pid][unit] for pid, unit in units]


LONG = " ".join(f"Sentence {n} of a long page says nothing that matters to anybody." for n in range(30))
steps = st.lists(
    st.tuples(
        st.sampled_from([0, NS, PAUSE_NS, PAUSE_NS + 1, 10 * PAUSE_NS]),
        st.sampled_from([1, 2]),
        st.sampled_from(BOTH),
        st.sampled_from(["x", LONG]),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(steps, st.integers(1, 5))
def test_neighbours_are_what_was_said_next_to_it_and_never_over_a_pause_or_into_another_area(rows, batch):
    at, pages = 10**18, []
    for number, (step, pid, area, text) in enumerate(rows, 1):
        at += step
        pages.append(page(number, at, text, pid, area))
    stored = docs(pages, lexical(pages))
    assert stored == docs(pages, lexical(pages, batch)) == docs(pages, lexical(pages, batch, reopened=True))
    said: dict[tuple[int, Area], list[fts.Doc]] = {}
    parts = [each for each in pages for _ in fts.divided(each)]
    for doc, one in zip(stored, parts, strict=True):
        said.setdefault((one.pid, one.area), []).append(doc)
    for group in said.values():
        for first, second in zip(group, group[1:], strict=False):
            apart = second.place - first.place
            assert apart > REACH if second.at - first.at > PAUSE_NS else apart == 1
    for pid in (1, 2):
        ends = [doc.place for area in BOTH for doc in said.get((pid, area), [])]
        assert len(ends) == len(set(ends))
        spoken, kept = ([doc.place for doc in said.get((pid, area), [])] for area in (Area.RECALL, Area.ARCHIVE))
        assert not spoken or not kept or min(kept) - max(spoken) > REACH


def test_beside_gives_what_stands_in_places_of_the_process_up_to_the_last_page_without_its_own():
    pages = [page(n, n * NS, f"word{n}", pid=1 + n % 2) for n in range(1, 21)]
    found = lexical(pages)
    mine = {doc.place: doc for doc in docs([one for one in pages if one.pid == 1], found)}
    places = sorted(mine)
    assert found.beside(places, everything()) == mine
    assert found.beside([places[0] - 1, places[-1] + 1, 10**9], everything()) == {}
    assert set(found.beside(places, everything(upto=10))) == {place for place in places if mine[place].page <= 10}
    assert set(found.beside(places, everything(), [2, 4])) == {
        place for place in places if mine[place].page not in (2, 4)
    }
    assert found.beside(places, everything(pid=3)) == {}
    assert found.beside([], everything()) == {}


def test_no_process_is_given_a_passage_of_another_by_its_unit():
    pages = [page(n, n, LONG, pid=n) for n in (1, 2)]
    found = lexical(pages)
    units = [one.unit for one in fts.divided(pages[0])]
    assert len(units) > 3
    assert set(found.docs(1, units)) == set(units)
    assert found.docs(2, units) == {}


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("東京", "私は東京に住んでいます。"),
        ("北京", "我住在北京。"),
        ("서울", "나는 서울에 산다"),
        ("猫叫什么名字？", "我的猫叫小白。"),
    ],
)
def test_words_of_scripts_without_spaces_are_found(bench: Bench, query: str, text: str) -> None:
    bench.tell(*chatter(50), "我喜欢喝茶。", "今日は雨です。")
    (told,) = bench.tell(text)
    bench.tell(*chatter(50, seed=2))
    hit = bench.ask(query).hits[0]
    assert hit.page == told
    assert hit.cover > 0


# Vectors and their neighbours


def made_space(rows: hnsw.Floats, ats: Sequence[int], batch: int = 500) -> hnsw.Space:
    space = hnsw.Space(256, 10_000)
    for at in range(0, len(rows), batch):
        part = rows[at : at + batch].astype(np.float16)
        units = np.arange(at + 1, at + 1 + len(part), dtype=np.int64) << PART_BITS
        space.add(hnsw.Chunk(1, Area.RECALL, units, np.array(ats[at : at + len(part)], np.int64), part))
    return space


def slowly(
    rows: hnsw.Floats, ats: Sequence[int], numbers: Sequence[int], asked: hnsw.Floats, told: hnsw.Floats, end: int
) -> list[tuple[float, float]]:
    """What Space.among says, by its text."""
    wide = rows[:end].astype(np.float16).astype(np.float64)
    asked, told = (one.astype(np.float16).astype(np.float64) for one in (asked, told))
    mean = wide.mean(axis=0).astype(np.float16).astype(np.float64)
    found = []
    for n in numbers:
        shares = {n: 1.0}
        for other in (n - 1, n + 1):
            if 0 <= other < end and abs(ats[other] - ats[n]) <= PAUSE_NS:
                shares[other] = 0.5
        whole = sum(share * wide[other] for other, share in shares.items())
        moved = sum(share * (wide[other] - mean) for other, share in shares.items())
        lean = np.linalg.norm(moved) * np.linalg.norm(told - mean)
        found.append((float(whole @ asked / np.linalg.norm(whole)), float(moved @ (told - mean) / lean)))
    return found


def paused(n: int) -> list[int]:
    """Times of which some lie more than a pause apart."""
    draw, at, ats = random.Random(5), 10**18, []
    for _ in range(n):
        at += draw.choice([NS, NS, PAUSE_NS, PAUSE_NS + 1])
        ats.append(at)
    return ats


def test_among_is_the_cosine_with_the_neighbours_at_half_weight_and_with_the_mean_taken_off():
    rows, ats = vectors(300) + np.float32(0.05), paused(300)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    space = made_space(rows, ats)
    asked, told = vectors(2, seed=3)
    for end in (300, 120, 2):
        numbers = [n for n in (0, 1, 2, 50, 118, 119, 120, 298, 299) if n < end]
        units = np.array([n + 1 for n in numbers], np.int64) << PART_BITS
        near, centred = space.among(asked, told, units, end)
        expected = slowly(rows, ats, numbers, asked, told, end)
        assert near.tolist() == pytest.approx([one for one, _ in expected], abs=1e-9)
        if end > 2:  # of two, and the mean of them, nothing is left
            assert centred.tolist() == pytest.approx([one for _, one in expected], abs=1e-6)


def test_among_has_the_same_bits_whatever_the_batches_and_whatever_came_later(tmp_path: Path) -> None:
    rows, ats = vectors(400), paused(400)
    asked, told = vectors(2, seed=3)
    units = np.arange(1, 251, dtype=np.int64) << PART_BITS
    whole = [one.tolist() for one in made_space(rows, ats).among(asked, told, units, 250)]
    for batch in (1, 7, 128):
        assert [one.tolist() for one in made_space(rows, ats, batch).among(asked, told, units, 250)] == whole
        part = made_space(rows[:250], ats[:250], batch)
        assert [one.tolist() for one in part.among(asked, told, units, 250)] == whole, "as if nothing had come"
    sql = sqlite3.connect(":memory:", isolation_level=None)
    sql.executescript(hnsw.SCHEMA)
    spaces = hnsw.Spaces(sql, tmp_path, 256, 10_000)
    said = [fts.Passage(n + 1 << PART_BITS, page(n + 1, ats[n]), 0, 0, "x") for n in range(400)]
    for at in range(0, 400, 7):
        spaces.admit(spaces.add(said[at : at + 7], rows[at : at + 7]))
    again = hnsw.Spaces(sql, tmp_path, 256, 10_000)
    scope = everything(upto=250)
    one, other = (some.among(asked, told, {Area.RECALL: units.tolist()}, scope) for some in (spaces, again))
    assert one == other == dict(zip(units.tolist(), zip(*whole, strict=True), strict=True))


# Questions


QUESTIONS = (
    "Where is the boat?", "where is the boat", "So, what did she say", "Remind me of the name of the boat.",
    "Nice weather today. Do you remember the boat?", "¿Dónde está el barco?", "dónde está el barco",
    "Cuántos hermanos tiene Ana", "Wo liegt das Boot?", "wie heißt der Hund", "Wann kommt er", "Où est le bateau ?",
    "quel est le nom du chien", "Comment s'appelle le chien", "船在哪里？", "他叫什么名字", "你去过北京吗",
    "船はどこですか。", "誰が来ましたか", "いつ出発しますか？",
)  # fmt: skip
STATEMENTS = (
    "The boat is blue.", "I bought bread and it rained.", "My sister lives in Oslo!", "El barco es azul.",
    "Mi hermana vive en Madrid.", "Das Boot ist blau.", "Meine Schwester wohnt in Köln.", "Le bateau est bleu.",
    "Ma sœur habite à Lyon.", "船是蓝色的。", "我住在北京。", "船は青いです。", "私は東京に住んでいます。", "", "...",
)  # fmt: skip


@pytest.mark.parametrize("message", QUESTIONS)
def test_a_question_asks(message: str) -> None:
    assert relevance.asks(message)


@pytest.mark.parametrize("message", STATEMENTS)
def test_a_statement_asks_nothing(message: str) -> None:
    assert not relevance.asks(message)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300))
def test_any_text_asks_or_does_not(message: str) -> None:
    assert relevance.asks(message + "?") or message.endswith(("?",))


@pytest.mark.parametrize(
    "passage",
    [
        "Where is the boat?",
        "Ada: How was your day? Did you sleep?",
        "你的船在哪里？",
        "¿Dónde está el barco?",
        "What time do I get up? Return in the format of HH:MM AM/PM (e.g. 01:30 AM).",
        "Wait, what team am I supposed to send the proposal to?",
    ],
)
def test_a_passage_that_only_asks_says_nothing(passage: str) -> None:
    assert relevance.only_asks(passage)


@pytest.mark.parametrize(
    "passage",
    [
        "The boat is red.",
        "Be quick.",
        "The boat is red. Do you like it?",
        "Did I tell you that the boat is red?",
        "So, did you know that my sister has a boat?",
        "Ada: Guess what, the boat sank?",
        "我告诉过你船是红色的吗？",
        "Habe ich dir erzählt, dass das Boot rot ist?",
    ],
)
def test_one_that_tells_something_does(passage: str) -> None:
    assert not relevance.only_asks(passage)


@pytest.mark.parametrize(
    "message",
    [
        "What did you just say?",
        "Which films did you recommend?",
        "What was your last point?",
        "Was hast du gesagt?",
        "¿Qué me dijiste?",
        "你刚才说什么？",
    ],
)
def test_a_message_may_ask_for_what_the_process_said(message: str) -> None:
    assert relevance.asks_back(message)
    assert not relevance.asks_back("What did my sister say about the boat?")
    assert not relevance.asks_back("Do you know where I left my keys?")


def test_what_is_found_for_talk_that_asks_nothing_is_less_likely(bench: Bench) -> None:
    bench.tell(*chatter(100), "Marta was born in Lisbon.", *chatter(100, seed=2))
    question, statement = bench.tell("Was Marta born in Lisbon?", "Marta was born in Lisbon, I say.")
    asked = bench.ask(pages=(question,), exclude=(statement,)).hits[0]
    said = bench.ask(pages=(statement,), exclude=(question,)).hits[0]
    assert asked.page == said.page == 101
    assert asked.score > 20 * said.score > 0


# Passages and turns


FACT = "The lighthouse key lies under the blue stone behind the chapel."


def buried(fact: str, at: int, seed: int = 1, sentences: int = 40) -> str:
    """A long text that says a fact in one of its sentences."""
    said = [f"{text.capitalize()}." for text in chatter(sentences, seed)]
    return " ".join([*said[:at], fact, *said[at:]])


@pytest.mark.parametrize("at", [0, 20, 40])
def test_of_a_long_page_the_passage_that_matters_is_found_with_its_span(bench: Bench, at: int) -> None:
    bench.tell(*chatter(50))
    text = buried(FACT, at)
    (told,) = bench.tell(text)
    bench.tell(*chatter(50, seed=2))
    query = "Where does the lighthouse key lie?"
    (question,) = bench.tell(query)
    searched, faulted = bench.ask(query, exclude=(question,)), bench.ask(pages=(question,))
    for answer in (searched, faulted):
        (hit,) = [one for one in answer.hits[:2] if one.page == told and FACT in text[one.start : one.end]]
        assert at == 40 or hit == answer.hits[0], "a passage of one sentence may stand behind the one before it"
        assert (hit.start, hit.end) in passages(text)
        assert hit.cover == 1.0
        assert hit.end - hit.start < len(text) / 4
        assert hit.text == (text[hit.start : hit.end] if answer is searched else "")
        spans = [(one.start, one.end) for one in answer.hits if one.page == told]
        assert len(spans) == len(set(spans))
    assert told not in bench.found("lighthouse key", exclude=(told,)), "all passages of a page are left out with it"


def test_a_page_whose_gist_is_searched_is_one_passage(bench: Bench) -> None:
    (said,) = bench.pages(['{"op":"send_message"}'])
    said = msgspec.structs.replace(said, gist=buried(FACT, 20))
    bench.commit([said])
    bench.index.feed(said.id)
    (hit,) = bench.ask("lighthouse key").hits
    assert (hit.start, hit.end, hit.text) == (0, 0, said.gist)


def test_what_was_said_twice_is_recalled_once_and_the_newer_one(bench: Bench) -> None:
    first = bench.tell(*chatter(40), "Marta was born in Lisbon.")[-1]
    second = bench.tell(*chatter(40, seed=2), "Marta was born in Lisbon.")[-1]
    (question,) = bench.tell(*chatter(40, seed=3), "Where was Marta born?")[-1:]
    found = bench.found(pages=(question,))
    assert len({first, second} & set(found)) == 1
    assert {first, second} <= set(bench.found("Where was Marta born?")), "who searches sees both"
    bench.tell("MARTA was born in Lisbon!!")
    hits = bench.ask(pages=(question,)).hits
    assert len([hit for hit in hits if hit.cover > 0.5]) == 1


def test_a_message_that_says_little_is_widened_by_the_turn_before_it(bench: Bench) -> None:
    bench.tell(*chatter(100))
    (told,) = bench.tell("The quartet gave its concert in Antwerp.")
    bench.tell(*chatter(100, seed=2))
    before = bench.tell("Do you recall the concert of the quartet?", "It was a fine evening.")
    (question,) = bench.tell("And where was that?")
    rest = {"exclude": tuple(range(before[0] - 10, question)), "limit": 48}  # what was said last is in view
    alone = {hit.page: hit.score for hit in bench.ask(pages=(question,), **rest).hits}
    wider = bench.ask(pages=(question,), before=tuple(before), **rest).hits
    assert wider[0].page == told
    assert wider[0].score > 2 * alone.get(told, 0.0)
    (full,) = bench.tell("Where is the violin museum with the spider?")
    hits = [bench.ask(pages=(full,), before=turn, **rest).hits for turn in ((), tuple(before))]
    assert hits[0] == hits[1], "one that says enough is not"


def test_scores_are_probabilities_in_order(bench: Bench) -> None:
    bench.tell(*chatter(100), buried(FACT, 20), *chatter(60, seed=2))
    for query in ("Where does the lighthouse key lie?", "garden violin", "note 7", "zzz", "lighthouse"):
        scores = [hit.score for hit in bench.ask(query, limit=300).hits]
        assert scores == sorted(scores, reverse=True)
        assert all(0.0 <= score <= 1.0 for score in scores)
        assert scores == [round(score, relevance.SCORE_DIGITS) for score in scores]


@settings(deadline=None)
@given(st.lists(st.floats(0.0, 20.0), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_who_has_all_words_has_a_share_of_one_in_whatever_order_they_are_added(idf, draw):
    matched = list(range(len(idf)))
    draw.shuffle(matched)
    terms = tuple(fts.Term(f"w{at}", name=False) for at in matched)
    weights = fts.Weights(terms, (1,) * len(idf), tuple(idf), tuple(matched))
    here, flags = np.array([5], np.int64), np.array([True])
    found = fts.Matches([here] * len(idf), [here] * len(idf), [flags] * len(idf))
    shares = relevance.shares(weights, found, np.array([5, 6, 7]), 1).tolist()
    assert shares == ([1.0, 1.0, 0.0] if weights.total else [0.0, 0.0, 0.0])
    part = msgspec.structs.replace(weights, matched=tuple(matched[1:]))
    less = fts.Matches(found.units[1:], found.places[1:], found.allowed[1:])
    assert 0.0 <= relevance.shares(part, less, here, 0)[0] <= 1.0


# The same answers however the pages came


def asked(last: int, question: int, before: tuple[int, ...]) -> list[Search]:
    plain = [
        Search(pid=1, req=0, area=BOTH, query=query, upto=upto, limit=500)
        for query in ("lighthouse key", "the garden and the violin", "Where was Marta born?")
        for upto in (last, last - 40)
    ]
    fault = [
        Search(pid=1, req=0, area=BOTH, pages=(question,), before=turn, upto=last, limit=48, exclude=(question,))
        for turn in ((), before)
    ]
    return plain + fault


@pytest.mark.parametrize("exact_max", [10_000, 40])
def test_passages_score_the_same_in_whatever_batches_they_came_and_after_restarts(
    tmp_path: Path, exact_max: int
) -> None:
    first = Bench(tmp_path / "pages")
    first.tell(
        *chatter(60), buried(FACT, 20), *chatter(30, seed=2), "Marta was born in Lisbon.", buried(FACT, 3, seed=4)
    )
    first.tell(*chatter(20, seed=5), "Marta likes parrots.", area=Area.ARCHIVE)
    first.tell(*chatter(30, seed=6), buried("Otto has the key.", 9, seed=7))
    *before, question = first.tell("Marta came with Otto.", "She brought the key.", "And where was that?")
    first.index.close()
    pages = [msgspec.msgpack.decode(raw, type=Page) for _, raw in first.disk.scan("page")]
    pages = [msgspec.structs.replace(one, at=one.at + (one.id // 25) * 2 * PAUSE_NS) for one in pages]
    first.disk.commit([Record("page", one.id.to_bytes(8, "big"), msgspec.msgpack.encode(one)) for one in pages])
    searches = asked(len(pages), question, tuple(before))
    whole: list[tuple[list[Hit], bool]] | None = None
    for batch in (1, 7, 128):
        folder = tmp_path / f"by{batch}"
        store = fused._Store.open(folder, first.disk, EMBEDDER, exact_max)
        for at in range(0, len(pages), batch):
            store.apply(pages[at : at + batch])
            if at % 3 == 0:
                store.search(searches[-1])  # loads the spaces, which grow from now on
        answers = [store.search(what) for what in searches]
        whole = whole or answers
        assert any(hit.end for hits, _ in whole for hit in hits)
        assert answers == whole, f"{batch} at a time"
        while store.tidy():
            pass
        store.close(clean=True)
        store = fused._Store.open(folder, first.disk, EMBEDDER, exact_max)
        assert not store.anew
        assert [store.search(what) for what in searches] == whole, f"{batch} at a time, restarted"
        store.close(clean=True)
        shutil.rmtree(folder)
    rebuilt = Bench(tmp_path / "again", first.disk, exact_max=exact_max)
    found: list[Searched] = []
    for what in searches:
        fields = {name: getattr(what, name) for name in ("query", "pages", "before", "upto", "limit", "exclude")}
        found.append(rebuilt.ask(**fields))
    assert whole is not None
    assert [[msgspec.structs.replace(hit, tokens=0) for hit in one.hits] for one in found] == [
        hits for hits, _ in whole
    ]
    rebuilt.index.close()


async def test_a_machine_shows_the_passage_of_a_long_page_that_left_and_nothing_else_of_it(tmp_path: Path) -> None:
    text = buried(FACT, 6, sentences=12)
    jobs: list[Job] = []

    def program(job: Job) -> str:
        jobs.append(job)
        return "noted"

    disk = MemoryDisk()
    index = fused.FusedIndex(tmp_path, disk, EMBEDDER)
    changes = ["window=8192", "cpu.reply=200", "memory.low=0.05", "memory.worth=0.1", "cpu.encoding=prose"]
    machine = await boot(Board(ScriptedCpu(program), disk, index, apply(Settings(), changes)), Table())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(machine.run)
        pid = (await machine.requests.spawn(Spec("p", ("send_message",)))).pid
        said = [text, *(" ".join(chatter(20, seed)) for seed in range(20)), "Where does the lighthouse key lie?"]
        for n, one in enumerate(said):
            await machine.requests.message(pid, f"m{n}", one)
            while machine.kernel.procs[pid].in_turn or machine._inbox:
                await trio.sleep(0.001)
        machine.stop()
    index.close()
    assert not index.damaged
    assert jobs[0].pages[-1].text == text, "it is one page"
    assert not any(seen.page.text == text for seen in jobs[-1].pages if not seen.recalled), "it has left"
    shown = [seen for seen in jobs[-1].pages if seen.recalled and seen.page.text == text]
    assert any(FACT in seen.text for seen in shown)
    assert all((seen.start, seen.end) in passages(text) for seen in shown)
    assert sum(len(seen.text) for seen in shown) < len(text) / 2
    assert not any(taken.why for taken in Replay(disk, Table()).steps())


def test_a_query_of_identifiers_finds_them_whole_or_nothing(bench: Bench) -> None:
    kept = bench.tell(
        "key 9d4245f5-a60c-4adf has value 675c927d-9ec2-4e6a",
        "key 675c927d-9ec2-4e6a has value 754e8d4c-0945-44b8",
        "key d61c3ed5-a60c-4db9 has value e3460bf0-9576-4aac",
    )
    assert [hit.page for hit in bench.ask("9d4245f5-a60c-4adf").hits] == kept[:1]
    assert {hit.page for hit in bench.ask("675c927d-9ec2-4e6a?").hits} == set(kept[:2])
    assert bench.ask("754e8d4c-0945-4adf").hits == ()
