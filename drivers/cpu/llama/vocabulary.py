"""A model's vocabulary: text to token ids and back, the template frame, and what must never come out of either.

Guarantees: no control token comes out of a text (`tokenize`), nor a mark of the frame.
Not here: the file format (gguf.py), the template (frame.py), marks in texts (marks.py), what is emitted (run.py).
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import llama_cpp
import msgspec
import numpy as np

from drivers.cpu import gguf
from drivers.cpu.llama.frame import WHITE, TextFrame, Thinks
from drivers.cpu.llama.marks import Marks
from drivers.cpu.llama.thought import Marks as Thought
from drivers.cpu.llama.trial import Verdict
from kernel.errors import BadInput
from kernel.limits import MARKS_TOKENS_MAX
from kernel.memory.measure import Frame, Head
from kernel.memory.page import Role

ORDINARY: Final = (
    "the marks of its chat template ({}) are ordinary text in its vocabulary: where a text holds one, it is broken up "
    "into other tokens, which the model may still take for the mark"
)
PIECE_BYTES_MAX: Final = 16_384  # longest text of one token


class Vocabulary:
    """The vocabulary of a loaded model. All methods may be called from any thread."""

    def __init__(self, model: Any, header: gguf.Header, path: Path, verdict: Verdict) -> None:
        """Raises BadInput if the model has no end-of-turn token, or no chat template that can be used."""
        self._path = path
        self.handle = llama_cpp.llama_model_get_vocab(model)
        self._bos = bos_of(self.handle, header)
        self.size: int = llama_cpp.llama_vocab_n_tokens(self.handle)
        self._pieces: dict[int, bytes] = {}
        self.off: tuple[str, ...] = ()
        control, ends = [], []
        for token in range(self.size):
            if llama_cpp.llama_vocab_is_eog(self.handle, token):
                ends.append(token)
            elif llama_cpp.llama_vocab_is_control(self.handle, token):
                control.append(token)
        if not ends:
            raise BadInput(f"model {path}: its vocabulary has no end-of-turn token; give an instruct model")
        self.ends = frozenset(ends)  # which tokens end an instruction
        self.end_ids, self.banned = np.array(ends), np.array(control, dtype=np.int64)  # and which must never come out
        # SentencePiece vocabularies put a space before a text and take it off again; the file may say otherwise.
        spm = llama_cpp.llama_vocab_type(self.handle) == llama_cpp.LLAMA_VOCAB_TYPE_SPM
        self.leading_space = bool(header.meta.get("tokenizer.ggml.add_space_prefix", spm)) and spm
        self.thought: Thought | None = None
        self.frame = self._framed(verdict)
        self.measure_id = hashlib.blake2b(
            header.tokenizer.encode() + msgspec.json.encode(self.frame, order="sorted"), digest_size=16
        ).hexdigest()

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Token ids of `text` as plain text: never a control token, nor a mark of the frame.

        Bytes that the vocabulary has no token for are left out, so a text of such bytes only has no ids: SmolLM2's
        vocabulary lacks control characters and the bytes of planes above 3.
        """
        return self._marks.tokenize(text)

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of `ids`; broken UTF-8 becomes U+FFFD, control tokens nothing."""
        return self.bytes(ids).decode(errors="replace")

    def _framed(self, verdict: Verdict) -> Frame:
        """The model's template frame in tokens; also notes its marks."""
        text = verdict.frame
        if text is None:
            raise BadInput(f"model {self._path}: {verdict.why}")
        self.off += verdict.notes()
        ids = partial(self.encode, special=True)
        frame = Frame(
            begin=self._begun(text.begin),
            prefix={role: ids(text.prefix[role]) for role in Role},
            suffix={role: ids(text.suffix[role]) for role in Role},
            generate=ids(text.generate),
            head=None if text.head is None else self._head(text.head),
            again=None if text.again is None else ids(text.again),
            trims=text.trim.get(Role.USER) == WHITE,
        )
        if text.thinks is not None and text.lead is not None and text.plain is not None:
            self.thought = self._thought(text.thinks)
            if self.thought is not None:
                frame = msgspec.structs.replace(frame, lead=ids(text.lead), plain=ids(text.plain))
        self._marks = self._marked(text, {token for part in text.parts() for token in ids(part)} | {*frame.begin})
        return frame

    def _thought(self, text: Thinks) -> Thought | None:
        """How the model thinks, in tokens; None, said on boot, if its marks take too many."""
        open_, mark, then, off = (
            self.encode(part, special=True) for part in (text.open, text.mark, text.close, text.off)
        )
        if len(open_) + len(mark) + len(then) > MARKS_TOKENS_MAX or len(off) > MARKS_TOKENS_MAX:
            self.off += (f"the marks of its thought take more than {MARKS_TOKENS_MAX} tokens: it is not to think",)
            return None
        opens = open_[0] if open_ and self._is_mark(open_[0], text.open) else -1
        closes = mark[0] if len(mark) == 1 else -1
        return Thought(
            open_,
            mark,
            then,
            off,
            opens,
            closes,
            text=b"" if closes >= 0 else text.mark.encode(),
            then_text=text.close.encode(),
            first=text.first,
        )

    def _is_mark(self, token: int, text: str) -> bool:
        """Whether a token alone is what a mark begins with, and no piece of ordinary text."""
        own = text_of(self.handle, token)
        return len(own.strip()) > 1 and text.startswith(own) and self.encode(own, special=True) == (token,)

    def _head(self, text: Head[str]) -> Head[tuple[int, ...]]:
        between, end = self.encode(text.between, special=True), self.encode(text.end, special=True)
        joined = None if text.joined is None else self.encode(text.joined, special=True)
        return Head(self._begun(text.begin), between, end, joined)

    def _begun(self, text: str) -> tuple[int, ...]:
        """What comes once, in tokens: BOS in front where the vocabulary wants it there."""
        begin, bos = self.encode(text, special=True), self._bos
        wanted = bos >= 0 and llama_cpp.llama_vocab_get_add_bos(self.handle) and begin[:1] != (bos,)
        return (bos, *begin) if wanted else begin

    def _marked(self, text: TextFrame, used: set[int]) -> Marks:
        """The marks of a frame of the tokens `used`. Raises BadInput if one cannot be kept out of texts."""
        attributes = {token: llama_cpp.llama_vocab_get_attr(self.handle, token) for token in used}
        tokens = {
            token: mark
            for token in sorted(used)
            if attributes[token] & llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED
            and len((mark := text_of(self.handle, token)).strip()) > 1
        }
        control = {token for token in used if attributes[token] & llama_cpp.LLAMA_TOKEN_ATTR_CONTROL}
        rows = {}
        for part in filter(str.strip, text.parts()):
            ids = self.encode(part, special=True)
            seen = [at for at, token in enumerate(ids) if self.piece(token).strip()]
            if seen and (control | self.ends | {*tokens}).isdisjoint(ids):
                rows[part.strip()] = ids[seen[0] : seen[-1] + 1]
        if rows:
            self.off += (ORDINARY.format(", ".join(rows)),)
        try:
            return Marks(partial(self.encode, special=False), tokens, rows)
        except BadInput as exc:
            raise BadInput(f"model {self._path}: {exc}") from exc

    def encode(self, text: str, *, special: bool) -> tuple[int, ...]:
        """Token ids of `text` as the library has them, marks and all; `special`: control tokens are parsed."""
        raw = text.encode(errors="replace")
        room = len(raw) + 16
        while True:  # ends at the second try: a negative count says how much room it takes
            out = (llama_cpp.llama_token * room)()
            count = llama_cpp.llama_tokenize(self.handle, raw, len(raw), out, room, False, special)
            if count >= 0:
                return tuple(out[:count])
            room = -count

    def piece(self, token: int) -> bytes:
        """The bytes of one token; empty for control tokens."""
        piece = self._pieces.get(token)
        if piece is None:
            buffer = ctypes.create_string_buffer(PIECE_BYTES_MAX)
            count = llama_cpp.llama_token_to_piece(self.handle, token, buffer, PIECE_BYTES_MAX, 0, False)
            piece = self._pieces[token] = buffer.raw[: max(count, 0)]
        return piece

    def bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes of `ids` as a text of their own."""
        raw = b"".join(map(self.piece, ids))
        return raw[1:] if self.leading_space and raw.startswith(b" ") else raw


def bos_of(vocabulary: Any, header: gguf.Header) -> int:
    """The token that begins all; -1 where there is none: the library gives some ordinary one then."""
    bos: int = llama_cpp.llama_vocab_bos(vocabulary)
    named = "tokenizer.ggml.bos_token_id" in header.meta
    return bos if named or (bos >= 0 and llama_cpp.llama_vocab_is_control(vocabulary, bos)) else -1


def text_of(vocabulary: Any, token: int) -> str:
    """The text that stands for `token` in templates; "" for the missing token -1."""
    return "" if token < 0 else llama_cpp.llama_vocab_get_text(vocabulary, token).decode(errors="replace")
