"""Which token comes next: penalty, temperature and nucleus as functions of the logits and the ids emitted so far.

No state: a draw depends on (seed, process, instruction, token) only, so a run that was preempted and resumed draws what
an uninterrupted one draws. At temperature 0 the likeliest token is taken, the lowest id among equals.
Not here: which tokens a grammar allows (run.py sets the others to -inf first).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kernel.settings import Cpu

Logits = NDArray[np.float32]


def draw(seed: int, pid: int, instr: int, token: int) -> float:
    """A number in [0, 1), even over its keys; the same keys give the same number."""
    key = struct.pack("<QQQQ", *(part % (1 << 64) for part in (seed, pid, instr, token)))
    return (int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 11) / (1 << 53)


def pick(logits: Logits, emitted: Sequence[int], settings: Cpu, chance: float) -> int:
    """The next token after `emitted`: this instruction's tokens and those of the replies in view.

    Changes `logits`, (vocabulary,) float32; at least one must be above -inf. The penalty is llama.cpp's: a positive
    logit is divided by `repeat`, a negative one multiplied (Keskar 2019).
    """
    if emitted and settings.repeat != 1.0:
        seen = np.unique(np.asarray(emitted))
        value = logits[seen]
        logits[seen] = np.where(value > 0, value / settings.repeat, value * settings.repeat)
    if settings.temperature == 0.0:
        return int(np.argmax(logits))
    shares = np.exp((logits - logits.max()).astype(np.float64) / settings.temperature)
    shares /= shares.sum()
    if settings.min_p:
        shares[shares < settings.min_p * shares.max()] = 0.0
        shares /= shares.sum()
    # Tokens below this share together weigh less than 1 - top_p: none of them is in the nucleus, and sorting is short.
    likely = np.flatnonzero(shares > (1.0 - settings.top_p) / len(shares))
    likely = likely[np.argsort(-shares[likely], kind="stable")]
    sums = np.cumsum(shares[likely])
    nucleus = int(np.searchsorted(sums, settings.top_p)) + 1
    sums = sums[:nucleus]
    at = int(np.searchsorted(sums, chance * sums[-1], side="right"))
    return int(likely[min(at, len(sums) - 1)])
