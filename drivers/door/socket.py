"""The control socket: clients of a machine over a Unix socket, in the lines of wire.py.

Guarantees:
- Send, Spawn, Fork, Kill and Ack are answered after the commit of what they asked.
- Whatever a client sends, the machine goes on: a line that is too long, broken or refused is answered Failed, and the
  connection is kept. No more of a line than LINE_BYTES_MAX is held.
- A client that does not read is cut off: by the machine when SUBSCRIBER_QUEUE_MAX events wait for it, by this file when
  a write takes longer than WRITE_S. It may subscribe again from the last number it saw.
The caller's duty: hold the data directory's lock, for a socket file found at `path` is taken to be a dead kernel's.
Not here: what a request means to a process (the kernel), and who may connect (the file's mode: its owner).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, assert_never

import trio

from drivers.disk import parcel
from drivers.door import wire
from kernel.errors import BadInput, KernelError
from kernel.event import Message
from kernel.limits import MESSAGE_BYTES_MAX
from kernel.machine import views
from kernel.machine.feed import Published
from kernel.machine.loop import Machine
from kernel.machine.requests import Answer
from kernel.machine.views import Entry

CONNECTIONS_MAX: Final = 256  # each holds a task and a buffer
HELLO_S: Final = 10.0  # a client says hello within this time
GOODBYE_S: Final = 1.0  # for a last line to a client when the server stops
WRITE_S: Final = 30.0  # a client that takes longer to read one line is gone or stuck
READ_BYTES: Final = 65_536
BACKLOG: Final = 64
PATH_BYTES_MAX: Final = 107  # sockaddr_un holds 108 bytes, the last of them zero

_RETRY = re.compile(r"retry after (\d+) s")  # what the kernel's refusals say in words, for programs


@contextmanager
def address(path: Path) -> Iterator[str]:
    """A name for a socket's `path` that is short enough for the kernel of the host, while the context lasts.

    Raises BadInput if there is none: the directory is missing, or the path is long and the host has no /proc.
    """
    name = os.fspath(path.absolute())
    if len(os.fsencode(name)) <= PATH_BYTES_MAX:
        yield name
        return
    try:
        directory = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as exc:
        raise BadInput(f"{path.parent}: {exc.strerror}") from exc
    try:
        short = f"/proc/self/fd/{directory}/{path.name}"
        if len(os.fsencode(short)) > PATH_BYTES_MAX or not os.path.isdir(os.path.dirname(short)):
            raise BadInput(
                f"{path}: a socket's path has at most {PATH_BYTES_MAX} bytes, this one {len(os.fsencode(name))}; "
                "take a directory with a shorter name"
            )
        yield short
    finally:
        os.close(directory)


async def listen(path: Path) -> trio.SocketListener:
    """Bind and listen, readable by the owner only. Raises BadInput if the host does not let us."""
    sock = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    try:
        with address(path) as name:
            with suppress(FileNotFoundError):
                os.unlink(name)
            await sock.bind(name)
            os.chmod(name, 0o600)  # before listen: nobody can have connected yet
        sock.listen(BACKLOG)
    except OSError as exc:
        sock.close()
        raise BadInput(f"{path}: {exc.strerror}; a directory that you can write to is needed") from exc
    except BaseException:
        sock.close()
        raise
    return trio.SocketListener(sock)


async def serve(machine: Machine, path: Path, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Serve `machine` at `path` until cancelled; the socket file goes with it. Started once clients can connect."""
    listener = await listen(path)
    ours = os.stat(path).st_ino
    try:
        server = Server(machine)
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, server.connection, [listener])
            task_status.started()
    finally:
        with suppress(OSError):
            if os.stat(path).st_ino == ours:  # the next kernel may have put its own there already
                os.unlink(path)


class Lines:
    """Lines of a stream, none longer than LINE_BYTES_MAX."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer that hold no newline

    async def next(self) -> bytes | None:
        """The next line without its newline; None at the end, and for a line that the end cuts off.

        Raises BadInput for a line that is too long, once it has been skipped.
        """
        skipping = False
        while True:  # until a newline or the end
            end = self._buffer.find(b"\n", self._searched)
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                self._searched = 0
                if skipping or len(line) > wire.LINE_BYTES_MAX:
                    raise BadInput(f"the line is longer than {wire.LINE_BYTES_MAX} bytes; send less in one line")
                return line
            if skipping or len(self._buffer) > wire.LINE_BYTES_MAX:
                skipping = True
                self._buffer.clear()
            self._searched = len(self._buffer)
            chunk = await self._stream.receive_some(READ_BYTES)
            if not chunk:
                return None
            self._buffer += chunk


class Server:
    """What all connections share: the machine, and how many there are."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.connections = 0

    async def connection(self, stream: trio.SocketStream) -> None:
        """A client, from its hello until either side hangs up. Raises nothing of the client's."""
        if self.connections >= CONNECTIONS_MAX:
            full = wire.Failed(id=0, error=f"{CONNECTIONS_MAX} clients are connected; retry after 5 s", retry_after_s=5)
            with trio.move_on_after(WRITE_S), suppress(trio.BrokenResourceError):
                await stream.send_all(wire.encode(full))
            await trio.aclose_forcefully(stream)
            return
        self.connections += 1
        try:
            await Connection(self.machine, stream).run()
        finally:
            self.connections -= 1


class Connection:
    """One client."""

    def __init__(self, machine: Machine, stream: trio.SocketStream) -> None:
        self.machine, self.stream = machine, stream
        self.lines = Lines(stream)
        self.writing = trio.Lock()  # answers and pushes are whole lines
        self.subscribed = False
        self.since = 0  # last log number pushed
        self.torn = False  # half a line may have been written: nothing can follow it

    async def run(self) -> None:
        """Shake hands, then answer until the client hangs up. This nursery owns the connection's subscription."""
        async with trio.open_nursery() as nursery:
            try:
                if await self._greeted():
                    await self._requests(nursery)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # the client is gone; what it asked for has been done or has not, and its answer is lost
            nursery.cancel_scope.cancel()
        await trio.aclose_forcefully(self.stream)

    async def write(self, line: wire.AnyReply) -> None:
        """Send a line. Raises trio.BrokenResourceError if the client is gone or does not read."""
        raw = wire.encode(line)
        async with self.writing:
            if self.torn:
                raise trio.BrokenResourceError("half a line was written")
            with trio.move_on_after(WRITE_S):
                self.torn = True
                await self.stream.send_all(raw)
                self.torn = False
        if self.torn:
            await trio.aclose_forcefully(self.stream)
            raise trio.BrokenResourceError("the client does not read")

    async def _greeted(self) -> bool:
        """Whether the client speaks this protocol; if not, it has been told why."""
        with trio.move_on_after(HELLO_S):
            try:
                raw = await self.lines.next()
                hello = None if raw is None else wire.decode_request(raw)
            except BadInput as exc:
                await self.write(wire.Failed(id=0, error=str(exc)))
                return False
            if hello is None:
                return False
            if not isinstance(hello, wire.Hello):
                await self.write(wire.Failed(id=0, error='the first line must be {"op":"hello","version":...}'))
                return False
            if hello.version != wire.VERSION:
                error = f"protocol {hello.version} is not spoken here, {wire.VERSION} is; use an llmos of one version"
                await self.write(wire.Failed(id=0, error=error))
                return False
            await self.write(wire.Hello(version=wire.VERSION))
            return True
        return False

    async def _requests(self, nursery: trio.Nursery) -> None:
        while True:  # until the client hangs up
            number = 0
            try:
                raw = await self.lines.next()
                if raw is None:
                    return
                request = wire.decode_request(raw)
                if isinstance(request, wire.Hello):
                    raise BadInput("hello has been said")
                number = request.id
                if isinstance(request, wire.Subscribe):
                    await self._subscribe(request, nursery)
                    continue
                answer = await self._carry_out(request)
            except KernelError as exc:
                await self.write(failed(number, str(exc)))
                continue
            try:
                await self.write(answer)
            finally:
                if isinstance(request, wire.Stop):
                    self.machine.stop()

    async def _carry_out(self, request: wire.AnyCommand) -> wire.AnyAnswer:
        """Do what is asked. Raises KernelError if it cannot be done; then nothing has changed."""
        machine, number = self.machine, request.id
        match request:
            case wire.Send():
                return done(number, await machine.requests.message(request.proc, request.mid, request.text))
            case wire.Spawn():
                texts = [request.system or "", *request.blocks, *request.blocks.values()]
                size = sum(len(text.encode()) for text in texts)
                if size > MESSAGE_BYTES_MAX:
                    raise BadInput(f"blocks and system have {size} bytes; at most {MESSAGE_BYTES_MAX} are allowed")
                answer = await machine.requests.spawn(
                    request.name,
                    request.mask,
                    request.blocks,
                    request.system,
                    request.nice,
                    request.abort,
                    request.model,
                )
                return done(number, answer)
            case wire.Fork():
                return done(number, await machine.requests.fork(request.proc, request.name))
            case wire.Kill():
                return done(number, await machine.requests.kill(request.proc))
            case wire.Ack():
                return done(number, await machine.requests.acknowledge(request.pid, request.upto))
            case wire.Ps():
                if request.proc is None:
                    return wire.Processes(id=number, processes=tuple(views.processes(machine.kernel)))
                return wire.Processes(id=number, processes=(views.process(machine.kernel, request.proc),))
            case wire.Irqs():
                lines = {line.name.lower(): account for line, account in machine.latency.lines.items()}
                return wire.Interrupts(id=number, lines=lines)
            case wire.Pmap():
                return wire.Mapped(id=number, map=views.pmap(machine.kernel, request.proc))
            case wire.Dmesg():
                lsn = machine.kernel.counters.lsn
                upto = min(request.since + request.limit, lsn)
                entries = [e for e in views.log(machine.disk, request.since, request.limit) if e.lsn <= upto]
                return wire.Entries(id=number, entries=tuple(entries), upto=max(upto, request.since), lsn=lsn)
            case wire.Outbox():
                pid = views.find(machine.kernel, request.proc)
                return wire.Messages(id=number, messages=tuple(views.outbox(machine.kernel, machine.disk, pid)))
            case wire.History():
                pid = views.find(machine.kernel, request.proc)
                upto = views.newest(machine.kernel, machine.disk, pid)
                read = (machine.disk, pid, request.limit, upto)
                if machine.disk.blocking:  # it may have to read past many pages of others
                    pages = await trio.to_thread.run_sync(views.history, *read)
                else:
                    pages = views.history(*read)
                return wire.Pages(id=number, pages=tuple(pages))
            case wire.Info():
                config = machine.kernel.config
                assert config is not None  # a machine is made by boot, whose first step sets it
                return wire.Serving(
                    id=number,
                    os_pid=os.getpid(),
                    lsn=machine.kernel.counters.lsn,
                    model=" and ".join(model.title for model in machine.kernel.models.values()),
                    window=machine.settings.window,
                    encoding=config.encoding,
                    settings=machine.settings,
                    pages=machine.kernel.counters.page,
                    indexed=min(machine.index.applied, machine.kernel.counters.page),
                    anew=machine.index.anew,
                    damaged=machine.index.damaged,
                )
            case wire.Compact():
                return done(number, await machine.compact())
            case wire.Import():
                parts = await trio.to_thread.run_sync(parcel.read, Path(request.path), request.name)
                return done(number, await machine.requests.take_over(parts))
            case wire.Stop():
                return wire.Ok(id=number, lsn=machine.kernel.counters.lsn)
            case _:
                assert_never(request)

    async def _subscribe(self, request: wire.Subscribe, nursery: trio.Nursery) -> None:
        """Answer Ok once nothing can be missed, then push."""
        if self.subscribed:
            raise BadInput("this connection has a subscription; open another for a second one")
        pid = 0 if request.proc is None else views.find(self.machine.kernel, request.proc)
        self.subscribed = True
        await nursery.start(self._push, request, pid)

    async def _push(
        self, request: wire.Subscribe, pid: int, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        lsn = self.machine.kernel.counters.lsn
        self.since = lsn if request.since is None else request.since
        try:
            async with self.machine.feed.subscribe(-1 if request.since is None else self.since) as published:
                try:
                    await self.write(wire.Ok(id=request.id, lsn=lsn))
                finally:
                    task_status.started()
                async for item in published:
                    await self._publish(item, request, pid)
            await self._end()
        except trio.Cancelled:
            if self.machine.stopping:  # the server is cancelled when the machine has come to rest
                await self._end()
            raise
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client is gone, or does not read
        await trio.aclose_forcefully(self.stream)

    async def _publish(self, item: Published, request: wire.Subscribe, pid: int) -> None:
        """Push one thing that happened, if the subscription wants it."""
        if isinstance(item, Entry):
            entry = _of_process(item, pid)
            if entry is not None:
                await self.write(wire.Logged(entry=entry))
            self.since = item.lsn
        elif request.log or (pid and item.pid != pid):
            return
        elif isinstance(item, Message):
            await self.write(wire.Said(message=item))
        else:
            await self.write(wire.Token(streamed=item))

    async def _end(self) -> None:
        """Say that there will be no more, and why; not for long, and even while the server is cancelled."""
        stopping = self.machine.stopping
        reason = "the kernel is stopping" if stopping else "too slow: events were dropped"
        ended = wire.Ended(since=self.since, error=f"{reason}; subscribe again from {self.since}", stopping=stopping)
        with trio.move_on_after(GOODBYE_S, shield=True), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.write(ended)


def _of_process(entry: Entry, pid: int) -> Entry | None:
    """The entry with the notes of one process and those of none; None if nothing is left. 0: all."""
    if not pid:
        return entry
    notes = tuple(note for note in entry.notes if note.pid in (0, pid))
    return Entry(entry.lsn, entry.at, notes) if notes else None


def done(number: int, answer: Answer) -> wire.Ok | wire.Failed:
    """What became of a submitted event, for the client."""
    if answer.error:
        return failed(number, answer.error)
    return wire.Ok(id=number, lsn=answer.lsn, pid=answer.pid, duplicate=answer.duplicate)


def failed(number: int, error: str) -> wire.Failed:
    """A refusal in one line; where it says when to try again, so does `retry_after_s`."""
    found = _RETRY.search(error)
    return wire.Failed(id=number, error=" ".join(error.split()), retry_after_s=float(found[1]) if found else None)
