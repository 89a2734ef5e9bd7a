"""Processes that processes make, messages between them, blocks that they share, rights, and tools."""

from __future__ import annotations

import msgspec

from kernel import capabilities, children, external, ipc, shared, tools, turn
from kernel.errors import BadInput, SyscallError
from kernel.limits import ARGUMENTS_CHARS_MAX
from kernel.paging import transcript
from kernel.process import Process
from kernel.state import Kernel
from syscalls import toolbox
from syscalls.abi import Fork, Grant, Kill, Look, Revoke, Send, Shared, Spawn, Use, Wait, Write


def sys_spawn(kernel: Kernel, proc: Process, call: Spawn) -> None:
    """The child lives from its task on; without one, from the first message."""
    child = children.spawn(
        kernel,
        proc,
        call.name,
        task=call.task,
        system=call.system,
        model=call.model,
        calls=call.calls,
        given=call.rights,
        limits=call.limits,
    )
    transcript.answer(kernel, proc, f"ok: process {child.pid} ({child.name})")


def sys_fork(kernel: Kernel, proc: Process, call: Fork) -> None:
    """Both go on: the parent with the child's name, the child with the news that it is one."""
    child = children.fork(kernel, proc, call.name, call.task)
    transcript.answer(kernel, proc, f"ok: process {child.pid} ({child.name})")


def sys_wait(kernel: Kernel, proc: Process, call: Wait) -> None:
    """A child that has ended is waited for once."""
    children.wait(kernel, proc, call.child, call.seconds, call.reply)


def sys_kill(kernel: Kernel, proc: Process, call: Kill) -> None:
    """Another process ends at its next token."""
    other = children.named(kernel, proc, call.process)
    name = other.name
    children.kill(kernel, proc, other)
    transcript.answer(kernel, proc, f"ok: {name} is dead")


def sys_send(kernel: Kernel, proc: Process, call: Send) -> None:
    """The number is that of the message, for a wait and for a reply."""
    other = children.named(kernel, proc, call.to)
    if other is proc:
        raise SyscallError("that is yourself")
    letter = ipc.send(kernel, proc, other, call.text, call.reply_to)
    transcript.answer(kernel, proc, f"ok: message {letter.id} to {other.name}")
    if call.reply_to:
        children.answered(kernel, other, call.reply_to)
    turn.wake(kernel, other)


def sys_grant(kernel: Kernel, proc: Process, call: Grant) -> None:
    """To a child, of what the process holds itself."""
    child = _child(kernel, proc, call.child)
    try:
        capabilities.give(kernel, proc, child, call.right)
    except BadInput as exc:
        raise SyscallError(str(exc)) from exc
    transcript.answer(kernel, proc, f"ok: {child.name} holds {call.right}")


def sys_revoke(kernel: Kernel, proc: Process, call: Revoke) -> None:
    """What the child has given on goes with it."""
    child = _child(kernel, proc, call.child)
    gone = capabilities.take(kernel, child, call.right, proc.pid)
    if not gone:
        raise SyscallError(f"{child.name} has nothing of {call.right} from you")
    transcript.answer(kernel, proc, f"ok: {gone} taken")


def sys_look(kernel: Kernel, proc: Process, call: Look) -> None:
    """What others have written stands quoted."""
    shared.look(kernel, proc, shared.named(kernel, proc, call.block), follow=call.follow)


def sys_write(kernel: Kernel, proc: Process, call: Write) -> None:
    """A stale version is an error that says which it is."""
    for reader in shared.write(kernel, proc, shared.named(kernel, proc, call.block), call.text, call.version):
        turn.wake(kernel, reader)


def sys_use(kernel: Kernel, proc: Process, call: Use) -> None:
    """Its result comes when the tool has answered; the process waits."""
    tool = tools.named(kernel, proc, call.tool)
    if wrong := toolbox.wrong(tool, call.arguments):
        raise SyscallError(f"{tool.name}: {wrong}; {toolbox.takes(tool)}")
    arguments = msgspec.json.encode(call.arguments).decode()
    if len(arguments) > ARGUMENTS_CHARS_MAX:
        raise SyscallError(f"the arguments have {len(arguments)} characters; {ARGUMENTS_CHARS_MAX} are allowed")
    external.begin(kernel, proc, tool, arguments)


def _child(kernel: Kernel, proc: Process, name: str) -> Process:
    other = children.named(kernel, proc, name)
    if other.parent != proc.pid:
        raise SyscallError(f"{other.name} is no child of yours")
    return other


def needed(kernel: Kernel, proc: Process, call: object) -> str:
    """The right that a call needs; "" if it needs none. Raises SyscallError for a process that is not there."""
    if isinstance(call, Shared) and call.whose:
        return f"{call.shared}:{children.named(kernel, proc, call.whose).name}"
    match call:
        case Send(to=name):
            return f"send:{children.named(kernel, proc, name).name}"
        case Kill(process=name):
            return f"kill:{children.named(kernel, proc, name).name}"
        case Look(block=name):
            return f"read:{shared.named(kernel, proc, name)}"
        case Write(block=name):
            return f"write:{shared.named(kernel, proc, name)}"
        case Wait(child=name) if name:
            return f"wait:{children.named(kernel, proc, name).name}"
        case Use(tool=name):
            return f"tool:{name}"
        case _:
            return ""
