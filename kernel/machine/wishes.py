"""How single messages are to be answered, as far as their senders say: of a message alone, and of no process.

A wish is the client's, as its connection is: it is no state of the kernel's, and goes with the request or with the
machine. What it does, it does to a run: the grammar that the CPU is held to, how its words are drawn. What the CPU then
emits is journaled like anything else, so a replay needs no wish. A turn that answers several messages has the last
wish of them.
Not here: who wishes what (drivers/door/http/openai), what a grammar of a form is (state.InstructionSet).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from kernel import manner
from kernel.errors import BadInput
from kernel.event import AnyEvent, Outcome, Trapped
from kernel.machine.cpus import Cpus
from kernel.ports import Form, Wish
from kernel.state import InstructionSet, Kernel


class Wishes:
    """Those of one machine."""

    def __init__(self, kernel: Kernel, cpus: Cpus, iset: InstructionSet) -> None:
        self._kernel, self._cpus, self._iset = kernel, cpus, iset
        self._of: dict[str, list[Wish]] = {}

    @contextmanager
    def held(self, mid: str, wish: Wish | None) -> Iterator[None]:
        """Let the message of that id be answered so, from its next instruction on, while this is entered."""
        if wish is None:
            yield
            return
        held = self._of.setdefault(mid, [])
        held.append(wish)
        try:
            yield
        finally:
            held.remove(wish)
            if not held:
                self._of.pop(mid, None)

    def held_for(self, mid: str) -> Wish | None:
        """How a message is to be answered."""
        return self._of[mid][-1] if mid in self._of else None

    def of(self, pid: int) -> Wish | None:
        """The wish by which a process is run now."""
        proc = self._kernel.procs.get(pid)
        if not self._of or proc is None:
            return None
        return next((self._of[mid][-1] for mid in reversed(proc.answers) if mid in self._of), None)

    def check(self, pid: int, form: Form) -> None:
        """Raises BadInput, in one line, where nothing would hold what the process says to that form."""
        kernel = self._kernel
        proc, model = kernel.proc(pid), kernel.model_of(pid)
        grammar = self._iset.grammar(proc.spec.calls, manner.writes(kernel, proc), form)
        why = self._cpus.of[model].holds(grammar or "")
        if why:
            raise BadInput(why)

    def told(self, event: AnyEvent) -> AnyEvent:
        """An event as the kernel is to have it: an instruction whose message was held to a form, as one of text."""
        if not self._of or not isinstance(event, Trapped) or event.outcome is not Outcome.SYSCALL:
            return event
        wish, proc = self.of(event.pid), self._kernel.procs.get(event.pid)
        if wish is None or wish.form is None or proc is None:
            return event
        return msgspec.structs.replace(event, text=self._iset.plain(event.text, manner.writes(self._kernel, proc)))
