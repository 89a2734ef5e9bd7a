"""`llmos service` and `llmos launch`: what is written, where, and what a host without systemd is told."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shlex
import signal
import stat
import subprocess
from pathlib import Path

import httpx2
import pytest

from drivers.door.http import token
from llmos.commands.app import status
from llmos.doctor import checks
from llmos.launch import CLIENTS
from tests.e2e.daemons import PATIENCE_S, command, eventually
from tests.e2e.test_web import free_port


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with systemd's tools, which write down what they are asked; the file in which they do."""
    (tmp_path / "bin").mkdir()
    for name in ("systemctl", "journalctl"):
        script = tmp_path / "bin" / name
        script.write_text(f'#!/bin/sh\necho "{name} $*" | tee -a {tmp_path}/asked\n[ "$3" != status ] || exit 3\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("LLMOS_DIR", str(tmp_path / "my machine"))
    return tmp_path / "asked"


def test_a_unit_is_written_where_xdg_says_and_nowhere_else_and_started(tools: Path, tmp_path: Path) -> None:
    line = ["service", "install", "--http", "127.0.0.1:8484", "--set", "cpu.threads=1", "--model", "50% $x.gguf"]
    assert status(line) == 0
    unit = tmp_path / "config" / "systemd" / "user" / "llmos.service"
    text = unit.read_text()
    (start,) = [row for row in text.splitlines() if row.startswith("ExecStart=")]
    words = shlex.split(start.removeprefix("ExecStart=").replace("$$", "$").replace("%%", "%"))
    assert words[1:4] == ["-m", "llmos", "boot"]
    assert words[4:6] == ["--dir", str(tmp_path / "my machine")]
    assert words[6:] == ["--http", "127.0.0.1:8484", "--model", "50% $x.gguf", "--set", "cpu.threads=1"]
    assert '"50%% $$x.gguf"' in start
    assert "KillSignal=SIGTERM" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["asked", "bin", "config"]
    assert tools.read_text().splitlines() == [
        "systemctl --user daemon-reload",
        "systemctl --user enable --now llmos.service",
    ]


def test_status_and_logs_are_systemds(tools: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert status(["service", "status", "--json"]) == 3
    assert json.loads(capfd.readouterr().out)["running"] is False
    assert status(["service", "logs", "--last", "7", "--name", "agents"]) == 0
    assert capfd.readouterr().out == "journalctl --user --no-pager -n 7 -u agents.service\n"


def test_a_host_without_systemd_is_told_in_a_line_and_nothing_is_written(
    tools: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    for line in (["install"], ["status"], ["logs"]):
        assert status(["service", *line]) == 2
        found = capfd.readouterr()
        assert (found.out, found.err.count("\n")) == ("", 1)
        assert "this host has no systemd" in found.err
    assert not (tmp_path / "config").exists()
    assert status(["service", "install", "--print"]) == 0
    assert status(["service", "install", "--name", "../x"]) == 2


def test_launch_names_the_machine_its_token_and_its_processes_to_every_client(
    tools: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my machine").mkdir()
    for name in CLIENTS:
        assert status(["launch", name, "--url", "http://127.0.0.1:1234/", "--proc", 'a "b"']) == 0
        out = capfd.readouterr().out
        assert "http://127.0.0.1:1234/v1" in out
        key = token.read(tmp_path / "my machine" / token.FILE)
        assert (key in out) == (name not in ("llm", "zed"))  # these have a place of their own for it
        assert name == "openwebui" or 'a \\"b\\"' in out
    assert status(["launch", "zed", "--json"]) == 0
    settings = json.loads(json.loads(capfd.readouterr().out)["settings"])
    assert [one["name"] for one in settings["language_models"]["openai_compatible"]["llmos"]["available_models"]] == [
        "main",
        "new:default",
    ]
    file = tmp_path / "continue.yaml"
    assert status(["launch", "continue", "--write", str(file)]) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = file.read_text()
    assert status(["launch", "continue", "--write", str(file)]) == 2
    assert file.read_text() == kept
    assert status(["launch", "nobody"]) == 2


def test_sighup_reads_again_what_can_change_and_names_what_waits_for_a_restart(tmp_path: Path) -> None:
    directory, port = tmp_path / "machine", free_port()
    directory.mkdir()
    file = directory / "llmos.toml"
    file.write_text('[http]\nhosts = ["early.lan"]\n')
    out = (tmp_path / "out").open("wb")
    daemon = subprocess.Popen(
        command(directory, "boot", "--cpu", "scripted", "--http", f"127.0.0.1:{port}"), stdout=out, stderr=out
    )

    def said() -> str:
        return (tmp_path / "out").read_text()

    def again(toml: str, line: str) -> None:
        before = len(said())
        file.write_text(toml)
        daemon.send_signal(signal.SIGHUP)
        eventually(lambda: "\nllmos: " in said()[before - 1 :].rpartition("\n")[0])  # the log has lines of its own
        assert [one for one in said()[before:].splitlines() if one.startswith("llmos: ")] == [f"llmos: {line}"]

    def status_as(host: str) -> int:
        key = token.read(directory / token.FILE)
        headers = {"authorization": f"Bearer {key}", "host": host}
        return httpx2.get(f"http://127.0.0.1:{port}/v1/models", headers=headers, trust_env=False).status_code

    try:
        eventually(lambda: "for who has the token" in said())
        assert (status_as("early.lan"), status_as("late.lan")) == (200, 421)
        again(
            '[memory]\npolicy = "lru"\n[http]\nhosts = ["late.lan"]\nlisten = "127.0.0.1:1"\nlog = "none"\n'
            '[http.personas.tutor]\nsystem = "You teach."\n',
            "llmos.toml is read again; in force: http.hosts, http.personas, http.log; memory.policy: at the next start",
        )
        assert (status_as("early.lan"), status_as("late.lan")) == (421, 200)
        again(
            "[http\n",
            f"nothing is changed: {file}: no TOML: Expected ']' at the end of a table declaration "
            "(at line 1, column 6)",
        )
        assert status_as("late.lan") == 200
    finally:
        daemon.terminate()
        assert daemon.wait(PATIENCE_S) == 0
        out.close()


def test_doctor_says_what_http_needs_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> tuple[str, str, str]:
        (one,) = [check for check in checks(servers="http://127.0.0.1:1") if check.name == "http"]
        return one.state, one.found, one.advice

    assert found()[0] == "ok"
    assert "structlog" in found()[1]
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "starlette":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert found()[:2] == ("warn", "not installed: starlette")
    assert "llmos[http]" in found()[2]
