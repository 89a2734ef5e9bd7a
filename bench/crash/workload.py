"""What the campaign runs: programs for the scripted CPU, and what a client does, both functions of a seed.

`mixed`: three processes that use every syscall, with timers, an abort, a kill and a compaction; its client does not
wait for answers. `confluent`: one process and exact search, whose client waits until all is quiet before it goes on, so
that nothing races and a run that crashed must end in the state of one that did not (docs/architecture.md, One step);
and whose clock hardly moves, for a search ranks by the pauses between messages, and a restart is one.
"""

from __future__ import annotations

import json
from random import Random
from typing import Final, Literal

import msgspec

from kernel.ports import Job

Kind = Literal["mixed", "confluent"]
KINDS: Final[tuple[Kind, ...]] = ("mixed", "confluent")
WORDS: Final = (
    *("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "islet", "jetty", "kelp", "larch"),
    *("maple", "north", "otter", "pearl", "quartz", "river", "slate", "thorn"),
)
INSTRUCTIONS_MAX: Final = 60  # a process says nothing more after so many: timers must come to an end
SETTINGS: Final = ("window=1600", "memory.recall=0.15", "sched.quantum=12", "memory.policy=lru", "disk.journal_bytes=1")
SETTINGS_OF: Final[dict[Kind, tuple[str, ...]]] = {"mixed": ("disk.exact_max=6",), "confluent": ()}


class Act(msgspec.Struct, frozen=True):
    """One thing the client does. `id` names it for ever: the same one again must change nothing."""

    id: str
    what: Literal["spawn", "say", "file", "kill", "compact", "quiet"]
    proc: str = ""
    text: str = ""


class Workload(msgspec.Struct, frozen=True):
    """A seeded workload: the acts of its client in order, and what it is run with."""

    kind: Kind
    seed: int
    acts: tuple[Act, ...]
    slots: int

    @property
    def settings(self) -> tuple[str, ...]:
        """As `--set` takes them."""
        return SETTINGS + SETTINGS_OF[self.kind]


def workload(kind: Kind, seed: int) -> Workload:
    """The workload of a seed."""
    rng = Random(f"crash/{kind}/{seed}")
    names = [f"p{n}" for n in range(3 if kind == "mixed" else 1)]
    acts = [Act(f"spawn-{name}", "spawn", name) for name in names]
    for n in range(18 if kind == "mixed" else 8):
        text = f"note{seed}x{n} " + " ".join(rng.choices(WORDS, k=rng.randint(4, 40)))
        acts.append(Act(f"m{n}", "say" if n % 4 or not n else "file", rng.choice(names), text))
        if kind == "confluent":
            acts.append(Act(f"q{n}", "quiet"))
    if kind == "mixed":
        acts.insert(8, Act("compact-1", "compact"))
        acts[14:14] = [Act("kill-p2", "kill", "p2"), Act("again-p2", "spawn", "p2")]
    else:
        acts.insert(7, Act("compact-1", "compact"))
    return Workload(kind, seed, tuple(acts), 1 if kind == "confluent" else rng.choice([1, 2]))


def program(work: Workload, job: Job) -> str:
    """The next instruction of a process: a function of the seed and of what is in view, so a restart emits the same."""
    rng = Random(f"{work.seed}/{job.pid}/{job.instr}")
    text = " ".join(rng.choices(WORDS, k=rng.randint(1, 14)))
    page = rng.choice(job.pages).page.id
    if job.instr > INSTRUCTIONS_MAX:
        return '{"op":"yield"}'
    last: dict[str, object] = {"op": "send_message", "text": f"reply {job.instr} {text}"}
    choices: list[dict[str, object]] = [
        *[last] * 4,
        {"op": "send_message", "text": f"part {job.instr} {text}", "more": True},
        {"op": "core_append", "block": "notes", "text": text[:12]},
        {"op": "core_replace", "block": "notes", "old": text[:3], "new": ""},
        {"op": "remember", "text": f"kept{job.pid}x{job.instr} {text}"},
        {"op": "search", "query": rng.choice(WORDS)},
        {"op": "read", "pages": [page]},
        {"op": "pin", "page": page},
        {"op": "unpin", "page": page},
        {"op": "evict", "pages": [page]},
        {"op": "yield"},
        {"op": "nonsense"},
    ]
    if work.kind == "mixed":
        choices += [
            {"op": "set_timer", "seconds": rng.randint(1, 4), "text": text[:20]},
            {"op": "cancel_timer", "timer": rng.randint(1, 3)},
            {"op": "sleep", "seconds": rng.randint(1, 3)},
            {"op": "mask", "lines": ["timer"], "seconds": 2},
            {"op": "unmask", "lines": ["timer"]},
        ]
        if job.pid == 2 and job.instr == 20:
            return '{"op":"exit","status":"done"}'
    return json.dumps(rng.choice(choices), separators=(",", ":"))
