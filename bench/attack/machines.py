"""A real machine for attacks: kernel, LMDB, socket and a scripted CPU that echoes, served by a thread of this process.

After every step the kernel's own checks run. At the end the disk is looked through as `llmos fsck` does, and whoever
wants to know boots it again. Not here: what is sent to it.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import trio

from bench.attack.surface import Died, Wrong, instead
from drivers.cpu.scripted import ScriptedCpu, echo
from drivers.disk.lmdb import LmdbDisk, LmdbReader
from drivers.door import socket
from drivers.door.http.given import Http, Live, Userland
from drivers.embed.wordllama import WordLlamaEmbedder
from drivers.index.words import WordIndex
from kernel import core
from kernel.audit import audit
from kernel.boot import Board, boot
from kernel.event import AnyEvent
from kernel.machine.loop import Machine
from kernel.settings import Settings, apply
from kernel.spec import Spec
from kernel.state import Kernel, Step
from syscalls.spoken import spoken
from syscalls.table import Table

NAMES: Final = ("main", "clerk", "other")
SETTINGS: Final = ("disk.sync=off", "window=1024")
STOP_S: Final = 60.0
USERLAND: Final = Userland(spoken, WordLlamaEmbedder)


@contextmanager
def checked() -> Iterator[list[str]]:
    """While the context lasts every step is followed by the kernel's checks; what they found."""
    found: list[str] = []
    step = core.step

    def stepped(kernel: Kernel, event: AnyEvent) -> Step:
        done = step(kernel, event)
        try:
            core.check(kernel)
        except AssertionError as exc:
            found.append(f"after {type(event).__name__}: {exc or 'an assertion'}")
        return done

    with instead(core, "step", stepped):
        yield found


class Served:
    """A machine on `folder`, in a thread of its own, with three processes that echo."""

    def __init__(self, folder: Path, found: list[str], *, web: bool = False) -> None:
        """Boot it, and wait until it serves. Raises Wrong if a disk that it was given back does not boot.

        `web`: over HTTP, too, at `url`.
        """
        self.folder, self.path, self._found, self._web = folder, folder / "kernel.sock", found, web
        self.url = ""
        self._ready, self._dead = threading.Event(), list[BaseException]()
        self._machine: Machine | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._machine is None:
            self._thread.join()
            raise Wrong(f"it does not boot again: {self._why()}")

    @property
    def machine(self) -> Machine:
        """The machine, while it lives."""
        assert self._machine is not None
        return self._machine

    def look(self) -> None:
        """Raises Died if the machine has ended of an error, Wrong if a check failed."""
        if self._found:
            raise Wrong(self._found.pop())
        if self._dead:
            raise Died(self._why())

    @property
    def ended(self) -> bool:
        """Whether it serves no more, for whatever reason."""
        return not self._thread.is_alive()

    def join(self) -> None:
        """Wait until it has ended, as it was told to."""
        self._thread.join(STOP_S)
        if not self.ended:
            raise Wrong(f"it does not stop within {STOP_S} s")

    def stop(self) -> None:
        """Drain it, and look at what it leaves. Raises Died, or Wrong if its disk is not as it must be."""
        if self._token is not None and not self.ended:
            with suppress(trio.RunFinishedError):
                trio.from_thread.run_sync(self.machine.stop, trio_token=self._token)
        self.join()
        self.look()
        reader = LmdbReader(self.folder)
        try:
            findings = audit(reader).findings
        finally:
            reader.close()
        if findings:
            raise Wrong(f"its disk: {findings[0]}")

    def _why(self) -> str:
        exc = self._dead[0]
        while isinstance(exc, BaseExceptionGroup):
            exc = exc.exceptions[0]
        return f"{type(exc).__name__}: {' '.join(str(exc).split())[:300]}"

    def _live(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as exc:
            self._dead.append(exc)
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        disk = LmdbDisk(self.folder, sync="off")
        settings = apply(Settings(), list(SETTINGS))
        machine = await boot(Board(ScriptedCpu(echo, slots=2), disk, WordIndex(disk), settings), Table())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(machine.run)
            for name in NAMES:
                if name not in machine.kernel.names:
                    await machine.requests.spawn(Spec(name, system="Be brief.", blocks={"notes": ""}))
            await nursery.start(partial(socket.serve, machine, self.path))
            if self._web:
                from drivers.door.http import site

                (self.url,) = await nursery.start(
                    site.serve, machine, self.folder, Live(Http("127.0.0.1:0", log="none")), USERLAND
                )
            self._machine, self._token = machine, trio.lowlevel.current_trio_token()
            self._ready.set()
            await machine.stopped()
            nursery.cancel_scope.cancel()


class Machines:
    """One served machine after the other: the same disk again, or a new one where the last has grown or died."""

    def __init__(self, folder: Path, found: list[str], *, web: bool = False) -> None:
        self._folder, self._found, self._web = folder, found, web
        self._number = 0
        self.served = self._new()

    def _new(self) -> Served:
        self._number += 1
        folder = self._folder / f"machine-{self._number}"
        folder.mkdir(mode=0o700)
        return Served(folder, self._found, web=self._web)

    def again(self) -> None:
        """Stop the machine and boot its disk again. Raises Wrong or Died, and then there is a new one."""
        try:
            self.served.stop()
            self.served = Served(self.served.folder, self._found, web=self._web)
        except (Wrong, Died):
            self._found.clear()
            self.served = self._new()
            raise

    def anew(self) -> None:
        """As `again`, and then a new machine on an empty disk."""
        old = self.served
        self.again()
        self.served.stop()
        self.served = self._new()
        shutil.rmtree(old.folder, ignore_errors=True)
