"""A journal gives the same states again, from its beginning and from a checkpoint."""

from random import Random

import msgspec
import pytest

from kernel import checkpoint, records
from kernel.errors import BadInput
from kernel.event import Checkpointed
from kernel.replay import Replay
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
    """What Machine._take_checkpoint does."""
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
