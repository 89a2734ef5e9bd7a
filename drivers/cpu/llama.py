"""The CPU on llama.cpp: one slot, one engine thread, the longest common prefix of its KV cache kept between runs.

Guarantees:
- Exactly one Trapped follows each `start`, until `close`; a failure of the library is one with Outcome.FAILED.
- What is emitted is a function of prompt, ids, grammar and settings: a run that was preempted and resumed, with no
  other run in between, gives the ids of an uninterrupted one, bit for bit: every token is evaluated in the batch it
  would have been in. A preemption takes effect between tokens and prefill chunks; tokens that the grammar forces go
  with the token before them, so they may overrun a quantum.
- No control token comes out of a text (`tokenize`) or out of the model (all but end marks are masked).
- KV never holds more than `window` tokens: a job whose prompt and reply could is refused before anything is evaluated.
Caller's duty: one job at a time in the slot; nothing is called after `close`.
Not here: the file format (gguf.py), the template (frame.py), the choice of a token (sampler.py), what a syscall is.
"""

from __future__ import annotations

import codecs
import ctypes
import hashlib
import os
import queue
import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import llama_cpp
import llguidance
import llguidance.llamacpp
import llguidance.numpy
import msgspec
import numpy as np

from drivers.cpu import gguf, sampler
from drivers.cpu.frame import derive
from kernel.errors import BadInput, DeviceError
from kernel.event import Outcome, Trapped
from kernel.memory.page import Role
from kernel.ports import Frame, Job, Post, Streamed
from kernel.settings import Cpu as CpuSettings

CHUNK: Final = 256  # tokens of one prefill batch: fixed, for another chunk gives other logits; a KILL waits at most one
GRAMMARS_MAX: Final = 64  # compiled grammars kept; one a capability mask
SMALL: Final = 1_500_000_000  # parameters below which a model speaks prose and cannot choose among many syscalls
DEFAULTS: Final = CpuSettings()
PIECE_BYTES_MAX: Final = 16_384  # longest text of one token
LOG_ERROR: Final = 4  # GGML_LOG_LEVEL_ERROR

_errors: deque[str] = deque(maxlen=8)  # what llama.cpp last complained of; its log is global, so is this


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _on_log(level: int, text: bytes, _data: object) -> None:
    """Keep llama.cpp's errors, drop the rest: the terminal belongs to the user."""
    if level == LOG_ERROR:
        _errors.append(text.decode(errors="replace").strip())


class LlamaCpu:
    """A `kernel.ports.Cpu` with one slot on a GGUF model."""

    slots = 1

    def __init__(self, path: str | os.PathLike[str], settings: CpuSettings = DEFAULTS) -> None:
        """Load the model at `path`. Raises BadInput, with what to do, if it is missing, broken or not understood."""
        self._settings = settings
        self._path = Path(path)
        header = gguf.read(self._path)
        llama_cpp.llama_log_set(_on_log, ctypes.c_void_p(0))
        _errors.clear()
        params = llama_cpp.llama_model_default_params()
        params.load_mode = llama_cpp.LLAMA_LOAD_MODE_MMAP
        self._model = llama_cpp.llama_model_load_from_file(os.fsencode(self._path), params)
        if not self._model:
            why = _errors[0] if _errors else "llama.cpp gives no reason"
            raise BadInput(f"model {self._path}: llama.cpp cannot load it ({why}); pull the file again, or another")
        self._context: Any = None
        try:
            self._vocab = llama_cpp.llama_model_get_vocab(self._model)
            self._tokens = llama_cpp.llama_vocab_n_tokens(self._vocab)
            self.window_max: int = llama_cpp.llama_model_n_ctx_train(self._model)
            self.model = header.text("general.name") or self._path.stem
            small = llama_cpp.llama_model_n_params(self._model) < SMALL
            self.encoding = "prose" if small else "json"
            self.full_mask = not small
            self._read_vocabulary(header)
            self.frame = self._derive_frame(header)
        except BaseException:
            llama_cpp.llama_model_free(self._model)
            raise
        self._measure_id = hashlib.blake2b(
            header.tokenizer.encode() + msgspec.json.encode(self.frame, order="sorted"), digest_size=16
        ).hexdigest()
        self._pieces: dict[int, bytes] = {}
        self._guide: Any = None  # llguidance's table of the vocabulary: takes a second, so built when first needed
        self._grammars: OrderedDict[str, Any] = OrderedDict()
        self._kv: list[int] = []  # the tokens whose keys and values are in the cache, from position 0
        self._lock = threading.Lock()
        self._busy = False  # under _lock: from start to just before its Trapped
        self._closing = False
        self._stop = threading.Event()  # the running job is to stop at its next token or chunk
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()

    def measure_id(self) -> str:
        """Hash of vocabulary and frame."""
        return self._measure_id

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Token ids of `text` as plain text: never a control token, nor one the frame is made of. Any thread.

        Bytes that the vocabulary has no token for are left out, so a text of such bytes only has no ids: SmolLM2's
        vocabulary lacks control characters and the bytes of planes above 3.
        """
        ids = self._tokenize(text, special=False)
        if self._marks.keys().isdisjoint(ids):
            return ids
        # llama.cpp parses user-defined tokens even in plain text: where one is part of the frame, it is broken up.
        inside = "|".join(f"(?<={re.escape(mark[0])})(?={re.escape(mark[1:])})" for mark in self._marks.values())
        return tuple(one for part in re.split(inside, text) for one in self._tokenize(part, special=False))

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of `ids`; broken UTF-8 becomes U+FFFD, control tokens nothing. Any thread."""
        return self._bytes(ids).decode(errors="replace")

    def open(self, window: int, post: Post, stream: Callable[[Streamed], None]) -> None:
        """Make room for `window` tokens and start the engine. Raises BadInput if the model or the memory cannot."""
        if window > self.window_max:
            raise BadInput(f"window {window}: {self.model} sees at most {self.window_max} tokens; give --window less")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = window
        params.n_batch = params.n_ubatch = min(CHUNK, window)
        params.n_threads = params.n_threads_batch = self._settings.threads or _cores()
        _errors.clear()
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        if not self._context:
            why = _errors[0] if _errors else "not enough memory"
            raise BadInput(f"window {window}: llama.cpp cannot make room for it ({why}); give --window less")
        self._window = window
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(params.n_batch, 0, 1)
        self._chunk: int = params.n_batch
        self._post, self._stream = post, stream
        self._engine = threading.Thread(target=self._serve, name="llama", daemon=True)
        self._engine.start()

    def start(self, job: Job) -> None:
        """Run `job`; exactly one Trapped follows. Raises DeviceError if the slot is busy or was never opened."""
        with self._lock:
            if self._busy or self._closing or self._context is None:
                raise DeviceError(f"slot {job.slot} of {self.model} is busy or closed")
            self._busy = True
            self._stop.clear()
        self._jobs.put(job)

    def preempt(self, slot: int) -> None:
        """Stop what runs at its next token or prefill chunk. No effect on an idle slot."""
        with self._lock:
            if self._busy:
                self._stop.set()

    def close(self) -> None:
        """Stop the run, join the engine and free the model. Nothing is posted any more. May be called twice."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            self._stop.set()
        if self._context is not None:
            self._jobs.put(None)
            self._engine.join()
            llama_cpp.llama_batch_free(self._batch)
            llama_cpp.llama_free(self._context)
        self._guide = None
        self._grammars.clear()
        llama_cpp.llama_model_free(self._model)

    # The vocabulary

    def _read_vocabulary(self, header: gguf.Header) -> None:
        """Sort out which tokens end an instruction, which must never come out, and how texts start."""
        control, ends = [], []
        for token in range(self._tokens):
            if llama_cpp.llama_vocab_is_eog(self._vocab, token):
                ends.append(token)
            elif llama_cpp.llama_vocab_is_control(self._vocab, token):
                control.append(token)
        if not ends:
            raise BadInput(f"model {self._path}: its vocabulary has no end-of-turn token; give an instruct model")
        self._ends = frozenset(ends)
        self._end_ids, self._banned = np.array(ends), np.array(control, dtype=np.int64)
        # SentencePiece vocabularies put a space before a text and take it off again; the file may say otherwise.
        spm = llama_cpp.llama_vocab_type(self._vocab) == llama_cpp.LLAMA_VOCAB_TYPE_SPM
        self._leading_space = bool(header.meta.get("tokenizer.ggml.add_space_prefix", spm)) and spm

    def _derive_frame(self, header: gguf.Header) -> Frame:
        """The model's template frame in tokens; also notes which user-defined tokens it is made of."""
        source = header.text("tokenizer.chat_template")
        if not source:
            raise BadInput(f"model {self._path}: it has no chat template; give an instruct model")
        bos = llama_cpp.llama_vocab_bos(self._vocab)
        try:
            text = derive(source, self._text_of(bos), self._text_of(llama_cpp.llama_vocab_eos(self._vocab)))
        except BadInput as exc:
            raise BadInput(f"model {self._path}: {exc}") from exc
        begin = self._tokenize(text.begin, special=True)
        if llama_cpp.llama_vocab_get_add_bos(self._vocab) and begin[:1] != (bos,):
            begin = (bos, *begin)
        frame = Frame(
            begin=begin,
            prefix={role: self._tokenize(text.prefix[role], special=True) for role in Role},
            suffix={role: self._tokenize(text.suffix[role], special=True) for role in Role},
            generate=self._tokenize(text.generate, special=True),
        )
        used = {*begin, *frame.generate}.union(*frame.prefix.values(), *frame.suffix.values())
        user_defined = llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED
        self._marks: dict[int, str] = {
            token: mark
            for token in sorted(used)
            if llama_cpp.llama_vocab_get_attr(self._vocab, token) & user_defined
            and len((mark := self._text_of(token)).strip()) > 1
        }
        return frame

    def _text_of(self, token: int) -> str:
        """The text that stands for `token` in templates; "" for the missing token -1."""
        return "" if token < 0 else llama_cpp.llama_vocab_get_text(self._vocab, token).decode(errors="replace")

    def _tokenize(self, text: str, *, special: bool) -> tuple[int, ...]:
        """Token ids of `text`; `special`: control tokens are parsed. Nothing is added in front or behind."""
        raw = text.encode(errors="replace")
        room = len(raw) + 16
        while True:  # ends at the second try: a negative count says how much room it takes
            out = (llama_cpp.llama_token * room)()
            count = llama_cpp.llama_tokenize(self._vocab, raw, len(raw), out, room, False, special)
            if count >= 0:
                return tuple(out[:count])
            room = -count

    def _piece(self, token: int) -> bytes:
        """The bytes of one token; empty for control tokens."""
        piece = self._pieces.get(token)
        if piece is None:
            buffer = ctypes.create_string_buffer(PIECE_BYTES_MAX)
            count = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, PIECE_BYTES_MAX, 0, False)
            piece = self._pieces[token] = buffer.raw[: max(count, 0)]
        return piece

    def _bytes(self, ids: Sequence[int]) -> bytes:
        """The bytes of `ids` as a text of their own."""
        raw = b"".join(map(self._piece, ids))
        return raw[1:] if self._leading_space and raw.startswith(b" ") else raw

    # The engine thread

    def _serve(self) -> None:
        """The engine's life: one job after the other, until `close` sends None."""
        while (job := self._jobs.get()) is not None:
            try:
                trap = self._run(job)
            except Exception as exc:  # the loop's last ditch: a dead engine would leave its process running for ever
                self._forget()
                trap = _trap(job, Outcome.FAILED, error=f"{type(exc).__name__}: {exc}")
            with self._lock:
                self._busy = False
                if self._closing:
                    return
            self._post(trap)

    def _run(self, job: Job) -> Trapped:
        """Evaluate and emit until the job ends one way or another. Raises DeviceError if the library fails."""
        if not job.prompt:
            return _trap(job, Outcome.FAILED, error="the prompt is empty")
        window = min(job.window, self._window)
        if len(job.prompt) + max(job.reply, len(job.ids)) > window:
            error = f"a prompt of {len(job.prompt)} and a reply of {job.reply} tokens exceed the window of {window}"
            return _trap(job, Outcome.FAILED, error=error)
        run = _Run(job, self._matcher(job.grammar), ids=list(job.ids))
        if run.matcher is not None and not run.matcher.consume_tokens(run.ids):
            error = "the unfinished instruction does not fit what may be emitted now; begin again"
            return self._end(run, Outcome.ILLEGAL, error=error)
        recalled = {token for page in job.pages if page.recalled for token in page.ids}  # what an answer is made of
        said = {token for page in job.pages if page.role is Role.ASSISTANT for token in page.ids}
        run.said = sorted(said - recalled)
        for n, token in enumerate(run.ids):
            self._hear(run, token, first=n == 0)  # what is complete was streamed already; the rest is held back again
        self._rewind(run)
        while True:  # ends at an end mark, a complete grammar, the reply limit, the quantum or a preemption
            if run.matcher is not None and run.matcher.is_error():
                raise DeviceError(f"grammar: {run.matcher.get_error()}")
            if run.ids and run.matcher is not None and run.matcher.is_stopped():
                return self._end(run, Outcome.SYSCALL)
            if len(run.ids) >= job.reply:
                return self._cut_off(run)
            if run.decoded >= job.quantum or self._stop.is_set():
                return self._end(run, Outcome.PREEMPTED)
            if run.matcher is not None and (forced := run.matcher.compute_ff_tokens()):
                for token in forced[: job.reply - len(run.ids)]:
                    self._emit(run, token)
                continue
            if not self._evaluate(run):
                continue  # asked to stop between chunks
            token = self._pick(run)
            if token in self._ends:
                return self._end(run, Outcome.SYSCALL)
            self._emit(run, token)

    def _rewind(self, run: _Run) -> None:
        """Keep the longest common prefix of the run's tokens and KV, less the last token, whose logits are wanted."""
        tokens = [*run.job.prompt, *run.ids]
        keep = 0
        for have, want in zip(self._kv, tokens[:-1], strict=False):
            if have != want:
                break
            keep += 1
        if keep < len(self._kv):
            if llama_cpp.llama_memory_seq_rm(self._memory, 0, keep, -1):
                del self._kv[keep:]
            else:  # recurrent models cannot forget a part
                self._forget()
        run.pending = tokens[len(self._kv) :]
        run.unread = len(run.pending)

    def _forget(self) -> None:
        """Empty the KV cache."""
        llama_cpp.llama_memory_clear(self._memory, True)
        self._kv.clear()

    def _evaluate(self, run: _Run) -> bool:
        """Bring KV up to the last token. False if asked to stop before that; raises DeviceError if llama.cpp fails."""
        while run.pending:  # ends when all are evaluated
            chunk = run.pending[: self._chunk]
            batch = self._batch
            batch.n_tokens = len(chunk)
            for i, token in enumerate(chunk):
                batch.token[i] = token
                batch.pos[i] = len(self._kv) + i
                batch.n_seq_id[i] = 1
                batch.seq_id[i][0] = 0
                batch.logits[i] = 0
            batch.logits[len(chunk) - 1] = 1
            _errors.clear()
            code = llama_cpp.llama_decode(self._context, batch)
            if code:
                raise DeviceError(f"llama_decode gives {code}: {_errors[0] if _errors else 'no reason'}")
            self._kv += chunk
            del run.pending[: len(chunk)]
            read = min(run.unread, len(chunk))
            run.unread -= read
            run.prefill += read
            if run.pending and self._stop.is_set():
                return False
        return True

    def _pick(self, run: _Run) -> int:
        """The next token from the logits of the last one."""
        pointer = llama_cpp.llama_get_logits_ith(self._context, -1)
        if not pointer:
            raise DeviceError("llama.cpp has no logits for the last token")
        address = ctypes.addressof(pointer.contents)
        logits = np.frombuffer((ctypes.c_float * self._tokens).from_address(address), dtype=np.float32).copy()
        logits[self._banned] = -np.inf
        if run.matcher is not None:
            mask = llguidance.numpy.allocate_token_bitmask(1, self._tokens)
            llguidance.numpy.fill_next_token_bitmask(run.matcher, mask)
            if run.matcher.is_error():
                raise DeviceError(f"grammar: {run.matcher.get_error()}")
            allowed = np.unpackbits(mask.view(np.uint8)[0], count=self._tokens, bitorder="little")
            logits[allowed == 0] = -np.inf
        if run.matcher is None and run.blank:
            logits[self._end_ids] = -np.inf
        if logits.max() == -np.inf:
            raise DeviceError("the grammar allows no token that this vocabulary has")
        job = run.job
        chance = sampler.draw(self._settings.seed, job.pid, job.instr, len(run.ids))
        said = run.said + run.ids if run.matcher is None else ()  # a penalty would bend a grammar's punctuation
        return sampler.pick(logits, said, self._settings, chance)

    def _emit(self, run: _Run, token: int) -> None:
        """Append a token to the instruction, and stream the text that it completes."""
        if run.matcher is not None and not run.matcher.consume_token(token):
            raise DeviceError(f"grammar: token {token} is refused; {run.matcher.get_error()}")
        run.first_at = run.first_at or time.time_ns()
        text = self._hear(run, token, first=not run.ids)
        run.ids.append(token)
        run.pending.append(token)
        run.decoded += 1
        if text:
            job = run.job
            offset = len(run.ids) - 1
            self._stream(Streamed(pid=job.pid, instr=job.instr, attempt=job.attempt, offset=offset, text=text))

    def _hear(self, run: _Run, token: int, *, first: bool) -> str:
        """The text that `token` completes; what ends within a character is held back, for it may yet be cut off."""
        piece = self._piece(token)
        if first and self._leading_space:
            piece = piece.removeprefix(b" ")
        run.held += run.decoder.decode(piece)
        if run.decoder.getstate()[0]:
            return ""
        text, run.held = run.held, ""
        if text.strip():
            run.blank = False
        return text

    def _cut_off(self, run: _Run) -> Trapped:
        """The reply limit is reached: what can stand alone is an instruction marked truncated, the rest is illegal."""
        for _ in range(3):  # a character has at most 4 bytes: of a broken one at most 3 tokens go
            if not run.decoder.getstate()[0] or not run.ids:
                break
            run.ids.pop()
            run.decoder.reset()
            run.decoder.decode(self._bytes(run.ids))
            if run.matcher is not None:
                run.matcher.rollback(1)
        if run.ids and (run.matcher is None or run.matcher.is_accepting()):
            return self._end(run, Outcome.SYSCALL, truncated=True)
        error = f"the instruction was not complete after {run.job.reply} tokens; a shorter one is needed"
        return self._end(run, Outcome.ILLEGAL, error=error)

    def _end(self, run: _Run, outcome: Outcome, *, truncated: bool = False, error: str = "") -> Trapped:
        """The run's one Trapped."""
        return _trap(
            run.job,
            outcome,
            text=self.detokenize(run.ids),
            ids=tuple(run.ids),
            truncated=truncated,
            error=error,
            first_at=run.first_at,
            prefill=run.prefill,
            decoded=run.decoded,
            kv=len(self._kv),
        )

    def _matcher(self, grammar: str | None) -> Any:
        """A fresh matcher of `grammar`, or None for None. Raises DeviceError if llguidance cannot compile it."""
        if grammar is None:
            return None
        if self._guide is None:
            ends = sorted(self._ends)
            self._guide = llguidance.llamacpp.lltokenizer_from_vocab(self._vocab, eos_token=ends)
        if grammar not in self._grammars:
            matcher = llguidance.LLMatcher(self._guide, grammar, log_level=0)
            if matcher.is_error():
                raise DeviceError(f"grammar: {matcher.get_error()}")
            self._grammars[grammar] = matcher
            while len(self._grammars) > GRAMMARS_MAX:  # ends: each pass removes one
                self._grammars.popitem(last=False)
        self._grammars.move_to_end(grammar)
        return self._grammars[grammar].deep_copy()


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _trap(job: Job, outcome: Outcome, **rest: Any) -> Trapped:
    """A Trapped of `job`; what was not said of a run that never began is what it began with."""
    return msgspec.structs.replace(
        Trapped(
            slot=job.slot,
            pid=job.pid,
            instr=job.instr,
            attempt=job.attempt,
            outcome=outcome,
            ids=job.ids,
            prompt=len(job.prompt),
            at=time.time_ns(),
        ),
        **rest,
    )


@dataclass(slots=True)
class _Run:
    """One job on its way: what was emitted, what is not in KV yet, and the counts for its Trapped."""

    job: Job
    matcher: Any  # an llguidance LLMatcher that has consumed `ids`, or None
    ids: list[int]
    said: list[int] = field(default_factory=list)  # by the process, as far as its pages are in view
    pending: list[int] = field(default_factory=list)  # the tokens of prompt and ids that are not in KV
    unread: int = 0  # how many of `pending`, from its front, were there when the run began
    prefill: int = 0
    decoded: int = 0
    first_at: int = 0
    held: str = ""  # emitted and not streamed, because a character is not complete
    blank: bool = True  # nothing but white space so far: without a grammar, an end mark would be an empty message
    decoder: Any = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))
