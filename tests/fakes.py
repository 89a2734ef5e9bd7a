"""A rig that runs a kernel without trio, clock or thread.

It is the machine's loop on one stack: post, sort, step, commit, perform. It can lose power at any commit and boot
again from what the disk holds, and it checks the kernel's invariants after every step, or after some.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import msgspec

from drivers.cpu.scripted import KV_TOKENS, Program, ScriptedCpu
from drivers.disk.memory import MemoryDisk
from drivers.index.words import WordIndex
from kernel import checkpoint, core, records, removal
from kernel.event import AnyEvent, Message, Messaged, Run, Spawned, TimerFired
from kernel.limits import NS
from kernel.machine.accessed import Accessed
from kernel.machine.answers import Answers
from kernel.machine.cpus import Cpus
from kernel.machine.devices import Devices
from kernel.machine.measures import booted, measure_anew, page_tokens_max, recorded, upgraded
from kernel.machine.pages import Pages
from kernel.memory.page import OWN, Kind, Origin, Page
from kernel.ports import Device, Job
from kernel.process import Process
from kernel.settings import Settings, apply
from kernel.spec import Spec
from kernel.state import Kernel, Step
from syscalls.abi import FULL
from syscalls.table import Table

ONLY_SPEAK = ("send_message",)


def op(name: str, /, **fields: object) -> str:
    """An instruction as a program emits it."""
    return json.dumps({"op": name, **fields}, separators=(",", ":"))


def obeys_page(job: Job) -> str:
    """A program that is told `obey PAGE`: it reads the page, writes into core memory, and says what came of that."""
    heard = [one.page for one in job.pages if one.page.origin is Origin.USER][-1]
    since = [one.page for one in job.pages if one.page.id > heard.id]
    match len([page for page in since if page.origin in OWN]):
        case 0:
            return op("read", pages=[int(heard.text.split()[1])])
        case 1:
            return op("core_append", block="human", text="The key is 555.")
        case _:
            said = max(since, key=lambda page: page.id)
            return op("send_message", text=f"It says {said.text if said.kind is Kind.RESULT else 'ok'}")


class PowerCut(Exception):
    """The rig lost power before this commit."""


class Rig:
    """A machine on one stack. `cut_at` > 0: power is lost instead of that commit, counted from now."""

    def __init__(
        self,
        program: Program,
        *changes: str,
        disk: MemoryDisk | None = None,
        slots: int = 1,
        encoding: str = "json",
        kv: int = KV_TOKENS,
        others: Mapping[str, Callable[[], ScriptedCpu]] | None = None,
        upgrading: bool = True,
        accessed: bool = True,
        thinks: bool = False,
        tools: Device | None = None,
        every: int = 1,
    ) -> None:
        self.tools = tools
        self.every = every  # so many steps after another check is there one
        self.disk = disk or MemoryDisk()
        self.settings = apply(Settings(), list(changes))
        self.program, self.encoding, self.slots, self.kv, self.thinks = program, encoding, slots, kv, thinks
        self.others = dict(others or {})  # more models, by name
        self.upgrading = upgrading  # False: a disk of an older format stays so
        self.reporting = accessed  # False: nobody says what a text drew on, as in machines of before
        self.now = 1_000 * NS
        self.ahead = 0  # of it, the wall clock
        self.cut_at = 0
        self.answering = True  # False: runs are noted and nobody carries them out
        self.boot()

    def boot(self) -> None:
        """Load what the disk holds and begin again; all that was only in memory is gone."""
        self.cpu = ScriptedCpu(
            self.program,
            slots=self.slots,
            encoding=self.encoding,
            kv=self.kv,
            clock=lambda: self.now,
            thinks=self.thinks,
        )
        self.cpus = Cpus(self.cpu, {name: make() for name, make in self.others.items()})
        table = Table()
        self.kernel = Kernel(table, self.cpus)
        self.pages = Pages(self.disk, self.cpus, table, self.kernel.model_of)
        self.accessed = Accessed(self.kernel, self.pages)
        self.index = WordIndex(self.disk)
        self.inbox: list[AnyEvent] = []
        self.armed: dict[int, int] = {}
        self.by_wall: set[int] = set()  # of them, those that are due by the wall clock
        self.jobs: list[Job] = []
        self.messages: list[Message] = []
        self.reaped: list[int] = []  # dead processes that are to go for good; `reap` lets them
        self.n = 0
        self.devices = Devices(
            self.cpus,
            self.pages,
            self.index,
            self.kernel.model_of,
            post=self.post,
            publish=lambda message: self.messages.append(message),  # which tests put another list in place of
            start=self.start,
            alarms=self,
            reap=self.reaped.append,
            tools=self.tools,
        )
        if self.tools is not None:
            self.tools.start(self.post, Answers(self.kernel, self.cpus, table, self.settings))
        checkpoint.last_commit(self.kernel, self.disk)
        anew, resized, measured = measure_anew(self.kernel, self.disk, self.cpus)
        first = upgraded(self.kernel, self.now) if self.upgrading else []
        self.disk.commit(
            [*measured, *recorded(self.cpus, self.settings), *(row for _, one in first for row in one.records)]
        )
        self.index.start(self.post, self.pages.sized)
        self.index.feed(self.kernel.counters.page)
        self.cpus.open(self.settings.window, self.post, lambda _: None)
        answer = self.do(booted(self.cpus, self.settings, anew=anew, resized=resized))
        assert not answer.error, answer.error

    def post(self, event: AnyEvent) -> None:
        self.inbox.append(event)

    def do(self, event: AnyEvent) -> Step:
        """Step one event, commit, perform."""
        self.n += 1
        self.now += 1_000
        event = self.pages.theirs.cited(event)
        event = self.accessed.marked(event) if self.reporting else event
        step = core.step(
            self.kernel, msgspec.structs.replace(event, at=event.at or self.now, ahead=self.ahead, n=self.n)
        )
        if self.n % self.every == 0:
            core.check(self.kernel)
        if step.error:
            return step
        if self.cut_at:
            self.cut_at -= 1
            if self.cut_at == 0:
                raise PowerCut
        self.disk.commit(self.devices.transaction([step]))
        self.devices.committed([step])
        for effect in step.effects:
            self.devices.perform(effect)
        return step

    def reap(self) -> None:
        """Let those go for good that are to."""
        while self.reaped:
            self.do(removal.surveyor(self.kernel, self.reaped.pop(0)).made(self.disk))

    def arm(self, timer: int, due: int, wall: bool) -> None:
        self.armed[timer] = due
        self.by_wall = self.by_wall - {timer} | ({timer} if wall else set())

    def disarm(self, timer: int) -> None:
        self.armed.pop(timer, None)

    def start(self, run: Run) -> None:
        """Begin a run, unless nobody is to answer."""
        job = self.pages.job(run)
        self.jobs.append(job)
        if self.answering:
            self.cpus.start(job)

    def pump(self, events: int = 1_000_000) -> None:
        """Take what the devices posted, until they are quiet or `events` are taken."""
        while self.inbox and events:
            events -= 1
            self.do(self.inbox.pop(0))

    def tick(self, seconds: float) -> None:
        """Let time pass; timers that come due fire in order."""
        end = self.now + int(seconds * NS)
        while due := sorted((at, timer) for timer in self.armed if (at := self.due(timer)) <= end):
            at, timer = due[0]
            self.now = max(self.now, at)
            del self.armed[timer]
            self.do(TimerFired(source="timer", timer=timer))
            self.pump()
        self.now = max(self.now, end)

    def due(self, timer: int) -> int:
        """When an armed timer is due, in the state's time, as the wall clock stands."""
        return self.armed[timer] - (self.ahead if timer in self.by_wall else 0)

    def spawn(self, name: str = "p", mask: Sequence[str] = FULL, **fields: object) -> int:
        """A process; its number."""
        step = self.do(Spawned(source="user", spec=Spec(name, calls=tuple(mask), **fields)))  # type: ignore[arg-type]
        assert not step.error, step.error
        self.pump()
        return step.pid

    def say(self, pid: int, text: str, mid: str = "", *, pump: bool = True) -> Step:
        """A user's message."""
        parts = self.cpus(text, page_tokens_max(self.settings), self.kernel.model_of(pid))
        step = self.do(Messaged(source="user", pid=pid, mid=mid, parts=parts))
        if pump:
            self.pump()
        return step

    def proc(self, pid: int) -> Process:
        return self.kernel.procs[pid]

    def page(self, number: int) -> Page:
        """A page as the disk holds it."""
        row = self.disk.get("page", records.key(number))
        assert row is not None, f"page {number} is not on disk"
        return records.page_of(row, self.disk.get)

    def texts(self, pid: int) -> list[str]:
        """What the process would see now, in prompt order."""
        return [self.page(placed.page).text for placed in self.proc(pid).space.placed()]
