"""Frames with a name, for chat templates that cannot be read at all: known by the marks in their source, and unchecked.

Not here: templates that can be read, which are derived or refused (derive.py).
"""

from __future__ import annotations

from typing import Final

import msgspec

from drivers.cpu.llama.frame import TextFrame
from kernel.memory.page import Role


def _named(begin: str, system: str, user: str, assistant: str, end: str) -> TextFrame:
    """A frame of headers per role and one end mark; the generation prompt is the assistant's header."""
    prefix = {Role.SYSTEM: system, Role.USER: user, Role.ASSISTANT: assistant}
    return TextFrame(begin=begin, prefix=prefix, suffix=dict.fromkeys(Role, end), generate=assistant)


# (name, markers that must all stand in the template, frame); the first that fits is taken. {bos} is the model's.
NAMED: Final[tuple[tuple[str, tuple[str, ...], TextFrame], ...]] = (
    (
        "phi-4",
        ("<|im_start|>", "<|im_sep|>"),
        _named(
            "",
            "<|im_start|>system<|im_sep|>",
            "<|im_start|>user<|im_sep|>",
            "<|im_start|>assistant<|im_sep|>",
            "<|im_end|>",
        ),
    ),
    (
        "chatml",
        ("<|im_start|>", "<|im_end|>"),
        _named("", "<|im_start|>system\n", "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>\n"),
    ),
    (
        "llama-3",
        ("<|start_header_id|>", "<|eot_id|>"),
        _named(
            "{bos}",
            "<|start_header_id|>system<|end_header_id|>\n\n",
            "<|start_header_id|>user<|end_header_id|>\n\n",
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            "<|eot_id|>",
        ),
    ),
    (
        "gemma",
        ("<start_of_turn>", "<end_of_turn>"),
        _named(
            "{bos}",
            "<start_of_turn>user\n",
            "<start_of_turn>user\n",
            "<start_of_turn>model\n",
            "<end_of_turn>\n",
        ),
    ),
    (
        "phi-3",
        ("<|user|>", "<|assistant|>", "<|end|>"),
        _named("{bos}", "<|system|>\n", "<|user|>\n", "<|assistant|>\n", "<|end|>\n"),
    ),
    (
        "mistral",
        ("[INST]", "[/INST]"),
        TextFrame(
            begin="{bos}",
            prefix={Role.SYSTEM: "[INST] ", Role.USER: "[INST] ", Role.ASSISTANT: ""},
            suffix={Role.SYSTEM: " [/INST]", Role.USER: " [/INST]", Role.ASSISTANT: "</s>"},
            generate="",
        ),
    ),
)


def named(source: str, bos: str) -> tuple[str, TextFrame] | None:
    """The name and the frame of a template whose source has the marks of one; None if it has those of none."""
    for name, markers, frame in NAMED:
        if all(marker in source for marker in markers):
            return name, msgspec.structs.replace(frame, begin=frame.begin.replace("{bos}", bos))
    return None
