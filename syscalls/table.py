"""The syscall table, handed to `boot`: state.InstructionSet over the ABI.

A handler is a function `sys_NAME(kernel, proc, call)` of a family's module; which syscall it carries out is said by the
annotation of its `call`, and nothing lists it. One that writes core memory has a `wrote_NAME(blocks, call)` beside it.
The table is total or is not imported: a syscall without a handler, or with two, is a panic before anything boots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, Final, get_type_hints

from kernel import capabilities, guard
from kernel.errors import KernelPanic, SyscallError
from kernel.event import Tool
from kernel.ports import Form
from kernel.process import REFLECTION, SUMMARY, Process
from kernel.state import Kernel
from syscalls import (
    abi,
    family,
    grammar,
    interrupts,
    manual,
    memory,
    messages,
    process,
    reflection,
    time,
    toolbox,
    words,
)
from syscalls.abi import Syscall
from syscalls.decode import allowed, decode, in_words, meant, name_of, parse

Handler = Callable[[Kernel, Process, Any], None]
FAMILIES: Final = (messages, memory, time, interrupts, process, family, reflection)

WORDS: Final[dict[str, Callable[..., str]]] = {
    "stub": words.stub,
    "rest": words.rest,
    "pressure": words.pressure,
    "now": words.now,
    "timer": words.timer,
    "raised": words.raised,
    "letter": words.letter,
    "shared": words.shared,
    "used": words.used,
    "cut": words.cut,
    "unknown": words.unknown,
    "undelivered": words.undelivered,
    "ended": words.ended,
    "forked": words.forked,
    "limit": words.limit,
    "asks": words.asks,
    "budget": words.budget,
    "stopped": words.stopped,
    "repeated": words.repeated,
    "stuck": words.stuck,
    "tried": words.tried,
    "loaded": words.loaded,
    "hits": words.hits,
    "contents": words.contents,
    "opened": words.opened,
    "item": words.item,
    "summary": words.summary,
    "fact": words.fact,
    "block": words.block,
}


def by_call(families: Iterable[ModuleType], prefix: str) -> dict[type[Syscall], Callable[..., Any]]:
    """Functions of modules whose names begin so, by the syscall that each is of. Raises KernelPanic for two of one."""
    found: dict[type[Syscall], Callable[..., Any]] = {}
    for module in families:
        for name, function in vars(module).items():
            if name.startswith(prefix):
                call = get_type_hints(function)["call"]
                if call in found:
                    raise KernelPanic(f"syscall {call.__name__} has two handlers: {found[call].__name__}, {name}")
                found[call] = function
    return found


def handlers(families: Iterable[ModuleType], calls: Iterable[type[Syscall]]) -> dict[type[Syscall], Handler]:
    """The handler of each of `calls`, out of the modules `families`. Raises KernelPanic unless each has exactly one."""
    found: dict[type[Syscall], Handler] = by_call(families, "sys_")
    for call in calls:
        if call not in found:
            raise KernelPanic(
                f"syscall {call.__name__} has no handler in {', '.join(one.__name__ for one in families)}"
            )
    return found


HANDLERS: Final = handlers(FAMILIES, abi.SYSCALLS.values())
WRITES: Final[dict[type[Syscall], Callable[[Mapping[str, str], Any], tuple[str, str]]]] = by_call(FAMILIES, "wrote_")


class Table:
    """All syscalls of this machine."""

    names = abi.NAMES
    system = words.SYSTEM
    threads = {  # noqa: RUF012
        SUMMARY: (("send_message",), words.SUMS_UP),
        REFLECTION: (("fact", "block", "yield"), words.REFLECTS),
    }

    acting = "use"
    writers = tuple(name for name, call in abi.SYSCALLS.items() if call in WRITES)

    def default_mask(self, full: bool) -> tuple[str, ...]:
        """All but what is given by name, or speech alone for a model too small to choose: it always calls, or never."""
        return abi.FULL if full else ("send_message",)

    def grammar(
        self,
        mask: Iterable[str],
        encoding: str,
        form: Form | None = None,
        tools: tuple[Tool, ...] = (),
        shared: tuple[str, ...] = (),
    ) -> str | None:
        """Lark grammar of what a process with `mask` may emit, of these tools; None: any non-empty text."""
        return grammar.grammar(tuple(mask), encoding, form, tools, shared)

    def sharing(self, mask: Iterable[str], archives: tuple[tuple[str, str], ...]) -> str:
        """What the manual says of others' archives."""
        return manual.sharing(tuple(mask), archives)

    def listed(self, tools: tuple[Tool, ...], most: int, encoding: str) -> str:
        """What the manual says of the tools that a process may use."""
        return toolbox.listed(tools, most, encoding)

    def plain(self, text: str, encoding: str) -> str:
        """An instruction whose message was held to a form, as one that has it as text."""
        return grammar.plain(text, encoding)

    def manual(self, mask: Iterable[str], encoding: str, form: str) -> str:
        """The manual that the model reads."""
        return manual.manual(tuple(mask), encoding, form)

    def form(self, mask: Iterable[str], wanted: str, suits: str, window: int) -> str:
        """The form of the manual."""
        return manual.form(tuple(mask), wanted, suits, window)

    def page(self, mask: Iterable[str], encoding: str, text: str) -> str:
        """The manual's page of the call that `text` was meant to be."""
        name = meant(text)
        return manual.page(name, encoding) if name in mask else ""

    def alert(self, what: str, mask: Iterable[str], **numbers: Any) -> str:
        """The text of a kernel page for an occasion; "" where this mask could do nothing about it."""
        return WORDS[what](tuple(mask), **numbers)

    def written(self, text: str, blocks: Mapping[str, str]) -> tuple[str, str]:
        """The block that an instruction wrote, and what it says since. Raises SyscallError for one that did not."""
        call = parse(text, "prose" if text.startswith(abi.TRAP_MARK) else "json", abi.NAMES, truncated=False)
        if type(call) not in WRITES:
            raise SyscallError(f"{in_words(call)} writes no block")
        return WRITES[type(call)](blocks, call)

    def execute(self, kernel: Kernel, proc: Process, text: str, encoding: str, truncated: bool) -> None:
        """Decode one instruction and carry it out. Raises SyscallError before anything has changed."""
        call = parse(text, encoding, proc.spec.calls, truncated)
        kernel.draft.call = in_words(call)
        try:
            allowed(call, proc.spec.calls)
        except SyscallError as exc:
            guard.refused(kernel, proc, str(exc))
            raise
        name = family.needed(kernel, proc, call) or name_of(call)
        if guard.entered(kernel, proc, name, text, inward=call.inward):
            HANDLERS[type(call)](kernel, proc, call)

    def carry_out(self, kernel: Kernel, proc: Process, text: str, encoding: str, name: str) -> None:
        """The same for one that was let through as `name`. Raises SyscallError where it may not be made any more."""
        call = decode(text, encoding, proc.spec.calls, False)
        right = family.needed(kernel, proc, call)
        if right:
            capabilities.demand(kernel, proc, right)
        if (right or name_of(call)) != name:
            raise SyscallError(f"what was allowed is {name}, and this is {right or name_of(call)} by now")
        HANDLERS[type(call)](kernel, proc, call)
