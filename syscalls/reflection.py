"""What a thread of the kernel's makes of pages that have left: facts, and core memory."""

from __future__ import annotations

from collections.abc import Mapping

from kernel.paging import facts, transcript
from kernel.process import Process
from kernel.state import Kernel
from syscalls.abi import Block, Fact


def sys_fact(kernel: Kernel, proc: Process, call: Fact) -> None:
    """A page of the archive of the process whose pages stand above."""
    number = facts.noted(kernel, proc, call.subject, call.text, call.pages, call.holds, call.corrects)
    transcript.answer(kernel, proc, f"ok: fact {number}")


def wrote_block(blocks: Mapping[str, str], call: Block) -> tuple[str, str]:
    """The block, and what it says then."""
    return call.label, call.text


def sys_block(kernel: Kernel, proc: Process, call: Block) -> None:
    """A block that there is, within the budget of core memory."""
    facts.block(kernel, proc, call.label, call.text)
    transcript.answer(kernel, proc, f"ok: {call.label} is written")
