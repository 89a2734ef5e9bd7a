"""What a chat shows on request: its commands, but for those that say something or leave (chat.py)."""

from __future__ import annotations

from typing import Final

from drivers.door import wire
from kernel.memory.page import Origin
from llmos import pictures, tables
from llmos.client import Client
from llmos.console.conversation import Conversation
from llmos.console.screen import drawn

PAGES: Final = 64  # looked through for what was said last
PICTURE_WIDTH: Final = 160  # of a picture in a file
COMMANDS: Final = {
    "/retry": "send your last message again",
    "/continue": "have it go on where it stopped",
    "/allow": "let it make the call that it asks about",
    "/deny": "do not",
    "/core": "core memory",
    "/model": "which model it is, and its window",
    "/ps": "processes",
    "/pmap": "address space",
    "/help": "this",
    "/quit": "leave",
}
HELP: Final = "; ".join(f"{name} {what}" for name, what in COMMANDS.items()) + "; // begins a line with a slash"
KEYS: Final = "Enter sends, Alt-Enter begins a new line; Ctrl-C stops the reply, and once more leaves; Ctrl-D leaves"


async def told(client: Client, talk: Conversation, line: str) -> None:
    """Show what a command asks for; one that is none is told which there are."""
    screen = talk.screen
    match line.split()[0]:
        case "/core":
            spec = (await client.ask(wire.Describe(id=0, proc=talk.pid), wire.Made)).process.spec
            for label, text in spec.blocks.items():
                talk.say(f"{label}: {text}")
            if not spec.blocks:
                talk.say(f"{talk.name} has no core memory; llmos core {talk.name} writes some")
        case "/model":
            serving = await client.ask(wire.Info(id=0), wire.Serving)
            view = (await client.ask(wire.Ps(id=0, proc=talk.pid), wire.Processes)).processes[0]
            talk.say(f"{view.model}, window {serving.window:,}; this machine has {serving.model}")
        case "/ps":
            processes = (await client.ask(wire.Ps(id=0), wire.Processes)).processes
            talk.picture("\n".join(tables.ps(processes, colour=screen.colour, width=screen.width())))
        case "/pmap":
            space = (await client.ask(wire.Pmap(id=0, proc=talk.pid), wire.Mapped)).map
            colour, width = screen.colour, screen.width() or PICTURE_WIDTH
            talk.picture(drawn(pictures.pmap(space, colour=colour), colour=colour, width=width))
        case "/help":
            for name, what in COMMANDS.items():
                talk.say(f"{name:10} {what}")
            talk.say(f"//...      a message that begins with a slash. {KEYS}")
        case other:
            talk.say(f"{other}: no such command; {HELP}")


async def said_last(client: Client, pid: int) -> str:
    """What a process was told last, by whichever client; "" if nothing is found."""
    pages = (await client.ask(wire.History(id=0, proc=pid, limit=PAGES), wire.Pages)).pages
    told = [page for page in pages if page.origin is Origin.USER]
    return "".join(page.text for page in told if page.at == told[-1].at)  # a long one is in pages of one moment
