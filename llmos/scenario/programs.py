"""What the processes of a scenario emit in virtual time: what they play, what they do, and how they react.

Guarantee: the same instruction of the same process is the same text, as far as nothing came meanwhile.
Not here: reactions (reactions.py), when a process runs (virtual.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from kernel.event import Note, What
from kernel.memory.page import Page
from kernel.ports import Job
from llmos.scenario.format import ProcessSpec, Scenario
from llmos.scenario.reactions import Reactions
from syscalls.table import Table


class Programs:
    """The programs of one run. They outlive a power cut; the duty of the stage: `heard` for each committed note."""

    def __init__(self, scenario: Scenario) -> None:
        self._named = scenario.processes
        made = (spec for spec in scenario.processes.values() if not spec.child)
        self._specs = dict(enumerate(made, 1))  # numbered as the file has them
        self._reactions = {pid: Reactions(spec.on) for pid, spec in self._specs.items() if spec.on}

    def emits(self, job: Job) -> str:
        """The instruction that a process emits when it runs; a thread of the kernel's own says back what it is told."""
        call = self._reactions[job.pid].emits(job) if job.pid in self._reactions else None
        return _does(self._specs.get(job.pid, ProcessSpec(does="echo")), job) if call is None else _said(call)

    def heard(self, note: Note, page: Callable[[int], Page | None]) -> None:
        """Something happened to a process: what was delivered is what it reacts to; a child that is made plays."""
        name = made(note)
        if name in self._named and note.pid not in self._specs:
            self._specs[note.pid] = spec = self._named[name]
            if spec.on:
                self._reactions[note.pid] = Reactions(spec.on)
        reactions = self._reactions.get(note.pid)
        if reactions is None:
            return
        if note.what is What.EXIT:
            reactions.forget()
        elif note.what is What.DELIVERED and note.line is not None:
            pages = (page(number) for number in note.pages)
            reactions.came(note.line.name.lower(), "".join(one.text for one in pages if one is not None))


def made(note: Note) -> str:
    """The name of the process that a note says is made; "" of any other."""
    if note.what is What.SPAWN:
        return note.text
    return note.text.partition(" from ")[0] if note.what is What.FORK else ""


def emitted(mask: tuple[str, ...] | None) -> tuple[str, ...]:
    """What a process may emit in virtual time; `all` among its mask, or no mask, is all that is not given by name."""
    full = Table().default_mask(full=True)
    names = ("all",) if mask is None else mask
    return tuple(dict.fromkeys(call for one in names for call in (full if one == "all" else (one,))))


def _does(spec: ProcessSpec, job: Job) -> str:
    """The instruction that a process emits where no reaction has one."""
    if spec.plays:
        at = job.instr - 1
        return _said(spec.plays[at % len(spec.plays)] if at < len(spec.plays) or spec.loop else {"op": "yield"})
    if spec.does == "talk":
        frame = '{"op":"send_message","text":""}'
        return _said({"op": "send_message", "text": "x" * max(1, 3 * spec.tokens - len(frame))})
    if spec.does == "echo":
        said = [page.page.text for page in job.pages if page.role == "user" and not page.recalled]
        text = f"you said: {said[-1] if said else ''}"[:400]
        return json.dumps({"op": "send_message", "text": text}, separators=(",", ":"), ensure_ascii=False)
    return _said({"op": "yield"})


def _said(call: dict[str, Any]) -> str:
    return json.dumps(call, separators=(",", ":"))
