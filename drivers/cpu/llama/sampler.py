"""Which token comes next: penalty, temperature and who may be drawn, as functions of the logits and the ids emitted.

No state: a draw depends on (seed, process, instruction, token) only, so a run that was preempted and resumed draws what
an uninterrupted one draws. At temperature 0 the likeliest token is taken, the lowest id among equals.
Not here: who chose what (kernel/sampling.py), which tokens a grammar allows (run.py sets the others to -inf first).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kernel.sampling import Drawn

Logits = NDArray[np.float32]


def draw(seed: int, pid: int, instr: int, token: int) -> float:
    """A number in [0, 1), even over its keys; the same keys give the same number."""
    key = struct.pack("<QQQQ", *(part % (1 << 64) for part in (seed, pid, instr, token)))
    return (int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 11) / (1 << 53)


def pick(logits: Logits, emitted: Sequence[int], how: Drawn, chance: float) -> int:
    """The next token after `emitted`: what the process has said, and the penalty is on.

    Changes `logits`, (vocabulary,) float32; at least one must be above -inf. The penalty is llama.cpp's: a positive
    logit is divided by `how.repeat`, a negative one multiplied (Keskar 2019).
    """
    if emitted and how.repeat != 1.0:
        seen = np.unique(np.asarray(emitted))
        value = logits[seen]
        logits[seen] = np.where(value > 0, value / how.repeat, value * how.repeat)
    if how.temperature == 0.0:
        return int(np.argmax(logits))
    shares = np.exp((logits - logits.max()).astype(np.float64) / how.temperature)
    shares /= shares.sum()
    if 0 < how.top_k < len(shares):  # of equal ones all
        shares[shares < np.partition(shares, -how.top_k)[-how.top_k]] = 0.0
        shares /= shares.sum()
    if how.min_p:
        shares[shares < how.min_p * shares.max()] = 0.0
        shares /= shares.sum()
    # Tokens below this share together weigh less than 1 - top_p: none of them is in the nucleus, and sorting is short.
    likely = np.flatnonzero(shares > (1.0 - how.top_p) / len(shares))
    likely = likely[np.argsort(-shares[likely], kind="stable")]
    sums = np.cumsum(shares[likely])
    nucleus = int(np.searchsorted(sums, how.top_p)) + 1
    sums = sums[:nucleus]
    at = int(np.searchsorted(sums, chance * sums[-1], side="right"))
    return int(likely[min(at, len(sums) - 1)])
