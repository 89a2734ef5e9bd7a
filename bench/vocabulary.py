"""The sizes of a model, without its weights: vocabulary, frame and encoding of a GGUF. It needs the llama extra."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import llama_cpp

from drivers.cpu import gguf
from drivers.cpu.llama import log
from drivers.cpu.llama.trial import tried
from drivers.cpu.llama.vocabulary import Vocabulary
from kernel.errors import BadInput
from kernel.limits import SMALL_PARAMETERS

WINDOW_UNKNOWN: Final = 1 << 20  # tokens, for a file that does not say what its model was trained to see


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
            small = llama_cpp.llama_model_n_params(self._handle) < SMALL_PARAMETERS
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
