"""`llmos tools`, as docs/tools.md shows it: the example of that page runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from drivers.device.given import Given
from kernel.errors import BadInput
from llmos import config, daemon
from tests.e2e.daemons import PATIENCE_S, command, eventually, kill_daemon, llmos

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tools.md").read_text()


def block(kind: str) -> str:
    """The first block of a kind on the page."""
    found = re.search(rf"^```{kind}\n(.*?)^```", PAGE, re.M | re.S)
    assert found is not None
    return found[1]


def test_the_example_of_the_page_runs_and_prints_what_stands_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "notes.py").write_text(block("python"))
    (tmp_path / "llmos.toml").write_text(block("toml"))
    directory = tmp_path / "machine"
    process = subprocess.Popen(command(directory, "boot"), cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert "scripted" in process.stdout.readline()
        eventually(lambda: "up" in llmos(directory, "tools").stdout)
        _, _, shown = block("console").partition("$ llmos tools\n")
        said = llmos(directory, "tools").stdout
        assert [line.split() for line in said.splitlines()] == [line.split() for line in shown.splitlines()]
        (server,) = json.loads(llmos(directory, "tools", "--json").stdout)["servers"]
        assert [tool["name"] for tool in server["tools"]] == ["notes/read", "notes/add"]
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)
        kill_daemon(directory)


def test_a_file_names_servers_and_what_is_none_is_refused_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "llmos.toml"
    file.write_text('[tools.notes]\ncommand = "notes"\nlimit_s = 5\nidempotent = ["add"]\n')
    assert config.over(daemon.Options(), tmp_path).tools == {
        "notes": Given(command="notes", limit_s=5, idempotent=("add",))
    }
    for wrong, why in (
        ('[tools.notes]\ncommand = "x"\nurl = "http://y"\n', "a command or a url, and not both"),
        ('[tools."a/b"]\ncommand = "x"\n', "are a server's name"),
        ('[tools.notes]\ncommand = "x"\nwhat = 1\n', "unknown field `what`"),
    ):
        file.write_text(wrong)
        with pytest.raises(BadInput, match=rf"llmos.toml: tools.*{why}"):
            config.over(daemon.Options(), tmp_path)
