"""A journal gives the same states again, from its beginning and from a checkpoint."""

from pathlib import Path
from random import Random

import msgspec
import pytest

import llmos
from drivers.disk import parcel
from drivers.disk.memory import MemoryDisk
from kernel import checkpoint, records
from kernel.audit import audit
from kernel.errors import BadInput
from kernel.event import Checkpointed
from kernel.replay import Replay
from llmos.scenario.reading import read
from llmos.scenario.virtual import play
from syscalls.table import Table
from tests.fakes import Rig
from tests.sim.test_crash import WORDS, program


def busy(rig: Rig, rng: Random, pids: list[int], turns: int) -> None:
    """Messages, timers, and no rest at the end."""
    for turn in range(turns):
        rig.say(rng.choice(pids), " ".join(rng.choices(WORDS, k=rng.randint(1, 60))), f"m{rng.random()}", pump=False)
        rig.pump(rng.randint(1, 25))
        rig.tick(rng.choice([0, 0, 10]) if turn % 3 else 0)


def compact(rig: Rig) -> int:
    """What a machine that is asked to compact does, at once."""
    step = rig.do(Checkpointed(source="user"))
    rig.disk.commit(checkpoint.records(rig.disk, rig.kernel))
    while gone := checkpoint.cut(rig.disk):
        rig.disk.commit(gone)
    return step.lsn


@pytest.mark.parametrize("policy", ["fifo", "rr", "mlfq", "fair"])
@pytest.mark.parametrize("seed", range(4))
def test_replay_from_a_checkpoint_of_a_running_machine(seed: int, policy: str) -> None:
    rng = Random(f"{policy}/{seed}")
    rig = Rig(
        program, "sched.quantum=20", "window=3000", f"sched.policy={policy}", f"sched.flight={seed % 2 * 4000}",
        f"memory.policy={rng.choice(['fifo', 'lru', 'arc', 's3fifo', 'sieve', 'gdsf', 'ours'])}",
        slots=rng.choice([1, 3]),
    )  # fmt: skip
    pids = [rig.spawn(f"p{n}") for n in range(4)]
    busy(rig, rng, pids, 25)
    at = compact(rig)
    assert [value for _, value in rig.disk.scan("journal")] == []
    assert checkpoint.state_hash(rig.disk) == rig.kernel.hash.to_bytes(16, "little")
    busy(rig, rng, pids, 25)
    replay = Replay(rig.disk, Table())
    assert replay.start == at
    assert [taken.why for taken in replay.steps() if taken.why] == []
    assert (replay.lsn, replay.kernel.hash) == (rig.kernel.counters.lsn, rig.kernel.hash)
    rig.boot()  # and the directory boots, and goes on
    busy(rig, rng, pids, 5)
    again = Replay(rig.disk, Table())
    assert not any(taken.why for taken in again.steps())
    assert again.kernel.hash == rig.kernel.hash


SCENARIOS = sorted((Path(llmos.__file__).parent / "scenarios").glob("*.toml"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_every_scenario_replays_to_equal_hashes_at_every_step(path: Path) -> None:
    disk = MemoryDisk()
    ran = play(read(path), disk=disk)
    replay = Replay(disk, Table())
    assert [(taken.entry.lsn, taken.why) for taken in replay.steps() if taken.why] == []
    assert audit(disk).findings == []
    assert replay.lsn > 0
    assert ran.ok


def test_a_process_taken_over_goes_on_with_its_memory(tmp_path: Path) -> None:
    rig = Rig(program, "window=3000", "memory.policy=lru")
    pids = [rig.spawn(f"p{n}") for n in range(2)]
    busy(rig, Random(5), pids, 20)
    rig.say(pids[0], "a message that it has not read", "unread", pump=False)
    count = parcel.write(rig.disk, pids[0], tmp_path / "p0.jsonl", 7)
    other = Rig(program, "window=3000")
    other.spawn("someone")
    event = parcel.read(tmp_path / "p0.jsonl", "guest")
    ids = [msgspec.structs.replace(p, ids=other.cpu.tokenize(p.text)) if p.where else p for p in event.pages]
    step = other.do(msgspec.structs.replace(event, pages=tuple(ids)))
    pid = step.pid
    assert len(event.pages) == count
    moved = [other.page(n) for n in range(1, other.kernel.counters.page + 1) if other.page(n).pid == pid]
    kept = [rig.page(n) for n in range(1, rig.kernel.counters.page + 1) if rig.page(n).pid == pids[0]]
    old = [(p.text, p.kind, p.origin, p.area, p.at) for p in kept if p.kind not in parcel.REMADE]
    new = [(p.text, p.kind, p.origin, p.area, p.at) for p in moved if p.kind not in parcel.REMADE]
    assert new[: len(old)] == old
    assert other.proc(pid).spec.blocks == rig.proc(pids[0]).spec.blocks
    other.pump()
    other.tick(200)
    assert other.proc(pid).accounts.interrupts, "the message it had not read"
    other.say(pid, "hello")
    assert audit(other.disk).findings == []
    assert not any(taken.why for taken in Replay(other.disk, Table()).steps())


def test_a_checkpoint_without_a_kernel_is_followed_by_a_boot() -> None:
    rig = Rig(program, "window=3000")
    pid = rig.spawn()
    busy(rig, Random(1), [pid], 10)
    rig.disk.commit(checkpoint.records(rig.disk, None))
    while gone := checkpoint.cut(rig.disk):
        rig.disk.commit(gone)
    rig.boot()
    busy(rig, Random(2), [pid], 10)
    replay = Replay(rig.disk, Table())
    assert not any(taken.why for taken in replay.steps())
    assert replay.kernel.hash == rig.kernel.hash


def test_replay_stops_where_it_is_told_and_says_where_a_journal_was_changed() -> None:
    rig = Rig(program, "window=3000")
    pid = rig.spawn()
    busy(rig, Random(1), [pid], 10)
    replay = Replay(rig.disk, Table())
    assert len(list(replay.steps(until=12))) == 12
    assert replay.lsn == 12
    assert sum(1 for _ in replay.steps()) == rig.kernel.counters.lsn - 12

    row = rig.disk.get("journal", records.key(20))
    assert row is not None
    entry = msgspec.msgpack.decode(row, type=records.JournalEntry)
    changed = msgspec.structs.replace(entry, hash=bytes(16))
    rig.disk.commit([records.Record("journal", records.key(20), records.encode(changed))])
    steps = list(Replay(rig.disk, Table()).steps())
    assert len(steps) == 20
    assert "the state hash is" in steps[-1].why

    rig.disk.commit([records.Record("journal", records.key(15), None)])
    steps = list(Replay(rig.disk, Table()).steps())
    assert steps[-1].why == "entry 15 is missing"
    rig.disk.commit([records.Record("journal", records.key(1), None)])
    with pytest.raises(BadInput, match="begins at 2"):
        Replay(rig.disk, Table())
