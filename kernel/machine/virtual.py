"""A machine in virtual time: the same kernel, disk, pages and ports as loop.py, in a plain loop over a heap.

Everything that will happen stands on the heap by (time, source, number): events, and calls of devices that have their
own times. One is taken at a time, stepped, committed and performed before the next, so a run is a function of what was
put on the heap: no thread, no clock, no waiting. For benches and scenarios; the daemon runs loop.py.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

import msgspec

from kernel import checkpoint, core, removal
from kernel.errors import Busy
from kernel.event import AnyEvent, ClockSet, Message, Messaged, Run, TimerFired
from kernel.machine.accessed import Accessed
from kernel.machine.answers import Answers
from kernel.machine.clock import Clock, Sources
from kernel.machine.cpus import Cpus
from kernel.machine.devices import Devices, unwatched
from kernel.machine.latency import Latency
from kernel.machine.measures import booted, page_tokens_max, recorded, upgraded
from kernel.machine.pages import Pages
from kernel.ports import Cpu, Device, Disk, Index
from kernel.settings import Settings
from kernel.state import InstructionSet, Kernel, Step, Watch

AGAIN_NS = 100_000_000  # between two looks whether a dead process can go
LASTING = ("user", "power", "watch")  # sources whose calls a power cut does not undo


def unheard(message: Message) -> None:
    """Nobody listens: whoever wants to know what was said watches, or reads the outbox."""


class VirtualMachine:
    """A machine in a world whose time is `now`, in ns, and only passes: drivers are given it as their clock.

    The wall clock says the same until it is set.
    """

    def __init__(self, start: int = 0) -> None:
        self.now = start
        self._set = 0  # by how much the wall clock was set, all in all
        self.clock = Clock(Sources(wall=lambda: self.wall, passing=lambda: self.now))
        self.commit_ns = 0  # how long the disk takes for a transaction; what happens meanwhile waits
        self.steps = 0
        self.latency = Latency()
        self.tools: Device | None = None
        self.watch: Watch = unwatched
        self._heap: list[tuple[int, str, int, AnyEvent | Callable[[], None]]] = []
        self._put = 0
        self._numbers: dict[str, int] = {}
        self._armed: dict[int, tuple[int, bool]] = {}

    def boot(self, iset: InstructionSet, cpu: Cpu, disk: Disk, index: Index, settings: Settings) -> Step:
        """Load what the disk holds and begin. Raises BadInput if the machine cannot work like this."""
        self.cpu, self.disk, self.index, self.settings = cpu, disk, index, settings
        self.cpus = Cpus(cpu)
        self.kernel = Kernel(iset, self.cpus)
        self.pages = Pages(disk, self.cpus, iset, self.kernel.model_of)
        self.accessed = Accessed(self.kernel, self.pages)
        self.devices = Devices(
            self.cpus,
            self.pages,
            index,
            self.kernel.model_of,
            post=self.post,
            publish=unheard,
            start=self._start,
            alarms=self,
            reap=self._reap,
            tools=self.tools,
        )
        if self.tools is not None:
            self.tools.start(self.post, Answers(self.kernel, self.cpus, iset, settings))
        checkpoint.last_commit(self.kernel, disk)
        self.cpus.open(settings.window, self.post, lambda _: None)
        index.start(self.post, self.pages.sized)
        anchored = self.clock.resume(self.kernel.counters, disk)
        first = upgraded(self.kernel, *self.clock.read())
        disk.commit([*recorded(self.cpus, settings), *anchored, *(row for _, step in first for row in step.records)])
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
        _, ahead = self.clock.read()
        event = self.pages.theirs.cited(self.clock.stamped(msgspec.structs.replace(event, at=0), ahead, number))
        event = self.accessed.marked(event)
        step = core.step(self.kernel, event)
        self.latency.observe(event, self.kernel.at, step.notes)
        self.steps += 1
        if step.refused is not None:
            raise step.refused
        self.disk.commit(self.devices.transaction([step]))
        self.now += self.commit_ns
        self.devices.committed([step])
        self.watch(event, step)
        for effect in step.effects:
            self.devices.perform(effect)
        return step

    def arm(self, timer: int, due: int, wall: bool) -> None:
        """See devices.Alarms."""
        self._armed[timer] = due, wall
        self._push(self.now + max(0, self._left(due, wall)), "timer", lambda: self._fire(timer, due, wall))

    @property
    def wall(self) -> int:
        """What the wall clock says, in ns UTC."""
        return self.now + self._set

    def set_clock(self, by: int) -> None:
        """Set the wall clock ahead, or back. It may be done while the machine is off: then call nothing but `boot`."""
        self._set += by

    def notice(self) -> None:
        """Have a machine that is on look at its wall clock, as one in real time does by itself."""
        self.do(ClockSet(source="clock"))
        for timer, (due, wall) in list(self._armed.items()):
            if wall:
                self.arm(timer, due, wall)

    def _left(self, due: int, wall: bool) -> int:
        """How long it is until then, as the clocks stand."""
        at, ahead = self.clock.read()
        return due - at - (ahead if wall else 0)

    def disarm(self, timer: int) -> None:
        """See devices.Alarms."""
        self._armed.pop(timer, None)

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

    def _reap(self, pid: int) -> None:
        """Remove a dead process, as soon as nothing of it is under way."""
        self.call_at(self.now, "reap", lambda: self._removed(pid))

    def _removed(self, pid: int) -> None:
        try:
            removal.over(self.kernel, pid)
        except Busy:
            self.call_at(self.now + AGAIN_NS, "reap", lambda: self._removed(pid))
            return
        self.do(removal.surveyor(self.kernel, pid).made(self.disk))

    def _start(self, run: Run) -> None:
        self.cpus.start(self.pages.job(run))

    def _fire(self, timer: int, due: int, wall: bool) -> None:
        if self._armed.get(timer) != (due, wall):
            return
        if self._left(due, wall) > 0:  # set back since it was put there
            self.arm(timer, due, wall)
            return
        del self._armed[timer]
        self.do(TimerFired(source="timer", timer=timer))
