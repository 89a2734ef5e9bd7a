"""A CPU that fails or stands still as a scenario says, around one that plays a script."""

from __future__ import annotations

from typing import Any

from drivers.cpu.scripted import ScriptedCpu
from kernel.event import AnyEvent, Outcome, Tag, Trapped
from kernel.ports import Job
from llmos.scenario.faulty import FaultyCpu


class Preemptible(ScriptedCpu):
    """Keeps which slots it was told to stop."""

    def __init__(self) -> None:
        super().__init__(lambda job: '{"op":"yield"}', slots=3)
        self.told: list[int] = []

    def preempt(self, slot: int) -> None:
        self.told.append(slot)


def opened() -> tuple[FaultyCpu, Preemptible, list[tuple[int, Outcome]]]:
    inner, seen = Preemptible(), list[tuple[int, Outcome]]()
    cpu = FaultyCpu(inner)

    def post(event: AnyEvent) -> None:
        assert isinstance(event, Trapped)
        seen.append((event.slot, event.outcome))

    cpu.open(2048, post, lambda streamed: None)
    return cpu, inner, seen


def job(slot: int) -> Job:
    last: dict[str, Any] = {"grammar": None, "quantum": 100, "reply": 100, "window": 2048}
    return Job(slot, tag=Tag(slot + 1, 1, 1), pages=(), prompt=(1, 2), ids=(), **last)


def test_as_many_runs_fail_as_were_told_to_and_the_next_is_run() -> None:
    cpu, _, seen = opened()
    cpu.failures += 2
    for _ in range(3):
        cpu.start(job(0))
    assert seen == [(0, Outcome.FAILED), (0, Outcome.FAILED), (0, Outcome.SYSCALL)]


def test_what_starts_in_a_stall_runs_after_the_last_of_them_in_the_order_it_came() -> None:
    cpu, _, seen = opened()
    cpu.stall()
    cpu.start(job(2))
    cpu.stall()
    cpu.start(job(0))
    cpu.go_on()
    assert seen == []
    cpu.go_on()
    assert [slot for slot, _ in seen] == [2, 0]
    cpu.start(job(1))
    assert seen[-1] == (1, Outcome.SYSCALL)


def test_what_is_preempted_in_a_stall_is_preempted_when_it_starts_and_never_again() -> None:
    cpu, inner, seen = opened()
    cpu.stall()
    cpu.start(job(0))
    cpu.start(job(1))
    cpu.preempt(1)
    assert inner.told == []
    cpu.go_on()
    assert inner.told == [1]
    assert len(seen) == 2
    cpu.preempt(0)
    assert inner.told == [1, 0]
