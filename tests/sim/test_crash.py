"""Seeded simulation: processes, every syscall, timers, power cuts at any commit. Is anything lost, or twice?"""

import json
from random import Random

import msgspec
import pytest

from kernel import records
from kernel.audit import audit
from kernel.event import Message
from kernel.limits import NS
from kernel.memory.page import Origin
from kernel.ports import Job
from kernel.replay import Replay
from syscalls.table import Table
from tests.fakes import PowerCut, Rig

SEEDS = 12
WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron")
WORDS += ("islet", "jetty", "kelp", "larch", "maple", "north", "otter")


def program(job: Job) -> str:
    """A function of the visible pages alone, so that a restart emits the same."""
    seen = "/".join(page.page.text for page in job.pages)
    rng = Random(f"{job.pid}/{job.instr}/{len(seen)}")
    text = " ".join(rng.choices(WORDS, k=rng.randint(1, 20)))
    page = rng.choice(job.pages).page.id
    return json.dumps(
        rng.choice(
            [
                {"op": "send_message", "text": text},
                {"op": "send_message", "text": text, "more": True},
                {"op": "core_append", "block": "notes", "text": text[:12]},
                {"op": "remember", "text": text},
                {"op": "search", "query": rng.choice(WORDS)},
                {"op": "read", "pages": [page]},
                {"op": "pin", "page": page},
                {"op": "evict", "pages": [page]},
                {"op": "set_timer", "seconds": rng.randint(1, 90), "text": text[:20], "every": rng.choice([0, 60])},
                {"op": "cancel_timer", "timer": rng.randint(1, 5)},
                {"op": "sleep", "seconds": 30},
                {"op": "yield"},
                {"op": "nonsense"},
            ]
        ),
        separators=(",", ":"),
    )


def thinking(job: Job) -> str:
    """The same by a model that thinks before most instructions, for longer than it may at times."""
    rng = Random(f"{job.pid}-{job.instr}")
    thought = " ".join(rng.choices(WORDS, k=rng.choice([0, 1, 6, 30, 300])))
    return f"{thought}</think>{program(job)}" if thought else program(job)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_acknowledged_is_lost_and_nothing_is_said_twice(seed: int) -> None:
    rng = Random(seed)
    drawn = ("memory.join=true", "memory.share=learned", "memory.policy=ours") if seed % 2 else ()
    left = ("memory.on_evict=summary", "memory.reflect=true") if seed % 3 else ()
    thinks, slots = seed % 4 > 1, rng.choice([1, 3])
    asked = thinking if thinks else program
    rig = Rig(asked, "sched.quantum=20", "window=3000", *drawn, *left, slots=slots, thinks=thinks)
    pids = [rig.spawn(f"p{n}") for n in range(3)]
    acknowledged: dict[str, str] = {}
    heard: dict[tuple[int, int], str] = {}
    for turn in range(40):
        rig.cut_at = rng.choice([0, 0, rng.randint(1, 12)])
        try:
            mid, text = f"m{turn}", " ".join(rng.choices(WORDS, k=rng.randint(1, 60)))
            if not rig.say(rng.choice(pids), text, mid, pump=False).error:
                acknowledged[mid] = text
            rig.pump(rng.randint(1, 30))
            rig.tick(rng.choice([0, 0, 10, 100]))
        except PowerCut:
            rig.cut_at = 0
            rig.boot()
        listen(rig, heard)
    rig.cut_at = 0
    rig.pump()
    listen(rig, heard)

    pages = [rig.page(number) for number in range(1, rig.kernel.counters.page + 1)]
    for mid, text in acknowledged.items():
        row = rig.disk.get("mid", mid.encode())
        assert row is not None, f"{mid} was acknowledged and is gone"
        assert pages[records.unkey(row)[1] - 1].text == text[: len(pages[records.unkey(row)[1] - 1].text)]
    stored = [page for page in pages if page.origin is Origin.USER]
    assert len({page.id for page in stored}) == len(stored)
    for pid in pids:  # every message from 1 on is in the outbox, once, as it was heard
        assert [seq for p, seq in sorted(heard) if p == pid] == list(range(1, rig.proc(pid).said + 1))
    assert replayed(rig) == rig.kernel.hash


def listen(rig: Rig, heard: dict[tuple[int, int], str]) -> None:
    """What a client hears: what is delivered, and, since it may have connected again, what stands in the outbox."""
    kept = [msgspec.msgpack.decode(value, type=Message) for _, value in rig.disk.scan("outbox")]
    for message in [*rig.messages, *kept]:
        assert heard.setdefault((message.pid, message.seq), message.text) == message.text
    rig.messages.clear()


def replayed(rig: Rig) -> int:
    """The hash of a kernel that takes the journal's events again."""
    replay = Replay(rig.disk, Table())
    for taken in replay.steps():
        assert not taken.why, f"diverged at {taken.entry.lsn}, {taken.entry.event}: {taken.why}"
    return replay.kernel.hash


def test_the_hash_over_records_equals_the_sum_kept_by_steps() -> None:
    rig = Rig(program, "window=3000")
    pid = rig.spawn()
    for n in range(30):
        rig.say(pid, f"{WORDS[n % 15]} and {WORDS[n % 7]}")
        rig.tick(40)
    total = 0
    for table in ("meta", "proc", "page", "timer", "outbox", "mid"):
        for key, value in rig.disk.scan(table):
            if (table, key) != ("meta", b"format"):
                total += records.digest(records.Record(table, key, value))
    assert total & records.MASK == rig.kernel.hash


@pytest.mark.parametrize("seed", range(5))
def test_the_same_inputs_give_the_same_states(seed: int) -> None:
    hashes = []
    for _ in range(2):
        rng = Random(seed)
        rig = Rig(program, "window=3000", "sched.quantum=15")
        pid = rig.spawn()
        for _ in range(20):
            rig.say(pid, " ".join(rng.choices(WORDS, k=5)))
            rig.tick(rng.random() * 100)
        hashes.append((rig.kernel.hash, rig.now // NS))
    assert hashes[0] == hashes[1]


def test_a_program_that_is_a_function_of_what_it_sees_is_not_changed_by_preemption() -> None:
    def pages(quantum: int) -> list[str]:
        rig = Rig(program, f"sched.quantum={quantum}", "window=3000")
        pids = [rig.spawn(f"p{n}") for n in range(3)]
        for n in range(10):
            for pid in pids:
                rig.say(pid, WORDS[n], pump=False)
            rig.pump()
        return [
            rig.page(n).text
            for n in range(1, rig.kernel.counters.page + 1)
            if rig.page(n).pid == pids[0] and rig.page(n).origin is Origin.PROCESS
        ]

    assert pages(1_000)[:1] == pages(3)[:1]
    assert len(pages(3)) > 3


@pytest.mark.parametrize("seed", range(4))
def test_an_audit_finds_nothing_wrong_with_what_a_kernel_wrote_and_notices_every_change(seed: int) -> None:
    rng = Random(seed)
    rig = Rig(program, "window=3000", "sched.quantum=25")
    pids = [rig.spawn(f"p{n}") for n in range(3)]
    for n in range(25):
        rig.say(rng.choice(pids), " ".join(rng.choices(WORDS, k=30)), f"m{n}", pump=False)
        rig.pump(rng.randint(1, 30))
    found = audit(rig.disk)
    assert found.findings == []
    assert (found.lsn, found.pages) == (rig.kernel.counters.lsn, rig.kernel.counters.page)
    assert found.mids == 25
    for table in ("page", "proc", "journal", "outbox", "mid", "timer"):
        rows = rig.disk.scan(table)
        if not rows:
            continue
        key, value = rng.choice(rows)
        rig.disk.commit([records.Record(table, key, None)])
        assert audit(rig.disk).findings, f"{table} without {key.hex()}"
        rig.disk.commit([records.Record(table, key, value)])
        assert audit(rig.disk).findings == []
