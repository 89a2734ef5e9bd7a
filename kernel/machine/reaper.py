"""Dead processes that are to go for good, one after another, beside the machine's loop: finding their pages takes time.

What is not done when the machine stops the next boot begins anew.
Not here: who is to go (kernel/kin.py), how (requests.py `remove`).
"""

from __future__ import annotations

from collections import deque

import trio

from kernel.errors import BadInput, Busy, Stopped
from kernel.machine.requests import Requests


class Reaper:
    """The task that removes them. `run` is to be started once."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._waiting: deque[int] = deque()
        self._more = trio.Event()

    def reap(self, pid: int) -> None:
        """Have a dead process removed, behind those that are to be removed already."""
        self._waiting.append(pid)
        self._more.set()

    async def run(self) -> None:
        """Remove them; who cannot go yet is tried again, behind the others."""
        while True:  # until the machine's nursery is cancelled
            await self._more.wait()
            self._more = trio.Event()
            while self._waiting:  # ends: what is under way in a dead process ends
                pid = self._waiting.popleft()
                if await self._busy(pid):
                    self._waiting.append(pid)

    async def _busy(self, pid: int) -> bool:
        """Remove one; whether something of it is still under way."""
        try:
            return isinstance((await self._requests.remove(pid)).refused, Busy)
        except Busy:
            return True
        except (Stopped, BadInput):  # the next boot does it; or somebody else has done it
            return False
