"""The control socket: clients of a machine over a Unix socket, in the lines of wire.py.

Guarantees:
- Send, Spawn, Fork, Kill, Halt and Ack are answered after the commit of what they asked.
- Whatever a client sends, the machine goes on: a line that is too long, broken or refused is answered Failed, and the
  connection is kept. No more of a line than LINE_BYTES_MAX is held.
- No client keeps others out: each has one request at a time, carried out in bounded pieces; where CONNECTIONS_MAX are
  connected, the one that has asked nothing for longest makes room, and is told; who follows the log is not idle, so no
  more than SUBSCRIBERS_MAX may. Whoever is refused gets a line.
- A client that does not read is cut off: by the machine when SUBSCRIBER_QUEUE_MAX events wait for it, by this file when
  a write takes longer than WRITE_S. It may subscribe again from the last number it saw.
The caller's duty: hold the data directory's lock, for a socket file found at `path` is taken to be a dead kernel's.
Not here: what a request is answered (desk.py), what a line says (wire.py), and who may connect (the file's mode: its
owner).
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from drivers.door import desk, wire
from drivers.door.arriving import Arriving, Dock
from drivers.door.lines import Lines, address
from kernel.errors import BadInput, Busy, KernelError, KernelPanic
from kernel.machine import views
from kernel.machine.feed import Published
from kernel.machine.loop import Machine
from kernel.machine.views import Entry

CONNECTIONS_MAX: Final = 256  # each holds a task and a buffer
SUBSCRIBERS_MAX: Final = 192  # of them, that follow what happens and are not idle: room is left for requests
MAKE_ROOM_S: Final = 0.1  # for a last line to one that makes room
HELLO_S: Final = 10.0  # a client says hello within this time
GOODBYE_S: Final = 1.0  # for a last line to a client when the server stops
WRITE_S: Final = 30.0  # a client that takes longer to read one line is gone or stuck
BACKLOG: Final = 64


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


STREAM_ENDED: Final = (trio.BrokenResourceError, trio.ClosedResourceError)  # the client is gone, or does not read


class Server:
    """What all connections share: the machine, and how many there are."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.connections: dict[Connection, None] = {}
        self.dock = Dock()

    async def connection(self, stream: trio.SocketStream) -> None:
        """A client, from its hello until either side hangs up. Raises nothing of the client's."""
        if len(self.connections) >= CONNECTIONS_MAX and not self._made_room():
            full = desk.failed(0, Busy(f"{CONNECTIONS_MAX} clients are connected, and none is idle", 5))
            with trio.move_on_after(MAKE_ROOM_S), suppress(trio.BrokenResourceError):
                await stream.send_all(wire.encode(full))
            await trio.aclose_forcefully(stream)
            return
        connection = Connection(self, stream)
        self.connections[connection] = None
        try:
            await connection.run()
        finally:
            self.connections.pop(connection, None)

    def _made_room(self) -> bool:
        """Whether one that was idle has been told to go: the one that is so for longest."""
        idle = [one for one in self.connections if one.idle]
        if not idle:
            return False
        longest = min(idle, key=lambda one: one.since_idle)
        del self.connections[longest]
        longest.leave()
        return True

    @property
    def subscribers(self) -> int:
        """How many follow what happens."""
        return sum(one.subscribed for one in self.connections)


class Connection:
    """One client."""

    def __init__(self, server: Server, stream: trio.SocketStream) -> None:
        self.server, self.machine, self.stream = server, server.machine, stream
        self.arriving = Arriving(server.dock)
        self.asking = False  # a request is being carried out or answered
        self.since_idle = trio.current_time()  # since when none is
        self._scope = trio.CancelScope()
        self._leaving = False
        self.lines = Lines(stream)
        self.writing = trio.Lock()  # answers and pushes are whole lines
        self.subscribed = False
        self.since = 0  # last log number pushed
        self.torn = False  # half a line may have been written: nothing can follow it

    async def run(self) -> None:
        """Shake hands, then answer until the client hangs up. This nursery owns the connection's subscription."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                try:
                    if await self._greeted():
                        await self._requests(nursery)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass  # the client is gone; what it asked for has been done or has not, and its answer is lost
                finally:
                    self.arriving.drop()
                nursery.cancel_scope.cancel()
        if self._leaving:
            idle_s = trio.current_time() - self.since_idle
            gone = desk.failed(0, Busy(f"closed: it asked nothing for {idle_s:.0f} s, and others want in", 0))
            with trio.move_on_after(MAKE_ROOM_S), suppress(*STREAM_ENDED):
                await self.write(gone)
        await trio.aclose_forcefully(self.stream)

    @property
    def idle(self) -> bool:
        """Whether nothing is being done for the client, and nothing will be told it by itself."""
        return not self.asking and not self.subscribed

    def leave(self) -> None:
        """Make room: end, with a line that says why."""
        self._leaving = True
        self._scope.cancel()

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
                await self.write(desk.failed(0, exc))
                return False
            if hello is None:
                return False
            if not isinstance(hello, wire.Hello):
                await self.write(wire.Failed(id=0, error='the first line must be {"op":"hello","version":...}'))
                return False
            if hello.version != wire.VERSION:
                older = "client" if hello.version < wire.VERSION else "daemon"
                error = f"protocol {hello.version} is not spoken here, {wire.VERSION} is: restart the {older}"
                await self.write(wire.Failed(id=0, error=error, code=wire.PROTOCOL))
                return False
            await self.write(wire.Hello(version=wire.VERSION))
            return True
        return False

    async def _requests(self, nursery: trio.Nursery) -> None:
        while True:  # until the client hangs up
            number = 0
            self.asking, self.since_idle = False, trio.current_time()
            try:
                raw = await self.lines.next()
                if raw is None:
                    return
                self.asking = True
                try:
                    request = wire.decode_request(raw)
                except BadInput:
                    number = wire.number_of(raw)
                    raise
                if isinstance(request, wire.Hello):
                    raise BadInput("hello has been said")
                number = request.id
                if isinstance(request, wire.Subscribe):
                    await self._subscribe(request, nursery)
                    continue
                answer = await desk.carry_out(self.machine, request, self.arriving)
            except KernelError as exc:
                await self.write(desk.failed(number, exc))
                continue
            except (*STREAM_ENDED, KernelPanic):
                raise
            except Exception as exc:  # the last ditch: what one client asks for never ends the others' machine
                await self.write(desk.broken(number, exc))
                continue
            try:
                await self.write(answer)
            finally:
                if isinstance(request, wire.Stop):
                    self.machine.stop()

    async def _subscribe(self, request: wire.Subscribe, nursery: trio.Nursery) -> None:
        """Answer Ok once nothing can be missed, then push."""
        if self.subscribed:
            raise BadInput("this connection has a subscription; open another for a second one")
        if self.server.subscribers >= SUBSCRIBERS_MAX:
            raise Busy(f"{SUBSCRIBERS_MAX} clients follow what happens", 5)
        pid = 0 if request.proc is None else views.find(self.machine.kernel, request.proc)
        self.subscribed = True
        await nursery.start(self._push, request, pid)

    async def _push(
        self, request: wire.Subscribe, pid: int, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        feed = self.machine.feed
        try:
            self.since = await feed.after(request.since)
            async with feed.subscribe(-1 if request.since is None else self.since) as published:
                try:
                    await self.write(wire.Ok(id=request.id, lsn=self.since))
                finally:
                    task_status.started()
                async for item in published:
                    await self._publish(item, request, pid)
            await self._end()
        except trio.Cancelled:
            if self.machine.stopping:  # the server is cancelled when the machine has come to rest
                await self._end()
            raise
        except STREAM_ENDED:
            pass
        await trio.aclose_forcefully(self.stream)

    async def _publish(self, item: Published, request: wire.Subscribe, pid: int) -> None:
        """Push one thing that happened, if the subscription wants it."""
        push = desk.pushed(item, request, pid)
        if push is not None:
            await self.write(push)
        if isinstance(item, Entry):
            self.since = item.lsn

    async def _end(self) -> None:
        """Say that there will be no more, and why; not for long, and even while the server is cancelled."""
        stopping = self.machine.stopping
        reason = "the kernel is stopping" if stopping else "too slow: events were dropped"
        ended = wire.Ended(since=self.since, error=f"{reason}; subscribe again from {self.since}", stopping=stopping)
        with trio.move_on_after(GOODBYE_S, shield=True), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.write(ended)
