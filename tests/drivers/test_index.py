"""The index: real SQLite, real vectors, real graphs, in a folder of its own; the truth is a disk in memory."""

import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drivers.disk.lmdb import LmdbDisk
from drivers.disk.memory import MemoryDisk
from drivers.embed.wordllama import WordLlamaEmbedder
from drivers.index import fts, hnsw, ranking
from drivers.index import fused as module
from drivers.index.fts import PART_BITS
from drivers.index.fused import FusedIndex
from kernel.event import Hit, Search, Searched, SearchOf
from kernel.limits import NS
from kernel.memory.page import Area, Kind, Origin, Page, Role
from kernel.ports import Disk, Record

ROOT = Path(__file__).parents[2]
EMBEDDER = WordLlamaEmbedder()
BOTH = (Area.RECALL, Area.ARCHIVE)
TOPICS = ("garden", "boat", "violin", "bread", "winter", "museum", "rocket", "spider", "cheese", "letter", "bridge")


def sized(hits: Iterable[Hit]) -> list[Hit]:
    return [msgspec.structs.replace(hit, tokens=1_000 + hit.page) for hit in hits]


class Bench:
    """A truth and an index over it, with what it posted."""

    def __init__(self, folder: Path, disk: Disk | None = None, **kwargs: int) -> None:
        self.folder = folder
        self.disk = disk or MemoryDisk()
        self.kwargs = kwargs
        last = self.disk.scan("page", reverse=True, limit=1)
        self.page = int.from_bytes(last[0][0], "big") if last else 0
        self.seq: dict[int, int] = {}
        self.req = 0
        self.posted: dict[int, Searched] = {}
        self.arrived = threading.Condition()
        self.index = self.start()

    def start(self, embedder: ranking.Embedder = EMBEDDER) -> FusedIndex:
        self.index = FusedIndex(self.folder, self.disk, embedder, **self.kwargs)
        self.index.start(self._post, sized)
        return self.index

    def restart(self) -> None:
        self.index.close()
        self.start()

    def _post(self, event: object) -> None:
        assert isinstance(event, Searched)
        with self.arrived:
            self.posted[event.req] = event
            self.arrived.notify_all()

    def pages(self, texts: Iterable[str], pid: int = 1, area: Area = Area.RECALL) -> list[Page]:
        made = []
        for text in texts:
            self.page += 1
            self.seq[pid] = self.seq.get(pid, 0) + 1
            made.append(
                Page(self.page, pid, self.seq[pid], Kind.MESSAGE, Origin.USER, Role.USER, area, self.page * NS, text)
            )
        return made

    def commit(self, pages: list[Page]) -> list[Page]:
        self.disk.commit([Record("page", p.id.to_bytes(8, "big"), msgspec.msgpack.encode(p)) for p in pages])
        return pages

    def tell(self, *texts: str, pid: int = 1, area: Area = Area.RECALL) -> list[int]:
        pages = self.commit(self.pages(texts, pid, area))
        self.index.feed(pages[-1].id)
        return [page.id for page in pages]

    def ask(self, query: str = "", **kwargs: object) -> Searched:
        self.req += 1
        options = {"pid": 1, "area": BOTH, "upto": self.page, "query": query} | kwargs
        self.index.search((SearchOf if "whose" in options else Search)(req=self.req, **options))
        with self.arrived:
            assert self.arrived.wait_for(lambda: self.req in self.posted, timeout=60)
        return self.posted[self.req]

    def found(self, query: str = "", **kwargs: object) -> list[int]:
        answer = self.ask(query, **kwargs)
        assert not answer.late, self.index.damaged
        return [hit.page for hit in answer.hits]


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "index")
    yield made
    made.index.close()


def chatter(n: int, seed: int = 1) -> list[str]:
    draw = random.Random(seed)
    return [
        f"{draw.choice(TOPICS)} and {draw.choice(TOPICS)} were mentioned with the {draw.choice(TOPICS)}, note {n}"
        for n in range(n)
    ]


def test_a_hit_carries_what_the_page_says(bench):
    bench.tell(*chatter(30))
    (page,) = bench.tell("Marta was born in Lisbon.")
    hit = bench.ask("Where was Marta born?").hits[0]
    assert (hit.page, hit.seq, hit.role, hit.at) == (page, 31, Role.USER, page * NS)
    assert (hit.text, hit.tokens) == ("Marta was born in Lisbon.", 1_000 + page)
    assert hit.score > 0


def test_a_uuid_is_found_exactly_among_near_misses(bench):
    ids = bench.tell(
        "3f2504e0-4f89-11d3-9a0c-0305e82c3301 is the key",
        "3f2504e0-4f89-11d3-9a0c-0305e82c3302 is the key",
        "0305e82c3301-9a0c-11d3-4f89-3f2504e0 is the key",
    )
    answer = bench.ask("value of 3f2504e0-4f89-11d3-9a0c-0305e82c3302?")
    assert answer.hits[0].page == ids[1]
    assert answer.hits[0].cover > 0.5 > answer.hits[1].cover


def test_a_search_sees_what_was_fed_before_it(bench):
    for n in range(20):
        (page,) = bench.tell(f"the code of room{n} is four")
        assert bench.found(f"room{n}")[0] == page


def test_meaning_alone_finds_a_page_fed_after_the_first_search(bench):
    bench.tell(*chatter(20))
    bench.found("anything")
    (page,) = bench.tell("The physician resides by a fjord.")
    assert page in bench.found("Where does our doctor live?")


def test_archives_of_others_are_searched_as_one_and_nothing_else_of_theirs_is(bench):
    for pid in (1, 2, 3):
        bench.tell(*chatter(20, pid), pid=pid)
        bench.tell("the bakery in the harbour opens at six", pid=pid)  # said, and not in the archive
    bakery = {
        pid: bench.tell(f"the bakery in the harbour of town {pid} opens at six", pid=pid, area=Area.ARCHIVE)[0]
        for pid in (1, 2, 3)
    }
    theirs = bench.found("When does the bakery in the harbour open?", area=(), whose=(2, 3))
    assert set(theirs[:2]) == {bakery[2], bakery[3]}
    assert bench.found("When does the bakery in the harbour open?", area=(), whose=(3,)) == [bakery[3]]
    answer = bench.ask("When does the bakery in the harbour open?", whose=(2,), limit=1)
    assert answer.more
    mine = bench.ask("When does the bakery in the harbour open?").hits
    other = bench.ask("When does the bakery in the harbour open?", pid=2, area=(Area.ARCHIVE,)).hits
    assert answer.hits[0].score == max(hit.score for hit in (*mine, *other)), "as likely as by itself"
    rest = bench.found("When does the bakery in the harbour open?", whose=(2,), cursor=1, limit=50)
    assert {bakery[1], bakery[2]} <= {answer.hits[0].page, *rest}
    asked = bench.tell("When does the bakery in the harbour open?")
    fault = bench.ask(pages=tuple(asked), whose=(2,))
    assert bakery[2] in [hit.page for hit in fault.hits], "a demand fault too"
    assert bench.found("bakery", area=(), whose=(9,)) == [], "of who is no more"


def test_no_hit_is_ever_another_processes(bench):
    for text in chatter(60):
        for pid in (1, 2, 3):
            bench.tell(text, pid=pid)
    mine = set(bench.tell("violin of pid two", pid=2)) | {page for page in range(1, 181) if (page - 1) % 3 == 1}
    found = bench.found("violin garden boat note", pid=2, limit=200)
    assert len(found) == len(set(found))
    assert set(found) <= mine
    assert len(found) > 30
    assert bench.found("violin garden", pid=9) == []
    assert set(bench.found("", pid=2, limit=200)) == mine


def test_what_other_processes_hold_changes_no_score(bench, tmp_path):
    alone = Bench(tmp_path / "alone")
    for text in chatter(40):
        bench.tell(text, pid=1)
        bench.tell(f"violin violin {text}", pid=2)
        alone.tell(text, pid=1)
    query = "the violin in the garden"
    assert [(h.seq, h.score, h.cover) for h in bench.ask(query).hits] == [
        (h.seq, h.score, h.cover) for h in alone.ask(query).hits
    ]
    alone.index.close()


def test_areas_times_and_exclusions_are_kept(bench):
    said = bench.tell("the violin is red", "the violin is blue", "the violin is green")
    kept = bench.tell("the violin is old", area=Area.ARCHIVE)
    bench.tell("the violin is nowhere", area=Area.NONE)
    assert set(bench.found("violin")) == {*said, *kept}
    assert bench.found("violin", area=(Area.ARCHIVE,)) == kept
    assert set(bench.found("violin", area=(Area.RECALL,))) == set(said)
    assert set(bench.found("violin", exclude=(said[0], kept[0]))) == set(said[1:])
    assert bench.found("violin", since=said[1] * NS, until=said[2] * NS) == [said[1]]
    assert bench.found("violin", since=99 * NS) == []
    assert bench.found("", since=said[1] * NS) == [said[1], said[2], kept[0]]
    assert bench.found("", until=said[2] * NS, area=(Area.RECALL,)) == said[:2]
    assert set(bench.found("violin", upto=said[1])) == set(said[:2])
    assert bench.index.applied == kept[0] + 1  # a page of no area is applied, and found nowhere


def test_what_was_said_right_beside_a_match_is_found_too_within_its_area(bench):
    before, hit, after = bench.tell("We shall bring something.", "Candles, said Ruth.", "And matches then.")
    (kept,) = bench.tell("Ruth likes candles", area=Area.ARCHIVE)
    bench.tell(*chatter(200))
    (question,) = bench.tell("What did Ruth say about candles?")
    found = bench.found(pages=(question,), area=(Area.RECALL,))
    assert found[0] == hit
    assert {before, after} < set(found[:10])
    assert kept not in found
    assert after not in bench.found(pages=(question,), exclude=(after,))
    assert after not in bench.found(pages=(question,), until=after * NS)
    assert kept in bench.found(pages=(question,))[:4]


@pytest.mark.parametrize("query", ["violin garden note", ""])
def test_a_cursor_covers_every_hit_once_in_the_order_of_one_page(bench, query):
    bench.tell(*chatter(300))
    whole = bench.found(query, limit=1_000)
    assert len(whole) == len(set(whole)) > 200
    found: list[int] = []
    more = True
    while more:
        answer = bench.ask(query, limit=37, cursor=len(found))
        found += [hit.page for hit in answer.hits]
        more = answer.more
    assert found == whole
    assert bench.ask(query, limit=10, cursor=len(whole)).hits == ()


def test_a_demand_fault_searches_by_the_text_of_its_pages_and_does_not_find_them(bench):
    bench.tell(*chatter(300))
    (told,) = bench.tell("Marta was born in Lisbon, near the river, and her father sold fish there.")
    bench.tell(*chatter(20, seed=2))
    (question,) = bench.tell("Which city is Marta originally from?")
    answer = bench.ask(pages=(question,))
    assert answer.hits[0].page == told
    assert answer.hits[0].cover > 0.5  # the question's own page does not make its words known
    assert question not in [hit.page for hit in answer.hits]


def test_small_talk_that_shares_two_ordinary_words_covers_little(bench):
    bench.tell(*chatter(300))
    bench.tell("My sister planted tomatoes in the morning and the weather was cold.")
    (message,) = bench.tell(
        "Yesterday evening I walked along the river with an old friend from school, and we talked about the weather, "
        "football, a film about pirates that neither of us had finished, the price of tickets, his new kitchen, my "
        "broken bicycle, and how quickly every morning seems to pass now that the holidays are over and everybody is "
        "back at work again, tired but cheerful."
    )
    answer = bench.ask(pages=(message,))
    assert answer.hits
    assert max(hit.cover for hit in answer.hits) < 0.2  # clearly below it


def test_a_search_waits_for_its_pages_and_is_late_after_its_deadline(bench):
    (page,) = bench.tell("the violin is red")
    assert bench.found("violin", deadline_s=60.0) == [page]
    answer = bench.ask("violin", upto=page + 1, deadline_s=0.02)
    assert answer.late
    assert answer.hits == ()
    bench.req += 1
    bench.index.search(Search(pid=1, req=bench.req, area=BOTH, query="bow", upto=page + 1))
    assert bench.req not in bench.posted
    (bow,) = bench.tell("the bow is red")
    with bench.arrived:
        assert bench.arrived.wait_for(lambda: bench.req in bench.posted, timeout=60)
    assert bench.posted[bench.req].hits[0].page == bow


nasty = ['"', "NEAR(a b)", "a* OR b", "text: x", "-", "'; DROP TABLE doc", "\x00", "\ud800", "a-b@c.d", "ﬁ١٢٣", "1-2"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    made = Bench(tmp_path_factory.mktemp("any") / "index")
    made.tell(*chatter(20), *[text for text in nasty if text != "\ud800"], "naïve Crème brûlée", "東京 は 大きい")
    yield made
    made.index.close()


@settings(max_examples=150, deadline=None)
@given(query=st.text(max_size=80) | st.lists(st.sampled_from([*nasty, "violin"]), max_size=6).map(" ".join))
@example(query='violin" OR "')
@example(query="x " * 5_000)
@example(query="\x00violin")
@example(query="a-1 " * 300)
def test_any_text_is_a_query(shared, query):
    answer = shared.ask(query, limit=50)
    assert not answer.late, shared.index.damaged
    assert all(0.0 <= hit.cover <= 1.0 for hit in answer.hits)


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
@example(text="a\x00b")
def test_any_text_is_stored_and_shown_as_it_was(shared, text):
    (page,) = shared.tell(text)
    hits = {hit.page: hit.text for hit in shared.ask("", since=page * NS).hits}
    assert hits[page] == text.replace("\x00", "\ufffd")


def test_of_a_long_text_the_questions_and_names_are_looked_for():
    talk = " ".join(f"extraordinar{chr(97 + n % 26)}{chr(97 + n % 25)}" for n in range(40))
    terms = fts.parse(f"We walked with Ulla. {talk}. So what is my cat called? {talk}!")
    stems = {term.term for term in terms}
    assert len(terms) == fts.WORDS_MAX
    assert {"cat", "ulla"} <= stems


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("Which cities?", "a big city"),
        ("cooking", "she cooked"),
        ("his dog's name", "dogs"),
        ("running late", "he runs"),
        ("CAFÉ", "the café"),
        ("on 2024-05-07", "due 2024/05/07."),
    ],
)
def test_cover_sees_through_endings_case_and_punctuation(shared, query, text):
    pid = shared.page + 1_000
    page, other = shared.tell(text, "entirely unrelated", pid=pid)
    covers = {hit.page: hit.cover for hit in shared.ask(query, pid=pid).hits}
    assert covers[page] > 0
    assert covers.get(other, 0.0) == 0


def test_a_restarted_index_has_everything_without_rebuilding(bench, monkeypatch):
    bench.tell(*chatter(100))
    before = bench.ask("violin garden")
    monkeypatch.setattr(module._Store, "_create", lambda self: pytest.fail("it was rebuilt"))
    monkeypatch.setattr(module._Store, "apply", lambda self, pages: pytest.fail("pages were applied again"))
    bench.restart()
    after = bench.ask("violin garden")
    assert after.hits == before.hits


def test_an_index_catches_up_with_what_was_committed_without_it(bench):
    bench.tell(*chatter(10))
    bench.index.close()
    missed = bench.commit(bench.pages([*chatter(500), "Marta was born in Lisbon"]))
    bench.start()
    assert bench.found("Marta Lisbon")[0] == missed[-1].id
    assert (bench.index.applied, bench.index.lag()) == (511, 0)


def test_pages_fed_while_the_truth_is_read_are_applied_once(tmp_path):
    disk = MemoryDisk()
    first = Bench(tmp_path / "first", disk)
    pages = first.commit(first.pages(chatter(400)))
    first.index.close()
    late = Bench(tmp_path / "late", disk)
    late.index.feed(pages[-1].id)
    assert late.found("", limit=1_000) == [page.id for page in pages]
    late.index.close()
    assert not late.index.damaged


def rebuilt(bench: Bench, embedder: ranking.Embedder = EMBEDDER) -> bool:
    """Whether the index starts from nothing when it is started now; it must answer either way."""
    made = []
    create = module._Store._create
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module._Store, "_create", lambda self: (made.append(1), create(self)))
        bench.start(embedder)
        assert 1 in bench.found("Marta")
        assert bench.index.applied == bench.page
        bench.index.close()
    return bool(made)


class OtherEmbedder:
    name, dim = "other", 256

    def embed(self, texts):
        return EMBEDDER.embed(texts)


def test_an_index_is_rebuilt_when_and_only_when_it_cannot_be_trusted(bench):
    bench.tell("Marta was born in Lisbon", *chatter(200))
    bench.found("Marta")
    bench.index.close()
    file = bench.folder / "index.sqlite"
    assert not rebuilt(bench)

    shutil.rmtree(bench.folder)
    assert rebuilt(bench), "missing"
    assert not rebuilt(bench)

    file.write_bytes(b"no database " * 1_000)
    assert rebuilt(bench), "not a database"

    with file.open("r+b") as stream:
        stream.seek(20_480)
        stream.write(random.Random(1).randbytes(16_384))
    assert rebuilt(bench), "overwritten in the middle"
    (bench.folder / "index.stamp").unlink()
    assert rebuilt(bench), "nobody knows how it was left"

    assert rebuilt(bench, OtherEmbedder()), "another embedder"
    assert rebuilt(bench), "and back"

    bench.disk.commit([Record("page", bench.page.to_bytes(8, "big"), None)])
    bench.page -= 1
    assert rebuilt(bench), "ahead of the truth"

    other = msgspec.msgpack.decode(bench.disk.get("page", bench.page.to_bytes(8, "big")), type=Page)
    bench.commit([msgspec.structs.replace(other, text="another truth")])
    assert rebuilt(bench), "of another truth"
    assert not rebuilt(bench)


def test_an_error_inside_the_thread_is_answered_late_and_heals_at_the_next_start(bench, monkeypatch):
    bench.tell("Marta was born in Lisbon", *chatter(50))
    assert bench.found("Marta")[0] == 1
    with monkeypatch.context() as broken:
        broken.setattr(fts.Lexical, "matches", lambda *args: 1 / 0)
        assert bench.ask("Marta").late
    assert "ZeroDivisionError" in bench.index.damaged
    assert bench.ask("Marta").hits, "one failed search is no reason to refuse the next"
    bench.index.close()
    assert rebuilt(bench)
    assert not rebuilt(bench)


CRASH = """
    import sys
    import msgspec
    from drivers.index.fused import FusedIndex
    from drivers.disk.lmdb import LmdbDisk
    from drivers.embed.wordllama import WordLlamaEmbedder
    from kernel.memory.page import Area, Kind, Origin, Page, Role
    from kernel.ports import Record
    disk = LmdbDisk(sys.argv[1], sync="off")
    index = FusedIndex(sys.argv[1] + "/index", disk, WordLlamaEmbedder())
    index.start(print, list)
    n = 0
    while True:
        pages = []
        for _ in range(50):
            n += 1
            pages.append(Page(n, n % 3, n // 3, Kind.MESSAGE, Origin.USER, Role.USER, Area.RECALL, n, f"word{n} said"))
        disk.commit([Record("page", p.id.to_bytes(8, "big"), msgspec.msgpack.encode(p)) for p in pages])
        index.feed(n)
        print(n, index.applied, flush=True)
"""


@pytest.mark.parametrize("applied", [1, 1_000])
def test_after_a_kill_the_index_has_every_committed_page_once(tmp_path, applied):
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CRASH), str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    for line in writer.stdout:
        if int(line.split()[1]) >= applied:
            break
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    disk = LmdbDisk(tmp_path)
    bench = Bench(tmp_path / "index", disk)
    assert bench.page >= 50
    found = [bench.found("", pid=pid, limit=100_000) for pid in range(3)]
    assert sorted(page for pages in found for page in pages) == list(range(1, bench.page + 1))
    for n in (1, bench.page // 2, bench.page):
        assert bench.found(f"word{n}", pid=n % 3)[0] == n
    bench.index.close()
    disk.close()


def vectors(n: int, seed: int = 1) -> hnsw.Floats:
    """Unit vectors in clusters, as texts make them."""
    draw = np.random.default_rng(seed)
    centres = draw.standard_normal((40, 256))
    made = centres[draw.integers(0, 40, n)] + 0.8 * draw.standard_normal((n, 256))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def space(made: hnsw.Floats, exact_max: int) -> hnsw.Space:
    filled = hnsw.Space(256, exact_max)
    for at in range(0, len(made), 500):
        part = made[at : at + 500]
        ids = np.arange(at, at + len(part), dtype=np.int64) * 2 + 2
        filled.add(hnsw.Chunk(1, Area.RECALL, ids << PART_BITS, ids * NS, part.astype(np.float16)))
    return filled


def paged(found: list[tuple[int, float]]) -> list[int]:
    """The pages of units."""
    return [unit >> PART_BITS for unit, _ in found]


def everything(**kwargs: object) -> fts.Scope:
    return fts.Scope(**({"pid": 1, "areas": BOTH, "upto": 10**9} | kwargs))


QUERIES = ("the garden and the violin", "a museum letter, note 7", "a boat in winter", "Where was Marta born?")


@pytest.mark.parametrize("exact_max", [10_000, 40])
def test_an_answer_is_a_function_of_the_pages_alone(tmp_path: Path, exact_max: int) -> None:
    first = Bench(tmp_path / "pages")  # 60 texts stand there twice: their order must not be that of last bits
    first.tell(*chatter(150), *chatter(60), "Marta was born in Lisbon.", *chatter(50, seed=2), *chatter(40, seed=2))
    first.index.close()
    pages = [msgspec.msgpack.decode(raw, type=Page) for _, raw in first.disk.scan("page")]
    asked = [
        Search(pid=1, req=0, area=BOTH, query=query, upto=len(pages), limit=1_000, exclude=exclude)
        for query in QUERIES
        for exclude in ((), tuple(range(100, 140)))
    ]
    whole = None
    for batch in (1, 7, 128):
        folder = tmp_path / f"by{batch}"
        store = module._Store.open(folder, first.disk, EMBEDDER, exact_max)
        for at in range(0, len(pages), batch):
            store.apply(pages[at : at + batch])
        answers = [store.search(what) for what in asked]
        whole = whole or answers
        assert max(len(hits) for hits, _ in whole) > 100
        assert answers == whole, f"{batch} at a time"
        space = store.spaces._space(1, Area.RECALL)
        for more in (50, 100, 1_000):
            space.build(more)
            assert [store.search(what) for what in asked] == whole, f"{batch} at a time, {space.built} in the graph"
        assert space.built == (len(pages) if exact_max == 40 else 0)
        while store.tidy():
            pass
        store.close(clean=True)
        store = module._Store.open(folder, first.disk, EMBEDDER, exact_max)
        assert not store.anew
        assert [store.search(what) for what in asked] == whole, f"{batch} at a time, restarted"
        assert store.spaces._space(1, Area.RECALL).built == space.built
        store.close(clean=True)


def test_an_answer_is_the_same_when_it_is_asked_while_pages_come(tmp_path, monkeypatch):
    answers = []
    for batch, step in ((1, 200), (7, 13), (128, 50)):
        monkeypatch.setattr(module, "BATCH", batch)
        bench = Bench(tmp_path / f"by{batch}", exact_max=40)
        texts = [*chatter(100), *chatter(60), *chatter(40, seed=2)]
        for at in range(0, len(texts), step):
            bench.tell(*texts[at : at + step])
            bench.ask("the garden")  # loads the space, whose graph grows from now on
        answers.append([bench.ask(query, limit=200).hits for query in QUERIES])
        bench.restart()
        answers.append([bench.ask(query, limit=200).hits for query in QUERIES])
        bench.index.close()
        shutil.rmtree(bench.folder)
        bench.start()
        answers.append([bench.ask(query, limit=200).hits for query in QUERIES])
        bench.index.close()
    assert max(map(len, answers[0])) > 100
    assert [one == answers[0] for one in answers] == [True] * 9


def test_a_ranking_does_not_depend_on_how_a_host_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    made = vectors(2_000)
    made[1_000:1_400] = made[:400]
    for seed in range(5):  # columns in another order: the same sums, added in another order
        order = np.random.default_rng(seed).permutation(256)
        one, other = space(made, 10_000), space(made[:, order], 10_000)
        for query in [*vectors(20, seed=2), *made[:5]]:
            ranking = one.search(query, 100, everything())
            assert ranking == other.search(query[order], 100, everything())
            assert ranking == one.search(query, 2_000, everything())[:100]
    rounded, most, draw = hnsw._dots, np.float32(256 * 2.0**-24), np.random.default_rng(1)
    worst = space(made, 10_000)  # on a host whose float32 is off by as much as can be

    def off(rows, query):
        return rounded(rows, query) + (query.dtype == np.float32) * draw.choice([-most, most], len(rows))

    monkeypatch.setattr(hnsw, "_dots", off)
    for query in vectors(50, seed=2):
        assert worst.search(query, 100, everything()) == one.search(query, 2_000, everything())[:100]


def test_a_graph_leaves_order_and_cosines_as_exact_search_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hnsw, "GRAPH_COST", 1)  # it is asked although all could be compared
    made = vectors(3_000)
    made[2_000:2_500] = made[:500]
    exact, graph = space(made, 10_000), space(made, 100)
    for more in (0, 1_000, 1_500, 500):
        graph.build(more)
        for query in vectors(30, seed=2):
            whole, found = exact.search(query, 3_000, everything()), graph.search(query, 10, everything())
            assert len(found) == 10
            assert found == [hit for hit in whole if hit in found]
            assert more or found == whole[:10]


def test_of_more_equals_than_are_compared_at_once_the_newest_are_found() -> None:
    equal = space(np.repeat(vectors(1), 5_000, axis=0), 10_000)
    query = vectors(2)[1]
    found = equal.search(query, 10, everything(upto=9_990))
    assert paged(found) == [9_990 - 2 * n for n in range(10)]
    assert len({cosine for _, cosine in found}) == 1


def test_of_more_equals_than_a_graph_looks_at_the_newest_are_found() -> None:
    made = vectors(4_000)
    made[500:1_500] = made[7]
    graph = space(made, 100)
    graph.build(3_900)
    assert paged(graph.search(made[7], 10, everything())) == [2 * n + 2 for n in range(1_499, 1_489, -1)]
    assert graph._search_graph(made[7], 10, np.ones(3_900, bool)) is None
    assert graph._search_graph(vectors(1, seed=2)[0], 10, np.ones(3_900, bool)) is not None


def test_the_graph_finds_what_exact_search_finds(monkeypatch):
    monkeypatch.setattr(hnsw, "GRAPH_COST", 1)
    made = vectors(3_000)
    exact, graph = space(made, 10_000), space(made, 100)
    graph.build(2_500)
    assert (exact.built, graph.built, graph.n) == (0, 2_500, 3_000)
    agree = first = 0
    for query in vectors(100, seed=2):
        a, b = exact.search(query, 10, everything()), graph.search(query, 10, everything())
        agree += len({page for page, _ in a} & {page for page, _ in b})
        first += a[0][0] == b[0][0]
    assert agree >= 950
    assert first >= 95


def test_without_hnswlib_all_is_compared(monkeypatch, tmp_path):
    made = vectors(600)
    exact, graph = space(made, 10_000), space(made, 100)
    graph.build(600)
    crc = graph.save(tmp_path / "one.hnsw")
    monkeypatch.setattr(hnsw, "hnswlib", None)
    bare = space(made, 100)
    bare.load(tmp_path / "one.hnsw", 600, crc)
    bare.build(600)
    assert (bare.behind, bare.built) == (0, 0)
    for query in vectors(5, seed=2):
        assert bare.search(query, 10, everything()) == exact.search(query, 10, everything())


def test_a_filtered_search_of_a_graph_still_returns_all_it_may(monkeypatch):
    monkeypatch.setattr(hnsw, "GRAPH_COST", 1)
    made = vectors(2_000)
    exact, graph = space(made, 10_000), space(made, 50)
    graph.build(2_000)
    query = vectors(1, seed=3)[0]
    near = paged(exact.search(query, 150, everything()))
    for scope in (
        everything(exclude=frozenset([*near, 999_999, 3])),
        everything(upto=60),
        everything(since=3_900 * NS),
        everything(since=100 * NS, until=900 * NS),
    ):
        expected = [page for page, _ in exact.search(query, 10, scope)]
        assert len(expected) == 10
        assert len(set(expected) & {page for page, _ in graph.search(query, 10, scope)}) >= 9
    assert graph.search(query, 10, everything(upto=1)) == []


def test_a_saved_graph_is_loaded_only_if_it_is_the_one_that_was_saved(tmp_path):
    made = vectors(1_500)
    graph = space(made, 100)
    graph.build(1_200)
    crc = graph.save(tmp_path / "p1-recall.hnsw")
    again = space(made, 100)
    again.load(tmp_path / "p1-recall.hnsw", 1_200, crc)
    assert again.built == 1_200
    query = vectors(1, seed=4)[0]
    assert again.search(query, 1, everything())[0][0] == graph.search(query, 1, everything())[0][0]
    for n, sum_ in ((1_100, crc), (1_200, crc + 1), (1_600, crc)):
        other = space(made, 100)
        other.load(tmp_path / "p1-recall.hnsw", n, sum_)
        assert other.built == 0
    (tmp_path / "p1-recall.hnsw").write_bytes(b"cut")
    other = space(made, 100)
    other.load(tmp_path / "p1-recall.hnsw", 1_200, crc)
    assert other.built == 0


def test_a_large_process_gets_a_graph_in_idle_moments_that_outlives_a_restart(tmp_path):
    bench = Bench(tmp_path / "index", exact_max=200)
    bench.tell("Marta was born in Lisbon", *chatter(600))
    assert bench.found("Marta Lisbon")[0] == 1
    bench.index.close()
    what = Search(pid=1, req=0, area=BOTH, query="Marta Lisbon", upto=bench.page)
    for start in ("built", "loaded"):
        store = module._Store.open(bench.folder, bench.disk, EMBEDDER, 200)
        assert store.search(what)[0][0].page == 1
        assert (store.spaces._space(1, Area.RECALL).built == 601) == (start == "loaded")
        while store.tidy():
            pass
        assert store.search(what)[0][0].page == 1
        store.close(clean=True)
        assert [file.name for file in bench.folder.glob("*.hnsw")] == ["p1-recall.hnsw"]


def test_an_index_whose_thread_cannot_apply_still_answers_late_and_closes(bench, monkeypatch):
    bench.tell("Marta was born in Lisbon", *chatter(50))
    assert bench.found("Marta")[0] == 1
    with monkeypatch.context() as broken:
        broken.setattr(hnsw.Spaces, "add", lambda *args: 1 / 0)
        bench.tell("Marta moved to Oslo")
        assert bench.ask("Marta").late
    assert bench.index.lag() == 1
    bench.index.close()
    assert rebuilt(bench)


def test_spaces_beyond_the_bound_leave_memory_and_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr(hnsw, "LOADED_MIN", 50)
    monkeypatch.setattr(hnsw, "LOADED_SHARE", 0)
    bench = Bench(tmp_path / "index", exact_max=10)
    for pid in (1, 2, 3):
        bench.tell(*chatter(40, seed=pid), f"Marta is number {pid}", pid=pid)
    for _ in range(2):
        for pid in (1, 2, 3):
            assert bench.ask("Marta", pid=pid).hits[0].text == f"Marta is number {pid}"
    bench.index.close()
    for file in bench.folder.glob("*.hnsw"):
        file.unlink()
    store = module._Store.open(bench.folder, bench.disk, EMBEDDER, 10)
    for pid in (1, 2):
        store.search(Search(pid=pid, req=0, area=(Area.RECALL,), query="Marta", upto=bench.page))
        assert store.tidy()
    assert (bench.folder / "p1-recall.hnsw").exists(), "what was built is saved when it leaves"
    assert [pid for pid, _ in store.spaces._loaded] == [2]
    store.close(clean=True)


def test_both_areas_of_a_process_stay_however_large(tmp_path, monkeypatch):
    monkeypatch.setattr(hnsw, "LOADED_MIN", 50)
    monkeypatch.setattr(hnsw, "LOADED_SHARE", 0)
    bench = Bench(tmp_path / "index")
    bench.tell(*chatter(100, seed=1))
    bench.tell(*chatter(100, seed=2), area=Area.ARCHIVE)
    bench.index.close()
    store = module._Store.open(bench.folder, bench.disk, EMBEDDER, 4_096)
    loads = []
    load = store.spaces._load
    monkeypatch.setattr(store.spaces, "_load", lambda *which: loads.append(which) or load(*which))
    for _ in range(5):
        store.search(Search(pid=1, req=0, area=BOTH, query="garden", upto=bench.page))
    assert len(loads) == 2
    store.close(clean=True)


def removed(bench: Bench, pid: int, *kept: int) -> None:
    """Process `pid` is removed: its pages but those kept, and a page says so."""
    rows = bench.disk.scan("page")
    pages = [msgspec.msgpack.decode(value, type=Page) for _, value in rows]
    gone = [page for page in pages if page.pid == pid and page.id not in kept]
    bench.page += 1
    said = Page(
        bench.page, 0, 0, Kind.GONE, Origin.KERNEL, Role.SYSTEM, Area.NONE, bench.page * NS, f"{pid} {len(gone)}"
    )
    bench.disk.commit([Record("page", page.id.to_bytes(8, "big"), None) for page in gone])
    bench.commit([said])
    bench.index.feed(said.id)


@pytest.mark.parametrize("anew", [False, True])
def test_nothing_of_a_removed_process_stays_in_the_index_and_others_are_found_as_before(tmp_path, anew):
    bench = Bench(tmp_path / "index", exact_max=10)
    shown = bench.tell("the lighthouse key lies under the blue stone", pid=1)[0]
    bench.tell(*chatter(40), pid=1)
    bench.tell(*chatter(40, seed=2), pid=2)
    bench.tell("a remembered lighthouse", pid=1, area=Area.ARCHIVE)
    before = bench.ask("garden boat", pid=2).hits
    assert bench.found("lighthouse", pid=1)
    while not bench.index.idle:
        pass
    bench.index.close()
    assert list(bench.folder.glob("p1-*.hnsw"))
    if anew:
        (bench.folder / "damaged").touch()
    bench.start()
    removed(bench, 1, shown)  # one page of it is a fork's, too
    assert bench.found("lighthouse", pid=1) == []
    assert bench.ask("garden boat", pid=2, upto=bench.page - 1).hits == before
    bench.restart()
    assert bench.found("lighthouse garden", pid=1) == []
    bench.index.close()
    assert bench.index.damaged == ""
    assert module.verify(bench.folder, bench.disk) == []
    assert list(bench.folder.glob("p1-*.hnsw")) == []
    sql = module.sqlite3.connect(bench.folder / "index.sqlite")
    for table in ("doc", "vec", "graph"):
        assert sql.execute(f"SELECT count(*) FROM {table} WHERE pid = 1").fetchone() == (0,)
    assert sql.execute("SELECT count(*) FROM fts WHERE fts MATCH 'lighthouse'").fetchone() == (0,)
    sql.close()


def test_an_index_that_is_behind_a_removal_is_well_and_catches_up(tmp_path):
    bench = Bench(tmp_path / "index")
    bench.tell(*chatter(5), pid=2)
    bench.tell("the lighthouse key lies under the blue stone", pid=1)
    bench.tell("a boat", pid=2)
    assert bench.found("lighthouse", pid=1)
    bench.index.close()
    removed(bench, 1)
    assert module.verify(bench.folder, bench.disk) == []
    bench.start()
    assert bench.found("lighthouse", pid=1) == []
    assert not bench.index.anew
    bench.index.close()
    assert module.verify(bench.folder, bench.disk) == []


def test_a_page_that_is_somebodys_removes_nobody(bench):
    told = bench.tell("the lighthouse key lies under the blue stone", pid=1)
    (forged,) = bench.pages(["1 5"], pid=3)
    bench.commit([msgspec.structs.replace(forged, kind=Kind.GONE)])
    bench.index.feed(forged.id)
    assert bench.found("lighthouse", pid=1) == told
