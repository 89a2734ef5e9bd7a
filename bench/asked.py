"""A question to a process of a running machine, and its answer."""

from __future__ import annotations

from kernel.event import Message, What
from kernel.machine.loop import Machine


async def answer(machine: Machine, pid: int, text: str) -> str:
    """Say something to a process; what it says at the end of its turn, "" if it ends without a word."""
    async with machine.feed.subscribe(-1) as published:
        await machine.requests.message(pid, "", text)
        async for item in published:  # ends with the reply, or with the turn's budget
            if isinstance(item, Message) and item.pid == pid and item.ends:
                return item.text
            if not isinstance(item, Message) and any(
                note.pid == pid and (note.what is What.EXIT or (note.what is What.TURN and "budget" in note.text))
                for note in getattr(item, "notes", ())
            ):
                break
    return ""
