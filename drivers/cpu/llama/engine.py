"""The CPU on llama.cpp: several slots on one model, one thread for all engines, KV paged between seats and images.

Guarantees:
- Exactly one Trapped follows each `start`, until `close`; a failure of the library is one with Outcome.FAILED.
- A bug, which is anything but a DeviceError on the engines' thread, ends the engine and not the process: its runs end
  FAILED with what was raised, and from then on `start` raises DeviceError with it, so that the machine stops.
- A step evaluates the next tokens of all runs that decode, and one bounded chunk of one prompt. A stop takes effect
  between tokens; a chunk under way is aborted for it and evaluated anew later, each at most once.
- `deterministic`: every run is evaluated in batches of its own, in a KV stream of its own, cut at multiples of the
  chunk. What is emitted is a function of prompt, ids, grammar, settings and the process's own KV, bit for bit, whoever
  else runs and whether the KV was kept, shared, or restored from its image.
- `throughput`: runs share batches and KV cells; sums then depend on the company, so near ties can flip.
- KV never holds more than `window` tokens of a process: a job whose prompt and reply could is refused before anything
  is evaluated. Where cells are short, who rests is paged out, else the run waits: no run fails for them.
Caller's duty: one job at a time in a slot; nothing is called after `close`.
Not here: the model's file (model.py), the slots as all threads see them (slots.py), runs (turns.py, run.py), batches
(sizes.py, plan.py, steps.py), the library's context (context.py, cells.py), whose tokens are where (kv/seats.py),
files of KV (kv/images.py), what a syscall is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from drivers.cpu.kv.images import ImageStore, NoImages
from drivers.cpu.kv.seats import Seats
from drivers.cpu.llama.buffers import Buffers
from drivers.cpu.llama.cells import KvCells
from drivers.cpu.llama.context import Context
from drivers.cpu.llama.cores import Cores
from drivers.cpu.llama.grammars import unfit
from drivers.cpu.llama.model import Model
from drivers.cpu.llama.sizes import sizes
from drivers.cpu.llama.slots import Slots
from drivers.cpu.llama.steps import Steps
from drivers.cpu.llama.turns import Turns
from drivers.cpu.recommended import SENSIBLE
from drivers.host import cores
from kernel.ports import Job, Manner, Post, Streamed
from kernel.sampling import Drawn
from kernel.settings import Cpu as CpuSettings

DEFAULTS: Final = CpuSettings()

_cores: Final = Cores()  # of the engines of all models, for they have the same ones


class LlamaCpu:
    """A `kernel.ports.Cpu` on a GGUF model. After `open`, benches and tests look into its rooms."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        settings: CpuSettings = DEFAULTS,
        images: Path | None = None,
        recommended: Drawn = SENSIBLE,
    ) -> None:
        """Load the model at `path`; KV images go to the folder `images`, if there is one.

        `recommended`: how its words are best drawn, if the file does not say.
        Raises BadInput, with what to do, if the model is missing, broken or not understood.
        """
        self._settings, self._folder = settings, images
        self._loaded = loaded = Model(Path(path), settings)
        self.slots: int = settings.slots
        self.model, self.window_max, self.off = loaded.name, loaded.window_max, loaded.off
        self.encoding, self.full_mask, self.manner = "prose" if loaded.small else "json", not loaded.small, Manner()
        if profile := loaded.profile:
            self.full_mask, self.manner = profile.full, Manner(profile.encoding, profile.manual)
        self.vocabulary = loaded.vocabulary
        self.frame = loaded.vocabulary.frame
        self._recommended = loaded.recommended or recommended
        self._slots = Slots(settings.slots, loaded.name)
        self._turns: Turns | None = None

    def measure_id(self) -> str:
        """Hash of vocabulary and frame."""
        return self.vocabulary.measure_id

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Token ids of `text` as plain text: see Vocabulary.tokenize. Any thread."""
        return self.vocabulary.tokenize(text)

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of `ids`: see Vocabulary.detokenize. Any thread."""
        return self.vocabulary.detokenize(ids)

    def holds(self, grammar: str) -> str:
        """What llguidance has against a grammar. Any thread."""
        return unfit(grammar)

    def open(self, window: int, post: Post, stream: Callable[[Streamed], None]) -> None:
        """Make room for `window` tokens a slot and start the engine. Raises BadInput if model or memory cannot."""
        settings, loaded = self._settings, self._loaded
        planned = sizes(settings, window)
        loaded.refuse(planned)
        self.context = Context(loaded.handle, planned, settings.threads or cores(), self._slots.abort)
        shift = settings.drop == "shift" and loaded.partly
        if shift and not self.context.can_move:
            shift, self.off = False, (*self.off, "KV cannot be moved with this model: cpu.drop is exact")
        self.images: ImageStore | NoImages = NoImages()
        if self._folder is not None and settings.images:
            self.images = ImageStore(self._folder, loaded.fingerprint(planned), settings.images << 20)
        self.cells = KvCells(self.context, Buffers(), exact=planned.exact, aside=planned.seats, sliding=loaded.sliding)
        self.seats = Seats(
            planned.seats,
            self.cells,
            self.images,
            grain=planned.chunk,
            exact=planned.exact,
            capacity=planned.cells,
            partly=loaded.partly,
            whole=loaded.sliding > 0,
            shift=shift,
        )
        self.steps = Steps(self.context, self.cells, self.seats, self._slots, partly=loaded.partly)
        self._turns = Turns(
            self._slots,
            self.seats,
            self.images,
            self.steps,
            planned,
            self.vocabulary,
            settings,
            _cores,
            recommended=self._recommended,
            post=post,
            stream=stream,
        )
        self._slots.open()
        _cores.join(self._turns)

    def start(self, job: Job) -> None:
        """Run `job`; exactly one Trapped follows. Raises DeviceError if its slot cannot have it."""
        self._slots.take(job)
        self.tell(job)

    def tell(self, command: Job | Callable[[], None] | None) -> None:
        """Have the engine's thread do something between two steps; None: end."""
        assert self._turns is not None, "told before it was opened"
        self._turns.tell(command)

    def preempt(self, slot: int) -> None:
        """Stop what runs in a slot at its next token or prefill chunk. No effect on an idle one."""
        self._slots.stop(slot)

    def expect(self, pid: int) -> None:
        """`pid` is likely to be started soon: its image may be read ahead."""
        if self._turns is not None:
            self.tell(partial(self._turns.expect, pid))

    def fork(self, parent: int, child: int) -> None:
        """`child` begins with all the KV of `parent`; to be called before its first `start`, and `parent` rests."""
        if self._turns is not None:
            self.tell(partial(self._turns.fork, parent, child))

    def forget(self, pid: int) -> None:
        """`pid` is no more: its seat and its image go."""
        if self._turns is not None:
            self.tell(partial(self._turns.forget, pid))

    def close(self) -> None:
        """Stop all runs, keep their KV as images, free the model. Nothing is posted any more. May be called twice."""
        if not self._slots.close():
            return
        if self._turns is not None:
            self._turns.tell(None)
            self._turns.ended.wait()
            self._turns.close()
            self.images.close()
            self.context.close()
        self._loaded.close()
