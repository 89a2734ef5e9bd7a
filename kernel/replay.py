"""Replay: a kernel takes the events of a journal again, with the journal's sizes and no model, and must come to the
same state hash at every step.

It starts at the checkpoint if the journal was cut at one, else at the empty machine, reads the journal a piece at a
time, and keeps no snapshot of the disk open. Not here: what is shown of it (llmos/replay.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from kernel import checkpoint, core, formats
from kernel.errors import BadInput, KernelPanic
from kernel.memory.measure import Part
from kernel.ports import Reads
from kernel.records import JournalEntry, key, unkey
from kernel.state import InstructionSet, Kernel, Step

CHUNK: Final = 256  # entries read at a time


class Replayed(msgspec.Struct, frozen=True):
    """One step taken again. `why`: how it came out otherwise than the journal has it, "" if it did not."""

    entry: JournalEntry
    step: Step | None
    hash: bytes
    why: str = ""


class _Journaled:
    """A Measure that answers with the sizes a step had when it was journaled."""

    def __init__(self) -> None:
        self.sizes: list[tuple[tuple[int, tuple[int, ...]], ...]] = []

    def __call__(self, text: str, tokens_max: int, model: str) -> tuple[Part, ...]:
        if not self.sizes:
            raise KernelPanic(f"it measures {text[:40]!r}, which it did not do then")
        parts, start = [], 0
        for chars, ids in self.sizes.pop(0):
            parts.append(Part(text[start : start + chars], ids))
            start += chars
        if start != len(text):
            raise KernelPanic(f"it measures {text[:40]!r} of {len(text)} characters, where it measured {start} then")
        return tuple(parts)


class Replay:
    """A kernel on its way through the journal of `disk`; `kernel` is the machine as of `lsn`."""

    def __init__(self, disk: Reads, iset: InstructionSet) -> None:
        """Raises BadInput if the journal does not begin where it can be begun."""
        self._disk = disk
        self._measure = _Journaled()
        self.kernel = Kernel(iset, self._measure)
        head = checkpoint.load(self.kernel, disk)
        if head is None:
            self.kernel.form = formats.at(disk, 0)
        self.start = self.lsn = head.lsn if head is not None else 0
        first = disk.scan("journal", key(self.lsn + 1), limit=1)
        if first and unkey(first[0][0])[0] != self.lsn + 1:
            raise BadInput(
                f"the journal begins at {unkey(first[0][0])[0]}, and what was before is not kept: no replay can start"
                f" at {self.lsn + 1}; `llmos fsck` says more"
            )

    def steps(self, until: int = 0) -> Iterator[Replayed]:
        """Take the events after `lsn`, up to log number `until` (0: all). Ends after the first that differs."""
        while not until or self.lsn < until:
            rows = self._disk.scan("journal", key(self.lsn + 1), limit=CHUNK)
            if not rows:
                return
            for _, value in rows:
                entry = self.kernel.form.entry(value)
                if until and entry.lsn > until:
                    return
                taken = self._take(entry)
                yield taken
                if taken.why:
                    return

    def _take(self, entry: JournalEntry) -> Replayed:
        self._measure.sizes = list(entry.sizes)
        step: Step | None = None
        why = "" if entry.lsn == self.lsn + 1 else f"entry {self.lsn + 1} is missing"
        if not why:
            try:
                step = core.step(self.kernel, entry.event)
            except KernelPanic as exc:
                why = f"the kernel panics: {exc}"
        found = self.kernel.hash.to_bytes(16, "little")
        if step is not None and step.error:
            why = f"refused: {step.error}"
        elif step is not None and found != entry.hash:
            why = f"the state hash is {found.hex()}, and was {entry.hash.hex()}"
        if not why:
            self.lsn = entry.lsn
        return Replayed(entry, step, found, why)
