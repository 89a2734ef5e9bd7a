"""How long interrupts take, by line: from raised to delivered, and from raised to the first token that came after.

Observed from what steps note and what the CPU says; no part of the state, so a new account begins with each boot.
Counts stand in buckets of powers of two of a microsecond, so an account is small and never forgets a rare slow one.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kernel.event import AnyEvent, Note, Trapped, What
from kernel.interrupts import Line

BUCKETS = 40  # up to 2^40 us, twelve days


class Histogram(msgspec.Struct):
    """Counts by power of two: bucket n holds what took less than 2^n us, and no less than half of that."""

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * BUCKETS)
    largest_ns: int = 0

    def add(self, ns: int) -> None:
        """Count one."""
        self.counts[min(BUCKETS - 1, (max(0, ns) // 1_000).bit_length())] += 1
        self.largest_ns = max(self.largest_ns, ns)

    def quantile_ms(self, share: float) -> float:
        """The upper edge of the bucket that holds the quantile, or the largest count seen if that is less; 0: none."""
        wanted, seen = share * sum(self.counts), 0
        for bucket, count in enumerate(self.counts):
            seen += count
            if count and seen >= wanted:
                return min(float(1 << bucket) / 1e3, self.largest_ns / 1e6)
        return 0.0


class Account(msgspec.Struct):
    """One line's."""

    raised: int = 0
    delivered: int = 0
    coalesced: int = 0  # came while one like it was pending, and is in that one
    to_delivery: Histogram = msgspec.field(default_factory=Histogram)
    to_token: Histogram = msgspec.field(default_factory=Histogram)


class Latency:
    """The accounts of all lines since boot."""

    def __init__(self) -> None:
        self.lines: dict[Line, Account] = {line: Account() for line in Line}
        self._waiting: dict[int, list[tuple[Line, int]]] = {}  # by process: delivered, and when it was raised

    def observe(self, event: AnyEvent, at: int, notes: Sequence[Note]) -> None:
        """What one step was and what it noted. O(notes)."""
        if isinstance(event, Trapped) and event.first_at:
            for line, raised in self._waiting.pop(event.pid, ()):
                self.lines[line].to_token.add(event.first_at - raised)
        for note in notes:
            if note.line is None:
                continue
            account = self.lines[note.line]
            if note.what is What.INTERRUPT:
                account.raised += 1
                account.delivered += note.line is Line.KILL  # which is its own delivery
            elif note.what is What.COALESCED:
                account.raised += 1
                account.coalesced += 1
            elif note.what is What.DELIVERED:
                account.delivered += 1
                account.to_delivery.add(note.ns)
                self._waiting.setdefault(note.pid, []).append((note.line, at - note.ns))
            elif note.what is What.EXIT:
                self._waiting.pop(note.pid, None)
