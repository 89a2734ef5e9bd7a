"""Processes that processes make: spawned, or forked in the middle of a turn; waited for, and killed.

A child may do no more than its parent: its mask and rights are parts of its parent's, its limits no looser, its policy
no laxer. Its name stands under its parent's (`crew/reader`), so that nobody takes another one's. Checks first: a call
that is refused has changed nothing.
Not here: what the end of a child means (kin.py), messages (ipc.py), rights (capabilities.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from kernel import awaiting, capabilities, ipc, kin, life, quota, rights, turn
from kernel.errors import BadInput, SyscallError, some
from kernel.event import What
from kernel.limits import CHILDREN_MAX
from kernel.memory.page import Kind
from kernel.paging import segments, transcript
from kernel.process import Await, Fate, Process, State
from kernel.rights import Limits
from kernel.spec import Spec
from kernel.state import Kernel


def named(kernel: Kernel, proc: Process, name: str) -> Process:
    """The process that another one calls so: "parent", a child by the end of its name, or anybody by the whole of it.

    Raises SyscallError if there is none.
    """
    found = proc.parent if name == "parent" else kernel.names.get(f"{proc.name}/{name}") or kernel.names.get(name)
    other = kernel.procs.get(found or 0)
    if other is None or other.thread or other.reaped:
        mine = sorted(kernel.procs[pid].name for pid in kernel.children.get(proc.pid, ()))
        raise SyscallError(f"no process {name[:80]}; your children are {some(mine)}")
    return other


def _spec(
    kernel: Kernel, proc: Process, name: str, system: str, model: str, calls: Sequence[str], limits: Limits
) -> Spec:
    """What a child is to be made of. Raises SyscallError for more than its parent has."""
    beyond = [call for call in calls if call not in proc.spec.calls]
    if beyond:
        raise SyscallError(f"calls {some(beyond)} are none of yours; a child may have of {', '.join(proc.spec.calls)}")
    if model and model not in kernel.models:
        raise SyscallError(f"no model {model[:80]}; there are {some(one for one in kernel.models if one)}")
    quota.need(
        kernel, proc, "children", len(kernel.children.get(proc.pid, ())), proc.spec.limits.children, CHILDREN_MAX
    )
    spec = msgspec.structs.replace(
        proc.spec,
        name=f"{proc.name}/{name}",
        calls=tuple(calls) or proc.spec.calls,
        system=system or proc.spec.system,
        blocks={},
        model=model or kernel.model_of(proc.pid),
        limits=rights.within(limits, proc.spec.limits),
    )
    try:
        life.check_name(kernel, spec.name)
    except BadInput as exc:
        raise SyscallError(str(exc)) from exc
    if spec.name in kernel.names:
        raise SyscallError(f"process {spec.name} exists; take another name")
    return spec


def spawn(
    kernel: Kernel,
    proc: Process,
    name: str,
    *,
    task: str = "",
    system: str = "",
    model: str = "",
    calls: Sequence[str] = (),
    given: Sequence[str] = (),
    limits: Limits = Limits(),  # noqa: B008  # frozen
) -> Process:
    """A new child, with `task` as its first letter; of what it may the parent's, or the part that is named.

    Raises SyscallError for what it cannot be.
    """
    spec = _spec(kernel, proc, name, system, model, calls, limits)
    return _made(kernel, proc, spec, task, given, lambda: life.make(kernel, spec))


def fork(kernel: Kernel, proc: Process, name: str, task: str) -> Process:
    """A child that sees what its parent sees, this call included, and has its rights; `task`: its first letter."""
    spec = msgspec.structs.replace(_spec(kernel, proc, name, "", "", (), Limits()), blocks=proc.spec.blocks)

    def copy() -> Process:
        transcript.emitted(kernel, proc)  # the child sees the call that made it
        return life.copy(kernel, proc, spec)

    given = [grant.right for grant in proc.grants]
    return _made(kernel, proc, spec, task, given, copy, copied=True)


def _made(
    kernel: Kernel,
    proc: Process,
    spec: Spec,
    task: str,
    given: Sequence[str],
    make: Callable[[], Process],
    *,
    copied: bool = False,
) -> Process:
    """A child of a process, once all is checked that it is to get."""
    if task:
        ipc.written(kernel, proc, spec.model, task)
    try:
        for right in given:
            capabilities.check_gift(kernel, proc, right)
        child = make()
    except BadInput as exc:
        raise SyscallError(str(exc)) from exc
    child.parent, child.group = proc.pid, life.group(proc)
    if not copied:
        kernel.note(What.SPAWN, child, text=child.name)
    kernel.children.setdefault(proc.pid, set()).add(child.pid)
    kernel.dirty(proc)
    for right in given:
        capabilities.give(kernel, proc, child, right)
    segments.text(kernel, child)
    if copied:
        told = kernel.iset.alert("forked", child.spec.calls, name=child.name, parent=proc.name)
        transcript.tell(kernel, child, told, Kind.RESULT, child.space.group)
        child.space.turn = len(child.space.queue)
    if task:
        ipc.send(kernel, proc, child, task)
        turn.wake(kernel, child)
    return child


def wait(kernel: Kernel, proc: Process, name: str, seconds: int, reply: int) -> None:
    """Wait until a child (or, without a name, any) has ended, or until a message is answered.

    Raises SyscallError where there is nothing to wait for, or nobody would ever go on.
    """
    if reply:
        _for_reply(kernel, proc, reply, seconds)
        return
    children = [kernel.procs[pid] for pid in sorted(kernel.children.get(proc.pid, ()))]
    if name:
        children = [named(kernel, proc, name)]
    if not children:
        raise SyscallError("you have no children to wait for")
    dead = [child for child in children if child.state is State.ZOMBIE]
    if dead:
        transcript.answer(kernel, proc, _ended(kernel, proc, dead[0]))
        if dead[0].parent == proc.pid:
            kin.reap(kernel, dead[0])
        return
    awaiting.begin(kernel, proc, [child.pid for child in children], seconds)


def _for_reply(kernel: Kernel, proc: Process, number: int, seconds: int) -> None:
    letter = next((one for one in proc.letters if one.id == number), None)
    if letter is None:
        raise SyscallError(f"you sent no message {number}; there are {some(one.id for one in proc.letters)}")
    if letter.fate is Fate.ANSWERED:
        transcript.answer(kernel, proc, f"message {number} is answered")
        return
    other = kernel.procs.get(letter.to)
    if letter.fate is Fate.DEAD or other is None or other.state is State.ZOMBIE:
        raise SyscallError(f"message {number} is answered no more: its reader has ended")
    awaiting.begin(kernel, proc, [letter.to], seconds, letter=number)


def answered(kernel: Kernel, writer: Process, number: int) -> None:
    """A letter has its answer, which is pending: who waits for it goes on."""
    if isinstance(writer.wait, Await) and writer.wait.letter == number:
        awaiting.over(kernel, writer, f"message {number} is answered:")
        turn.go_on(kernel, writer)


def _ended(kernel: Kernel, proc: Process, dead: Process) -> str:
    return kernel.iset.alert("ended", proc.spec.calls, name=dead.name, status=dead.status)


def kill(kernel: Kernel, proc: Process, other: Process) -> None:
    """End another process. Its parent knows how if it did it itself, and it goes for good.

    Raises SyscallError for one that is dead, and for the process itself.
    """
    if other is proc:
        raise SyscallError("exit ends yourself")
    if other.state is State.ZOMBIE and other.parent != proc.pid:
        raise SyscallError(f"{other.name} is dead already")
    mine = other.parent == proc.pid
    kernel.dirty(other)
    if other.state is not State.ZOMBIE:
        life.end(kernel, other, f"killed by {proc.name}", told=not mine)
    if mine:
        kin.reap(kernel, other)
