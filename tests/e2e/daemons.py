"""Real daemons and chats as subprocesses, for the tests of this folder."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from drivers.disk.lmdb import holder

PATIENCE_S = 60.0  # a machine under load starts a daemon in several seconds


def command(directory: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "llmos", arguments[0], "--dir", str(directory), *arguments[1:]]


def llmos(directory: Path, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        command(directory, *arguments), input=text, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def eventually(what: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Wait until `what` is true."""
    deadline = time.monotonic() + patience_s
    while not what():
        assert time.monotonic() < deadline, f"it did not happen within {patience_s} s"
        time.sleep(0.01)


def shown(chat: ChatProcess, text: str) -> None:
    """Wait until a chat has printed `text`."""
    eventually(lambda: text in chat.text or chat.process.poll() is not None)
    assert text in chat.text, f"{chat.text}\n{chat.errors}"


def daemon_pid(directory: Path) -> int:
    """The process that holds the directory, or 0."""
    with contextlib.suppress(FileNotFoundError), (directory / "data.mdb").open("rb") as file:
        return holder(file.fileno())
    return 0


def kill_daemon(directory: Path) -> bool:
    """kill -9; False if there was none."""
    pid = daemon_pid(directory)
    if not pid:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return True


def on_terminal(columns: int, arguments: list[str], **environment: str) -> str:
    """What a command writes to a terminal of so many columns."""
    leader, follower = pty.openpty()
    subprocess.run(["stty", "cols", str(columns), "rows", "40"], stdin=follower, check=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "llmos", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
        env={**os.environ, **environment},
    )
    os.close(follower)
    out = bytearray()

    def over() -> bool:
        if select.select([leader], [], [], 0.05)[0]:
            try:
                out.extend(os.read(leader, 65_536))
            except OSError:  # its last writer is gone
                return True
        return False

    eventually(over)
    process.wait()
    os.close(leader)
    return out.decode()


class ChatProcess:
    """A chat over pipes, and all that it printed."""

    running: ClassVar[list[ChatProcess]] = []

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            command(directory, "chat", "--cpu", "scripted", *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._out, self._err = bytearray(), bytearray()
        self._readers = [
            threading.Thread(target=self._read, args=(pipe, kept), daemon=True)
            for pipe, kept in ((self.process.stdout, self._out), (self.process.stderr, self._err))
        ]
        for reader in self._readers:
            reader.start()
        self.running.append(self)

    @staticmethod
    def _read(pipe: object, kept: bytearray) -> None:
        while chunk := os.read(pipe.fileno(), 4096):  # type: ignore[attr-defined]  # a pipe of Popen's
            kept += chunk

    @property
    def text(self) -> str:
        return self._out.decode("utf-8", "replace")

    @property
    def errors(self) -> str:
        return self._err.decode("utf-8", "replace")

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()

    def close(self) -> int:
        """End its input and wait until it leaves."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        return self._ended()

    def kill(self, number: int = signal.SIGKILL) -> int:
        self.process.send_signal(number)
        return self._ended()

    def _ended(self) -> int:
        status = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self.running.remove(self)
        return status


class TerminalChat:
    """A chat on a terminal of its own, and all that it wrote there."""

    running: ClassVar[list[TerminalChat]] = []

    def __init__(self, directory: Path, *arguments: str, columns: int = 80, **environment: str) -> None:
        self.leader, follower = pty.openpty()
        subprocess.run(["stty", "cols", str(columns), "rows", "24"], stdin=follower, check=True)
        self.process = subprocess.Popen(
            command(directory, "chat", "--cpu", "scripted", *arguments),
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm", **environment},
        )
        os.close(follower)
        self.out = bytearray()
        self.running.append(self)

    def type(self, keys: str) -> None:
        """Press keys; what the chat writes meanwhile is read, so that neither waits for the other."""
        left = keys.encode()
        while left:
            left = left[os.write(self.leader, left[:512]) :]
            self._read()

    def _read(self, patience_s: float = 0.0) -> None:
        while select.select([self.leader], [], [], patience_s)[0]:
            try:
                self.out += os.read(self.leader, 65_536)
            except OSError:  # its last writer is gone
                return

    def shows(self, text: str) -> None:
        """Wait until `text` has been written since the last call, and take what stands before it as read."""

        def seen() -> bool:
            self._read(0.05)
            return text.encode() in self.out or self.process.poll() is not None

        eventually(seen)
        before, found, after = bytes(self.out).partition(text.encode())
        assert found, before.decode(errors="replace")
        self.out = bytearray(after)

    def left(self) -> int:
        """Wait until it has left; its exit status."""

        def over() -> bool:
            self._read(0.05)
            return self.process.poll() is not None

        eventually(over)
        os.close(self.leader)
        self.running.remove(self)
        return self.process.returncode
