"""The index in its own process: a real one, over a real LMDB, killed and starved as the world would."""

import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import pytest

from drivers.disk.lmdb import LmdbDisk, LmdbReader
from drivers.index import beside
from drivers.index.beside import IndexBeside
from kernel.errors import BadInput, DeviceError
from kernel.event import Hit, Search, Searched, SearchOf
from kernel.memory.page import Area, Kind, Origin, Page, Role
from kernel.ports import Record
from llmos import models


def sized(hits: Iterable[Hit]) -> list[Hit]:
    return [msgspec.structs.replace(hit, tokens=100 + hit.page) for hit in hits]


class Bench:
    """A disk and an index beside it, with what was posted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.disk = LmdbDisk(folder, sync="off")
        self.pages = 0
        self.posted: dict[int, Searched] = {}
        self.start()

    def start(self) -> None:
        self.index = IndexBeside(self.folder, self.disk)
        self.index.start(self._post, sized)

    def _post(self, event: object) -> None:
        assert isinstance(event, Searched)
        assert event.req not in self.posted, "answered twice"
        self.posted[event.req] = event

    def tell(self, *texts: str) -> None:
        """Commit a page for each text, and feed it."""
        for text in texts:
            n = self.pages = self.pages + 1
            page = Page(n, 1, n, Kind.MESSAGE, Origin.USER, Role.USER, Area.RECALL, n, text)
            self.disk.commit([Record("page", n.to_bytes(8, "big"), msgspec.msgpack.encode(page))])
        self.index.feed(self.pages)

    def ask(self, query: str, req: int) -> None:
        self.index.search(Search(pid=1, req=req, area=(Area.RECALL,), query=query, upto=self.pages))

    def answer(self, req: int) -> Searched:
        wait_for(lambda: req in self.posted)
        return self.posted[req]

    def kill(self) -> None:
        child = self.index._child
        assert child is not None
        child.kill()


def wait_for(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not done():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.gguf
def test_the_vectors_may_come_from_a_gguf_and_another_embedder_means_another_index(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="the llama CPU is an extra")
    model = models.find("smollm2-135m")
    bench = Bench(tmp_path)
    try:
        bench.tell("The boat lies in the harbour.", "Bread is made of flour and water.")
        bench.ask("ship", 1)
        assert bench.answer(1).hits
        for req, embedder, anew in ((2, model, True), (3, model, False), (4, None, True)):
            bench.index.close()
            bench.index = IndexBeside(bench.folder, bench.disk, embedder=embedder)
            bench.index.start(bench._post, sized)
            bench.ask("ship", req)
            assert {hit.page for hit in bench.answer(req).hits} <= {1, 2}
            assert bench.index.anew is anew
            assert not bench.index.damaged
    finally:
        bench.index.close()
        bench.disk.close()


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody waits for stays as a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.index.close()
    made.disk.close()


def test_it_is_asked_for_archives_of_others_and_for_documents_too(bench: Bench) -> None:
    bench.tell("The boat lies in the harbour.")
    page = Page(2, 7, 1, Kind.ARCHIVE, Origin.PROCESS, Role.SYSTEM, Area.ARCHIVE, 2, "The boat in the harbour is red.")
    bench.disk.commit([Record("page", (2).to_bytes(8, "big"), msgspec.msgpack.encode(page))])
    bench.index.feed(2)
    for req, area, whose, found in ((1, (Area.RECALL,), (7,), {1, 2}), (2, (), (7,), {2}), (3, (), (8,), set())):
        bench.index.search(SearchOf(pid=1, req=req, area=area, query="boat in the harbour", upto=2, whose=whose))
        assert {hit.page for hit in bench.answer(req).hits} == found
    bench.index.search(SearchOf(pid=1, req=4, area=(), query="boat", upto=2, whose=(7,), documents=True))
    assert not bench.answer(4).hits, "no document says it"


def test_what_is_committed_is_found_with_the_sizes_of_this_process(bench: Bench) -> None:
    bench.tell("the boat is blue", "Marta was born in Lisbon")
    bench.ask("Where was Marta born?", 1)
    answer = bench.answer(1)
    assert not answer.late
    assert [(hit.page, hit.tokens) for hit in answer.hits][0] == (2, 102)
    wait_for(lambda: bench.index.lag() == 0)


def test_a_killed_index_is_started_again_and_answers_what_it_had_not(bench: Bench) -> None:
    bench.tell("Marta was born in Lisbon")
    for req in (1, 2):
        bench.kill()
        bench.ask("Marta", req)
        assert [hit.page for hit in bench.answer(req).hits] == [1]
    assert "status -9" in bench.index.damaged


def test_an_index_that_dies_again_and_again_answers_late_and_the_kernel_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside.sys, "executable", "/bin/false")
    bench.tell("Marta was born in Lisbon")
    bench.ask("Marta", 1)
    bench.kill()
    assert bench.answer(1).late or bench.answer(1).hits  # it may have answered before it died
    wait_for(lambda: bench.index._child is None)
    bench.ask("Marta", 2)
    assert bench.answer(2).late


def test_more_searches_than_a_pipe_holds_are_all_answered_while_it_starts(bench: Bench) -> None:
    bench.tell("Marta was born in Lisbon")
    for req in range(1, 201):  # 400 kB, and a pipe holds 64
        bench.ask(f"Marta {'word ' * 400}", req)
    assert all(bench.answer(req).hits for req in range(1, 201))


def test_close_applies_what_was_fed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.tell(*(f"page {n} of the book" for n in range(300)))
    bench.index.close()
    assert bench.index.lag() == 0
    bench.start()
    bench.ask("book", 1)
    assert len(bench.answer(1).hits) == 10
    bench.index.close()
    bench.disk.close()


KERNEL = """
    import sys, time
    from pathlib import Path
    from drivers.index.beside import IndexBeside
    from drivers.disk.lmdb import LmdbDisk
    disk = LmdbDisk(sys.argv[1])
    index = IndexBeside(sys.argv[1], disk)
    index.start(print, list)
    print(index._child.pid, flush=True)
    time.sleep(600)
"""


def test_the_index_ends_with_a_killed_kernel_and_the_next_one_gets_the_files(tmp_path: Path) -> None:
    LmdbDisk(tmp_path).close()
    kernel = subprocess.Popen([sys.executable, "-c", textwrap.dedent(KERNEL), str(tmp_path)], stdout=subprocess.PIPE)
    assert kernel.stdout is not None
    child = int(kernel.stdout.readline())
    kernel.send_signal(signal.SIGKILL)
    kernel.wait()
    kernel.stdout.close()
    bench = Bench(tmp_path)
    bench.tell("Marta was born in Lisbon")
    bench.ask("Marta", 1)
    assert bench.answer(1).hits
    wait_for(lambda: gone(child))
    bench.index.close()
    bench.disk.close()


READER = """
    import sys
    from drivers.disk.lmdb import LmdbReader
    reader = LmdbReader(sys.argv[1])
    for line in sys.stdin:
        print(len(reader.scan("page")), flush=True)
"""


def test_a_reader_sees_commits_after_the_writers_map_has_grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.disk.lmdb.MAP_BYTES", 1 << 20)
    disk = LmdbDisk(tmp_path, sync="off")
    command = [sys.executable, "-c", textwrap.dedent(READER), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        counts = []
        for n in range(1, 9):
            disk.commit([Record("page", n.to_bytes(8, "big"), bytes(1 << 20))])
            reader.stdin.write("\n")
            reader.stdin.flush()
            counts.append(int(reader.stdout.readline()))
        reader.stdin.close()
    assert counts == list(range(1, 9))
    disk.close()


def test_a_reader_of_nothing_is_refused_and_one_of_a_closed_disk_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        LmdbReader(tmp_path / "none")
    LmdbDisk(tmp_path).close()
    reader = LmdbReader(tmp_path)
    reader.close()
    with pytest.raises(DeviceError):
        reader.get("page", b"x")


def test_threads_may_ask_while_others_feed(bench: Bench) -> None:
    bench.tell("Marta was born in Lisbon")
    asking = [threading.Thread(target=bench.ask, args=("Marta", req)) for req in range(1, 21)]
    for thread in asking:
        thread.start()
    bench.tell(*(f"page {n} of the book" for n in range(100)))
    for thread in asking:
        thread.join()
    assert all(bench.answer(req).hits for req in range(1, 21))
