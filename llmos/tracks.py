"""What a machine did as a trace that Perfetto opens: a track a process and a slot, flows, counters.

Each committed step is watched, of a machine in virtual time, one in real time, or a journal that is replayed, with the
kernel as it stands after it. A process has three rows: its states, its interrupts, and all else that was noted of it.
A flow goes from where an interrupt was raised to its delivery, and to the first token that came after. Counters are the
tokens of each queue, what is pending, who waits for a slot, and the tokens that were prefilled and emitted so far.
The format is Chrome's Trace Event JSON; times are microseconds since the first event.
Not here: who watches (llmos/scenario, llmos/replay.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from drivers.disk import whole
from kernel.errors import BadInput
from kernel.event import AnyEvent, Booted, Deliver, Note, Run, Trapped, What
from kernel.interrupts import Line
from kernel.process import State
from kernel.records import unkey
from kernel.state import Kernel, Step
from kernel.text import one_line

MARKS_MAX: Final = 2_000_000  # of a trace: some 300 MB, beyond which a browser opens it no more
CPU: Final = 1  # the number of the group of tracks that is the CPU
WORLD: Final = 2  # what happened to the machine
PROCESSES: Final = 100  # and from here on, by pid, the processes
STATES, INTERRUPTS, LOG = 1, 2, 3  # rows of a process
BUSY: Final = {State.READY, State.RUNNING, State.BLOCKED, State.SUSPENDED}  # states that are drawn
TEXT_CHARS: Final = 200


class _Mark(msgspec.Struct, omit_defaults=True):
    """An event of the format. `ph`: X a slice, i an instant, C a counter, M a name."""

    ph: str
    pid: int
    ts: float
    tid: int = 0
    dur: float | None = None
    name: str = ""
    cat: str = ""
    s: str = ""
    bind_id: str = ""
    flow_in: bool = False
    flow_out: bool = False
    args: dict[str, Any] = {}


class Tracks:
    """The trace of one machine. The duty of who watches: every step, in order, after its commit."""

    def __init__(self) -> None:
        self._marks: list[_Mark] = []
        self._origin: int | None = None
        self._at = 0  # of the last step, ns
        self._running: dict[int, tuple[int, str]] = {}  # by slot: since when, and who
        self._states: dict[int, tuple[State, int]] = {}  # by process: which, and since when
        self._names: dict[int, str] = {}
        self._slots: set[int] = set()
        self._counts: dict[tuple[int, str], int] = {}  # by group and counter
        self._raised: dict[tuple[int, Line, int], list[str]] = {}  # flows that begin, by process, line, and when
        self._waiting: dict[int, list[tuple[str, Line]]] = {}  # by process: flows that go on to its next first token
        self._flows = 0
        self._lost = 0  # marks beyond MARKS_MAX
        self._prefilled = self._emitted = 0

    def happened(self, at: int, what: str, text: str) -> None:
        """Something was done to the machine, at a time in ns since its first event."""
        self._add(_Mark("i", WORLD, at / 1e3, 1, name=one_line(text)[:TEXT_CHARS] or what, cat=what, s="t"))

    def watch(self, event: AnyEvent, step: Step, kernel: Kernel | None) -> None:
        """What a step did; `kernel` is None where it has only just begun."""
        if self._origin is None:
            self._origin = event.at
        now = self._at = event.at - self._origin
        if isinstance(event, Booted):
            self._running.clear()
        if isinstance(event, Trapped):
            self._trapped(event, now)
        for note in step.notes:
            self._noted(note, event.at, now)
        for effect in step.effects:
            if isinstance(effect, Run):
                self._slots.add(effect.slot)
                self._running[effect.slot] = now, self._name(effect.tag.pid)
            elif isinstance(effect, Deliver):
                self._log(effect.message.pid, "said", "said", effect.message.text, now)
        if kernel is not None:
            self._look(step, kernel, now)

    def write(self, path: Path) -> int:
        """All of it, as a file that is whole or not there; how many events it had no room for.

        Raises BadInput if it cannot be written.
        """
        content = self.encoded()
        try:
            whole.write(path, content)
        except OSError as exc:
            raise BadInput(f"--trace {path}: {exc.strerror}; name a file that can be written") from exc
        return self._lost

    def encoded(self) -> bytes:
        """All of it, as a file has it."""
        if self._lost:
            text = f"the trace ends here: {self._lost} events more were left out"
            self._marks.append(_Mark("i", WORLD, self._at / 1e3, 1, name=text, cat="lost", s="g"))
        return msgspec.json.encode({"traceEvents": self._all()})

    def _all(self) -> list[_Mark]:
        """Names first, then by time, of one time the longer first; what is under way ends with the last step."""
        named = [_named(CPU, 0, "CPU"), _named(WORLD, 0, "the machine"), _named(WORLD, 1, "what happened to it")]
        named += [_named(CPU, slot + 1, f"slot {slot}") for slot in sorted(self._slots)]
        for pid, name in sorted(self._names.items()):
            group = PROCESSES + pid
            named.append(_named(group, 0, name))
            named += [
                _named(group, row, what) for row, what in ((STATES, "state"), (INTERRUPTS, "interrupts"), (LOG, "log"))
            ]
        open_ = [_slice(CPU, slot + 1, *since, self._at, "run") for slot, since in sorted(self._running.items())]
        for pid, (state, since) in sorted(self._states.items()):
            if state in BUSY:
                open_.append(_slice(PROCESSES + pid, STATES, since, state.value, self._at, "state"))
        return named + sorted([*self._marks, *open_], key=lambda one: (one.ts, -(one.dur or 0.0)))

    def _trapped(self, event: Trapped, now: int) -> None:
        """A run has ended."""
        assert self._origin is not None
        if (since := self._running.pop(event.slot, None)) is not None:
            args = {"outcome": str(event.outcome), "prefill": event.prefill, "tokens": event.decoded}
            self._add(_slice(CPU, event.slot + 1, *since, now, "run", args))
        if event.first_at:
            for flow, line in self._waiting.pop(event.pid, ()):
                name = f"first token for {line.name.lower()}"
                ts = (event.first_at - self._origin) / 1e3
                mark = _Mark("X", CPU, ts, event.slot + 1, 0.0, name, "first", bind_id=flow, flow_in=True)
                self._add(mark)
        self._prefilled += event.prefill
        self._emitted += event.decoded
        self._count(CPU, "prefilled", "tokens", self._prefilled, now)
        self._count(CPU, "emitted", "tokens", self._emitted, now)

    def _noted(self, note: Note, at: int, now: int) -> None:
        """A line of the kernel's log: of an interrupt with its flow."""
        if note.what is What.RUN:
            return
        line = note.line.name.lower() if note.line is not None else ""
        if note.what is What.INTERRUPT and note.line is not None:
            self._flows += 1
            flow = f"{self._flows:#x}"
            self._raised.setdefault((note.pid, note.line, at), []).append(flow)
            mark = _Mark("X", self._group(note.pid), now / 1e3, INTERRUPTS, 0.0, f"raised: {line}", "raised")
            mark.bind_id, mark.flow_out, mark.args = flow, True, _text(note.text)
            self._add(mark)
        elif note.what is What.DELIVERED and note.line is not None:
            mark = _Mark("X", self._group(note.pid), now / 1e3, INTERRUPTS, 0.0, f"delivered: {line}", "delivered")
            mark.args = {"waited_ms": note.ns / 1e6}
            begun = self._raised.get((note.pid, note.line, at - note.ns))
            if begun:
                mark.bind_id, mark.flow_in, mark.flow_out = begun.pop(0), True, True
                self._waiting.setdefault(note.pid, []).append((mark.bind_id, note.line))
            self._add(mark)
        else:
            size = f"{len(note.pages)} pages, {note.tokens} tokens" if note.pages and not note.text else note.text
            self._log(note.pid, str(note.what), f"{note.what} {line}".strip(), size, now)
            if note.what is What.EXIT:
                self._waiting.pop(note.pid, None)

    def _look(self, step: Step, kernel: Kernel, now: int) -> None:
        """Processes that the step has changed, and who waits for a slot."""
        for pid in sorted({unkey(record.key)[0] for record in step.records if record.table == "proc"}):
            proc = kernel.procs.get(pid)
            state = proc.state if proc is not None else State.ZOMBIE
            if proc is not None:
                self._names[pid] = proc.name
                self._count(PROCESSES + pid, "queue", "tokens", proc.space.used(), now)
                self._count(PROCESSES + pid, "interrupts", "pending", len(proc.pending), now)
            before, since = self._states.get(pid, (State.IDLE, now))
            if before is not state:
                if before in BUSY:
                    self._add(_slice(PROCESSES + pid, STATES, since, before.value, now, "state"))
                self._states[pid] = state, now
        self._count(CPU, "processes", "ready", sum(len(lane.ready) for lane in kernel.lanes.values()), now)

    def _log(self, pid: int, what: str, name: str, text: str, now: int) -> None:
        group, row = (self._group(pid), LOG) if pid else (WORLD, 1)
        self._add(_Mark("i", group, now / 1e3, row, name=name, cat=what, s="t", args=_text(text)))

    def _count(self, group: int, name: str, unit: str, value: int, now: int) -> None:
        """A counter, which Perfetto calls by its name and unit."""
        if self._counts.get((group, name)) != value:
            self._counts[group, name] = value
            self._add(_Mark("C", group, now / 1e3, name=name, args={unit: value}))

    def _group(self, pid: int) -> int:
        self._name(pid)
        return PROCESSES + pid

    def _name(self, pid: int) -> str:
        return self._names.setdefault(pid, f"process {pid}")

    def _add(self, mark: _Mark) -> None:
        if len(self._marks) < MARKS_MAX:
            self._marks.append(mark)
        else:
            self._lost += 1


def _named(group: int, row: int, name: str) -> _Mark:
    """What a group, or a row of it, is called."""
    return _Mark("M", group, 0.0, row, name="thread_name" if row else "process_name", args={"name": name})


def _slice(
    group: int, row: int, since: int, name: str, until: int, what: str, args: dict[str, Any] | None = None
) -> _Mark:
    return _Mark("X", group, since / 1e3, row, (until - since) / 1e3, name, what, args=args or {})


def _text(text: str) -> dict[str, Any]:
    return {"text": one_line(text)[:TEXT_CHARS]} if text else {}
