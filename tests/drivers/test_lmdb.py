"""The disk: LMDB and its twin in memory. Real files, real crashes, a really full disk."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.disk import lmdb as module
from drivers.disk.lmdb import LmdbDisk
from drivers.disk.memory import MemoryDisk
from kernel.errors import BadInput, DeviceError
from kernel.ports import Disk, Record

ROOT = Path(__file__).parents[2]


def key(n: int) -> bytes:
    return n.to_bytes(8, "big")


def child(code: str, *args: object) -> subprocess.Popen[bytes]:
    """Run `code` in a Python of its own, from the repository's root."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.fixture(params=["lmdb", "memory"])
def disk(request, tmp_path):
    made: Disk = LmdbDisk(tmp_path / "dir", sync="off") if request.param == "lmdb" else MemoryDisk()
    yield made
    made.close()


def test_what_was_committed_is_read_and_none_deletes(disk):
    disk.commit([Record("proc", b"a", b"1"), Record("proc", b"b", b"2"), Record("page", b"a", b"3")])
    disk.commit([Record("proc", b"a", None), Record("proc", b"never", None), Record("proc", b"c", b"")])
    assert disk.get("proc", b"a") is None
    assert disk.get("page", b"a") == b"3"
    assert disk.get_many("proc", [b"c", b"a", b"b"]) == [b"", None, b"2"]


def test_the_later_record_of_one_commit_wins(disk):
    disk.commit([Record("proc", b"a", b"1"), Record("proc", b"a", None), Record("proc", b"a", b"2")])
    assert disk.get("proc", b"a") == b"2"


def test_scans_go_in_key_order_from_where_they_are_told(disk):
    disk.commit([Record("page", key(n), str(n).encode()) for n in (5, 1, 256, 3)])

    def numbers(*args, **kwargs):
        return [int(value) for _, value in disk.scan("page", *args, **kwargs)]

    assert numbers() == [1, 3, 5, 256]
    assert numbers(key(2)) == [3, 5, 256]
    assert numbers(key(3), limit=2) == [3, 5]
    assert numbers(key(257)) == []
    assert numbers(reverse=True, limit=1) == [256]
    assert numbers(key(4), reverse=True) == [3, 1]
    assert numbers(key(5), reverse=True, limit=2) == [5, 3]
    assert numbers(key(0), reverse=True) == []
    assert numbers(key(999), reverse=True) == [256, 5, 3, 1]
    assert disk.scan("timer") == []
    assert disk.scan("timer", reverse=True) == []


def test_a_commit_with_a_bad_key_writes_nothing(disk):
    disk.commit([Record("proc", b"a", b"old")])
    for bad in (b"", b"x" * 512):
        with pytest.raises(DeviceError):
            disk.commit([Record("proc", b"a", b"new"), Record("proc", bad, b"1")])
    assert disk.get("proc", b"a") == b"old"
    disk.commit([Record("proc", b"a", b"newer")])
    assert disk.get("proc", b"a") == b"newer"


records = st.lists(
    st.builds(
        Record,
        st.sampled_from(["page", "set"]),
        st.binary(min_size=1, max_size=3),
        st.none() | st.binary(max_size=5),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(commits=st.lists(records, max_size=4), start=st.binary(max_size=3), limit=st.integers(0, 4))
def test_the_disk_in_memory_answers_as_lmdb_does(tmp_path_factory, commits, start, limit):
    path = tmp_path_factory.mktemp("twin")
    real, twin = LmdbDisk(path, sync="off"), MemoryDisk()
    for commit in commits:
        real.commit(commit)
        twin.commit(commit)
    for reverse in (False, True):
        for table in ("page", "set", "meta"):
            ask = {"reverse": reverse, "limit": limit}
            assert real.scan(table, start, **ask) == twin.scan(table, start, **ask)
    real.close()
    shutil.rmtree(path)


def test_a_directory_is_read_again_after_close(tmp_path):
    disk = LmdbDisk(tmp_path)
    disk.commit([Record("ids", b"k", b"v" * 300_000)])
    disk.close()
    disk.close()
    again = LmdbDisk(tmp_path, create=False)
    assert again.get("ids", b"k") == b"v" * 300_000
    again.close()


def test_the_map_grows_until_a_commit_fits_while_others_read(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAP_BYTES", 1 << 20)
    disk = LmdbDisk(tmp_path, sync="off")
    disk.commit([Record("page", key(0), b"first")])
    stop = threading.Event()
    wrong = []

    def read() -> None:
        while not stop.wait(0.0005):  # a reader that never waits would starve the writer of the GIL
            if disk.get("page", key(0)) != b"first" or not disk.scan("page", limit=3):
                wrong.append(1)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for n in range(1, 9):
            disk.commit([Record("page", key(n), bytes(3_000_000))])  # each more than the first map
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert not wrong
    assert len(disk.scan("page")) == 9
    disk.close()


def test_a_second_kernel_is_refused_by_the_first_ones_process_id(tmp_path):
    disk = LmdbDisk(tmp_path)
    with pytest.raises(BadInput, match=f"in use by process {os.getpid()};"):
        LmdbDisk(tmp_path)
    other = child("import sys; from drivers.disk.lmdb import LmdbDisk; LmdbDisk(sys.argv[1])", tmp_path)
    assert f"in use by process {os.getpid()};" in other.communicate()[1].decode()
    disk.commit([Record("meta", b"k", b"v")])  # the refused ones have not harmed it
    disk.close()
    LmdbDisk(tmp_path).close()


def test_a_directory_of_another_format_is_refused_and_left_alone(tmp_path):
    disk = LmdbDisk(tmp_path)
    disk.commit([Record("meta", b"format", b"7")])
    disk.close()
    with pytest.raises(BadInput, match="format version 7; this llmos reads versions 1 to 6"):
        LmdbDisk(tmp_path)
    with pytest.raises(BadInput, match="format version 7"):  # the refusal let go of the directory
        LmdbDisk(tmp_path)


def test_another_programs_lmdb_is_refused(tmp_path):
    with lmdb.open(str(tmp_path), max_dbs=2) as env, env.begin(write=True) as txn:
        txn.put(b"theirs", b"1")
    with pytest.raises(BadInput, match="not made by llmos"):
        LmdbDisk(tmp_path)


@pytest.mark.parametrize("content", [b"hello", b"not lmdb " * 2_000], ids=["short", "long"])
def test_a_file_that_is_not_lmdb_is_refused_and_left_alone(tmp_path, content):
    (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(BadInput, match="not made by llmos") as refusal:
        LmdbDisk(tmp_path)
    assert "\n" not in str(refusal.value)
    assert (tmp_path / "data.mdb").read_bytes() == content


def test_a_file_cut_short_is_refused_not_a_bus_error(tmp_path):
    disk = LmdbDisk(tmp_path)
    disk.commit([Record("page", key(n), bytes(5_000)) for n in range(200)])
    disk.close()
    os.truncate(tmp_path / "data.mdb", 100_000)
    with pytest.raises(BadInput, match="cut short: 100000 bytes"):
        LmdbDisk(tmp_path)


def test_a_path_that_cannot_be_a_directory_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        LmdbDisk(tmp_path / "file")
    with pytest.raises(BadInput, match="holds no machine"):
        LmdbDisk(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory_is_refused(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(BadInput, match="cannot be written"):
        LmdbDisk(tmp_path)


FILL = """
    import resource, signal, sys
    from drivers.disk.lmdb import LmdbDisk
    from kernel.errors import DeviceError
    from kernel.ports import Record
    path, limit = sys.argv[1], int(sys.argv[2])
    disk = LmdbDisk(path)
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    for n in range(1_000):
        try:
            disk.commit([Record("page", n.to_bytes(8, "big"), bytes(20_000)), Record("set", b"last", str(n).encode())])
        except DeviceError as exc:
            print(n, disk.get("set", b"last").decode(), exc, sep="|")
            break
"""


def filled(path: Path, limit: int) -> int:
    """Fill the disk at `path` in another process; returns the number of the commit that failed, after checking it."""
    out, err = child(FILL, path, limit).communicate()
    failed, last, text = out.decode().split("|")
    assert int(last) == int(failed) - 1, "the commit before the failed one is still read"
    assert "\n" not in text.strip()
    assert "nothing of it was written" in text
    assert not err
    return int(failed)


def test_a_full_disk_fails_the_commit_and_keeps_the_one_before(tmp_path):
    failed = filled(tmp_path, limit=2_000_000)
    assert failed > 10
    again = LmdbDisk(tmp_path)
    assert again.get("set", b"last") == str(failed - 1).encode()
    assert len(again.scan("page")) == failed
    again.commit([Record("set", b"last", b"room again")])
    again.close()


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.geteuid() != 0, reason="mounts a small tmpfs")
def test_a_full_file_system_fails_the_commit_and_keeps_the_one_before(tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", tmp_path], check=False).returncode:
        pytest.skip("this container may not mount")
    try:
        failed = filled(tmp_path, limit=0)
        again = LmdbDisk(tmp_path)
        assert again.get("set", b"last") == str(failed - 1).encode()
        again.close()
    finally:
        subprocess.run(["umount", tmp_path], check=True)


WRITE = """
    import sys
    from drivers.disk.lmdb import LmdbDisk
    from kernel.ports import Record
    disk = LmdbDisk(sys.argv[1], sync=sys.argv[2])
    n = 0
    while True:
        n += 1
        both = [Record("page", n.to_bytes(8, "big"), b"x" * 500), Record("set", b"last", n.to_bytes(8, "big"))]
        disk.commit(both)
        print(n, flush=True)
"""


@pytest.mark.parametrize("sync", ["group", "off"])
def test_a_killed_writer_loses_no_commit_it_had_acknowledged(tmp_path, sync):
    for moment in range(3):
        path = tmp_path / str(moment)
        writer = child(WRITE, path, sync)
        assert writer.stdout is not None
        acknowledged = 0
        for _ in range(5 + 17 * moment):
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        rest = writer.communicate()[0].split()
        acknowledged = max([acknowledged, *map(int, rest)])
        disk = LmdbDisk(path)
        last = int.from_bytes(disk.get("set", b"last") or b"", "big")
        assert last >= acknowledged
        assert [int.from_bytes(k, "big") for k, _ in disk.scan("page")] == list(range(1, last + 1))
        disk.close()


def test_a_name_that_is_no_text_is_refused_in_one_line(tmp_path: Path) -> None:
    directory = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    directory.mkdir()
    with pytest.raises(BadInput, match="name another directory"):
        LmdbDisk(directory, create=True)
