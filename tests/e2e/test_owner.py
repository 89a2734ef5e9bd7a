"""Nothing but its owner reads or writes a machine: file modes, one kernel by whatever path, files that go away."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.disk.lmdb import LmdbDisk
from drivers.door import wire
from kernel.errors import BadInput, InUse
from llmos.storage import in_use, reader
from tests.e2e.daemons import PATIENCE_S, command, llmos


class Daemon:
    """`llmos boot` on a directory, and the lines it prints, as they come."""

    def __init__(self, directory: Path, cwd: Path | None = None) -> None:
        self.process = subprocess.Popen(
            command(directory, "boot", "--cpu", "scripted"),
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def ended(self) -> str:
        """What it printed until it ended."""
        return self.process.communicate(timeout=PATIENCE_S)[0]

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=PATIENCE_S)


def linked(machine: Path, other: Path, how: Callable[[Path, Path], None]) -> Path:
    """A second directory with the machine's data.mdb, and copies of what lies beside it."""
    other.mkdir()
    for name in ("kernel.left", "lock.mdb"):
        shutil.copy2(machine / name, other / name)
    how(machine / "data.mdb", other / "data.mdb")
    return other


def test_two_kernels_on_one_machine_by_six_different_paths_one_boots(tmp_path: Path) -> None:
    machine = tmp_path / "machine"
    first = Daemon(machine)
    others: list[Daemon] = []
    try:
        assert "serving" in first.line()
        (tmp_path / "alias").symlink_to(machine)
        paths = [
            tmp_path / "alias",
            Path(f"/proc/{os.getpid()}/root") / machine.relative_to("/"),  # as through another mount
            linked(machine, tmp_path / "hard", lambda file, name: os.link(file, name)),
            linked(machine, tmp_path / "soft", lambda file, name: name.symlink_to(file)),
            Path("alias") / ".." / "machine",
        ]
        (machine / "lock.mdb").unlink()
        (machine / "kernel.left").unlink()
        others = [Daemon(path, cwd=tmp_path) for path in [*paths, machine]]
        said = [other.ended() for other in others]
        assert len(said) == 6
        assert [other.process.returncode for other in others] == [2] * 6, said
        held = f"in use by process {first.process.pid};"
        assert [held in line or "is a symbolic link;" in line for line in said] == [True] * 6, said
        assert "is a symbolic link;" in said[3]
        (tmp_path / "hard" / "data.mdb").unlink()
        assert llmos(machine, "spawn", "p").returncode == 0, "the first goes on"
    finally:
        for daemon in (first, *others):
            daemon.stop()
    again = Daemon(tmp_path / "alias")
    try:
        assert "1 processes" in again.line(), "what it acknowledged is there by the other path"
    finally:
        again.stop()


@pytest.mark.parametrize("what", ["file", "directory", "moved", "another"])
def test_a_machine_whose_file_is_gone_stops_with_a_message_before_the_next_acknowledgement(
    tmp_path: Path, what: str
) -> None:
    machine = tmp_path / "machine"
    daemon = Daemon(machine)
    try:
        assert "serving" in daemon.line()
        assert llmos(machine, "spawn", "p").returncode == 0
        request = wire.encode(wire.Hello(version=wire.VERSION)) + wire.encode(
            wire.Send(id=1, proc="p", text="is it kept?", mid="m1")
        )
        talk = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(TALK), str(machine / "kernel.sock")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert talk.stdin is not None
        assert talk.stdout is not None
        assert talk.stdout.readline() == b"connected\n"
        match what:
            case "file":
                (machine / "data.mdb").unlink()
            case "directory":
                while machine.exists():  # ends: what the machine still writes meanwhile goes at the next time
                    shutil.rmtree(machine, ignore_errors=True)
            case "moved":
                machine.rename(tmp_path / "elsewhere")
            case _:
                shutil.copy2(machine / "data.mdb", tmp_path / "copy")
                os.replace(tmp_path / "copy", machine / "data.mdb")
        answers = talk.communicate(request, timeout=PATIENCE_S)[0]
        assert b'"op":"ok"' not in answers
        said = daemon.ended()
        assert "was deleted, moved or replaced under the running kernel" in said.splitlines()[-1]
        assert ("Traceback" in said, daemon.process.returncode) == (False, 2), said
    finally:
        daemon.stop()


TALK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as door:
    door.connect(sys.argv[1])
    print("connected", flush=True)
    door.sendall(sys.stdin.buffer.read())
    while chunk := door.recv(4096):
        sys.stdout.buffer.write(chunk)
"""


def test_a_lock_that_somebody_else_holds_is_said_with_who(tmp_path: Path) -> None:
    LmdbDisk(tmp_path / "machine").close()
    fd = os.open(tmp_path / "machine" / "data.mdb", os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        with pytest.raises(InUse, match=f"in use by process {os.getpid()}; stop it first"):
            LmdbDisk(tmp_path / "machine")
    finally:
        os.close(fd)
    LmdbDisk(tmp_path / "machine").close()


def test_no_lock_of_a_machine_follows_a_link(tmp_path: Path) -> None:
    victim, machine = tmp_path / "victim", tmp_path / "machine"
    victim.write_text("the user's own")
    machine.mkdir()
    (machine / "data.mdb").symlink_to(victim)
    with pytest.raises(BadInput, match="symbolic link"):
        LmdbDisk(machine)
    (machine / "data.mdb").unlink()
    os.mkfifo(machine / "data.mdb")
    with pytest.raises(BadInput, match="no file"):
        LmdbDisk(machine)
    assert victim.read_text() == "the user's own"


def test_somebody_who_only_looks_whether_a_machine_runs_keeps_nobody_from_booting_it(tmp_path: Path) -> None:
    LmdbDisk(tmp_path).close()
    looks = subprocess.Popen([sys.executable, "-c", textwrap.dedent(LOOKS), str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert looks.stdout is not None
        assert looks.stdout.readline() == b"looking\n"
        for _ in range(5):
            LmdbDisk(tmp_path).close()
    finally:
        looks.kill()
        looks.communicate()


LOOKS = """
import sys
from pathlib import Path
from llmos.storage import in_use
print("looking", flush=True)
while True:
    in_use(Path(sys.argv[1]))
"""


def test_readers_of_a_linked_file_that_is_in_use_are_refused_for_lmdb_does_not_see_them(tmp_path: Path) -> None:
    machine = tmp_path / "machine"
    disk = LmdbDisk(machine)
    other = linked(machine, tmp_path / "hard", lambda file, name: os.link(file, name))
    try:
        assert in_use(other)
        for directory in (machine, other):
            with pytest.raises(BadInput, match="linked into another directory"), reader(directory):
                pass
    finally:
        disk.close()
    with reader(other) as disk_read:
        assert disk_read.scan("proc") == []


def test_a_machine_made_without_the_command_is_its_owners_alone_under_umask_0(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIBRARY), str(tmp_path / "machine")],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [tmp_path / "machine", *(tmp_path / "machine").rglob("*")]
    assert {"data.mdb", "lock.mdb", "kernel.left", "index.sqlite", "index.lock"} <= {path.name for path in found}
    assert [(path.name, oct(path.lstat().st_mode)) for path in found if path.lstat().st_mode & 0o077] == []


LIBRARY = """
import os, sys
from pathlib import Path
os.umask(0)
import trio
from llmos.init import powered

async def main():
    async with powered(Path(sys.argv[1]), cpu="scripted"):
        pass

trio.run(main)
"""
