"""A machine whose model runs in a server: `--cpu URL`, from a chat to the directory's record."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.daemons import command, eventually, llmos
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


def test_credentials_in_the_url_of_an_embedder_reach_no_list_of_processes(tmp_path: Path) -> None:
    setting = "disk.embedder=http://ada:secret@127.0.0.1:9"
    refused = llmos(tmp_path / "n", "chat", "--cpu", "scripted", "--set", setting, text="hello\n")
    assert refused.returncode == 2
    assert "disk.embedder: a URL with a name or password in it is not taken" in refused.stderr
    assert "secret" not in refused.stderr
    assert not (tmp_path / "n").exists()


def test_dmesg_says_in_one_line_that_the_server_of_vectors_is_gone(tmp_path: Path, fake: Fake) -> None:
    machine = tmp_path / "m"
    boot = command(machine, "boot", "--cpu", "scripted", "--set", f"disk.embedder={fake.url}")
    with subprocess.Popen(boot, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "serving" in process.stdout.readline()
        assert llmos(machine, "spawn", "main").returncode == 0
        assert "you said" in llmos(machine, "send", "main", "the boat is blue", "--wait").stdout
        fake.down()
        assert "you said" in llmos(machine, "send", "main", "Where is the boat?", "--wait").stdout
        eventually(lambda: "now: index: " in llmos(machine, "dmesg").stdout)
        (line,) = [line for line in llmos(machine, "dmesg").stdout.splitlines() if line.startswith("now: ")]
        assert f"{fake.url}: connection refused" in line
        assert "pages wait for vectors" in line
        assert llmos(machine, "stop").returncode == 0
        _, told = process.communicate(timeout=60)
    assert [one.partition(fake.url)[0] for one in told.splitlines()] == ["llmos: index: "]


def test_a_file_in_the_current_folder_is_no_module_of_the_daemons(tmp_path: Path, fake: Fake) -> None:
    (tmp_path / "re.py").write_text("raise SystemExit('not this one')\n")
    chat = [sys.executable, "-P", "-m", "llmos", "chat", "--dir", str(tmp_path / "m"), "--cpu", fake.url]
    said = subprocess.run(chat, cwd=tmp_path, input="hello\n", capture_output=True, text=True, timeout=60, check=False)
    assert (said.returncode, said.stderr) == (0, "")
    assert "main> you said: hello" in said.stdout
