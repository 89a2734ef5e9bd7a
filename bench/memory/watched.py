"""A CPU that is looked at: each job that it is given is kept, and may be changed first.

Its traps carry no time of their own, so that the machine's clock alone says when they came.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from kernel.event import AnyEvent, Outcome, Trapped
from kernel.ports import Cpu, Job, Post, Streamed


class WatchedCpu:
    """ports.Cpu over another one. `jobs`: those since it was last emptied, as they were carried out.

    `drew`: which pages in view an instruction drew on, where that is known better than by its words.
    """

    def __init__(
        self,
        inner: Cpu,
        change: Callable[[Job], Job] | None = None,
        drew: Callable[[Job], tuple[int, ...]] | None = None,
    ) -> None:
        self._inner, self._change, self._drew = inner, change, drew
        self.slots, self.window_max, self.model = inner.slots, inner.window_max, inner.model
        self.encoding, self.full_mask, self.frame = inner.encoding, inner.full_mask, inner.frame
        self.manner = inner.manner
        self.measure_id, self.tokenize, self.detokenize = inner.measure_id, inner.tokenize, inner.detokenize
        self.holds = inner.holds
        self.expect, self.fork, self.forget = inner.expect, inner.fork, inner.forget
        self.preempt, self.close = inner.preempt, inner.close
        self.jobs: list[Job] = []

    def open(self, window: int, post: Post, stream: Callable[[Streamed], None]) -> None:
        """See ports.Cpu."""

        def untimed(event: AnyEvent) -> None:
            if isinstance(event, Trapped):
                event = msgspec.structs.replace(event, at=0, first_at=0)
                if self._drew is not None and event.outcome is Outcome.SYSCALL:
                    event = msgspec.structs.replace(event, drew=self._drew(self.jobs[-1]))
            post(event)

        self._inner.open(window, untimed, stream)

    def start(self, job: Job) -> None:
        """See ports.Cpu."""
        job = self._change(job) if self._change else job
        self.jobs.append(job)
        self._inner.start(job)
