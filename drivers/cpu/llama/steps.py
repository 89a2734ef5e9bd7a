"""A batch on the model: evaluated, noted in the seats, and the next token of all that are read to the end.

Guarantees:
- A batch changes nothing, or all of its runs; those that fail of it are named, and no other run is touched.
- Only a batch with a chunk of a prompt may be cut off, and each chunk once: it is evaluated anew, and then to the end.
Caller's duty: the engines' thread; a run that is named as failed has its seat forgotten.
Not here: which runs make a batch (plan.py), who wants a decode cut off (slots.py), what a token does to a run (run.py).
"""

from __future__ import annotations

from drivers.cpu.kv.seats import Seats
from drivers.cpu.llama import log
from drivers.cpu.llama.cells import KvCells, Part
from drivers.cpu.llama.context import ABORTED, Context
from drivers.cpu.llama.plan import Batch
from drivers.cpu.llama.run import Run
from drivers.cpu.llama.slots import Slots
from kernel.errors import DeviceError

Failed = tuple[Run, DeviceError]


class Steps:
    """Evaluates batches."""

    def __init__(self, context: Context, cells: KvCells, seats: Seats, slots: Slots, *, partly: bool) -> None:
        """`partly`: sequences can be cut back, so that a batch that was cut off leaves no trace."""
        self._context, self._cells, self._seats, self._slots, self._partly = context, cells, seats, slots, partly
        self._chunks = 0  # of prompts, that were evaluated
        self.aborted = 0  # batches that were cut off

    def take(self, batch: Batch[Run]) -> list[Failed]:
        """Evaluate a batch, or have it cut off; which of its runs have failed, and why."""
        if not self._slots.begin(abortable=self._may_abort(batch)):
            return []  # asked for before it began
        try:
            code = self._context.decode(
                [Part(run.seat, run.kv, run.pending[:n], n == len(run.pending)) for run, n in batch.parts]
            )
        finally:
            self._slots.end()
        if code == ABORTED:
            return self._undo(batch)
        if code:
            error = DeviceError(f"llama_decode gives {code}: {log.first('no reason')}")
            return [(run, error) for run, _ in batch.parts]
        if batch.reads is not None:
            self._chunks += 1
            batch.reads.served = self._chunks
        return self._go_on(batch)

    def _may_abort(self, batch: Batch[Run]) -> bool:
        """What moves is turned by the next batch, in place: half of that could not be undone."""
        return (
            batch.reads is not None
            and self._partly
            and not any(run.retried or self._seats.seats[run.seat].moved for run, _ in batch.parts)
        )

    def _undo(self, batch: Batch[Run]) -> list[Failed]:
        self.aborted += 1
        failed: list[Failed] = []
        for run, _ in batch.parts:
            run.retried = True
            if not self._cells.trim(run.seat, run.kv):
                failed.append((run, DeviceError("what was evaluated was lost when a batch was cut off")))
        return failed

    def _go_on(self, batch: Batch[Run]) -> list[Failed]:
        failed: list[Failed] = []
        end = 0
        for run, count in batch.parts:
            end += count
            self._seats.evaluated(run.seat, run.pending[:count])
            run.evaluated(count)
            if not run.pending:
                try:
                    run.accept(self._context.logits(end - 1))
                except DeviceError as exc:
                    failed.append((run, exc))
        return failed
