"""The chat console: what is said, as it is said, and what the kernel does meanwhile.

Guarantees, whatever dies in between:
- A line of the user's is sent under one message id until it is acknowledged: it is applied once.
- A message of the process is final on the screen only after the daemon has our acknowledgement on disk, so none is
  final twice; until then it stays in the outbox, and the next chat shows it. One that was acknowledged by a chat which
  died before it could say so is the last line of the next chat's history.
- Tokens are shown as they come. A half-shown reply is struck out and said again when its attempt is superseded, or when
  the connection ends before its message came.
When the daemon is gone it is started again. A daemon that this chat started is stopped when the chat ends (`--keep`
leaves it); one that ran before is left alone. Ctrl-C ends the chat, as /quit and the end of the input do.

Conversation is sans-IO: pushes in, drawing on a Screen out. Chat is its life on a connection.
"""

from __future__ import annotations

import functools
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol, TextIO, assert_never

import trio
from rich.console import RenderableType

from drivers.door import wire
from kernel.errors import BadInput, KernelError
from kernel.event import Message, Note
from kernel.machine.views import ProcessView
from kernel.memory.page import Origin, Page
from kernel.ports import Streamed
from kernel.process import State
from llmos import daemon, pictures
from llmos.client import SOCKET, Client, Disconnected, Refused, connect, leaf, new_mid, turns
from syscalls.abi import TRAP_MARK

HISTORY_LINES: Final = 6  # messages shown when a chat begins
HISTORY_PAGES: Final = 64  # looked through for them: unread ones do not count
HISTORY_CHARS: Final = 300  # of each but the last
PLAIN_WIDTH: Final = 160  # of tables in a file
INPUT_BYTES_MAX: Final = 1 << 21  # a line without an end is not held beyond this
LINES_MAX: Final = 256  # lines read ahead of the daemon; beyond it the input waits
LOSSES_MAX: Final = 5  # connections lost in a row without a message in between
RESPAWNS_MAX: Final = 3  # times a dead process is started for one line
SHOWN_NOTES: Final = ("interrupt", "fault", "evict", "fold", "turn", "suspend", "resume", "thrash", "error", "exit")
HELP: Final = "/ps processes, /pmap address space, /quit leave, /help this; // begins a line with a slash"

# A JSON string as far as it has come; a half escape or half a surrogate pair is left for the next token.
_SPOKEN = re.compile(
    r'\s*\{\s*"op"\s*:\s*"send_message"\s*,\s*"text"\s*:\s*"'
    r'((?:[^"\\]|\\["\\/bfnrt]|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*)'
)


def spoken(raw: str, encoding: str, *, only_speaks: bool = False) -> str:
    """What of an instruction, as far as it was emitted, will be said: "" for a syscall that says nothing.

    Grows with `raw`: the result of a prefix is a prefix of the result.
    """
    if encoding == "prose" and (only_speaks or not raw.startswith(TRAP_MARK)):
        return raw.strip()
    found = _SPOKEN.match(raw.removeprefix(TRAP_MARK) if encoding == "prose" else raw)
    return json.loads(f'"{found[1]}"', strict=False) if found else ""


def printable(text: str) -> str:
    """`text` without control characters: a model cannot move the cursor or colour the screen."""
    return "".join(c if c in "\n\t" or (c >= " " and not "\x7f" <= c <= "\x9f") else "\ufffd" for c in text)


class Screen(Protocol):
    """Where a conversation is drawn. A reply is half until `end` or `strike`; nothing else is drawn meanwhile."""

    def begin(self, who: str) -> None:
        """A reply of `who` begins."""
        ...

    def add(self, text: str) -> None:
        """It goes on."""
        ...

    def end(self) -> None:
        """It is final."""
        ...

    def strike(self) -> None:
        """It was not to be: what is there of it is struck out."""
        ...

    def sent(self, text: str) -> None:
        """A line of the user's was acknowledged."""
        ...

    def note(self, text: str) -> None:
        """Something of the kernel's."""
        ...

    def old(self, who: str, text: str) -> None:
        """A line of the history."""
        ...

    def picture(self, what: RenderableType) -> None:
        """A table or a picture that the user asked for."""
        ...

    def wait(self, text: str) -> None:
        """Something takes long; replaced by whatever comes next."""
        ...

    def prompt(self) -> None:
        """The user may type."""
        ...


class Plain:
    """A Screen of lines, for pipes and files: a line that has its end is final.

    `you> ` acknowledged, `NAME> ` said, `NAME> ... [struck out]` unsaid, `· ` the kernel's, `| ` history.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()

    def begin(self, who: str) -> None:
        self._write(f"{who}> ")

    def add(self, text: str) -> None:
        self._write(_inner(text))

    def end(self) -> None:
        self._write("\n")

    def strike(self) -> None:
        self._write(" [struck out]\n")

    def sent(self, text: str) -> None:
        self._write(f"you> {_inner(text)}\n")

    def note(self, text: str) -> None:
        self._write(f"· {text}\n")

    def old(self, who: str, text: str) -> None:
        self._write(f"| {who}> {_inner(text)}\n")

    def picture(self, what: RenderableType) -> None:
        self._write(drawn(what, colour=False, width=PLAIN_WIDTH))

    def wait(self, text: str) -> None:
        pass  # a file wants no progress

    def prompt(self) -> None:
        pass


class Terminal:
    """A Screen that redraws: notes are dim, a struck-out reply stays and is seen to be struck out."""

    PROMPT = "you> "

    def __init__(self, out: TextIO, *, colour: bool, width: Callable[[], int]) -> None:
        self._out, self._colour, self._width = out, colour, width
        self._half = ""  # what stands on the screen of a reply that is not final
        self._passing = False  # the cursor's line holds a prompt or progress, which may go
        self._prompting = False  # the user may type, so the prompt comes back after whatever is drawn

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()

    def _styled(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text

    def _cleared(self) -> str:
        passing, self._passing = self._passing, False
        return "\r\x1b[K" if passing else ""

    def _line(self, text: str) -> None:
        """A whole line, and the prompt after it."""
        self._write(f"{self._cleared()}{text}\n")
        if self._prompting:
            self.prompt()

    def begin(self, who: str) -> None:
        self._half = f"{who}> "
        self._write(self._cleared() + self._styled(self._half, "1;36"))

    def add(self, text: str) -> None:
        inner = _inner(text)
        self._half += inner
        self._write(inner)

    def end(self) -> None:
        self._half = ""
        self._line("")

    def strike(self) -> None:
        half, self._half = self._half, ""
        if not self._colour:
            self._line(" [struck out]")
            return
        rows = _rows(half, self._width())
        up = f"\x1b[{rows - 1}A" if rows > 1 else ""
        self._line(f"\r{up}\x1b[J" + self._styled(half.replace("\n", "\x1b[0m\n\x1b[2;9m"), "2;9"))

    def sent(self, text: str) -> None:
        pass  # it stands where it was typed

    def note(self, text: str) -> None:
        self._line(self._styled(f"· {text}", "2"))

    def old(self, who: str, text: str) -> None:
        self._line(self._styled(f"{who}> {_inner(text)}", "2"))

    def picture(self, what: RenderableType) -> None:
        self._line(drawn(what, colour=self._colour, width=self._width()).rstrip("\n"))

    def wait(self, text: str) -> None:
        self._write("\r\x1b[K" + self._styled(f"· {text}", "2"))
        self._passing = True

    def prompt(self) -> None:
        self._prompting = True
        if not self._half:
            self._write(self._cleared() + self._styled(self.PROMPT, "1;32"))
            self._passing = True

    def typed(self) -> None:
        """The user has ended a line: the cursor stands on a new one."""
        self._passing = self._prompting = False


def drawn(what: RenderableType, *, colour: bool, width: int) -> str:
    """A renderable as text."""
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, force_terminal=colour, no_color=not colour, width=width, legacy_windows=False).print(what)
    return out.getvalue()


def _inner(text: str) -> str:
    """A text of several lines, with those after the first set in."""
    return text.replace("\n", "\n     ")


def _rows(text: str, width: int) -> int:
    """Rows of a terminal that a text takes."""
    from rich.cells import cell_len

    return sum(max(1, math.ceil(cell_len(line) / max(1, width))) for line in text.split("\n"))


class Conversation:
    """What a process says, on a screen: each message once by number, tokens before it, notes around it."""

    def __init__(self, screen: Screen, name: str) -> None:
        self.screen, self.name = screen, name
        self.pid = 0
        self.encoding, self.only_speaks = "json", False
        self.shown = 0  # number of the last message shown
        self.answered: set[str] = set()  # message ids that a final message ended the turn of
        self._attempt = (0, 0)  # instruction and attempt that is being emitted
        self._raw: str | None = None  # its text so far; None: its beginning was missed
        self._half = ""  # what of it stands on the screen
        self._later: deque[Callable[[], None]] = deque()  # to be drawn once no reply is half shown

    def token(self, streamed: Streamed) -> None:
        """Tokens came. Those of an attempt whose beginning was missed are left to its message."""
        if streamed.pid != self.pid:
            return
        attempt = (streamed.instr, streamed.attempt)
        if attempt < self._attempt:
            return
        if attempt > self._attempt:
            self._strike()
            self._attempt, self._raw = attempt, "" if streamed.offset == 0 else None
        if self._raw is None:
            return
        self._raw += streamed.text
        self._grow(printable(spoken(self._raw, self.encoding, only_speaks=self.only_speaks)))

    def _grow(self, text: str) -> None:
        if text.startswith(self._half) and text != self._half:
            if not self._half:
                self.screen.begin(self.name)
            self.screen.add(text[len(self._half) :])
            self._half = text

    def message(self, message: Message) -> bool:
        """Show a message whole, but not yet final; False if it was shown before. `final` is to follow."""
        if message.pid != self.pid or message.seq <= self.shown:
            return False
        text = printable(message.text)
        if self._half and not (message.instr == self._attempt[0] and text.startswith(self._half)):
            self._strike()
        self._grow(text)
        return True

    def final(self, message: Message) -> None:
        """The message is acknowledged: it is final on the screen."""
        self.screen.end()
        self._half, self._raw = "", None
        self.shown = message.seq
        if message.ends:
            self.answered.update(message.answers)
        if message.truncated:
            self.say("the reply reached its limit (cpu.reply)")
        self._flush()

    def note(self, note: Note) -> None:
        """Something happened in the kernel."""
        if note.what == "exit":
            self._strike()
        if note.what in SHOWN_NOTES and note.pid in (0, self.pid):
            self.say(pictures.describe(note))

    def say(self, text: str) -> None:
        """A line that is not the process's, once no reply is half shown."""
        self._later.append(functools.partial(self.screen.note, printable(text)))
        self._flush()

    def sent(self, text: str) -> None:
        """A line of the user's was acknowledged."""
        self._later.append(functools.partial(self.screen.sent, printable(text)))
        self._flush()

    def picture(self, what: RenderableType) -> None:
        """A picture that the user asked for."""
        self._later.append(functools.partial(self.screen.picture, what))
        self._flush()

    def lost(self) -> None:
        """The connection ended: what has no message yet will be said again."""
        self._strike()
        self._attempt = (0, 0)

    def _strike(self) -> None:
        if self._half:
            self.screen.strike()
        self._half, self._raw = "", None
        self._flush()

    def _flush(self) -> None:
        while self._later and not self._half:
            self._later.popleft()()


class Chat:
    """A chat with one process, over as many connections and daemons as it takes."""

    def __init__(
        self, directory: Path, name: str, options: daemon.Options, screen: Screen, *, keep: bool, one_by_one: bool
    ) -> None:
        """`one_by_one`: a line is sent when the reply to the last has come, as is right for a pipe."""
        self.directory, self.name, self.options, self.screen = directory, name, options, screen
        self.keep, self.one_by_one = keep, one_by_one
        self.talk = Conversation(screen, name)
        self.child: subprocess.Popen[bytes] | None = None  # the daemon, if this chat started it
        self.typed, self._lines = trio.open_memory_channel[str](LINES_MAX)
        self._unsent: deque[tuple[str, str]] = deque()  # (mid, text) without an acknowledgement
        self._awaited = ""  # mid of the line whose reply is awaited
        self._over = trio.Event()  # there is nothing to await any more
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
                        raise Disconnected(f"the kernel was lost {self._losses} times; see {self._log}") from exc
                if self._left:
                    return
                if self._unfinished is None:
                    self.talk.lost()
                if self._stopped:
                    raise BadInput("the kernel was stopped; begin the chat again to go on")
                self.talk.say("the connection to the kernel broke")
        finally:
            if self.child is not None and not self.keep:
                with trio.CancelScope(shield=True):
                    await self._stop_daemon(self.child)

    @property
    def _log(self) -> Path:
        return self.directory / daemon.LOG

    async def _have_daemon(self) -> None:
        """Return when a daemon answers; start one if none does."""
        if self.child is not None and self.child.poll() is not None:
            self.child = None
        if await daemon.answers(self.directory):
            if not self._greeted and self.options != daemon.Options(cpu=self.options.cpu):
                self.talk.say("a kernel runs here already; --model, --window and --set are for one that starts")
            return
        if self._greeted:
            self.talk.say("starting the kernel again")

        def progress(waited_s: float) -> None:
            if not self._unfinished:
                self.screen.wait(f"starting the kernel ... {waited_s:.0f} s")

        self.child = await daemon.start(self.directory, self.options, progress)

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
        self.talk.pid, self.talk.encoding = view.pid, serving.encoding
        self.talk.only_speaks = view.mask == ("send_message",)
        await client.ask(wire.Subscribe(id=0, since=self._since, proc=view.pid), wire.Ok)
        if self._since is None:
            self._since = serving.lsn
        if self._unfinished is not None:
            await self._finish(client, self._unfinished)
        unread = (await client.ask(wire.Outbox(id=0, proc=view.pid), wire.Messages)).messages
        if not self._greeted:
            pages = (await client.ask(wire.History(id=0, proc=view.pid, limit=HISTORY_PAGES), wire.Pages)).pages
            for page, text in history(pages, unread):
                self.screen.old("you" if page.origin is Origin.USER else self.talk.name, text)
            self._greeted = True
        for message in unread:
            await self._show(client, message)
        if serving.damaged:
            self.talk.say(f"searches find nothing until the next boot: the index is damaged ({serving.damaged})")
        elif serving.pages - serving.indexed > daemon.INDEX_BEHIND:
            self.talk.say(f"the index is being built, {serving.indexed} of {serving.pages} pages; searches wait for it")
        await self._look(client)

    async def _process(self, client: Client) -> ProcessView:
        """The process of this chat: as it is, made anew, or, when the chat begins, woken from the dead."""
        try:
            view = await self._view(client)
        except Refused:
            if self.name.isdigit():
                raise
            await client.ask(wire.Spawn(id=0, name=self.name), wire.Ok)
            return await self._view(client)
        self.talk.name = view.name
        if view.state is State.ZOMBIE and not self._greeted:
            await self._again(client, view)
        return view

    async def _view(self, client: Client) -> ProcessView:
        return (await client.ask(wire.Ps(id=0, proc=self.talk.pid or self.name), wire.Processes)).processes[0]

    async def _again(self, client: Client, view: ProcessView) -> None:
        """Start a dead process again."""
        await client.ask(wire.Spawn(id=0, name=view.name), wire.Ok)
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
                    for note in push.entry.notes:
                        self.talk.note(note)
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
        if self._awaited in self.talk.answered:
            self._over.set()

    async def _look(self, client: Client) -> None:
        """See whether the turn of the awaited line has ended, with a reply or without."""
        mid = self._awaited
        if not mid or self._over.is_set() or any(mid == unsent for unsent, _ in self._unsent):
            return
        view = await self._view(client)
        if view.state is not State.ZOMBIE and (view.state is not State.IDLE or view.pending):
            return
        for message in (await client.ask(wire.Outbox(id=0, proc=view.pid), wire.Messages)).messages:
            await self._show(client, message)
        if mid == self._awaited and not self._over.is_set():
            self.talk.say(f"{view.name} ended its turn without a reply")
            self._over.set()

    # What the user says.

    async def _inputs(self, client: Client) -> None:
        while True:  # until the user leaves
            while self._unsent:
                await self._send(client, *self._unsent[0])
            if self._awaited:
                await self._over.wait()
                self._awaited = ""
            self.screen.prompt()
            try:
                line = await self._lines.receive()
            except trio.EndOfChannel:
                line = "/quit"
            if line.startswith("/") and not line.startswith("//"):
                await self._command(client, line)
                if self._left:
                    return
            elif line.strip():
                self._unsent.append((new_mid(), line.removeprefix("/")))

    async def _command(self, client: Client, line: str) -> None:
        match line.split()[0]:
            case "/quit":
                self._left = True
            case "/ps":
                self.talk.picture(pictures.ps((await client.ask(wire.Ps(id=0), wire.Processes)).processes))
            case "/pmap":
                space = (await client.ask(wire.Pmap(id=0, proc=self.talk.pid), wire.Mapped)).map
                self.talk.picture(pictures.pmap(space, colour=isinstance(self.screen, Terminal)))
            case "/help":
                self.talk.say(HELP)
            case other:
                self.talk.say(f"{other}: no such command; {HELP}")

    async def _send(self, client: Client, mid: str, text: str) -> None:
        """Send a line until it is acknowledged or refused for good; start the process again if it is dead."""
        if self.one_by_one:
            self._awaited, self._over = mid, trio.Event()
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
        if mid in self.talk.answered:
            self._over.set()
        await self._look(client)


def history(pages: Sequence[Page], unread: Sequence[Message]) -> list[tuple[Page, str]]:
    """The last messages that a new chat shows, without those that it will show as unread; all but the last are cut."""
    left = [message.text for message in unread]
    found: list[tuple[Page, str]] = []
    for page in reversed(pages):
        text = page.searched
        if page.origin is not Origin.USER and text.strip() in left:
            left.remove(text.strip())
            continue
        if len(found) == HISTORY_LINES:
            break
        cut = found and len(text) > HISTORY_CHARS
        found.append((page, printable(text[:HISTORY_CHARS] + " ..." if cut else text)))
    return found[::-1]


async def read_lines(fd: int, typed: Callable[[], None], send: trio.MemorySendChannel[str]) -> None:
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
                typed()
                await send.send(line.decode("utf-8", "surrogateescape"))
            if not chunk:
                return


async def chat(directory: Path, name: str, options: daemon.Options, *, keep: bool) -> None:
    """The console on this process's standard input and output. Raises KernelError if it cannot go on."""
    interactive, terminal = sys.stdin.isatty(), sys.stdout.isatty()
    screen: Screen
    if terminal:
        width = shutil.get_terminal_size().columns
        screen = Terminal(sys.stdout, colour="NO_COLOR" not in os.environ, width=lambda: width)
    else:
        screen = Plain(sys.stdout)
    talking = Chat(directory, name, options, screen, keep=keep, one_by_one=not interactive)
    async with trio.open_nursery() as nursery:

        async def leave_on_signals() -> None:
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

        nursery.start_soon(leave_on_signals)
        nursery.start_soon(read_lines, sys.stdin.fileno(), getattr(screen, "typed", lambda: None), talking.typed)
        await talking.run()
        nursery.cancel_scope.cancel()
    if terminal:
        sys.stdout.write("\n")
