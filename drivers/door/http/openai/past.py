"""What a client's history is to this machine: which process knows it, and what of it is new.

A client of OpenAI's protocol sends everything again with each message. A message's id is made of what the client says
came before it and of its own text, so who was told what stands on the disk (table `mid`), and needs no other table:

    v1.PAST.OWN.ATTEMPT      PAST: digest of what came before; OWN: of the text; ATTEMPT: how often it was asked again

The same past and text is the same message: sent again because the answer was lost, or asked again because it was not
liked; which of them, is what an acknowledgement says. Another text after a past that has been gone on from is an edit:
a fork, of the process as it was before the message that went on from it. A past that nobody knows is another server's.
Guarantee: an equal history finds an equal place, after whatever crash.
Not here: what is done with that (asking.py), how a request says its history (shapes.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from drivers.door import desk
from drivers.door.http.openai.tools import plain
from kernel import records
from kernel.event import Message
from kernel.machine.loop import Machine
from kernel.machine.replies import Reply, Sent
from kernel.ports import Reads

MARK: Final = "v1."  # of the message ids of this door
PAST_BYTES: Final = 16
OWN_BYTES: Final = 8
ATTEMPTS_MAX: Final = 999_999  # of one message; after that the last one is meant
CHILDREN_MAX: Final = 2_000  # messages after one past that are looked at
LATEST: Final = 200  # attempts of one message that are looked at
_MID: Final = re.compile(r"v1\.[0-9a-f]{32}\.[0-9a-f]{16}\.[0-9]{6}")
BETWEEN: Final = "\n\n"  # the messages of one turn, as one text


class Turn(msgspec.Struct, frozen=True):
    """What was said to a process and what it answered, as the client has it."""

    user: str
    assistant: str


class Known(msgspec.Struct, frozen=True):
    """A message that was sent: its id and place."""

    mid: str
    pid: int
    page: int

    @property
    def attempt(self) -> int:
        """Which one it is, of those with this past and text."""
        return int(self.mid.rpartition(".")[2])


def beginning(target: str, key: str = "") -> str:
    """The past of a first message to `target`; `key`: what the client calls the conversation."""
    return _digest(PAST_BYTES, "begin", target, key)


def after(past: str, user: str, assistant: str) -> str:
    """The past of what follows a turn."""
    return _digest(PAST_BYTES, past, own(user), assistant.strip())


def following(mid: str, assistant: str) -> str:
    """The past of what follows a message that was sent, and answered so."""
    return _digest(PAST_BYTES, past_of(mid), mid.split(".")[2], assistant.strip())


def own(text: str) -> str:
    """The digest of a text."""
    return _digest(OWN_BYTES, text.strip())


def message_id(past: str, text: str, attempt: int) -> str:
    """The id of a message."""
    return f"{MARK}{past}.{own(text)}.{min(attempt, ATTEMPTS_MAX):06d}"


def past_of(mid: str) -> str:
    """The past that stands in an id."""
    return mid.split(".")[1]


def is_own(mid: str) -> bool:
    """Whether a message came through this door."""
    return _MID.fullmatch(mid) is not None


def said_of(reply: Reply) -> tuple[Message, ...]:
    """What a message was answered, without what the kernel asked meanwhile."""
    return tuple(message for message in reply.messages if not message.asks)


def said(reply: Reply) -> str:
    """All that a message was answered, as one text."""
    return BETWEEN.join(message.text for message in said_of(reply))


class Past:
    """What the disk knows of pasts."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    async def children(self, past: str) -> list[Known]:
        """The messages that went on from a past, by text and attempt, of processes that are still there."""
        return await self._found(f"{MARK}{past}.")

    async def attempts(self, past: str, text: str) -> list[Known]:
        """The latest attempts of a message after a past, in order."""
        found = await self._found(f"{MARK}{past}.{own(text)}.", latest=LATEST)
        return found[::-1]

    async def owner(self, past: str, turns: Sequence[Turn], cut: Callable[[str, str], str]) -> tuple[str, Known] | None:
        """The past that `turns` after `past` make, and the last message of them; None if nobody knows them so.

        `cut`: what a client was given of a reply, by the message's id; only the last turn is looked up, for its id
        vouches for those before.
        """
        for turn in turns[:-1]:
            past = after(past, turn.user, turn.assistant)
        last = turns[-1]
        for known in reversed(await self.attempts(past, last.user)):
            reply = await self.reply(known)
            text = said(reply)
            same = (text.strip(), plain(text), cut(known.mid, text))
            if not last.assistant.strip() or not text or last.assistant.strip() in same:
                return after(past, last.user, last.assistant), known
        return None

    async def find(self, mid: str) -> Known | None:
        """A message by its id."""
        return next((known for known in await self._found(mid) if known.mid == mid), None) if is_own(mid) else None

    async def reply(self, known: Known) -> Reply:
        """What a message was answered so far."""
        _, reply = await self.looked(known)
        return reply

    async def looked(self, known: Known) -> tuple[Sent, Reply]:
        """A message as the kernel knows it, and what it was answered."""
        return await desk.look_up(self._machine, known.mid)

    async def _found(self, prefix: str, latest: int = 0) -> list[Known]:
        """Messages by the beginning of their ids; the `latest` so many, from the last on."""
        rows = await self._machine.readers(_rows, self._machine.disk, prefix.encode(), latest)
        found = [Known(mid.decode(), *records.unkey(row)) for mid, row in rows]
        return [known for known in found if is_own(known.mid) and known.pid in self._machine.kernel.procs]


def _rows(disk: Reads, prefix: bytes, latest: int) -> list[tuple[bytes, bytes]]:
    start, most = (prefix + b"\xff", latest) if latest else (prefix, CHILDREN_MAX)
    rows = disk.scan("mid", start, reverse=bool(latest), limit=most)
    return [(mid, row) for mid, row in rows if mid.startswith(prefix)]


def _digest(size: int, *words: str) -> str:
    found = blake2b(digest_size=size)
    for word in words:
        raw = word.encode("utf-8", "surrogatepass")
        found.update(len(raw).to_bytes(8, "big"))
        found.update(raw)
    return found.hexdigest()
