"""Whether preemption changes what a model says: runs cut at random tokens, paged out and in, beside uninterrupted ones.

Processes with prompts of several lengths, some in prose, some under a grammar, some of JSON, run in fewer slots than
there are of them, so nearly every dispatch finds its KV in an image. Each is stopped again and again: at its quantum,
drawn anew each time, or by `preempt` at any moment, in its prefill, too. Halfway the CPU is closed and opened anew on
the same images, as a kernel is that restarts. What it has emitted in the end is compared, token for token, with what it
emits alone and uninterrupted on a fresh CPU. Every stop counts as a point; a run differs if any token does.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path
from random import Random
from typing import Final

import msgspec

from bench.cpu.rig import JSON, PROSE, Rig, opened
from kernel.event import Outcome
from kernel.memory.page import Role
from kernel.settings import Cpu as CpuSettings

WINDOW: Final = 768
SLOTS: Final = 2
ASKED: Final = (
    "Tell me about the sea.",
    "Count from one to forty in words.",
    "Which animals live in a forest? Name ten.",
    "Describe a small town in the rain.",
    "Explain how bread is made.",
    "Invent a story of a kernel and a disk.",
)


class Preempted(msgspec.Struct, frozen=True):
    """A campaign: `points` stops in `runs` runs, of which `differ` emitted another token somewhere."""

    mode: str
    temperature: float
    points: int
    inside_prefill: int
    restored: int  # dispatches that found tokens in an image
    restarts: int
    runs: int
    differ: int


class _Case(msgspec.Struct):
    """A process and what it is asked."""

    pid: int
    prompt: tuple[int, ...]
    grammar: str | None
    reply: int
    ids: tuple[int, ...] = ()
    instr: int = 1
    done: bool = False


def campaign(model: Path, settings: CpuSettings, points: int, seed: int, processes: int = 8) -> Preempted:
    """At least so many points, in rounds of `processes`."""
    rng = Random(seed)
    total = Preempted(settings.mode, settings.temperature, 0, 0, 0, 0, 0, 0)
    while total.points < points:  # ends: each round has many
        one = _round(model, settings, rng, processes)
        total = Preempted(
            settings.mode,
            settings.temperature,
            *(getattr(total, name) + getattr(one, name) for name in Preempted.__struct_fields__[2:]),
        )
    return total


def _cases(rig: Rig, rng: Random, processes: int) -> list[_Case]:
    cases = []
    before, after = rig.cpu.frame.around([Role.USER])
    for pid in range(1, processes + 1):
        said = rig.text(rng.randrange(1_000_000), rng.choice([5, 40, 90, 250, 420]))
        asked = (*said, *rig.cpu.tokenize(" " + rng.choice(ASKED)))
        prompt = (*before, *asked, *after)
        cases.append(_Case(pid, prompt, rng.choice([None, None, JSON, PROSE]), rng.choice([24, 48, 80])))
    return cases


def _round(model: Path, settings: CpuSettings, rng: Random, processes: int) -> Preempted:
    few = msgspec.structs.replace(settings, slots=SLOTS)
    with opened(model, few, WINDOW) as rig:
        cases = _cases(rig, rng, processes)
        alone = {
            one.pid: rig.run(one.pid, one.prompt, grammar=one.grammar, reply=one.reply, instr=one.instr).ids
            for one in cases
        }
    points = inside = restored = 0
    folder = Path(tempfile.mkdtemp(prefix="llmos-preempt-"))
    try:
        for half in (True, False):
            with opened(model, few, WINDOW, folder) as rig:
                got = _interrupted(rig, cases, rng, stop_early=half)
            points, inside, restored = points + got[0], inside + got[1], restored + got[2]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    differ = sum(alone[one.pid] != one.ids for one in cases)
    return Preempted(settings.mode, settings.temperature, points, inside, restored, 1, len(cases), differ)


def _interrupted(rig: Rig, cases: list[_Case], rng: Random, *, stop_early: bool) -> tuple[int, int, int]:
    """Run what is left with interruptions, to the end or about half of it: points, those in a prefill, restores."""
    left = [one for one in cases if not one.done]
    free, running = set(range(SLOTS)), dict[int, _Case]()
    points = inside = restored = 0
    stopped = set[int]()
    enough = sum(one.reply for one in left) // 2
    emitted = 0
    while running or (left and not (stop_early and emitted > enough)):
        while free and left and not (stop_early and emitted > enough):
            case = left.pop(rng.randrange(len(left)))
            slot = free.pop()
            running[slot] = case
            quantum = rng.randrange(1, 24)
            rig.start(
                slot,
                case.pid,
                case.prompt,
                ids=case.ids,
                grammar=case.grammar,
                reply=case.reply,
                quantum=quantum,
                instr=case.instr,
            )
            fresh = not case.ids and case.pid not in stopped  # it begins with a prefill
            if rng.random() < (0.8 if fresh else 0.4):
                stopped.add(case.pid)
                late_s = rng.uniform(0.0, len(case.prompt) / 1_000 if fresh else 0.8)
                threading.Timer(late_s, rig.cpu.preempt, (slot,)).start()
        trap = rig.wait()
        case = running.pop(trap.slot)
        free.add(trap.slot)
        restored += trap.restored > 0
        emitted += len(trap.ids) - len(case.ids)
        case.ids = trap.ids
        if trap.outcome is Outcome.PREEMPTED:
            points += 1
            inside += not trap.ids
            left.append(case)
        else:
            case.done = True
    return points, inside, restored
