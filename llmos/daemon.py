"""The daemon's life: in the foreground until a signal, or started detached, waited for and stopped.

A detached one is a process of its own session, so that Ctrl-C at the terminal does not reach it; what it prints goes
to LOG in its directory. Two that start one at the same moment get the same: the directory's lock lets one live.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

import msgspec
import trio

from drivers.device.given import Given
from drivers.door import wire
from drivers.door.http.given import Http, Live
from kernel.errors import BadInput, KernelError
from llmos.ask import SOCKET, Disconnected
from llmos.client import connect
from llmos.commands.output import redraw, show, terminal

LOG: Final = "kernel.log"
LOG_BYTES: Final = 4 << 20  # a longer one is put aside by the next start, in place of the one put aside before
START_S: Final = 300.0  # a daemon that takes longer to load its model is stuck
LOOK_S: Final = 0.1  # between two looks at whether it answers
LOCKED_S: Final = 60.0  # how long the daemon that holds the lock may take to answer: it loads its model
STOP_S: Final = 30.0
INDEX_BEHIND: Final = 1_000  # pages; less is caught up with in a moment


class Options(msgspec.Struct, frozen=True):
    """What `llmos boot` takes; None leaves it as the directory has it."""

    model: str | None = None
    window: int | None = None
    cpu: str | None = None
    changes: tuple[str, ...] = ()
    http: Http = Http()
    tools: dict[str, Given] = {}  # of llmos.toml alone

    def arguments(self) -> list[str]:
        """As a command line."""
        found = ["--cpu", self.cpu] if self.cpu is not None else []
        if self.model is not None:
            found += ["--model", self.model]
        if self.window is not None:
            found += ["--window", str(self.window)]
        for change in self.changes:
            found += ["--set", change]
        return found + (["--http", self.http.listen] if self.http.listen else [])


async def answers(directory: Path) -> bool:
    """Whether a daemon serves this directory now."""
    try:
        async with connect(directory / SOCKET):
            return True
    except Disconnected:
        return False


async def start(directory: Path, options: Options, progress: Callable[[float], None]) -> subprocess.Popen[bytes] | None:
    """Start a daemon and wait until it answers; None if another one turned out to serve the directory.

    `progress` is called with the seconds waited. Raises BadInput with the daemon's own line if it gives up, and
    Disconnected if it is killed.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        log = _log(directory / LOG)
    except OSError as exc:
        raise BadInput(f"{directory}: {exc.strerror}; choose another --dir") from exc
    began = trio.current_time()
    with log:
        offset = log.tell()
        command = [sys.executable, "-P", "-m", "llmos", "boot", "--dir", str(directory), *options.arguments()]
        process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        while process.poll() is None:  # until it answers, gives up or takes too long
            if await answers(directory):
                return process
            waited_s = trio.current_time() - began
            if waited_s > START_S:
                raise BadInput(f"the daemon has not answered for {START_S:.0f} s; see {directory / LOG}")
            progress(waited_s)
            await trio.sleep(LOOK_S)
    except BaseException:
        process.terminate()
        raise
    from llmos.storage import in_use

    error = last_line(directory / LOG, offset)
    locked = (directory / "data.mdb").exists() and in_use(directory)
    if await _another(directory, LOCKED_S if locked else 0.0):
        return None
    if process.returncode < 0:
        raise Disconnected(f"the daemon was killed by signal {-process.returncode} as it started")
    raise BadInput(error or f"the daemon ended with status {process.returncode}; see {directory / LOG}")


def _log(file: Path) -> IO[bytes]:
    """The file that a daemon prints to, at its end."""
    if file.exists() and file.stat().st_size > LOG_BYTES:
        file.replace(file.with_name(f"{LOG}.old"))
    return file.open("ab")


async def _another(directory: Path, patience_s: float) -> bool:
    """Whether the one that kept ours from starting answers in time; it may still be loading its model."""
    deadline = trio.current_time() + patience_s
    while not (found := await answers(directory)) and trio.current_time() < deadline:
        await trio.sleep(LOOK_S)
    return found


def last_line(log: Path, offset: int) -> str:
    """The last line a daemon printed after byte `offset`, without the command's name; "" if it printed none."""
    with log.open("rb") as file:
        file.seek(offset)
        lines = file.read().decode("utf-8", "replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return said[-1].removeprefix("llmos: ") if said else ""


async def stop(directory: Path, child: subprocess.Popen[bytes] | None = None) -> None:
    """Drain and stop the daemon of a directory, and wait until it is gone. Raises Disconnected if there is none.

    `child` is the daemon where it is one of ours: a dead child is not gone until it has been waited for.
    """
    async with connect(directory / SOCKET) as client:
        serving = await client.ask(wire.Info(id=0), wire.Serving)
        await client.ask(wire.Stop(id=0), wire.Ok)
    deadline = trio.current_time() + STOP_S
    while child.poll() is None if child is not None else alive(serving.os_pid):
        if trio.current_time() > deadline:
            raise BadInput(f"the daemon (process {serving.os_pid}) has not stopped for {STOP_S:.0f} s")
        await trio.sleep(LOOK_S)


async def take_over(directory: Path, file: Path, name: str, options: Options, tell: Callable[[str], None]) -> wire.Ok:
    """Let a directory's kernel make a process of an exported file; one is started for it if none runs.

    The file is read here, and goes to the kernel in parts. Raises BadInput, as the kernel does.
    """
    from drivers.disk.parcel import parts

    child = None
    if not await answers(directory):
        tell("starting a kernel")
        child = await start(directory, options, lambda _: None)
    try:
        async with connect(directory / SOCKET) as client:
            tell("importing")
            first = True
            for part in parts(file):
                await client.ask(wire.Import(id=0, part=part, first=first), wire.Ok)
                first = False
            return await client.ask(wire.Import(id=0, part=b"", last=True, name=name), wire.Ok)
    finally:
        if child is not None:
            with trio.CancelScope(shield=True):
                await stop(directory, child)


def alive(pid: int) -> bool:
    """Whether a process of the host runs; one that has ended and was not waited for by its parent does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError):  # a host without /proc tells such a one from no other
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    return True


async def follow_index(directory: Path) -> None:
    """Print how far the index is, while it is built anew; and what is wrong with it."""
    shown, bar = -1, terminal(sys.stdout)
    with contextlib.suppress(KernelError):
        async with connect(directory / SOCKET) as client:
            while True:  # until it has caught up, or the kernel stops
                seen = await client.ask(wire.Info(id=0), wire.Serving)
                if seen.damaged:
                    show(f"llmos: the index is damaged and will be built anew at the next boot: {seen.damaged}")
                    return
                behind, tenth = seen.pages - seen.indexed, 10 * seen.indexed // max(1, seen.pages)
                if behind < INDEX_BEHIND:
                    if shown >= 0:
                        redraw(f"llmos: the index has all {seen.pages} pages" + ("\n" if bar else ""))
                    return
                if bar or tenth != shown:
                    cells = "#" * (3 * tenth) + "." * (30 - 3 * tenth)
                    line = f"llmos: indexing [{cells}] {seen.indexed} of {seen.pages} pages"
                    redraw(line)
                    shown = tenth
                await trio.sleep(0.5)


def read_again(directory: Path, said: Options, options: Options, http: Live) -> str:
    """Read llmos.toml again, and put in force what can be: what that is, and what waits for a restart, in one line.

    `said`: on the command line; `options`: what the daemon was started with. A file that is wrong changes nothing.
    """
    from llmos import config

    try:
        new = config.over(said, directory)
    except KernelError as exc:
        return f"nothing is changed: {exc}"
    fields = [name for name in Http.__struct_fields__ if getattr(new.http, name) != getattr(http.now, name)]
    late = [f"http.{name}" for name in fields if name == "listen"]
    late += [f"boot.{name}" for name in ("model", "cpu") if getattr(new, name) != getattr(options, name)]
    late += sorted({change.partition("=")[0] for change in set(new.changes) ^ set(options.changes)})
    http.now = msgspec.structs.replace(new.http, listen=http.now.listen)
    now = [f"http.{name}" for name in fields if name != "listen"]
    waits = f"; {', '.join(late)}: at the next start" if late else ""
    return f"{config.NAME} is read again; in force: {', '.join(now) or 'nothing new'}{waits}"


async def foreground(directory: Path, options: Options) -> None:
    """Be the daemon, until SIGTERM, SIGINT or a client stops it: what runs is drained. A second signal does not wait.

    SIGHUP has it read llmos.toml again.

    Raises BadInput in one line if it cannot start.
    """
    from llmos import config
    from llmos.init import serve

    said, options = options, config.over(options, directory)
    http = Live(options.http)
    ready = trio.Event()
    async with trio.open_nursery() as nursery:

        async def stop_on_signals() -> None:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for _ in signals:
                    if not ready.is_set() or stopping:
                        nursery.cancel_scope.cancel()
                    stopping.append(True)
                    show("llmos: stopping", flush=True)
                    nursery.start_soon(ask_to_stop)

        async def ask_to_stop() -> None:
            try:
                async with connect(directory / SOCKET) as client:
                    await client.ask(wire.Stop(id=0), wire.Ok)
            except KernelError:  # it cannot be asked: what is committed is safe all the same
                nursery.cancel_scope.cancel()

        async def read_again_on_signals() -> None:
            with trio.open_signal_receiver(signal.SIGHUP) as signals:
                async for _ in signals:
                    show(f"llmos: {read_again(directory, said, options, http)}", flush=True)

        async def greet() -> None:
            await ready.wait()
            async with connect(directory / SOCKET) as client:
                serving = await client.ask(wire.Info(id=0), wire.Serving)
                many = len((await client.ask(wire.Ps(id=0), wire.Processes)).processes)
            nursery.start_soon(follow_index, directory)
            show(
                f"llmos: {serving.model}, window {serving.window}, {many} processes; serving {directory / SOCKET} "
                f"as process {serving.os_pid}",
                flush=True,
            )
            for url in served:
                show(f"llmos: serving {url}, for who has the token that `llmos token` prints", flush=True)
                show(f"llmos: open {url}/ in a browser for the console, which asks for it", flush=True)

        stopping: list[bool] = []
        served: list[str] = []

        def up(urls: list[str]) -> None:
            served[:] = urls
            ready.set()

        nursery.start_soon(stop_on_signals)
        nursery.start_soon(read_again_on_signals)
        nursery.start_soon(greet)
        changes = list(options.changes)
        await serve(directory, options.model, options.window, options.cpu, changes, up, http, options.tools)
        nursery.cancel_scope.cancel()
    show("llmos: stopped", flush=True)
