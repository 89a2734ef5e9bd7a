"""strace: the calls of a process, from its pages, and followed as it makes more.

Guarantee: each call after the first that is shown once and in order, with its result; one whose result is not there yet
is shown when it is, or at the end without. Blocks, as ask.py does. Not here: what a line looks like (tables.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from drivers.door import wire
from kernel.machine.views import Called
from llmos import tables
from llmos.ask import Connection, connect
from llmos.commands.output import print_json, print_lines


def show(path: Path, proc: str, last: int, *, follow: bool, as_json: bool) -> None:
    """Print the last calls of a process, and go on with `follow` until the kernel stops."""
    with connect(path) as daemon:
        found, encoding = _calls(daemon, proc, 0, last)
    whole = found if not follow else tables.answered(found, encoding)
    _print(whole, encoding, as_json)
    waiting, since = found[len(whole) :], whole[-1].page if whole else found[0].page - 1 if found else 0
    while follow:  # a round a subscription; ends when the kernel does
        with connect(path) as daemon, connect(path) as asked:
            daemon.ask(wire.Subscribe(id=0, since=None, proc=proc, log=True), wire.Ok)
            push: wire.AnyPush | None = None
            while not isinstance(push, wire.Ended):
                found, encoding = _calls(asked, proc, since, None)
                whole = tables.answered(found, encoding)
                _print(whole, encoding, as_json)
                waiting, since = found[len(whole) :], whole[-1].page if whole else since
                push = daemon.receive()
            follow = not push.stopping
    _print(waiting, encoding, as_json)


def _calls(daemon: Connection, proc: str, since: int, limit: int | None) -> tuple[Sequence[Called], str]:
    """The last calls of pages after `since`, `limit` of them or all, oldest first: a line holds only so many."""
    found: list[Called] = []
    upto = 0
    while True:  # ends at the first call, or with enough of them
        most = wire.CALLS_MAX if limit is None else min(limit - len(found), wire.CALLS_MAX)
        request = wire.Strace(id=0, proc=proc, since=since, upto=upto, limit=most)
        traced = daemon.ask(request, wire.Traced)
        found = [*traced.calls, *found]
        if not traced.calls or len(found) == limit or traced.calls[0].page - 1 <= since:
            return found, traced.encoding
        upto = traced.calls[0].page - 1


def _print(calls: Sequence[Called], encoding: str, as_json: bool) -> None:
    for one in calls:
        if as_json:
            print_json(tables.call(one, encoding))
        else:
            print_lines(tables.strace(one, encoding))
    sys.stdout.flush()
