"""Processes that are made for clients: of personas, as forks, of a past that a client brings; and found by name.

Not here: which of them a message goes to (placing.py).
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec
import trio

from drivers.door.http.errors import Refusal
from drivers.door.http.given import Live
from drivers.door.http.openai.consent import Questions
from drivers.door.http.openai.past import BETWEEN, Turn
from drivers.door.http.openai.shapes import NEW
from kernel.errors import BadInput, Busy, Exists, KernelError
from kernel.event import Imported, Moved
from kernel.limits import NAME_CHARS_MAX, SPEC_CHARS_MAX
from kernel.machine import views
from kernel.machine.loop import Machine
from kernel.memory.page import Area, Kind, Origin, Role
from kernel.process import Process, State
from kernel.spec import Spec

PATIENCE_S: Final = 30.0  # for a process to rest, so that it can be forked
AGAIN_S: Final = 0.05  # between two looks whether it does
FORKS_MAX: Final = 10_000  # of one process, by name
DEFAULT: Final = "default"  # the persona that is always there
_SIDE: Final = re.compile(r"~[0-9a-f]{16}")
_FORK: Final = re.compile(r"~\d+\Z")


class Making:
    """Over one machine."""

    def __init__(self, machine: Machine, given: Live, questions: Questions) -> None:
        self.machine, self._given, self._questions = machine, given, questions

    async def swept(self) -> None:
        """Remove the forks of side requests that a crash has left."""
        for name in [name for name in self.machine.kernel.names if _SIDE.fullmatch(name)]:
            await self.removed(self.machine.kernel.names[name])

    def personas(self) -> list[str]:
        """What `new:` makes a process of."""
        return [DEFAULT, *(name for name in self._given.now.personas if name != DEFAULT)]

    def process(self, model: str) -> Process:
        """The process that a model names. Raises Refusal if there is none."""
        kernel = self.machine.kernel
        with suppress(BadInput):
            return kernel.proc(views.find(kernel, model))
        raise Refusal(
            404, f"no process {model[:80]!r}; GET /v1/models lists them", code="model_not_found", param="model"
        )

    async def begun(self, persona: str) -> int:
        """A new process of a persona, for a conversation. Raises Refusal if there is no such one."""
        name = f"{persona[: NAME_CHARS_MAX - 20]}-{uuid.uuid4().hex[:12]}"
        return await self.spawned(self.persona(persona, "", name))

    def persona(self, persona: str, system: str, name: str) -> Spec:
        """What a process of a persona is made of, with a client's instructions. Raises Refusal if there is none."""
        if persona not in self.personas():
            why = f"no persona {persona[:80]!r}; there are {', '.join(self.personas())}"
            raise Refusal(404, why, code="model_not_found", param="model")
        spec = self._given.now.personas.get(persona, Spec(persona))
        whole = BETWEEN.join(one for one in (spec.system, system.strip()) if one)[:SPEC_CHARS_MAX]
        return msgspec.structs.replace(spec, name=name, system=whole)

    async def spawned(self, spec: Spec) -> int:
        """A process of that name: a new one, or the one that is there."""
        answer = await self.machine.requests.spawn(spec)
        if isinstance(answer.refused, Exists):
            return self.machine.kernel.names[spec.name]
        if answer.refused is not None:
            raise answer.refused
        return answer.pid

    async def alive(self, pid: int) -> int:
        """A process, started again if it is dead, as a chat does."""
        proc = self.machine.kernel.procs[pid]
        if proc.state is State.ZOMBIE:
            answer = await self.machine.requests.spawn(Spec(proc.name))
            if answer.refused is not None:
                raise answer.refused
        return pid

    async def forked(self, pid: int, before: int = 0, name: str = "") -> int:
        """A fork of a process, once it rests; as it was before a page, if one is given.

        Raises Refusal for one that rests once its user has decided something.
        """
        until = trio.current_time() + PATIENCE_S
        await self.alive(pid)
        while True:  # until it is made, refused for good, or out of patience
            proc = self.machine.kernel.procs[pid]
            if proc.state is State.IDLE:
                answer = await self.machine.requests.fork(pid, name or self.free(proc.name), before)
                if answer.refused is None:
                    return answer.pid
                if self.machine.kernel.procs[pid].state is State.IDLE and not isinstance(answer.refused, Exists):
                    raise answer.refused
            question = self._questions.of(pid)
            if question is not None:
                raise question
            if trio.current_time() > until:
                raise Busy(f"process {proc.name} does not rest", 5)
            await trio.sleep(AGAIN_S)

    def free(self, name: str) -> str:
        """A name for a fork that nobody has."""
        stem = _FORK.sub("", name)[: NAME_CHARS_MAX - 8]
        for number in range(1, FORKS_MAX):
            if f"{stem}~{number}" not in self.machine.kernel.names:
                return f"{stem}~{number}"
        raise Busy(f"process {stem} has {FORKS_MAX} forks", 60)

    async def taken_over(self, model: str, system: str, turns: Sequence[Turn]) -> int:
        """A process with the past that a client brings, of which nobody knows: it is made like the one it names."""
        if model.startswith(NEW):
            persona = model.removeprefix(NEW)
            spec = self.persona(persona, system, self.free(persona))
        else:
            proc = self.process(model)
            spec = msgspec.structs.replace(proc.spec, name=self.free(proc.name))
        now = time.time_ns()
        pages: list[Moved] = []
        for turn in turns:
            sides = ((turn.user, Origin.USER, Role.USER), (turn.assistant, Origin.PROCESS, Role.ASSISTANT))
            pages += [
                Moved(Kind.MESSAGE, origin, role, Area.RECALL, now, text, where="queue")
                for text, origin, role in sides
                if text.strip()
            ]
        event = Imported(spec=self.machine.requests.suited(spec), pages=tuple(pages))
        answer = await self.machine.requests.take_over(event)
        if answer.refused is not None:
            raise answer.refused
        return answer.pid

    async def removed(self, pid: int) -> None:
        """Let a process go for good."""
        with suppress(KernelError):
            if self.machine.kernel.procs[pid].state is not State.ZOMBIE:
                await self.machine.requests.kill(pid)
            await self.machine.requests.remove(pid)
