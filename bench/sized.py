"""A scripted CPU that counts as a model does: vocabulary, frame and encoding of a GGUF, without its weights.

So a run costs no evaluation, and its budgets, evictions and sizes are those that the model would have.
Not here: what the script says, and what is measured with it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import llama_cpp

from drivers.cpu import gguf
from drivers.cpu.llama import log
from drivers.cpu.llama.model import SMALL
from drivers.cpu.llama.trial import tried
from drivers.cpu.llama.vocabulary import Vocabulary
from drivers.cpu.scripted import KV_TOKENS, Program, ScriptedCpu
from kernel.errors import BadInput
from kernel.memory.measure import Frame

WINDOW_UNKNOWN: Final = 1 << 20  # tokens, for a file that does not say what its model was trained to see


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


class ModelSizes:
    """The sizes of a GGUF, of which only the vocabulary is loaded."""

    def __init__(self, path: Path) -> None:
        """Raises BadInput if the file is no model that the llama CPU could run."""
        header = gguf.read(path)
        verdict = tried(path, header)
        log.listen()
        log.clear()
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        self._handle: Any = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
        if not self._handle:
            raise BadInput(f"model {path}: llama.cpp cannot load its vocabulary ({log.first('it gives no reason')})")
        try:
            self._vocabulary = Vocabulary(self._handle, header, path, verdict)
            small = llama_cpp.llama_model_n_params(self._handle) < SMALL
        except BaseException:
            self.close()
            raise
        self.frame = self._vocabulary.frame
        self.model = header.text("general.name") or path.stem
        self.window_max = header.context or WINDOW_UNKNOWN
        self.encoding, self.full_mask = "prose" if small else "json", not small

    def measure_id(self) -> str:
        """As the model's own CPU says it."""
        return self._vocabulary.measure_id

    def tokenize(self, text: str) -> tuple[int, ...]:
        """See Vocabulary.tokenize."""
        return self._vocabulary.tokenize(text)

    def encode(self, text: str, *, special: bool) -> tuple[int, ...]:
        """Ids as the library has them, with marks and all; `special`: control tokens are parsed."""
        return self._vocabulary.encode(text, special=special)

    def detokenize(self, ids: Sequence[int]) -> str:
        """See Vocabulary.detokenize."""
        return self._vocabulary.detokenize(ids)

    def close(self) -> None:
        """Free the vocabulary; no size is asked for any more."""
        llama_cpp.llama_model_free(self._handle)


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
