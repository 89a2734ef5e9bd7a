"""Files that were damaged: noticed, and nothing wrong comes out of them. 200 of the indexes, 200 of data.mdb."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from drivers.disk import lmdb
from drivers.disk.left import LEFT, reason_to_walk
from drivers.disk.lmdb import LmdbDisk, LmdbReader
from drivers.disk.walk import walk, walk_apart
from kernel.errors import BadInput, DeviceError
from kernel.event import Hit
from kernel.ports import Record
from kernel.records import TABLES, Table, key
from tests.drivers.test_index import Bench, chatter

QUERIES = ("Marta born Lisbon", "garden in winter", "museum letter", "violin bread", "spider")
KINDS = ("bit", "byte", "run", "cut", "grown", "zeros")


def damaged(raw: bytes, rng: random.Random, kind: str) -> bytes:
    """A file with a flipped bit, another byte, a run of others or of zeros, cut short, or with more at its end."""
    found, at = bytearray(raw), rng.randrange(len(raw))
    match kind:
        case "bit":
            found[at] ^= 1 << rng.randrange(8)
        case "byte":
            found[at] = rng.randrange(256)
        case "run":
            found[at : at + 700] = rng.randbytes(len(found[at : at + 700]))
        case "zeros":
            found[at : at + 4096] = bytes(len(found[at : at + 4096]))
        case "cut":
            del found[at:]
        case _:
            found += rng.randbytes(5_000)
    return bytes(found)


def answers(bench: Bench) -> list[tuple[Hit, ...]]:
    found = [bench.ask(query, limit=50) for query in QUERIES]
    assert not any(answer.late for answer in found), bench.index.damaged
    return [answer.hits for answer in found]


@pytest.mark.parametrize("clean", [True, False], ids=["closed", "killed"])
def test_a_damaged_index_gives_the_answers_of_a_whole_one(tmp_path: Path, clean: bool) -> None:
    rng = random.Random(f"index/{clean}")
    bench = Bench(tmp_path / "first", exact_max=40)
    bench.tell("Marta was born in Lisbon", *chatter(120))
    whole = answers(bench)
    if clean:
        bench.restart()
        bench.index.close()
    else:
        bench.tell(*chatter(10))  # in the log
        whole = answers(bench)
    kept = {file.name: file.read_bytes() for file in bench.folder.iterdir() if not file.name.endswith("-shm")}
    stats = {name: (bench.folder / name).stat() for name in kept}
    noticed = 0
    for n in range(100):
        folder = tmp_path / f"n{n}"
        folder.mkdir()
        name, kind = sorted(kept)[n % len(kept)], KINDS[n // len(kept) % len(KINDS)]
        for other, raw in kept.items():
            (folder / other).write_bytes(raw)
            os.utime(folder / other, ns=(stats[other].st_atime_ns, stats[other].st_mtime_ns))
        if kept[name]:
            (folder / name).write_bytes(damaged(kept[name], rng, kind))
        again = Bench(folder, disk=bench.disk, exact_max=40)
        assert answers(again) == whole, (name, kind)
        noticed += again.index.anew
        again.index.close()
        shutil.rmtree(folder)
    assert noticed > 30
    bench.index.close()


def machine(path: Path, commits: int = 25) -> None:
    """A directory with all tables in use, and values of all sizes."""
    rng = random.Random(str(path.name))
    disk, n = LmdbDisk(path), 0
    for _ in range(commits):
        rows = []
        for _ in range(rng.randint(1, 12)):
            n += 1
            rows.append(Record("page", key(n), rng.randbytes(rng.choice([50, 250, 3_000, 9_000]))))
            rows.append(Record("ids", b"0123456789/" + key(n), rng.randbytes(200)))
            rows.append(Record("journal", key(n), rng.randbytes(rng.choice([100, 5_000]))))
            rows.append(Record("proc", key(rng.randint(1, 20)), rng.randbytes(rng.randint(100, 900))))
            rows.append(Record("mid", b"m%d" % rng.randint(1, 1 << 30), key(1, n)))
            rows.append(Record("outbox", key(1, n), rng.randbytes(100)))
            rows.append(Record("outbox", key(1, max(1, n - 3)), None))
        disk.commit(rows)
    disk.close()


CONTENTS = """
import hashlib, sys
from drivers.disk.lmdb import LmdbReader
from kernel.records import TABLES
reader = LmdbReader(sys.argv[1])
print(hashlib.sha256(repr([reader.scan(table) for table in TABLES]).encode()).hexdigest())
"""  # everything that a disk gives back


def read_apart(path: Path) -> str:
    """The digest of a disk's contents as another process sees it, or how that process ended."""
    done = subprocess.run([sys.executable, "-c", CONTENTS, str(path)], capture_output=True, text=True)
    return done.stdout.strip() if not done.returncode else f"status {done.returncode}: {done.stderr[-300:]}"


@pytest.mark.slow
def test_200_damaged_data_files_are_noticed_or_harmless(tmp_path: Path) -> None:
    rng = random.Random("data")
    machine(tmp_path / "good")
    raw, good = (tmp_path / "good" / "data.mdb").read_bytes(), read_apart(tmp_path / "good")
    detected = harmless = 0
    bad = tmp_path / "bad"
    bad.mkdir()
    for n in range(200):
        file = bad / "data.mdb"
        changed = damaged(raw, rng, KINDS[n % len(KINDS)])
        if n % 4 == 0:  # the meta pages are few bytes, and matter most
            at = rng.randrange(2) * 4_096 + rng.randrange(160)
            changed = raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :]
        file.write_bytes(changed)
        if walk(file, deep=True).damage:
            detected += 1
            continue
        assert read_apart(bad) == good, n
        harmless += 1
    assert detected + harmless == 200
    assert detected > 100


def test_damage_is_one_line_that_names_the_file_and_the_way_out(tmp_path: Path) -> None:
    machine(tmp_path)
    raw = bytearray((tmp_path / "data.mdb").read_bytes())
    raw[-200] ^= 1
    (tmp_path / "data.mdb").write_bytes(raw)
    with pytest.raises(BadInput, match=r"data\.mdb is damaged.*llmos restore") as refusal:
        LmdbDisk(tmp_path)
    assert "\n" not in str(refusal.value)
    assert bytes(raw) == (tmp_path / "data.mdb").read_bytes(), "left as it is"


def test_a_file_is_walked_over_only_where_there_is_a_reason(tmp_path: Path) -> None:
    machine(tmp_path)
    disk = LmdbDisk(tmp_path)
    assert disk.walked is None, "a clean end"
    shutil.copytree(tmp_path, tmp_path / "killed")  # as a kill leaves it
    disk.close()
    killed = LmdbDisk(tmp_path / "killed")
    assert killed.walked is not None
    assert killed.walked.checked > 100, "it is small"
    killed.close()
    (tmp_path / LEFT).unlink()
    disk = LmdbDisk(tmp_path)
    assert disk.walked is not None
    assert disk.walked.checked
    disk.close()


def test_after_a_clean_end_with_times_kept_no_damage_is_a_crash_or_a_wrong_answer(tmp_path: Path) -> None:
    rng = random.Random("at rest")
    good, bad = tmp_path / "good", tmp_path / "bad"
    machine(good, 6)
    raw, seen, left = (good / "data.mdb").read_bytes(), (good / "data.mdb").stat(), (good / LEFT).read_bytes()
    disk = LmdbDisk(good)
    assert disk.walked is None
    whole = {table: disk.scan(table) for table in TABLES}
    disk.close()
    noticed = 0
    for n in range(60):
        bad.mkdir()
        changed = damaged(raw, rng, ("bit", "byte", "run", "zeros")[n % 4])
        if n % 5 == 0:
            at = rng.randrange(2) * 4_096 + rng.randrange(160)
            changed = raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :]
        (bad / "data.mdb").write_bytes(changed)
        (bad / LEFT).write_bytes(left)
        os.utime(bad / "data.mdb", ns=(seen.st_atime_ns, seen.st_mtime_ns))
        assert reason_to_walk(bad) == ((True, True) if changed != raw else (False, False))
        try:
            disk = LmdbDisk(bad, walk=walk)
        except BadInput:
            noticed += 1
        else:
            assert {table: disk.scan(table) for table in TABLES} == whole, n
            disk.close()
        shutil.rmtree(bad)
    assert noticed > 25


def test_what_an_older_llmos_left_without_a_checksum_is_walked_over_once(tmp_path: Path) -> None:
    machine(tmp_path, 4)
    left = msgspec.json.decode((tmp_path / LEFT).read_bytes())
    assert left.pop("crc")
    (tmp_path / LEFT).write_bytes(msgspec.json.encode(left))
    for walked in (True, False):
        disk = LmdbDisk(tmp_path)
        assert (disk.walked is not None) == walked
        disk.close()


def test_a_table_that_an_older_directory_does_not_have_is_read_as_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(tmp_path, 2)
    monkeypatch.setitem(TABLES, "later", Table("number", 1, "of a later llmos", in_place=True))
    monkeypatch.setattr(lmdb, "LATER", frozenset({"later"}))
    reader = LmdbReader(tmp_path)
    assert (reader.get("later", key(1)), reader.scan("later"), reader.size("later")) == (None, [], 0)
    assert reader.get_many("later", [key(1), key(2)]) == [None, None]
    assert reader.scan("page")
    reader.close()


def test_a_record_that_is_damaged_under_a_running_kernel_is_never_returned(tmp_path: Path) -> None:
    disk = LmdbDisk(tmp_path)
    disk.commit([Record("page", key(1), b"the quick brown fox " * 5)])
    file = tmp_path / "data.mdb"
    raw = file.read_bytes()
    with file.open("r+b") as stream:
        stream.seek(raw.index(b"brown"))
        stream.write(b"black")
    with pytest.raises(DeviceError, match="fails its checksum.*llmos fsck"):
        disk.get("page", key(1))
    with pytest.raises(DeviceError, match="fails its checksum"):
        disk.scan("page")


def test_the_walk_sees_every_page_of_a_long_life(tmp_path: Path) -> None:
    """Trees of several levels, overflow pages, free lists: whatever LMDB writes is whole, after each commit."""
    rng = random.Random(1)
    disk, n = LmdbDisk(tmp_path, sync="off"), 0
    for commit in range(120):
        rows = []
        for _ in range(rng.randint(1, 150)):
            n += 1
            rows.append(Record("page", key(n), rng.randbytes(rng.choice([50, 250, 250, 3_000]))))
            rows.append(Record("ids", b"0123456789/" + key(n), rng.randbytes(200)))
            rows.append(Record("proc", key(rng.randint(1, 50)), rng.randbytes(rng.randint(100, 9_000))))
            if rng.random() < 0.4:
                rows.append(Record("page", key(rng.randint(1, n)), None))
        disk.commit(rows)
        if commit % 8 == 0:
            seen = walk(tmp_path / "data.mdb", deep=commit % 16 == 0)
            assert not seen.damage
            assert seen.entries["page"] == len(disk.scan("page"))
    disk.close()
    assert walk_apart(tmp_path / "data.mdb", deep=True).checked > 1_000
