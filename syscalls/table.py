"""The syscall table, handed to `boot`: ports.InstructionSet over the ABI. `match` lets mypy prove it total."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, assert_never

from kernel.process import Process
from kernel.state import Kernel
from syscalls import abi, grammar, manual, words
from syscalls.abi import AnySyscall
from syscalls.decode import decode
from syscalls.interrupts import sys_mask, sys_unmask
from syscalls.memory import (
    sys_core_append,
    sys_core_replace,
    sys_evict,
    sys_pin,
    sys_read,
    sys_remember,
    sys_search,
    sys_unpin,
)
from syscalls.messages import sys_send_message
from syscalls.process import sys_exit, sys_yield
from syscalls.time import sys_cancel_timer, sys_set_timer, sys_sleep

WORDS: Final[dict[str, Callable[..., str]]] = {
    "stub": words.stub,
    "rest": words.rest,
    "pressure": words.pressure,
    "timer": words.timer,
    "raised": words.raised,
    "budget": words.budget,
    "loaded": words.loaded,
    "hits": words.hits,
}


class Table:
    """All syscalls of this machine."""

    names = abi.NAMES
    system = words.SYSTEM

    def default_mask(self, full: bool) -> tuple[str, ...]:
        """All syscalls, or speech alone for a model too small to choose: it always calls, or never."""
        return abi.NAMES if full else ("send_message",)

    def grammar(self, mask: Iterable[str], encoding: str) -> str | None:
        """Lark grammar of what a process with `mask` may emit; None: any non-empty text."""
        return grammar.grammar(tuple(mask), encoding)

    def manual(self, mask: Iterable[str], encoding: str) -> str:
        """The manual page that the model reads."""
        return manual.manual(tuple(mask), encoding)

    def alert(self, what: str, mask: Iterable[str], **numbers: Any) -> str:
        """The text of a kernel page for an occasion; "" where this mask could do nothing about it."""
        return WORDS[what](tuple(mask), **numbers)

    def execute(self, kernel: Kernel, proc: Process, text: str, encoding: str, truncated: bool) -> None:
        """Decode one instruction and carry it out. Raises SyscallError before anything has changed."""
        call = decode(text, encoding, proc.mask, truncated)
        dispatch(kernel, proc, call, truncated)


def dispatch(kernel: Kernel, proc: Process, call: AnySyscall, truncated: bool) -> None:
    """Hand a decoded syscall to its handler."""
    match call:
        case abi.SendMessage():
            sys_send_message(kernel, proc, call, truncated)
        case abi.CoreAppend():
            sys_core_append(kernel, proc, call)
        case abi.CoreReplace():
            sys_core_replace(kernel, proc, call)
        case abi.Remember():
            sys_remember(kernel, proc, call)
        case abi.Search():
            sys_search(kernel, proc, call)
        case abi.Read():
            sys_read(kernel, proc, call)
        case abi.Pin():
            sys_pin(kernel, proc, call)
        case abi.Unpin():
            sys_unpin(kernel, proc, call)
        case abi.Evict():
            sys_evict(kernel, proc, call)
        case abi.SetTimer():
            sys_set_timer(kernel, proc, call)
        case abi.CancelTimer():
            sys_cancel_timer(kernel, proc, call)
        case abi.Sleep():
            sys_sleep(kernel, proc, call)
        case abi.Mask():
            sys_mask(kernel, proc, call)
        case abi.Unmask():
            sys_unmask(kernel, proc, call)
        case abi.Yield():
            sys_yield(kernel, proc)
        case abi.Exit():
            sys_exit(kernel, proc, call)
        case _:
            assert_never(call)
