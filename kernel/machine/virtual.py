"""A machine in virtual time: the same kernel, disk, pages and ports as machine.py, in a plain loop over a heap.

Everything that will happen stands on the heap by (time, source, number): events, and calls of devices that have their
own times. One is taken at a time, stepped, committed and performed before the next, so a run is a function of what was
put on the heap: no thread, no clock, no waiting. For benches and scenarios; the daemon runs machine.py.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

import msgspec

from kernel import core
from kernel.boot import booted, load, recorded
from kernel.errors import BadInput
from kernel.event import (
    AnyEffect,
    AnyEvent,
    Arm,
    Deliver,
    Disarm,
    Fork,
    Load,
    Messaged,
    Preempt,
    Run,
    Search,
    TimerFired,
)
from kernel.machine.cpus import Cpus
from kernel.machine.latency import Latency
from kernel.machine.loop import page_tokens_max
from kernel.machine.pages import Pages
from kernel.ports import Cpu, Disk, Index
from kernel.settings import Settings
from kernel.state import InstructionSet, Kernel, Step, Watch

LASTING = ("user", "power", "watch")  # sources whose calls a power cut does not undo


class VirtualMachine:
    """A machine whose time is `now`, in ns. Drivers that take time are given it as their clock."""

    def __init__(self, start: int = 0) -> None:
        self.now = start
        self.commit_ns = 0  # how long the disk takes for a transaction; what happens meanwhile waits
        self.steps = 0
        self.latency = Latency()
        self.watch: Watch = lambda event, step: None
        self._heap: list[tuple[int, str, int, AnyEvent | Callable[[], None]]] = []
        self._put = 0
        self._numbers: dict[str, int] = {}
        self._armed: dict[int, int] = {}

    def boot(self, iset: InstructionSet, cpu: Cpu, disk: Disk, index: Index, settings: Settings) -> Step:
        """Load what the disk holds and begin. Raises BadInput if the machine cannot work like this."""
        self.cpu, self.disk, self.index, self.settings = cpu, disk, index, settings
        self.cpus = Cpus(cpu)
        self.kernel = Kernel(iset, self.cpus)
        self.pages = Pages(disk, self.cpus, iset, self.kernel.model_of)
        load(self.kernel, disk)
        self.cpus.open(settings.window, self.post, lambda _: None)
        index.start(self.post, self.pages.sizes)
        disk.commit(recorded(self.cpus, settings))
        return self.do(booted(self.cpus, settings))

    def post(self, event: AnyEvent) -> None:
        """An event of now, or of its own time if that is later."""
        self._push(max(self.now, event.at), event.source, event)

    def call_at(self, when: int, source: str, call: Callable[[], None]) -> None:
        """Call when the time has come."""
        self._push(when, source, call)

    def say(self, pid: int, text: str, mid: str = "") -> Messaged:
        """A user's message for a process, to be posted."""
        return Messaged(source="user", pid=pid, mid=mid, parts=self.cpus(text, page_tokens_max(self.settings), ""))

    def do(self, event: AnyEvent) -> Step:
        """Step an event now, commit, perform. Raises BadInput if the kernel refuses it."""
        number = self._numbers[event.source] = self._numbers.get(event.source, 0) + 1
        event = msgspec.structs.replace(event, at=self.now, n=number)
        step = core.step(self.kernel, event)
        self.latency.observe(event, self.now, step.notes)
        self.steps += 1
        if step.error:
            raise BadInput(step.error)
        self.disk.commit([*self.pages.measured(), *step.records])
        self.now += self.commit_ns
        for page, ids in step.pages:
            if ids:
                self.pages.keep(page, ids)
        if step.pages:
            self.index.feed(step.pages[-1][0].id)
        self.watch(event, step)
        for effect in step.effects:
            self._perform(effect)
        return step

    def run(self, until: int) -> None:
        """Let everything happen that happens before `until`, which is the time then."""
        while self._heap and self._heap[0][0] < until:  # ends with the heap, or with time: a token takes some
            when, _, _, what = heapq.heappop(self._heap)
            self.now = max(self.now, when)
            if isinstance(what, msgspec.Struct):
                self.do(what)
            else:
                what()
        self.now = max(self.now, until)

    def lose_power(self) -> None:
        """Forget all that devices were about to do; what users will do, the disk and the time remain. Then boot."""
        self._heap = [one for one in self._heap if not isinstance(one[3], msgspec.Struct) and one[1] in LASTING]
        heapq.heapify(self._heap)
        self._armed.clear()

    def _push(self, when: int, source: str, what: AnyEvent | Callable[[], None]) -> None:
        self._put += 1
        heapq.heappush(self._heap, (when, source, self._put, what))

    def _perform(self, effect: AnyEffect) -> None:
        match effect:
            case Run():
                self.cpus.start(self.pages.job(effect))
            case Preempt():
                self.cpus.preempt(effect.slot)
            case Fork():
                self.cpus.fork(effect.parent, effect.child, self.kernel.model_of(effect.child))
            case Search():
                self.index.search(effect)
            case Load():
                self.post(self.pages.load(effect))
            case Arm():
                self._armed[effect.timer] = effect.due
                self._push(max(self.now, effect.due), "timer", lambda: self._fire(effect.timer, effect.due))
            case Disarm():
                self._armed.pop(effect.timer, None)
            case Deliver():
                pass

    def _fire(self, timer: int, due: int) -> None:
        if self._armed.get(timer) == due:
            del self._armed[timer]
            self.do(TimerFired(source="timer", timer=timer))
