"""Failpoints: named places where a run can be made to die, to fail or to wait, at their n-th passing.

Armed by the environment variable LLMOS_FAILPOINTS when a program starts, or by `arm`: entries `NAME=ACTION@N`,
separated by commas, with ACTION one of kill (SIGKILL to this process: nothing is flushed, no handler runs), enospc, eio
(an OSError from that place), delay (DELAY_S). `@N` counts passings in this process from 1; without it every one is
meant, which for kill is the first. Where nothing is armed, a passing costs one look at an empty dict.
Not here: who arms what (bench/crash).
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections import Counter
from typing import Final

from kernel.errors import BadInput

VARIABLE: Final = "LLMOS_FAILPOINTS"
DELAY_S: Final = 0.05
POINTS: Final = {
    "commit.before": "a transaction has not begun",
    "commit.inside": "all is written and not yet committed",
    "commit.after": "the transaction is on disk, and nobody knows",
    "perform.before": "effects of a committed batch wait",
    "perform.after": "one effect has been performed",
    "publish.before": "a final message stands in the outbox and has been shown to nobody",
    "publish.after": "a final message has gone to the subscribers",
    "act.before": "an intent is committed, and no tool has been asked",
    "act.after": "a tool has answered, and nobody has heard it",
    "acted.before": "its answer is measured, and not yet an event",
    "answer.before": "an input is committed and its sender does not know",
    "boot.before": "the state is loaded, and the boot's event not stepped",
    "boot.after": "the boot's event is committed, its effects are not performed",
    "index.create": "an index's files are gone, and the new ones not made",
    "index.apply.before": "pages are read from the truth, and no transaction has begun",
    "index.apply.inside": "words and vectors are written and not yet committed",
    "index.apply.after": "the index has committed, and memory does not have it",
    "index.checkpoint.before": "the index's log is about to be folded into its file",
    "index.checkpoint.after": "it is folded in, and the file's stamp is not written",
    "index.graph.inside": "a graph is written aside and not yet in its place",
    "index.graph.after": "a graph is in its place, and its checksum not recorded",
    "image.before": "a KV image is to be written, and there is no file of it",
    "image.inside": "half of a KV image is written, aside",
    "image.after": "a KV image is in its place, and nobody knows",
    "compact.before": "the state to be kept is committed, and no copy of it is made",
    "compact.copy": "a part of the state to be kept is copied, and nothing names it",
    "compact.after": "the checkpoint is taken, and the journal before it not yet cut",
    "compact.next": "a checkpoint that the kernel took by itself stands beside the one from which replay starts",
    "compact.turn": "it has taken that one's place, and the journal before it is not yet cut",
    "compact.cut": "a part of the journal before the checkpoint is cut",
    "close.before": "the machine has drained, and its files are open",
}  # every name, and what is so at that place
ACTIONS: Final = ("kill", "enospc", "eio", "delay")

_armed: dict[str, tuple[str, int]] = {}  # by name: what happens, at which passing (0: each)
_passed: Counter[str] = Counter()
_counting = False


def passing(name: str) -> None:
    """This is the place `name`. Raises OSError where that is armed."""
    if _armed or _counting:
        _pass(name)


def arm(entries: str) -> None:
    """Arm what `entries` say, and count from here. Raises BadInput for an unknown name or action."""
    global _armed
    armed = {}
    for entry in filter(None, (one.strip() for one in entries.split(","))):
        name, _, rest = entry.partition("=")
        action, _, number = rest.partition("@")
        if name not in POINTS:
            raise BadInput(f"{VARIABLE}: no failpoint {name!r}; there are {', '.join(POINTS)}")
        if action not in ACTIONS or not (number or "1").isdecimal():
            raise BadInput(f"{VARIABLE}: {entry!r} is not NAME=ACTION@N; actions are {', '.join(ACTIONS)}")
        armed[name] = (action, int(number or "0"))
    _passed.clear()
    _armed = armed


def count() -> Counter[str]:
    """Count the passings of all points from here on, in what is returned."""
    global _counting
    _counting = True
    _passed.clear()
    return _passed


def _pass(name: str) -> None:
    assert name in POINTS, name
    _passed[name] += 1
    action, number = _armed.get(name, ("", 0))
    if not action or number not in (0, _passed[name]):
        return
    match action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "enospc":
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} (failpoint {name})")
        case "eio":
            raise OSError(errno.EIO, f"{os.strerror(errno.EIO)} (failpoint {name})")
        case _:
            time.sleep(DELAY_S)


def arm_from_environment() -> None:
    """Arm what the environment says; called once by each program. Raises BadInput as `arm` does."""
    if VARIABLE in os.environ:
        arm(os.environ[VARIABLE])
