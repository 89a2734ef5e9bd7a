"""Kernels that are broken on purpose, in the ways that matter: a campaign that does not notice them proves nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from bench.crash.power import BEHIND, Unsynced
from drivers.disk.lmdb import LmdbDisk
from drivers.index.fused import FusedIndex
from kernel.event import AnyEvent, Messaged
from kernel.machine.loop import Machine
from kernel.machine.requests import Answer
from kernel.memory.page import Page
from kernel.ports import Disk, Record

Sabotage = Literal["", "ack-before-commit", "apply-twice", "skip-outbox", "stale-index"]
SABOTAGES: Final[dict[str, str]] = {
    "ack-before-commit": f"transactions are acknowledged at once, and written {BEHIND} later",
    "apply-twice": "a message that a client sends is applied a second time",
    "skip-outbox": "final messages are shown and not stored",
    "stale-index": "an index that starts again takes itself to be up to date",
}


class _Forgetful:
    """A disk that stores no outbox."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk, name)

    def commit(self, records: Sequence[Record]) -> None:
        self._disk.commit([record for record in records if record.table != "outbox"])


def broken_disk(disk: LmdbDisk, sabotage: Sabotage) -> Disk:
    """The disk, or one that breaks its promise."""
    if sabotage == "ack-before-commit":
        return Unsynced(disk)
    return _Forgetful(disk) if sabotage == "skip-outbox" else disk


class _Stale(FusedIndex):
    """An index that takes the first pages after a start for known."""

    _caught_up = False

    def _from_truth(self) -> list[Page]:
        found = super()._from_truth()
        if self._caught_up:
            return found
        self._caught_up = True
        return found[-1:]


def index_class(sabotage: Sabotage) -> type[FusedIndex]:
    """The index, or one that does not catch up with the truth when it starts."""
    return _Stale if sabotage == "stale-index" else FusedIndex


def broken_machine(machine: Machine, sabotage: Sabotage) -> None:
    """Make a machine apply messages twice."""
    if sabotage != "apply-twice":
        return
    submit = machine.requests.submit

    async def twice(event: AnyEvent) -> Answer:
        if isinstance(event, Messaged):
            machine.post(event)
        return await submit(event)

    machine.requests.submit = twice
