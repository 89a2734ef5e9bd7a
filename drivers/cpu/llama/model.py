"""A model file, loaded: what it is, what it cannot, how much memory it takes, and what its KV images depend on.

Guarantee: a file that is missing, broken, too large for the memory or not understood is refused in one line that says
what to do. What stands here does not change while the model lives.
Caller's duty: `close` comes last, after every context of the model was freed.
Not here: the file format (gguf.py), the trial before it is loaded (trial.py), vocabulary and template (vocabulary.py,
frame.py), the arithmetic of memory (memory.py), a context (context.py).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Final

import llama_cpp

from drivers.cpu import gguf, profiles, recommended
from drivers.cpu.llama import log, memory
from drivers.cpu.llama.sizes import Sizes, padded
from drivers.cpu.llama.trial import tried
from drivers.cpu.llama.vocabulary import Vocabulary
from kernel.errors import BadInput
from kernel.limits import SMALL_PARAMETERS
from kernel.settings import Cpu as CpuSettings

NOT_PARTLY: Final = (
    "this model's state cannot be cut back: a prompt that changes anywhere is evaluated from its beginning, "
    "and prefixes are shared and restored only whole"
)

SLIDING: Final = (
    "some of this model's layers see the last tokens alone: what is brought back from an image is of use where the "
    "prompt goes on as it was, and evaluated anew where it has changed"
)


class Words(Vocabulary):
    """The vocabulary of a model whose weights stay on disk. Raises BadInput as Model does."""

    def __init__(self, path: Path) -> None:
        header = gguf.read(path)
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        model: Any = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
        if not model:
            raise BadInput(f"model {path}: its vocabulary cannot be loaded; pull the file again")
        super().__init__(model, header, path, tried(path, header))


class Model:
    """A loaded model. `handle` is llama.cpp's."""

    def __init__(self, path: Path, settings: CpuSettings) -> None:
        """Raises BadInput, with what to do, if the model is missing, broken or not understood."""
        self._path, self._settings = path, settings
        header = gguf.read(path)
        self._bytes = header.size
        log.listen()
        log.clear()
        if why := memory.refusal(memory.Needs(header.size, 0), 0, 0, self._free()):
            raise BadInput(f"model {path}: {why}")
        verdict = tried(path, header)
        params = llama_cpp.llama_model_default_params()
        params.load_mode = llama_cpp.LLAMA_LOAD_MODE_MMAP
        params.n_gpu_layers = settings.gpu_layers
        self.handle: Any = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
        if not self.handle:
            why = log.first("llama.cpp gives no reason")
            raise BadInput(f"model {path}: llama.cpp cannot load it ({why}); pull the file again, or another")
        try:
            recurrent = llama_cpp.llama_model_is_recurrent(self.handle)
            self.partly = not (recurrent or llama_cpp.llama_model_is_hybrid(self.handle))  # KV can be cut back
            self.sliding: int = llama_cpp.llama_model_n_swa(self.handle)  # tokens that some layers see; 0: all see all
            self.window_max: int = llama_cpp.llama_model_n_ctx_train(self.handle)
            self.identity = gguf.identity(path)
            self.profile = profiles.of(self.identity)
            self.name = header.text("general.name") or path.stem
            self.recommended = recommended.of(header)
            self.small = llama_cpp.llama_model_n_params(self.handle) < SMALL_PARAMETERS
            self.vocabulary = Vocabulary(self.handle, header, path, verdict)
            off = [line for line, applies in ((NOT_PARTLY, not self.partly), (SLIDING, self.sliding > 0)) if applies]
            self.off = (*off, *self.vocabulary.off)
        except BaseException:
            self.close()
            raise

    def refuse(self, sizes: Sizes) -> None:
        """Raises BadInput, with what would fit, if `sizes` are more than the model sees, or the memory holds."""
        if sizes.window > self.window_max:
            raise BadInput(
                f"window {sizes.window}: {self.name} sees at most {self.window_max} tokens; give --window less"
            )
        if why := memory.refusal(self._needs(sizes.slots), padded(sizes.window), sizes.windows, self._free()):
            raise BadInput(f"{self.name}: {why}")

    def fingerprint(self, sizes: Sizes) -> bytes:
        """What a KV image depends on, tokens aside: the model's file, the library, and how KV is laid out."""
        settings = self._settings
        hashed = hashlib.blake2b(self.identity.encode(), digest_size=16)
        said = (
            *(file.stat().st_mtime_ns for file in gguf.files(self._path)),
            llama_cpp.__version__,
            sizes.window,
            settings.mode,
            settings.drop,
            sizes.chunk,
        )
        hashed.update(repr(said).encode())
        return hashed.digest()

    def close(self) -> None:
        """Free it."""
        llama_cpp.llama_model_free(self.handle)

    def _needs(self, slots: int) -> memory.Needs:
        """What the model takes, in bytes: keys and values are of two bytes each."""
        model = self.handle
        width = llama_cpp.llama_model_n_embd(model) // max(1, llama_cpp.llama_model_n_head(model))
        token = 2 * 2 * llama_cpp.llama_model_n_layer(model) * llama_cpp.llama_model_n_head_kv(model) * width
        return memory.Needs(self._bytes, token, memory.COMPUTE + 4 * self.vocabulary.size * slots)

    def _free(self) -> int | None:
        """Bytes of memory that are free; None where it is unknown, or an accelerator has some of its own."""
        return None if self._settings.gpu_layers else memory.available()
