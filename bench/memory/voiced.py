"""A CPU with two voices: a script speaks for the processes, and a model for the threads of the kernel's.

So a conversation is told as it was written down, and what leaves the queue meanwhile is summed up and reflected on by
a model. Both count alike: the script has the model's sizes.
"""

from __future__ import annotations

from collections.abc import Callable

from kernel.ports import Cpu, Job, Post, Streamed


class VoicedCpu:
    """ports.Cpu over a script and a model. `thread`: whether a process is the kernel's; to be set once it is known."""

    def __init__(self, script: Cpu, model: Cpu) -> None:
        self._script, self._model = script, model
        self._in: dict[int, Cpu] = {}  # who runs, by slot
        self.thread: Callable[[int], bool] = lambda pid: False
        self.slots, self.window_max, self.model = script.slots, script.window_max, script.model
        self.encoding, self.full_mask, self.frame = script.encoding, script.full_mask, script.frame
        self.manner = script.manner
        self.measure_id, self.tokenize, self.detokenize = script.measure_id, script.tokenize, script.detokenize
        self.holds = script.holds

    def open(self, window: int, post: Post, stream: Callable[[Streamed], None]) -> None:
        """See ports.Cpu."""
        for cpu in (self._script, self._model):
            cpu.open(window, post, stream)

    def start(self, job: Job) -> None:
        """See ports.Cpu."""
        self._in[job.slot] = self._model if self.thread(job.pid) else self._script
        self._in[job.slot].start(job)

    def preempt(self, slot: int) -> None:
        """See ports.Cpu."""
        if slot in self._in:
            self._in[slot].preempt(slot)

    def expect(self, pid: int) -> None:
        """See ports.Cpu."""

    def fork(self, parent: int, child: int) -> None:
        """See ports.Cpu."""
        for cpu in (self._script, self._model):
            cpu.fork(parent, child)

    def forget(self, pid: int) -> None:
        """See ports.Cpu."""
        for cpu in (self._script, self._model):
            cpu.forget(pid)

    def close(self) -> None:
        """See ports.Cpu."""
        for cpu in (self._script, self._model):
            cpu.close()
