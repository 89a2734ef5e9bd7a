"""What a process says, drawn on a screen as it says it: pushes in, drawing out.

Guarantees, sans-IO:
- A message is shown once by its number, and is final only when `final` says so, which its caller does after the
  acknowledgement.
- Tokens are shown as they come. A half-shown reply is struck out when its attempt is superseded, when another message
  comes instead, or when the connection ends; what else there is to say waits until no reply is half.
- No text of a model's moves the cursor: all of it is made printable.
Not here: how it is drawn (screen.py), the connection and what the user types (chat.py).
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from kernel.event import Message, Note, What
from kernel.memory.page import Origin, Page
from kernel.ports import Streamed
from kernel.text import printable
from llmos.console.screen import Screen
from llmos.tables import describe
from syscalls.spoken import spoken

HISTORY_LINES: Final = 6  # messages shown when a chat begins
THOUGHT_CHARS: Final = 2_000  # of a thought that are shown, from its end
HISTORY_CHARS: Final = 300  # of each but the last
SHOWN_NOTES: Final = (
    *(What.INTERRUPT, What.FAULT, What.EVICT, What.FOLD, What.TURN, What.SUMMARY, What.FACT),
    *(What.SUSPEND, What.RESUME, What.THRASH, What.ERROR, What.EXIT),
)


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
        self._thought = ""  # what was thought before it
        self._later: deque[Callable[[], None]] = deque()  # to be drawn once no reply is half shown

    def token(self, streamed: Streamed) -> None:
        """Tokens came. Those of an attempt whose beginning was missed are left to its message."""
        if streamed.pid != self.pid:
            return
        attempt = (streamed.tag.instr, streamed.tag.attempt)
        if attempt < self._attempt:
            return
        if attempt > self._attempt:
            self._strike()
            self._attempt, self._raw, self._thought = attempt, None, ""
        if streamed.thought:
            self._thought += streamed.text
            self.screen.thinks(self.name, printable(self._thought[-THOUGHT_CHARS:]))
            return
        if streamed.offset == 0:
            self._raw = ""
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
        """Show a message whole, but not yet final; False if it was shown before. `final` is to follow.

        What the kernel asks is not said by the process: whoever talks to it shows it in a line of the kernel's (`say`).
        """
        if message.pid != self.pid or message.seq <= self.shown:
            return False
        if message.asks:
            self._strike()
            return True
        text = printable(message.text)
        if self._half and not (message.instr == self._attempt[0] and text.startswith(self._half)):
            self._strike()
        self._grow(text)
        return True

    def final(self, message: Message) -> None:
        """The message is acknowledged: it is final on the screen."""
        if not message.asks:
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
        if note.what in (What.EXIT, What.TURN) and note.pid == self.pid:  # what is half said is not going to be
            self._strike()
        if note.what in SHOWN_NOTES and note.pid in (0, self.pid):
            self.say(describe(note))

    def say(self, text: str) -> None:
        """A line that is not the process's, once no reply is half shown."""
        self._later.append(functools.partial(self.screen.note, printable(text)))
        self._flush()

    def sent(self, text: str) -> None:
        """A line of the user's was acknowledged."""
        self._later.append(functools.partial(self.screen.sent, printable(text)))
        self._flush()

    def heard(self, text: str) -> None:
        """The process was sent a message from elsewhere."""
        self._later.append(functools.partial(self.screen.heard, printable(text)))
        self._flush()

    def picture(self, text: str) -> None:
        """A picture that the user asked for, drawn and printable."""
        self._later.append(functools.partial(self.screen.picture, text))
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
