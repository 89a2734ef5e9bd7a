"""A storm of interrupts, small: what is accepted comes through once and in order; what is too much is pushed back."""

from bench.interrupts import storm, week
from kernel.limits import PENDING_MAX


def test_a_storm_loses_and_doubles_nothing_and_pushes_back_at_the_bound() -> None:
    found = storm(processes=20, interrupts=16_000, seed=7, within_s=1)
    assert found.accepted + found.pushed_back == 16_000
    assert found.pushed_back > 0
    assert found.peak_pending == PENDING_MAX
    assert (found.delivered, found.lost, found.duplicated, found.out_of_order) == (found.accepted, 0, 0, 0)


def test_every_hour_of_every_timer_is_delivered() -> None:
    assert week(processes=5, days=1).deliveries == 5 * 10 * 24
