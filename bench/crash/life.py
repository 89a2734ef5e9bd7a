"""One life of the machine, in a child process that may be killed at any moment: boot, the client's acts, quiet, stop.

The whole machine runs, on LMDB, SQLite and graphs; the CPU is scripted and time runs RATE times as fast. The index runs
in this process, so that a kill takes it along wherever it stands. The client lives in the parent: its acts are done
here, and everything it learns goes to it through a pipe at once, so that it knows what it knew when the child died.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import trio
import trio.testing

from bench.crash.paged import PagedCpu
from bench.crash.power import Unsynced
from bench.crash.sabotage import Sabotage, broken_disk, broken_machine, index_class
from bench.crash.workload import Act, Kind, Workload, program
from drivers.disk.lmdb import LmdbDisk
from drivers.disk.walk import walk
from drivers.index.ranking import Embedder
from kernel import failpoint
from kernel.boot import Board, boot
from kernel.errors import BadInput, Exists
from kernel.event import Message
from kernel.limits import NS
from kernel.machine import views
from kernel.machine.clock import Sources
from kernel.machine.loop import Machine
from kernel.ports import Disk, Index
from kernel.process import State
from kernel.settings import Settings, apply
from kernel.spec import Spec
from syscalls.table import Table

RATE: Final = 200.0  # seconds of the workload in one of the host's
LIFE_S: Final = 20.0  # a life that takes longer is stuck
APART: Final[dict[Kind, int]] = {
    "mixed": 3_600 * NS,
    "confluent": NS,
}  # of two lives: a search knows neighbours by time
FLIES: Final[dict[Kind, float]] = {"mixed": RATE, "confluent": 1.0}  # the machine's clock, beside the host's
LENGTH: Final = struct.Struct("<I")


class Client(msgspec.Struct):
    """What the client knows: which acts were acknowledged, and which messages it has seen, by process."""

    acked: set[str] = set()
    stored: set[str] = set()  # those of them that are inputs, and were not refused
    heard: dict[int, list[str]] = {}
    wrong: list[str] = []  # a message that came out of order, or again with another text


class Ended(msgspec.Struct):
    """How a life ended: killed as planned, done, or otherwise; and how often each failpoint was passed."""

    killed: bool = False
    done: bool = False
    error: str = ""
    passings: dict[str, int] = {}


def live(
    folder: Path,
    work: Workload,
    client: Client,
    life: int,
    armed: str,
    embedder: Embedder,
    sabotage: Sabotage = "",
    *,
    unsynced: bool = False,
) -> Ended:
    """Fork a life, follow it to its end, and write down what the client learned.

    `armed`: its failpoints; none: they are counted. `unsynced`: its disk keeps the last transactions in memory.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        os.close(reading)
        status = 1
        try:
            _child(folder, work, client, life, armed, embedder, sabotage, unsynced, partial(_tell, writing))
            status = 0
        except BaseException as exc:
            _tell(writing, ("error", _flat(exc)))
        finally:
            os._exit(status)
    os.close(writing)
    ended = Ended()
    with os.fdopen(reading, "rb") as stream:
        while len(head := stream.read(LENGTH.size)) == LENGTH.size:
            raw = stream.read(LENGTH.unpack(head)[0])
            _learn(client, ended, msgspec.msgpack.decode(raw))
    _, status = os.waitpid(pid, 0)
    ended.killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if not ended.killed and not ended.done and not ended.error:
        ended.error = f"the child ended with status {status}"
    return ended


def _flat(exc: BaseException) -> str:
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return f"{type(exc).__name__}: {exc}"


def _tell(fd: int, what: tuple[Any, ...]) -> None:
    raw = msgspec.msgpack.encode(what)
    os.write(fd, LENGTH.pack(len(raw)) + raw)  # under PIPE_BUF or not: there is one writer


def _learn(client: Client, ended: Ended, what: list[Any]) -> None:
    match what:
        case ["ack", ident]:
            client.acked.add(ident)
        case ["stored", ident]:
            client.stored.add(ident)
        case ["said", pid, seq, text]:
            heard = client.heard.setdefault(pid, [])
            if seq == len(heard) + 1:
                heard.append(text)
            elif not 1 <= seq <= len(heard):
                client.wrong.append(f"message {seq} of process {pid} came after {len(heard)}")
            elif heard[seq - 1] != text:
                client.wrong.append(f"message {seq} of process {pid} came again with another text")
        case ["passings", counts]:
            ended.passings = counts
        case ["done"]:
            ended.done = True
        case ["error", text]:
            ended.error = text


# In the child


def _child(
    folder: Path,
    work: Workload,
    client: Client,
    life: int,
    armed: str,
    embedder: Embedder,
    sabotage: Sabotage,
    unsynced: bool,
    tell: Callable[[tuple[Any, ...]], None],
) -> None:
    signal.alarm(int(LIFE_S) + 5)
    counted = failpoint.count() if not armed else None
    failpoint.arm(armed)
    settings = apply(Settings(), list(work.settings))
    real = LmdbDisk(folder, sync="off" if unsynced else settings.disk.sync, walk=walk)
    disk = Unsynced(real) if unsynced else broken_disk(real, sabotage)
    index = index_class(sabotage)(folder, disk, embedder, settings.disk.exact_max)
    began = time.monotonic()

    def clock() -> int:
        return life * APART[work.kind] + int((time.monotonic() - began) * FLIES[work.kind] * NS)

    trio.run(
        partial(_live, folder, work, client, disk, index, settings, clock, tell, sabotage),
        clock=trio.testing.MockClock(rate=RATE),
    )
    if counted is not None:
        tell(("passings", dict(counted)))
    tell(("done",))


async def _live(
    folder: Path,
    work: Workload,
    client: Client,
    disk: Disk,
    index: Index,
    settings: Settings,
    clock: Callable[[], int],
    tell: Callable[[tuple[Any, ...]], None],
    sabotage: Sabotage,
) -> None:
    cpu = PagedCpu(partial(program, work), work.slots, folder / "kv")
    machine = await boot(Board(cpu, disk, index, settings, Sources(clock, clock)), Table())
    broken_machine(machine, sabotage)
    with trio.fail_after(LIFE_S * RATE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(machine.run)
            connected = trio.Event()
            nursery.start_soon(_listen, machine, client, tell, connected)
            for act in work.acts:
                if act.id not in client.acked:
                    if await _act(machine, act):
                        tell(("stored", act.id))
                    tell(("ack", act.id))
            await quiet(machine)
            await connected.wait()  # on a busy host the machine may be quiet before the client has read the outbox
            machine.stop()


async def _act(machine: Machine, act: Act) -> bool:
    """Do it, or find it done already; whether it was an input that is now stored."""
    match act.what:
        case "spawn":
            chosen = Spec(act.proc, system="Be brief.", blocks={"notes": ""}, abort=act.proc == "p1")
            known = act.proc in machine.kernel.names  # perhaps dead, and it has written its notes since
            answer = await machine.requests.spawn(Spec(act.proc) if known else chosen)
            if answer.refused is not None and not isinstance(answer.refused, Exists):
                raise answer.refused
        case "say":
            answer = await machine.requests.message(act.proc, act.id, act.text)
            return answer.refused is None
        case "file":
            return (await machine.requests.file(act.proc, [act.text], act.id)).refused is None
        case "kill":
            await machine.requests.kill(act.proc)
        case "compact":
            await machine.compact()
        case "quiet":
            await quiet(machine)
    return False


async def quiet(machine: Machine) -> None:
    """Return when nobody has anything to do any more: no turn, no timer, no interrupt."""
    calm = 0
    while calm < 3:
        await trio.sleep(0.5)
        busy = any(proc.state not in (State.IDLE, State.ZOMBIE) for proc in machine.kernel.procs.values())
        behind = machine.index.lag() and not getattr(machine.index, "damaged", "")  # a damaged one stays behind
        calm = 0 if busy or machine.kernel.timers or behind else calm + 1


async def _listen(
    machine: Machine, client: Client, tell: Callable[[tuple[Any, ...]], None], connected: trio.Event
) -> None:
    """What a client that connected again hears: the outbox first, then what comes; it acknowledges some of it."""
    seen = {pid: len(texts) for pid, texts in client.heard.items()}

    async def hear(message: Message) -> None:
        if message.seq <= seen.get(message.pid, 0):
            return
        tell(("said", message.pid, message.seq, message.text))
        seen[message.pid] = message.seq
        if message.seq % 3 == 0:
            await machine.requests.acknowledge(message.pid, message.seq)

    async with machine.feed.subscribe(-1) as published:
        for pid, seq in seen.items():  # it cannot know whether its last acknowledgement arrived
            await machine.requests.acknowledge(pid, seq - seq % 3)
        for pid in list(machine.kernel.procs):
            for message in views.outbox(machine.kernel, machine.disk, pid):
                await hear(message)
        connected.set()
        try:
            async for item in published:
                if isinstance(item, Message):
                    await hear(item)
        except BadInput:
            return  # the kernel is stopping


__all__ = ["Client", "Ended", "live", "quiet"]
