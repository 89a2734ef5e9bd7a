"""A client's message, said: how a process is told it, and what becomes of it when its client has the answer, or goes.

Guarantees: a message that comes twice is applied once (past.py); what a client hangs up on is stopped, where nobody
else waits for it and its user was asked nothing (consent.py); the fork of a side request is removed; a reply is
acknowledged once its client has it, and with it those before whose clients have gone on; nothing is cut in silence.
Not here: where a message goes (placing.py), what comes of it (talking.py), in which form that is told (chat.py,
responses.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

import trio
from starlette.background import BackgroundTask
from starlette.responses import Response

from drivers.door.http.errors import Refusal
from drivers.door.http.given import Live, Spoken
from drivers.door.http.openai.consent import Questions, without
from drivers.door.http.openai.making import AGAIN_S, PATIENCE_S, Making
from drivers.door.http.openai.past import is_own
from drivers.door.http.openai.placing import Memory, Place, Placing
from drivers.door.http.openai.shapes import Wanted
from drivers.door.http.openai.talking import Talk
from kernel.errors import BadInput, KernelError, Stopped
from kernel.machine import replies
from kernel.machine.loop import Machine
from kernel.ports import Wish
from kernel.process import Process
from kernel.sampling import Sampling

DRAWN: Final = ("temperature", "top_p")  # what of how words are drawn a client may say


class Asking:
    """What all routes of the protocol share."""

    def __init__(self, machine: Machine, given: Live, spoken: Spoken, token: Callable[[], str]) -> None:
        """`token`: the machine's, as it is now."""
        self.machine, self._spoken = machine, spoken
        self._questions = Questions(machine, token)
        self.making = Making(machine, given, self._questions)
        self.placing = Placing(self.making)
        self._locks: dict[str, tuple[trio.Lock, int]] = {}
        self._system = Memory()  # by process, the client's instructions that it was told last

    @asynccontextmanager
    async def talk(self, wanted: Wanted) -> AsyncIterator[Talk]:
        """Bring a message to its process; what comes of it is followed. Raises Refusal or KernelError where it cannot.

        An answer to a question of the kernel's is none: what comes of the message that waited for it is followed.
        Whoever leaves before `Talk.over` has hung up, unless a question is why.
        """
        waited = await self._questions.answered(wanted)
        wanted = without(wanted)
        async with AsyncExitStack() as turn:
            async with self._locked(self.placing.past_of(wanted)):
                if waited is not None:
                    place = Place(waited.pid, waited.mid, sent=True)
                else:
                    place = await self.placing.placed(wanted)
                try:
                    turn.enter_context(self.machine.wishes.held(place.mid, self._wish(place, wanted)))
                    if not place.sent:
                        await turn.enter_async_context(self._alone(place.pid))
                    talk = Talk(self.machine, self._spoken, wanted, place, turn, self._questions)
                    subscribed = self.machine.feed.subscribe(-1, place.pid)  # before it is sent: nothing is missed
                    published = await subscribed.__aenter__()
                    try:
                        if not place.sent:
                            await self._send(place, wanted)
                    except BaseException:
                        await subscribed.__aexit__(None, None, None)
                        raise
                except BaseException:
                    with trio.CancelScope(shield=True):
                        if place.made:
                            await self.making.removed(place.pid)
                    raise
            talk.published = published
            try:
                yield talk
            finally:
                with trio.CancelScope(shield=True):
                    await subscribed.__aexit__(None, None, None)
                    await self._left(talk)

    @asynccontextmanager
    async def _alone(self, pid: int) -> AsyncIterator[None]:
        """Have a turn of a process to oneself: those who came before have theirs first, so each has its own answer.

        Not of a process that wants to be interrupted or asks its user something, nor longer than PATIENCE_S behind
        somebody at another door: what comes into a turn that is under way is answered with it.
        """
        proc = self.machine.kernel.procs[pid]
        if proc.spec.abort:
            yield
            return
        async with self._locked(f"turn {pid}"):
            with trio.move_on_after(PATIENCE_S):
                while proc.in_turn and self._questions.of(pid) is None:
                    if self.machine.stopping:
                        raise Stopped("the kernel is stopping; ask again when it is up")
                    await trio.sleep(AGAIN_S)
            yield

    def _wish(self, place: Place, wanted: Wanted) -> Wish | None:
        """How the message is to be answered. Raises Refusal for what nothing can hold its answer to."""
        form = wanted.form
        if form is not None:
            try:
                self.machine.wishes.check(place.pid, form)
            except BadInput as exc:
                if wanted.held:
                    param = "response_format" if wanted.json else "tool_choice"
                    raise Refusal(400, f"{param}: {exc}", code="unsupported_parameter", param=param) from exc
                form = None
        given = {name: value for name in DRAWN if (value := getattr(wanted, name)) is not None}
        found = Wish(form, wanted.seed, Sampling(**given) if given else None)
        return None if found == Wish() else found

    async def _send(self, place: Place, wanted: Wanted) -> None:
        proc = self.machine.kernel.procs[place.pid]
        text = self._with_system(proc, wanted, told=bool(wanted.turns) and not place.anew)
        await self._fits(proc, text)
        answer = await self.machine.requests.message(place.pid, place.mid, text)
        if answer.refused is not None:
            raise answer.refused
        self._system.put(str(place.pid), wanted.system.strip())

    def _with_system(self, proc: Process, wanted: Wanted, *, told: bool) -> str:
        """A message with the client's instructions in front, where the process has not been told these.

        `told`: whether it was, where nobody remembers.
        """
        system, last = wanted.system.strip(), self._system.get(str(proc.pid))
        known = system in proc.spec.system or (last == system if last is not None else told)
        return wanted.text if not system or known else f"[Instructions of the client: {system}]\n\n{wanted.text}"

    async def _fits(self, proc: Process, text: str) -> None:
        """Raises Refusal for a message of which a part would be out of view at once."""
        kernel = self.machine.kernel
        most = kernel.budgets(proc).queue // 2
        if len(text.encode(errors="replace")) <= most:
            return  # a token is a byte at least
        layout = self.machine.cpus.layouts[kernel.model_of(proc.pid)]
        asked = len(await trio.to_thread.run_sync(layout.tokenize, text))
        if asked > most:
            why = f"the message has {asked} tokens; at most {most} are allowed with window {kernel.settings.window}"
            raise Refusal(400, f"{why}: send it in parts", code="context_length_exceeded", param="messages")

    async def _left(self, talk: Talk) -> None:
        """The client has its answer, or has gone."""
        if talk.place.side:
            await self.making.removed(talk.place.pid)
        elif not talk.over and not self.machine.stopping:
            self.placing.lost.put(talk.place.mid)
            proc = self.machine.kernel.procs.get(talk.place.pid)
            if proc is not None and proc.answers == (talk.place.mid,) and not talk.asked:
                with suppress(KernelError):
                    await self.machine.requests.halt(proc.pid)

    def answered(self, talk: Talk, response: Response) -> Response:
        """A whole answer as a response, which is delivered once it is written."""
        talk.over = True
        response.background = BackgroundTask(self.delivered, talk)
        return response

    async def delivered(self, talk: Talk) -> None:
        """The client has the reply: it is acknowledged, unless somebody else waits for one before it."""
        mid, pid = talk.place.mid, talk.place.pid
        talk.over = True
        if talk.given is not None:
            self.placing.cut.put(mid, talk.given)
        self.placing.told.put(mid)
        self.placing.lost.drop(mid)
        proc = self.machine.kernel.procs.get(pid)
        if talk.place.side or proc is None or not talk.messages or talk.messages[-1].seq <= proc.acked:
            return
        if talk.messages[0].seq > proc.acked + 1:
            between, _ = await self.machine.readers(replies.said, self.machine.disk, pid, proc.acked)
            mine = talk.messages[0].seq
            if any(not one.answers or not all(map(is_own, one.answers)) for one in between if one.seq < mine):
                return
        with suppress(KernelError):
            await self.machine.requests.acknowledge(pid, talk.messages[-1].seq)

    @asynccontextmanager
    async def _locked(self, past: str) -> AsyncIterator[None]:
        """One at a time, of those who go on from the same past."""
        lock, users = self._locks.get(past, (trio.Lock(), 0))
        self._locks[past] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(past)
            if users > 1:
                self._locks[past] = lock, users - 1
