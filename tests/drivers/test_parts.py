"""Models in parts, as llama.cpp splits them: pulled, listed and removed as one; what lacks is named."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bench.tiny import hybrid
from drivers.cpu import gguf
from kernel.errors import BadInput
from llmos import cards, models

PARTS = 3
NAMES = [f"tiny-{number:05}-of-{PARTS:05}.gguf" for number in range(1, PARTS + 1)]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path / "home"))
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home" / "models"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A model in three parts."""
    (tmp_path / "from").mkdir()
    return hybrid(tmp_path / "from" / "tiny.gguf", parts=PARTS)


class Files(SimpleHTTPRequestHandler):
    """The files of a folder; `got` are the names that were asked for."""

    got: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.got.append(self.path.rpartition("/")[2])
        super().do_GET()

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def url(files: list[Path]) -> Iterator[str]:
    Files.got = []
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(files[0].parent))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_first_part_is_the_model_and_says_how_large_all_are(files: list[Path], tmp_path: Path) -> None:
    (whole,) = hybrid(tmp_path / "one.gguf")
    header = gguf.read(files[0])
    assert (header.parts, header.size) == (PARTS, sum(file.stat().st_size for file in files))
    assert gguf.files(files[0]) == tuple(files)
    assert (gguf.read(whole).parts, gguf.read(whole).size, gguf.files(whole)) == (1, whole.stat().st_size, (whole,))
    assert gguf.read(whole).tokenizer == header.tokenizer


def test_what_is_wrong_with_a_part_is_one_line_that_names_it(files: list[Path]) -> None:
    with pytest.raises(BadInput, match="it is part 2 of 3; give the first, tiny-00001-of-00003.gguf"):
        gguf.read(files[1])
    renamed = files[0].rename(files[0].with_name("tiny.gguf"))
    with pytest.raises(BadInput, match="it is one of 3 parts, whose names end in -00001-of-00003.gguf"):
        gguf.read(renamed)
    renamed.rename(files[0])
    last = files[2].read_bytes()
    files[2].write_bytes(last[:-64])
    with pytest.raises(BadInput, match=r"tiny-00003-of-00003.gguf: cut off"):
        gguf.read(files[0])
    files[2].write_bytes(files[1].read_bytes())
    with pytest.raises(BadInput, match=r"tiny-00003-of-00003.gguf: it is not part 3 of 3"):
        gguf.read(files[0])
    files[2].unlink()
    with pytest.raises(BadInput, match="its part 3 of 3 is missing; put tiny-00003-of-00003.gguf beside it"):
        gguf.read(files[0])
    with pytest.raises(BadInput, match="its part 3 of 3 is missing"):
        models.pull(str(files[0]))
    assert models.present() == []


@pytest.mark.parametrize("name", ["", "mine"])
def test_a_model_in_parts_is_pulled_listed_and_removed_as_one(files: list[Path], home: Path, name: str) -> None:
    path = models.pull(str(files[0]), name=name)
    called = name or "tiny"
    assert path == home / NAMES[0].replace("tiny", called)
    assert models.present() == [path]
    assert models.find(called) == models.find(path.stem) == models.own(called) == path
    card = cards.card(path)
    assert (card.name, card.bytes, card.broken) == (called, sum(file.stat().st_size for file in files), "")
    (home / NAMES[1].replace("tiny", called)).unlink()
    assert "its part 2 of 3 is missing" in cards.card(path).broken
    models.remove(path)
    assert [one for one in home.iterdir() if one.suffix == ".gguf"] == []
    assert [one.name for one in home.iterdir()] in ([], [f"{NAMES[1].replace('tiny', called)}.json"])


def test_a_part_that_was_changed_is_found_when_the_model_is_used(files: list[Path], home: Path) -> None:
    models.pull(str(files[0]))
    part = home / NAMES[1]
    raw = bytearray(part.read_bytes())
    part.unlink()
    raw[-1] ^= 1
    part.write_bytes(raw)
    with pytest.raises(BadInput, match=r"tiny-00002-of-00003.gguf: it is no longer the file that was pulled"):
        models.find("tiny")


def test_the_parts_of_a_url_come_with_the_first_one_last(url: str, files: list[Path], home: Path) -> None:
    gone = files[0].rename(files[0].with_name("gone"))
    with pytest.raises(BadInput, match="404"):
        models.pull(f"{url}/{NAMES[0]}?download=true")
    assert models.present() == []
    gone.rename(files[0])
    Files.got.clear()
    assert models.pull(f"{url}/{NAMES[0]}?download=true") == home / NAMES[0]
    assert Files.got == [f"{NAMES[0]}?download=true"], "the others are here already"
    assert models.find("tiny") == home / NAMES[0]
    with pytest.raises(BadInput, match="it is part 2 of 3; give the URL of the first"):
        models.pull(f"{url}/{NAMES[1]}")
    with pytest.raises(BadInput, match="it comes in 3 parts, of which each has a SHA-256 of its own"):
        models.pull(f"{url}/{NAMES[0]}", sha256="0" * 64)


def test_parts_do_not_take_a_known_name(files: list[Path]) -> None:
    with pytest.raises(BadInput, match="smollm2-135m is a model that llmos knows"):
        models.pull(str(files[0]), name="smollm2-135m")


@pytest.mark.gguf
def test_a_model_in_parts_runs_as_one_in_a_file_does(files: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="the llama CPU is an extra")
    from bench.cpu.rig import opened
    from kernel.settings import Cpu as CpuSettings

    (whole,) = hybrid(tmp_path / "one.gguf")
    said = []
    for path in (whole, models.pull(str(files[0]))):
        with opened(path, CpuSettings(slots=1, threads=1), 256) as rig:
            said.append(rig.run(1, rig.text(1, 40), reply=8).ids)
    assert said[0] == said[1]
    assert said[0]
