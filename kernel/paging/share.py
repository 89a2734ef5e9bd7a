"""Which share of its window recall has, where that is learned (`memory.share`): the split of memory/split.py, live.

What a turn drew on says, when it ends, under which shares it would have been in view; the turn's demand search, which
then looks at pages of the queue, too, says which pages stood before it. The age of a page in the queue is what stands
behind it; of one on disk alone it is estimated, by how many pages the process has had since, each as large as one of
the queue is on the average. So no page and no counter keeps a date. What was wanted and never came into view is not
seen.
A share is taken when the turn ends, if the queue fits it as it is; else by the next eviction, which breaks the prefix
anyway. Every share that may be taken leaves a queue in which the process can run (memory/pager.py).
Not here: what is recalled (faults.py), what was drawn on (accessed.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from kernel.event import Hit
from kernel.memory import pager
from kernel.memory.address_space import AddressSpace
from kernel.memory.pager import Budgets
from kernel.memory.split import Split
from kernel.process import Process, Ranked
from kernel.state import Kernel


def learned(kernel: Kernel) -> bool:
    """Whether shares are learned on this machine."""
    return pager.learned(kernel.settings)


def ranked(kernel: Kernel, proc: Process, hits: Iterable[Hit]) -> None:
    """Keep, for the turn's end, what its demand search found worth recalling, best first; some of it is in view."""
    if not learned(kernel):
        return
    space, label = proc.space, kernel.costs(proc).recalled
    behind, mean = _behind(space), space.used() / max(1, len(space.queue))
    proc.ranked = tuple(
        Ranked(
            hit.page,
            behind[hit.page] if hit.page in behind else int(max(0, proc.seq - hit.seq) * mean),
            hit.tokens + label[hit.role],
        )
        for hit in hits
    )


def closed(kernel: Kernel, proc: Process) -> None:
    """The turn ends, and nothing is recalled any more: learn from what it drew on, and take a share that fits."""
    known = proc.ranked
    if not learned(kernel) or known is None or not proc.drawn:
        return
    split = _split(kernel, proc)
    places = {one.page: at for at, one in reversed(list(enumerate(known)))}  # of passages of one page the best
    behind = _behind(proc.space)
    sizes = {entry.page: entry.tokens for entry in proc.space.queue}
    for page in proc.drawn:
        if page in places:
            one = known[places[page]]
            ahead = [(other.age, other.tokens) for other in known[: places[page]]]
            split.observe(one.age, one.tokens, ahead, kernel.settings.memory.low)
        elif page in behind:  # the search did not find it: recall would not have had it
            split.observe(behind[page], sizes[page], None, kernel.settings.memory.low)
    proc.split = split.state()
    _settle(kernel, proc, evicting=False)


def making_room(kernel: Kernel, proc: Process, arriving: int) -> Budgets:
    """The budgets for a page that arrives. If something must leave for it, the share may change with that."""
    limits = kernel.budgets(proc)
    fits = proc.space.used() + arriving <= limits.queue
    if not learned(kernel) or fits or arriving > limits.unit:  # a page of another window may fit no other share
        return limits
    _settle(kernel, proc, evicting=True)
    return kernel.budgets(proc)


def _settle(kernel: Kernel, proc: Process, *, evicting: bool) -> None:
    """Take the best share if it is clearly better and what is in view fits it, in the queue only after an eviction."""
    before, split = proc.split, _split(kernel, proc)
    if before is None or not split.settle(kernel.budgets(proc).places):
        return
    proc.split = split.state()
    limits = kernel.budgets(proc)
    recalled = sum(entry.tokens for entry in proc.space.recall)
    if (recalled and recalled + kernel.costs(proc).recall > limits.recall) or (
        not evicting and proc.space.used() > limits.queue
    ):
        proc.split = before
        return
    kernel.policy(proc).capacity = limits.queue


def _split(kernel: Kernel, proc: Process) -> Split:
    """What the process has learned so far."""
    shared = kernel.budgets(proc).shared
    return Split(shared, proc.split, pager.first(kernel.settings, shared))


def _behind(space: AddressSpace) -> dict[int, int]:
    """By page of the queue, the tokens that stand behind it."""
    found: dict[int, int] = {}
    total = 0
    for entry in reversed(space.queue):
        found[entry.page] = total
        total += entry.tokens
    return found


def check(kernel: Kernel, proc: Process) -> None:
    """Assert that the share is one that may be taken, and that what a search ranked is of this turn."""
    limits = kernel.budgets(proc)
    assert limits.pinned + 2 * limits.unit <= limits.queue, "it cannot run in what is left"
    assert proc.ranked is None or proc.in_turn, "of a turn that is over"
    assert proc.pid not in kernel.policies or kernel.policies[proc.pid].capacity == limits.queue
