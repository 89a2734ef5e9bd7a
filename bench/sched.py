"""What the scheduling policies do to those who wait: one machine in virtual time, one slot of 50 tokens a second.

40 interactive processes (their users' messages come as a Poisson process, answers of 16 to 48 tokens) and 8 batch ones
(2,000 tokens a message) ask for 60 % of the slot together; 4 more are blocked for ever on a search, and one runs away
with 20,000 tokens. The same arrivals for every policy. Counted over the turns of interactive processes:
`p95_wait`, the seconds from a message's arrival to its answer less those its tokens take; `max_wait`, the longest time
of any process between becoming ready and running, in tokens, beside the policy's proven `bound` (null: it has none).
`batch_tokens_per_s` is taken to the end of the last batch answer. `irq_p99_ms` is from a message's raising to its
delivery. `jain` is the least fairness of any window of 10 s over 8 processes that are always ready (Jain 1984), as a
process of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random

import msgspec

from drivers.cpu.virtual import VirtualCpu
from drivers.disk.memory import MemoryDisk
from drivers.index.none import NoIndex
from kernel.event import AnyEvent, Deliver, Run, Search, Spawned, Trapped, What
from kernel.interrupts import Line
from kernel.limits import NS
from kernel.machine.virtual import VirtualMachine
from kernel.ports import Job
from kernel.process import State
from kernel.scheduler import SCHEDULERS
from kernel.settings import Settings, apply
from kernel.spec import Spec
from kernel.state import Step
from llmos.commands.output import print_table, show
from syscalls.table import Table

TOKENS_PER_S = 50
SECONDS = 2_000
INTERACTIVE, BATCH, BLOCKED = 40, 8, 4
INTERACTIVE_LOAD = 0.3  # of the slot
TURN = (16, 48)  # tokens of an interactive answer
JOB = 2_000  # tokens of a batch answer
JOBS = 15  # of all batch processes: another 0.3 of the slot
RUNAWAY = 20_000
JAIN_PROCESSES, JAIN_WINDOW_S = 8, 10


class Result(msgspec.Struct, frozen=True):
    """One policy on one seed."""

    policy: str
    seed: int
    turns: int
    p50_wait: float
    p95_wait: float
    max_wait: int
    bound: int | None
    batch_tokens_per_s: float
    irq_p99_ms: float
    jain: float


class _Silent(NoIndex):
    """An index that never answers: whoever searches is blocked for ever."""

    def search(self, what: Search) -> None:
        pass


class _Load:
    """The program of all processes, and the account of what became of their turns."""

    def __init__(self, policy: str, seed: int) -> None:
        self.rng = Random(seed)
        self.wanted: dict[int, list[int]] = {}  # by process: tokens of the answers that are asked for, in order
        self.machine = VirtualMachine()
        self.policy = policy
        settings = apply(
            Settings(window=16_384),
            [f"sched.policy={policy}", "memory.recall=0", "memory.data=0", "cpu.reply=4096", "cpu.encoding=prose"],
        )
        cpu = VirtualCpu(self._say, self.machine, token_ns=NS // TOKENS_PER_S, encoding="prose")
        self.machine.boot(Table(), cpu, MemoryDisk(), _Silent(), settings)
        self.machine.watch = self._watch
        self.arrived: dict[int, list[int]] = {}  # by process: when its unanswered messages came
        self.waits: list[float] = []
        self.irqs: list[float] = []
        self.batch_tokens = self.batch_end = 0
        self.kind: dict[int, str] = {}
        self.since: dict[int, int] = {}  # when a ready process became so
        self.longest = self.most = 0
        self.ran: list[tuple[int, int, int]] = []  # (when it ended, process, tokens) of every run

    def spawn(self, kind: str, n: int) -> int:
        mask = ("search",) if kind == "blocked" else ("send_message",)
        step = self.machine.do(Spawned(source="user", spec=Spec(f"{kind}{n}", calls=mask)))
        self.kind[step.pid] = kind
        return step.pid

    def ask(self, pid: int, at: int, tokens: int) -> None:
        """At `at` a message comes whose answer has `tokens` tokens."""

        def arrive() -> None:
            self.wanted.setdefault(pid, []).append(tokens)
            self.arrived.setdefault(pid, []).append(self.machine.now)
            self.machine.do(self.machine.say(pid, "go on"))

        self.machine.call_at(at, "user", arrive)

    def _say(self, job: Job) -> str:
        if self.kind[job.pid] == "blocked":
            return '!{"op":"search","query":"what never comes"}'
        return "abc" * self.wanted[job.pid].pop(0)

    def _watch(self, event: AnyEvent, step: Step) -> None:
        machine, now = self.machine, self.machine.now
        if isinstance(event, Trapped):
            self.ran.append((now, event.pid, event.decoded))
        for note in step.notes:
            if note.what is What.DELIVERED and note.line is Line.USER and self.kind[note.pid] == "interactive":
                self.irqs.append((now - self.arrived[note.pid][0]) / 1e6)
        for message in [effect.message for effect in step.effects if isinstance(effect, Deliver)]:
            came, tokens = self.arrived[message.pid].pop(0), len(message.text) // 3
            if self.kind[message.pid] == "interactive":
                self.waits.append((now - came) / NS - tokens / TOKENS_PER_S)
            elif self.kind[message.pid] == "batch":
                self.batch_tokens += tokens
                self.batch_end = now
        for effect in step.effects:
            if isinstance(effect, Run):
                self.longest = max(self.longest, now - self.since.pop(effect.pid, now))
        for pid, proc in machine.kernel.procs.items():
            if proc.state is State.READY:
                self.since.setdefault(pid, now)
            else:
                self.since.pop(pid, None)
        self.most = max(self.most, len(self.since) + 1)


def load(policy: str, seed: int) -> _Load:
    """The whole mixture, run to its end."""
    run = _Load(policy, seed)
    rng = run.rng
    mean = sum(TURN) / 2
    rate = INTERACTIVE_LOAD * TOKENS_PER_S / mean / INTERACTIVE  # messages a second of one process
    for n in range(INTERACTIVE):
        pid, at = run.spawn("interactive", n), 0.0
        while (at := at + rng.expovariate(rate)) < SECONDS:
            run.ask(pid, round(at * NS), rng.randint(*TURN))
    batch = [run.spawn("batch", n) for n in range(BATCH)]
    for n in range(JOBS):
        run.ask(batch[n % BATCH], rng.randrange(SECONDS * NS // 2), JOB)
    for n in range(BLOCKED):
        run.ask(run.spawn("blocked", n), 0, 1)
    runaway = run.spawn("runaway", 0)
    for _ in range(RUNAWAY // JOB):
        run.ask(runaway, 0, JOB)
    run.machine.run(2 * SECONDS * NS)
    return run


def jain(policy: str, seed: int) -> float:
    """The least fairness of any window of JAIN_WINDOW_S over equal processes that are always ready."""
    run = _Load(policy, seed)
    for n in range(JAIN_PROCESSES):
        pid = run.spawn("batch", n)
        for _ in range(10):
            run.ask(pid, 0, JOB)
    run.machine.run(300 * NS)  # runs that are under way at the end count for nothing
    per_ns = TOKENS_PER_S / NS
    worst = 1.0
    for start in range(0, 180 * NS, NS // 2):
        used = dict.fromkeys(run.kind, 0.0)
        for end, pid, tokens in run.ran:
            inside = min(end, start + JAIN_WINDOW_S * NS) - max(end - round(tokens / per_ns), start)
            used[pid] += max(0, inside) * per_ns
        worst = min(worst, sum(used.values()) ** 2 / (len(used) * sum(x * x for x in used.values())))
    return worst


def measure(policy: str, seed: int) -> Result:
    """One policy on one seed."""
    run = load(policy, seed)
    waits, irqs = sorted(run.waits), sorted(run.irqs)
    return Result(
        policy=policy,
        seed=seed,
        turns=len(waits),
        p50_wait=round(waits[len(waits) // 2], 3),
        p95_wait=round(waits[len(waits) * 95 // 100], 3),
        max_wait=run.longest * TOKENS_PER_S // NS,
        bound=run.machine.kernel.lanes[""].ready.bound(run.most),
        batch_tokens_per_s=round(run.batch_tokens * NS / run.batch_end, 2),
        irq_p99_ms=round(irqs[len(irqs) * 99 // 100], 3),
        jain=round(jain(policy, seed), 3),
    )


def table(seeds: int, progress: Callable[[str], None]) -> list[Result]:
    """All policies on seeds 1 to `seeds`."""
    found = []
    for policy in SCHEDULERS:
        for seed in range(1, seeds + 1):
            found.append(measure(policy, seed))
            one = found[-1]
            progress(f"{policy} seed {seed}: p95 wait {one.p95_wait} s, longest {one.max_wait} tokens, jain {one.jain}")
    return found


def run(seeds: int, as_json: bool) -> None:
    """`llmos bench sched`: measure and print."""
    results = table(seeds, lambda text: show(f"  {text}", error=True))
    policies: dict[str, dict[str, object]] = {}
    for name in SCHEDULERS:
        mine = [one for one in results if one.policy == name]
        fifo = [one for one in results if one.policy == "fifo"]
        policies[name] = {
            "p95_wait": [one.p95_wait for one in mine],
            "below_fifo": round(1 - sum(one.p95_wait for one in mine) / sum(one.p95_wait for one in fifo), 3),
            "max_wait": max(one.max_wait for one in mine),
            "bound": None if mine[0].bound is None else min(one.bound or 0 for one in mine),
            "batch_of_fifo": round(
                sum(one.batch_tokens_per_s for one in mine) / sum(one.batch_tokens_per_s for one in fifo), 3
            ),
            "irq_p99_ms": max(one.irq_p99_ms for one in mine),
            "jain": min(one.jain for one in mine),
        }
    if as_json:
        show(json.dumps({"seeds": seeds, "policies": policies, "runs": msgspec.to_builtins(results)}))
        return
    title = f"{INTERACTIVE} interactive, {BATCH} batch, {BLOCKED} blocked, 1 runaway; seeds 1 to {seeds}"
    names = ("policy", *policies["fifo"])
    rows = [(name, *(str(value) for value in row.values())) for name, row in policies.items()]
    print_table(names, rows, left=names, title=title)
