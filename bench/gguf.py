"""A model file under another chat template: the same weights and vocabulary, copied."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import BinaryIO

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # of scalars, by their type
STRING, ARRAY = 8, 9
TEMPLATE = b"tokenizer.chat_template"


def retemplated(model: Path, path: Path, template: str) -> Path:
    """Write the model at `model` with the chat template `template` to `path`."""
    with model.open("rb") as source, path.open("wb") as sink:
        magic, version, tensors, pairs = struct.unpack("<4sIQQ", source.read(24))
        sink.write(struct.pack("<4sIQQ", magic, version, tensors, pairs))
        alignment = 32
        for _ in range(pairs):
            start = source.tell()
            key = source.read(struct.unpack("<Q", source.read(8))[0])
            (kind,) = struct.unpack("<I", source.read(4))
            at = source.tell()
            _skip(source, kind)
            end = source.tell()
            source.seek(start)
            if key == TEMPLATE:
                text = template.encode()
                source.seek(end)
                sink.write(struct.pack("<Q", len(key)) + key + struct.pack("<IQ", STRING, len(text)) + text)
            else:
                raw = source.read(end - start)
                alignment = struct.unpack("<I", raw[at - start :])[0] if key == b"general.alignment" else alignment
                sink.write(raw)
        for _ in range(tensors):
            sink.write(length := source.read(8))
            sink.write(source.read(struct.unpack("<Q", length)[0]))
            sink.write(dims := source.read(4))
            sink.write(source.read(8 * struct.unpack("<I", dims)[0] + 4 + 8))
        source.seek(-source.tell() % alignment, 1)
        sink.write(bytes(-sink.tell() % alignment))
        shutil.copyfileobj(source, sink)
    return path


def _skip(source: BinaryIO, kind: int) -> None:
    """Past a value of that type."""
    if kind == STRING:
        source.seek(struct.unpack("<Q", source.read(8))[0], 1)
    elif kind == ARRAY:
        inner, count = struct.unpack("<IQ", source.read(12))
        for _ in range(count if inner in (STRING, ARRAY) else 0):
            _skip(source, inner)
        source.seek(SIZES.get(inner, 0) * count, 1)
    else:
        source.seek(SIZES[kind], 1)
