"""Golden runs: the state hash and a digest over the journal's bytes, as they were when they were first written down.

A change of structure moves neither. A change of what the kernel does, or of how a record is encoded, moves them on
purpose: its commit says so and brings `golden.json` with it (`python -m tests.sim.test_golden`).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from random import Random

import msgspec
import pytest

import llmos
from drivers.disk.memory import MemoryDisk
from kernel import checkpoint
from kernel.event import Acked, Checkpointed, Filed, Forked, Imported, Killed, Moved, MovedTimer, Raised, Spawned
from kernel.interrupts import Line
from kernel.limits import NS
from kernel.memory import prompt
from kernel.memory.page import Area, Kind, Origin, Role
from kernel.ports import Record
from kernel.process import State
from kernel.records import FORMAT_ROW
from kernel.replay import Replay
from kernel.spec import Spec
from llmos.scenario.reading import read
from llmos.scenario.virtual import play
from syscalls.abi import FULL
from syscalls.table import Table
from tests.fakes import PowerCut, Rig
from tests.sim.test_crash import SEEDS, WORDS, program

GOLDEN = Path(__file__).with_name("golden.json")
OLDER = (
    2,
    3,
    4,
    5,
)  # formats; golden2.json has what the kernel that wrote format 2 came to, and so on; never made anew
CALLS_THEN = tuple(name for name in FULL if name != "help")  # a full mask, likewise
THEN = ("memory.gate=likely", "memory.worth=2.2", "memory.apart=never")  # defaults, while format 4 was the last
SCENARIOS = ("storm", "pressure", "thrashing", "mid_sentence", "stuck_index", "late_timer")
POLICIES = ("fifo", "lru", "ours", "arc", "s3fifo", "gdsf")
SCHEDULERS = ("rr", "fifo", "mlfq", "fair")


def digest(disk: MemoryDisk) -> str:
    """Of the journal's rows, keys and values, in order."""
    found = hashlib.blake2b(digest_size=16)
    for key, value in disk.scan("journal"):
        found.update(len(value).to_bytes(8, "big") + key + value)
    return found.hexdigest()


def crashed(seed: int, disk: MemoryDisk | None = None) -> list[str]:
    """The crash test's program, under every event there is and power cuts; its final hash and journal.

    A disk keeps its format and the settings of then; what reports accessed pages came later than the oldest. Of
    its steps, which are much like those of the same seed without, one in sixteen is checked.
    """
    rng = Random(f"golden/{seed}")
    rig = Rig(
        program, "sched.quantum=20", "window=3000", f"sched.policy={SCHEDULERS[seed % 4]}",
        f"memory.policy={POLICIES[seed % 6]}", f"sched.flight={seed % 3 // 2 * 4000}",
        *(THEN if disk is not None else ()),
        slots=rng.choice([1, 3]), disk=disk, upgrading=False, accessed=disk is None,
        every=1 if disk is None else 16,
    )  # fmt: skip
    calls = FULL if disk is None else CALLS_THEN
    pids = [rig.spawn(f"p{n}", calls, nice=n, abort=n == 1, blocks={"notes": "Ada"}) for n in range(3)]
    for turn in range(40):
        rig.cut_at = rng.choice([0, 0, rng.randint(1, 12)])
        try:
            text = " ".join(rng.choices(WORDS, k=rng.randint(1, 400 if turn % 9 == 8 else 60)))
            rig.say(rng.choice(pids), text, f"m{turn}", pump=False)
            outside(rig, rng, turn, pids, calls)
            rig.pump(rng.randint(1, 30))
            rig.tick(rng.choice([0, 0, 10, 100]))
        except PowerCut:
            rig.cut_at = 0
            rig.boot()
    rig.cut_at = 0
    rig.pump()
    return [f"{rig.kernel.hash:032x}", digest(rig.disk)]


def outside(rig: Rig, rng: Random, turn: int, pids: list[int], calls: tuple[str, ...]) -> None:
    """What else comes from outside, by turn."""
    pid = rng.choice(pids)
    match turn % 10:
        case 1:
            rig.do(Filed(source="user", pid=pid, mid=f"f{turn}", parts=rig.cpus("an archived larch", 60, "")))
        case 2:
            rig.do(Raised(source="user", pid=pid, line=rng.choice([Line.IPC, Line.DEVICE]), text="it rang"))
        case 3:
            rig.do(Acked(source="user", pid=pid, upto=rig.proc(pid).said))
        case 4:
            idle = [proc.pid for proc in rig.kernel.procs.values() if proc.state is State.IDLE]
            if idle:
                rig.do(Forked(source="user", pid=rng.choice(idle), name=f"fork{turn}"))
        case 5:
            rig.do(imported(rig, f"guest{turn}", calls))
        case 6 if turn > 20:
            rig.do(Killed(source="user", pid=pids[2]))
        case 7 if turn > 20:
            rig.do(Spawned(source="user", spec=Spec("p2", calls=calls)))
        case 8:
            rig.do(Checkpointed(source="user"))
            rig.disk.commit(checkpoint.records(rig.disk, rig.kernel))


def imported(rig: Rig, name: str, calls: tuple[str, ...]) -> Imported:
    """A process with a past."""
    where, tokenize = ("", "queue", "queue", "pending"), rig.cpu.tokenize
    pages = tuple(
        Moved(Kind.MESSAGE, Origin.USER, Role.USER, Area.RECALL, n * NS, text, "", at, 0, n == 1, tokenize(text))
        for n, at in enumerate(where)
        if (text := f"{WORDS[n]} of {name}")
    )
    spec = Spec(name, calls=calls, blocks={"notes": "from afar"}, nice=3)
    return Imported(source="user", spec=spec, pages=pages, timers=(MovedTimer(rig.now + 5 * NS, 60 * NS, "tea"),))


def played(name: str) -> list[str]:
    """A scenario in virtual time; its final hash and journal."""
    disk = MemoryDisk()
    replay = Replay(disk, Table())
    assert play(read(Path(llmos.__file__).parent / "scenarios" / f"{name}.toml"), disk=disk).ok
    assert not any(taken.why for taken in replay.steps())
    return [f"{replay.kernel.hash:032x}", digest(disk)]


def golden() -> dict[str, list[str]]:
    """All of them, as `golden.json` has them."""
    found = {f"crash-{seed}": crashed(seed) for seed in range(SEEDS)}
    return found | {name: played(name) for name in SCENARIOS}


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_run_of_the_crash_tests_program_comes_out_as_it_did(seed: int) -> None:
    assert crashed(seed) == msgspec.json.decode(GOLDEN.read_bytes())[f"crash-{seed}"]


@pytest.mark.parametrize(("number", "seed"), [(OLDER[seed % len(OLDER)], seed) for seed in range(SEEDS)])
def test_the_same_run_in_an_older_format_has_the_hash_that_the_kernel_of_then_had(
    number: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt, "LABELS", {})  # what is a file's was seen without a label then
    disk = MemoryDisk()
    disk.commit([Record(*FORMAT_ROW, b"%d" % number)])
    then = msgspec.json.decode(GOLDEN.with_name(f"golden{number}.json").read_bytes())
    assert crashed(seed, disk)[0] == then[f"crash-{seed}"][0]


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_comes_out_as_it_did(name: str) -> None:
    assert played(name) == msgspec.json.decode(GOLDEN.read_bytes())[name]


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden(), indent=1) + "\n")
