"""The scripted CPU in virtual time: a token takes `token_ns` of a clock that somebody else turns.

A prompt token that is not in KV takes `prefill_ns` before the first. A run is complete when it starts: its trap is put
on the clock for the time at which its last token would come. A preemption moves the trap to the end of the token that
is under way. No thread, no waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from drivers.cpu.scripted import KV_TOKENS, Plan, Program, ScriptedCpu
from kernel.ports import Job


class Clock(Protocol):
    """Virtual time, in ns."""

    now: int

    def call_at(self, when: int, source: str, call: Callable[[], None]) -> None:
        """Call when the time has come; calls of one time go by source, then in the order they were asked for."""
        ...


@dataclass(eq=False, slots=True)
class _Running:
    job: Job
    planned: Plan
    began: int
    end: int  # tokens that it will have emitted, those resumed from included
    due: int = 0  # when its trap comes


class VirtualCpu(ScriptedCpu):
    """ports.Cpu over a program and a clock."""

    def __init__(
        self,
        program: Program,
        clock: Clock,
        *,
        token_ns: int,
        slots: int = 1,
        encoding: str = "json",
        failures: int = 0,
        kv: int = KV_TOKENS,
        prefill_ns: int = 0,
        thinks: bool = False,
    ) -> None:
        super().__init__(program, slots=slots, encoding=encoding, failures=failures, kv=kv, thinks=thinks)
        self._clock, self._token_ns, self._prefill_ns = clock, token_ns, prefill_ns
        self._runs: list[_Running | None] = [None] * slots

    def start(self, job: Job) -> None:
        """Put the run's end on the clock."""
        planned = self._plan(job)
        if planned is not None:
            self._begin(job, planned, self._clock.now)

    def preempt(self, slot: int) -> None:
        """End the run with the token under way."""
        run = self._runs[slot]
        if run is not None:
            under_way = len(run.job.ids) + max(0, self._clock.now - run.began) // self._token_ns + 1
            if under_way < run.end:
                run.end = under_way
                self._call(run)

    def _begin(self, job: Job, planned: Plan, began: int) -> None:
        began += planned.prefill * self._prefill_ns
        run = self._runs[job.slot] = _Running(job, planned, began, planned.end)
        self._call(run)

    def _call(self, run: _Running) -> None:
        when = run.due = run.began + (run.end - len(run.job.ids)) * self._token_ns
        end = run.end

        def trap() -> None:
            if self._runs[run.job.slot] is run and (run.end, run.due) == (end, when):  # nothing moved it
                self._runs[run.job.slot] = None
                self._finish(run.job, run.planned, end, run.began + self._token_ns)

        self._clock.call_at(when, f"cpu{run.job.slot}", trap)
