"""Tiny models of random weights as GGUFs, of kinds that no pulled model is.

A Mamba, with a state instead of KV; a Gemma 2, half of whose layers see the last SLIDING tokens alone; an LFM2, half of
whose layers have a state. In one file, or in parts as llama.cpp splits them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from drivers.disk import whole

STRING, ARRAY, U16, U32, I32, F32 = 8, 9, 2, 4, 5, 6
EMBD, INNER, STATE, RANK, CONV, LAYERS, HEADS = 32, 64, 8, 4, 4, 2, 2
SLIDING: Final = 24  # tokens that a sliding layer sees

Meta = list[tuple[str, int, object]]
Shapes = dict[str, tuple[int, ...]]

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
    meta: Meta = [
        ("mamba.feed_forward_length", U32, 0),
        ("mamba.attention.head_count", U32, 0),
        ("mamba.ssm.conv_kernel", U32, CONV),
        ("mamba.ssm.inner_size", U32, INNER),
        ("mamba.ssm.state_size", U32, STATE),
        ("mamba.ssm.time_step_rank", U32, RANK),
    ]
    shapes = {
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
    words = _words(template, extra, merges)
    meta = [
        (key, kind, changes.get(key.rsplit(".", 1)[-1], value))
        for key, kind, value in [*_head("mamba", "Tiny Mamba"), *meta, *words]
    ]
    _write([path], seed, meta, 258 + len(extra), [shapes] * LAYERS, "output_norm.weight")


def gemma(path: Path, seed: int = 1, *, template: str = TEMPLATE, bos: bool = True) -> None:
    """A Gemma 2 of two layers. `bos`: whether its vocabulary has one."""
    meta: Meta = [*_attention("gemma2", (U32, HEADS)), ("gemma2.attention.sliding_window", U32, SLIDING)]
    after = {f"post_{one}.weight": (EMBD,) for one in ("attention_norm", "ffw_norm")}
    words = [one for one in _words(template) if bos or one[0] != "tokenizer.ggml.bos_token_id"]
    layer = {**_attending(), **_feeding(), **after}
    _write([path], seed, [*_head("gemma2", "Tiny Gemma"), *meta, *words], 258, [layer] * LAYERS, "output_norm.weight")


def hybrid(path: Path, seed: int = 1, *, parts: int = 1) -> list[Path]:
    """An LFM2 of two layers, one with a state and one with KV; the files that it is in."""
    names = [f"{path.stem}-{number + 1:05}-of-{parts:05}.gguf" for number in range(parts)]
    files = [path] if parts == 1 else [path.with_name(name) for name in names]
    meta: Meta = [*_attention("lfm2", (ARRAY, (I32, [0, HEADS]))), ("lfm2.shortconv.l_cache", U32, CONV - 1)]
    conv = {
        **_feeding(),
        "shortconv.conv.weight": (EMBD, CONV - 1),
        "shortconv.in_proj.weight": (3 * EMBD, EMBD),
        "shortconv.out_proj.weight": (EMBD, EMBD),
    }
    width = EMBD // HEADS
    attention = {**_attending(), **_feeding(), "attn_q_norm.weight": (width,), "attn_k_norm.weight": (width,)}
    whole_meta = [*_head("lfm2", "Tiny LFM"), *meta, *_words(TEMPLATE)]
    _write(files, seed, whole_meta, 258, [conv, attention], "token_embd_norm.weight")
    return files


def _head(kind: str, name: str) -> Meta:
    return [
        ("general.architecture", STRING, kind),
        ("general.name", STRING, name),
        (f"{kind}.context_length", U32, 4096),
        (f"{kind}.embedding_length", U32, EMBD),
        (f"{kind}.block_count", U32, LAYERS),
        (f"{kind}.attention.layer_norm_rms_epsilon", F32, 1e-5),
    ]


def _attention(kind: str, shared: tuple[int, object]) -> Meta:
    """Of attention; `shared`: its heads of keys and values, as a number or one a layer."""
    return [
        (f"{kind}.feed_forward_length", U32, INNER),
        (f"{kind}.attention.head_count", U32, HEADS),
        (f"{kind}.attention.head_count_kv", *shared),
        (f"{kind}.attention.key_length", U32, EMBD // HEADS),
        (f"{kind}.attention.value_length", U32, EMBD // HEADS),
        (f"{kind}.rope.freq_base", F32, 10_000.0),
    ]


def _attending() -> Shapes:
    return {f"attn_{one}.weight": (EMBD, EMBD) for one in ("q", "k", "v", "output")}


def _feeding() -> Shapes:
    return {
        "ffn_norm.weight": (EMBD,),
        "ffn_gate.weight": (INNER, EMBD),
        "ffn_up.weight": (INNER, EMBD),
        "ffn_down.weight": (EMBD, INNER),
    }


def _words(template: str, extra: Sequence[tuple[str, int]] = (), merges: Sequence[str] = ("a b",)) -> Meta:
    """A vocabulary of bytes, two marks and `extra`."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    tokens = [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]
    tokens += ["<|im_start|>", "<|im_end|>", *(text for text, _ in extra)]
    types = [1] * 256 + [3, 3, *(kind for _, kind in extra)]
    return [
        ("tokenizer.ggml.model", STRING, "gpt2"),
        ("tokenizer.ggml.pre", STRING, "gpt-2"),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, tokens)),
        ("tokenizer.ggml.token_type", ARRAY, (I32, types)),
        ("tokenizer.ggml.merges", ARRAY, (STRING, list(merges))),
        ("tokenizer.ggml.bos_token_id", U32, 256),
        ("tokenizer.ggml.eos_token_id", U32, 257),
        ("tokenizer.chat_template", STRING, template),
    ]


def _write(files: Sequence[Path], seed: int, meta: Meta, words: int, layers: Sequence[Shapes], norm: str) -> None:
    """Write a model's files: all that is said in the first, its tensors in order over all."""
    rng = np.random.default_rng(seed)
    tensors: Shapes = {"token_embd.weight": (words, EMBD), norm: (EMBD,)}
    for number, shapes in enumerate(layers):
        tensors |= {f"blk.{number}.{name}": shape for name, shape in {"attn_norm.weight": (EMBD,), **shapes}.items()}
    names = list(tensors)
    for number, file in enumerate(files):
        split: Meta = [
            ("split.no", U16, number),
            ("split.count", U16, len(files)),
            ("split.tensors.count", I32, len(names)),
        ]
        said = [*(meta if number == 0 else ()), *(split if len(files) > 1 else ())]
        mine = names[number * len(names) // len(files) : (number + 1) * len(names) // len(files)]
        whole.write(file, _file(rng, said, {name: tensors[name] for name in mine}), sync=False)


def _file(rng: np.random.Generator, meta: Meta, tensors: Shapes) -> bytes:
    """The bytes of one file."""
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
    return bytes(out + data)


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
        case 2:
            return struct.pack("<H", value)
        case 6:
            return struct.pack("<f", value)
        case 5:
            return struct.pack("<i", value)
        case _:
            return struct.pack("<I", value)
