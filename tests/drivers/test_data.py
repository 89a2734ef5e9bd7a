"""The data of benches, fetched from a server on this machine: whole, resumed, checked by its hash, in one piece."""

import gzip
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bench import data
from bench.sources import SOURCES, File, Source
from kernel.errors import BadInput
from llmos.commands.app import status

LINES = b"".join(b'{"n": %d}\n' % n for n in range(5_000))


class Server(BaseHTTPRequestHandler):
    """Serves what it has at its paths, knows ranges, and may hang up in the middle."""

    bodies: ClassVar[dict[str, bytes]]
    hang_up_at: ClassVar[int]
    sent: ClassVar[list[tuple[str, int, int]]]  # (path, first byte, bytes sent)
    url: ClassVar[str]

    def do_GET(self) -> None:
        cls = type(self)
        body = cls.bodies.get(self.path)
        if body is None:
            self.send_error(404)
            return
        wanted = self.headers.get("Range", "") if self.headers.get("If-Range") == '"one"' else ""
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = cls.hang_up_at or len(body)
        self.wfile.write(body[start:end])
        cls.sent.append((self.path, start, len(body[start:end])))

    def log_message(self, *_args: Any) -> None:
        """Say nothing on the terminal."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Server]]:
    for name in ("http_proxy", "HTTP_PROXY", "LLMOS_DATA"):
        monkeypatch.delenv(name, raising=False)

    class Own(Server):
        bodies, hang_up_at, sent = {}, 0, []

    with ThreadingHTTPServer(("127.0.0.1", 0), Own) as http:
        Own.url = f"http://127.0.0.1:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Own
        http.shutdown()
        thread.join()


def source(path: str, content: bytes, *parts: str, made: str = "", name: str = "one") -> Source:
    file = File(path, len(content), data.digest(content, path), parts, made)
    return Source(name, "a thing", "MIT", "https://example.org", "nothing", (file,))


def get(folder: Path, one: Source, server: type[Server], *, other: bool = False) -> list[Path]:
    return data.get(folder, one, server.url, other=other, progress=lambda *_: None)


def test_a_file_is_fetched_packed_and_stays(server: type[Server], tmp_path: Path) -> None:
    server.bodies["/o/r/c/lines.jsonl"] = LINES
    one = source("deep/lines.jsonl.gz", LINES, "o/r/c/lines.jsonl")
    assert data.look(tmp_path, [one])[0].state == "missing"
    assert get(tmp_path, one, server) == [tmp_path / "deep/lines.jsonl.gz"]
    assert gzip.decompress((tmp_path / "deep/lines.jsonl.gz").read_bytes()) == LINES
    assert data.look(tmp_path, [one])[0].state == "here"
    assert get(tmp_path, one, server) == []
    assert len(server.sent) == 1
    assert os.listdir(tmp_path) == ["deep"]


def test_what_was_broken_off_goes_on_where_it_was(server: type[Server], tmp_path: Path) -> None:
    server.bodies["/a.bin"], server.hang_up_at = LINES, 10_000
    one = source("a.bin", LINES, "a.bin")
    with pytest.raises(BadInput, match=r"ended after 10,000 of .* pull again"):
        get(tmp_path, one, server)
    assert not (tmp_path / "a.bin").exists()
    server.hang_up_at = 0
    assert get(tmp_path, one, server) == [tmp_path / "a.bin"]
    assert server.sent[1:] == [("/a.bin", 10_000, len(LINES) - 10_000)]
    assert (tmp_path / "a.bin").read_bytes() == LINES


def test_another_content_is_refused_and_leaves_what_was_there(server: type[Server], tmp_path: Path) -> None:
    server.bodies["/a.bin"] = b"something else"
    (tmp_path / "a.bin").write_bytes(b"older")
    one = source("a.bin", LINES, "a.bin")
    with pytest.raises(BadInput, match=r"not what the figures were made with .*--other keeps it"):
        get(tmp_path, one, server)
    assert (tmp_path / "a.bin").read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["a.bin"]
    get(tmp_path, one, server, other=True)
    assert (tmp_path / "a.bin").read_bytes() == b"something else"
    assert data.look(tmp_path, [one])[0].state == "other"


@pytest.mark.parametrize(
    ("body", "made", "says"),
    [
        (b"[]", "six", "of another form"),
        (b"{", "runs", "of another form"),
        (b"[" * 100_000, "runs", "of another form"),
        (b"no gzip", "first 50", "a.jsonl.gz"),
        (gzip.compress(LINES)[:-3], "first 50", "cut off"),
        (None, "", "404"),
    ],
)
def test_what_is_of_another_form_is_one_line(
    server: type[Server], tmp_path: Path, body: bytes | None, made: str, says: str
) -> None:
    if body is not None:
        server.bodies["/a.jsonl.gz" if made.startswith("first") else "/a.json"] = body
    part = "a.jsonl.gz" if made.startswith("first") else "a.json"
    with pytest.raises(BadInput, match=says) as caught:
        get(tmp_path, source("b.jsonl", LINES, part, made=made), server)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "b.jsonl").exists()


def test_what_is_a_part_of_what_lives_somewhere_is_made_of_it() -> None:
    chat = [{"id": "s0", "topic": "t", "question": [[{"role": "user", "content": f"said {n}"}] for n in range(2)]}]
    raw = json.dumps(chat[0]).encode()
    assert json.loads(data.MAKERS["sessions"]([raw])) == {
        "session": "s0",
        "topic": "t",
        "messages": ["said 0", "said 1"],
    }
    asked = [
        {"id": f"q-{who}", "scenario": who, "question": [[{"role": "user", "content": "who?"}]]}
        for who in ("finance", "customer")
    ]
    answers = [{"id": f"q-{who}", "ground_truth": ["me"], "source": "I am"} for who in ("customer", "finance")]
    made = data.MAKERS["questions"]([b"\n".join(json.dumps(one).encode() for one in some) for some in (asked, answers)])
    assert json.loads(made) == {
        "id": "q-finance", "scenario": "finance", "question": "who?", "answers": ["me"], "source": "I am",
    }  # fmt: skip
    said = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    runs = [{"task_id": 3, "trial": trial, "reward": 1.0, "info": {}, "traj": [said]} for trial in (0, 2)]
    assert json.loads(data.MAKERS["runs"]([json.dumps(runs).encode()])) == {
        "task": 3, "trial": 0, "reward": 1.0,
        "messages": [{"role": "assistant", "text": "", "calls": [{"name": "f", "arguments": "{}"}]}],
    }  # fmt: skip
    samples = [{"sample_id": name, "n": 1} for name in ("conv-50", *reversed(data.LOCOMO))]
    assert [one["sample_id"] for one in json.loads(data.MAKERS["six"]([json.dumps(samples).encode()]))] == list(
        data.LOCOMO
    )
    assert data.MAKERS["first 50"]([LINES]) == b"".join(LINES.splitlines(keepends=True)[:50])


def test_a_hash_is_of_the_values_however_they_are_written() -> None:
    assert data.digest(b'{"a": "\\u00e9", "b": [1]}', "x.json") == data.digest(
        '{"b":[1],"a":"é"}'.encode(), "x.json.gz"
    )
    assert data.digest(b"[1]\n\n[2]", "x.jsonl") == data.digest(b"[1]\n[2]\n", "x.jsonl")
    assert data.digest(b"[1] ", "x.bin") != data.digest(b"[1]", "x.bin")


def test_every_source_is_had_or_says_why_not_and_the_command_does_it(
    server: type[Server], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for one in SOURCES:
        assert all(file.parts and file.made in data.MAKERS for file in one.files) == (not one.why)
        assert all(len(file.digest) == 64 for file in one.files)
    assert status(["bench", "data", "list", "--data", str(tmp_path), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["data"]
    assert [one["name"] for one in listed if not one["get"]] == ["git", "templates"]
    assert status(["bench", "data", "get", "git", "--data", str(tmp_path)]) == 2
    assert "llmos trace git" in capsys.readouterr().err
    assert status(["bench", "data", "get", "nothing"]) == 2
    assert "no such data; there are locomo, bfcl" in capsys.readouterr().err
    (file,) = next(one for one in SOURCES if one.name == "mooncake").files
    server.bodies[f"/{file.parts[0]}"] = b'{"timestamp": 0}\n'
    command = ["bench", "data", "get", "mooncake", "--data", str(tmp_path), "--from", server.url]
    assert status(command) == 2
    assert "not what the figures were made with" in capsys.readouterr().err
    assert status([*command, "--other"]) == 0
    assert status(["bench", "data", "check", "mooncake", "--data", str(tmp_path)]) == 1


@pytest.mark.skipif(not os.environ.get("LLMOS_DATA"), reason="LLMOS_DATA names no folder with the benchmark data")
def test_the_data_here_is_what_the_figures_were_made_with() -> None:
    assert {one.state for one in data.look(Path(os.environ["LLMOS_DATA"]), SOURCES)} == {"here"}
