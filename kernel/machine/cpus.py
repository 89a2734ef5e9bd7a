"""The CPUs of a machine, one a model, as one: slots are numbered through, and texts are measured by whom they are for.

Names are those by which processes name their model; "" is the first, which runs everybody who names none.
Not here: who runs where (dispatch.py), how a model is run (drivers/cpu).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from kernel.errors import BadInput
from kernel.event import AnyEvent, Model, Trapped
from kernel.memory.measure import Part
from kernel.memory.prompt import Layout
from kernel.ports import Cpu, Job, Post, Streamed
from kernel.settings import Settings


class Cpus:
    """All CPUs of a machine. It is the kernel's Measure, too."""

    def __init__(self, first: Cpu, others: Mapping[str, Cpu] | None = None) -> None:
        self.of: dict[str, Cpu] = {"": first, **(others or {})}
        self.layouts = {name: Layout(cpu.frame, cpu.tokenize, cpu.measure_id()) for name, cpu in self.of.items()}
        self._bases: dict[str, int] = {}  # the number of each one's first slot
        self._slots: list[tuple[Cpu, int]] = []
        for name, cpu in self.of.items():
            self._bases[name] = len(self._slots)
            self._slots += [(cpu, slot) for slot in range(cpu.slots)]

    def __call__(self, text: str, tokens_max: int, model: str) -> tuple[Part, ...]:
        """See memory/measure.py, Measure."""
        return self.layouts[model](text, tokens_max)

    def measures(self) -> dict[str, str]:
        """The measure of each model, by its name."""
        return {name: layout.costs.measure for name, layout in self.layouts.items()}

    def models(self, settings: Settings) -> dict[str, Model]:
        """What the kernel must know of each."""
        wanted = settings.cpu.encoding
        return {
            name: Model(
                cpu.model,
                self.layouts[name].costs,
                cpu.encoding if wanted == "auto" else wanted,
                cpu.slots,
                thinks=cpu.frame.lead is not None,
                calling=cpu.manner.encoding if wanted == "auto" else "",
                manual=cpu.manner.manual,
            )
            for name, cpu in self.of.items()
        }

    def open(self, window: int, post: Post, stream: Callable[[Streamed], None]) -> None:
        """Make room for `window` tokens a slot in all. Raises BadInput, with none open, if one cannot."""
        for name, cpu in self.of.items():
            if window > cpu.window_max:
                which = f"model {name}" if name else "the model"
                raise BadInput(
                    f"window {window} is larger than {which}'s {cpu.window_max}; take --window {cpu.window_max}"
                )
        opened: list[Cpu] = []
        try:
            for name, cpu in self.of.items():
                cpu.open(window, _numbered(post, self._bases[name]), stream)
                opened.append(cpu)
        except BaseException:
            for cpu in opened:
                cpu.close()
            raise

    def start(self, job: Job) -> None:
        """See ports.Cpu, as all that follow."""
        cpu, slot = self._slots[job.slot]
        cpu.start(job if slot == job.slot else msgspec.structs.replace(job, slot=slot))

    def preempt(self, slot: int) -> None:
        """Stop a slot."""
        cpu, own = self._slots[slot]
        cpu.preempt(own)

    def stop(self) -> None:
        """Stop all slots."""
        for slot in range(len(self._slots)):
            self.preempt(slot)

    def expect(self, pid: int, model: str) -> None:
        """Who comes next on a model."""
        self.of[model].expect(pid)

    def fork(self, parent: int, child: int, model: str) -> None:
        """Whose KV a new process may have."""
        self.of[model].fork(parent, child)

    def forget(self, pid: int) -> None:
        """Who is no more; whatever model it was run by."""
        for cpu in self.of.values():
            cpu.forget(pid)

    def close(self) -> None:
        """Stop all and free the models."""
        for cpu in self.of.values():
            cpu.close()


def _numbered(post: Post, base: int) -> Post:
    """`post` for a CPU whose slot 0 is the machine's slot `base`."""

    def posted(event: AnyEvent) -> None:
        post(msgspec.structs.replace(event, slot=event.slot + base) if isinstance(event, Trapped) else event)

    return posted if base else post
