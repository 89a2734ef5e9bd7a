"""Text and data: the two segments that the kernel writes.

The text (manual and instructions) is shared by processes with equal ones; the data are the core blocks as of the last
fold. Both stand before the queue, so that a prompt's prefix survives.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from kernel import capabilities, manner, tools
from kernel.errors import BadInput, SyscallError, some
from kernel.limits import BLOCKS_MAX
from kernel.memory.page import Kind, Origin, Role
from kernel.paging import alloc
from kernel.process import Process
from kernel.spec import Spec
from kernel.state import Kernel

TOOLS_SHOWN: Final = (12, 8, 4, 2, 1, 0)  # how many tools are tried to be named, until they fit
TOOLS_SHARE: Final = 8  # that part of the window is the most that their list takes


def render_blocks(blocks: dict[str, str]) -> str:
    """Core memory as the model reads it: a heading and a text a block, in the order they were made."""
    return "\n\n".join(f"[{name}]\n{text}" for name, text in blocks.items() if text)


def data(kernel: Kernel, proc: Process) -> None:
    """Write the data segment anew from the blocks."""
    text = render_blocks(proc.spec.blocks)
    if not text:
        proc.space.data = None
        return
    part = alloc.measured(kernel, kernel.model_of(proc.pid), text, kernel.settings.window)[0]
    low = any(f"block {name}" in proc.low for name in proc.spec.blocks)
    origin = Origin.DERIVED if low else Origin.KERNEL
    proc.space.data = alloc.page(kernel, proc.pid, part, Kind.CORE, origin, Role.SYSTEM)


def text_of(kernel: Kernel, model: str, calls: tuple[str, ...], system: str, listed: str = "") -> str:
    """What stands in a text segment: manual, tools, then the instructions: small models copy what stands last."""
    return "\n\n".join(part for part in (manner.manual(kernel, model, calls), listed, system) if part)


def text(kernel: Kernel, proc: Process) -> None:
    """Give a process its text segment, shared with all that have the same; of its tools it names as many as fit.

    So with the archives of others, which it names in a line each, if they fit.
    """
    model, having = kernel.model_of(proc.pid), tools.held(kernel, proc)
    others = kernel.iset.sharing(proc.spec.calls, capabilities.archives(proc))
    for most in TOOLS_SHOWN if having or others else (0,):
        used = kernel.iset.listed(having, most, manner.writes(kernel, proc)) if having and most else ""
        listed = "\n\n".join(part for part in (others if most else "", used) if part)
        said = text_of(kernel, model, proc.spec.calls, proc.spec.system, listed)
        name = _name(kernel, proc, said)
        if proc.space.text_key == name:
            return
        if not most or name in kernel.texts or _fits(kernel, proc, said, listed):
            break
    if said and name not in kernel.texts:
        part = alloc.measured(kernel, model, said, kernel.settings.window)[0]
        kernel.texts[name] = alloc.page(kernel, 0, part, Kind.TEXT, Origin.KERNEL, Role.SYSTEM, model=model)
    proc.space.text, proc.space.text_key = kernel.texts.get(name), name
    assert (proc.space.text is not None) == bool(said)


def _name(kernel: Kernel, proc: Process, said: str) -> str:
    """What a text is known by."""
    return hashlib.blake2b(f"{kernel.costs(proc).measure}/{said}".encode(), digest_size=12).hexdigest()


def _fits(kernel: Kernel, proc: Process, said: str, listed: str) -> bool:
    """Whether a text leaves the queue room enough, and what it lists takes little of the window."""
    model = kernel.model_of(proc.pid)
    if alloc.size(kernel, model, listed) > kernel.settings.window // TOOLS_SHARE:
        return False
    try:
        kernel.divide(model, alloc.size(kernel, model, said) + kernel.costs(proc).role[Role.SYSTEM], proc.spec.think)
    except BadInput:
        return False
    return True


def known_texts(kernel: Kernel) -> None:
    """Have the texts that are in view, as `load` has them: a replay must make anew what the kernel made anew."""
    kernel.texts = {p.space.text_key: p.space.text for p in kernel.procs.values() if p.space.text is not None}


def blocks_fit(kernel: Kernel, spec: Spec) -> None:
    """Refuse a process whose text and core blocks do not fit the window."""
    frame = kernel.models[spec.model].costs.role[Role.SYSTEM]
    text = text_of(kernel, spec.model, spec.calls, spec.system)
    tokens = alloc.size(kernel, spec.model, text)
    limits = kernel.divide(spec.model, tokens + frame if text else 0, spec.think)
    if len(spec.blocks) > BLOCKS_MAX:
        raise BadInput(f"{len(spec.blocks)} core blocks; at most {BLOCKS_MAX} are allowed")
    data = alloc.size(kernel, spec.model, render_blocks(spec.blocks)) + frame
    if spec.blocks and data > limits.data:
        raise BadInput(f"core blocks of {data} tokens; {limits.data} fit this window")


def core_size(kernel: Kernel, proc: Process, blocks: dict[str, str]) -> int:
    """Tokens that core memory would have with these blocks, frame included."""
    return alloc.size(kernel, kernel.model_of(proc.pid), render_blocks(blocks)) + kernel.costs(proc).role[Role.SYSTEM]


def core_write(kernel: Kernel, proc: Process, block: str, text: str) -> None:
    """Set a core block; `data` has it from the next fold on. Raises SyscallError if that would outgrow its budget."""
    blocks = {**proc.spec.blocks, block: text}
    if len(blocks) > BLOCKS_MAX:
        raise SyscallError(f"no block {block}; blocks are {some(proc.spec.blocks)}, at most {BLOCKS_MAX}")
    size, limit = core_size(kernel, proc, blocks), kernel.budgets(proc).data
    if size > limit:
        raise SyscallError(f"core memory would have {size} tokens, {limit} are allowed; replace or remember instead")
    proc.spec = msgspec.structs.replace(proc.spec, blocks=blocks)
    if kernel.draft.low:
        proc.low = tuple(dict.fromkeys((*proc.low, f"block {block}")))


def check(kernel: Kernel, proc: Process) -> None:
    """Assert that equal texts are one page, and that core memory is in view: folded, or as deltas since."""
    space = proc.space
    if space.text is not None:
        assert kernel.texts[space.text_key] == space.text, "two pages of one text"
        assert space.text.kind is Kind.TEXT
    assert len(proc.spec.blocks) <= BLOCKS_MAX
    if space.data is not None:
        assert space.data.kind is Kind.CORE
        assert space.data.tokens <= kernel.budgets(proc).data
    if not any(entry.kind is Kind.DELTA for entry in space.queue):
        assert (space.data is not None) == bool(render_blocks(proc.spec.blocks)), "core memory is nowhere in view"
