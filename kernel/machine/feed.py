"""Who is told what happened, in order: entries of the log, final messages, and tokens as they come.

Guarantees: a subscriber gets the entries after the number it names, each once and in order, first from the journal and
then as they are committed. One that leaves SUBSCRIBER_QUEUE_MAX items unread is closed, for the machine waits for no
reader: its iterator ends, and it comes back by the last number it saw.
The caller's duty: publish nothing that is not committed, tokens excepted, which a crash may take back.
Not here: what is published when (loop.py, devices.py), who hears of which process (drivers/door/desk.py).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import trio

from kernel import checkpoint, records
from kernel.event import Message
from kernel.limits import SUBSCRIBER_QUEUE_MAX
from kernel.machine.requests import Readers
from kernel.machine.views import LOG_PIECE, Entry, log_piece
from kernel.ports import Reads, Streamed
from kernel.state import Kernel

Published = Entry | Message | Streamed


class Feed:
    """The subscribers of a machine."""

    def __init__(self, kernel: Kernel, disk: Reads, readers: Readers) -> None:
        self._kernel, self._disk, self._readers = kernel, disk, readers
        self._subscribers: dict[trio.MemorySendChannel[Published], int] = {}  # each with whom it is about; 0: all

    @property
    def subscribers(self) -> int:
        """How many there are."""
        return len(self._subscribers)

    def publish(self, item: Published) -> None:
        """Tell all subscribers whom it concerns; never blocks."""
        about = {note.pid for note in item.notes} if isinstance(item, Entry) else {item.pid}
        everybody = 0 in about
        for channel, pid in list(self._subscribers.items()):
            if pid and not everybody and pid not in about:
                continue
            try:
                channel.send_nowait(item)
            except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
                self._subscribers.pop(channel, None)
                channel.close()

    def close(self) -> None:
        """There will be no more: all iterators end."""
        for channel in list(self._subscribers):
            channel.close()

    async def after(self, since: int | None) -> int:
        """The log number after which a subscriber is told what happens, who wants it after `since` (None: from now on).

        Later than that where what came after it is in no journal any more; the last where it has not happened.
        """
        last = self._kernel.counters.lsn
        return last if since is None or since >= last else await self._readers(_resumed, self._disk, since)

    @asynccontextmanager
    async def subscribe(self, since: int, pid: int = 0) -> AsyncIterator[AsyncIterator[Published]]:
        """What happens, in order: entries after `since` from the journal, then live ones, messages and tokens.

        `since` < 0: live only. `pid`: of live ones, no more than concerns that process; 0: all.
        """
        send, receive = trio.open_memory_channel[Published](SUBSCRIBER_QUEUE_MAX)
        upto = self._kernel.counters.lsn
        self._subscribers[send] = pid
        published = self._published(receive, since, upto)
        try:
            yield published
        finally:
            await published.aclose()  # left to the collector, a generator is closed who knows where
            self._subscribers.pop(send, None)
            send.close()
            receive.close()

    async def _published(
        self, receive: trio.MemoryReceiveChannel[Published], since: int, upto: int
    ) -> AsyncGenerator[Published, None]:
        while 0 <= since < upto:
            entries, last = await self._readers(log_piece, self._disk, since, LOG_PIECE)
            if last == since:
                break
            since = last
            for past in entries:
                if past.lsn <= upto:
                    yield past
        async for item in receive:
            if not (isinstance(item, Entry) and item.lsn <= since):
                yield item


def _resumed(disk: Reads, since: int) -> int:
    """The log number from which the journal goes on behind `since`: that, or a later one where it begins later."""
    for key, _ in disk.scan("journal", records.key(since + 1), limit=1):
        return records.unkey(key)[0] - 1
    head = checkpoint.base(disk)
    return max(since, head.lsn if head is not None else 0)
