"""Who waits for what: one request a process at a time, numbered.

The request stands in the PCB while the process is blocked, so a boot asks again. A completion that nobody waits for
changes nothing: its number is old, or the process is dead.
Not here: what is asked (paging/faults.py, paging/residency.py), what becomes of the answer.
"""

from __future__ import annotations

from typing import Final

from kernel.event import (
    Act,
    Acted,
    Effect,
    Fetch,
    Fetched,
    Find,
    Load,
    Loaded,
    LoadOf,
    Open,
    Opened,
    OpenOf,
    Search,
    Searched,
    SearchOf,
    What,
)
from kernel.process import Await, Consent, Move, Process, State, asker
from kernel.state import Kernel

ANSWERS: Final[dict[type, type]] = {
    Search: Searched,
    Find: Searched,
    SearchOf: Searched,
    Load: Loaded,
    LoadOf: Loaded,
    Open: Opened,
    OpenOf: Opened,
    Fetch: Fetched,
    Act: Acted,
}


def block(
    kernel: Kernel,
    proc: Process,
    what: Search | Load | Open | Fetch | Act | Await | Consent,
    *,
    demand: bool = False,
) -> None:
    """Let a process wait for `what`, which has its next number; `demand`: for the kernel's sake (paging/faults.py)."""
    assert proc.wait is None, "one request at a time"
    assert not proc.ids, "what it emitted would be lost"
    assert not demand or isinstance(what, Search)
    proc.req += 1
    assert (what.pid, what.req) == (proc.pid, proc.req)
    proc.wait, proc.demand = what, demand
    proc.move(Move.BLOCK)
    kernel.lane_of(proc.pid).ready.remove(proc.pid)
    if apart(proc):
        kernel.lane_of(proc.pid).admission.leave(proc.pid)
    ask(kernel, proc)
    if isinstance(what, Await):
        _asked(kernel, proc)
    elif isinstance(what, Consent):
        for one in kernel.procs.values():
            if isinstance(one.wait, Await) and asker(kernel.procs, one) is proc:
                _asked(kernel, one)


def _asked(kernel: Kernel, proc: Process) -> None:
    """Note of a process that waits for others if it goes on only once somebody has decided about their call."""
    found = asker(kernel.procs, proc)
    if found is not None:
        kernel.note(What.CALL, proc, text=f"asked: {found.name}, for which it waits")


def apart(proc: Process) -> bool:
    """Whether a process that is blocked makes room meanwhile: others, people and the world take their time."""
    return isinstance(proc.wait, Act | Await | Consent)


def ask(kernel: Kernel, proc: Process) -> None:
    """Have devices do what a process waits for, anew after a boot; of others and of people nobody asks it."""
    if isinstance(proc.wait, Effect):
        kernel.effect(proc.wait)


def completed(kernel: Kernel, event: Searched | Loaded | Opened | Fetched | Acted) -> Process | None:
    """The process that waits for this completion, made ready; None if nobody does."""
    proc = kernel.procs.get(event.pid)
    if proc is None or proc.wait is None or proc.req != event.req:
        return None
    assert ANSWERS.get(type(proc.wait)) is type(event), "the answer to another question"
    over(kernel, proc)
    return proc


def over(kernel: Kernel, proc: Process) -> None:
    """The process waits no more, and is ready."""
    kernel.dirty(proc)
    proc.wait = None
    proc.move(Move.WAKE)


def check(proc: Process) -> None:
    """Assert that who is blocked waits for its last request, and nobody else waits."""
    assert (proc.wait is not None) == (proc.state is State.BLOCKED), f"{proc.state} and waits for {proc.wait}"
    if proc.wait is not None:
        assert proc.wait.pid == proc.pid
        assert proc.wait.req == proc.req, "it waits for an old answer"
        assert isinstance(proc.wait, Search) or not proc.demand
        assert not isinstance(proc.wait, Await) or proc.wait.children or proc.wait.letter, "for nobody"
        if isinstance(proc.wait, Search):
            assert proc.demand == bool(proc.wait.pages), "a demand fault asks by pages, and it alone"
