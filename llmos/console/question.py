"""What the kernel asks whoever sits at a chat: whether a call may be made, shown once and answered by a command.

Guarantee: an answer is to the question that was shown last, and to no other that has come in its place.
Not here: who is asked what (kernel/guard.py), when it is looked for (chat.py).
"""

from __future__ import annotations

from drivers.door import wire
from kernel.machine.held import Asking, question
from kernel.text import one_line
from llmos.client import Client, Refused
from llmos.console.conversation import Conversation


class Question:
    """Of the process that a chat is with, or of one that it waits for."""

    def __init__(self, talk: Conversation) -> None:
        self._talk = talk
        self.asked: Asking | None = None  # what the user was shown, and has not answered

    async def look(self, client: Client) -> None:
        """See what is asked now, and show it once."""
        asks = (await client.ask(wire.Ps(id=0, proc=self._talk.pid), wire.Processes)).processes[0].asks
        found = (await client.ask(wire.Caps(id=0, proc=asks), wire.Held)) if asks else None
        asked = found.rights.asks if found is not None else None
        if asked == self.asked:
            return
        self.asked = asked
        if found is not None and asked is not None:
            self._talk.say(f"{question(asked)}; /allow lets it, /deny does not")
            for page, text in found.texts.items():
                self._talk.say(f"page {page}, of {found.about[page].origin}: {one_line(text)}")

    async def answer(self, client: Client, *, yes: bool) -> None:
        """Let the call be made, or refuse it."""
        if self.asked is None:
            self._talk.say(f"{self._talk.name} asks for nothing")
            return
        try:
            await client.ask(wire.Allow(id=0, proc=self.asked.pid, req=self.asked.req, yes=yes), wire.Ok)
        except Refused as exc:
            self._talk.say(str(exc))
        await self.look(client)
