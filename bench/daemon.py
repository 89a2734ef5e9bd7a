"""A real daemon on a directory, as a process that may be killed and started again: for benches that ask it as users do.

Its CPU is the scripted one, which echoes. Not here: what it is asked.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from drivers.door import wire
from kernel.errors import BadInput
from llmos.ask import SOCKET, Disconnected, call
from llmos.daemon import LOG, last_line

START_S: Final = 120.0
PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Daemon:
    """One life after the other, on `directory`."""

    def __init__(self, directory: Path, *changes: str) -> None:
        self.directory, self.socket = directory, directory / SOCKET
        self.changes = changes
        directory.mkdir(parents=True, exist_ok=True)
        self.start()

    def start(self) -> None:
        """Boot, and return when it answers. Raises BadInput with its own line if it does not."""
        command = [sys.executable, "-m", "llmos", "boot", "--dir", str(self.directory), "--cpu", "scripted"]
        for change in self.changes:
            command += ["--set", change]
        with (self.directory / LOG).open("ab") as log:
            offset = log.tell()
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + START_S
        while not self.answers():  # until it does, or is given up
            if self.process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise BadInput(f"the daemon does not boot: {last_line(self.directory / LOG, offset)}")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Whether it serves now."""
        try:
            call(self.socket, wire.Info(id=0), wire.Serving)
        except Disconnected:
            return False
        return True

    def kill(self) -> None:
        """kill -9, of the index's process too."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and wait; its status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_S)

    def resident_mib(self) -> float:
        """Memory of the daemon and of its children, shared pages counted in each."""
        pages = 0
        for pid in (self.process.pid, *_children(self.process.pid)):
            try:
                pages += int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
            except (OSError, IndexError):
                continue  # it has just ended
        return pages * PAGE / (1 << 20)

    def own_mib(self) -> tuple[float, float]:
        """Memory of the daemon, and of its children, without what they map of files."""
        return _own_kib(self.process.pid) / 1024, sum(map(_own_kib, _children(self.process.pid))) / 1024


def _own_kib(pid: int) -> int:
    """Memory that is a process's alone, no file's: 0 where that is not told."""
    try:
        return int(Path(f"/proc/{pid}/status").read_text().partition("RssAnon:")[2].split()[0])
    except (OSError, IndexError, ValueError):
        return 0


def _children(pid: int) -> list[int]:
    try:
        found = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [*found, *(below for one in found for below in _children(one))]
