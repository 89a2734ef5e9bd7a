"""The CPU on llama.cpp: several slots on one model, one thread for all engines, KV paged between seats and images.

Guarantees:
- Exactly one Trapped follows each `start`, until `close`; a failure of the library is one with Outcome.FAILED.
- A step evaluates the next tokens of all runs that decode, and one bounded chunk of one prompt. A stop takes effect
  between tokens; a chunk under way is aborted for it and evaluated anew later, each at most once.
- `deterministic`: every run is evaluated in batches of its own, in a KV stream of its own, cut at multiples of the
  chunk. What is emitted is a function of prompt, ids, grammar, settings and the process's own KV, bit for bit, whoever
  else runs and whether the KV was kept, shared, or restored from its image.
- `throughput`: runs share batches and KV cells; sums then depend on the company, so near ties can flip.
- KV never holds more than `window` tokens of a process: a job whose prompt and reply could is refused before anything
  is evaluated. Where cells are short, who rests is paged out, else the run waits: no run fails for them.
Caller's duty: one job at a time in a slot; nothing is called after `close`.
Not here: the file format (gguf.py), text and template (vocabulary.py, frame.py), a run (run.py), whose tokens are where
(kv/seats.py), files of KV (kv/images.py), how much memory it takes (memory.py), what a syscall is.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import queue
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import llama_cpp
import numpy as np

from drivers.cpu import gguf
from drivers.cpu.kv.images import ImageStore, NoImages
from drivers.cpu.kv.seats import Seats
from drivers.cpu.llama import memory
from drivers.cpu.llama.buffers import Buffers
from drivers.cpu.llama.cores import Cores
from drivers.cpu.llama.grammars import Grammars
from drivers.cpu.llama.run import Run, trap
from drivers.cpu.llama.sampler import Logits
from drivers.cpu.llama.vocabulary import Vocabulary
from kernel.errors import BadInput, DeviceError
from kernel.event import Outcome, Trapped
from kernel.ports import Job, Post, Streamed
from kernel.settings import Cpu as CpuSettings

SMALL: Final = 1_500_000_000  # parameters below which a model speaks prose and cannot choose among many syscalls
DEFAULTS: Final = CpuSettings()
LOG_ERROR: Final = 4  # GGML_LOG_LEVEL_ERROR
FEW: Final = 8  # tokens that go with every step; more are a prompt, whose chunks take turns
SEATS_A_SLOT: Final = 4  # where seats share cells: who rests keeps its KV until cells are short
IDLE_TOKENS: Final = 256  # worth an image while nothing else is to be done: a second of prefill
LAST_MAX: Final = 4096  # processes whose last prompt is known
ABORTED: Final = 2  # what llama_decode gives then
SAMPLES: Final = 64  # parts of a model file that go into its fingerprint
SAMPLE: Final = 4096  # bytes each

_engines: Final = Cores()  # of the engines of all models, for they have the same ones
_errors: deque[str] = deque(maxlen=8)  # what llama.cpp last complained of; its log is global, so is this


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _on_log(level: int, text: bytes, _data: object) -> None:
    """Keep llama.cpp's errors, drop the rest: the terminal belongs to the user."""
    if level == LOG_ERROR:
        _errors.append(text.decode(errors="replace").strip())


class LlamaCpu:
    """A `kernel.ports.Cpu` on a GGUF model."""

    def __init__(
        self, path: str | os.PathLike[str], settings: CpuSettings = DEFAULTS, images: Path | None = None
    ) -> None:
        """Load the model at `path`; KV images go to the folder `images`, if there is one.

        Raises BadInput, with what to do, if the model is missing, broken or not understood.
        """
        self._settings = settings
        self._path, self._folder = Path(path), images
        self.slots: int = settings.slots
        header = gguf.read(self._path)
        llama_cpp.llama_log_set(_on_log, ctypes.c_void_p(0))
        _errors.clear()
        needs = memory.Needs(self._path.stat().st_size, 0)
        if why := memory.refusal(needs, 0, 0, self._free()):
            raise BadInput(f"model {self._path}: {why}")
        params = llama_cpp.llama_model_default_params()
        params.load_mode = llama_cpp.LLAMA_LOAD_MODE_MMAP
        params.n_gpu_layers = settings.gpu_layers
        self._model = llama_cpp.llama_model_load_from_file(os.fsencode(self._path), params)
        if not self._model:
            why = _errors[0] if _errors else "llama.cpp gives no reason"
            raise BadInput(f"model {self._path}: llama.cpp cannot load it ({why}); pull the file again, or another")
        self._context: Any = None
        self.off = _off(self._model)
        self._partly = not self.off  # whether KV can be cut back: recurrent state cannot
        try:
            self.window_max: int = llama_cpp.llama_model_n_ctx_train(self._model)
            self.model = header.text("general.name") or self._path.stem
            small = llama_cpp.llama_model_n_params(self._model) < SMALL
            self.encoding = "prose" if small else "json"
            self.full_mask = not small
            self.vocabulary = Vocabulary(self._model, header, self._path)
            self.frame = self.vocabulary.frame
        except BaseException:
            llama_cpp.llama_model_free(self._model)
            raise
        self._grammars = Grammars(self.vocabulary)
        self._lock = threading.Lock()
        self._busy: dict[int, threading.Event] = {}  # under _lock: by slot with a job, whether it is to stop
        self._closing = False
        self._commands: queue.SimpleQueue[Job | Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting: deque[Run] = deque()  # runs that have no seat yet, first come first served
        self._running: list[Run] = []
        self._last: OrderedDict[int, frozenset[int]] = OrderedDict()  # by process, the pages of its last prompt
        self._ticks = 0
        self._buffers = Buffers()
        self.aborted = 0  # chunks
        # llama.cpp asks this between two nodes of a graph. A function of Python's would have to wait for the
        # interpreter there; libc's strlen is one that does not: an empty string is False.
        self._abort = ctypes.create_string_buffer(2)
        self._abortable = False  # under _lock: a decode is under way that may be aborted
        self._ask_abort = ctypes.cast(ctypes.CDLL(None).strlen, llama_cpp.ggml_abort_callback)

    def measure_id(self) -> str:
        """Hash of vocabulary and frame."""
        return self.vocabulary.measure_id

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Token ids of `text` as plain text: see Vocabulary.tokenize. Any thread."""
        return self.vocabulary.tokenize(text)

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of `ids`: see Vocabulary.detokenize. Any thread."""
        return self.vocabulary.detokenize(ids)

    def open(self, window: int, post: Post, stream: Callable[[Streamed], None]) -> None:
        """Make room for `window` tokens a slot and start the engine. Raises BadInput if model or memory cannot."""
        if window > self.window_max:
            raise BadInput(f"window {window}: {self.model} sees at most {self.window_max} tokens; give --window less")
        settings = self._settings
        exact = settings.mode == "deterministic"
        chunk = min(settings.chunk, window)
        seats = max(self.slots, settings.seats or self.slots * (1 if exact else SEATS_A_SLOT))
        cells = 0 if exact else max(settings.cells, window) if settings.cells else self.slots * window
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = seats * _padded(window) if exact else _padded(cells)
        params.n_seq_max = seats if exact else seats + 1  # the last is for what a splice moves
        params.kv_unified = not exact
        params.n_batch = params.n_ubatch = chunk if exact else chunk + FEW * self.slots
        params.n_threads = params.n_threads_batch = settings.threads or _cores()
        params.abort_callback = self._ask_abort
        params.abort_callback_data = ctypes.cast(self._abort, ctypes.c_void_p)
        if why := memory.refusal(self._needs(), _padded(window), seats if exact else -(-cells // window), self._free()):
            raise BadInput(f"{self.model}: {why}")
        _errors.clear()
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        if not self._context:
            why = _errors[0] if _errors else "not enough memory"
            raise BadInput(
                f"window {window}: llama.cpp cannot make room for {self.slots} slots of it ({why}); "
                "give --window less, or --set cpu.slots=1"
            )
        self._window, self._chunk, self._exact = window, chunk, exact
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch_max: int = params.n_batch
        self._batch = llama_cpp.llama_batch_init(self._batch_max, 0, 1)
        shift = settings.drop == "shift" and self._partly
        if shift and not llama_cpp.llama_memory_can_shift(self._memory):
            shift, self.off = False, ("KV cannot be moved with this model: cpu.drop is exact",)
        self._post, self._stream = post, stream
        self.images: ImageStore | NoImages = NoImages()
        if self._folder is not None and settings.images:
            self.images = ImageStore(self._folder, self.fingerprint(window), settings.images << 20)
        self.seats = Seats(
            seats,
            self,
            self.images,
            grain=chunk,
            exact=exact,
            capacity=cells,
            partly=self._partly,
            shift=shift,
        )
        self.ended = threading.Event()
        _engines.join(self)

    def _needs(self) -> memory.Needs:
        """What the model takes, in bytes: keys and values are of two bytes each."""
        model = self._model
        width = llama_cpp.llama_model_n_embd(model) // max(1, llama_cpp.llama_model_n_head(model))
        token = 2 * 2 * llama_cpp.llama_model_n_layer(model) * llama_cpp.llama_model_n_head_kv(model) * width
        return memory.Needs(self._path.stat().st_size, token, memory.COMPUTE + 4 * self.vocabulary.size * self.slots)

    def _free(self) -> int | None:
        """Bytes of memory that are free; None where it is unknown, or an accelerator has some of its own."""
        return None if self._settings.gpu_layers else memory.available()

    def fingerprint(self, window: int) -> bytes:
        """What a KV image depends on, tokens aside: the model's file, the library, and how KV is laid out."""
        status = self._path.stat()
        hashed = hashlib.blake2b(digest_size=16)
        with self._path.open("rb") as file:
            for n in range(SAMPLES):
                file.seek(status.st_size * n // SAMPLES)
                hashed.update(file.read(SAMPLE))
        settings = self._settings
        stamp = (status.st_size, status.st_mtime_ns)
        said = (*stamp, llama_cpp.__version__, window, settings.mode, settings.drop, self._chunk)
        hashed.update(repr(said).encode())
        return hashed.digest()

    def start(self, job: Job) -> None:
        """Run `job`; exactly one Trapped follows. Raises DeviceError if the slot is busy or was never opened."""
        with self._lock:
            if job.slot in self._busy or not 0 <= job.slot < self.slots or self._closing or self._context is None:
                raise DeviceError(f"slot {job.slot} of {self.model} is busy, closed, or does not exist")
            self._busy[job.slot] = threading.Event()
        self.tell(job)

    def tell(self, command: Job | Callable[[], None] | None) -> None:
        """Have the engine's thread do something between two steps; None: end."""
        self._commands.put(command)
        _engines.wake()

    def preempt(self, slot: int) -> None:
        """Stop what runs in a slot at its next token or prefill chunk. No effect on an idle one."""
        with self._lock:
            stop = self._busy.get(slot)
            if stop is not None:
                stop.set()
                if self._abortable:
                    self._abort.value = b"x"

    def expect(self, pid: int) -> None:
        """`pid` is likely to be started soon: its image may be read ahead."""
        self.tell(lambda: self._expect(pid))

    def fork(self, parent: int, child: int) -> None:
        """`child` begins with all the KV of `parent`; to be called before its first `start`, and `parent` rests."""
        self.tell(lambda: self._fork(parent, child))

    def close(self) -> None:
        """Stop all runs, keep their KV as images, free the model. Nothing is posted any more. May be called twice."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            for stop in self._busy.values():
                stop.set()
            if self._abortable:
                self._abort.value = b"x"
        if self._context is not None:
            self.tell(None)
            self.ended.wait()
            self.images.close()
            llama_cpp.llama_batch_free(self._batch)
            llama_cpp.llama_free(self._context)
        del self._grammars
        llama_cpp.llama_model_free(self._model)

    # Cells: the KV cache as kv/seats.py sees it

    def trim(self, seat: int, upto: int) -> bool:
        """Remove positions from `upto` on; False if only all of them could be."""
        if llama_cpp.llama_memory_seq_rm(self._memory, seat, upto, -1):
            return True
        llama_cpp.llama_memory_seq_rm(self._memory, seat, -1, -1)
        return False

    def share(self, source: int, seat: int, upto: int) -> bool:
        """Give an empty seat the first positions of another: the same cells, or a copy where each has its own."""
        if not self._exact:
            llama_cpp.llama_memory_seq_cp(self._memory, source, seat, 0, upto)
            return True
        # Between streams llama.cpp copies with the next decode; until then the state of the copy reads as another.
        if not self.write(seat, self.read(source)):
            return False
        return self.trim(seat, upto)

    def splice(self, seat: int, start: int, end: int, tokens: Sequence[int]) -> bool:
        """Put `tokens`, one chunk at most, in place of some positions, and move what follows: its keys will be turned.

        llama.cpp takes new positions at the end alone, so what follows waits in a sequence of nobody's. Streams of
        their own have no such sequence: `tokens` is empty there.
        """
        memory, batch, moved = self._memory, self._batch, len(tokens) - (end - start)
        if not tokens:
            llama_cpp.llama_memory_seq_rm(memory, seat, start, end)
            llama_cpp.llama_memory_seq_add(memory, seat, end, -1, moved)
            return True
        aside = len(self.seats.seats)
        llama_cpp.llama_memory_seq_cp(memory, seat, aside, end, -1)
        llama_cpp.llama_memory_seq_rm(memory, seat, start, -1)
        for n, token in enumerate(tokens):
            batch.token[n], batch.pos[n], batch.n_seq_id[n], batch.logits[n] = token, start + n, 1, 0
            batch.seq_id[n][0] = seat
        batch.n_tokens = len(tokens)
        self._abort.value = b""
        code = llama_cpp.llama_decode(self._context, batch)
        if code == 0:
            llama_cpp.llama_memory_seq_add(memory, aside, end, -1, moved)
            llama_cpp.llama_memory_seq_cp(memory, aside, seat, -1, -1)
        else:
            llama_cpp.llama_memory_seq_rm(memory, seat, -1, -1)
        llama_cpp.llama_memory_seq_rm(memory, aside, -1, -1)
        return bool(code == 0)

    def read(self, seat: int) -> Any:
        """The state of a sequence, (bytes,) uint8."""
        size = llama_cpp.llama_state_seq_get_size(self._context, seat)
        data = self._buffers.take(size)
        got = llama_cpp.llama_state_seq_get_data(self._context, _pointer(data), size, seat)
        if got != size:
            raise DeviceError(f"llama.cpp gives {got} of {size} bytes of a sequence's state")
        return data

    def write(self, seat: int, data: Any) -> bool:
        """Make the state of a sequence what was read; False: it is empty."""
        raw = np.frombuffer(data, np.uint8)
        done = llama_cpp.llama_state_seq_set_data(self._context, _pointer(raw), raw.nbytes, seat)
        if not done:
            llama_cpp.llama_memory_seq_rm(self._memory, seat, -1, -1)
        return bool(done)

    # On the engines' thread

    def turn(self) -> bool:
        """See cores.Engine: begin and end what was asked for, and one step of all that run."""
        while True:  # ends when nothing more was asked for
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                break
            if command is None:
                self._end()
                return True
            if isinstance(command, Job):
                self._begin(command)
            else:
                command()
        self._seat_who_waits()
        for run in list(self._running):
            self._advance(run)
        if self._running:
            self._step()
        return bool(self._running or self._waiting)

    def rest(self) -> bool:
        """See cores.Engine: write what rests to its image."""
        resting = self.seats.unsaved(IDLE_TOKENS)
        if resting is not None:
            self.seats.save(resting)
        return resting is not None

    def _end(self) -> None:
        for seat in self.seats.seats:
            self.seats.leave(seat.number)
            self.seats.save(seat)
        _engines.leave(self)

    def _expect(self, pid: int) -> None:
        if all(seat.pid != pid for seat in self.seats.seats):
            self.images.expect(pid)

    def _fork(self, parent: int, child: int) -> None:
        self._last[child] = self._last.get(parent, frozenset())
        self.seats.fork(parent, child)

    def _begin(self, job: Job) -> None:
        """Take a job in: refuse it, or have it wait for a seat."""
        try:
            window = min(job.window, self._window)
            if not job.prompt:
                raise DeviceError("the prompt is empty")
            if len(job.prompt) + max(job.reply, len(job.ids)) > window:
                n = len(job.prompt)
                raise DeviceError(f"a prompt of {n} and a reply of {job.reply} tokens exceed the window of {window}")
            run = Run(job, self._grammars.matcher(job.grammar), self.vocabulary, self._settings, self._stream)
        except Exception as exc:  # whatever it is, it must not cost the other runs
            self._answer(trap(job, Outcome.FAILED, _said(exc)))
        else:
            self._waiting.append(run)

    def _seat_who_waits(self) -> None:
        for run in [one for one in self._waiting if self._stopped(one) or not one.legal]:
            self._waiting.remove(run)
            self._advance(run)
        while self._waiting:  # ends: each pass takes one out, or stops
            run = self._waiting.popleft()
            try:
                placed = self.seats.place(run.job.pid, run.tokens, run.limit)
            except Exception as exc:
                self._fail(run, exc)
                continue
            if placed is None:
                self._waiting.appendleft(run)  # and nobody overtakes it, or it could wait for ever
                return
            run.seat = placed.seat
            run.seated(
                placed.kept,
                restored=placed.restored,
                shared=placed.shared,
                filled=placed.filled,
                again=self._again(run, placed.kept),
            )
            self._running.append(run)

    def _again(self, run: Run, kept: int) -> int:
        """Tokens of pages that stood in the process's last prompt, too, and are to be evaluated anew."""
        pages = [page for page in run.job.pages if not page.recalled]
        last = self._last.pop(run.job.pid, frozenset())
        self._last[run.job.pid] = frozenset(page.page.of or page.page.id for page in pages)
        if len(self._last) > LAST_MAX:
            self._last.popitem(last=False)
        frame = self.frame
        costs = {role: len(frame.prefix[role]) + len(frame.suffix[role]) for role in frame.prefix}
        seen = sum(len(page.ids) + costs[page.role] for page in pages if (page.page.of or page.page.id) in last)
        return max(0, seen - kept)

    def _stopped(self, run: Run) -> bool:
        return self._busy[run.job.slot].is_set()

    def _advance(self, run: Run) -> None:
        """End a run if it is over."""
        try:
            done = run.advance(stop=self._stopped(run))
        except Exception as exc:
            self._fail(run, exc)
        else:
            if done is not None:
                self._finish(run, done)

    def _finish(self, run: Run, done: Trapped) -> None:
        """A run is over: what it evaluated stays in its seat."""
        if run in self._running:
            self._running.remove(run)
            self.seats.leave(run.seat)
        self._answer(done)

    def _fail(self, run: Run, exc: Exception) -> None:
        """A run has failed. Its KV is not trusted any more."""
        if run in self._running:
            self.seats.leave(run.seat)
            self.seats.forget(run.seat)
            self._running.remove(run)
        self._answer(trap(run.job, Outcome.FAILED, _said(exc)))

    def _answer(self, done: Trapped) -> None:
        with self._lock:
            del self._busy[done.slot]
            if self._closing:
                return
        self._post(done)

    def _step(self) -> None:
        """Evaluate the next tokens of every run that decodes, and one chunk of one that has a prompt to be read."""
        self._ticks += 1
        some = [(run, self._next(run)) for run in self._running if len(run.pending) <= FEW]
        reading = [run for run in self._running if len(run.pending) > FEW]
        if reading:
            run = min(reading, key=lambda one: one.served)
            chunk = (run, self._next(run))
            if self._exact:
                for one in some:
                    self._evaluate([one])
                if run in self._running and self._evaluate([chunk], abortable=True):
                    run.served = self._ticks
            elif self._evaluate([*some, chunk], abortable=True):
                run.served = self._ticks
        elif self._exact:
            for one in some:
                self._evaluate([one])
        else:
            self._evaluate(some)

    def _next(self, run: Run) -> int:
        """How many tokens of a run go into its next batch: as many as it has, up to the next multiple of the chunk."""
        if self._exact:
            return min(len(run.pending), self._chunk - run.kv % self._chunk)
        return min(len(run.pending), self._chunk)

    def _evaluate(self, parts: list[tuple[Run, int]], *, abortable: bool = False) -> bool:
        """Evaluate so many tokens of each run in one batch, and let those go on that are read to the end.

        False: it was aborted, and nothing has changed. A batch that fails ends its runs.
        """
        batch, n = self._batch, 0
        last: list[int] = []
        for run, count in parts:
            for i, token in enumerate(run.pending[:count]):
                batch.token[n] = token
                batch.pos[n] = run.kv + i
                batch.n_seq_id[n] = 1
                batch.seq_id[n][0] = run.seat
                batch.logits[n] = 0
                n += 1
            batch.logits[n - 1] = count == len(run.pending)
            last.append(n - 1)
        batch.n_tokens = n
        abortable = abortable and self._partly and not any(run.retried for run, _ in parts)
        with self._lock:
            self._abort.value = b""
            # What moves is turned by the next batch, in place: half of that could not be undone.
            abortable = abortable and not any(self.seats.seats[run.seat].moved for run, _ in parts)
            self._abortable = abortable
            if abortable and any(stop.is_set() for stop in self._busy.values()):
                self._abortable = False
                return False  # asked while the batch was made
        _errors.clear()
        code = llama_cpp.llama_decode(self._context, batch)
        with self._lock:
            self._abortable = False
        if code == ABORTED:
            self.aborted += 1
            for run, _ in parts:
                run.retried = True
                self.trim(run.seat, run.kv)
            return False
        if code:
            error = DeviceError(f"llama_decode gives {code}: {_errors[0] if _errors else 'no reason'}")
            for run, _ in parts:
                self._fail(run, error)
            return True
        for (run, count), at in zip(parts, last, strict=True):
            self.seats.evaluated(run.seat, run.pending[:count])
            run.evaluated(count)
            if not run.pending:
                try:
                    run.accept(self._logits(at))
                except Exception as exc:
                    self._fail(run, exc)
        return True

    def _logits(self, at: int) -> Logits:
        """A copy of the logits of the batch's token `at`, (vocabulary,) float32."""
        pointer = llama_cpp.llama_get_logits_ith(self._context, at)
        if not pointer:
            raise DeviceError("llama.cpp has no logits for the last token")
        size = self.vocabulary.size
        address = ctypes.addressof(pointer.contents)
        row: Any = (ctypes.c_float * size).from_address(address)
        logits: Logits = np.frombuffer(row, dtype=np.float32).copy()
        return logits


def _off(model: Any) -> tuple[str, ...]:
    """What a model of this kind cannot have, a line each."""
    if llama_cpp.llama_model_is_recurrent(model) or llama_cpp.llama_model_is_hybrid(model):
        return (
            "this model's state cannot be cut back: a prompt that changes anywhere is evaluated from its beginning, "
            "and prefixes are shared and restored only whole",
        )
    return ()


def _said(exc: Exception) -> str:
    return str(exc) if isinstance(exc, DeviceError) else f"{type(exc).__name__}: {exc}"


def _pointer(data: Any) -> Any:
    return data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


def _padded(cells: int) -> int:
    """llama.cpp pads a stream's cells to a multiple of this, and divides a context's evenly among its streams."""
    return -(-cells // 256) * 256


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
