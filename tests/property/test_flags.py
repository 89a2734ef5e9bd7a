"""The flags of a turn under any events: no combination is reached that the table does not list, and each row is."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.cpu.scripted import KV_TOKENS
from kernel import checkpoint, turn
from kernel.event import AnyEvent, Checkpointed, Halted, Killed, Raised, Spawned
from kernel.interrupts import Line
from kernel.ports import Job
from kernel.process import State
from kernel.settings import apply
from kernel.spec import Spec
from kernel.state import Step
from syscalls.abi import FULL
from tests.fakes import PowerCut, Rig, op

PROCESSES = 3
WINDOWS = ("window=4096", "window=2048", "window=8192")
CALLS = (
    op("send_message", text="word " * 12),
    op("send_message", text="word " * 12, more=True),
    op("search", query="amber"),
    op("read", pages=[2, 3]),
    op("remember", text="amber and birch"),
    op("core_append", block="notes", text="amber"),
    op("mask", lines=["user"], seconds=30),
    op("set_timer", seconds=5, text="tea", every=20),
    op("sleep", seconds=10),
    op("evict", pages=[4]),
    op("pin", page=5),
    op("nonsense"),
    op("exit"),
    op("yield"),
)


class Watched(Rig):
    """A rig that remembers which flags were set together. Its `do` checks the kernel after each step."""

    seen: set[tuple[State, str]] | None = None

    def do(self, event: AnyEvent) -> Step:
        step = super().do(event)
        if self.seen is None:
            self.seen = set()
        self.seen |= {(proc.state, turn.flags(proc)) for proc in self.kernel.procs.values()}
        return step


class World:
    """Processes that emit anything, and everything that comes from outside, a move a number."""

    def __init__(self, seed: int, abort: bool, slots: int, flight: int, kv: int) -> None:
        self.rng = Random(seed)
        changes = (WINDOWS[0], "sched.quantum=8", f"sched.flight={flight}", "cpu.reply=100", "cpu.manual=whole")
        self.rig = Watched(self._emit, *changes, slots=slots, kv=kv)
        self.pids = [self.rig.spawn(f"p{n}", abort=abort) for n in range(PROCESSES)]

    def _emit(self, job: Job) -> str:
        return CALLS[self.rng.randrange(len(CALLS))]

    def play(self, move: int) -> None:
        rig, pid = self.rig, self.pids[move % PROCESSES]
        proc = rig.proc(pid)
        try:
            match move % 12:
                case 0 | 1 | 2:
                    rig.say(pid, "amber? " * (1 + move % 50), pump=False)
                case 3:
                    rig.do(Raised(source="device", pid=pid, line=Line.IPC, text="it rang"))
                case 4 | 5:
                    rig.pump(1 + move % 5)
                case 6:
                    rig.tick(move % 40)
                case 7:
                    rig.cpu.failures = move % 3
                case 8 if proc.state is State.ZOMBIE:
                    rig.do(Spawned(source="user", spec=Spec(proc.name, calls=FULL)))
                case 8:
                    rig.do(Killed(source="user", pid=pid))
                case 11:
                    rig.do(Halted(source="user", pid=pid))
                case 9 if move % 2:
                    rig.do(Checkpointed(source="user"))
                    rig.disk.commit(checkpoint.records(rig.disk, rig.kernel))
                case 9:
                    rig.settings = apply(rig.settings, [WINDOWS[move % len(WINDOWS)]])
                    rig.boot()
                case _:
                    rig.cut_at = 1 + move % 4
        except PowerCut:
            rig.cut_at = 0
            rig.boot()


@settings(max_examples=60, deadline=None)
@given(
    moves=st.lists(st.integers(0, 10_000), min_size=5, max_size=60),
    seed=st.integers(0, 1_000),
    abort=st.booleans(),
    slots=st.integers(1, 2),
    flight=st.sampled_from([0, 1, 1_500]),
    kv=st.sampled_from([KV_TOKENS, 1]),
)
def test_no_sequence_of_events_reaches_flags_that_do_not_go_together(
    moves: list[int], seed: int, abort: bool, slots: int, flight: int, kv: int
) -> None:
    world = World(seed, abort, slots, flight, kv)
    for move in moves:
        world.play(move)


def test_every_combination_in_the_table_is_reached() -> None:
    """A row that nothing reaches is a guess, and would hide the day when it is wrong."""
    rng, reached = Random(5), set[tuple[State, str]]()
    wanted = {(state, flags) for state, row in turn.FLAGS.items() for flags in row}
    for seed in range(200):  # ends: after 40 or so nothing is left to reach
        if reached >= wanted:
            break
        world = World(seed, abort=seed % 4 != 0, slots=1 + seed % 2, flight=(0, 1, 1_500)[seed % 3], kv=KV_TOKENS)
        for _ in range(120):
            world.play(rng.randrange(10_000))
        reached |= world.rig.seen or set()
    assert reached == wanted
