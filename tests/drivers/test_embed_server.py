"""Vectors by a server, over real sockets: a server with each fault, and the index that goes on by words meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import trio

from drivers.disk.lmdb import LmdbDisk
from drivers.embed import server
from drivers.embed.server import Known, Served, ServerEmbedder, find
from drivers.index import fused
from drivers.index.beside import IndexBeside
from drivers.index.fused import FusedIndex, verify
from drivers.remote.address import KEY, addresses, embedder
from drivers.remote.transport import Fault, Patience
from kernel import records
from kernel.errors import BadInput
from kernel.event import Search, Searched
from kernel.machine import replies
from kernel.machine.loop import Machine
from kernel.memory.page import Area, Kind, Origin, Page, Role
from kernel.ports import Record
from kernel.spec import Spec
from llmos.init import powered
from tests.drivers.test_beside import sized, wait_for
from tests.servers import STALL_S, UNEMBEDDED, Fake, vector

SHORT = Patience(
    connect_s=1.0, first_s=STALL_S / 2, stall_s=STALL_S / 2, whole_s=60.0, try_out_s=30.0, back_off_s=(0.01, 0.05)
)
TEXTS = [
    "The boat is blue.",
    "Marta was born in Lisbon.",
    "Bread is made of flour.",
    "Copper rose by a tenth.",
]


@pytest.fixture
def fake() -> Iterator[Fake]:
    made = Fake()
    yield made
    made.down()


def served(fake: Fake, model: str = "", last: Known | None = None) -> Served:
    address, _ = embedder(fake.url)
    return Served(address, find(address, model, last)[0])


def made(fake: Fake, tell: Callable[[str], None] = lambda _: None) -> ServerEmbedder:
    return ServerEmbedder(served(fake), pages=SHORT, query=SHORT, tell=tell)


def expected(*texts: str) -> np.ndarray:
    rows = np.array([vector(text, 16) for text in texts])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_vectors_are_brought_to_length_in_the_order_of_the_texts(fake: Fake) -> None:
    one = made(fake)
    found = one.embed([*TEXTS, "", "  \n", TEXTS[0]])
    assert (found.shape, found.dtype, one.dim) == ((7, 16), np.float32, 16)
    assert np.allclose(found[[0, 1, 2, 3, 6]], expected(*TEXTS, TEXTS[0]), atol=1e-6)
    assert not found[4:6].any()
    assert np.allclose(one.query(TEXTS[:2]), found[:2], atol=1e-6)
    assert one.embed([]).shape == (0, 16)
    many = one.embed([f"text {n}" for n in range(50)])
    assert np.allclose(np.linalg.norm(many, axis=1), 1, atol=1e-6)
    assert max(map(len, fake.embedded)) == server.BATCH + 1
    assert one.trouble == ""


@pytest.mark.parametrize("fault", UNEMBEDDED)
def test_each_fault_is_one_line_and_the_next_request_has_the_vectors(fake: Fake, fault: str) -> None:
    one = made(fake)
    asked = len(fake.embedded)
    fake.unembedded = lambda n: fault if n < asked + 2 else ""  # the texts, and then the sample alone
    with pytest.raises(Fault) as found:
        one.embed(TEXTS)
    assert str(found.value).startswith(f"{fake.url}: ")
    assert "\n" not in str(found.value)
    assert one.trouble == str(found.value)
    with pytest.raises(Fault):
        one.query(["it is left alone"])
    fake.unembedded = lambda n: ""
    assert np.allclose(one.embed(TEXTS), expected(*TEXTS), atol=1e-6)
    assert (one.trouble, one.rest_s()) == ("", 0.0)


def test_a_text_that_the_server_does_not_take_holds_up_no_other(fake: Fake) -> None:
    told: list[str] = []
    one = made(fake, told.append)
    fake.refuses = lambda text: text[0] == "p" or len(text) > 100
    found = one.embed([TEXTS[0], "poison", "word " * 30, TEXTS[1], "poison, too"])
    assert np.allclose(found[[0, 3]], expected(*TEXTS[:2]), atol=1e-6)
    assert not found[[1, 4]].any()
    assert np.allclose(found[2], expected(("word " * 30)[:75])[0], atol=1e-6), "the beginning of what is too long"
    (line,) = told
    assert fake.url in line
    assert "found by its words alone" in line


def test_a_server_that_wants_time_gets_it(fake: Fake) -> None:
    one = made(fake)
    asked = len(fake.embedded)
    fake.unembedded = lambda n: "429" if n == asked else ""
    with pytest.raises(Fault) as found:
        one.embed(TEXTS)
    assert found.value.after_s == 0.05
    assert len(fake.embedded) == asked + 1, "nothing was asked meanwhile"


def test_the_model_keys_the_index_and_stays_itself(fake: Fake) -> None:
    fake.models = ["small", "big:1b"]
    address, model = embedder(f"{fake.url}/v1#big:1b")
    assert (str(address), model) == (fake.url, "big:1b")
    first, fault = find(address, model, None)
    assert (first.model, first.dim, fault) == ("big:1b", 16, "")
    assert find(address, "", None)[0].model == "small"
    assert find(address, "", first)[0] == first, "it is still there"
    assert find(address, "small", first)[0].name != first.name
    fake.weights = "other"
    other, _ = find(address, model, first)
    assert (other.model, other.dim) == (first.model, first.dim)
    assert other.name != first.name, "another model under the same name"
    fake.dim = 8
    assert find(address, model, first)[0].dim == 8
    fake.down()
    known, fault = find(address, model, first)
    assert known == first
    assert "connection refused" in fault
    with pytest.raises(BadInput, match="disk.embedder: .*connection refused"):
        find(address, model, None)
    with pytest.raises(BadInput, match="disk.embedder: .*connection refused"):
        find(address, "small", first)


def test_a_server_that_does_not_embed_is_refused_in_one_line(fake: Fake) -> None:
    fake.embeds = False
    with pytest.raises(BadInput, match="disk.embedder: .*404 Not Found"):
        served(fake)
    fake.embeds, fake.models = True, []
    with pytest.raises(BadInput, match="it has no model"):
        served(fake)
    fake.models = ["a"]
    with pytest.raises(BadInput, match="it has no model b; it has a"):
        served(fake, "b")
    fake.dim = 0
    with pytest.raises(BadInput, match="its vectors have 0 numbers"):
        served(fake)


def test_the_key_is_the_one_of_the_environment(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.key = "sk-right"
    monkeypatch.setenv(KEY, "sk-wrong")
    with pytest.raises(BadInput, match="401 Unauthorized") as found:
        served(fake)
    assert "sk-wrong" not in str(found.value)
    monkeypatch.setenv(KEY, "sk-right")
    assert made(fake).embed(TEXTS[:1]).any()


@pytest.mark.parametrize(
    "setting", ["http://ada:secret@x", "http://x?key=secret", "ftp://x", "http://x#a\x1bb", f"http://x#{'m' * 201}"]
)
def test_a_setting_that_names_no_server_is_one_line_without_its_credentials(setting: str) -> None:
    with pytest.raises(BadInput) as found:
        embedder(setting)
    said = str(found.value)
    assert said.startswith("disk.embedder")
    assert not {"\x1b", "secret", "ada"} & {part for part in ("\x1b", "secret", "ada") if part in said}
    with pytest.raises(BadInput):
        addresses("http://x#model")  # a CPU's model is --model


class Bench:
    """A disk and an index over it, with what was posted; pages are of process 1 or another."""

    def __init__(self, folder: Path, embedder: Any) -> None:
        self.folder, self.pages = folder, 0
        self.disk = LmdbDisk(folder, sync="off")
        self.posted: dict[int, Searched] = {}
        self.start(embedder)

    def start(self, embedder: Any) -> None:
        self.index = FusedIndex(self.folder, self.disk, embedder)
        self.index.start(self.post, sized)

    def post(self, event: object) -> None:
        assert isinstance(event, Searched)
        assert event.req not in self.posted, "answered twice"
        self.posted[event.req] = event

    def tell(self, *texts: str, pid: int = 1) -> None:
        for text in texts:
            n = self.pages + 1
            self.commit(Page(n, pid, n, Kind.MESSAGE, Origin.USER, Role.USER, Area.RECALL, n, text))

    def commit(self, page: Page) -> None:
        self.pages = page.id
        self.disk.commit([Record("page", records.key(page.id), msgspec.msgpack.encode(page))])
        self.index.feed(page.id)

    def ask(self, query: str) -> Searched:
        req = len(self.posted) + 1
        self.index.search(Search(pid=1, req=req, area=(Area.RECALL,), query=query, upto=self.pages))
        wait_for(lambda: req in self.posted)
        return self.posted[req]

    def close(self) -> None:
        self.index.close()
        self.disk.close()


def pages(answer: Searched) -> list[int]:
    assert not answer.late
    return [hit.page for hit in answer.hits]


def settled(bench: Bench) -> bool:
    return bench.index.embedded == bench.index.applied == bench.pages


def test_a_server_that_dies_while_pages_wait_loses_none_and_searches_go_by_words(fake: Fake, tmp_path: Path) -> None:
    bench = Bench(tmp_path, made(fake))
    try:
        bench.tell(*TEXTS)
        whole = bench.ask("Where was Marta born?")
        assert pages(whole)[0] == 2
        wait_for(lambda: settled(bench))
        port = fake.port
        fake.down()
        bench.tell("The dog sleeps.", *(f"page {n} of the book" for n in range(70)))
        assert pages(bench.ask("Where does the dog sleep?"))[0] == 5
        assert pages(bench.ask("Where was Marta born?"))[0] == 2
        assert (bench.index.applied, bench.index.embedded) == (bench.pages, 4)
        assert "connection refused" in bench.index.trouble
        assert verify(tmp_path, bench.disk) == [], "what waits is no fault"
        fake.up(port)
        wait_for(lambda: settled(bench))
        assert (bench.index.trouble, bench.index.damaged) == ("", "")
        assert verify(tmp_path, bench.disk) == []
        late = bench.ask("Which dog?")
        fresh = Bench(tmp_path / "fresh", made(fake))
        fresh.tell(*TEXTS, "The dog sleeps.", *(f"page {n} of the book" for n in range(70)))
        wait_for(lambda: settled(fresh))
        assert fresh.ask("Which dog?").hits == late.hits, "as if the server had never been away"
        fresh.close()
    finally:
        bench.close()


def test_an_index_that_ends_while_pages_wait_goes_on_where_it_was(fake: Fake, tmp_path: Path) -> None:
    bench = Bench(tmp_path, made(fake))
    port = fake.port
    bench.tell(*TEXTS)
    wait_for(lambda: settled(bench))
    fake.down()
    bench.tell("The dog sleeps.")
    assert pages(bench.ask("dog"))[0] == 5
    bench.index.close()
    fake.up(port)
    asked = len(fake.embedded)
    bench.start(made(fake))
    wait_for(lambda: settled(bench))
    assert not bench.index.anew
    sent = [text for texts in fake.embedded[asked:] for text in texts]
    assert not set(TEXTS) & set(sent), "what has its vectors keeps them"
    assert pages(bench.ask("dog"))[0] == 5
    bench.close()
    assert verify(tmp_path, LmdbDisk(tmp_path)) == []


def test_who_is_removed_while_pages_wait_leaves_no_vector(fake: Fake, tmp_path: Path) -> None:
    bench = Bench(tmp_path, made(fake))
    port = fake.port
    try:
        bench.tell(TEXTS[0])
        bench.tell(TEXTS[1], pid=2)
        wait_for(lambda: settled(bench))
        fake.down()
        bench.tell(TEXTS[2], pid=2)
        n = bench.pages + 1
        bench.commit(Page(n, 0, n, Kind.GONE, Origin.KERNEL, Role.SYSTEM, Area.NONE, n, "2 2"))
        bench.tell("The dog sleeps.")
        assert pages(bench.ask("dog"))[0] == bench.pages
        fake.up(port)
        wait_for(lambda: settled(bench))
        assert verify(tmp_path, bench.disk) == []
        assert pages(bench.ask("boat"))[0] == 1
    finally:
        bench.close()


def test_a_server_that_stalls_holds_up_no_search(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "VECTORS_S", 0.05)
    bench = Bench(tmp_path, made(fake))
    try:
        bench.tell(*TEXTS)
        wait_for(lambda: settled(bench))
        fake.unembedded = lambda n: "stall at once"
        bench.tell("The dog sleeps.")
        found = bench.ask("Where does the dog sleep?")
        assert pages(found)[0] == 5
        assert bench.index.embedded == 4
        fake.unembedded = lambda n: ""
        wait_for(lambda: settled(bench))
    finally:
        bench.close()


def test_another_model_under_the_same_name_is_not_believed_and_the_next_boot_builds_anew(
    fake: Fake, tmp_path: Path
) -> None:
    first = served(fake)
    bench = Bench(tmp_path, ServerEmbedder(first, pages=SHORT, query=SHORT))
    bench.tell(*TEXTS)
    wait_for(lambda: settled(bench))
    fake.weights = "other"
    bench.tell("The dog sleeps.")
    assert pages(bench.ask("dog"))[0] == 5
    wait_for(lambda: bench.index.trouble != "")
    assert "it has another model than before under the name fake-7b; boot again to take it" in bench.index.trouble
    assert (bench.index.embedded, bench.index.damaged) == (4, "")
    bench.index.close()
    again = served(fake, last=first.known)
    assert again.known.name != first.known.name
    bench.start(ServerEmbedder(again, pages=SHORT, query=SHORT))
    wait_for(lambda: settled(bench))
    assert bench.index.anew
    bench.close()
    assert verify(tmp_path, LmdbDisk(tmp_path)) == []


def test_the_index_beside_says_in_one_line_that_its_server_is_gone(fake: Fake, tmp_path: Path) -> None:
    told: list[str] = []
    disk = LmdbDisk(tmp_path, sync="off")
    index = IndexBeside(tmp_path, disk, embedder=served(fake), tell=told.append)
    posted: list[Searched] = []
    index.start(posted.append, sized)  # type: ignore[arg-type]  # it posts nothing else
    try:
        page = Page(1, 1, 1, Kind.MESSAGE, Origin.USER, Role.USER, Area.RECALL, 1, TEXTS[0])
        wait_for(lambda: index.idle)
        port = fake.port
        fake.down()
        disk.commit([Record("page", records.key(1), msgspec.msgpack.encode(page))])
        index.feed(1)
        wait_for(lambda: "1 pages wait" in index.trouble)
        index.search(Search(pid=1, req=1, area=(Area.RECALL,), query="boat", upto=1))
        wait_for(lambda: bool(posted))
        assert [hit.page for hit in posted[0].hits] == [1]
        assert index.lag() == 0
        fake.up(port)
        wait_for(lambda: index.idle and index.trouble == "")
        assert index.damaged == ""
    finally:
        index.close()
        disk.close()
    assert [line.split(": ")[0] for line in told] == ["index", "index"]
    assert "connection refused; is the server running?; searches go by words" in told[0]
    assert "can be had again" in told[1]


async def said_back(machine: Machine, mid: str, text: str) -> None:
    """A message, and that it was answered."""
    await machine.requests.message("clerk", mid, text)
    with trio.fail_after(60):
        while True:
            found = replies.sent(machine.kernel, machine.disk, mid)
            if replies.reply(machine.disk, mid, found).standing is replies.Standing.ANSWERED:
                return
            await trio.sleep(0.005)


async def test_a_machine_boots_with_its_server_away_once_it_knows_what_it_had(fake: Fake, tmp_path: Path) -> None:
    chosen = [f"disk.embedder={fake.url}"]
    port = fake.port
    async with powered(tmp_path / "m", cpu="scripted", changes=chosen) as machine:
        await machine.requests.spawn(Spec("clerk", ("send_message",)))
        await said_back(machine, "m0", TEXTS[0])
        assert machine.index.trouble == ""
    fake.down()
    async with powered(tmp_path / "m") as machine:
        await said_back(machine, "m1", "Where is the boat?")
        with trio.fail_after(60):
            while not machine.index.trouble:
                await trio.sleep(0.005)
        fake.up(port)
        with trio.fail_after(60):
            while machine.index.trouble or not machine.index.idle:
                await trio.sleep(0.005)
        assert not machine.index.anew
        assert not machine.index.damaged
    fake.down()
    with pytest.raises(BadInput, match="disk.embedder: .*connection refused"):
        async with powered(tmp_path / "other", cpu="scripted", changes=chosen):
            pass
