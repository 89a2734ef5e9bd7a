"""`llmos replay`: a journal taken again, and what the machine was at one of its steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from kernel.errors import BadInput
from kernel.memory.address_space import Entry
from kernel.ports import Reads
from kernel.records import counters, key, page_of
from kernel.replay import Replay, Replayed
from llmos.tracks import Tracks
from syscalls.table import Table


class Result(msgspec.Struct):
    """How a replay went: steps taken after log number `start`, up to `lsn`, where the state hash was `hash`."""

    ok: bool
    start: int
    lsn: int
    steps: int
    hash: str
    seconds: float
    diverged: dict[str, Any] | None = None
    machine: dict[str, Any] | None = None


def replay(
    disk: Reads, until: int, diff: bool, tell: Callable[[int, int], None], tracks: Tracks | None = None
) -> Result:
    """Take the journal again, to its end or to log number `until`; then `machine` is the state there.

    `tracks` watches the steps that came out as they did then.
    `diff`: of a step that came out otherwise, its notes then and now, and the records that differ from the disk's.
    """
    began, steps = time.monotonic(), 0
    again = Replay(disk, Table())
    last = disk.scan("journal", reverse=True, limit=1)
    end = int.from_bytes(last[0][0], "big") if last else again.start
    if until and not again.start <= until <= end:
        raise BadInput(f"--until {until}: the journal goes from {again.start} to {end}")
    bad: Replayed | None = None
    for taken in again.steps(until):
        if taken.why:
            bad = taken
            break
        steps += 1
        if tracks is not None and taken.step is not None:
            tracks.watch(taken.entry.event, taken.step, again.kernel)
        if steps % 500 == 0:
            tell(again.lsn, until or end)
    found = Result(
        bad is None,
        again.start,
        again.lsn,
        steps,
        again.kernel.hash.to_bytes(16, "little").hex(),
        round(time.monotonic() - began, 3),
    )
    if bad is not None:
        found.diverged = {"lsn": bad.entry.lsn, "event": msgspec.to_builtins(bad.entry.event), "why": bad.why}
        if diff:
            found.diverged |= _difference(disk, again, bad)
    if until:
        found.machine = machine(again, disk)
    return found


def machine(again: Replay, disk: Reads) -> dict[str, Any]:
    """The machine as of the replay's last step: processes, page tables, pending interrupts, timers, slots."""
    kernel = again.kernel
    processes = []
    for proc in kernel.procs.values():
        space = proc.space
        segments: dict[str, Sequence[Entry]] = {
            "text": [space.text] if space.text else [],
            "data": [space.data] if space.data else [],
            "queue": space.queue[: space.turn],
            "recall": space.recall,
            "turn": space.queue[space.turn :],
        }
        pending = [
            {
                "line": one.line.name.lower(),
                "at": one.at + kernel.counters.ahead,
                "pages": [page for page, _ in one.pages],
            }
            for one in proc.pending
        ]
        processes.append(
            {
                "pid": proc.pid,
                "name": proc.name,
                "state": proc.state,
                "instr": proc.instr,
                "attempt": proc.attempt,
                "wait": msgspec.to_builtins(proc.wait),
                "said": proc.said,
                "acked": proc.acked,
                "pages": {name: [_row(entry, disk) for entry in entries] for name, entries in segments.items()},
                "pending": pending,
            }
        )
    ahead = kernel.counters.ahead  # so that all times are the wall clock's
    return {
        "lsn": again.lsn,
        "now": kernel.counters.now + ahead,
        "processes": processes,
        "timers": [
            {"timer": t.id, "pid": t.pid, "due": t.due + (0 if t.wall else ahead), "text": t.text}
            for t in kernel.timers.values()
        ],
        "slots": [msgspec.structs.asdict(slot.tag) for slot in kernel.slots],
    }


def _row(entry: Entry, disk: Reads) -> dict[str, Any]:
    """A page of a page table. A text never changes, so the disk's is that of any step; what was removed has none."""
    row = disk.get("page", key(entry.page))
    text = "" if row is None else page_of(row, disk.get).text
    return {"page": entry.page, "kind": entry.kind, "tokens": entry.tokens, "pinned": entry.pinned, "text": text}


def _difference(disk: Reads, again: Replay, bad: Replayed) -> dict[str, Any]:
    found: dict[str, Any] = {"notes_then": [msgspec.to_builtins(note) for note in bad.entry.notes]}
    if bad.step is None:
        return found
    found["notes_now"] = [msgspec.to_builtins(note) for note in bad.step.notes]
    if counters(disk).lsn == bad.entry.lsn:  # the disk still shows that step
        found["records"] = [
            {"table": record.table, "key": record.key.hex(), "then": _shown(then), "now": _shown(record.value)}
            for record in bad.step.records
            if record.table not in ("journal", "ids") and (then := disk.get(record.table, record.key)) != record.value
        ]
    return found


def _shown(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return msgspec.to_builtins(msgspec.msgpack.decode(value))
    except msgspec.DecodeError:
        return value.hex()
