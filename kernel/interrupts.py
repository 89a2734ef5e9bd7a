"""The interrupt controller: numbered lines, what is pending on them, and in which order it is delivered.

A line is raised by an event and delivered at an instruction boundary of its process: by line (lower is more urgent),
then in the order raised. A process may hold back the maskable lines for a bounded time: what is raised on them stays
pending and wakes nobody. Pending interrupts and masks stand in the PCB, so they survive a restart with it.
Not here: what a delivery does to the address space (turn.py).
"""

from __future__ import annotations

import enum
from collections.abc import Container
from typing import Final

import msgspec


class Line(enum.IntEnum):
    """Interrupt lines in priority order; completions of I/O unblock a process and have no line."""

    KILL = 0
    MEMORY = 1
    USER = 2
    IPC = 3
    CHILD = 4
    TIMER = 5
    DEVICE = 6


OUTSIDE: Final = (Line.IPC, Line.CHILD, Line.DEVICE)  # which an event may raise with a text
MASKABLE: Final = (Line.USER, Line.IPC, Line.CHILD, Line.TIMER, Line.DEVICE)


class Pending(msgspec.Struct, frozen=True, array_like=True):
    """One undelivered interrupt: `pages` are on disk already, `mid` is the client's message id on USER."""

    line: Line
    n: int  # order of raising, per process
    at: int  # when it was raised, ns
    pages: tuple[tuple[int, int], ...] = ()  # (page id, tokens) to be appended at delivery
    mid: str = ""
    timer: int = 0


def take(pending: list[Pending], held: Container[Line], *, fresh_turn: bool) -> list[Pending]:
    """Remove and return what is delivered at this boundary, most urgent first; nothing of lines that are `held` back.

    At the start of a turn at most one USER message is taken, so that each gets its own reply; within a turn
    all are, so that the process sees what was said meanwhile. O(pending).
    """
    taken: list[Pending] = []
    left: list[Pending] = []
    user = False
    for one in sorted(pending, key=lambda one: (one.line, one.n)):
        if one.line in held or (one.line is Line.USER and fresh_turn and user):
            left.append(one)
        else:
            taken.append(one)
            user = user or one.line is Line.USER
    assert len(taken) + len(left) == len(pending), "none is lost, none is doubled"
    pending[:] = left
    return taken
