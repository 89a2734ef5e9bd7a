"""A scripted CPU that counts as something else does: with another's vocabulary, frame and encoding.

So a run costs no evaluation, and its budgets, evictions and sizes are those that a model would have.
Not here: the sizes of a model (vocabulary.py), what the script says, and what is measured with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from drivers.cpu.scripted import KV_TOKENS, Program, ScriptedCpu
from kernel.memory.measure import Frame


class Sizes(Protocol):
    """What counts tokens: a part of ports.Cpu."""

    frame: Frame
    model: str
    window_max: int
    encoding: str
    full_mask: bool

    def measure_id(self) -> str:
        """See ports.Cpu."""
        ...

    def tokenize(self, text: str) -> tuple[int, ...]:
        """See ports.Cpu."""
        ...

    def detokenize(self, ids: Sequence[int]) -> str:
        """See ports.Cpu."""
        ...


class SizedCpu(ScriptedCpu):
    """Plays a program with the sizes of something else, and counts what that would evaluate."""

    def __init__(self, sizes: Sizes, program: Program, encoding: str = "", kv: int = KV_TOKENS) -> None:
        """`encoding`: another than the sizes have. `kv`: see ScriptedCpu."""
        super().__init__(program, encoding=encoding or sizes.encoding, kv=kv)
        self._sizes = sizes
        self.frame, self.model, self.window_max = sizes.frame, sizes.model, sizes.window_max
        self.full_mask = sizes.full_mask

    def measure_id(self) -> str:
        """As the sizes'."""
        return self._sizes.measure_id()

    def tokenize(self, text: str) -> tuple[int, ...]:
        """As the sizes'."""
        return self._sizes.tokenize(text)

    def detokenize(self, ids: Sequence[int]) -> str:
        """As the sizes'."""
        return self._sizes.detokenize(ids)
