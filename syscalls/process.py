"""The process itself: what it may do, yield and exit."""

from __future__ import annotations

from kernel import life, manner, tools, turn
from kernel.errors import SyscallError
from kernel.memory.page import Origin
from kernel.paging import transcript
from kernel.process import Process
from kernel.state import Kernel
from syscalls import manual, toolbox
from syscalls.abi import Exit, Help, Yield


def sys_yield(kernel: Kernel, proc: Process, call: Yield) -> None:
    """Nothing to do until an interrupt."""
    turn.rest(kernel, proc)


def sys_help(kernel: Kernel, proc: Process, call: Help) -> None:
    """The page of a call that the mask names, as the process has to write it, or of a tool that it may use."""
    calls = proc.spec.calls
    if "/" in call.call and kernel.iset.acting in calls:
        text = toolbox.page(tools.named(kernel, proc, call.call), manner.writes(kernel, proc))
        transcript.answer(kernel, proc, text, origin=Origin.TOOL)
        return
    if call.call == kernel.iset.acting in calls:
        text = toolbox.names(tools.held(kernel, proc))
        transcript.answer(kernel, proc, f"{manual.page(call.call, manner.writes(kernel, proc))}\n{text}")
        return
    if call.call not in calls:
        raise SyscallError(f"{call.call[:80]} is none of your calls; they are {', '.join(calls)}")
    transcript.answer(kernel, proc, manual.page(call.call, manner.writes(kernel, proc)))


def sys_exit(kernel: Kernel, proc: Process, call: Exit) -> None:
    """A zombie with its status; its memory is kept."""
    life.exit(kernel, proc, call.status or "exited")
