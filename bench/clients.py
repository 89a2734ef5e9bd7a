"""Clients that send while the daemon is killed again and again, with a reader open on each process: is anything lost?

Each client sends its messages to a process of its own, one after the other, and sends again under the same id until it
has the acknowledgement, as `llmos send` does. Each reader subscribes, takes what waits in the outbox, acknowledges what
it has shown, and connects again, as a chat does. When all is said the pages of each process and what its reader was
shown are compared with what was sent, and the journal is replayed.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Final

import msgspec

from bench.daemon import Daemon
from drivers.door import wire
from kernel.errors import KernelError
from kernel.event import Message
from kernel.memory.page import OWN, Origin
from kernel.spec import Spec
from llmos import ask
from llmos.commands.output import show

PATIENCE_S: Final = 600.0
QUIET_S: Final = 120.0  # without a reply to anybody: there will be no more


class Held(msgspec.Struct):
    """What came of a run. `lost`: acknowledged and not there; `twice`: applied, said or shown a second time."""

    clients: int
    messages: int
    kills: int
    acknowledged: int = 0
    lost: int = 0
    twice: int = 0
    unheard: int = 0  # messages of which the reader of their process was never shown an answer
    replayed: bool = False
    seconds: float = 0.0


class _Reader(threading.Thread):
    """An open chat: what it was shown, by number."""

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(daemon=True)
        self.path, self.proc = path, name
        self.shown: list[str] = []
        self.seq = 0
        self.answered: set[str] = set()  # ids of messages
        self.over = False

    def run(self) -> None:
        while not self.over:  # a round a connection
            try:
                with ask.connect(self.path) as daemon:
                    daemon.ask(wire.Subscribe(id=0, proc=self.proc), wire.Ok)
                    for message in daemon.ask(wire.Outbox(id=0, proc=self.proc), wire.Messages).messages:
                        self._show(daemon, message)
                    while not self.over:  # until the connection ends
                        push = daemon.receive()
                        if isinstance(push, wire.Said):
                            self._show(daemon, push.message)
                        elif isinstance(push, wire.Ended):
                            break
            except KernelError:
                time.sleep(ask.RETRY_S)

    def _show(self, daemon: ask.Connection, message: Message) -> None:
        if message.seq > self.seq:
            self.shown.append(message.text)
            self.answered.update(message.answers)
            self.seq = message.seq
        daemon.ask(wire.Ack(id=0, pid=message.pid, upto=message.seq), wire.Ok)


class _Client(threading.Thread):
    """Sends its messages, in order."""

    def __init__(self, path: Path, name: str, texts: list[str]) -> None:
        super().__init__(daemon=True)
        self.path, self.proc, self.texts = path, name, texts
        self.acknowledged: list[str] = []
        self.error: KernelError | None = None

    def run(self) -> None:
        for at, text in enumerate(self.texts):
            try:
                ask.send(self.path, self.proc, text, f"{self.proc}-{at}", PATIENCE_S)
            except KernelError as exc:
                self.error = exc
                return
            self.acknowledged.append(text)


def hold(directory: Path, clients: int, messages: int, kills: int, seed: int) -> Held:
    """A run on a new machine in `directory`. Raises KernelError where a client or the daemon gives up."""
    found, draw, began = Held(clients, messages, kills), Random(seed), time.monotonic()
    daemon = Daemon(directory, f"cpu.slots={min(64, clients)}")
    try:
        names = [f"p{number}" for number in range(clients)]
        for name in names:
            ask.call(daemon.socket, wire.Spawn(id=0, spec=Spec(name)), wire.Ok)
        readers = [_Reader(daemon.socket, name) for name in names]
        senders = [
            _Client(daemon.socket, name, [f"{name} says {at} of {draw.randrange(10**6)}" for at in range(messages)])
            for name in names
        ]
        for thread in (*readers, *senders):
            thread.start()
        total = clients * messages
        for kill in range(kills):
            share = (kill + draw.random()) / max(1, kills) * 0.95
            while sum(len(one.acknowledged) for one in senders) < share * total:  # until so much is acknowledged
                time.sleep(0.01)
                if not any(one.is_alive() for one in senders):
                    break
            daemon.kill()
            daemon.start()
        for sender in senders:
            sender.join()
            if sender.error is not None:
                raise sender.error
        _judge(found, daemon, readers, senders)
        for reader in readers:
            reader.over = True
        daemon.stop()
    finally:
        daemon.kill()
    found.replayed = _replayed(directory)
    found.seconds = round(time.monotonic() - began, 1)
    return found


def _judge(found: Held, daemon: Daemon, readers: list[_Reader], senders: list[_Client]) -> None:
    heard, at = -1, time.monotonic()
    for reader, sender in zip(readers, senders, strict=True):
        mids = {f"{sender.proc}-{at}" for at in range(len(sender.acknowledged))}
        while mids - reader.answered and time.monotonic() - at < QUIET_S:  # until all came, or none comes
            if heard != (heard := sum(one.seq for one in readers)):
                at = time.monotonic()
            time.sleep(0.05)
        history = wire.History(id=0, proc=sender.proc, limit=wire.HISTORY_MAX)
        pages = ask.call(daemon.socket, history, wire.Pages).pages
        stored = Counter(page.searched for page in pages if page.origin is Origin.USER)
        replies = Counter(page.searched for page in pages if page.origin in OWN)
        shown = Counter(reader.shown)
        found.acknowledged += len(sender.acknowledged)
        found.lost += sum(not stored[text] for text in sender.acknowledged)
        for some in (stored, replies, shown):
            found.twice += sum(many - 1 for many in some.values())
        found.unheard += len(mids - reader.answered)


def _replayed(directory: Path) -> bool:
    from llmos.replay import replay
    from llmos.storage import reader

    with reader(directory) as disk:
        return replay(disk, 0, False, lambda lsn, end: None).ok


def run(clients: int, messages: int, kills: int, seed: int, as_json: bool) -> int:
    """`llmos bench clients`: exit status 0 if nothing is lost, comes twice or stays unheard."""
    with tempfile.TemporaryDirectory(prefix="clients-") as folder:
        found = hold(Path(folder) / "machine", clients, messages, kills, seed)
    if as_json:
        show(json.dumps(msgspec.to_builtins(found)))
    else:
        for name in found.__struct_fields__:
            show(f"{name:13} {getattr(found, name)}")
    return int(bool(found.lost or found.twice or found.unheard or not found.replayed))
