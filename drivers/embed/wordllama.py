"""Texts to vectors by WordLlama's table: mean of token vectors, unit length.

The weights and the tokenizer are files in the installed `wordllama` package and are read from there; its Python code
is not run, for it reaches for the network when a file is not where it looks and sets up logging on import. A test
compares the vectors with the package's own. Guarantee: a text's vector depends on the text alone, not on its batch and
not on the host: token vectors are added one after the other, and unit.py adds in an order of its own.
Loading takes about a second and happens at the first use, on the thread that embeds.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from drivers.embed.unit import to_unit
from kernel.errors import DeviceError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

DIM: Final = 256
TOKENS_MAX: Final = 8_192  # of one text; what is beyond changes a mean little
BATCH: Final = 256  # texts a call of the tokenizer, which runs without the GIL

Vectors = npt.NDArray[np.float32]


class WordLlamaEmbedder:
    """Embeds with the l2_supercat table of 32,000 tokens in 256 dimensions; one thread at a time, the others wait."""

    name = "wordllama-l2_supercat-256-2"  # 2: of unit.py
    dim = DIM

    def __init__(self) -> None:
        self._lock = threading.Lock()  # two threads in one buffer would mix their vectors
        self._tokenizer: Tokenizer | None = None
        self._table: Vectors = np.empty((0, DIM), np.float32)
        self._buffer: Vectors = np.empty((0, DIM), np.float32)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of `texts`: (n, 256) float32; a text without a token gets zeros.

        Raises DeviceError if the package's files are missing.
        """
        pooled = np.zeros((len(texts), DIM), np.float32)
        with self._lock:
            tokenizer = self._load()
            for first in range(0, len(texts), BATCH):
                batch = list(texts[first : first + BATCH])
                for at, encoded in enumerate(tokenizer.encode_batch_fast(batch, add_special_tokens=False), first):
                    ids = encoded.ids[:TOKENS_MAX]
                    if ids:  # a reused buffer: a fresh one would cost its page faults on every text
                        rows = np.take(self._table, ids, axis=0, out=self._buffer[: len(ids)], mode="clip")
                        np.add.reduce(rows, axis=0, out=pooled[at])
        to_unit(pooled)
        return pooled

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text by the table's own tokenizer, of 32,000 entries."""
        with self._lock:
            return [len(one.ids) for one in self._load().encode_batch_fast(list(texts), add_special_tokens=False)]

    def _load(self) -> Any:
        if self._tokenizer is None:
            import safetensors.numpy
            from tokenizers import Tokenizer

            home = _package()
            try:
                tensors = safetensors.numpy.load_file(home / "weights" / "l2_supercat_256.safetensors")
                tokenizer = Tokenizer.from_file(str(home / "tokenizers" / "l2_supercat_tokenizer_config.json"))
            except Exception as exc:  # tokenizers raises bare Exception for a missing or broken file
                raise DeviceError(f"embedder: the files of the package wordllama cannot be read: {exc}") from exc
            tokenizer.no_padding()
            tokenizer.no_truncation()
            self._table = np.ascontiguousarray(tensors["embedding.weight"], dtype=np.float32)
            self._buffer = np.empty((TOKENS_MAX, DIM), np.float32)
            self._tokenizer = tokenizer
        return self._tokenizer


def _package() -> Path:
    """The installed package's folder, found without importing it."""
    spec = importlib.util.find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise DeviceError("embedder: the package wordllama is not installed; pip install wordllama")
    return Path(spec.origin).parent
