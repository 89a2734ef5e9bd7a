"""What a process is, seen and changed with the command, against a real daemon."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from drivers.disk.lmdb import LmdbReader
from kernel.records import TABLES
from llmos.commands.app import main
from llmos.storage import backup, restore
from syscalls.abi import FULL
from tests.e2e.daemons import PATIENCE_S, command, eventually


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("changing") / "machine"
    process = subprocess.Popen(command(directory, "boot", "--cpu", "scripted"), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    yield directory
    process.terminate()
    process.communicate(timeout=PATIENCE_S)


def run(directory: Path, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """A command's whole line, as its process takes it, without the process."""
    place = [str(directory)] if arguments[0] == "journal" else ["--dir", str(directory)]
    line = ["llmos", *arguments, *place]
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.multiple(sys, argv=line, stdin=io.TextIOWrapper(io.BytesIO((text or "").encode()))),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    assert isinstance(ended.value.code, int)
    return subprocess.CompletedProcess(line, ended.value.code, out.getvalue(), err.getvalue())


def refused(directory: Path, *arguments: str, text: str | None = None) -> str:
    """The one line with which a command is refused."""
    found = run(directory, *arguments, text=text)
    assert (found.returncode, found.stdout, found.stderr.count("\n")) == (2, "", 1), found
    return found.stderr


def done(directory: Path, *arguments: str, text: str | None = None) -> str:
    found = run(directory, *arguments, text=text)
    assert found.returncode == 0, found
    return found.stdout


def made(directory: Path, proc: str) -> dict[str, object]:
    return json.loads(done(directory, "set", proc, "--json"))  # type: ignore[no-any-return]


def test_set_shows_and_changes_what_a_process_is_made_of(daemon: Path) -> None:
    done(daemon, "spawn", "one", "--system", "Be brief.", "--mask", "all")
    assert made(daemon, "one")["mask"] == list(FULL)
    done(daemon, "set", "one", "system=Be kind.", "mask=yield,send_message", "nice=5", "abort=true")
    found = made(daemon, "one")
    assert (found["system"], found["mask"]) == ("Be kind.", ["send_message", "yield"])
    assert (found["nice"], found["abort"]) == (5, True)
    assert done(daemon, "set", "one").endswith("sample=machine\nthink=auto\nsystem=Be kind.\n")
    done(daemon, "set", "one", "sample=temperature=0.5,top_p=0.9")
    assert made(daemon, "one")["sampling"] == "temperature=0.5,top_p=0.9"
    done(daemon, "set", "one", "sample=machine")
    assert "temperature=9: Expected `float` <= 2.0" in refused(daemon, "set", "one", "sample=temperature=9")
    done(daemon, "set", "one", "system=-", "mask=all", text="Be both.\nAlways.\n")
    found = made(daemon, "one")
    assert (found["system"], found["mask"]) == ("Be both.\nAlways.", list(FULL))
    assert "KEY=VALUE is wanted, of system, mask, nice, abort, sample" in refused(daemon, "set", "one", "model=x")
    assert "nice=x: a whole number is wanted" in refused(daemon, "set", "one", "nice=x")
    assert "syscalls are" in refused(daemon, "set", "one", "mask=fly")
    assert "the window is too small: window" in refused(daemon, "set", "one", "system=-", text="word " * 3_000)
    assert made(daemon, "one") == found


def test_spawn_of_a_name_with_another_choice_is_refused_with_how_to_change_it(daemon: Path) -> None:
    done(daemon, "spawn", "two", "--system", "Be brief.", "--nice", "5", "--block", "human=likes tea")
    assert "`llmos set`" in refused(daemon, "spawn", "two", "--system", "Be rude.")  # it lives
    done(daemon, "kill", "two")
    for other, how in (
        (("--system", "Be rude."), "`llmos set PROC system=...`"),
        (("--system", ""), "`llmos set PROC system=...`"),
        (("--mask", "yield"), "`llmos set PROC mask=...`"),
        (("--nice", "0"), "`llmos set PROC nice=...`"),
        (("--abort",), "`llmos set PROC abort=...`"),
        (("--sample", "model"), "`llmos set PROC sample=...`"),
        (("--block", "human=likes rain"), "`llmos core PROC BLOCK`"),
    ):
        assert how in refused(daemon, "spawn", "two", *other)
    done(daemon, "set", "two", "nice=0")
    done(daemon, "spawn", "two", "--nice", "0", "--system", "Be brief.", "--block", "human=likes tea")


def test_core_shows_a_block_and_writes_it_from_the_line_and_from_a_pipe(daemon: Path) -> None:
    done(daemon, "spawn", "three", "--block", "human=likes tea", "--block", "persona=You teach chess.")
    assert done(daemon, "core", "three") == "[human]\nlikes tea\n\n[persona]\nYou teach chess.\n"
    assert done(daemon, "core", "three", "human") == "likes tea\n"
    assert done(daemon, "core", "three", "human", "likes rain") == "changed\n"
    assert done(daemon, "core", "three", "human", "likes rain") == "not changed\n"
    done(daemon, "core", "three", "persona", "-", text="You teach Go.\nPatiently.\n")
    done(daemon, "core", "three", "human", "")
    found = json.loads(done(daemon, "core", "three", "--json"))
    assert found["blocks"] == {"persona": "You teach Go.\nPatiently."}
    assert 0 < found["tokens"] <= found["tokens_max"]
    assert "no block human; blocks of three are persona" in refused(daemon, "core", "three", "human")
    assert "core memory would have" in refused(daemon, "core", "three", "persona", "-", text="word " * 2_000)


def edit(daemon: Path, script: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """`core four persona --edit`, with a shell script as the editor, whose file is "$1"."""
    editor = tmp_path / "editor"
    editor.write_text(f"#!/bin/sh\nset -e\n{script}\n")
    editor.chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if key != "VISUAL"}
    environment |= {"EDITOR": str(editor), "TMPDIR": str(tmp_path)}
    line = command(daemon, "core", "four", "persona", "--edit")
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_core_edit_opens_a_file_of_ones_own_and_writes_back_unless_somebody_wrote_between(
    daemon: Path, tmp_path: Path
) -> None:
    done(daemon, "spawn", "four", "--block", "persona=You teach chess.")
    found = edit(daemon, f'stat -c %a "$1" > {tmp_path}/mode; sed -i s/chess/Go/ "$1"', tmp_path)
    assert (found.returncode, found.stdout) == (0, "changed\n"), found
    assert (tmp_path / "mode").read_text() == "600\n"
    assert done(daemon, "core", "four", "persona") == "You teach Go.\n"
    assert edit(daemon, "true", tmp_path).stdout == "not changed\n"
    assert edit(daemon, "exit 3", tmp_path).returncode == 2
    assert list(tmp_path.glob("llmos-core-*")) == []
    between = " ".join(command(daemon, "core", "four", "persona", "'You teach tea.'"))
    found = edit(daemon, f'{between}; echo "You teach nothing." > "$1"', tmp_path)
    assert found.returncode == 2
    assert "was written meanwhile" in found.stderr
    assert done(daemon, "core", "four", "persona") == "You teach tea.\n"
    (kept,) = tmp_path.glob("llmos-core-*")
    assert str(kept) in found.stderr
    assert kept.read_text() == "You teach nothing.\n"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_rename_gives_a_process_another_name(daemon: Path) -> None:
    done(daemon, "spawn", "five")
    done(daemon, "rename", "five", "fifth of all")
    assert made(daemon, "fifth of all")["name"] == "fifth of all"
    assert "no process 'five'" in refused(daemon, "send", "five", "hello")
    assert "exists" in refused(daemon, "rename", "fifth of all", "one")


def tables_with(directory: Path, text: str) -> set[str]:
    """The tables of a running machine in which a text stands, and the index."""
    disk = LmdbReader(directory)
    try:
        found = {name for name in TABLES for row, value in disk.scan(name) if text.encode() in row + value}
    finally:
        disk.close()
    sql = sqlite3.connect(f"file:{directory / 'index.sqlite'}?mode=ro", uri=True)
    word = text.split()[-1]
    indexed = sql.execute("SELECT count(*) FROM fts WHERE fts MATCH ?", (word,)).fetchone() != (0,)
    sql.close()
    return found | ({"index"} if indexed else set())


def test_rm_is_for_good_after_a_question_and_the_journal_forgets_when_it_is_cut(daemon: Path) -> None:
    done(daemon, "spawn", "six", "--block", "human=keeps a zeppelin")
    assert done(daemon, "send", "six", "I keep a zeppelin", "--wait") == "you said: I keep a zeppelin\n"
    done(daemon, "send", "six", "I keep a second zeppelin")
    eventually((daemon / "index.sqlite").exists)
    eventually(lambda: {"page", "proc", "outbox", "index", "journal"} == tables_with(daemon, "zeppelin"))
    assert "--kill ends it first" in refused(daemon, "rm", "six", "--yes")
    found = run(daemon, "rm", "six", "--kill", text="n\n")
    assert found.returncode == 2
    assert "Remove process" in found.stderr
    assert "is kept; --yes removes it without a question" in found.stderr
    found = run(daemon, "rm", "six", "--kill", text="y\n")
    assert (found.returncode, found.stdout.startswith("removed process")) == (0, True), found
    eventually(lambda: tables_with(daemon, "zeppelin") == {"journal"})
    assert "no process 'six'" in refused(daemon, "rm", "six", "--yes")
    assert "no process" in refused(daemon, "send", "six", "hello")
    done(daemon, "journal", "compact")
    eventually(lambda: tables_with(daemon, "zeppelin") == set())
    done(daemon, "spawn", "six")
    assert done(daemon, "send", "six", "What do I keep?", "--wait") == "you said: What do I keep?\n"
    looked = subprocess.run(
        [sys.executable, "-m", "llmos", "fsck", str(daemon)], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert looked.returncode == 0, looked.stdout
    done(daemon, "spawn", "seven")
    done(daemon, "kill", "seven")
    done(daemon, "rm", "seven", "--yes")


def test_mem_tells_what_core_memory_was_and_writes_it_anew_on_a_machine_that_runs_and_reads_one_that_does_not(
    daemon: Path, tmp_path: Path
) -> None:
    done(daemon, "spawn", "minded", "--block", "human=Likes tea.")
    done(daemon, "core", "minded", "human", "Likes coffee.\nHas a dog.")
    done(daemon, "core", "minded", "plans", "Lisbon")
    found = json.loads(done(daemon, "mem", "log", "minded", "--json"))
    first, second, third = found["changes"]
    assert [(one["by"], one["block"]) for one in (first, second, third)] == [
        ("begun", "human"),
        ("outside", "human"),
        ("outside", "plans"),
    ]
    assert found["whole"]
    head, row, *_ = done(daemon, "mem", "log", "minded").splitlines()
    assert head.split("\t") == ["VERSION", "WHEN", "BY", "WHAT", "TEXT"]
    assert row.split("\t")[0::4] == [str(first["lsn"]), "Likes tea."]
    assert len(done(daemon, "mem", "log", "minded", "--before", str(second["lsn"])).splitlines()) == 2
    assert "+Lisbon" in done(daemon, "mem", "diff", "minded")
    changed = done(daemon, "mem", "diff", "minded", str(first["lsn"]), str(second["lsn"]))
    assert changed.splitlines()[3:] == ["-Likes tea.", "+Likes coffee.", "+Has a dog."]
    assert done(daemon, "mem", "restore", "minded", str(first["lsn"])) == f"as at {first['lsn']}: human, plans\n"
    assert made(daemon, "minded")["blocks"] == {"human": "Likes tea."}
    again = json.loads(done(daemon, "mem", "restore", "minded", str(second["lsn"]), "--block", "human", "--json"))
    assert again["changed"] == ["human"]
    assert made(daemon, "minded")["blocks"] == {"human": "Likes coffee.\nHas a dog."}
    assert done(daemon, "mem", "restore", "minded", str(second["lsn"])) == "not changed\n"
    assert "no block x" in refused(daemon, "mem", "restore", "minded", str(second["lsn"]), "--block", "x")
    assert "is yet to come" in refused(daemon, "mem", "restore", "minded", "999999999")
    assert "no process 'nobody'" in refused(daemon, "mem", "log", "nobody")
    backup(daemon, tmp_path / "b.mdb", lambda _: None)
    restore(tmp_path / "b.mdb", tmp_path / "still", False, lambda _: None)
    for arguments in (["log", "minded", "--json"], ["diff", "minded", str(first["lsn"])], ["log", "minded"]):
        assert done(tmp_path / "still", "mem", *arguments) == done(daemon, "mem", *arguments)
    assert "no llmos runs in" in refused(tmp_path / "still", "mem", "restore", "minded", "1")
    assert "no process 'nobody'" in refused(tmp_path / "still", "mem", "diff", "nobody")


def test_limits_and_what_becomes_of_calls_are_set_one_by_one(daemon: Path) -> None:
    done(daemon, "spawn", "bound", "--mask", "all")
    done(daemon, "set", "bound", "limit.day_tokens=5000", "tainted.remember=ask")
    done(daemon, "set", "bound", "limit.children=2", "tainted.*=deny")
    found = made(daemon, "bound")
    assert found["limits"] == {"day_tokens": 5000, "children": 2}
    assert found["tainted"] == {"remember": "ask", "*": "deny"}
    assert "limit.children=2\n" in done(daemon, "set", "bound")
    done(daemon, "set", "bound", "limit.children=0")
    assert made(daemon, "bound")["limits"] == {"day_tokens": 5000}
    assert "limits are turn_tokens, turn_syscalls" in refused(daemon, "set", "bound", "limit.larches=1")
    assert "a whole number is wanted" in refused(daemon, "set", "bound", "limit.pages=many")
    assert "allow, ask, deny are wanted" in refused(daemon, "set", "bound", "tainted.send=perhaps")


def test_rights_are_given_taken_and_shown(daemon: Path) -> None:
    done(daemon, "spawn", "clerk", "--mask", "default,send,spawn")
    assert {"send", "spawn"} <= set(made(daemon, "clerk")["mask"])  # type: ignore[call-overload]
    found = json.loads(done(daemon, "caps", "clerk", "--grant", "send:*", "--grant", "kill:crew/*", "--json"))
    assert [one["right"] for one in found["grants"]] == ["send:*", "kill:crew/*"]
    assert "right\tsend:* from outside" in done(daemon, "caps", "clerk", "--revoke", "kill:crew/*")
    assert "holds nothing of wait:x" in refused(daemon, "caps", "clerk", "--revoke", "wait:x")
    assert "verbs are send, wait, kill, read, write, tool, search, remember" in refused(
        daemon, "caps", "clerk", "--grant", "eat:cake"
    )
    assert "asks for nothing" in refused(daemon, "allow", "clerk")
    assert json.loads(done(daemon, "audit", "clerk", "--json")) == {"calls": []}
    assert json.loads(done(daemon, "graph", "--json")) == {"edges": []}


def test_archives_are_mapped_that_may_be_searched_and_no_others(daemon: Path) -> None:
    done(daemon, "spawn", "reader", "--mask", "default")
    said = refused(daemon, "set", "reader", "archives=ledger,press")
    assert "may not search the archive of 'ledger'; `llmos caps reader --grant search:ledger` lets it" in said
    assert "right\tsearch:* from outside" in done(daemon, "caps", "reader", "--grant", "search:*")
    done(daemon, "set", "reader", "archives=ledger,press")
    assert made(daemon, "reader")["archives"] == ["ledger", "press"]
    assert "archives=ledger,press\n" in done(daemon, "set", "reader")
    done(daemon, "caps", "reader", "--revoke", "search:*")
    done(daemon, "caps", "reader", "--grant", "search:press")
    done(daemon, "spawn", "press")
    shown = done(daemon, "caps", "reader")
    nothing = "in which it finds nothing: it has no right, or nobody is called so"
    assert f"archive\tledger, {nothing}\narchive\tpress\n" in shown
    done(daemon, "rm", "press", "--kill", "--yes")
    assert "press" not in done(daemon, "caps", "reader"), "the right and the map go with whose archive it is"
    done(daemon, "set", "reader", "archives=")
    assert made(daemon, "reader")["archives"] == []


def test_the_commands_of_the_page_on_rights_run_as_they_stand(daemon: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "rights.md").read_text()
    lines = [line.removeprefix("$ llmos ") for line in text.splitlines() if line.startswith("$ llmos ")]
    assert len(lines) >= 6
    for line in lines:
        done(daemon, *shlex.split(line))
    assert made(daemon, "crew")["tainted"] == {"remember": "ask", "send": "deny"}
