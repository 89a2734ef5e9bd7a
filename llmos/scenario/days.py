"""The calendar of a scenario: when it starts, in which zone, and what its dates are in time since then.

A date is local time in the zone of `start`, which knows when its clocks change: one that a change skips is as much
later, one that comes twice is the first. Without `start` a scenario has times, and no dates.
Not here: durations and which fields hold dates (format.py).
"""

from __future__ import annotations

import datetime
from typing import Final
from zoneinfo import ZoneInfo

from kernel.errors import BadInput
from kernel.limits import DAY_NS, NS

BEGINS: Final = 1_700_000_000 * NS  # of a scenario that does not say: 2023-11-14 22:13:20 UTC
CALENDAR: Final = {"day": 1, "week": 7}  # by word: days from one time to the next
_HOUR: Final = datetime.timedelta(hours=1)


class Days:
    """The calendar of one scenario. Raises BadInput for a `start` that is none; "" is none given."""

    def __init__(self, start: str = "") -> None:
        self.dated = bool(start)
        self.zone: datetime.tzinfo = datetime.UTC
        self.begins = BEGINS  # wall time, ns
        if start:
            date, name = start[:16].strip(), start[16:].strip()
            if len(start) > 16 and start[16] == ":":
                date, name = start[:19], start[19:].strip()
            self.zone = _zone(name)
            self.begins = self.wall(date)

    def wall(self, date: str) -> int:
        """The wall clock's time at a date, in ns UTC. Raises BadInput for one that is none."""
        try:
            local = datetime.datetime.fromisoformat(date).replace(tzinfo=self.zone)
            return round(local.timestamp()) * NS
        except (ValueError, OverflowError) as exc:
            raise BadInput(f"{date} is no date; write one such as 2026-10-25 08:00") from exc

    def since(self, date: str) -> int:
        """How long after the start a date is, in ns; below 0: before it."""
        return self.wall(date) - self.begins

    def later(self, since: int, days: int) -> int:
        """The same time of the day, so many days after what is `since` the start, in ns since the start."""
        local = datetime.datetime.fromtimestamp((self.begins + since) // NS, self.zone)
        moved = (local.replace(tzinfo=None, fold=0) + datetime.timedelta(days=days)).replace(tzinfo=self.zone)
        return round(moved.timestamp()) * NS - self.begins + since % NS

    def change(self) -> tuple[int, int]:
        """When the zone's clocks change for the first time, in ns since the start, and by how much, in ns.

        Raises BadInput if they do not within a year.
        """
        before = datetime.datetime.fromtimestamp(self.begins // NS, datetime.UTC)
        for _ in range(366 * 24):
            after = before + _HOUR
            by = self._offset(after) - self._offset(before)
            if by:
                low, high = 0, 3_600  # ends: the change lies between them, and they come nearer
                while high - low > 1:
                    middle = (low + high) // 2
                    moved = self._offset(before + datetime.timedelta(seconds=middle)) != self._offset(before)
                    low, high = (low, middle) if moved else (middle, high)
                at = round(before.timestamp()) + high
                return at * NS - self.begins // NS * NS, round(by.total_seconds()) * NS
            before = after
        raise BadInput(f"dst: the clocks of {self.zone} do not change within a year of the start")

    def stamp(self, since: int) -> str:
        """A time since the start as a timeline shows it: the date, if there is a `start`; else how long after it."""
        if self.dated:
            local = datetime.datetime.fromtimestamp((self.begins + since) // NS, self.zone)
            return f"{local:%a %Y-%m-%d %H:%M:%S}.{since // (NS // 1_000) % 1_000:03}"
        if since < 3_600 * NS:
            return f"{since / NS:12.3f} s"
        days, rest = divmod(since, DAY_NS)
        ms = rest // (NS // 1_000)
        clock = f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1_000 % 60:02}.{ms % 1_000:03}"
        return f"{f'{days}d ' if days else ''}{clock}".rjust(14)

    def _offset(self, when: datetime.datetime) -> datetime.timedelta:
        return when.astimezone(self.zone).utcoffset() or datetime.timedelta()


def _zone(name: str) -> datetime.tzinfo:
    if not name or name == "UTC":
        return datetime.UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as exc:  # zoneinfo says it in all three ways
        raise BadInput(f"no time zone {name}; zones are such as UTC, Europe/Berlin, America/New_York") from exc


def lasted(length: int) -> str:
    """A length of time for people: 240.72 s, 1h 2m 3.5s, 2d 3h."""
    if abs(length) < 600 * NS:
        return f"{length / NS:g} s"
    days, rest = divmod(length, DAY_NS)
    hours, rest = divmod(rest, 3_600 * NS)
    minutes, rest = divmod(rest, 60 * NS)
    parts = ((days, "d"), (hours, "h"), (minutes, "m"))
    said = [f"{value}{unit}" for value, unit in parts if value]
    return " ".join([*said, *([f"{rest / NS:g}s"] if rest else [])])
