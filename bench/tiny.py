"""A tiny model of random weights as a GGUF, of a kind that no pulled model is: a Mamba, with a state instead of KV."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from drivers.disk import whole

STRING, ARRAY, U32, I32, F32 = 8, 9, 4, 5, 6
EMBD, INNER, STATE, RANK, CONV, LAYERS = 32, 64, 8, 4, 4, 2
TEMPLATE: Final = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# A template whose marks are ordinary text, and merges by which its letters go together where nothing keeps them apart.
INST: Final = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% elif m.role == 'user' %}"
    "[INST] {{ m.content }} [/INST]{% else %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
)
MERGES: Final = ("[ I", "N S", "NS T", "[I NST", "[INST ]", "[ /", "[/ I", "[/I NST", "[/INST ]", "u s", "e r")


class Marked(NamedTuple):
    """A tiny model whose marks are of one kind, as `mamba` takes it."""

    marks: tuple[str, ...]
    template: str = TEMPLATE
    extra: tuple[tuple[str, int], ...] = ()
    merges: tuple[str, ...] = ("a b",)


MARKED: Final = {
    "control": Marked(("<|im_start|>", "<|im_end|>")),
    "user-defined": Marked(("<|a|>", "<|im_end|>"), TEMPLATE.replace("im_start", "a"), (("<|a|>", 4),)),
    "ordinary": Marked(
        ("[INST]", "[/INST]", "<|im_end|>"), INST, tuple((one.replace(" ", ""), 1) for one in MERGES), MERGES
    ),
}


def mamba(
    path: Path,
    seed: int = 1,
    template: str = TEMPLATE,
    extra: Sequence[tuple[str, int]] = (),
    merges: Sequence[str] = ("a b",),
    changes: Mapping[str, int] = {},  # noqa: B006  (never changed)
) -> None:
    """Write it to `path`: two layers, a vocabulary of bytes, ChatML.

    `extra` are tokens with their types behind it, `merges` are BPE's, `changes` replace numbers of the header by the
    last word of their keys.
    """
    rng = np.random.default_rng(seed)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    tokens = [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]
    tokens += ["<|im_start|>", "<|im_end|>", *(text for text, _ in extra)]
    types = [1] * 256 + [3, 3, *(kind for _, kind in extra)]
    meta: list[tuple[str, int, object]] = [
        ("general.architecture", STRING, "mamba"),
        ("general.name", STRING, "Tiny Mamba"),
        ("mamba.context_length", U32, 4096),
        ("mamba.embedding_length", U32, EMBD),
        ("mamba.feed_forward_length", U32, 0),
        ("mamba.attention.head_count", U32, 0),
        ("mamba.block_count", U32, LAYERS),
        ("mamba.ssm.conv_kernel", U32, CONV),
        ("mamba.ssm.inner_size", U32, INNER),
        ("mamba.ssm.state_size", U32, STATE),
        ("mamba.ssm.time_step_rank", U32, RANK),
        ("mamba.attention.layer_norm_rms_epsilon", F32, 1e-5),
        ("tokenizer.ggml.model", STRING, "gpt2"),
        ("tokenizer.ggml.pre", STRING, "gpt-2"),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, tokens)),
        ("tokenizer.ggml.token_type", ARRAY, (I32, types)),
        ("tokenizer.ggml.merges", ARRAY, (STRING, list(merges))),
        ("tokenizer.ggml.bos_token_id", U32, 256),
        ("tokenizer.ggml.eos_token_id", U32, 257),
        ("tokenizer.chat_template", STRING, template),
    ]
    meta = [(key, kind, changes.get(key.rsplit(".", 1)[-1], value)) for key, kind, value in meta]
    tensors = {"token_embd.weight": (len(tokens), EMBD), "output_norm.weight": (EMBD,)}
    for layer in range(LAYERS):
        shapes = {
            "attn_norm.weight": (EMBD,),
            "ssm_in.weight": (2 * INNER, EMBD),
            "ssm_conv1d.weight": (INNER, CONV),
            "ssm_conv1d.bias": (INNER,),
            "ssm_x.weight": (RANK + 2 * STATE, INNER),
            "ssm_dt.weight": (INNER, RANK),
            "ssm_dt.bias": (INNER,),
            "ssm_a": (INNER, STATE),
            "ssm_d": (INNER,),
            "ssm_out.weight": (EMBD, INNER),
        }
        tensors |= {f"blk.{layer}.{name}": shape for name, shape in shapes.items()}
    out = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(meta)))
    for key, kind, value in meta:
        out += _string(key) + struct.pack("<I", kind) + _value(kind, value)
    data = bytearray()
    for name, shape in tensors.items():
        out += _string(name) + struct.pack("<I", len(shape))
        out += b"".join(struct.pack("<Q", n) for n in reversed(shape)) + struct.pack("<IQ", 0, len(data))
        values = rng.normal(0.0, 0.4, shape).astype("<f4")
        if name.endswith("norm.weight"):
            values[:] = 1.0
        if name.endswith("ssm_a"):
            values = -np.abs(values) - np.float32(0.1)
        data += values.tobytes() + bytes(-values.nbytes % 32)
    out += bytes(-len(out) % 32)
    whole.write(path, bytes(out + data), sync=False)


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(kind: int, value: object) -> bytes:
    match kind:
        case 8:
            return _string(str(value))
        case 9:
            assert isinstance(value, tuple)
            item, values = value
            return struct.pack("<IQ", item, len(values)) + b"".join(_value(item, one) for one in values)
        case 6:
            return struct.pack("<f", value)
        case 5:
            return struct.pack("<i", value)
        case _:
            return struct.pack("<I", value)
