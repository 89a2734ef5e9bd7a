"""The chat's terminal: a line editor at the bottom, and above it what is said, as it is said.

On prompt_toolkit, which is imported here and nowhere else. It runs an event loop of its own in a thread of its own
(`run`); the chat draws from trio's thread, and what the user types comes back by the two functions that it is given.
Guarantees: Enter sends, also what was pasted as several lines; nothing is cut, however long a line is. What was typed
is kept in a file of its owner's alone, HISTORY_MAX entries of it. The terminal is given back as it was found.
A growing reply is shown by its last rows, and written out whole when it is final: so one that is struck out leaves no
trace but that it was.
Not here: what is drawn, and when (conversation.py), what a line means (chat.py).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio
from prompt_toolkit.application import Application, run_in_terminal
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.data_structures import Size
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import History
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import BufferControl, ConditionalContainer, FormattedTextControl, HSplit, Layout, Window
from prompt_toolkit.layout.dimension import Dimension
from prompt_toolkit.layout.processors import BeforeInput
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output

from drivers.disk import whole
from kernel.text import printable
from llmos.console.screen import inner, rows

HISTORY_MAX: Final = 500  # entries that are kept
ENTRY_CHARS_MAX: Final = 10_000  # a longer one is not kept: it is a document
KEPT_ROWS: Final = 6  # of the terminal, for the line that is typed and what stands around it
FRAMES: Final = "|/-\\"  # of the sign that the model works
FRAME_S: Final = 0.25
REDRAW_S: Final = 0.1  # between two redrawings: a reply comes faster than anybody reads
PROMPT: Final = "you> "


class Typed(History):
    """What was typed, in a file of JSON strings, a line each, the newest last."""

    def __init__(self, file: Path) -> None:
        self._file = file
        super().__init__()

    def load_history_strings(self) -> Iterable[str]:
        """The newest first. A file that cannot be read is none."""
        import msgspec

        found: list[str] = []
        with suppress(OSError):
            lines = self._file.read_bytes().splitlines()
            for line in lines[-HISTORY_MAX:]:
                with suppress(msgspec.DecodeError):
                    found.append(msgspec.json.decode(line, type=str))
            if len(lines) > len(found):
                whole.write(self._file, b"".join(map(_line, found)), sync=False)
        return reversed(found)

    def store_string(self, string: str) -> None:
        """Keep one more, if there is a file to keep it in."""
        if len(string) <= ENTRY_CHARS_MAX:
            with suppress(OSError):
                flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_APPEND
                with open(os.open(self._file, flags, 0o600), "wb") as file:
                    file.write(_line(string))


def _line(entry: str) -> bytes:
    import msgspec

    return msgspec.json.encode(entry) + b"\n"


def _size() -> Size:
    size = shutil.get_terminal_size()
    return Size(rows=size.lines or 24, columns=size.columns or 80)


class LineEditor:
    """The line at the bottom of a terminal, and what is written above it. `run` in a thread; all else from any."""

    def __init__(
        self,
        history: Path,
        passing: Callable[[], StyleAndTextTuples],
        *,
        colour: bool,
        typed: Callable[[str | None], None],
        interrupted: Callable[[], None],
    ) -> None:
        """`passing` is what stands above the line and will go. `typed` and `interrupted` as Terminal has them."""
        self._typed, self._interrupted = typed, interrupted
        self._above: deque[str] = deque()  # to be written above the line
        self._writing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self.turning = False  # a sign is to be seen to turn
        self.output = Vt100_Output(sys.stdout, _size, term=os.environ.get("TERM"), enable_cpr=False)
        self._buffer = Buffer(multiline=True, history=Typed(history), accept_handler=self._accept)
        prompt = BeforeInput(PROMPT, style="bold ansigreen" if colour else "")
        line = BufferControl(self._buffer, input_processors=[prompt])
        top = Window(FormattedTextControl(passing), wrap_lines=True, dont_extend_height=True)
        self._app: Application[None] = Application(
            Layout(
                HSplit(
                    [
                        ConditionalContainer(top, Condition(lambda: bool(passing()))),
                        Window(line, wrap_lines=True, dont_extend_height=True, height=Dimension(min=1)),
                    ]
                ),
                focused_element=line,
            ),
            key_bindings=self._keys(),
            output=self.output,
            color_depth=ColorDepth.default() if colour else ColorDepth.DEPTH_1_BIT,
            min_redraw_interval=REDRAW_S,
        )
        self._prompt = f"\x1b[1;32m{PROMPT}\x1b[0m" if colour else PROMPT

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("enter")
        def _(event: KeyPressEvent) -> None:
            if event.current_buffer.text.strip():
                event.current_buffer.validate_and_handle()

        @keys.add("escape", "enter")
        @keys.add("c-j")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add("c-c")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.reset()
            self._interrupted()

        @keys.add("c-d", filter=Condition(lambda: not self._buffer.text))
        def _(event: KeyPressEvent) -> None:
            self._typed(None)

        return keys

    def _accept(self, buffer: Buffer) -> bool:
        self.write(self._prompt + inner(printable(buffer.text)))
        self._typed(buffer.text)
        return False

    def run(self) -> None:
        """Edit lines until `close`, or until the terminal is gone."""

        async def life() -> None:
            self._loop = asyncio.get_running_loop()
            if not self._closed:
                await self._app.run_async(pre_run=self._drain, handle_sigint=False, set_exception_handler=False)

        try:
            with suppress(EOFError):
                asyncio.run(life())
        finally:
            self._loop = None
            self._typed(None)
            for text in self._above:
                self.output.write_raw(text + "\n")
            self.output.flush()

    async def life(self) -> None:
        """`run` in a thread, from trio; returns when the thread has, and closes it when cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_cancelled)
            with trio.CancelScope(shield=True):  # the terminal is given back, whatever happens
                await trio.to_thread.run_sync(self.run)
            nursery.cancel_scope.cancel()

    async def _until_cancelled(self) -> None:
        try:
            while True:  # until cancelled
                await trio.sleep(FRAME_S)
                if self.turning:
                    self.redraw()
        finally:
            self.close()

    def close(self) -> None:
        """Let `run` return."""
        self._closed = True
        self._soon(self._exit)

    def _exit(self) -> None:
        with suppress(Exception):  # it has ended by itself
            self._buffer.reset()
            self._app.exit()

    def _soon(self, what: Callable[[], None]) -> None:
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it has just ended
                loop.call_soon_threadsafe(what)

    def redraw(self) -> None:
        """What passes is another now."""
        self._soon(self._app.invalidate)

    def write(self, text: str) -> None:
        """A whole line above the editor, or several."""
        self._above.append(text)
        self._soon(self._drain)

    def _drain(self) -> None:
        """Write what waits above the editor, if that is not under way."""
        if self._closed:
            self._exit()
        elif self._above and not self._writing:
            self._writing = True
            asyncio.ensure_future(self._write_above())

    async def _write_above(self) -> None:
        def write() -> None:
            while self._above:
                self.output.write_raw(self._above.popleft() + "\n")
            self.output.flush()

        try:
            while self._above and self._app.is_running:  # ends when nothing is left
                await run_in_terminal(write)
        finally:
            self._writing = False


class Terminal:
    """A Screen (screen.py) with a line editor; drawn from the chat's thread."""

    def __init__(
        self, history: Path, *, colour: bool, typed: Callable[[str | None], None], interrupted: Callable[[], None]
    ) -> None:
        """`typed` is called with what the user sends, None: the user leaves; `interrupted`, on Ctrl-C."""
        self.colour = colour
        self._who, self._half = "", ""  # the reply that is not final
        self._status = ""  # what takes long
        self._thought = ""  # what was thought before the reply
        self._working_since = 0.0  # 0: the model has nothing to do
        self.editor = LineEditor(history, self._passing, colour=colour, typed=typed, interrupted=interrupted)

    def _passing(self) -> StyleAndTextTuples:
        """What stands above the line and will go: a growing reply by its last rows, or what takes long."""
        if self._half:
            return [("bold ansicyan" if self.colour else "", f"{self._who}> "), ("", self._end(self._half))]
        if self._thought:
            return [("ansibrightblack" if self.colour else "", f"{self._who} thinks: {self._end(self._thought)}")]
        if self._status:
            return [("ansibrightblack" if self.colour else "", f"· {self._status}")]
        if self._working_since:
            waited_s = time.monotonic() - self._working_since
            frame = FRAMES[int(waited_s / FRAME_S) % len(FRAMES)]
            return [("ansibrightblack" if self.colour else "", f"{frame} {self._who} works, {waited_s:.0f} s")]
        return []

    def _end(self, text: str) -> str:
        """The last rows of a growing text, as many as there is room for."""
        size = self.editor.output.get_size()
        room = max(1, size.rows - KEPT_ROWS)
        shown = inner(text[-room * size.columns :]).split("\n")
        while len(shown) > 1 and rows("\n".join(shown), size.columns) > room:  # each round takes a line
            del shown[0]
        return "\n".join(shown)

    def _write(self, text: str) -> None:
        """A whole line above the editor, or several."""
        self._status = self._thought = ""
        self.editor.write(text)

    def _styled(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text

    def width(self) -> int:
        """See Screen."""
        return shutil.get_terminal_size().columns

    def working(self, who: str, on: bool) -> None:
        """See Screen."""
        self._who = who
        self._working_since = (self._working_since or time.monotonic()) if on else 0.0
        self.editor.turning = on
        self.editor.redraw()

    def thinks(self, who: str, text: str) -> None:
        """See Screen."""
        self._who, self._thought = who, text
        self.editor.redraw()

    def begin(self, who: str) -> None:
        """See Screen."""
        self._who, self._thought = who, ""

    def add(self, text: str) -> None:
        """See Screen."""
        self._half += text
        self.editor.redraw()

    def end(self) -> None:
        """See Screen."""
        half, self._half = self._half, ""
        self._write(self._styled(f"{self._who}> ", "1;36") + inner(half))

    def strike(self) -> None:
        """See Screen."""
        half, self._half = f"{self._who}> {inner(self._half)}", ""
        self._write(self._styled(half, "2;9") if self.colour else f"{half} [struck out]")

    def sent(self, text: str) -> None:
        """See Screen: it stands where it was typed."""

    def heard(self, text: str) -> None:
        """See Screen."""
        self._write(self._styled("you, elsewhere> ", "32") + inner(text))

    def note(self, text: str) -> None:
        """See Screen."""
        self._write(self._styled(f"· {text}", "2"))

    def old(self, who: str, text: str) -> None:
        """See Screen."""
        self._write(self._styled(f"{who}> {inner(text)}", "2"))

    def picture(self, text: str) -> None:
        """See Screen."""
        self._write(text)

    def wait(self, text: str) -> None:
        """See Screen."""
        self._status = text
        self.editor.redraw()
