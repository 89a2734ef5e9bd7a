"""The chat console: what is said, as it is said, and what the kernel does meanwhile.

Guarantees, whatever dies in between:
- A line of the user's is sent under one message id until it is acknowledged: it is applied once.
- A message of the process is final on the screen only after the daemon has our acknowledgement on disk, so none is
  final twice; until then it stays in the outbox, and the next chat shows it. One that was acknowledged by a chat which
  died before it could say so is the last line of the next chat's history.
- Chats with one process show the same conversation: what others sent it, and what it said to them, whoever has
  acknowledged it.
When the daemon is gone it is started again. The chat stops the daemon when it ends if it began by starting one
(`--keep` leaves it); one that ran before is left alone, and so is one started in the place of that. Ctrl-C stops the
reply, and once more leaves, as /quit and the end of the input do; a chat of pipes is left at once.
Not here: what of a reply stands on the screen (conversation.py), how it is drawn (screen.py), how it is typed
(editor.py), what is shown on request (commands.py), what the kernel asks (question.py).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, assert_never

import trio

from drivers.door import wire
from kernel.errors import BadInput, KernelError
from kernel.event import Message, What
from kernel.machine.replies import Standing
from kernel.machine.views import ProcessView
from kernel.memory.page import Origin
from kernel.process import State
from kernel.sampling import RECOMMENDED, Sampling, settled, written
from kernel.spec import Spec
from llmos import daemon
from llmos.catalogue import banner
from llmos.client import SOCKET, Client, Disconnected, Refused, connect, leaf, new_mid, turns
from llmos.commands.output import coloured, terminal
from llmos.console import commands
from llmos.console.conversation import Conversation, history
from llmos.console.question import Question
from llmos.console.screen import Plain, Screen

HISTORY: Final = "chat.history"  # what was typed, in the machine's directory
HISTORY_PAGES: Final = 64  # looked through for a history's lines: unread ones do not count
INPUT_BYTES_MAX: Final = 1 << 21  # a line without an end is not held beyond this
LINES_MAX: Final = 256  # lines read ahead of the daemon; beyond it the input waits
LOSSES_MAX: Final = 5  # connections lost in a row without a message in between
RESPAWNS_MAX: Final = 3  # times a dead process is started for one line
GO_ON: Final = "Please go on."


class Chat:
    """A chat with one process, over as many connections and daemons as it takes."""

    def __init__(
        self,
        directory: Path,
        name: str,
        options: daemon.Options,
        screen: Screen,
        *,
        sampling: Sampling | None = None,
        keep: bool,
        one_by_one: bool,
    ) -> None:
        """`sampling`: how the words of its process are to be drawn; None: nobody said, as is recommended for the model.

        `one_by_one`: a line is sent when the reply to the last has come, as is right for a pipe.
        """
        self.directory, self.name, self.options, self.screen = directory, name, options, screen
        self._sampling = sampling
        self.keep, self.one_by_one = keep, one_by_one
        self.talk = Conversation(screen, name)
        self.child: subprocess.Popen[bytes] | None = None  # the daemon, if this chat started it
        self._ours: bool | None = None  # whether the first daemon was started by this chat; None: there was none yet
        self.typed, self._lines = trio.open_memory_channel[str](LINES_MAX)
        self._unsent: deque[tuple[str, str]] = deque()  # (mid, text) without an acknowledgement
        self._mine: set[str] = set()  # mids of all lines of this chat
        self._open: dict[str, None] = {}  # mids of those that were sent and have no reply yet
        self._question = Question(self.talk)
        self._over = trio.Event()  # there are none, or the user has a question to answer first
        self._last = ""  # what the user said last
        self._client: Client | None = None
        self._pressed = False  # Ctrl-C, since the last line
        self._halted = False  # by Ctrl-C: that there is no reply need not be said
        self._unfinished: Message | None = None  # shown whole, its acknowledgement not yet certain
        self._showing = trio.Lock()  # one message at a time is shown, acknowledged and made final
        self._since: int | None = None  # last log number seen
        self._greeted = False
        self._left = False
        self._stopped = False  # the kernel was told to stop
        self._losses = 0  # in a row

    async def run(self) -> None:
        """The chat's life, until the user leaves. Raises KernelError if it cannot go on."""
        try:
            while True:  # until the user leaves, or daemons die one after the other
                try:
                    await self._have_daemon()
                    await self._connection()
                except Disconnected as exc:
                    self._losses += 1
                    if self._losses > LOSSES_MAX:
                        raise Disconnected(
                            f"the kernel was lost {self._losses} times; see {self.directory / daemon.LOG}"
                        ) from exc
                if self._left:
                    return
                self._client = None
                if self._unfinished is None:
                    self.talk.lost()
                if self._stopped:
                    raise BadInput("the kernel was stopped; begin the chat again to go on")
                self.talk.say("the connection to the kernel broke")
        finally:
            if self.child is not None and self._ours and not self.keep:
                with trio.CancelScope(shield=True):
                    await self._stop_daemon(self.child)

    async def _have_daemon(self) -> None:
        """Return when a daemon answers; start one if none does."""
        if self.child is not None and self.child.poll() is not None:
            self.child = None
        if await daemon.answers(self.directory):
            self._ours = bool(self._ours)
            if not self._greeted and self.options != daemon.Options(cpu=self.options.cpu):
                self.talk.say("a kernel runs here already; --model, --window and --set are for one that starts")
            return
        if self._greeted:
            self.talk.say("starting the kernel again")

        def progress(waited_s: float) -> None:
            if not self._unfinished:
                self.screen.wait(f"starting the kernel ... {waited_s:.0f} s")

        self.child = await daemon.start(self.directory, self.options, progress)
        if self._ours is None:
            self._ours = self.child is not None

    async def _stop_daemon(self, child: subprocess.Popen[bytes]) -> None:
        if child.poll() is not None:
            return
        self.screen.wait("stopping the kernel ...")
        try:
            await daemon.stop(self.directory, child)
        except KernelError as exc:
            child.terminate()
            self.screen.note(str(exc))

    async def _connection(self) -> None:
        """One connection, from hello until the user leaves. Raises Disconnected if it is lost."""
        failure: BaseException | None = None
        try:
            async with connect(self.directory / SOCKET) as client:
                await self._prepare(client)
                self._client = client
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pushes, client)
                    await self._inputs(client)
                    nursery.cancel_scope.cancel()
        except* KernelError as group:
            failure = leaf(group)
        if failure is not None:
            raise failure

    # The beginning of a connection.

    async def _prepare(self, client: Client) -> None:
        """Find or make the process, subscribe, and show what it has said that nobody has seen."""
        serving = await client.ask(wire.Info(id=0), wire.Serving)
        view = await self._process(client)
        self.talk.pid, self.talk.encoding = view.pid, view.encoding
        self.talk.only_speaks = view.calls == ("send_message",)
        await client.ask(wire.Subscribe(id=0, since=self._since, proc=view.pid), wire.Ok)
        if self._since is None:
            self._since = serving.lsn
        if self._unfinished is not None:
            await self._finish(client, self._unfinished)
        since = self.talk.shown if self._greeted else None  # what others have acknowledged meanwhile was said here, too
        unread = (await client.ask(wire.Outbox(id=0, proc=view.pid, since=since), wire.Messages)).messages
        if not self._greeted:
            self.talk.shown = view.acked
            self.talk.say(f"{view.name}: {view.model}, window {serving.window:,}; /help tells what else there is")
            for line in banner(view.model):
                self.talk.say(line)
            if self._sampling is not None and (view.sampling or Sampling()) != self._sampling:
                how = f"`llmos set {view.name} sample=...` changes it"
                self.talk.say(f"{view.name} was here before and keeps its sampling, {written(view.sampling)}; {how}")
            pages = (await client.ask(wire.History(id=0, proc=view.pid, limit=HISTORY_PAGES), wire.Pages)).pages
            for page, text in history(pages, unread):
                self.screen.old("you" if page.origin is Origin.USER else self.talk.name, text)
            self._greeted = True
        for message in unread:
            await self._show(client, message)
        if serving.damaged:
            self.talk.say(f"searches find nothing until the next boot: the index is damaged ({serving.damaged})")
        elif serving.trouble:
            self.talk.say(f"the index: {serving.trouble}")
        elif serving.pages - serving.indexed > daemon.INDEX_BEHIND:
            self.talk.say(f"the index is being built, {serving.indexed} of {serving.pages} pages; searches wait for it")
        await self._look(client)
        await self._question.look(client)
        self._closed()

    async def _process(self, client: Client) -> ProcessView:
        """The process of this chat: as it is, made anew, or, when the chat begins, woken from the dead."""
        try:
            view = await self._view(client)
        except Refused:
            if self.name.isdigit():
                raise
            await started(client, Spec(self.name, sampling=settled(self._sampling or RECOMMENDED)))
            return await self._view(client)
        self.talk.name = view.name
        if view.state is State.ZOMBIE and not self._greeted:
            await self._again(client, view)
        return view

    async def _view(self, client: Client) -> ProcessView:
        return (await client.ask(wire.Ps(id=0, proc=self.talk.pid or self.name), wire.Processes)).processes[0]

    async def _again(self, client: Client, view: ProcessView) -> None:
        """Start a dead process again."""
        await started(client, Spec(view.name))
        self.talk.say(f"{view.name} was dead ({view.status}); it is started again and has its memory")

    # What the process says.

    async def _pushes(self, client: Client) -> None:
        while True:  # until the connection ends
            push = await client.receive()
            match push:
                case wire.Token():
                    self.talk.token(push.streamed)
                case wire.Said():
                    await self._show(client, push.message)
                case wire.Logged():
                    self._since = push.entry.lsn
                    heard = push.entry.heard
                    if heard is not None and heard.mid not in self._mine:
                        self.talk.heard(heard.text)
                    for note in push.entry.notes:
                        self.talk.note(note)
                    if any(note.what is What.CALL for note in push.entry.notes):
                        await self._question.look(client)
                        self._closed()
                    if turns(push):
                        await self._look(client)
                case wire.Ended():
                    self._stopped = push.stopping
                    raise Disconnected(push.error)
                case _:
                    assert_never(push)

    async def _show(self, client: Client, message: Message) -> None:
        """Show a message, acknowledge it, and only then make it final."""
        async with self._showing:
            if self.talk.message(message):
                self._unfinished = message
                await self._finish(client, message)

    async def _finish(self, client: Client, message: Message) -> None:
        await client.ask(wire.Ack(id=0, pid=message.pid, upto=message.seq), wire.Ok)
        self._unfinished = None
        self.talk.final(message)
        self._losses = 0
        self._closed(*self.talk.answered)

    def _closed(self, *mids: str) -> None:
        """There is nothing more to wait for of these lines."""
        for mid in mids:
            self._open.pop(mid, None)
        self.screen.working(self.talk.name, bool(self._open))
        if not self._open or self._question.asked is not None:  # a pipe goes on: it may have the answer
            self._over.set()
        elif self._over.is_set():
            self._over = trio.Event()

    async def _look(self, client: Client) -> None:
        """See which turns of lines that wait have ended, with a reply or without."""
        for mid in list(self._open):
            replied = await client.ask(wire.Wait(id=0, mid=mid), wire.Replied)
            if replied.reply.standing is Standing.OPEN:
                continue
            for message in replied.reply.messages:
                await self._show(client, message)
            if mid in self._open and not self._halted:
                self.talk.say(f"{self.talk.name} ended its turn without a reply")
            self._closed(mid)

    # What the user says.

    async def _inputs(self, client: Client) -> None:
        while True:  # until the user leaves
            while self._unsent:
                await self._send(client, *self._unsent[0])
            if self.one_by_one and self._open:
                await self._over.wait()
            try:
                line = await self._lines.receive()
            except trio.EndOfChannel:
                line = "/quit"
            self._pressed = self._halted = False
            if line.startswith("/") and not line.startswith("//") and "\n" not in line:
                await self._command(client, line)
                if self._left:
                    return
            elif line.strip():
                self._say(line[1:] if line.startswith("//") else line)

    def _say(self, text: str) -> None:
        """Send a line, when its turn comes."""
        mid = new_mid()
        self._mine.add(mid)
        self._last = text
        self._unsent.append((mid, text))

    def interrupted(self) -> bool:
        """Ctrl-C: stop what is being said; False if there is nothing to stop, and the user is to leave."""
        if self._pressed:
            return False
        self._pressed = True
        if not self._open:
            self.talk.say("Ctrl-C again leaves, as /quit does")
            return True
        self._halted = True
        return True

    async def halt(self) -> None:
        """End the turn under way, if Ctrl-C asked for it."""
        client = self._client
        if self._halted and client is not None:
            try:
                await client.ask(wire.Halt(id=0, proc=self.talk.pid), wire.Ok)
            except (Refused, Disconnected) as exc:
                self.talk.say(f"not stopped: {exc}")

    async def _command(self, client: Client, line: str) -> None:
        match line.split()[0]:
            case "/quit":
                self._left = True
            case "/retry":
                last = self._last or await commands.said_last(client, self.talk.pid)
                self._say(last) if last else self.talk.say("you have said nothing yet")
            case "/continue":
                self._say(GO_ON)
            case "/allow" | "/deny":
                await self._question.answer(client, yes=line.startswith("/allow"))
                self._closed()
            case _:
                await commands.told(client, self.talk, line)

    async def _send(self, client: Client, mid: str, text: str) -> None:
        """Send a line until it is acknowledged or refused for good; start the process again if it is dead."""
        respawns = 0
        while True:  # until acknowledged or refused for good
            try:
                await client.ask(wire.Send(id=0, proc=self.talk.pid, mid=mid, text=text), wire.Ok)
                break
            except (Refused, BadInput) as exc:
                retry_s = exc.retry_after_s if isinstance(exc, Refused) else None
                if retry_s is not None:
                    self.talk.say(str(exc))
                    await trio.sleep(retry_s)
                    continue
                view = await self._view(client)
                if view.state is State.ZOMBIE and respawns < RESPAWNS_MAX:
                    respawns += 1
                    await self._again(client, view)
                    continue
                self._unsent.popleft()
                if self.one_by_one:
                    raise
                self.talk.say(f"not sent: {exc}")
                return
        self._unsent.popleft()
        self.talk.sent(text)
        if mid not in self.talk.answered:
            self._open[mid] = None
            self._closed()
        await self._look(client)


async def started(client: Client, spec: Spec) -> None:
    """Make a process or wake it; another chat may have done so since this one looked."""
    try:
        await client.ask(wire.Spawn(id=0, spec=spec), wire.Ok)
    except Refused as exc:
        if exc.code != "exists":
            raise


async def read_lines(fd: int, send: trio.MemorySendChannel[str]) -> None:
    """Lines of a terminal, a pipe or a file, until its end. Raises BadInput for a line that never ends."""
    buffer = bytearray()
    async with send:
        while True:  # until the input ends
            with suppress(OSError):  # a file is always readable, and cannot be waited for
                await trio.lowlevel.wait_readable(fd)
            chunk = os.read(fd, 65_536)
            buffer += chunk
            *lines, rest = bytes(buffer).split(b"\n") if chunk else [bytes(buffer), b""]
            buffer = bytearray(rest)
            if len(buffer) > INPUT_BYTES_MAX:
                raise BadInput(f"a line of the input has more than {INPUT_BYTES_MAX} bytes; send it in parts")
            for line in lines:
                await send.send(line.decode("utf-8", "surrogateescape"))
            if not chunk:
                return


async def chat(
    directory: Path, name: str, options: daemon.Options, *, keep: bool, sampling: Sampling | None = None
) -> None:
    """The console on this process's standard input and output. Raises KernelError if it cannot go on."""
    interactive = sys.stdin.isatty()
    async with trio.open_nursery() as nursery:
        token = trio.lowlevel.current_trio_token()

        def soon(what: Callable[[], None]) -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(what)

        def typed(line: str | None) -> None:
            soon(lambda: took(line))

        def took(line: str | None) -> None:
            if line is None:
                talking.typed.close()
                return
            try:
                talking.typed.send_nowait(line)
            except (trio.WouldBlock, trio.ClosedResourceError):
                screen.note("too many lines wait for the kernel; this one was not sent")

        def interrupted() -> None:
            if interactive and talking.interrupted():
                nursery.start_soon(talking.halt)
            else:
                nursery.cancel_scope.cancel()

        async def leave_on_signals() -> None:
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
                async for number in signals:
                    interrupted() if number == signal.SIGINT else nursery.cancel_scope.cancel()

        screen: Screen
        edited = None
        if interactive and terminal(sys.stdout):
            from llmos.console.editor import Terminal

            history_file = directory / HISTORY
            edited = Terminal(history_file, colour=coloured(), typed=typed, interrupted=lambda: soon(interrupted))
            screen = edited
        else:
            screen = Plain(sys.stdout)
        talking = Chat(directory, name, options, screen, sampling=sampling, keep=keep, one_by_one=not interactive)
        nursery.start_soon(leave_on_signals)
        if edited is None:
            nursery.start_soon(read_lines, sys.stdin.fileno(), talking.typed)
            await talking.run()
        else:
            async with trio.open_nursery() as editing:
                editing.start_soon(edited.editor.life)
                await talking.run()
                editing.cancel_scope.cancel()
        nursery.cancel_scope.cancel()
