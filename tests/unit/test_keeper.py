"""The journal is checkpointed and cut by itself, bit by bit, and replay goes on from there."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import trio

from drivers.cpu.scripted import ScriptedCpu
from drivers.disk.lmdb import LmdbDisk
from drivers.index.words import WordIndex
from kernel import checkpoint, records
from kernel.audit import audit
from kernel.boot import Board, boot
from kernel.event import Checkpointed
from kernel.limits import DAY_NS
from kernel.machine.clock import Sources
from kernel.machine.keeper import Keeper
from kernel.machine.loop import Machine
from kernel.ports import Disk, Job
from kernel.records import STATE
from kernel.replay import Replay
from kernel.settings import Settings, apply
from kernel.spec import Spec
from syscalls.table import Table
from tests.fakes import Rig
from tests.sim.test_crash import WORDS, program


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where the host has one: each commit syncs."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="llmos-keeper-", dir="/dev/shm") as name:
        yield Path(name)


def lsns(disk: Disk) -> list[int]:
    """The log numbers that the journal has."""
    return [records.unkey(row)[0] for row, _ in disk.scan("journal")]


def replayed(disk: Disk) -> int:
    """The hash that the journal leads to, from the checkpoint on."""
    replay = Replay(disk, Table())
    assert [taken.why for taken in replay.steps() if taken.why] == []
    return replay.kernel.hash


@pytest.mark.parametrize("seed", range(8))
def test_a_checkpoint_that_is_copied_while_the_kernel_goes_on_is_that_of_one_moment(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = Random(f"copy/{seed}")
    monkeypatch.setattr(checkpoint, "COPIED", rng.randint(1, 4))
    rig = Rig(program, "window=3000", "sched.quantum=20", slots=2)
    pids = [rig.spawn(f"p{n}") for n in range(6)]
    for _ in range(12):
        rig.say(rng.choice(pids), " ".join(rng.choices(WORDS, k=rng.randint(1, 40))), pump=False)
        rig.pump(rng.randint(1, 25))
    rig.do(Checkpointed(source="user"))
    then = [(table, row, value) for table in STATE for row, value in rig.disk.scan(table)]
    copy, commit = checkpoint.Copy(rig.disk, rig.kernel), rig.disk.commit
    monkeypatch.setattr(rig.disk, "commit", lambda rows: commit([*copy.saved(rows), *rows]))
    pieces = 0
    while piece := copy.piece():
        commit(piece)
        pieces += 1
        if rng.random() < 0.7:
            rig.say(rng.choice(pids), "meanwhile", pump=False)
        if rng.random() < 0.3:
            pids.append(rig.spawn(f"new{pieces}"))
        rig.pump(rng.randint(0, 6))
        rig.tick(rng.choice([0, 20]))
    commit(checkpoint.place(copy.head))
    assert pieces > 4
    prefix = copy.head.prefix
    kept = {row.removeprefix(prefix): value for row, value in rig.disk.scan("base") if row.startswith(prefix)}
    assert kept == {
        table.encode() + b"/" + row: value for table, row, value in then if (table, row) != records.FORMAT_ROW
    }
    while gone := checkpoint.cut(rig.disk):
        commit(gone)
    rig.pump()
    assert replayed(rig.disk) == rig.kernel.hash
    assert audit(rig.disk).findings == []


def test_a_copy_that_a_crash_cut_off_goes_and_nothing_else_does() -> None:
    rig = Rig(program, "window=3000")
    pid = rig.spawn()
    rig.say(pid, "first")
    rig.do(Checkpointed(source="user"))
    rig.disk.commit(checkpoint.records(rig.disk, rig.kernel))
    rig.say(pid, "and on")
    rig.do(Checkpointed(source="user"))
    copy = checkpoint.Copy(rig.disk, rig.kernel)
    rig.disk.commit(copy.piece())
    rig.say(pid, "until it is cut off")
    head = checkpoint.base(rig.disk)
    assert head is not None
    kept = [row for row, _ in rig.disk.scan("base") if not row.startswith(copy.head.prefix)]
    while gone := checkpoint.cut(rig.disk):
        rig.disk.commit(gone)
    assert [row for row, _ in rig.disk.scan("base")] == kept
    assert lsns(rig.disk) == list(range(head.lsn + 1, rig.kernel.counters.lsn + 1))
    assert replayed(rig.disk) == rig.kernel.hash


def test_bare_rows_of_an_older_directory_are_read_and_replaced() -> None:
    rig = Rig(program, "window=3000")
    pid = rig.spawn()
    rig.say(pid, "first")
    rig.do(Checkpointed(source="user"))
    bare = []
    for row in checkpoint.records(rig.disk, rig.kernel):
        prefix = checkpoint.MARK + records.key(rig.kernel.counters.lsn)
        bare.append(records.Record(row.table, row.key.removeprefix(prefix), row.value))
    slots = tuple(slot.tag for slot in rig.kernel.slots)
    old = (rig.kernel.counters.lsn, rig.kernel.hash.to_bytes(16, "little"), rig.kernel.config, slots)
    rig.disk.commit([*bare, records.Record("base", checkpoint.HEAD, records.encode(old))])
    rig.say(pid, "second")
    assert replayed(rig.disk) == rig.kernel.hash
    assert checkpoint.cut(rig.disk)[0].table == "journal"
    rig.do(Checkpointed(source="user"))
    rig.disk.commit(checkpoint.records(rig.disk, rig.kernel))
    while gone := checkpoint.cut(rig.disk):
        rig.disk.commit(gone)
    assert not [row for row, _ in rig.disk.scan("base") if row.startswith((b"meta/", b"proc/"))]
    rig.say(pid, "third")
    assert replayed(rig.disk) == rig.kernel.hash


def told(job: Job) -> str:
    return f'{{"op":"send_message","text":"reply {job.instr} {"and so on " * 20}"}}'


async def lived(disk: Disk, messages: int, *changes: str, clock: int = 0) -> Machine:
    """A machine that has been told so many messages, and has stopped."""
    settings = apply(Settings(), ["cpu.slots=1", "disk.sync=off", *changes])
    extra = {"clock": Sources(lambda: clock, lambda: clock)} if clock else {}
    machine = await boot(Board(ScriptedCpu(told), disk, WordIndex(disk), settings, **extra), Table())  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(machine.run)
        if not machine.kernel.procs:
            await machine.requests.spawn(Spec("p", calls=("send_message",)))
        pid = next(iter(machine.kernel.procs))
        for n in range(messages):
            answer = await machine.requests.message(pid, "", f"message {n}: " + "how are you " * 10)
            await machine.requests.acknowledge(pid, machine.kernel.procs[pid].said)
            assert answer.refused is None
        while machine.keeper.busy or machine.keeper.due():
            await trio.sleep(0)
        machine.stop()
    return machine


async def test_the_journal_is_cut_by_size_and_half_of_what_is_allowed_stays(tmp_path: Path) -> None:
    disk = LmdbDisk(tmp_path, sync="off")
    machine = await lived(disk, 250, "disk.journal_bytes=400000")
    disk = LmdbDisk(tmp_path, sync="off")
    assert machine.kernel.counters.lsn > 500
    assert 200_000 * 0.8 < disk.size("journal") < 400_000 * 1.1
    head = checkpoint.base(disk)
    assert head is not None
    assert lsns(disk) == list(range(head.lsn + 1, machine.kernel.counters.lsn + 1))
    assert replayed(disk) == machine.kernel.hash
    assert audit(disk).findings == []
    assert len(disk.scan("mid")) == 0
    assert len([1 for _, value in disk.scan("page") if b"how are you" in value]) == 250, "pages never go"
    machine = await lived(disk, 5)  # and boots again
    disk = LmdbDisk(tmp_path, sync="off")
    assert replayed(disk) == machine.kernel.hash
    disk.close()


async def test_the_file_levels_off_where_the_journal_is_cut_for_its_pages_are_used_again(tmp_path: Path) -> None:
    grown, kept = {}, {}
    for limit in (0, 150_000):
        sizes, pages = [], []
        for _ in range(2):
            await lived(LmdbDisk(tmp_path / str(limit), sync="off"), 200, f"disk.journal_bytes={limit}")
            sizes.append((tmp_path / str(limit) / "data.mdb").stat().st_size)
            disk = LmdbDisk(tmp_path / str(limit), sync="off")
            pages.append(disk.size("page") + disk.size("ids"))
            disk.close()
        grown[limit], kept[limit] = sizes[1] - sizes[0], pages[1] - pages[0]
    assert grown[0] > kept[0] + 400_000, "the journal of 200 messages"
    assert grown[150_000] < kept[150_000] + 100_000, "nothing but pages, which are kept"


async def test_the_journal_is_cut_by_age_when_nothing_happens(tmp_path: Path) -> None:
    disk = LmdbDisk(tmp_path, sync="off")
    day = 20_000 * DAY_NS
    first = await lived(disk, 3, "disk.journal_days=10", clock=day)
    last, disk = first.kernel.counters.lsn, LmdbDisk(tmp_path, sync="off")
    assert lsns(disk)[0] == 1
    await lived(disk, 0, "disk.journal_days=10", clock=day + 4 * DAY_NS)
    disk = LmdbDisk(tmp_path, sync="off")
    assert checkpoint.base(disk, checkpoint.NEXT) is None, "not half of it has passed"
    await lived(disk, 0, "disk.journal_days=10", clock=day + 6 * DAY_NS)
    disk = LmdbDisk(tmp_path, sync="off")
    assert checkpoint.base(disk, checkpoint.NEXT) is not None
    assert lsns(disk)[0] == 1
    machine = await lived(disk, 0, "disk.journal_days=10", clock=day + 11 * DAY_NS)
    disk = LmdbDisk(tmp_path, sync="off")
    assert lsns(disk)[0] > last
    assert replayed(disk) == machine.kernel.hash
    disk.close()


async def test_no_piece_of_the_work_is_larger_than_what_one_commit_may_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[int] = []
    piece = Keeper.piece

    def noted(self: Keeper) -> list[records.Record]:
        found = piece(self)
        pieces.append(len(found))
        return found

    monkeypatch.setattr(Keeper, "piece", noted)
    monkeypatch.setattr(checkpoint, "CUT", 15)
    await lived(LmdbDisk(tmp_path, sync="off"), 100, "disk.journal_bytes=65536")
    assert max(pieces) == 15
    assert sum(pieces) > 100
