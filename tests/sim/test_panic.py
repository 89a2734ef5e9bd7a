"""An event that panics the kernel: nothing of it is committed, and one that does it twice is set aside."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio

from drivers.cpu.scripted import ScriptedCpu, echo
from drivers.disk.memory import MemoryDisk
from drivers.index.words import WordIndex
from kernel import aside
from kernel.audit import audit
from kernel.boot import Board, boot
from kernel.errors import BadInput, KernelPanic
from kernel.event import AnyEvent, Imported, Message, Messaged, Moved, MovedTimer, Spawned
from kernel.machine import views
from kernel.machine.loop import Machine
from kernel.memory.page import Area, Kind, Origin, Role
from kernel.ports import Job
from kernel.process import Process, State
from kernel.replay import Replay
from kernel.settings import Settings
from kernel.spec import Spec
from kernel.state import Kernel
from syscalls.table import Table


class Faulty(Table):
    """A kernel with a fault: it panics on an instruction that says `poison`."""

    def execute(self, kernel: Kernel, proc: Process, text: str, encoding: str, truncated: bool) -> None:
        if "poison" in text:
            raise KernelPanic("it met poison")
        super().execute(kernel, proc, text, encoding, truncated)


def program(job: Job) -> str:
    return echo(job)


async def life(disk: MemoryDisk, acts: list[tuple[str, str]]) -> tuple[list[str], Machine]:
    """One boot, to its panic or to the end of what a client does; what was heard."""
    heard: list[str] = []
    machine = await boot(Board(ScriptedCpu(program), disk, WordIndex(disk), Settings()), Faulty())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(machine.run)

        async def listen() -> None:
            async with machine.feed.subscribe(-1) as published:
                async for item in published:
                    if isinstance(item, Message):
                        heard.append(item.text)

        nursery.start_soon(listen)
        await trio.sleep(0.02)
        for proc, text in acts:
            if proc not in machine.kernel.names:
                await machine.requests.spawn(Spec(proc))
            await machine.requests.message(proc, f"{proc}/{text}", text)
            await trio.sleep(0.02)
        machine.stop()
    return heard, machine


async def test_an_event_that_panics_twice_is_set_aside_and_the_machine_boots() -> None:
    disk = MemoryDisk()
    acts = [("good", "one"), ("bad", "poison")]
    for n in range(2):
        with pytest.raises(BaseExceptionGroup) as caught:
            await life(disk, acts)
        assert caught.group_contains(KernelPanic, match="it met poison")
        assert aside.known(disk)[0].times == n + 1
        assert audit(disk).findings == []
    heard, machine = await life(disk, [("good", "two")])
    assert heard == ["you said: two"], "the others go on"
    bad = machine.kernel.procs[machine.kernel.names["bad"]]
    assert bad.state is State.ZOMBIE
    assert "panicked the kernel 2 times: it met poison" in bad.status
    assert [page.text for page in views.history(machine.disk, bad.pid, 5)] == ["poison"], "its memory is kept"
    assert not any(taken.why for taken in Replay(disk, Faulty()).steps())
    heard, machine = await life(disk, [("good", "three")])
    assert heard == ["you said: three"]
    assert audit(disk).findings == []


async def test_a_panic_that_does_not_come_again_costs_nothing() -> None:
    disk = MemoryDisk()
    with pytest.raises(BaseExceptionGroup):
        await life(disk, [("bad", "poison")])
    async with trio.open_nursery() as nursery:
        machine = await boot(Board(ScriptedCpu(program), disk, WordIndex(disk), Settings()), Table())  # repaired
        nursery.start_soon(machine.run)
        await trio.sleep(0.02)
        assert [message.text for message in views.outbox(machine.kernel, machine.disk, 1)] == ["you said: poison"]
        machine.stop()


LAST = (1 << 64) - 1
GUEST = Spec("guest", ("send_message",))
PAGE = Moved(Kind.MESSAGE, Origin.USER, Role.USER, Area.RECALL, 1, "a text", where="queue", group=LAST + 1, ids=(1,))


@pytest.mark.parametrize(
    "event",
    [
        Imported(source="user", spec=GUEST, pages=(), timers=(MovedTimer(1, LAST, "a timer that fires at once"),)),
        Imported(source="user", spec=GUEST, pages=(PAGE,)),
    ],
)
async def test_what_no_record_can_hold_is_a_panic_like_any_other_and_set_aside_the_second_time(event: AnyEvent) -> None:
    """What a kernel of before let in: these come by no door, whose types have bounds."""
    disk = MemoryDisk()

    async def comes() -> None:
        async with trio.open_nursery() as nursery:
            machine = await boot(Board(ScriptedCpu(echo), disk, WordIndex(disk), Settings()), Table())
            nursery.start_soon(machine.run)
            with suppress(BadInput):
                await machine.submit(event)
            await trio.sleep(0.02)
            machine.stop()

    for _ in range(aside.TIMES):
        with pytest.raises(BaseExceptionGroup) as caught:
            await comes()
        assert caught.group_contains(KernelPanic)
        assert audit(disk).findings == []
    await comes()
    heard, machine = await life(disk, [("good", "one")])
    assert heard == ["you said: one"]


def test_an_event_is_known_by_what_does_not_change_when_it_comes_again() -> None:
    one = Messaged(source="user", at=5, n=3, pid=1, mid="m", parts=())
    assert aside.identity(one) == aside.identity(Messaged(source="user", at=9, n=7, pid=1, mid="m", parts=()))
    assert aside.identity(one) != aside.identity(Messaged(source="user", at=5, n=3, pid=1, mid="k", parts=()))
    spawned = Spawned(source="user", spec=Spec("p", calls=("yield",)))
    assert aside.identity(spawned) != aside.identity(one)
