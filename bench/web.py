"""The HTTP door under load: many who follow, many who send, and what the door costs over the socket.

A machine with scripted CPUs that answer at once and a memory index is served in this process; the load comes from one
of its own. Each process has its share of listeners (server-sent events), each of whom must get every message of its
process, and none twice over one connection; who is closed for being slow comes back by number, as a browser does, and
is counted. One listener of each process acknowledges what it has, as a chat does. Messages go out at a fixed rate,
every other one over the control socket, and the time to each acknowledgement is kept by door; between them streams of
chat completions are begun, and the time to their first byte kept. Memory is read once a second: what is the process's
own must be level once its caches, each of which has a bound, are full; the rest is the disk's file, mapped, which the
host takes back when it needs to.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import httpx2
import msgspec
import trio

from bench.attack.machines import USERLAND
from drivers.cpu.scripted import ScriptedCpu, echo
from drivers.disk.lmdb import LmdbDisk
from drivers.door import socket, wire
from drivers.door.http import site, token
from drivers.door.http.given import Http, Live
from drivers.index.words import WordIndex
from kernel.boot import Board, boot
from kernel.process import State
from kernel.settings import Settings, apply
from kernel.spec import Spec
from llmos.client import Client, connect
from llmos.commands.output import show
from syscalls.table import Table

SLOTS: Final = 8
STREAMS: Final = 0.02  # of the messages, those that are chat completions over HTTP as streams
AGAIN_S: Final = 0.5  # before a listener comes back
ACKNOWLEDGED_S: Final = 1.0  # between two acknowledgements of what a process said
DRAIN_S: Final = 30.0  # for what is still under way when the last message was sent
FILES: Final = 4_096
CONNECTIONS: Final = 32  # of senders, by the socket
POOL: Final = 256  # of senders, by HTTP: each takes one request at a time, and none may wait for a connection
MIB: Final = 1 << 20
STATM: Final = Path("/proc/self/statm")


class Told(msgspec.Struct, frozen=True):
    """What came of a run; times in milliseconds, of the acknowledgement but for `first_byte`."""

    processes: int
    listeners: int
    sent: int
    unanswered: int  # of them, those without an acknowledgement DRAIN_S after the last
    seconds: float
    followed: int  # messages that listeners were to get
    lost: int  # of them, those that they did not get
    twice: int  # those that they got a second time over one connection
    closed: int  # times that a listener was closed, and came back
    http_p50: float
    http_p99: float
    socket_p50: float
    socket_p99: float
    first_byte_p50: float
    first_byte_p99: float
    mib_first: float  # resident, when the load began and when it had ended
    mib_last: float
    own_first: float  # of it, what is no file's: at the same times, and half-way
    own_half: float
    own_last: float


class _Load(msgspec.Struct):
    """What the load saw."""

    sent: int = 0
    seconds: float = 0.0
    times: dict[str, list[float]] = msgspec.field(default_factory=lambda: {"http": [], "socket": [], "stream": []})
    got: list[dict[int, int]] = msgspec.field(default_factory=list)  # by follower, how often each message
    said: dict[str, int] = msgspec.field(default_factory=dict)  # by process, messages in all
    newest: dict[int, int] = msgspec.field(default_factory=dict)  # by process's number, the last that was heard
    closed: int = 0


async def _served(folder: Path, processes: int, pipe: Connection) -> tuple[list[tuple[float, float]], bytes]:
    """Serve a machine until the load is done: its resident memory each second, and what the load saw."""
    disk = LmdbDisk(folder, sync="off")
    machine = await boot(
        Board(ScriptedCpu(echo, slots=SLOTS), disk, WordIndex(disk), apply(Settings(), ["disk.sync=off"])), Table()
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(machine.run)
        for number in range(processes):
            await machine.requests.spawn(Spec(f"p{number}"))
        await nursery.start(socket.serve, machine, folder / "kernel.sock")
        (url,) = await nursery.start(site.serve, machine, folder, Live(Http("127.0.0.1:0", log="none")), USERLAND)
        pipe.send((url, token.read(folder / token.FILE)))
        await trio.to_thread.run_sync(pipe.recv)  # everybody follows
        memory = [_resident()]
        nursery.start_soon(_watched, memory)
        raw = await trio.to_thread.run_sync(pipe.recv)  # all is said
        memory.append(_resident())
        machine.stop()
        await machine.stopped()
        nursery.cancel_scope.cancel()
    return memory, raw


async def _watched(memory: list[tuple[float, float]]) -> None:
    while True:  # until cancelled
        await trio.sleep(1)
        memory.append(_resident())


def _resident() -> tuple[float, float]:
    """What is resident of this process, and what of it is no file's, in MiB."""
    _, resident, files, *_ = (int(pages) * resource.getpagesize() / MIB for pages in STATM.read_text().split())
    return resident, resident - files


def _loaded(pipe: Connection, folder: Path, processes: int, listeners: int, rate: float, seconds: float) -> None:
    """The other process: what it saw goes into the pipe."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard), hard))
    url, key = pipe.recv()
    found = trio.run(_load, pipe, folder, url, key, processes, listeners, rate, seconds)
    pipe.send(msgspec.msgpack.encode(found))


async def _load(
    pipe: Connection, folder: Path, url: str, key: str, processes: int, listeners: int, rate: float, seconds: float
) -> _Load:
    load = _Load(said={f"p{number}": 0 for number in range(processes)})
    bearer = {"authorization": f"Bearer {key}"}
    limits = httpx2.Limits(max_connections=POOL, max_keepalive_connections=POOL)
    async with (  # nothing is given up but at the end: how long it takes is what is measured
        httpx2.AsyncClient(base_url=url, headers=bearer, trust_env=False, timeout=None, limits=limits) as http,
        AsyncExitStack() as stack,
    ):
        plain = [await stack.enter_async_context(connect(folder / "kernel.sock")) for _ in range(CONNECTIONS)]
        async with trio.open_nursery() as nursery:
            for number in range(listeners):
                load.got.append(Counter())
                await nursery.start(_follow, url, key, f"p{number % processes}", load, load.got[-1])
            nursery.start_soon(_acknowledge, http, load)
            pipe.send("ready")

            async def send(number: int) -> None:
                name, mid = f"p{number % processes}", f"m{number}"
                began = trio.current_time()
                if number % round(1 / STREAMS) == 0:
                    body = {
                        "model": name,
                        "messages": [{"role": "user", "content": f"message {number}"}],
                        "stream": True,
                    }
                    async with http.stream("POST", "/v1/chat/completions", json=body) as response:
                        load.times["stream"].append(1_000 * (trio.current_time() - began))  # its head has come
                        await response.aread()
                    return
                if number % 2:
                    body = {"proc": name, "mid": mid, "text": f"message {number}"}
                    (await http.post("/api/send", json=body)).raise_for_status()
                    kind = "http"
                else:
                    await plain[number // 2 % CONNECTIONS].ask(
                        wire.Send(id=0, proc=name, mid=mid, text=f"message {number}"), wire.Ok
                    )
                    kind = "socket"
                load.times[kind].append(1_000 * (trio.current_time() - began))

            began = trio.current_time()
            ends = began + seconds + DRAIN_S
            with trio.CancelScope(deadline=ends):
                async with trio.open_nursery() as senders:
                    while trio.current_time() < began + seconds:
                        senders.start_soon(send, load.sent)
                        load.sent += 1
                        await trio.sleep_until(began + load.sent / rate)
            load.seconds = trio.current_time() - began
            with trio.move_on_after(DRAIN_S):
                while not await _over(load, plain[0]):
                    await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
    return load


async def _over(load: _Load, plain: Client) -> bool:
    """Whether all processes rest, and all that they said has come to whoever follows them."""
    views = (await plain.ask(wire.Ps(id=0), wire.Processes)).processes
    load.said = {view.name: view.acked + view.outbox for view in views}  # two messages may have one answer
    rest = all(view.state is State.IDLE for view in views)  # what is pending then, such as MEMORY, wakes nobody
    return rest and all(len(got) == load.said[f"p{at % len(views)}"] for at, got in enumerate(load.got))


async def _acknowledge(http: httpx2.AsyncClient, load: _Load) -> None:
    """Let what was heard of each process leave its outbox."""
    done: dict[int, int] = {}
    while True:  # until cancelled
        await trio.sleep(ACKNOWLEDGED_S)
        for pid, upto in load.newest.items():
            if upto > done.get(pid, 0):
                done[pid] = upto
                (await http.post("/api/ack", json={"pid": pid, "upto": upto})).raise_for_status()


async def _follow(
    url: str,
    key: str,
    proc: str,
    load: _Load,
    got: dict[int, int],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Plain connections, one after the other, that follow one process; counts its messages by number."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    head = f"Host: {host}:{port}\r\nAuthorization: Bearer {key}\r\n\r\n"
    since, begun = "", False
    while True:  # until cancelled
        rest, once = b"", Counter[int]()
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(f"GET /api/events?proc={proc}{since} HTTP/1.1\r\n{head}".encode())
            async for chunk in stream:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.startswith(b"id: "):
                        since = f"&since={int(line.removeprefix(b'id: '))}"
                    elif line.startswith(b"event: ok") and not begun:
                        begun = True
                        task_status.started()
                    elif line.startswith(b'data: {"op":"said"'):
                        message = json.loads(line.removeprefix(b"data: "))["message"]
                        number = int(message["seq"])
                        load.newest[message["pid"]] = max(load.newest.get(message["pid"], 0), number)
                        once[number] += 1
                        got[number] = max(got.get(number, 0), once[number])
        load.closed += 1
        await trio.sleep(AGAIN_S)


def measured(processes: int, listeners: int, rate: float, seconds: float) -> Told:
    """Run it."""
    here, there = multiprocessing.Pipe()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o700)
        given = (there, folder, processes, listeners, rate, seconds)
        other = multiprocessing.get_context("spawn").Process(target=_loaded, args=given, daemon=True)
        other.start()
        there.close()  # so that its end is seen here
        memory, raw = trio.run(_served, folder, processes, here)
        other.join()
    load = msgspec.msgpack.decode(raw, type=_Load)
    wanted = [load.said[f"p{at % processes}"] for at in range(listeners)]
    lost = sum(max(0, many - len(got)) for many, got in zip(wanted, load.got, strict=True))
    twice = sum(count - 1 for got in load.got for count in got.values())
    times = {kind: sorted(found) or [0.0] for kind, found in load.times.items()}

    def at(kind: str, share: float) -> float:
        found = times[kind]
        return round(found[min(len(found) - 1, int(share * len(found)))], 2)

    return Told(
        *(processes, listeners, load.sent, load.sent - sum(map(len, load.times.values()))),
        round(load.seconds, 1),
        *(sum(wanted), lost, twice, load.closed),
        *(at("http", 0.5), at("http", 0.99), at("socket", 0.5), at("socket", 0.99)),
        *(at("stream", 0.5), at("stream", 0.99), *(round(memory[n][0], 1) for n in (0, -1))),
        *(round(memory[n][1], 1) for n in (0, len(memory) // 2, -1)),
    )


def run(processes: int, listeners: int, rate: float, seconds: float, as_json: bool) -> int:
    """`llmos bench http`: exit status 0 if nothing was lost."""
    began = time.monotonic()
    told = measured(processes, listeners, rate, seconds)
    if as_json:
        show(msgspec.json.encode(told).decode())
    else:
        for name, value in msgspec.structs.asdict(told).items():
            show(f"{name:16} {value}")
        show(f"{'in all':16} {time.monotonic() - began:.0f} s")
    return 1 if told.lost or told.twice or told.unanswered else 0
