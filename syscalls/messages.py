"""send_message: the process speaks."""

from __future__ import annotations

from kernel import outbox, turn
from kernel.process import Process
from kernel.state import Kernel
from syscalls.abi import SendMessage


def sys_send_message(kernel: Kernel, proc: Process, call: SendMessage, truncated: bool) -> None:
    """Put the message into the outbox; ends the turn unless there is more. `truncated`: it reached the reply limit."""
    outbox.say(kernel, proc, call.text, more=call.more, truncated=truncated)
    if not call.more:
        turn.rest(kernel, proc)
