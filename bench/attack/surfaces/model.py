"""Whole models with numbers in their headers that no model has: llama.cpp meets them in a process of its own.

Each is tried as a kernel tries it before it loads it; the verdict is good, or a line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from random import Random
from typing import Final

from bench import tiny
from bench.attack.mutate import mutated
from bench.attack.surface import Guard, Surface, Trial, Wrong, instead
from drivers.cpu import gguf
from kernel.errors import BadInput

TRIALS: Final = 100  # a process each
HANG_S: Final = 180.0
KEYS: Final = (
    *("block_count", "context_length", "embedding_length", "feed_forward_length", "head_count", "conv_kernel"),
    *("inner_size", "state_size", "time_step_rank", "bos_token_id", "eos_token_id"),
)
NUMBERS: Final = (0, 1, 2, 3, 7, 512, 513, 65_536, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
HEAD: Final = 12_000  # bytes of the file that are its header


class _Attack:
    def __init__(self, folder: Path) -> None:
        os.environ |= {"LLMOS_HOME": str(folder), "GGML_NO_BACKTRACE": "1"}
        self.path = folder / "model.gguf"
        tiny.mamba(self.path)
        self.whole = self.path.read_bytes()

    def trial(self, draw: Random) -> None:
        from drivers.cpu.llama import trial

        if draw.random() < 0.7:
            chosen = draw.sample(KEYS, draw.choice([1, 1, 1, 2]))
            tiny.mamba(self.path, changes={key: draw.choice(NUMBERS) for key in chosen})
        else:
            self.path.write_bytes(mutated(draw, self.whole[:HEAD]) + self.whole[HEAD:])
        try:
            header = gguf.read(self.path)
            trial.tried(self.path, header)
        except BadInput as exc:
            if "\n" in str(exc):
                raise Wrong(f"it was refused with more than a line: {exc}") from exc


@contextmanager
def _opened(folder: Path) -> Iterator[Trial]:
    yield _Attack(folder).trial


def _at_once() -> AbstractContextManager[None]:
    """A model is loaded here, without having been tried elsewhere."""
    import llama_cpp

    from drivers.cpu.llama import trial

    def load(path: Path, _size: int) -> trial.Verdict:
        params = llama_cpp.llama_model_default_params()
        return trial.Verdict(why=str(llama_cpp.llama_model_load_from_file(os.fsencode(path), params)))

    return instead(trial, "_try", load)


GUARDS: Final[dict[str, Guard]] = {"model-trial": _at_once}
SURFACE: Final = Surface(_opened, trials=TRIALS, hang_s=HANG_S, guards=GUARDS)
