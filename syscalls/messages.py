"""send_message: the process speaks."""

from __future__ import annotations

from kernel.core import Kernel
from syscalls.abi import SendMessage


def sys_send_message(kernel: Kernel, pid: int, call: SendMessage, truncated: bool) -> None:
    """Put the message into the outbox; `truncated` marks prose that reached the reply limit."""
    kernel.say(pid, call.text, more=call.more, truncated=truncated)
