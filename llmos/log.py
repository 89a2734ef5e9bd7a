"""dmesg: the kernel's log, printed from the journal and followed as it grows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from drivers.door import wire
from kernel.event import What
from kernel.machine.views import Entry
from llmos import pictures
from llmos.client import Client, connect

LAST: Final = 200  # log numbers shown when none is given


async def show(path: Path, since: int | None, *, follow: bool, as_json: bool) -> None:
    """Print what follows log number `since` (None: the last few), and go on with `follow` until the kernel stops."""
    async with connect(path) as client:
        if since is None:
            since = max(0, (await client.ask(wire.Info(id=0), wire.Serving)).lsn - LAST)
        since = await _past(client, since, as_json)
    while follow:  # a round a subscription; ends when the kernel does
        async with connect(path) as client:
            names = await _names(client)
            await client.ask(wire.Subscribe(id=0, since=since, log=True), wire.Ok)
            while not isinstance(push := await client.receive(), wire.Ended):
                if isinstance(push, wire.Logged):
                    if any(note.what is What.SPAWN for note in push.entry.notes):
                        names = await _names(client)
                    _print([push.entry], names, as_json)
            since, follow = push.since, not push.stopping


async def _past(client: Client, since: int, as_json: bool) -> int:
    """Print the journal after `since`; returns the last log number seen."""
    names = await _names(client)
    while True:  # a round a stretch of the journal; ends at its end
        found = await client.ask(wire.Dmesg(id=0, since=since), wire.Entries)
        _print(found.entries, names, as_json)
        since = found.upto
        if since >= found.lsn:
            return since


async def _names(client: Client) -> dict[int, str]:
    return {view.pid: view.name for view in (await client.ask(wire.Ps(id=0), wire.Processes)).processes}


def _print(entries: Sequence[Entry], names: dict[int, str], as_json: bool) -> None:
    for entry in entries:
        lines = [msgspec.json.encode(entry).decode()] if as_json else pictures.dmesg(entry, names)
        print("\n".join(lines), flush=True)
