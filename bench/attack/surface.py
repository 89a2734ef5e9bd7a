"""What a surface is: what of a machine takes things from outside, and how one such thing is tried on it.

A trial draws all that it does from the generator it is given, so that its number and the seed bring it back. It returns
if the machine did as it must. It raises Wrong where what must be refused was accepted, or where what was accepted left
the machine as it must not be; anything else that it raises is a traceback. Not here: how trials are watched
(watched.py), what they are made of (values.py, mutate.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

import msgspec

TRIALS = 10_000
HANG_S = 20.0  # a trial that takes longer is stuck: it takes milliseconds, on a busy host too
MIB_MAX = 2_048  # resident: what needs more has no bound


class Wrong(Exception):
    """What must be refused was accepted, or what was accepted broke something; the line says which."""


class Died(Exception):
    """The machine ended of what it was given, and the trial's process did not."""


Trial: TypeAlias = Callable[[Random], None]
Guard: TypeAlias = Callable[[], AbstractContextManager[None]]


class Surface(msgspec.Struct, frozen=True):
    """One thing that is attacked, in a process of its own, which `opened` may change as it likes.

    `opened(folder)` gives what makes a trial; leaving it ends what was started, and may raise Wrong.
    `guards`: what is taken away by `--sabotage NAME`; the surface must then report something.
    """

    opened: Callable[[Path], AbstractContextManager[Trial]]
    trials: int = TRIALS
    hang_s: float = HANG_S
    guards: dict[str, Guard] = {}


@contextmanager
def instead(owner: Any, name: str, value: Any) -> Iterator[None]:
    """While the context lasts `owner` has another `name`: how a guard is taken away."""
    kept = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, kept)
