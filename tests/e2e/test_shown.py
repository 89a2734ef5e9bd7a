"""Text of others on terminals and in pipes: every command is asked for all that it prints of hostile text.

One machine has hostile text wherever somebody may put one: messages, replies, core memory, statuses, names of files and
folders, titles of models and scenarios. PRINTS has a line for every command that prints any of it; a new command is
missing there until somebody has thought of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.tiny import mamba
from kernel.text import UNSEEN
from llmos.commands.app import CONTENTS, status
from tests.e2e.daemons import command, kill_daemon, llmos, on_terminal

Run = Callable[..., tuple[str, str]]
EVIL = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202eretupmoc\u2066\x7f\x08\rend"
SCENARIO = """
title = "evil \\u001b[2J \\u202e"
teaches = "\\u009b31m"
until = "5s"
events = [{ at = "1s", to = ["a"], say = "\\u001b]0;x\\u0007 \\u001b[2Jand\\u202e" }]
expect = []
[processes.a]
does = "echo"
"""

PRINTS: dict[str, list[list[str]]] = {
    "boot": [["--cpu", EVIL]],
    "chat": [[], [EVIL], ["--sample", EVIL]],
    "ps": [[], ["--json"]],
    "vmstat": [[], [EVIL]],
    "irqs": [[]],
    "spawn": [[EVIL], ["x", "--mask", EVIL], ["x", "--block", EVIL], ["x", "--sample", EVIL]],
    "send": [["main", EVIL, "--wait"], ["main", EVIL, "--wait", "--json"], [EVIL, "x"], ["main", "x", "--mid", EVIL]],
    "ask": [[EVIL, "x"], [f"{EVIL}.md", EVIL, "--cpu", "scripted"], [f"{EVIL}.md", f"{EVIL}?", "--cpu", "scripted"]],
    "put": [["main", EVIL], [EVIL, "x"], ["main", f"{EVIL}.md"], ["main"], ["main", "--json"]],
    "fork": [["main", EVIL], [EVIL, "x"]],
    "set": [
        ["main", f"system={EVIL}"],
        ["main"],
        ["main", "--json"],
        ["main", EVIL],
        ["main", f"mask={EVIL}"],
        ["main", f"sample={EVIL}"],
        [EVIL],
    ],
    "core": [["main"], ["main", "--json"], ["main", EVIL], ["main", EVIL, "x"], [EVIL]],
    "mem": [
        ["log", "main"],
        ["log", "main", "--json"],
        ["diff", "main"],
        ["diff", "main", "1", "--json"],
        ["restore", "main", "1"],
        ["restore", "main", "2", "--block", EVIL],
        ["log", EVIL],
    ],
    "caps": [["main"], ["main", "--json"], ["main", "--grant", EVIL], [EVIL]],
    "allow": [["main"], [EVIL, "--no"]],
    "audit": [["main"], ["main", "--json"], [EVIL]],
    "graph": [[], ["--json"]],
    "rename": [["main", EVIL], [EVIL, "x"]],
    "kill": [[EVIL]],
    "rm": [["main"], [EVIL]],
    "dmesg": [["--since", "0"], ["--since", "0", "--json"]],
    "strace": [["main"], ["main", "--json"], [EVIL]],
    "why": [["main"], ["main", "--json"], [EVIL]],
    "pmap": [["main"], ["main", "--json"], ["main", "--texts"], ["main", "--texts", "--json"], [EVIL]],
    "cat": [["main", "2"], ["main", "2", "--json"], ["main", "3"], ["main", "4"], [EVIL, "2"], ["main", EVIL]],
    "facts": [["main"], [EVIL]],
    "tools": [[], ["--json"], ["--dir", EVIL]],
    "token": [["--dir", EVIL]],
    "launch": [["llm", "--proc", EVIL], ["zed", "--url", EVIL], [EVIL], ["llm", "--write", EVIL]],
    "service": [
        ["install", "--print", "--dir", EVIL],
        ["install", "--print", "--model", "a b%"],
        ["install", "--name", EVIL],
        ["logs", "--name", EVIL],
    ],
    "stop": [["--dir", EVIL]],
    "replay": [["--until", "9"], ["--until", "9", "--json"]],
    "journal": [["compact", EVIL]],
    "fsck": [[], [EVIL]],
    "backup": [[EVIL, "x"]],
    "restore": [[f"{EVIL}.mdb", "x"]],
    "export": [["main", f"{EVIL}.jsonl"], [EVIL, "x"]],
    "import": [[EVIL], [f"{EVIL}.jsonl"]],
    "pull": [[EVIL], [f"./{EVIL}.gguf"]],
    "profile": [[EVIL], ["evil", "--probes", "100"]],
    "models": [
        ["list"],
        ["list", "--json"],
        ["show", "evil"],
        ["show", "evil", "--json"],
        ["show", EVIL],
        ["rm", EVIL],
    ],
    "doctor": [["--dir", EVIL]],
    "demo": [["--model", EVIL], ["--dir", EVIL]],
    "run": [
        ["evil.toml", "--timeline"],
        [EVIL],
        ["evil.toml", "--trace", f"{EVIL}/x"],
        ["evil.toml", "--seeds", "1-2", "--set", "sched.policy=rr,fair"],
        ["evil.toml", "--seeds", EVIL],
        ["evil.toml", "--set", EVIL],
        ["--list"],
    ],
    "policies": [[], ["--check", f"{EVIL}.py:{EVIL}"], ["--check", EVIL]],
    "completion": [["bash"], [EVIL]],
    "settings": [[], ["--json"]],
    "trace": [["convert", EVIL, "x"], ["record", EVIL, "main", "x"]],
    "bench": [
        ["paging", "--workload", EVIL],
        ["paging", "--workload", f"{EVIL}.csv", "--columns", EVIL],
        ["paging", "--workload", "own", "--policy", f"{EVIL}.py:{EVIL}"],
        ["paging", "--workload", "own", "--on", EVIL],
        ["compare", EVIL, f"{EVIL}.gguf"],
        ["memory", "--workload", EVIL],
        ["data", "list", "--data", EVIL],
        ["data", "check", EVIL],
        ["data", "get", "mooncake", "--data", EVIL, "--from", f"http://127.0.0.1:9/{EVIL}"],
    ],
}
APART = {"boot", "chat"}
"""Commands that are processes of their own here: they read and write what a test's capture does not have."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where commands run: a machine with hostile text in it, whose kernel runs, and files of hostile names."""
    folder = tmp_path_factory.mktemp("evil")
    (folder / "evil.toml").write_text(SCENARIO)
    (folder / f"{EVIL}.md").write_text(f"# {EVIL}\n\n{EVIL}\n")
    (folder / EVIL / "not empty").mkdir(parents=True)
    (folder / f"{EVIL}.gguf").write_bytes(b"GGUF" + b"\0" * 20)
    (folder / "models").mkdir()
    mamba(folder / "models" / "evil.gguf")
    raw = (folder / "models" / "evil.gguf").read_bytes()
    (folder / "models" / "evil.gguf").write_bytes(raw.replace(b"Tiny Mamba", b"\x1b[2J\x07\xe2\x80\xaeab"))
    (folder / "models" / f"{EVIL}.gguf").write_bytes(b"GGUF" + b"\0" * 20)
    directory = folder / "machine"
    dies = json.dumps(f"import sys; sys.exit({EVIL!r})")
    server = f"[tools.evil]\ncommand = {json.dumps(sys.executable)}\nargs = ['-c', {dies}]\n"
    (folder / "llmos.toml").write_text(server)
    process = subprocess.Popen(
        command(directory, "boot", "--cpu", "scripted"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    process.stdout.readline()
    for arguments in (["spawn", "main", "--block", f"persona={EVIL}"], ["send", "main", EVIL, "--wait"]):
        assert llmos(directory, *arguments).returncode == 0
    yield folder
    kill_daemon(directory)
    process.communicate()


@pytest.fixture
def run(folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """What a command writes to its two pipes, run in `folder`, with its machine as the default one."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LLMOS_DIR", str(folder / "machine"))
    monkeypatch.setenv("LLMOS_HOME", str(folder))

    def run(name: str, *arguments: str) -> tuple[str, str]:
        if name not in APART:
            status([name, *arguments])
            return capfd.readouterr()
        done = subprocess.run(
            [sys.executable, "-m", "llmos", name, *arguments],
            input=f"{EVIL}\n/ps\n/pmap\n".encode(),
            capture_output=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        return done.stdout.decode(), done.stderr.decode()

    return run


def test_every_command_is_asked_for_what_it_prints_of_others() -> None:
    assert set(PRINTS) == set(CONTENTS)


@pytest.mark.parametrize("name", CONTENTS)
def test_no_text_of_others_reaches_a_terminal_as_more_than_is_seen(run: Run, name: str) -> None:
    shown = ""
    for arguments in PRINTS[name]:
        for text in run(name, *arguments):
            assert not UNSEEN.search(text), (arguments, UNSEEN.search(text), text)
            assert "Traceback" not in text, text
            shown += text
    assert shown, "it was asked for nothing that it prints"


def test_a_timeline_shows_what_others_said_in_it(run: Run) -> None:
    out, err = run("run", "evil.toml", "--timeline")
    assert err == ""
    assert "and\ufffd" in out


def test_what_is_shown_of_a_reply_is_all_of_it_but_for_what_is_not_to_be_seen(run: Run) -> None:
    out, _ = run("send", "main", EVIL, "--wait")
    assert out == "you said: " + UNSEEN.sub("\ufffd", EVIL) + "\n"
    out, _ = run("send", "main", EVIL, "--wait", "--json")
    assert json.loads(out)["messages"][0]["text"] == f"you said: {EVIL}"


@pytest.mark.parametrize("environment", [{"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_without_colours_gets_no_escape_sequence(folder: Path, environment: dict[str, str]) -> None:
    for name in ("ps", "vmstat", "irqs", "pmap"):
        where = ["--dir", str(folder / "machine")]
        shown = on_terminal(80, [name, *where, *(["main"] if name == "pmap" else [])], **environment)
        assert not UNSEEN.search(shown.replace("\r\n", "\n")), (name, shown)


@pytest.mark.parametrize("name", ["ps", "vmstat", "irqs", "facts"])
def test_tables_fit_a_terminal_of_eighty_columns(folder: Path, name: str) -> None:
    where = ["--dir", str(folder / "machine"), *(["main"] if name == "facts" else [])]
    shown = on_terminal(80, [name, *where], TERM="xterm", NO_COLOR="1")
    assert shown
    assert max(len(line) for line in shown.splitlines()) <= 80


@pytest.mark.parametrize("name", ["ps", "vmstat", "irqs", "pmap", "policies"])
def test_a_pipe_gets_whole_lines_with_tabs_between_their_columns(run: Run, name: str) -> None:
    out, _ = run(name, *(["main"] if name == "pmap" else []))
    head, *rows = out.splitlines()
    assert rows
    assert {row.count("\t") for row in rows} == {head.count("\t")}
    assert "…" not in out
    assert "█" not in head


def test_a_bench_in_a_pipe_is_whole(run: Run) -> None:
    out, _ = run("bench", "paging", "--workload", "own", "--policy", "lru,fifo", "--budget", "2048", "--no-bounds")
    head, *rows = [line.split("\t") for line in out.splitlines()]
    assert {"policy", "regret pp", "recall/question"} <= set(head)
    assert {row[0] for row in rows} == {"lru", "fifo"}
    assert {len(row) for row in rows} == {len(head)}
    assert "…" not in out
