"""Directories of older formats: they replay to the hashes of then, boot, and go on.

The fixtures are a machine of nine processes, as its kernels left it, with forks and imports among them, timers, core
blocks, a policy with state, and a checkpoint. In format 2, 356 steps after that: one was running with tokens emitted,
seven were blocked on a demand fault with a message pending, one was dead. In format 3 the same one brought up by the
kernel of that format, and 208 steps later: two are running, two have recalled pages in view. In format 4 that one
brought up again, and 202 steps later: timers wait for a date, and calls have failed that were illegal then. In format 5
that one brought up again, and 74 steps later: two are running, one is blocked.
"""

import tarfile
from pathlib import Path

import pytest

from drivers.cpu.scripted import ScriptedCpu, echo
from drivers.disk import parcel
from drivers.disk.lmdb import LmdbDisk
from drivers.index.words import WordIndex
from kernel import formats, records
from kernel.audit import audit
from kernel.boot import Board, boot
from kernel.errors import BadInput
from kernel.event import Upgraded
from kernel.machine import views
from kernel.process import State
from kernel.replay import Replay
from kernel.settings import Settings, apply
from syscalls.table import Table
from tests.fakes import Rig
from tests.sim.test_crash import program

FIXTURES = Path(__file__).parents[1] / "fixtures"
STEPS = {2: 356, 3: 565, 4: 767, 5: 841}
HASH = {  # of the last step
    2: "a6779a9118d4fdf9ea03f6560ac804a2",
    3: "45404c7dbee04bf9ac255229bcf524a8",
    4: "e0c8c5af864479802b2d9cf2e1dcb7c0",
    5: "0d575afc24169813a951fb554f88ad9e",
}
BLOCKED = {2: 7, 3: 0, 4: 0, 5: 1}
SETTINGS = ("sched.quantum=20", "window=3000", "memory.policy=ours", "sched.policy=mlfq")


@pytest.fixture(params=STEPS)
def number(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def folder(tmp_path: Path, number: int) -> Path:
    with tarfile.open(FIXTURES / f"format{number}.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    return tmp_path


def test_its_journal_replays_to_the_hashes_that_it_has(folder: Path, number: int) -> None:
    disk = LmdbDisk(folder)
    replay = Replay(disk, Table())
    steps = list(replay.steps())
    assert [step.why for step in steps if step.why] == []
    assert (len(steps), f"{replay.kernel.hash:032x}") == (STEPS[number], HASH[number])
    assert audit(disk).findings == []
    assert disk.get(*records.FORMAT_ROW) == b"%d" % number, "nothing but a boot changes it"
    disk.close()


def test_a_boot_brings_it_up_in_one_transaction_and_everybody_goes_on(folder: Path, number: int) -> None:
    disk = LmdbDisk(folder)
    commits: list[list[records.Record]] = []
    write = disk.commit
    disk.commit = lambda rows: (commits.append(list(rows)), write(rows))[1]  # type: ignore[method-assign]
    rig = Rig(program, *SETTINGS, disk=disk, slots=2)  # type: ignore[arg-type]
    first = {(row.table, row.key) for row in commits[0]}
    assert records.FORMAT_ROW in first
    assert {("proc", records.key(pid)) for pid in rig.kernel.procs} <= first
    before = {proc.name: (proc.state, proc.accounts.syscalls) for proc in rig.kernel.procs.values()}
    assert sum(state is State.BLOCKED for state, _ in before.values()) == BLOCKED[number]
    assert before["fork4"][0] is State.ZOMBIE
    rig.pump(4_000)
    for name, (state, syscalls) in before.items():
        proc = rig.kernel.procs[rig.kernel.names[name]]
        assert proc.spec.blocks["notes"], "core memory came along"
        if state not in (State.ZOMBIE, State.IDLE):
            assert proc.accounts.syscalls > syscalls, f"{name} does nothing"
    assert audit(disk).findings == []
    disk.close()


async def test_a_boot_that_is_refused_leaves_it_as_it_was(folder: Path, number: int) -> None:
    disk = LmdbDisk(folder)
    settings = apply(Settings(), ["window=512", "cpu.reply=400"])
    with pytest.raises(BadInput, match="the window is too small"):
        await boot(Board(ScriptedCpu(echo), disk, WordIndex(disk), settings), Table())
    assert disk.get(*records.FORMAT_ROW) == b"%d" % number
    assert audit(disk).hash == bytes.fromhex(HASH[number])[::-1].hex()
    disk.close()


def test_a_replay_goes_on_past_the_steps_that_brought_it_up(folder: Path, number: int) -> None:
    disk = LmdbDisk(folder)
    rig = Rig(program, *SETTINGS, disk=disk, slots=2)  # type: ignore[arg-type]
    rig.pump(300)
    replay = Replay(disk, Table())
    steps = list(replay.steps())
    assert [step.why for step in steps if step.why] == []
    assert replay.kernel.hash == rig.kernel.hash
    upgrades = [step.entry.event.to for step in steps if isinstance(step.entry.event, Upgraded)]
    assert upgrades == {2: [6], 3: [3, 6], 4: [3, 4, 6], 5: [3, 4, 5, 6]}[number], "by the kernels of then and of now"
    assert isinstance(steps[STEPS[number]].entry.event, Upgraded)
    assert replay.kernel.form is records.CURRENT
    notes = [note.text for entry in views.log(disk, steps[STEPS[number]].entry.lsn - 1, 1) for note in entry.notes]
    assert notes == [f"format {number} to 6, 9 processes"]
    assert views.log(disk, 0), "notes of before are read as well"
    rig.boot()
    assert rig.kernel.form is records.CURRENT
    again = [step.entry.event for step in Replay(disk, Table()).steps()]
    assert sum(isinstance(event, Upgraded) for event in again) == len(upgrades), "once"
    disk.close()


def test_a_process_of_it_is_exported_and_taken_over(folder: Path, tmp_path: Path) -> None:
    disk = LmdbDisk(folder)
    kernel = Replay(disk, Table())
    list(kernel.steps())
    pid = kernel.kernel.names["p2"]
    parcel.write(disk, pid, tmp_path / "p2.jsonl", 7)
    event = parcel.read(tmp_path / "p2.jsonl")
    assert event.spec == kernel.kernel.procs[pid].spec
    assert len(event.timers) == len(kernel.kernel.procs[pid].timers)
    disk.close()


def test_a_format_that_nobody_knows_is_refused_in_one_line(folder: Path) -> None:
    disk = LmdbDisk(folder)
    disk.commit([records.Record(*records.FORMAT_ROW, b"9")])
    with pytest.raises(Exception, match="format 9; this llmos reads 2, 3, 4, 5, 6"):
        formats.of(disk)
    disk.close()
