"""What comes of a message: its answer as it grows, what of it a client gets, and what it cost.

Not here: where the message went (placing.py), who said it (asking.py).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

import msgspec

from drivers.door import desk
from drivers.door.http.errors import Refusal
from drivers.door.http.given import Spoken
from drivers.door.http.openai.consent import Questions
from drivers.door.http.openai.past import BETWEEN, said_of
from drivers.door.http.openai.placing import Place
from drivers.door.http.openai.shapes import Wanted
from drivers.door.http.openai.tools import Call, said
from kernel.errors import Busy, Stopped
from kernel.event import Message
from kernel.machine import replies, views
from kernel.machine.feed import Published
from kernel.machine.loop import Machine
from kernel.machine.replies import Standing
from kernel.machine.views import Called
from kernel.ports import Streamed

CALLS_MAX: Final = 100  # of a turn that are told
CALLS_BYTES_MAX: Final = 256 << 10
_CALL: Final = re.compile(r'\A!?\s*\{\s*"op"\s*:\s*"(\w+)"')

Tell = Callable[[str], Awaitable[None]]
"""Take the next piece of a reply."""


class Usage(msgspec.Struct, frozen=True):
    """What an answer cost, in tokens: the last prompt, how much of it was not evaluated for it, what was emitted."""

    prompt: int
    cached: int
    emitted: int


class Answered(msgspec.Struct, frozen=True):
    """What a message was answered; `length`: it was cut, by the client's limit or the machine's."""

    text: str
    length: bool
    usage: Usage
    call: Call | None = None  # what the text is, where it calls a tool of the client's
    stop: str = ""  # the client's stop before which it was cut


class Talk:
    """A message that was brought to a process, and what comes of it."""

    def __init__(
        self,
        machine: Machine,
        spoken: Spoken,
        wanted: Wanted,
        place: Place,
        turn: AsyncExitStack[bool | None],
        questions: Questions,
    ) -> None:
        """`turn`: what is held until the process need not be had alone any more."""
        self._turn, self._questions = turn, questions
        self._machine, self._spoken, self._wanted = machine, spoken, wanted
        self.place = place
        self.given: str | None = None  # what the client gets, where that is less than the whole
        self.over = False  # the client has its answer
        self.asked = False  # it has a question instead, and comes back
        self.messages: tuple[Message, ...] = ()
        kernel = self._machine.kernel
        proc = kernel.procs[place.pid]
        self._model = kernel.model_of(place.pid)
        self._cpu = self._machine.cpus.of.get(self._model, self._machine.cpus.of[""])
        self._encoding = kernel.models[self._model].encoding
        self._only_speaks = proc.spec.calls == ("send_message",)
        self._since = kernel.counters.page
        self._before = (proc.accounts.prefill, proc.accounts.emitted)
        self._raw: str | None = ""  # of the instruction under way; None: its beginning was missed
        self._attempt = (0, 0)
        self._told = ""
        self.published: AsyncIterator[Published]

    @property
    def name(self) -> str:
        """The process's name now."""
        return self._machine.kernel.procs[self.place.pid].name

    @property
    def held(self) -> bool:
        """Whether something holds the reply to the form that its client wants."""
        wish = self._machine.wishes.held_for(self.place.mid)
        return wish is not None and wish.form is not None

    @property
    def stopping(self) -> bool:
        """Whether the machine is, so that no more will come."""
        return self._machine.stopping

    async def follow(self, tell: Tell | None = None, think: Tell | None = None) -> Answered:
        """The whole answer; `tell` gets it piece by piece as it comes, and `think` what is thought before it.

        Raises Refusal if there will be none, if what was told is taken back, or if there is a question first
        (consent.py), and Stopped if the machine stops.
        """
        found = await self._followed(tell, think)
        await self._turn.aclose()  # who is slow to read what is said holds nobody up
        return found

    async def _followed(self, tell: Tell | None, think: Tell | None) -> Answered:
        while True:  # until nothing more can come, or the client has all that it wants
            sent, reply = await desk.look_up(self._machine, self.place.mid)
            self.messages = said_of(reply)
            final = reply.standing is not Standing.OPEN
            if reply.standing is Standing.DIED and not reply.messages:
                raise Refusal(500, f"process {self.name} died: {reply.why}", code="process_died")
            shown, cut = self._shown("" if final else self._saying(), final=final)
            await self._tell(shown, tell, final=final or cut)
            if final or cut:
                return self._answered(shown, cut=cut)
            question = self._questions.of(sent.pid)
            if question is not None:
                self.asked = True
                raise question
            if await self._more(sent.pid, tell, think):
                shown, _ = self._shown(self._saying(), final=False)
                return self._answered(shown, cut=True)

    async def calls(self) -> list[tuple[Called, str]]:
        """What the process called in the turn, with the call's name: all that it emitted but its messages."""
        kernel = self._machine.kernel
        found = await self._machine.readers(
            views.calls,
            self._machine.disk,
            self.place.pid,
            kernel.models[self._model].costs.measure,
            since=self._since,
            upto=kernel.counters.page,
            limit=CALLS_MAX,
            bytes_max=CALLS_BYTES_MAX,
        )
        named = [(call, _CALL.search(call.text)) for call in found]
        return [(call, name[1]) for call, name in named if name is not None and name[1] != "send_message"]

    async def _more(self, pid: int, tell: Tell | None, think: Tell | None) -> bool:
        """Wait until there is a message, or there may be no more; whether the client has all that it wants before."""
        kernel, mid = self._machine.kernel, self.place.mid
        async for item in self.published:
            if isinstance(item, Streamed):
                if mid not in kernel.procs[pid].answers:
                    continue
                if item.thought:
                    if think is not None:
                        await think(item.text)
                    continue
                begun = (item.tag.instr, item.tag.attempt)
                if begun != self._attempt or item.offset == 0:
                    self._raw, self._attempt = (None if item.offset else item.text), begun
                elif self._raw is not None:
                    self._raw += item.text
                shown, cut = self._shown(self._saying(), final=False)
                await self._tell(shown, tell, final=cut)
                if cut:
                    return True
            elif isinstance(item, Message):
                if mid in item.answers:
                    self._raw = ""
                    return False
            elif any(note.pid == pid for note in item.notes) and (self._ended() or self._questions.of(pid)):
                return False
        if self._machine.stopping:
            raise Stopped("the kernel is stopping; ask again when it is up")
        raise Busy("too much happened at once", 1)

    def _ended(self) -> bool:
        """Whether nothing more can be said in answer."""
        sent = replies.sent(self._machine.kernel, self._machine.disk, self.place.mid)
        return sent.standing is not Standing.OPEN

    def _saying(self) -> str:
        return self._spoken(self._raw or "", self._encoding, only_speaks=self._only_speaks)

    def _shown(self, saying: str, *, final: bool) -> tuple[str, bool]:
        """The answer so far, as far as the client wants it and it is certain; and whether it was cut there."""
        whole = BETWEEN.join([*(message.text for message in self.messages), *([saying] if saying else [])])
        cut = False
        ends = [at for stop in self._wanted.stops if (at := whole.find(stop)) >= 0]
        if ends:
            whole, cut = whole[: min(ends)], True
        elif not final and self._wanted.stops:  # a stop may be half there
            whole = whole[: max(0, len(whole) - max(map(len, self._wanted.stops)) + 1)]
        limit = self._wanted.limit
        if limit is not None and len(whole.encode(errors="replace")) > limit:
            ids = self._cpu.tokenize(whole)
            if len(ids) > limit:
                whole, cut = self._cpu.detokenize(ids[:limit]).rstrip("\ufffd"), True
                whole = self._told if self._told.startswith(whole) else whole  # it was counted so before
        return whole, cut

    async def _tell(self, shown: str, tell: Tell | None, *, final: bool) -> None:
        if tell is None or shown == self._told:
            return
        if shown.startswith(self._told):
            piece, self._told = shown[len(self._told) :], shown
            await tell(piece)
        elif final:
            raise Refusal(500, "what was said is taken back: it was begun anew, and differs", code="taken_back")

    def _answered(self, text: str, *, cut: bool) -> Answered:
        proc = self._machine.kernel.procs.get(self.place.pid)
        whole = self._whole()
        stop = next((stop for stop in self._wanted.stops if cut and whole.startswith(text + stop)), "")
        length = (cut and not stop) or any(message.truncated for message in self.messages)
        call = said(text, self._wanted.tools, self.place.mid)
        if self._wanted.json and call is None and not cut and not length:
            _parsed(text)
        if cut or call is not None:
            self.given = text if call is None else call.text
        emitted = len(self._cpu.tokenize(text)) if text else 0
        if proc is None or self.place.sent:
            prompt = self._machine.prompts.get(self.place.pid, 0)
            return Answered(text, length, Usage(prompt, prompt, emitted), call, stop)
        evaluated = proc.accounts.prefill - self._before[0]
        prompt = self._machine.prompts.get(proc.pid, evaluated)
        spent = proc.accounts.emitted - self._before[1]
        return Answered(text, length, Usage(prompt, max(0, prompt - evaluated), spent or emitted), call, stop)

    def _whole(self) -> str:
        return BETWEEN.join([*(message.text for message in self.messages), self._saying()])


def _parsed(text: str) -> None:
    """Raises Refusal for a reply that is no JSON: its process was killed and began anew, or said nothing."""
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise Refusal(500, "the process has answered, and not with JSON; ask again", code="not_json") from exc
