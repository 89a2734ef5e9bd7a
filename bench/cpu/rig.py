"""A llama CPU as a bench drives it: jobs by hand, traps as they come."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Final

from drivers.cpu.llama.engine import LlamaCpu
from kernel.event import AnyEvent, Tag, Thought, Trapped
from kernel.ports import Job, Streamed
from kernel.sampling import Sampling
from kernel.settings import Cpu as CpuSettings

WAIT_S: Final = 900.0
SCHEMA: Final = {
    "type": "object",
    "properties": {"op": {"const": "send_message"}, "text": {"type": "string", "maxLength": 200}},
    "required": ["op", "text"],
    "additionalProperties": False,
    "x-guidance": {"whitespace_flexible": False},
}
JSON: Final = f"start: json\njson: %json {json.dumps(SCHEMA)}\n"
PROSE: Final = f'start: prose | call\nprose: /[^!](.|\\n){{0,400}}/\ncall: "!" json\njson: %json {json.dumps(SCHEMA)}\n'
WORDS: Final = (
    "the kernel reads a page and the disk answers slowly while a small river of tokens runs under the old bridge "
    "where seven clerks count boxes of copper wire before the evening train leaves for a town whose name nobody has "
    "written down since the flood took the archive and the mill with its green door"
)


class Rig:
    """An open CPU."""

    def __init__(self, cpu: LlamaCpu, window: int) -> None:
        self.cpu, self.window = cpu, window
        self.traps: queue.SimpleQueue[AnyEvent] = queue.SimpleQueue()
        self.streamed: list[Streamed] = []
        cpu.open(window, self.traps.put, self.streamed.append)

    def start(
        self,
        slot: int,
        pid: int,
        prompt: Sequence[int],
        *,
        ids: Sequence[int] = (),
        grammar: str | None = None,
        quantum: int = 4096,
        reply: int = 48,
        instr: int = 1,
        attempt: int = 1,
        sampling: Sampling | None = None,
        thought: Thought | None = None,
    ) -> None:
        """Start a job of a process."""
        self.cpu.start(
            Job(
                slot=slot,
                tag=Tag(pid, instr, attempt),
                pages=(),
                prompt=tuple(prompt),
                ids=tuple(ids),
                grammar=grammar,
                quantum=quantum,
                reply=reply,
                window=self.window,
                sampling=sampling,
                thought=thought,
            )
        )

    def wait(self) -> Trapped:
        """The next trap. Raises RuntimeError if the device failed."""
        done = self.traps.get(timeout=WAIT_S)
        assert isinstance(done, Trapped)
        if done.outcome == "failed":
            raise RuntimeError(done.error)
        return done

    def run(self, pid: int, prompt: Sequence[int], **more: object) -> Trapped:
        """Run a job in slot 0 and wait for it."""
        self.start(0, pid, prompt, **more)  # type: ignore[arg-type]
        return self.wait()

    def text(self, seed: int, tokens: int) -> tuple[int, ...]:
        """So many tokens of a text that no other seed gives."""
        rng, words, ids = Random(seed), WORDS.split(), tuple[int, ...]()
        while len(ids) < tokens:
            ids += self.cpu.tokenize(" ".join([str(seed), *rng.choices(words, k=tokens // 2 + 8)]) + ". ")
        return ids[:tokens]


@contextmanager
def opened(model: Path, settings: CpuSettings, window: int, images: Path | None = None) -> Iterator[Rig]:
    """A CPU on `model`, open, and closed at the end."""
    cpu = LlamaCpu(model, settings, images)
    try:
        yield Rig(cpu, window)
    finally:
        cpu.close()
