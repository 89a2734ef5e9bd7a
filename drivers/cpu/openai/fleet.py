"""The servers of a CPU: which are well, who runs where, and when one that failed is tried again.

A process keeps to the server that has its prefix, its home, while that one is well; then it gets another home, and
keeps to that. A new process goes where the fewest run, and among equal ones where the fewest are at home.
A server that failed is left alone for a time, twice as long each time in a row, or as long as it says; and is looked at
again before it is used, for it may have been started anew with another model.
Not here: what is asked of a server (engine.py), what it can (discovery.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from drivers.cpu.openai.discovery import Able
from drivers.remote.address import Address
from drivers.remote.transport import Fault, Patience


class Server:
    """A server as it was last seen."""

    def __init__(self, number: int, address: Address) -> None:
        self.number, self.address = number, address
        self.able: Able | None = None  # None: it was never tried out
        self.sure = False  # False: it is looked at before it is used
        self.thinks = False
        self.runs = 0
        self.failed = 0  # times in a row
        self.not_before = 0.0  # of time.monotonic
        self.fault = ""  # the last one


class Fleet:
    """All servers. Any thread."""

    def __init__(self, addresses: tuple[Address, ...], patience: Patience, tell: Callable[[str], None]) -> None:
        self.servers = [Server(number, address) for number, address in enumerate(addresses)]
        self._patience, self._tell = patience, tell
        self._lock = threading.Lock()
        self._homes: dict[int, int] = {}  # by process: the number of its server

    def take(self, pid: int) -> Server | Fault:
        """The server that a process's run goes to, and `give` follows; or why there is none, and for how long."""
        with self._lock:
            now = time.monotonic()
            well = [server for server in self.servers if server.not_before <= now]
            if not well:
                first = min(self.servers, key=lambda one: one.not_before)
                return Fault(first.fault, after_s=first.not_before - now)
            home = self._homes.get(pid)
            server = next((one for one in well if one.number == home), None)
            if server is None:
                at_home = list(self._homes.values())
                server = min(well, key=lambda one: (one.runs, at_home.count(one.number), one.number))
                self._homes[pid] = server.number
            server.runs += 1
            return server

    def give(self, server: Server) -> None:
        """A run has left it."""
        with self._lock:
            server.runs -= 1

    def well(self, server: Server) -> None:
        """It has answered."""
        with self._lock:
            back, server.failed = server.failed > 0, 0
        if back:
            self._tell(f"{server.address}: it answers again")

    def failed(self, server: Server, fault: Fault) -> None:
        """A request to it failed: it rests."""
        first, most = self._patience.back_off_s
        with self._lock:
            server.failed, server.sure, server.fault = server.failed + 1, False, str(fault)
            rest_s = max(fault.after_s, min(first * 2 ** min(server.failed - 1, 16), most))
            server.not_before = max(server.not_before, time.monotonic() + rest_s)
            new = server.failed == 1
        if new:
            self._tell(str(fault))

    def fork(self, parent: int, child: int) -> None:
        """A child begins where its parent's prefix is."""
        with self._lock:
            if parent in self._homes:
                self._homes[child] = self._homes[parent]

    def forget(self, pid: int) -> None:
        """A process is no more."""
        with self._lock:
            self._homes.pop(pid, None)

    def home(self, pid: int) -> int | None:
        """The number of the server that a process keeps to."""
        return self._homes.get(pid)
