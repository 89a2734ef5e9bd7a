"""Models of the hub, from a local server that speaks its protocol: the file that is meant, resumption, refusals."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bench.tiny import hybrid, mamba
from drivers.cpu import gguf
from kernel.errors import BadInput
from llmos import cards, catalogue, models

pytest.importorskip("huggingface_hub")
VERSION = "0123456789abcdef0123456789abcdef01234567"
FILES = ("tiny-F16.gguf", "tiny-Q4_K_M.gguf", "tiny-Q8_0.gguf", "mmproj-Q4_K_M.gguf", "big-00001-of-00002.gguf")


class Hub(BaseHTTPRequestHandler):
    """Repositories by name, each a list of files that are all `body`, or theirs of `bodies`; may hang up, may lie."""

    body: ClassVar[bytes]
    bodies: ClassVar[dict[str, bytes]]
    repositories: ClassVar[dict[str, tuple[str, ...]]]
    hang_up_at: ClassVar[int]  # 0: never
    lies: ClassVar[bool]
    status: ClassVar[int]  # 0: all is well
    got: ClassVar[list[str]]  # the Range of each GET of a file

    def do_HEAD(self) -> None:
        self._answer(head=True)

    def do_GET(self) -> None:
        self._answer(head=False)

    def _answer(self, head: bool) -> None:
        cls = type(self)
        path = self.path.partition("?")[0]
        if cls.status:
            self.send_error(cls.status)
        elif path.startswith("/api/models/"):
            self._described(path.removeprefix("/api/models/"))
        elif "/resolve/" in path:
            self._file(head)
        else:
            self.send_error(404)

    def _described(self, name: str) -> None:
        cls = type(self)
        if name not in cls.repositories:
            self.send_error(404)
            return
        siblings = []
        for file in cls.repositories[name]:
            body = cls.bodies.get(file, cls.body)
            sha256 = hashlib.sha256(body + (b"lie" if cls.lies else b"")).hexdigest()
            lfs = {"sha256": sha256, "size": len(body), "pointerSize": 134}
            siblings.append({"rfilename": file, "size": len(body), "lfs": lfs})
        raw = json.dumps({"id": name, "sha": VERSION, "siblings": [{"rfilename": "README.md"}, *siblings]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _file(self, head: bool) -> None:
        cls = type(self)
        body = cls.bodies.get(self.path.partition("?")[0].partition(f"/resolve/{VERSION}/")[2], cls.body)
        wanted = self.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        if not head:
            cls.got.append(wanted)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", VERSION)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if head:
            return
        if cls.hang_up_at:
            self.wfile.write(body[start : cls.hang_up_at])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(body[start:])

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    mamba(tmp_path / "tiny.gguf")
    Hub.body = (tmp_path / "tiny.gguf").read_bytes()
    Hub.repositories = {"owner/tiny": FILES, "owner/parts": FILES[-1:], "owner/one": ("only.gguf",), "owner/none": ()}
    Hub.bodies = {}
    Hub.hang_up_at, Hub.lies, Hub.status, Hub.got = 0, False, 0, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    for name in ("http_proxy", "HTTP_PROXY", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    yield Hub
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("spec", "file"),
    [
        ("hf:owner/tiny", "tiny-Q4_K_M.gguf"),
        ("hf:owner/tiny:q8_0", "tiny-Q8_0.gguf"),
        ("hf:owner/tiny:tiny-F16.gguf", "tiny-F16.gguf"),
        ("hf:owner/one", "only.gguf"),
    ],
)
def test_a_model_of_the_hub_is_pulled_by_repository_and_quantisation(hub: type[Hub], spec: str, file: str) -> None:
    told: list[tuple[int, int]] = []
    path = models.pull(spec, lambda what, done, total: told.append((done, total)))
    assert path.name == file
    assert path.read_bytes() == hub.body
    assert (len(hub.body), len(hub.body)) in told
    assert models.find(path.stem) == path
    gets = len(hub.got)
    assert models.pull(spec) == path
    assert len(hub.got) == gets, "what is here already stays"


def test_a_known_name_is_pulled_from_the_hub_and_lies_here_under_that_name(hub: type[Hub]) -> None:
    entry = catalogue.BY_NAME["qwen3-4b"]
    with pytest.raises(BadInput, match=r"it is not here; `llmos pull qwen3-4b` brings it \(2.5 GB\)"):
        models.find("qwen3-4b")
    hub.repositories = {entry.repository: ("other-Q4_K_M.gguf", entry.file)}
    path = models.pull("qwen3-4b")
    assert (path.name, path.read_bytes()) == ("qwen3-4b.gguf", hub.body)
    assert models.find("qwen3-4b") == path
    kept = models.pulled(path)
    assert kept is not None
    assert (kept.source, kept.sha256) == (entry.source, hashlib.sha256(hub.body).hexdigest())
    named = models.pull("qwen3-4b", name="mine")
    assert (named.name, models.entry(named)) == ("mine.gguf", entry)
    card = cards.card(named)
    assert (card.licence, card.good_for, card.sampled_by) == (entry.licence, entry.good_for, "llmos")
    assert card.sampling == "temperature=0.7,top_k=20,top_p=0.8"
    assert [one.name for one in cards.every() if one.here] == ["mine", "qwen3-4b"]
    hub.lies = True
    with pytest.raises(BadInput, match="its SHA-256 is"):
        models.pull("qwen3-4b", name="again")


def test_a_model_of_the_hub_in_parts_is_pulled_whole(hub: type[Hub], tmp_path: Path) -> None:
    parts = hybrid(tmp_path / "split-Q4_K_M.gguf", parts=2)
    hub.bodies = {f"Q4/{file.name}": file.read_bytes() for file in parts}
    hub.repositories["owner/split"] = ("other-Q8_0.gguf", *hub.bodies)
    path = models.pull("hf:owner/split")
    assert [file.read_bytes() for file in gguf.files(path)] == list(hub.bodies.values())
    assert models.find("split-Q4_K_M") == path
    gets = len(hub.got)
    assert models.pull("hf:owner/split:q4_k_m") == path
    assert len(hub.got) == gets == 2, "what is here already stays"


def test_a_download_that_was_broken_off_goes_on(hub: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    half = len(hub.body) // 2
    hub.hang_up_at = half
    with pytest.raises(BadInput, match="pull again to go on"):
        models.pull("hf:owner/one")
    assert not models.present()
    hub.hang_up_at = 0
    hub.got.clear()
    assert models.pull("hf:owner/one").read_bytes() == hub.body
    assert hub.got == [f"bytes={half}-"]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("hf:owner/tiny:Q2_K", "has no file of Q2_K; it has big.gguf, tiny-F16.gguf, tiny-Q4_K_M.gguf, tiny-Q8_0.gguf"),
        ("hf:owner/parts", "the repository lacks big-00002-of-00002.gguf, of 2 parts"),
        ("hf:owner/none", "the repository has no GGUF file"),
        ("hf:owner/gone", "knows no such repository"),
        ("hf:owner", "hf:OWNER/REPO or hf:OWNER/REPO:QUANT is wanted"),
        ("hf:../etc/passwd", "is wanted"),
    ],
)
def test_what_the_hub_does_not_have_is_one_line(hub: type[Hub], spec: str, says: str) -> None:
    with pytest.raises(BadInput) as refused:
        models.pull(spec)
    assert says in str(refused.value)
    assert str(refused.value).startswith(f"pull {spec}: ")


@pytest.mark.parametrize(("status", "says"), [(401, "or it is private"), (403, "consent to its licence")])
def test_a_refusal_of_the_hub_says_what_to_do(hub: type[Hub], status: int, says: str) -> None:
    hub.status = status
    with pytest.raises(BadInput, match=says):
        models.pull("hf:owner/tiny")


def test_a_file_that_is_not_what_the_hub_states_is_refused(hub: type[Hub]) -> None:
    hub.lies = True
    with pytest.raises(BadInput, match="its SHA-256 is"):
        models.pull("hf:owner/tiny")
    assert not models.present()


def test_a_file_of_the_hub_does_not_take_a_known_name(hub: type[Hub]) -> None:
    hub.repositories = {"owner/one": ("smollm2-135m.gguf",)}
    with pytest.raises(BadInput, match="is a model that llmos knows"):
        models.pull("hf:owner/one")
