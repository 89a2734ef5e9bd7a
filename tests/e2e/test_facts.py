"""`llmos facts`, as a subprocess: what a machine with a scripted model has found in what has left."""

import json
from pathlib import Path

import trio

from drivers.cpu.scripted import ScriptedCpu
from drivers.disk.lmdb import LmdbDisk
from drivers.door import socket
from kernel.boot import Board, boot
from kernel.machine import views
from kernel.settings import Settings, apply
from kernel.spec import Spec
from llmos.ask import SOCKET
from syscalls.abi import FULL
from syscalls.table import Table
from tests.e2e.daemons import PATIENCE_S, llmos
from tests.fakes import WordIndex
from tests.unit.test_reflection import correcting, once


async def test_facts_are_listed_with_their_dates_pages_and_corrections(tmp_path: Path) -> None:
    disk = LmdbDisk(tmp_path, sync="off")
    settings = apply(Settings(), ["window=2048", "cpu.reply=100", "memory.reflect=true"])
    machine = await boot(Board(ScriptedCpu(once(correcting)), disk, WordIndex(disk), settings), Table())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(machine.run)
        await nursery.start(socket.serve, machine, tmp_path / SOCKET)
        await machine.requests.spawn(Spec("main", FULL), suit=())
        with trio.fail_after(PATIENCE_S):
            n = 0
            while len(views.facts(disk, 1, 9)) < 2:
                await machine.requests.message("main", f"m{n}", f"filler {n}: bread, weather, trains and the weather")
                n += 1
                while machine.kernel.busy:
                    await trio.sleep(0.001)
        listed = await trio.to_thread.run_sync(llmos, tmp_path, "facts", "main", "--json")
        drawn = await trio.to_thread.run_sync(llmos, tmp_path, "facts", "1")
        missing = await trio.to_thread.run_sync(llmos, tmp_path, "facts", "nobody")
        threads = await trio.to_thread.run_sync(llmos, tmp_path, "ps", "--json")
        refused = [
            await trio.to_thread.run_sync(llmos, tmp_path, *words)
            for words in (["send", "[reflection]", "hello"], ["kill", "[reflection]"], ["fork", "[reflection]", "mine"])
        ]
        nursery.cancel_scope.cancel()
    disk.close()
    found = json.loads(listed.stdout)["facts"]
    assert [one["subject"] for one in found] == ["Ana"] * len(found)
    assert found[0]["corrected_by"] == found[1]["fact"]
    assert found[1]["corrects"] == found[0]["fact"]
    assert (found[0]["text"], found[0]["origin"], found[0]["corrects"]) == ("lives in town 0", "process", None)
    assert f"lives in town 0 (corrected by {found[1]['fact']})" in drawn.stdout
    assert drawn.stdout.split()[:7] == ["FACT", "SAID", "HOLDS", "PAGES", "ORIGIN", "SUBJECT", "TEXT"]
    assert missing.returncode == 2
    (own,) = [one for one in json.loads(threads.stdout)["processes"] if one["name"] == "[reflection]"]
    assert own["status"].startswith("the kernel's own")
    for one in refused:
        assert one.returncode == 2
        assert "process [reflection] is the kernel's own" in one.stderr
