"""Where a client's message goes: to the process that knows its past, to a fork of it, or to one that is made.

Guarantees: an equal request finds an equal place; what is not to be remembered goes to a fork of its own.
Not here: how a past is known (past.py), how processes are made (making.py), what is said there (asking.py).
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from typing import Final

import msgspec

from drivers.door.http.errors import Refusal
from drivers.door.http.openai.making import Making
from drivers.door.http.openai.past import BETWEEN, Known, Past, after, beginning, following, message_id, said, said_of
from drivers.door.http.openai.shapes import NEW, Wanted
from kernel.limits import NAME_CHARS_MAX
from kernel.machine.replies import Standing
from kernel.memory.page import Kind, Role
from kernel.process import Process

REMEMBERED: Final = 4_096  # messages of which it is known what their clients got


class Place(msgspec.Struct, frozen=True):
    """Where a message goes, or has gone (`sent`)."""

    pid: int
    mid: str
    sent: bool = False
    side: bool = False
    made: bool = False  # the process was made for this message, and goes if that is refused
    anew: bool = False  # with the client's past, so it was told nothing yet


class Memory:
    """The last REMEMBERED messages of something."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, str] = OrderedDict()

    def __contains__(self, mid: str) -> bool:
        return mid in self._of

    def put(self, mid: str, text: str = "") -> None:
        """Remember it."""
        self._of[mid] = text
        self._of.move_to_end(mid)
        while len(self._of) > REMEMBERED:
            self._of.popitem(last=False)

    def get(self, mid: str) -> str | None:
        """What was remembered."""
        return self._of.get(mid)

    def drop(self, mid: str) -> None:
        """Forget it."""
        self._of.pop(mid, None)


class Placing:
    """Over one machine."""

    def __init__(self, making: Making) -> None:
        self._making, self._machine = making, making.machine
        self.past = Past(making.machine)
        self.told, self.lost = Memory(), Memory()  # messages whose clients have the reply, or went away before
        self.cut = Memory()  # what a client was given of a reply, where that was less than the whole

    def past_of(self, wanted: Wanted) -> str:
        """What stands before a message, as far as its request alone can say."""
        past = beginning(wanted.conversation or wanted.previous or wanted.model, wanted.key)
        for turn in wanted.turns:
            past = after(past, turn.user, turn.assistant)
        return past

    async def placed(self, wanted: Wanted) -> Place:
        """The place of a message. Raises Refusal or BadInput if there is none, and then nothing was made."""
        if not wanted.previous and not wanted.conversation and not wanted.model.startswith(NEW):
            self._making.process(wanted.model)
        if wanted.side:
            return await self._aside(wanted)
        if wanted.conversation:
            proc = self._making.process(wanted.conversation.removeprefix("conv_"))
            return await self._goes_on(wanted, self.past_of(wanted), proc.pid, first=True)
        if wanted.previous:
            known = await self.previous(wanted.previous)
            past = following(known.mid, self._given(known.mid, said(await self.past.reply(known))))
            return await self._goes_on(wanted, past, known.pid, first=False)  # as a history that is sent again would
        start = beginning(wanted.model, wanted.key)
        if not wanted.turns:
            return await self._goes_on(wanted, start, None, first=True)
        found = await self.past.owner(start, wanted.turns, self._given)
        if found is not None:
            return await self._goes_on(wanted, found[0], found[1].pid, first=False)
        past = self.past_of(wanted)
        went_on = await self.past.children(past)
        if went_on:  # it was taken over, and went on from there
            return await self._goes_on(wanted, past, went_on[0].pid, first=False)
        if not any(turn.assistant.strip() for turn in wanted.turns):  # one message in several, to nobody yet
            text = BETWEEN.join([*(turn.user for turn in wanted.turns), wanted.text])
            return await self._goes_on(msgspec.structs.replace(wanted, turns=(), text=text), start, None, first=True)
        pid = await self._making.taken_over(wanted.model, wanted.system, wanted.turns)
        return Place(pid, message_id(past, wanted.text, 0), made=True, anew=True)

    async def previous(self, response: str) -> Known:
        """The message that a response answers. Raises Refusal if there is none."""
        known = await self.past.find(response.removeprefix("resp_"))
        if known is None:
            raise Refusal(404, f"no response {response[:80]!r}", code="not_found", param="previous_response_id")
        return known

    async def _goes_on(self, wanted: Wanted, past: str, owner: int | None, *, first: bool) -> Place:
        """The place of a message after a past that process `owner` has (None: it begins with this message).

        `first`: nothing stands before it that could be gone on from in another way.
        """
        same = await self.past.attempts(past, wanted.text)
        if same:
            return await self._repeated(wanted, past, same[-1], first=first)
        mid = message_id(past, wanted.text, 0)
        if owner is None:
            return Place(await self._target(wanted, mid), mid, made=wanted.model.startswith(NEW))
        if not first:
            others = [known for known in await self.past.children(past) if known.pid == owner]
            if others:  # what followed was edited
                return Place(await self._making.forked(owner, min(known.page for known in others)), mid, made=True)
        return Place(await self._making.alive(owner), mid)

    async def _repeated(self, wanted: Wanted, past: str, last: Known, *, first: bool) -> Place:
        """The place of a message that was sent before: the same, unless its client has an answer and wants another."""
        sent, reply = await self.past.looked(last)
        proc = self._machine.kernel.procs[last.pid]
        messages = said_of(reply)
        acked = bool(messages) and messages[-1].seq <= proc.acked
        has = (acked and last.mid not in self.lost) or last.mid in self.told
        if reply.standing is Standing.OPEN or (messages and (wanted.again or not has)):
            return Place(last.pid, last.mid, sent=True)
        mid = message_id(past, wanted.text, last.attempt + 1)
        if first and wanted.conversation:
            return Place(await self._making.alive(last.pid), mid)
        if first:  # a conversation that begins like another one
            return Place(await self._target(wanted, mid), mid, made=wanted.model.startswith(NEW))
        if not messages and last.page == max(proc.undelivered() | _heard(proc), default=last.page):
            return Place(await self._making.alive(last.pid), mid)  # it was stopped, and nothing came after it
        return Place(await self._making.forked(last.pid, last.page), mid, made=True)

    async def _target(self, wanted: Wanted, mid: str) -> int:
        """The process that a model names, alive; one made for the message where it is `new:`."""
        if not wanted.model.startswith(NEW):
            return await self._making.alive(self._making.process(wanted.model).pid)
        persona = wanted.model.removeprefix(NEW)
        _, past, own, attempt = mid.split(".")
        name = f"{persona[: NAME_CHARS_MAX - 20]}-{past[:4]}{own[:8]}{int(attempt) or ''}"
        return await self._making.spawned(self._making.persona(persona, wanted.system, name))

    async def _aside(self, wanted: Wanted) -> Place:
        """A fork that answers one question, of the process that the client's history is of, or that the model names."""
        name = f"~{uuid.uuid4().hex[:16]}"
        owner = await self._owner(wanted)
        if owner is None:
            persona = wanted.model.removeprefix(NEW)
            pid = await self._making.spawned(self._making.persona(persona, wanted.system, name))
        else:
            pid = await self._making.forked(owner, 0, name)
        return Place(pid, f"side.{name}", side=True, made=True)

    async def _owner(self, wanted: Wanted) -> int | None:
        if wanted.conversation:
            return self._making.process(wanted.conversation.removeprefix("conv_")).pid
        if wanted.previous:
            return (await self.previous(wanted.previous)).pid
        if wanted.turns:
            found = await self.past.owner(beginning(wanted.model, wanted.key), wanted.turns, self._given)
            if found is not None:
                return found[1].pid
        return None if wanted.model.startswith(NEW) else self._making.process(wanted.model).pid

    def _given(self, mid: str, text: str) -> str:
        """What the client was given of a reply."""
        return (self.cut.get(mid) or text).strip()


def _heard(proc: Process) -> set[int]:
    """The user's pages that stand in a process's queue."""
    return {entry.page for entry in proc.space.queue if entry.kind is Kind.MESSAGE and entry.role is Role.USER}
