"""Scenarios in Python, in one import: what a TOML file says, as typed values.

`scenario` makes one and checks it, `play` plays it in virtual time; `read` and `parse` take files. A field is called as
in a file, but for `raise_` and `is_`. docs/scenarios.md says what each means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmos.scenario.format import EventSpec as Event
from llmos.scenario.format import Expect, Pattern, Reaction, Scenario
from llmos.scenario.format import FuzzSpec as Fuzz
from llmos.scenario.format import MachineSpec as Machine
from llmos.scenario.format import ProcessSpec as Process
from llmos.scenario.reading import check, parse, read
from llmos.scenario.timeline import Ran
from llmos.scenario.verdict import Broken, Happened
from llmos.scenario.virtual import play
from llmos.scenario.written import toml


def scenario(
    title: str,
    *,
    until: str,
    processes: Mapping[str, Process],
    events: Sequence[Event] = (),
    expect: Sequence[Expect] = (),
    teaches: str = "",
    start: str | None = None,
    seed: int = 0,
    machine: Machine | None = None,
    fuzz: Fuzz | None = None,
) -> Scenario:
    """A scenario that can be played. Raises BadInput with every mistake in it."""
    return check(
        Scenario(
            title=title,
            teaches=teaches,
            until=until,
            start=start,
            seed=seed,
            machine=machine or Machine(),
            processes=dict(processes),
            events=tuple(events),
            expect=tuple(expect),
            fuzz=fuzz or Fuzz(),
        ),
        title,
    )


__all__ = [
    "Broken",
    "Event",
    "Expect",
    "Fuzz",
    "Happened",
    "Machine",
    "Pattern",
    "Process",
    "Ran",
    "Reaction",
    "Scenario",
    "parse",
    "play",
    "read",
    "scenario",
    "toml",
]
