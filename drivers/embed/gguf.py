"""Texts to vectors by an embedding model in a GGUF: llama.cpp's pooled embedding, unit length.

Any GGUF gives vectors, good ones those that were made for it (nomic-embed, bge, e5, ...). Pooling is what the file
says, else the mean. Guarantee: on one host a text's vector depends on the text alone: each is evaluated in a batch of
its own, and brought to length by unit.py.
Loading happens at the first use, on the thread that embeds.
"""

from __future__ import annotations

import ctypes
import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from drivers.cpu import gguf
from drivers.embed.unit import to_unit
from kernel.errors import BadInput, DeviceError

TOKENS_MAX: Final = 512  # of one text; what is beyond is left out
DIM_MAX: Final = 1 << 16  # numbers of a vector
SAMPLES: Final = 16  # parts of a file that its name is made of
SAMPLE: Final = 4096  # bytes each

Vectors = npt.NDArray[np.float32]


class GgufEmbedder:
    """Embeds with the model at `path`; one thread at a time, the others wait."""

    def __init__(self, path: Path) -> None:
        """Raises BadInput if there is no such file, or none that embeds."""
        header = gguf.read(path)
        dim = header.number(f"{header.text('general.architecture')}.embedding_length")
        if not 0 < dim <= DIM_MAX:
            raise BadInput(f"model {path}: its header has no embedding_length of 1 to {DIM_MAX}, so it cannot embed")
        self.dim = dim
        self.name = f"gguf-{header.text('general.name') or path.stem}-{dim}-{_digest(path)}-2"  # 2: of unit.py
        self._path = path
        self._lock = threading.Lock()
        self._context: Any = None

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of `texts`: (n, dim) float32; a text without a token gets zeros. Raises DeviceError."""
        vectors = np.zeros((len(texts), self.dim), np.float32)
        with self._lock:
            self._load()
            for n, text in enumerate(texts):
                self._embed(text, vectors[n])
        to_unit(vectors)
        return vectors

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text by the model's own tokenizer, at most TOKENS_MAX."""
        with self._lock:
            self._load()
            return [len(self._tokens(text)) for text in texts]

    def _load(self) -> None:
        if self._context is not None:
            return
        import llama_cpp

        self._lib: Any = llama_cpp
        self._log = llama_cpp.llama_log_callback(
            lambda _level, _text, _data: None
        )  # kept: llama.cpp goes on calling it
        llama_cpp.llama_log_set(self._log, ctypes.c_void_p(0))
        params = llama_cpp.llama_model_default_params()
        params.load_mode = llama_cpp.LLAMA_LOAD_MODE_MMAP
        params.n_gpu_layers = 0
        self._model = llama_cpp.llama_model_load_from_file(str(self._path).encode(), params)
        if not self._model or llama_cpp.llama_model_n_embd(self._model) != self.dim:
            raise DeviceError(f"embedder: llama.cpp cannot load {self._path} as its header has it")
        settings = llama_cpp.llama_context_default_params()
        settings.embeddings = True
        settings.n_ctx = settings.n_batch = settings.n_ubatch = TOKENS_MAX
        self._context = llama_cpp.llama_init_from_model(self._model, settings)
        if self._context and llama_cpp.llama_pooling_type(self._context) == llama_cpp.LLAMA_POOLING_TYPE_NONE:
            llama_cpp.llama_free(self._context)
            settings.pooling_type = llama_cpp.LLAMA_POOLING_TYPE_MEAN
            self._context = llama_cpp.llama_init_from_model(self._model, settings)
        if not self._context:
            raise DeviceError(f"embedder: llama.cpp has no room for {self._path}")
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self._batch = llama_cpp.llama_batch_init(TOKENS_MAX, 0, 1)
        self._encodes = llama_cpp.llama_model_has_encoder(self._model)

    def _tokens(self, text: str) -> list[int]:
        raw = text.encode(errors="replace")
        out = (self._lib.llama_token * (len(raw) + 16))()
        count = self._lib.llama_tokenize(self._vocab, raw, len(raw), out, len(out), True, False)
        return list(out[: min(count, TOKENS_MAX)])

    def _embed(self, text: str, into: Vectors) -> None:
        tokens, batch, lib = self._tokens(text), self._batch, self._lib
        if not tokens:
            return
        batch.n_tokens = len(tokens)
        for n, token in enumerate(tokens):
            batch.token[n], batch.pos[n], batch.n_seq_id[n], batch.logits[n] = token, n, 1, 1
            batch.seq_id[n][0] = 0
        lib.llama_memory_clear(lib.llama_get_memory(self._context), True)
        evaluate = lib.llama_encode if self._encodes else lib.llama_decode
        code = evaluate(self._context, batch)
        found = None if code else lib.llama_get_embeddings_seq(self._context, 0)
        if not found:
            raise DeviceError(f"embedder: llama.cpp gives {code} for a text of {len(tokens)} tokens")
        into[:] = np.ctypeslib.as_array(found, (self.dim,))


def _digest(path: Path) -> str:
    """A few bytes that tell this model from another one."""
    hashed = hashlib.blake2b(digest_size=6)
    for one in gguf.files(path):
        size = one.stat().st_size
        hashed.update(str(size).encode())
        with one.open("rb") as file:
            for n in range(SAMPLES):
                file.seek(size * n // SAMPLES)
                hashed.update(file.read(SAMPLE))
    return hashed.hexdigest()
