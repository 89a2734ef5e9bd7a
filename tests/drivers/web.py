"""A machine behind its HTTP door, for the tests of doors: served on a free port, asked by a real client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import trio

from drivers.cpu.scripted import Program, ScriptedCpu, echo
from drivers.disk.memory import MemoryDisk
from drivers.door.http import site, token
from drivers.door.http.given import Http, Live, Userland
from drivers.embed.wordllama import WordLlamaEmbedder
from kernel.boot import Board, boot
from kernel.machine.loop import Machine
from kernel.ports import Disk
from kernel.settings import Settings, apply
from syscalls.spoken import spoken
from syscalls.table import Table
from tests.fakes import WordIndex

USERLAND = Userland(spoken, WordLlamaEmbedder)


class Served(NamedTuple):
    """A machine that is served."""

    machine: Machine
    url: str
    token: str
    cpu: ScriptedCpu

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def client(self, **headers: str) -> httpx2.AsyncClient:
        """A client with the token; `headers` besides."""
        given = {"authorization": f"Bearer {self.token}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        return httpx2.AsyncClient(base_url=self.url, headers=given, trust_env=False, timeout=20)


@asynccontextmanager
async def served(
    directory: Path,
    program: Program = echo,
    *,
    disk: Disk | None = None,
    settings: tuple[str, ...] = (),
    given: Http | None = None,
    **cpu: Any,
) -> AsyncIterator[Served]:
    """A running machine and its door; drained and stopped at the end."""
    driver = ScriptedCpu(program, **cpu)
    disk = disk or MemoryDisk()
    chosen = apply(Settings(), list(settings))
    machine = await boot(Board(driver, disk, WordIndex(disk), chosen), Table())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(machine.run)
        try:
            urls = await nursery.start(site.serve, machine, directory, Live(given or Http("127.0.0.1:0")), USERLAND)
            yield Served(machine, urls[0], token.read(directory / token.FILE), driver)
        finally:
            machine.stop()
            with trio.CancelScope(shield=True):
                await machine.stopped()
            nursery.cancel_scope.cancel()
