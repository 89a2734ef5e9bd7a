"""Servers of tools that answer what a script says, at once or in the time of a clock: for scenarios and tests.

What was done in their world stands in `done`, and outlives the machine: a power cut takes back nothing of it.
"""

from __future__ import annotations

from collections import Counter
from functools import partial

import msgspec
import trio

from drivers.cpu.virtual import Clock
from drivers.device.given import ended
from kernel.event import Act, Offered, Tool
from kernel.ports import Measured, Post, Server, Told


class Scripted(msgspec.Struct, frozen=True):
    """A tool: its n-th answer to the n-th use, the last again and again; uses by number in which its server `dies`."""

    tool: Tool
    answers: tuple[str, ...] = ("ok",)
    takes_ns: int = 0
    dies: tuple[int, ...] = ()


class ScriptedTools:
    """ports.Device. Without a clock an answer waits until `answer` is called, or comes at once if not `holding`."""

    def __init__(self, tools: tuple[Scripted, ...], clock: Clock | None = None, *, holding: bool = False) -> None:
        self._tools = {one.tool.name: one for one in tools}
        self._clock, self.holding = clock, holding
        self.names = tuple(dict.fromkeys(name.partition("/")[0] for name in self._tools))
        self.done: list[tuple[str, str]] = []  # tools with their arguments, as they were used
        self._used: Counter[str] = Counter()
        self.waiting: dict[tuple[int, int], Told] = {}

    def start(self, post: Post, measured: Measured) -> None:
        """Begin to answer; what was under way in an earlier life of the machine is forgotten."""
        self._post, self._measured = post, measured
        self.waiting.clear()
        for name in self.names:
            tools = tuple(one.tool for one in self._tools.values() if one.tool.name.startswith(f"{name}/"))
            post(Offered(source="device", server=name, tools=tools))

    async def run(self) -> None:
        """Nothing goes on by itself."""
        await trio.sleep_forever()

    def act(self, what: Act) -> None:
        """It is done at once; its answer takes its time."""
        found = self._tools.get(what.tool)
        key, told = (what.pid, what.req), Told(what.pid, what.req, what.tool)
        if found is None:
            self._post(self._measured(msgspec.structs.replace(told, error=f"no tool {what.tool}")))
            return
        self.done.append((what.tool, what.arguments))
        self._used[what.tool] += 1
        nth = self._used[what.tool]
        if nth in found.dies:
            told = msgspec.structs.replace(told, error=ended(what.tool))
        else:
            told = msgspec.structs.replace(told, text=found.answers[min(nth, len(found.answers)) - 1])
        self.waiting[key] = told
        if self._clock is not None:
            self._clock.call_at(self._clock.now + found.takes_ns, "device", partial(self.answer, key, told))
        elif not self.holding:
            self.answer(key, told)

    def answer(self, key: tuple[int, int], told: Told) -> None:
        """Give an answer, unless nobody waits for it any more."""
        if self.waiting.get(key) is told:
            del self.waiting[key]
            self._post(self._measured(told))

    def desist(self, pid: int, req: int) -> None:
        """It was done; nobody hears of it."""
        self.waiting.pop((pid, req), None)

    def seen(self) -> tuple[Server, ...]:
        """All are up."""
        return tuple(Server(name, "up") for name in self.names)
