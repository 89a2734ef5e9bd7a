"""What is written to a file appears whole or not at all, and a full disk is one line."""

import ast
import contextlib
import errno
import gzip
import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.paging import formats, trace
from drivers.disk import whole
from drivers.disk.lmdb import LmdbDisk
from kernel.errors import BadInput
from llmos import storage
from llmos.commands.app import status
from tests.shape import files
from tests.unit.test_keeper import lived

TURNS = [trace.Turn(new=(trace.Ref(n, 5),), refs=(trace.Ref(1, 5),)) for n in range(1, 2_000)]


@contextlib.contextmanager
def room(size: int) -> Iterator[None]:
    """Files may have so many bytes here: what a full disk does to a write, without one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def interrupted(file: Path) -> None:
    """Half a write, and Ctrl-C."""
    with whole.writing(file) as stream:
        stream.write(b"three")
        raise KeyboardInterrupt


def test_a_file_is_there_whole_and_what_fails_leaves_the_one_of_before(tmp_path: Path) -> None:
    file = tmp_path / "file"
    whole.write(file, b"one")
    file.chmod(0o640)
    with whole.writing(file) as stream:
        stream.write(b"two")
        stream.flush()
        assert file.read_bytes() == b"one"
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"two", 0o640)
    with pytest.raises(KeyboardInterrupt):
        interrupted(file)
    for gz in (False, True):
        with pytest.raises(OSError, match="File too large") as failed, room(1_000), whole.writing(file, gz=gz) as out:
            out.write(os.urandom(200_000))
        assert (failed.value.errno, failed.value.filename) == (errno.EFBIG, str(file))
    assert file.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["file"]
    with whole.writing(file, gz=True) as stream:
        stream.write(b"packed")
    assert gzip.decompress(file.read_bytes()) == b"packed"


def test_a_link_stays_a_link_and_what_is_no_file_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    whole.write(tmp_path / "link", b"through it")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"through it"
    whole.write(Path(os.devnull), b"gone")
    with pytest.raises(OSError, match="No space left"):
        whole.write(Path("/dev/full"), b"much" * 10_000)
    assert not Path("/dev/full").is_file()
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE) as cat:
        whole.write(tmp_path / "pipe", b"said")
        assert cat.communicate()[0] == b"said"


def test_a_convert_onto_its_own_input_and_one_that_fails_keep_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, other = tmp_path / "t.csv", tmp_path / "t.oracleGeneral.bin"
    count = formats.write(iter(TURNS), own)
    turns = list(formats.read(own))
    assert status(["trace", "convert", str(own), str(own)]) == 0
    assert list(formats.read(own)) == turns
    assert formats.write(iter(TURNS), other) == count
    good = other.read_bytes()
    capsys.readouterr()
    with room(5_000):
        assert status(["trace", "convert", str(own), str(other)]) == 2
    said = capsys.readouterr().err
    assert "cannot be written: File too large" in said
    assert said.count("\n") == 1
    assert other.read_bytes() == good
    own.write_bytes(own.read_bytes() + b"1,2,no number\n")
    assert status(["trace", "convert", str(own), str(other)]) == 2
    assert other.read_bytes() == good, "a bad input"
    assert sorted(os.listdir(tmp_path)) == ["t.csv", "t.oracleGeneral.bin"]


async def test_restore_and_trace_record_and_export_and_boot_on_a_full_disk_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = tmp_path / "machine"
    await lived(LmdbDisk(machine, sync="off"), 5)
    storage.backup(machine, tmp_path / "backup.mdb", lambda _: None)
    before = (machine / "data.mdb").read_bytes()
    for command in (
        ["restore", str(tmp_path / "backup.mdb"), str(tmp_path / "again")],
        ["restore", "--force", str(tmp_path / "backup.mdb"), str(machine)],
        ["backup", str(machine), str(tmp_path / "second.mdb")],
        ["trace", "record", str(machine), str(tmp_path / "t.jsonl"), "--process", "p"],
        ["export", "--dir", str(machine), "p", str(tmp_path / "p.jsonl")],
    ):
        capsys.readouterr()
        with room(400):
            code = status(command)
        said = capsys.readouterr().err.splitlines()
        assert (code, said[-1][:7]) == (2, "llmos: "), said
        assert "File too large" in said[-1], command
        assert not [line for line in said if "Traceback" in line]
        assert (machine / "data.mdb").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) in (["again", "backup.mdb", "machine"], ["backup.mdb", "machine"])
    (tmp_path / "new").mkdir()
    with room(20_000), pytest.raises(BadInput, match=r"lock\.mdb cannot be written: File too large; make room"):
        LmdbDisk(tmp_path / "new")


def test_a_boot_without_room_for_the_lock_file_is_one_line_and_no_signal() -> None:
    with tempfile.TemporaryDirectory(prefix="llmos-full-") as name:
        folder = Path(name)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", name], capture_output=True).returncode:
            pytest.skip("this host lets nobody mount a small disk; the test before this one has no such need")
        try:
            for pages, what in ((16, "."), (14, r"lock\.mdb"), (5, r"data\.mdb")):  # what there is no more room for
                (folder / "fill").write_bytes(bytes(pages * 4_096))
                with pytest.raises(BadInput, match=f"{what}.*No space left on device"):
                    LmdbDisk(folder)
        finally:
            subprocess.run(["umount", name], check=True)


OTHERWISE = {  # who writes a file in another way than whole.writing, and why
    "drivers/disk/whole.py": "it is this",
    "drivers/disk/lmdb.py": "LMDB copies to a descriptor, of a file in a folder of its own; locks",
    "drivers/cpu/kv/images.py": "beside and renamed, over the file of before, whose pages are in memory",
    "drivers/index/beside.py": "a lock",
    "llmos/profile/making.py": "answers are appended as they come, a line each",
    "llmos/download.py": "what is brought goes on where it was cut off; whoever asked puts it in its place",
    "llmos/models.py": "downloads go on where they were cut off; beside and renamed when their hash is right",
    "llmos/daemon.py": "a log",
    "llmos/console/editor.py": "lines are added to what was typed",
    "bench/daemon.py": "a log",
    "llmos/commands/app.py": "nowhere",
    "bench/documents/whole.py": "a manual in a folder of its own, which goes with the run",
    "bench/documents/run.py": "outcomes are added to those of before, a line each",
    "bench/paging/results.py": "cells are added to a table of hours; a line that was cut off is made anew",
    "bench/paging/sweep.py": "a lock",
    "llmos/scenario/many.py": "outcomes are added to those of before; one that was cut off is made anew",
    "bench/paging/bounds.py": "nowhere",
    "bench/crash/run.py": "damage",
    "bench/recovery.py": "damage",
    "bench/gguf.py": "a model for as long as a bench or a test lasts",
}
MODES = ("w", "a", "x", "+")


def _writes(call: ast.Call) -> bool:
    """Whether a call opens a file to write, or writes one."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ("write_text", "write_bytes", "copyfile", "copy2", "savefig"):
        return name != "savefig" or isinstance(call.args[0], ast.JoinedStr | ast.BinOp | ast.Constant)
    if name != "open":
        return False
    said = [arg.value for arg in (*call.args, *(k.value for k in call.keywords)) if isinstance(arg, ast.Constant)]
    flags = {node.attr for arg in call.args for node in ast.walk(arg) if isinstance(node, ast.Attribute)}
    modes = [one for one in said if isinstance(one, str) and 0 < len(one) < 4 and set(one) <= set("rwaxbt+")]
    return bool(flags & {"O_WRONLY", "O_RDWR"}) or any(mark in mode for mode in modes for mark in MODES)


def test_every_file_is_written_whole_or_it_stands_here_why_not() -> None:
    found = set()
    for path in files():
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        if any(_writes(call) for call in calls):
            found.add("/".join(path.parts[-len(path.relative_to(Path(__file__).parents[2]).parts) :]))
    found = {name for name in found if not name.startswith("bench/attack/")}
    assert found == set(OTHERWISE)
