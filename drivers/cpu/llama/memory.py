"""How much memory a model takes, and what would fit where it does not.

An estimate made before anything is allocated, so that a machine does not begin to swap, or is killed, in the middle of
a prompt: the model's file, the KV cache of all seats, and what computing a batch takes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from kernel.limits import WINDOW_MIN

GIB: Final = 1 << 30
MEMINFO: Final = Path("/proc/meminfo")
CGROUP: Final = Path("/sys/fs/cgroup")
COMPUTE: Final = 128 << 20  # activations and tables of a small model; logits come on top


class Needs(msgspec.Struct, frozen=True):
    """Bytes: of the model's file, of a token's keys and values, and to compute."""

    weights: int
    token: int
    compute: int = COMPUTE

    def of(self, window: int, seats: int) -> int:
        """Bytes in all."""
        return self.weights + window * seats * self.token + self.compute


def refusal(needs: Needs, window: int, seats: int, free: int | None) -> str:
    """Why so many seats of `window` tokens do not fit into `free` bytes, and what would; "" if they do, or None."""
    if free is None or needs.of(window, seats) <= free:
        return ""
    said = (
        f"{seats} x {window} tokens need {_gib(needs.of(window, seats))} ({_gib(needs.weights)} the model, "
        f"{_gib(window * seats * needs.token)} KV), and {_gib(free)} are free"
    )
    fewer = next((n for n in range(seats - 1, 0, -1) if needs.of(window, n) <= free), 0)
    shorter = (free - needs.of(0, 1)) // needs.token // 256 * 256 if needs.token else 0
    fits = []
    if fewer:
        fits.append(f"--set cpu.slots={fewer}")
    if shorter >= WINDOW_MIN and shorter < window:
        fits.append(f"--window {shorter} with --set cpu.slots=1")
    return f"{said}; " + (f"what fits: {' or '.join(fits)}" if fits else "take a smaller model")


def available() -> int | None:
    """Bytes that can be had without swapping, by the kernel's own estimate and the cgroup's limit; None: unknown."""
    found = []
    try:
        rows = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        found.append(int(rows["MemAvailable"].split()[0]) << 10)
    except (OSError, KeyError, ValueError, IndexError):
        pass
    try:
        limit = int((CGROUP / "memory.max").read_text())  # "max" where there is none
        rows = dict(line.split(None, 1) for line in (CGROUP / "memory.stat").read_text().splitlines())
        used = int((CGROUP / "memory.current").read_text()) - int(rows.get("inactive_file", 0))
        found.append(max(0, limit - used))
    except (OSError, ValueError):
        pass
    return min(found, default=None)


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
