"""dmesg: the kernel's log, printed from the journal and followed as it grows.

Guarantee: every log number after `since` once and in order, also where the daemon cut a slow reader off and it comes
back by number. Blocks, as ask.py does. Not here: what a line looks like (tables.py), what is in the log (the kernel).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from drivers.door import wire
from kernel.machine.views import Entry
from kernel.text import printable
from llmos.ask import Connection, connect
from llmos.commands.output import print_json, print_lines
from llmos.tables import dmesg

LAST: Final = 200  # log numbers shown when none is given


def show(path: Path, since: int | None, *, follow: bool, as_json: bool) -> None:
    """Print what follows log number `since` (None: the last few), and go on with `follow` until the kernel stops."""
    with connect(path) as daemon:
        serving = daemon.ask(wire.Info(id=0), wire.Serving)
        if since is None:
            since = max(0, serving.lsn - LAST)
        since = _past(daemon, since, as_json)
        if serving.trouble and not as_json:
            print_lines([f"now: index: {printable(serving.trouble)}"])
            sys.stdout.flush()
    while follow:  # a round a subscription; ends when the kernel does
        with connect(path) as daemon:
            names = _names(daemon)
            daemon.ask(wire.Subscribe(id=0, since=since, log=True), wire.Ok)
            while not isinstance(push := daemon.receive(), wire.Ended):
                if isinstance(push, wire.Logged):
                    if any(note.what == "spawn" for note in push.entry.notes):
                        names = _names(daemon)
                    _print([push.entry], names, as_json)
            since, follow = push.since, not push.stopping


def _past(daemon: Connection, since: int, as_json: bool) -> int:
    """Print the journal after `since`; returns the last log number seen."""
    names = _names(daemon)
    while True:  # a round a stretch of the journal; ends at its end
        found = daemon.ask(wire.Dmesg(id=0, since=since), wire.Entries)
        _print(found.entries, names, as_json)
        since = found.upto
        if since >= found.lsn:
            return since


def _names(daemon: Connection) -> dict[int, str]:
    return {view.pid: view.name for view in daemon.ask(wire.Ps(id=0), wire.Processes).processes}


def _print(entries: Sequence[Entry], names: dict[int, str], as_json: bool) -> None:
    for entry in entries:
        if as_json:
            print_json(entry)
        else:
            print_lines(dmesg(entry, names))
        sys.stdout.flush()
