"""Who is decoded next: the batches of one step, as a function of the runs that have a seat.

Guarantees:
- Every run that has few tokens to be evaluated, as all have that decode, is in a batch of each step.
- One chunk of one prompt goes with them: of the one whose chunk was longest ago, the first come among equals. A long
  prompt stalls neither those that decode nor another prompt for more than a chunk.
- In deterministic mode no batch has two runs, and who decodes goes before the chunk.
Not here: how long a chunk is (sizes.py), evaluating it (steps.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from drivers.cpu.llama.sizes import FEW, Sizes


class Reader(Protocol):
    """What is to be known of a run."""

    pending: list[int]  # tokens that are not evaluated yet
    kv: int  # the position of the first of them
    served: int  # when a chunk of its prompt was last evaluated


R = TypeVar("R", bound=Reader)


class Batch(NamedTuple, Generic[R]):
    """So many tokens of each of some runs; `reads`: whose chunk of a prompt is the last of them, if anybody's is."""

    parts: list[tuple[R, int]]
    reads: R | None = None


def batches(runs: Sequence[R], sizes: Sizes) -> list[Batch[R]]:
    """The batches of the next step, in order; none has more tokens than `sizes.batch`."""
    few = [(run, sizes.due(len(run.pending), run.kv)) for run in runs if len(run.pending) <= FEW]
    prompts = [run for run in runs if len(run.pending) > FEW]
    reads = min(prompts, key=lambda run: run.served, default=None)
    chunk = [] if reads is None else [(reads, sizes.due(len(reads.pending), reads.kv))]
    if not sizes.exact:
        return [Batch([*few, *chunk], reads)] if runs else []
    return [*(Batch([one]) for one in few), *(Batch([one], reads) for one in chunk)]
