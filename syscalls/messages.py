"""send_message: the process speaks."""

from __future__ import annotations

from kernel import outbox, turn
from kernel.paging import summary
from kernel.process import Process
from kernel.state import Kernel
from syscalls.abi import SendMessage


def sys_send_message(kernel: Kernel, proc: Process, call: SendMessage) -> None:
    """Into the outbox, marked truncated if it reached the reply limit; ends the turn unless there is more.

    What a thread of the kernel's says is a summary.
    """
    if proc.thread:
        summary.written(kernel, proc, call.text)
        turn.rest(kernel, proc)
        return
    emission = kernel.draft.emission
    assert emission is not None, "a syscall is carried out in the step of its trap"
    outbox.say(kernel, proc, call.text, more=call.more, truncated=emission.truncated)
    if not call.more:
        turn.rest(kernel, proc)
