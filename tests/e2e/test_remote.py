"""A machine whose model runs in a server: `--cpu URL`, from a chat to the directory's record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.daemons import llmos
from tests.servers import Fake


@pytest.fixture
def fake() -> Iterator[Fake]:
    server = Fake()
    server.probing = False
    yield server
    server.down()


def test_a_chat_with_a_server_talks_and_the_directory_remembers_where(tmp_path: Path, fake: Fake) -> None:
    first = llmos(tmp_path / "m", "chat", "--cpu", fake.url, text="hello\n")
    assert (first.returncode, first.stderr) == (0, "")
    assert "main> you said: hello" in first.stdout
    again = llmos(tmp_path / "m", "chat", text="and again\n")
    assert (again.returncode, again.stderr) == (0, "")
    assert "main> you said: and again" in again.stdout
    assert "hello" in json.dumps(fake.chats[-1]["messages"]), "it remembers"


def test_another_model_than_last_time_is_one_line_and_taken_if_it_is_named(tmp_path: Path, fake: Fake) -> None:
    assert llmos(tmp_path / "m", "chat", "--cpu", fake.url, text="hello\n").returncode == 0
    fake.models = ["other-7b"]
    refused = llmos(tmp_path / "m", "chat", text="and again\n")
    assert refused.returncode == 2
    assert f"{fake.url}: it has no model fake-7b; it has other-7b (--model takes one)" in refused.stderr
    assert refused.stderr.count("\n") == 1
    taken = llmos(tmp_path / "m", "chat", "--model", "other-7b", text="and again\n")
    assert taken.returncode == 0, taken.stderr
    assert "main> you said: and again" in taken.stdout
    assert "hello" in json.dumps(fake.chats[-1]["messages"]), "its memory was measured anew"


def test_a_key_is_in_no_file_and_credentials_in_a_url_reach_no_process(
    tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.key = "sk-0123456789abcdef"
    monkeypatch.setenv("LLMOS_API_KEY", fake.key)
    said = llmos(tmp_path / "m", "chat", "--cpu", fake.url, text="hello\n")
    assert "main> you said: hello" in said.stdout
    assert fake.key not in said.stdout + said.stderr
    files = [path for path in (tmp_path / "m").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if fake.key.encode() in path.read_bytes()]
    refused = llmos(tmp_path / "n", "chat", "--cpu", f"http://ada:secret@127.0.0.1:{fake.port}", text="hello\n")
    assert refused.returncode == 2
    assert "secret" not in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "n").exists()


def test_doctor_looks_at_servers_and_not_at_llama(tmp_path: Path, fake: Fake) -> None:
    well = llmos(tmp_path, "doctor", "--cpu", fake.url, "--json")
    found = {check["name"]: check for check in json.loads(well.stdout)["checks"]}
    assert found["server"] == {"name": "server", "state": "ok", "found": f"{fake.url}: fake-7b", "advice": ""}
    assert "llama-cpp-python" not in found
    fake.down()
    gone = llmos(tmp_path, "doctor", "--cpu", fake.url, "--json")
    found = {check["name"]: check for check in json.loads(gone.stdout)["checks"]}
    assert (gone.returncode, found["server"]["state"]) == (1, "fail")
    assert "connection refused" in found["server"]["found"]


def test_a_window_larger_than_the_servers_is_one_line(tmp_path: Path, fake: Fake) -> None:
    fake.window = 1024
    refused = llmos(tmp_path / "m", "boot", "--cpu", fake.url)
    assert refused.returncode == 2
    assert "window 2048 is larger than the model's 1024; take --window 1024" in refused.stderr
    assert refused.stderr.count("\n") == 1
