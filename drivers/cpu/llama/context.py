"""A llama.cpp context: sequences of cells, one batch, one abort flag. No other file calls llama.cpp's context.

Guarantee: a method is one call of the library, and says what it said.
Caller's duty: called by one thread at a time; nothing is called after `close`, nor after the model was freed.
Not here: what a code of `decode` means to a run (steps.py), which sequence is whose (cells.py, kv/seats.py).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Final

import llama_cpp
import numpy as np

from drivers.cpu.llama import log
from drivers.cpu.llama.cells import Part
from drivers.cpu.llama.sampler import Logits
from drivers.cpu.llama.sizes import Sizes
from kernel.errors import BadInput, DeviceError

ABORTED: Final = 2  # what llama_decode gives then


class Context:
    """A `cells.Sequences`. `handle` and `batch` are llama.cpp's, for benches."""

    def __init__(self, model: Any, sizes: Sizes, threads: int, abort: Any) -> None:
        """`abort`: a string buffer; a decode is cut off while it is not empty. Raises BadInput if there is no room."""
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = sizes.context
        params.n_seq_max = sizes.sequences
        params.kv_unified = not sizes.exact
        params.swa_full = True  # sliding layers have cells for the whole window, or nothing could be cut back
        params.n_batch = params.n_ubatch = sizes.batch
        params.n_threads = params.n_threads_batch = threads
        # strlen in place of a callback: see slots.py. Kept, for llama.cpp goes on calling it.
        self._ask_abort = ctypes.cast(ctypes.CDLL(None).strlen, llama_cpp.ggml_abort_callback)
        params.abort_callback = self._ask_abort
        params.abort_callback_data = ctypes.cast(abort, ctypes.c_void_p)
        log.clear()
        self.handle: Any = llama_cpp.llama_init_from_model(model, params)
        if not self.handle:
            raise BadInput(
                f"window {sizes.window}: llama.cpp cannot make room for {sizes.slots} slots of it "
                f"({log.first('not enough memory')}); give --window less, or --set cpu.slots=1"
            )
        self._memory = llama_cpp.llama_get_memory(self.handle)
        self._vocabulary: int = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self.batch: Any = llama_cpp.llama_batch_init(sizes.batch, 0, 1)
        self.can_move = bool(llama_cpp.llama_memory_can_shift(self._memory))

    def decode(self, parts: Sequence[Part]) -> int:
        """Evaluate parts as one batch; 0, ABORTED, or llama.cpp's code for why not."""
        batch, n = self.batch, 0
        for seat, start, tokens, logits in parts:
            for at, token in enumerate(tokens, start):
                batch.token[n] = token
                batch.pos[n] = at
                batch.n_seq_id[n] = 1
                batch.seq_id[n][0] = seat
                batch.logits[n] = 0
                n += 1
            batch.logits[n - 1] = logits
        batch.n_tokens = n
        log.clear()
        code: int = llama_cpp.llama_decode(self.handle, batch)
        return code

    def logits(self, at: int) -> Logits:
        """A copy of the logits of the last batch's token `at`, (vocabulary,) float32. Raises DeviceError."""
        pointer = llama_cpp.llama_get_logits_ith(self.handle, at)
        if not pointer:
            raise DeviceError("llama.cpp has no logits for the last token")
        address = ctypes.addressof(pointer.contents)
        row: Any = (ctypes.c_float * self._vocabulary).from_address(address)
        logits: Logits = np.frombuffer(row, dtype=np.float32).copy()
        return logits

    def remove(self, seat: int, start: int, end: int) -> bool:
        """See cells.Sequences, as all that follow."""
        return bool(llama_cpp.llama_memory_seq_rm(self._memory, seat, start, end))

    def first(self, seat: int) -> int:
        """Of the layers that keep the least."""
        position: int = llama_cpp.llama_memory_seq_pos_min(self._memory, seat)
        return position

    def copy(self, source: int, seat: int, start: int, end: int) -> None:
        """Both hold the same cells."""
        llama_cpp.llama_memory_seq_cp(self._memory, source, seat, start, end)

    def move(self, seat: int, start: int, end: int, by: int) -> None:
        """Carried out with the next decode."""
        llama_cpp.llama_memory_seq_add(self._memory, seat, start, end, by)

    def state_size(self, seat: int) -> int:
        """In bytes."""
        size: int = llama_cpp.llama_state_seq_get_size(self.handle, seat)
        return size

    def read(self, seat: int, into: Any) -> int:
        """How many bytes were copied."""
        got: int = llama_cpp.llama_state_seq_get_data(self.handle, _pointer(into), into.nbytes, seat)
        return got

    def write(self, seat: int, data: Any) -> bool:
        """Whether it could be."""
        return bool(llama_cpp.llama_state_seq_set_data(self.handle, _pointer(data), data.nbytes, seat))

    def close(self) -> None:
        """Free it."""
        llama_cpp.llama_batch_free(self.batch)
        llama_cpp.llama_free(self.handle)


def _pointer(data: Any) -> Any:
    return data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
