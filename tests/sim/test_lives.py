"""Seeded simulation: processes are made, forked, changed, renamed, killed, removed and made anew, with power cuts at
any commit. Whatever came of it, the records add up, the journal comes to the same, and the removed leave nothing.
"""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from kernel import removal
from kernel.audit import audit
from kernel.event import AnyEvent, Changed, CoreWritten, Forked, Killed, Renamed, Spawned
from kernel.memory.page import Page
from kernel.process import State
from kernel.replay import Replay
from kernel.spec import Spec, digest
from syscalls.abi import FULL
from syscalls.table import Table
from tests.fakes import PowerCut, Rig
from tests.sim.test_crash import WORDS, program

SEEDS = 6
TURNS = 60


def drawn(rig: Rig, rng: Random, turn: int) -> AnyEvent:
    """Something that somebody outside may ask for, of a process that there is."""
    pid = rng.choice([pid for pid, proc in rig.kernel.procs.items() if not proc.thread])
    blocks, text = rig.proc(pid).spec.blocks, " ".join(rng.choices(WORDS, k=rng.randint(1, 30)))
    match rng.randrange(8):
        case 0:
            spec = Spec(f"p{turn}", calls=FULL, system=rng.choice(["", "Be brief."]), blocks={"notes": "Ada"})
            return Spawned(source="user", spec=spec)
        case 1:
            return Forked(source="user", pid=pid, name=f"f{turn}")
        case 2:
            return Changed(source="user", pid=pid, system=text, nice=rng.randint(-5, 5))
        case 3:
            return Changed(source="user", pid=pid, calls=tuple(rng.sample(FULL, 6)))
        case 4:
            return CoreWritten(source="user", pid=pid, block="notes", text=text, seen=digest(blocks.get("notes", "")))
        case 5:
            return Renamed(source="user", pid=pid, name=f"r{turn}")
        case 6:
            return Killed(source="user", pid=pid)
        case _:
            dead = [pid for pid, proc in rig.kernel.procs.items() if proc.state is State.ZOMBIE]
            if not dead:
                return Killed(source="user", pid=pid)
            if rng.random() < 0.3 or len(rig.kernel.procs) < 3:
                return Spawned(source="user", spec=rig.proc(dead[0]).spec)
            return removal.surveyor(rig.kernel, rng.choice(dead)).made(rig.disk)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_becomes_of_processes_the_records_add_up_and_the_dead_leave_nothing(seed: int) -> None:
    rng = Random(f"lives/{seed}")
    left = ("memory.on_evict=summary", "memory.reflect=true") if seed % 2 else ()
    rig = Rig(program, "sched.quantum=20", "window=3000", f"memory.policy={('lru', 'ours')[seed % 2]}", *left)
    for n in range(3):
        rig.spawn(f"p{n}")
    removed = 0
    for turn in range(TURNS):
        rig.cut_at = rng.choice([0, 0, 0, rng.randint(1, 8)])
        try:
            living = [pid for pid, proc in rig.kernel.procs.items() if not proc.thread]
            text = " ".join(rng.choices(WORDS, k=rng.randint(1, 80)))
            rig.say(rng.choice(living), text, f"m{turn}", pump=False)
            before = len(rig.kernel.procs)
            rig.do(drawn(rig, rng, turn))
            removed += len(rig.kernel.procs) < before
            rig.pump(rng.randint(1, 40))
            rig.tick(rng.choice([0, 10]))
        except PowerCut:
            rig.cut_at = 0
            rig.boot()
    rig.cut_at = 0
    rig.pump()
    assert removed > 0
    assert audit(rig.disk).findings == []
    replay = Replay(rig.disk, Table())
    assert [taken.why for taken in replay.steps() if taken.why] == []
    assert (replay.kernel.hash, replay.lsn) == (rig.kernel.hash, rig.kernel.counters.lsn)
    pages = [msgspec.msgpack.decode(row, type=Page) for _, row in rig.disk.scan("page")]
    shown = {page.of for page in pages}
    left_over = [page.id for page in pages if page.pid and page.pid not in rig.kernel.procs and page.id not in shown]
    assert not left_over, "of a removed process, and nobody's"
    assert rig.index._pages.keys() <= rig.kernel.procs.keys()
