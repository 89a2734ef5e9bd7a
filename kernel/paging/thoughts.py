"""What a process thought before an instruction: a page of its own that stands before it, and leaves with the turn.

It is in the context of the turn alone: no message, never searched, never read again, not in an export. Templates take
it away once the user has spoken again. Where that would have the answers behind it evaluated anew, it stays until the
prefix breaks by itself, at the next eviction or fold, and is the first to go.
Not here: where it comes from (transcript.py), how much of it there may be (memory/pager.py `thought`).
"""

from __future__ import annotations

from collections.abc import Iterable

from kernel.memory import pager
from kernel.memory.address_space import Recalled
from kernel.process import Process
from kernel.state import Kernel


def closed(kernel: Kernel, proc: Process, recalled: Iterable[Recalled]) -> None:
    """A turn ends, for which pages were `recalled`: its thoughts leave if that costs no more than that they stay.

    What stands behind the first is evaluated anew; nothing more than that where something was recalled, for that goes
    and stands before it. What stays brings the next eviction nearer: each token costs low / (1 - low) evaluated ones.
    """
    space, low = proc.space, kernel.settings.memory.low
    going = {entry.page: entry.tokens for entry in space.thoughts(space.turn, len(space.queue))}
    if not going:
        return
    first = space.find(next(iter(going)))
    behind = sum(entry.tokens for entry in space.queue[first:] if entry.page not in going)
    moved = kernel.settings.cpu.drop == "shift"  # the CPU moves up what stands behind
    if any(recalled) or moved or (1 - low) * behind <= low * sum(going.values()):
        pager.remove(space, set(going))


def check(proc: Process) -> None:
    """Assert that no thought is pinned, or of a group."""
    for entry in proc.space.thoughts(0, len(proc.space.queue)):
        assert not entry.pinned, "it goes with the turn"
        assert not entry.group, "it leaves by itself"
