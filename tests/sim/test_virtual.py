"""The machine in virtual time: exact preemption, timers, and the same machine as the one in real time."""

import hashlib
from random import Random

import pytest
import trio

from drivers.cpu.scripted import ScriptedCpu
from drivers.cpu.virtual import VirtualCpu
from drivers.disk.memory import MemoryDisk
from kernel import core
from kernel.boot import Board, boot
from kernel.errors import BadInput
from kernel.event import AnyEvent, Outcome, Spawned, Trapped
from kernel.limits import NS
from kernel.machine.virtual import VirtualMachine
from kernel.memory.page import Page
from kernel.ports import Job
from kernel.settings import Settings, apply
from kernel.spec import Spec
from kernel.state import Step
from syscalls.abi import FULL
from syscalls.table import Table
from tests.fakes import WordIndex

TOKEN_NS = NS // 50


def babble(job: Job) -> str:
    """An instruction that is a function of every token in view. None whose result names a number of the machine's."""
    seen = hashlib.blake2b(repr(job.prompt).encode()).hexdigest()
    text = (seen * 8)[: 60 + int(seen[:4], 16) % 500]
    calls = (
        f'{{"op":"send_message","text":"{text}"}}',
        f'{{"op":"send_message","text":"{text}","more":true}}',
        f'{{"op":"core_append","block":"b","text":"{text[:40]}"}}',
        '{"op":"yield"}',
    )
    return calls[int(seen[4:8], 16) % len(calls)]


class Forgetful(VirtualCpu):
    """Reads the prompt again at every run, so that a preempted instruction goes on only if its prompt is the same."""

    def start(self, job: Job) -> None:
        self._begun.clear()
        ids = self.tokenize(self.program(job))
        assert ids[: len(job.ids)] == job.ids
        super().start(job)


def machine(policy: str = "rr", slots: int = 1) -> VirtualMachine:
    made = VirtualMachine()
    cpu = Forgetful(babble, made, token_ns=TOKEN_NS, slots=slots)
    disk = MemoryDisk()
    settings = apply(Settings(), [f"sched.policy={policy}", "sched.quantum=32", "window=4096"])
    made.boot(Table(), cpu, disk, WordIndex(disk), settings)
    return made


def spawn(made: VirtualMachine, name: str) -> int:
    return made.do(Spawned(source="user", spec=Spec(name, calls=FULL))).pid


def pages(made: VirtualMachine, pid: int) -> list[tuple[str, str, str]]:
    found: list[Page] = []
    for number in range(1, made.kernel.counters.page + 1):
        page = made.pages.page(number)
        if page is not None and page.pid == pid:
            found.append(page)
    return [(page.kind, page.role, page.text) for page in sorted(found, key=lambda page: page.seq)]


def play(policy: str, preempt: Random | None) -> list[list[tuple[str, str, str]]]:
    made = machine(policy)
    pids = [spawn(made, f"p{n}") for n in range(4)]
    for n in range(8):
        for pid in pids:  # far apart: when a message finds its process idle, its delivery depends on nothing else
            made.call_at(n * 1_000 * NS, "user", lambda pid=pid, n=n: made.do(made.say(pid, f"message {n} for {pid}")))
    if preempt is not None:
        for _ in range(1_000):
            made.call_at(preempt.randrange(8_000 * NS), "test", lambda: made.cpu.preempt(0))
        for n in range(8):  # and densely while something runs
            for k in range(200):
                made.call_at(n * 1_000 * NS + k * 7 * TOKEN_NS // 3, "test", lambda: made.cpu.preempt(0))
    stopped = 0

    def watch(event: AnyEvent, step: Step) -> None:
        nonlocal stopped
        stopped += isinstance(event, Trapped) and event.outcome is Outcome.PREEMPTED

    made.watch = watch
    made.run(9_000 * NS)
    core.check(made.kernel)
    assert (stopped > 500) == (preempt is not None)
    return [pages(made, pid) for pid in pids]


@pytest.mark.parametrize("policy", ["fifo", "rr", "mlfq", "fair"])
def test_preemption_at_a_thousand_random_points_changes_no_page(policy: str) -> None:
    undisturbed = play("fifo", None)
    assert min(map(len, undisturbed)) > 16
    assert play(policy, Random(1)) == undisturbed


def test_the_same_run_twice_gives_the_same_hash() -> None:
    def once() -> int:
        made = machine("mlfq", slots=2)
        pids = [spawn(made, f"p{n}") for n in range(5)]
        for n in range(20):
            made.call_at(n * NS, "user", lambda n=n: made.do(made.say(pids[n % 5], f"message {n}")))
        made.run(600 * NS)
        return made.kernel.hash

    assert len({once() for _ in range(3)}) == 1


def test_timers_fire_on_time_and_a_refused_event_says_why() -> None:
    made = VirtualMachine()
    disk = MemoryDisk()
    calls = iter(['{"op":"set_timer","seconds":60,"every":3600,"text":"tea"}'])
    cpu = VirtualCpu(lambda job: next(calls, '{"op":"yield"}'), made, token_ns=TOKEN_NS)
    made.boot(Table(), cpu, disk, WordIndex(disk), Settings())
    pid = spawn(made, "p")
    made.do(made.say(pid, "remind me"))
    made.run(24 * 3_600 * NS)
    assert made.now == 24 * 3_600 * NS
    alerts = [text for kind, _, text in pages(made, pid) if kind == "alert" and "pressure" not in text]
    assert alerts == ["[kernel] timer 1: tea"] * 24
    with pytest.raises(BadInput, match="no process 9"):
        made.do(made.say(9, "hello"))


async def test_it_is_the_machine_of_real_time() -> None:
    """One process, the same messages: the same pages, whoever drives the kernel."""
    made = machine()
    pid = spawn(made, "p")
    for n in range(6):
        made.do(made.say(pid, f"message {n}"))
        made.run(made.now + 1_000 * NS)
    disk = MemoryDisk()
    board = Board(ScriptedCpu(babble), disk, WordIndex(disk), made.settings)
    real = await boot(board, Table())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(real.run)
        spawned = await real.requests.spawn(Spec("p", FULL), suit=("calls",))
        for n in range(6):
            await real.requests.message(spawned.pid, f"m{n}", f"message {n}")
            while real.kernel.procs[spawned.pid].in_turn or real._inbox:
                await trio.sleep(0.001)
        real.stop()
    found = [real.pages.page(number) for number in range(1, real.kernel.counters.page + 1)]
    texts = [(page.kind, page.role, page.text) for page in found if page is not None and page.pid == spawned.pid]
    assert texts == pages(made, pid)
