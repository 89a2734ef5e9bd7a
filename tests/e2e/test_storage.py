"""fsck, backup, restore, replay, compaction, export and import, as commands, on real directories."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.disk.lmdb import LmdbDisk
from kernel.ports import Record
from tests.e2e.daemons import PATIENCE_S, command, daemon_pid, eventually, kill_daemon, llmos


def tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command that takes its directory as an argument."""
    return subprocess.run(
        [sys.executable, "-m", "llmos", *arguments], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def asked(*arguments: str) -> dict:  # type: ignore[type-arg]
    done = tool(*arguments, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a machine that has talked and been stopped."""
    directory = tmp_path_factory.mktemp("storage") / "machine"
    lines = "".join(f"note {n}: the boat in the garden has {n} sails\n" for n in range(25))
    done = llmos(directory, "chat", "--cpu", "scripted", text=lines)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture
def machine(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "machine", copy_function=shutil.copy2)


@pytest.fixture
def running(machine: Path) -> Iterator[Path]:
    process = subprocess.Popen(command(machine, "boot", "--cpu", "scripted"), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "serving" in process.stdout.readline()
    DAEMONS[machine] = process
    yield machine
    halt(machine)


DAEMONS: dict[Path, subprocess.Popen[str]] = {}


def halt(machine: Path) -> None:
    """Stop a daemon of ours, unless that is done."""
    process = DAEMONS.pop(machine, None)
    if process is not None:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)


def test_a_directory_replays_and_passes_fsck_stopped_and_running(machine: Path, running: Path) -> None:
    found = asked("replay", str(running))
    assert found["ok"]
    assert found["steps"] == found["lsn"] > 50
    seen = asked("fsck", str(running))
    assert (seen["ok"], seen["running"], seen["records"]["findings"]) == (True, True, [])
    assert not list(machine.glob("snapshot-*")), "the snapshot is gone"


def test_until_prints_the_machine_of_that_step(machine: Path) -> None:
    found = asked("replay", str(machine), "--until", "20")
    assert found["machine"]["lsn"] == 20
    (proc,) = found["machine"]["processes"]
    assert proc["name"] == "main"
    assert any("note 2" in page["text"] for page in proc["pages"]["queue"])
    shown = tool("replay", str(machine), "--until", "20")
    assert "SEGMENT" in shown.stdout
    assert shown.stdout.endswith(f"hash {found['hash']}\n")
    wrong = tool("replay", str(machine), "--until", "99999")
    assert wrong.returncode == 2
    assert "the journal goes from 0 to" in wrong.stderr


def test_a_journal_that_was_changed_is_found_with_its_step(machine: Path) -> None:
    from kernel import records

    disk = LmdbDisk(machine)
    row = disk.get("journal", records.key(30))
    assert row is not None
    disk.commit([Record("journal", records.key(30), row.replace(b"garden", b"gardex", 1)[:-16] + bytes(16))])
    disk.close()
    done = tool("replay", str(machine), "--diff")
    assert done.returncode == 1
    assert "diverged at 30: the state hash is" in done.stdout
    assert "notes_then" in done.stdout


def test_a_backup_of_a_running_machine_comes_back(running: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.mdb"
    kept = asked("backup", str(running), str(copy))
    assert llmos(running, "send", "main", "after the backup").returncode == 0
    assert tool("backup", str(running), str(copy)).returncode == 2, "it exists"
    back = tmp_path / "back"
    asked("restore", str(copy), str(back))
    seen = asked("fsck", str(back))
    assert (seen["records"]["lsn"], seen["records"]["hash"]) == (kept["lsn"], kept["hash"])
    assert asked("replay", str(back))["ok"]
    said = llmos(back, "chat", "--cpu", "scripted", text="hello again\n")
    assert "you said: hello again" in said.stdout
    assert asked("fsck", str(back))["index"] == [], "built again"
    refused = tool("restore", str(copy), str(back))
    assert (refused.returncode, "--force" in refused.stderr) == (2, True)
    assert tool("restore", str(copy), str(running), "--force").returncode == 2, "in use"
    asked("restore", str(copy), str(back), "--force")
    assert len(list(back.glob("data.mdb.before-*"))) == 1


def test_a_damaged_backup_or_directory_is_one_line(machine: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.mdb"
    asked("backup", str(machine), str(copy))
    raw = bytearray(copy.read_bytes())
    raw[raw.index(b"sails")] ^= 1
    copy.write_bytes(raw)
    refused = tool("restore", str(copy), str(tmp_path / "back"))
    assert refused.returncode == 2
    assert "damaged" in refused.stderr.splitlines()[-1]
    data = bytearray((machine / "data.mdb").read_bytes())
    for at in range(2 * 4096, len(data), 4096):
        data[at + 12] ^= 0x40  # every page's bounds: LMDB itself would read wildly
    (machine / "data.mdb").write_bytes(data)
    assert tool("fsck", str(machine)).returncode == 1
    for arguments in (["boot", "--cpu", "scripted"], ["send", "main", "hello"]):
        done = llmos(machine, *arguments)
        assert done.returncode == 2, done
    assert "data.mdb is damaged" in llmos(machine, "boot", "--cpu", "scripted").stderr
    assert "llmos restore" in llmos(machine, "boot", "--cpu", "scripted").stderr


def test_compaction_running_and_stopped(running: Path) -> None:
    done = asked("journal", "compact", str(running))
    assert done["running"]
    assert llmos(running, "send", "main", "one more").returncode == 0
    found = asked("replay", str(running))
    assert (found["ok"], found["start"]) == (True, done["lsn"])
    halt(running)
    size = (running / "data.mdb").stat().st_size
    done = asked("journal", "compact", str(running))
    assert not done["running"]
    assert (running / "data.mdb").stat().st_size < size
    assert asked("fsck", str(running))["records"]["journal"] == 0
    said = llmos(running, "chat", "--cpu", "scripted", text="still here\n")
    assert "you said: still here" in said.stdout
    found = asked("replay", str(running))
    assert (found["ok"], found["start"]) == (True, done["lsn"])


def test_a_kernel_that_is_killed_leaves_a_directory_that_passes(running: Path) -> None:
    for n in range(5):
        llmos(running, "send", "main", f"number {n}")
    assert kill_daemon(running)
    eventually(lambda: not daemon_pid(running))
    assert asked("fsck", str(running))["ok"]
    assert asked("replay", str(running))["ok"]
    assert "you said: back" in llmos(running, "chat", "--cpu", "scripted", text="back\n").stdout


def test_a_process_goes_from_one_machine_to_another(machine: Path, running: Path, tmp_path: Path) -> None:
    file, larch = tmp_path / "main.jsonl.gz", tmp_path / "larch.txt"
    larch.write_text("The larch is old.\n\nThe oak is older.\n")
    assert llmos(running, "put", "main", str(larch)).returncode == 0
    assert tool("export", "main", str(file), "--dir", str(running)).returncode == 0
    assert tool("export", "nobody", str(tmp_path / "x"), "--dir", str(running)).returncode == 2
    other = tmp_path / "other"
    done = tool("import", str(file), "--dir", str(other), "--cpu", "scripted")
    assert done.returncode == 0, done.stderr
    again = tmp_path / "again.jsonl"
    assert tool("export", "main", str(again), "--dir", str(other)).returncode == 0
    first = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()][1:-1]
    second = [json.loads(line) for line in again.read_text().splitlines()][1:-1]
    assert [page["text"] for page in second] == [page["text"] for page in first]
    assert [page.get("source") for page in second] == [page.get("source") for page in first]
    assert asked("fsck", str(other))["ok"]
    assert asked("replay", str(other))["ok"]
    assert "exists" in tool("import", str(file), "--dir", str(other), "--cpu", "scripted").stderr
    assert tool("import", str(file), "--dir", str(running), "--name", "twin").returncode == 0
    names = [one["name"] for one in json.loads(llmos(running, "ps", "--json").stdout)["processes"]]
    assert names == ["main", "twin"]
    listed = [json.loads(llmos(running, "put", name, "--json").stdout)["documents"] for name in names]
    assert [(one["path"], one["version"]) for one in listed[1]] == [(one["path"], one["version"]) for one in listed[0]]
    assert "unchanged" in llmos(running, "put", "twin", str(larch)).stdout
    raw = gzip.decompress(file.read_bytes())
    changed = tmp_path / "changed.jsonl"
    changed.write_bytes(raw.replace(b"sails", b"masts", 1))
    refused = tool("import", str(changed), "--dir", str(other))
    assert (refused.returncode, "was changed" in refused.stderr) == (2, True)
    changed.write_bytes(raw[: len(raw) // 2])
    assert tool("import", str(changed), "--dir", str(other)).returncode == 2


def test_a_directory_of_format_1_is_brought_up(tmp_path: Path) -> None:
    import lmdb

    from kernel.records import TABLES

    machine = format2(tmp_path)
    disk = LmdbDisk(machine)
    kept = {table: disk.scan(table) for table in TABLES if table != "base"}
    disk.close()
    for name in ("data.mdb", "lock.mdb", "kernel.left"):
        (machine / name).unlink()
    with lmdb.open(str(machine), max_dbs=len(TABLES)) as env:  # as llmos 0.1 wrote it
        for table, rows in kept.items():
            db = env.open_db(table.encode())
            with env.begin(write=True) as txn:
                for key, value in rows:
                    txn.put(key, value, db=db)
        with env.begin(write=True) as txn:
            txn.put(b"format", b"1", db=env.open_db(b"meta", txn=txn))
    said = llmos(machine, "chat", "--cpu", "scripted", text="new format\n")
    assert "you said: new format" in said.stdout, said.stderr
    found = json.loads(tool("fsck", str(machine), "--json").stdout)
    assert found["records"]["findings"] == ["journal: entry 163 stands where 1 should"], "format 1 has no checkpoint"
    assert (found["file"]["damage"], found["index"]) == ("", [])
    assert not (machine / "upgrade").exists()


def format2(folder: Path) -> Path:
    """A directory that a kernel of format 2 left: see tests/sim/test_formats.py."""
    with tarfile.open(Path(__file__).parents[1] / "fixtures" / "format2.tar.xz") as packed:
        packed.extractall(folder, filter="data")
    return folder


def test_a_directory_of_format_2_is_looked_through_replayed_and_brought_up(tmp_path: Path) -> None:
    format2(tmp_path)
    assert asked("fsck", str(tmp_path))["ok"]
    before = asked("replay", str(tmp_path))
    assert (before["ok"], before["steps"]) == (True, 356)
    assert "brought up" not in llmos(tmp_path, "chat", "--cpu", "scripted", "--help").stderr
    booted = llmos(tmp_path, "chat", "p2", "--cpu", "scripted", text="hello there\n")
    assert booted.returncode == 0, booted.stderr
    assert "format 2 was brought up to 6" in (tmp_path / "kernel.log").read_text()
    assert "you said: hello there" in booted.stdout
    assert asked("fsck", str(tmp_path))["ok"]
    after = asked("replay", str(tmp_path))
    assert after["ok"]
    assert after["steps"] > before["steps"]
    again = llmos(tmp_path, "chat", "p2", "--cpu", "scripted", text="once more\n")
    assert "you said: once more" in again.stdout
    assert (tmp_path / "kernel.log").read_text().count("brought up") == 1


@pytest.mark.gguf
def test_a_real_chat_replays_to_equal_hashes_without_its_model(tmp_path: Path) -> None:
    lines = "My cat is called Miso.\nI live in Lisbon.\nWhat is my cat called?\n"
    said = subprocess.run(
        command(tmp_path, "chat", "--model", "smollm2-135m", "--window", "1024", "--set", "cpu.reply=40"),
        input=lines, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    found = asked("replay", str(tmp_path))
    assert (found["ok"], found["start"]) == (True, 0)
    assert found["steps"] > 8
    asked("journal", "compact", str(tmp_path))
    assert asked("fsck", str(tmp_path))["index"] == []


def test_failpoints_reach_the_daemon_and_its_index_through_the_environment(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMOS_FAILPOINTS", "commit.after=kill@6,index.apply.inside=kill@1")
    done = llmos(machine, "chat", "--cpu", "scripted", text="one\ntwo\nthree\nfour\n")
    assert done.returncode == 0, "each daemon dies, and is started again"
    assert [f"you said: {word}" in done.stdout for word in ("one", "two", "three", "four")] == [True] * 4
    monkeypatch.setenv("LLMOS_FAILPOINTS", "commit.inside=enospc@2")
    full = llmos(machine, "boot", "--cpu", "scripted")
    assert full.returncode == 2
    assert "No space left on device" in full.stderr
    assert len(full.stderr.splitlines()) == 1
    monkeypatch.setenv("LLMOS_FAILPOINTS", "nowhere=kill")
    refused = llmos(machine, "ps")
    assert (refused.returncode, "no failpoint 'nowhere'" in refused.stderr) == (2, True)
    monkeypatch.delenv("LLMOS_FAILPOINTS")
    assert asked("fsck", str(machine))["ok"]
    assert asked("replay", str(machine))["ok"]


HOLD = """
    import sys, time
    from drivers.disk.lmdb import LmdbReader
    reader = LmdbReader(sys.argv[1])
    txn = reader._begin()
    txn.get(b"format", db=reader._tables["meta"])
    print("reading", flush=True)
    time.sleep(600)
"""


def test_a_reader_that_stands_still_does_not_let_the_file_grow_without_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from drivers.disk import lmdb as module

    monkeypatch.setattr(module, "READER_GROWTH", 4 << 20)
    monkeypatch.setattr(module, "READERS_LOOK", 16)
    disk = LmdbDisk(tmp_path, sync="off")
    row = bytes(4_000)
    disk.commit([Record("proc", n.to_bytes(8, "big"), row) for n in range(50)])
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "reading\n"
    os.kill(holder.pid, signal.SIGSTOP)  # a backup over a connection that hangs
    for n in range(2_000):
        disk.commit([Record("proc", (n % 50).to_bytes(8, "big"), row)])
    assert holder.wait(10) == -signal.SIGKILL
    assert (tmp_path / "data.mdb").stat().st_size < 12 << 20
    holder.stdout.close()
    disk.close()


def test_a_file_that_is_no_export_is_one_line_and_costs_no_kernel(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "corrupt.gz").write_bytes(b"\x1f\x8b\x08" + b"\xff" * 500)
    (tmp_path / "deep").write_bytes(b'{"format":' + b"[" * 200_000)
    for file in ("/dev/zero", *(str(tmp_path / name) for name in ("pipe", "corrupt.gz", "deep", "", "none"))):
        refused = tool("import", file, "--dir", str(tmp_path / "new"), "--cpu", "scripted")
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused.stderr
    assert not (tmp_path / "new").exists()


def test_nobody_but_its_owner_reads_a_machine_its_backup_or_an_export_whatever_the_umask(tmp_path: Path) -> None:
    machine = tmp_path / "machine"
    machine.mkdir(mode=0o755)
    before = os.umask(0)
    try:
        said = llmos(machine, "chat", "--cpu", "scripted", text="a secret\n")
        assert "you said: a secret" in said.stdout, said.stderr
        asked("backup", str(machine), str(tmp_path / "copy.mdb"))
        assert tool("export", "main", str(tmp_path / "main.jsonl.gz"), "--dir", str(machine)).returncode == 0
    finally:
        os.umask(before)
    found = [machine, *machine.rglob("*"), tmp_path / "copy.mdb", tmp_path / "main.jsonl.gz"]
    assert len(found) > 8
    assert [path.name for path in found if path.lstat().st_mode & 0o077] == []


def test_a_directory_of_before_is_tightened_with_a_line(tmp_path: Path) -> None:
    machine = format2(tmp_path)
    machine.chmod(0o755)
    (machine / "data.mdb").chmod(0o644)
    (machine / "notes.txt").write_text("the user's own")
    (machine / "notes.txt").chmod(0o644)
    for _ in range(2):
        llmos(machine, "chat", "p2", "--cpu", "scripted", text="hello\n")
    assert (machine.stat().st_mode & 0o777, (machine / "data.mdb").stat().st_mode & 0o777) == (0o700, 0o600)
    assert (machine / "notes.txt").stat().st_mode & 0o777 == 0o644
    assert (machine / "kernel.log").read_text().count("others could read it") == 1
