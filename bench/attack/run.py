"""`llmos bench attack`: does anything that comes in from outside break the machine?

Each surface is given things made from its own types, most of them wrong, in a process that is watched. Counted are the
trials that it died of, that ended in a traceback, that hung, and that were wrong: what must be refused was accepted, or
what was accepted left a machine that breaks its own rules or does not boot. With a guard taken away (`--sabotage`) the
same trials must find that it is gone.
"""

from __future__ import annotations

import json
from typing import Final

import msgspec

from bench.attack.surface import Surface
from bench.attack.watched import Finding, Tally, attack
from kernel.discover import discover
from kernel.errors import BadInput
from llmos.commands.output import show

SURFACES: Final[dict[str, Surface]] = discover("bench.attack.surfaces", "SURFACE")
"""What is attacked, by the names of the files."""
GUARDS: Final = {guard: name for name, surface in SURFACES.items() for guard in surface.guards}
"""Which surface must notice that a guard is gone."""
SHOWN: Final = 40  # findings of a surface


def campaign(
    surfaces: list[str], trials: int, seed: int, sabotage: str = "", first: int = 0
) -> dict[str, tuple[Tally, list[Finding]]]:
    """The trials from number `first` on, of each surface; 0 `trials`: as many as are its own."""
    found: dict[str, tuple[Tally, list[Finding]]] = {}
    for name in surfaces:
        surface = SURFACES[name]
        found[name] = attack(name, surface, range(first, first + (trials or surface.trials)), seed, sabotage)
    return found


def run(surfaces: list[str], trials: int, seed: int, sabotage: str, first: int, as_json: bool) -> int:
    """`llmos bench attack`: exit status 0 if nothing was found, or if a sabotage was noticed."""
    unknown = [one for one in surfaces if one not in SURFACES]
    if unknown:
        raise BadInput(f"--surface {unknown[0]}: no such surface; there are {', '.join(SURFACES)}")
    if sabotage and sabotage not in GUARDS:
        raise BadInput(f"--sabotage {sabotage}: no such guard; there are {', '.join(GUARDS)}")
    chosen = surfaces or ([GUARDS[sabotage]] if sabotage else list(SURFACES))
    if sabotage and chosen != [GUARDS[sabotage]]:
        raise BadInput(f"--sabotage {sabotage}: it is the surface {GUARDS[sabotage]} that must notice it")
    found: dict[str, tuple[Tally, list[Finding]]] = {}
    for name in chosen:
        found |= campaign([name], trials, seed, sabotage, first)
        for one in found[name][1][:SHOWN]:
            show(f"{name} {one.trial}: {one.kind}: {one.what}", error=True)
    tallies = {name: msgspec.to_builtins(tally) for name, (tally, _) in found.items()}
    if as_json:
        show(json.dumps(tallies))
    else:
        for name, tally in tallies.items():
            show(f"{name:12} {'  '.join(f'{what} {count}' for what, count in tally.items())}")
    return int(any(tally.bad for tally, _ in found.values()) != bool(sabotage))
