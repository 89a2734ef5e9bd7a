"""Children on a machine in real time: made, waited for and removed from the disk, by its own task."""

from __future__ import annotations

from pathlib import Path

import trio

from drivers.cpu.scripted import ScriptedCpu
from drivers.disk.lmdb import LmdbDisk
from drivers.index.words import WordIndex
from kernel import records
from kernel.boot import Board, boot
from kernel.event import Message
from kernel.ports import Job
from kernel.settings import Settings, apply
from kernel.spec import Spec
from syscalls.table import Table
from tests.fakes import op

CALLS = ("spawn", "wait", "send_message", "exit", "remember")


def program(job: Job) -> str:
    """The first process has one child after another; each of these remembers something and exits."""
    if job.pid != 1:
        texts = [page.page.text for page in job.pages]
        return (
            op("exit", status="done") if any("ok: page" in text for text in texts) else op("remember", text="a larch")
        )
    plays = [op("spawn", name="a", task="go"), op("wait", child="a")] * 3
    return plays[job.instr - 1] if job.instr <= len(plays) else op("send_message", text="all done")


async def test_children_come_and_go_and_nothing_of_them_stays_on_the_disk(tmp_path: Path) -> None:
    disk = LmdbDisk(tmp_path)
    settings = apply(Settings(), ["window=4096"])
    machine = await boot(Board(ScriptedCpu(program, slots=2), disk, WordIndex(disk), settings), Table())
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(machine.run)
            await machine.requests.spawn(Spec("boss", CALLS))
            async with machine.feed.subscribe(-1) as published:
                await machine.requests.message("boss", "", "have three of them")
                async for item in published:
                    if isinstance(item, Message) and item.text == "all done":
                        break
            while len(disk.scan("proc")) > 1:  # the reaper works beside
                await trio.sleep(0.01)
            pages = [records.page_of(row, disk.get) for _, row in disk.scan("page")]
            assert {page.pid for page in pages} <= {0, 1}
            assert not any("a larch" in page.text for page in pages)
            assert set(machine.kernel.names) == {"boss"}
            machine.stop()


async def test_what_the_machine_did_not_come_to_the_next_boot_removes(tmp_path: Path) -> None:
    disk = LmdbDisk(tmp_path)
    settings = apply(Settings(), ["window=4096"])
    machine = await boot(Board(ScriptedCpu(program, slots=2), disk, WordIndex(disk), settings), Table())
    machine.reaper.reap = lambda pid: None  # type: ignore[method-assign]  # it went down before
    machine.devices._reap = machine.reaper.reap
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(machine.run)
            await machine.requests.spawn(Spec("boss", CALLS))
            async with machine.feed.subscribe(-1) as published:
                await machine.requests.message("boss", "", "have three of them")
                async for item in published:
                    if isinstance(item, Message) and item.text == "all done":
                        break
            assert len(machine.kernel.procs) == 4
            machine.stop()
    disk = LmdbDisk(tmp_path)
    machine = await boot(Board(ScriptedCpu(program, slots=2), disk, WordIndex(disk), settings), Table())
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(machine.run)
            while len(machine.kernel.procs) > 1:
                await trio.sleep(0.01)
            machine.stop()
