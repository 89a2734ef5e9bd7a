"""What comes from outside is refused with one line, or applied; and the machine boots again afterwards.

Values are built from the types themselves (bench/attack/values.py), at their edges and beyond, so a type that loses a
bound, or a new one that has none, is found here.
"""

from __future__ import annotations

import hashlib
import json
from random import Random
from typing import Any, Final

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.attack.values import EDGES, Shape, raw, unbounded
from drivers.cpu.scripted import ScriptedCpu, echo
from drivers.disk import parcel
from drivers.disk.memory import MemoryDisk
from drivers.door import desk, wire
from drivers.door.arriving import Arriving, Dock
from drivers.index.words import WordIndex
from kernel.audit import audit
from kernel.boot import Board, boot
from kernel.errors import BadInput, KernelError
from kernel.event import Message
from kernel.machine import arrival
from kernel.machine.measures import page_tokens_max
from kernel.memory.page import Kind
from kernel.ports import Job
from kernel.process import State
from kernel.settings import Settings, apply, keys
from kernel.spec import Spec
from llmos.init import recorded
from llmos.scenario.format import Scenario
from syscalls.abi import FULL
from syscalls.table import Table
from tests.fakes import Rig, op

OUTSIDE: Final = (
    wire.AnyRequest,
    parcel.Head,
    parcel.Head1,
    parcel.PageLine,
    parcel.Tail,
    Settings,
    Scenario,
)
seeds = st.integers(0, 1 << 32)


def one_line(exc: Exception) -> None:
    """A refusal names what is wrong, shortly."""
    assert 0 < len(str(exc)) < 3_000
    assert "\n" not in str(exc)


@pytest.mark.parametrize("kind", OUTSIDE, ids=lambda kind: getattr(kind, "__name__", "AnyRequest"))
def test_every_number_from_outside_has_bounds_in_its_type(kind: Any) -> None:
    assert unbounded(kind) == []


HEAD, PAGE = Shape(parcel.Head), Shape(parcel.PageLine)
KINDS: Final = [kind.value for kind in Kind if kind not in (*parcel.REMADE, Kind.FACT)]


def export(draw: Random) -> bytes:
    """An export that somebody else made: what the types admit, and now and then something that they do not."""
    head = HEAD.good(draw)
    calls = draw.choice([list(FULL), ["send_message"], ["yield", "read", "search"]])
    head["version"], head["spec"] = 2, {**head["spec"], "name": "guest", "calls": calls, "blocks": {"human": "tea"}}
    for timer in head["timers"]:
        timer["every_ns"] = draw.choice([0, 10**9, 60 * 10**9])
    pages = [PAGE.good(draw) for _ in range(draw.choice([0, 3, 30, 90]))]
    for page in pages:
        page["kind"], page["text"] = draw.choice(KINDS), (page["text"] or "a word") * draw.choice([1, 1, 1, 40])
        page["where"], page["group"] = (
            draw.choice(["queue", "queue", "pending", ""]),
            draw.choice([0, 1, 1, 2, 1 << 53]),
        )
        page["text"] = page["text"][:100_000]
    if draw.random() < 0.1:
        head = HEAD.bad(draw)[0]
    elif pages and draw.random() < 0.1:
        pages[-1] = PAGE.bad(draw)[0]
    lines = b"".join(raw(one).replace(b"\n", b" ") + b"\n" for one in (head, *pages))
    return lines + raw({"pages": len(pages), "sha256": hashlib.sha256(lines).hexdigest()}) + b"\n"


def reads(job: Job) -> str:
    """A process that looks into what it brought with it, and then speaks."""
    return op("read", pages=list(range(1, 9))) if job.instr % 3 == 1 else op("send_message", text=f"it is {job.instr}")


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from(["stub", "summary", "nothing"]), st.sampled_from(["fifo", "lru", "arc"]))
def test_an_import_is_refused_or_lives_like_any_process_and_the_machine_boots_again(
    seed: int, on_evict: str, policy: str
) -> None:
    reader = parcel.Reader("it")
    try:
        reader.take(export(Random(seed)))
        event = arrival.admitted(reader.done())
    except BadInput as exc:
        one_line(exc)
        return
    rig = Rig(reads, f"memory.on_evict={on_evict}", f"memory.policy={policy}", "memory.reflect=true", "window=2048")
    own = rig.spawn("own")
    found = arrival.measured(event, rig.cpus.layouts[""], rig.settings.window, page_tokens_max(rig.settings))
    step = rig.do(msgspec.structs.replace(found, source="user"))
    if step.refused is not None:
        one_line(step.refused)
    for _ in range(2):
        rig.pump(3_000)
        rig.tick(90)
        for pid in [
            pid for pid, proc in rig.kernel.procs.items() if not proc.thread and proc.state is not State.ZOMBIE
        ]:
            rig.say(pid, "and now?", pump=False)
        rig.pump(3_000)
        rig.boot()
    assert rig.proc(own).accounts.turns
    assert audit(rig.disk).findings == []


def pairs() -> list[tuple[str, str]]:
    """Each setting with each value at an edge."""
    values = [
        *map(str, EDGES),
        "nan",
        "inf",
        "-inf",
        "1e400",
        "0.5",
        "²",
        "",
        "\0",
        "\udcff",
        "x" * 10_000,
        "[" * 5_000,
    ]
    return [(key.replace("NAME", "other"), value) for key in keys() for value in values]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(pairs()), min_size=1, max_size=2))
def test_a_setting_is_refused_in_one_line_or_the_machine_boots_with_it_and_again(
    changed: list[tuple[str, str]],
) -> None:
    disk = MemoryDisk()
    try:
        chosen = apply(Settings(), [f"{key}={value}" for key, value in changed])
        chosen = msgspec.structs.replace(chosen, models={})  # files: others look at those
        trio.run(boot, Board(ScriptedCpu(echo), disk, WordIndex(disk), chosen), Table())
    except BadInput as exc:
        one_line(exc)
        return
    again, *_ = recorded(disk)
    assert again == chosen
    machine = trio.run(boot, Board(ScriptedCpu(echo), disk, WordIndex(disk), again), Table())
    assert machine.settings == chosen


REQUEST = Shape(
    wire.AnyCommand,
    {
        "proc": lambda draw: draw.choice(["main", "p1", 1, 2, "nobody"]),
        "name": lambda draw: f"p{draw.randrange(9)}",
        "mid": lambda draw: f"m{draw.randrange(30)}",
        "calls": lambda draw: draw.choice([[], ["send_message"], ["yield"]]),
        "model": lambda draw: "",
        "pid": lambda draw: draw.randint(0, 5),
    },
)


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_a_request_is_refused_in_one_line_or_done_and_the_machine_boots_again(seed: int) -> None:
    draw, disk = Random(seed), MemoryDisk()
    arriving = Arriving(Dock())

    async def life() -> None:
        machine = await boot(Board(ScriptedCpu(echo), disk, WordIndex(disk), Settings()), Table())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(machine.run)
            await machine.requests.spawn(Spec("main"))
            for _ in range(60):
                asked = REQUEST.good(draw) if draw.random() < 0.8 else REQUEST.bad(draw)[0]
                try:
                    answer = await desk.carry_out(machine, wire.decode_request(raw(asked)), arriving)  # type: ignore[arg-type]
                except KernelError as exc:
                    answer = desk.failed(1, exc)
                json.loads(wire.encode(answer))
                if isinstance(answer, wire.Failed):
                    one_line(Exception(answer.error))
            machine.stop()

    for _ in range(2):
        trio.run(life)
    assert audit(disk).findings == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["9999-12-31", "0001-01-01", "2554-07-22", "2262-04-12", "1969-12-31", ""]),
        min_size=2,
        max_size=2,
    )
)
def test_a_search_for_any_date_is_answered(dates: list[str]) -> None:
    calls = iter([op("search", query="boat", since=dates[0], until=dates[1])])
    said: list[Message] = []
    rig = Rig(lambda job: next(calls, op("send_message", text="done")))
    rig.messages = said
    rig.say(rig.spawn(), "where is the boat?")
    assert [one.text for one in said] == ["done"]
