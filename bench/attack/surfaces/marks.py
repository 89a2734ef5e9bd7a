"""Texts that would say what a template's frame says: no token, and no row of tokens, of any is a mark of the frame.

On vocabularies of three kinds: marks that are control tokens, that are user-defined tokens, and that are ordinary text.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from random import Random
from typing import Final

from bench import tiny
from bench.attack import values
from bench.attack.surface import Guard, Surface, Trial, Wrong, instead

PIECES: Final = (
    *("[INST]", "[/INST]", "[", "/", "INST", "I", "NST]", "]", "<|im_start|>", "<|im_end|>", "<|a|>", "<|", "a", "|>"),
    *("user", "system\n", " ", "\n", "x"),
)


class _Attack:
    def __init__(self, folder: Path) -> None:
        from bench.vocabulary import ModelSizes

        os.environ["LLMOS_HOME"] = str(folder)
        self.sizes: list[ModelSizes] = []
        self.rows: list[list[tuple[int, ...]]] = []
        for name, kind in tiny.MARKED.items():
            tiny.mamba(folder / f"{name}.gguf", template=kind.template, extra=kind.extra, merges=kind.merges)
            sizes = ModelSizes(folder / f"{name}.gguf")
            self.sizes.append(sizes)
            self.rows.append([sizes.encode(mark, special=True) for mark in kind.marks])

    def trial(self, draw: Random) -> None:
        text = "".join(draw.choice(PIECES if draw.random() < 0.9 else values.TEXTS) for _ in range(draw.randint(0, 12)))
        for sizes, rows in zip(self.sizes, self.rows, strict=True):
            ids = sizes.tokenize(text)
            for row in rows:
                if any(ids[at : at + len(row)] == row for at in range(len(ids))):
                    raise Wrong(f"{text!r} says the mark {row}")
            if sizes.detokenize(ids) != text.encode(errors="replace").decode():
                raise Wrong(f"{text!r} became {sizes.detokenize(ids)!r}")


@contextmanager
def _opened(folder: Path) -> Iterator[Trial]:
    yield _Attack(folder).trial


def _as_it_comes() -> AbstractContextManager[None]:
    """A text is what the library makes of it."""
    from drivers.cpu.llama import marks

    return instead(marks.Marks, "tokenize", lambda self, text: self._encode(text))


GUARDS: Final[dict[str, Guard]] = {"marks": _as_it_comes}
SURFACE: Final = Surface(_opened, guards=GUARDS)
