"""The scheduling bench, on one seed: what each policy is there for."""

import pytest

from bench.sched import Result, measure
from kernel.scheduler import SCHEDULERS


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    return {policy: measure(policy, 7) for policy in SCHEDULERS}


def test_interactive_turns_wait_far_less_than_under_fifo_and_batch_work_loses_little(
    results: dict[str, Result],
) -> None:
    fifo = results["fifo"]
    assert fifo.turns == results["mlfq"].turns == results["fair"].turns > 500
    for policy in ("mlfq", "fair"):
        assert results[policy].p95_wait <= 0.14 * fifo.p95_wait
        assert results[policy].batch_tokens_per_s >= 0.9 * fifo.batch_tokens_per_s


def test_nobody_starves_but_under_fifo(results: dict[str, Result]) -> None:
    for policy, one in results.items():
        assert (one.bound is None) == (policy == "fifo")
        assert one.bound is None or one.max_wait <= one.bound


def test_fair_is_fair_over_ten_seconds(results: dict[str, Result]) -> None:
    assert results["fair"].jain >= 0.95
