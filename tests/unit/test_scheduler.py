"""The scheduling policies, each against its own promise: order, shares, and the bound on waiting."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.errors import BadInput
from kernel.scheduler import SCHEDULERS, Scheduler, make
from kernel.scheduler.fair import Fair
from kernel.scheduler.mlfq import BOOST, LEVELS, QUANTA, Mlfq

QUANTUM = 128
BOUNDED = [name for name in SCHEDULERS if make(name, QUANTUM).bound(1) is not None]


def add(queue: Scheduler, *pids: int) -> None:
    for pid in pids:
        queue.add(pid, 0, ran=False)


def order(queue: Scheduler) -> list[int]:
    taken = []
    while (pid := queue.take()) is not None:
        taken.append(pid)
    return taken


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_policy_takes_equals_in_the_order_they_came_and_each_once(name: str) -> None:
    queue = make(name, QUANTUM)
    add(queue, 3, 1, 2, 1)
    queue.remove(2)
    queue.remove(99)
    assert (len(queue), 1 in queue, 2 in queue) == (2, True, False)
    assert order(queue) == [3, 1]
    assert not len(queue)


def test_an_unknown_policy_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadInput, match=r"sched.policy lottery: .* fair, .*fifo, .*mlfq, .*rr"):
        make("lottery", QUANTUM)


def test_fifo_lets_who_ran_go_on_and_the_others_send_it_to_the_back() -> None:
    for name, expected in (("fifo", [1, 2]), ("rr", [2, 1])):
        queue = make(name, QUANTUM)
        add(queue, 2)
        queue.add(1, 0, ran=True)
        assert order(queue) == expected


def test_mlfq_sinks_who_uses_its_allotment_whatever_the_pieces_and_boosts_after_the_period() -> None:
    queue = Mlfq(QUANTUM)
    quanta = [queue.quantum(1)]
    for _ in range(LEVELS - 1):
        for _ in range(QUANTA * quanta[-1]):
            queue.spent(1, 0, 1)
        quanta.append(queue.quantum(1))
    assert quanta == [16, 32, 64, 128]
    add(queue, 1, 2)
    assert queue.displaces([1]) == 1  # 2 is at level 0
    assert queue.take() == 2
    queue.spent(2, 0, BOOST * QUANTUM)
    assert queue.quantum(1) == 16


@pytest.mark.parametrize("nices", [(0, 0, 0), (0, 5), (-5, 0, 10)])
def test_fair_gives_shares_by_nice(nices: tuple[int, ...]) -> None:
    queue, used = Fair(QUANTUM), [0] * len(nices)
    for pid, nice in enumerate(nices):
        queue.add(pid, nice, ran=False)
    for _ in range(20_000):
        pid = queue.take()
        assert pid is not None
        used[pid] += QUANTUM
        queue.spent(pid, nices[pid], QUANTUM)
        queue.add(pid, nices[pid], ran=True)
    weights = [1.25**-nice for nice in nices]
    for pid in range(len(nices)):
        assert used[pid] / sum(used) == pytest.approx(weights[pid] / sum(weights), rel=0.02)


def test_who_was_away_gets_no_arrears() -> None:
    queue = Fair(QUANTUM)
    add(queue, 1, 2)
    for _ in range(100):  # 2 alone
        queue.remove(1)
        assert queue.take() == 2
        queue.spent(2, 0, QUANTUM)
        queue.add(2, 0, ran=True)
    add(queue, 1)
    ran = []
    for _ in range(10):
        pid = queue.take()
        assert pid is not None
        ran.append(pid)
        queue.spent(pid, 0, QUANTUM)
        queue.add(pid, 0, ran=True)
    assert ran.count(1) == 5


def longest_wait(queue: Scheduler, processes: int, draw: Callable[[int], int], rounds: int) -> tuple[int, int]:
    """One slot; processes that come, run and go as `draw(n)`, a number below n, has it. (longest wait, most ready)."""
    now, since, running = 0, dict[int, int](), 0
    left = dict.fromkeys(range(1, processes + 1), 0)  # tokens it still wants
    worst = most = 0
    for _ in range(rounds):
        for pid in left:
            if not left[pid] and pid != running and draw(3) == 0:
                left[pid] = 1 + draw(4 * QUANTUM)
                queue.add(pid, 0, ran=False)
                since[pid] = now
        taken = queue.take()
        if taken is None:
            now += 1
            continue
        running = taken
        most = max(most, len(since))
        worst = max(worst, now - since.pop(running))
        tokens = min(left[running], queue.quantum(running))
        if draw(4) == 0:  # it yields early, or another one displaces it
            tokens = 1 + draw(tokens)
        now += tokens
        left[running] -= tokens
        queue.spent(running, 0, tokens)
        if left[running]:
            queue.add(running, 0, ran=True)
            since[running] = now
        running = 0
    return worst, most


@pytest.mark.parametrize("name", BOUNDED)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 32), processes=st.integers(2, 12))
def test_nobody_waits_longer_than_the_policy_promises(name: str, seed: int, processes: int) -> None:
    queue = make(name, QUANTUM)
    worst, most = longest_wait(queue, processes, Random(seed).randrange, 600)
    bound = queue.bound(most)
    assert bound is not None
    assert worst <= bound


def test_fifo_promises_nothing_and_the_others_do() -> None:
    assert "fifo" not in BOUNDED
    assert {"fair", "mlfq", "rr"} <= set(BOUNDED)
