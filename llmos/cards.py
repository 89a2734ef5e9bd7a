"""What a model file says of itself, and what it would take: for `llmos models`.

From the header alone (drivers/cpu/gguf.py): nothing is loaded. The memory is the estimate that boot makes, for one
process; 0 where the header does not say how large a token's keys and values are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from drivers.cpu import gguf, recommended
from drivers.cpu.llama.memory import Needs
from kernel.errors import BadInput
from kernel.sampling import CHOICES, Drawn, Sampling, written
from llmos import catalogue, models
from llmos.catalogue import WINDOW

HALF: Final = 2  # bytes of a key's or a value's number
# General.file_type of llama.cpp's files: what most of the weights are.
QUANTISATIONS: Final[dict[object, str]] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16",
}  # fmt: skip


class Card(msgspec.Struct, frozen=True):
    """A model. `here` False: llmos knows it, and `llmos pull` brings it. "" and 0: nobody says."""

    name: str
    here: bool
    bytes: int
    title: str = ""
    architecture: str = ""
    size: str = ""
    quantisation: str = ""
    context: int = 0
    licence: str = ""
    memory: int = 0  # bytes, for one process of WINDOW tokens
    template: bool = False  # it has a chat template
    good_for: str = ""
    sampling: str = ""  # as is recommended for it
    sampled_by: str = ""  # who recommends that: the file, llmos, or nobody
    source: str = ""
    sha256: str = ""
    broken: str = ""  # why it cannot be read


def every() -> list[Card]:
    """The models that are here, by name, and then those that llmos knows, as `known` has them."""
    there = [(card(path), models.entry(path)) for path in models.present()]
    here = {entry.name for _, entry in there if entry is not None}
    return [one for one, _ in there] + [_known(entry) for entry in catalogue.ENTRIES if entry.name not in here]


def _known(entry: catalogue.Entry) -> Card:
    """A model that is not here."""
    return Card(
        entry.name,
        False,
        entry.bytes,
        licence=entry.licence,
        memory=entry.memory,
        good_for=entry.good_for,
        sampling=told(entry.drawn),
        sampled_by="llmos",
        source=entry.source if entry.repository else "",
    )


def card(path: Path) -> Card:
    """What a file of the models directory says of itself."""
    pulled = models.pulled(path)
    source, sha256 = (pulled.source, pulled.sha256) if pulled is not None else ("", "")
    entry = models.entry(path)
    try:
        header = gguf.read(path)
    except BadInput as exc:
        there = models.size_of(path)
        return Card(models.name_of(path), True, there, source=source, sha256=sha256, broken=str(exc))
    token = _token(header)
    said = recommended.of(header)
    how = said or (entry.drawn if entry is not None else recommended.SENSIBLE)
    return Card(
        name=models.name_of(path),
        here=True,
        bytes=header.size,
        title=header.text("general.name"),
        architecture=header.text("general.architecture"),
        size=header.text("general.size_label"),
        quantisation=QUANTISATIONS.get(header.meta.get("general.file_type"), ""),
        context=header.context,
        licence=header.text("general.license") or (entry.licence if entry is not None else ""),
        memory=Needs(header.size, token).of(WINDOW, 1) if token else 0,
        template=bool(header.text("tokenizer.chat_template")),
        good_for=entry.good_for if entry is not None else "",
        sampling=told(how),
        sampled_by="the file" if said is not None else "llmos" if entry is not None else "nobody",
        source=source,
        sha256=sha256,
    )


def told(how: Drawn) -> str:
    """How words are drawn, as `--sample` takes it, without what leaves all as it is."""
    neutral = Drawn()
    chosen = {name: getattr(how, name) for name in CHOICES}
    return written(Sampling(**{key: value for key, value in chosen.items() if value != getattr(neutral, key)}))


def _token(header: gguf.Header) -> int:
    """Bytes of a token's keys and values in all layers; 0 where the header does not tell."""
    kind = header.text("general.architecture")
    layers, heads = header.number(f"{kind}.block_count"), header.number(f"{kind}.attention.head_count")
    shared = header.number(f"{kind}.attention.head_count_kv") or heads
    wide = header.number(f"{kind}.attention.key_length") or (
        header.number(f"{kind}.embedding_length") // heads if heads else 0
    )
    return 2 * HALF * layers * shared * wide
