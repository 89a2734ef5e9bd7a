"""How a process is spoken to: the encoding that it writes its instructions in, and the form of manual that it reads.

Both are of its model and its syscalls, so they are asked for and kept nowhere. Clients import this: it costs nothing.
Not here: the manual itself, which is the instruction set's; which model has which manner (drivers/cpu).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernel.process import Process
    from kernel.state import Kernel


def encoding(kernel: Kernel, model: str, calls: tuple[str, ...]) -> str:
    """How processes of a model write their instructions: who only speaks by its size, others as its profile says.

    The kernel's own threads have calls of their own, which no profile was made with.
    """
    of = kernel.models[model]
    own = (kernel.iset.default_mask(False), *(mask for mask, _ in kernel.iset.threads.values()))
    return of.encoding if calls in own else of.calling or of.encoding


def writes(kernel: Kernel, proc: Process) -> str:
    """The encoding of a process."""
    return encoding(kernel, kernel.model_of(proc.pid), proc.spec.calls)


def manual(kernel: Kernel, model: str, calls: tuple[str, ...]) -> str:
    """The manual that processes of a model and of these syscalls read."""
    return kernel.iset.manual(calls, encoding(kernel, model, calls), _form(kernel, model, calls))


def page(kernel: Kernel, proc: Process, text: str) -> str:
    """The manual's page of the call that an instruction was meant to be, for who has only the short list; else ""."""
    model, calls = kernel.model_of(proc.pid), proc.spec.calls
    if _form(kernel, model, calls) != "short":
        return ""
    return kernel.iset.page(calls, encoding(kernel, model, calls), text)


def _form(kernel: Kernel, model: str, calls: tuple[str, ...]) -> str:
    settings = kernel.settings
    return kernel.iset.form(calls, settings.cpu.manual, kernel.models[model].manual, settings.window)
