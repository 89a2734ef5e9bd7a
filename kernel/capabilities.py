"""What a process may address: rights that it was given, and those that go with being parent or child.

Without any grant a process may send to its parent, and send to, wait for and kill its children. All else it was given:
from outside, or by a process that holds it, never more than that holds. Whoever loses a right, so do those who have it
from there, at once: what matters is who holds it when the call is made, and who does not any more is told who took it.
Not here: which syscalls may be emitted (the mask), what a right is (rights.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from kernel import rights
from kernel.errors import BadInput, SyscallError, some
from kernel.event import Granted, Revoked, What
from kernel.limits import GRANTS_MAX, TAKEN_MAX
from kernel.process import Process
from kernel.rights import ARCHIVES, Grant

if TYPE_CHECKING:  # machine/held.py asks here, and a client that has its structs needs no kernel
    from kernel.state import Kernel

KIN: Final = ("send", "wait", "kill")
OWNED: Final = ("read", "write")  # of shared blocks


def held(kernel: Kernel, proc: Process, right: str) -> tuple[str, ...] | None:
    """By what a process has a right, in words: grants with who gave them, or its kin; None if it has not."""
    verb, _, name = right.partition(":")
    if verb in KIN and not name.endswith("*"):
        other = kernel.procs.get(kernel.names.get(name, 0))
        if other is not None and other.parent == proc.pid:
            return ("its child",)
        if other is not None and verb == "send" and proc.parent == other.pid:
            return ("its parent",)
    block = kernel.shared.get(name) if verb in OWNED else None
    if verb in OWNED and (block.owner == proc.pid if block is not None else name.startswith(f"{proc.name}/")):
        return ("its owner",)
    if verb in ARCHIVES and name == proc.name:
        return ("its owner",)
    found = [grant for grant in proc.grants if rights.covers(grant.right, right)]
    return tuple(f"{grant.right} from {_giver(kernel, grant)}" for grant in found) or None


def _giver(kernel: Kernel, grant: Grant) -> str:
    return kernel.procs[grant.by].name if grant.by in kernel.procs else "outside"


def demand(kernel: Kernel, proc: Process, right: str) -> tuple[str, ...]:
    """By what a process has a right. Raises SyscallError, with what it does hold, if it has not."""
    found = held(kernel, proc, right)
    if found is None:
        taken = next((by for one, by in proc.spec.taken.items() if rights.covers(one, right)), "")
        why = f" any more: {taken} took it" if taken else ""
        raise SyscallError(f"you have no right {right}{why}; you hold {some(grant.right for grant in proc.grants)}")
    return found


def archives(proc: Process) -> tuple[tuple[str, str], ...]:
    """What a process may do with whose archives beside its own: verbs, each with a name or what names begin with."""
    found = (grant.right.partition(":") for grant in proc.grants)
    return tuple((verb, name) for verb, _, name in found if verb in ARCHIVES)


def sharing(proc: Process) -> bool:
    """Whether a process may do something with others' archives, or could."""
    return bool(archives(proc)) or any(right.partition(":")[0] in ARCHIVES for right in proc.spec.taken)


def searched(kernel: Kernel, proc: Process, name: str) -> Process | None:
    """The process of that name, if there is one and its archive may be searched."""
    found = kernel.procs.get(kernel.names.get(name, 0))
    return found if found is not None and held(kernel, proc, f"search:{name}") is not None else None


def mapped(kernel: Kernel, proc: Process) -> tuple[Process, ...]:
    """The processes from whose archives one recalls as from its own: those that it names, is not, and may search."""
    found = (searched(kernel, proc, name) for name in dict.fromkeys(proc.spec.archives))
    return tuple(one for one in found if one is not None and one is not proc)


def check_gift(kernel: Kernel, giver: Process, right: str) -> None:
    """Raises BadInput for what is no right, or none that a process holds."""
    rights.check(right)
    if held(kernel, giver, right) is None:
        raise BadInput(f"you have no right {right} to give; you hold {some(grant.right for grant in giver.grants)}")


def give(kernel: Kernel, giver: Process | None, taker: Process, right: str) -> None:
    """Give a right, from outside (None) or as far as the giver holds it. Raises BadInput, then nothing has changed."""
    of = 0
    if giver is None:
        rights.check(right)
    else:
        check_gift(kernel, giver, right)
        of = next((grant.id for grant in giver.grants if rights.covers(grant.right, right)), 0)
    if any(rights.covers(grant.right, right) for grant in taker.grants):
        return
    if len(taker.grants) >= GRANTS_MAX:
        raise BadInput(f"{taker.name} holds {GRANTS_MAX} rights, as many as are allowed")
    kernel.dirty(taker)
    number = max((grant.id for grant in taker.grants), default=0) + 1
    _taken(taker, {one: who for one, who in taker.spec.taken.items() if not rights.covers(right, one)})
    taker.grants = (*taker.grants, Grant(number, right, giver.pid if giver is not None else 0, of))
    kernel.note(What.GRANT, taker, text=f"{right} from {giver.name if giver is not None else 'outside'}")


def take(kernel: Kernel, taker: Process, right: str, by: int | None = None) -> int:
    """Take what `right` covers, of what was given `by` one process or (None) by anybody; how many grants have gone.

    Whoever has it from there loses it as well.
    """
    lost = [one for one in taker.grants if rights.covers(right, one.right) and by in (None, one.by)]
    who = kernel.procs[by].name if by is not None else "somebody outside"
    for grant in lost:
        gone(kernel, taker, grant, who)
    return len(lost)


def _taken(holder: Process, taken: dict[str, str]) -> None:
    """The newest rights that a process has lost, with who took them."""
    if taken != holder.spec.taken:
        holder.spec = msgspec.structs.replace(holder.spec, taken=dict(list(taken.items())[-TAKEN_MAX:]))


def gone(kernel: Kernel, holder: Process, grant: Grant, who: str) -> None:
    """A grant is no more, and none of those that were made of it. Ends: each is of an older one."""
    kernel.dirty(holder)
    holder.grants = tuple(one for one in holder.grants if one is not grant)
    _taken(holder, {**holder.spec.taken, grant.right: who})
    kernel.note(What.GRANT, holder, text=f"{grant.right} is taken")
    for proc in kernel.procs.values():
        for one in proc.grants:
            if (one.by, one.of) == (holder.pid, grant.id) and one in proc.grants:
                gone(kernel, proc, one, who)


def forgotten(kernel: Kernel, giver: Process) -> None:
    """A process is no more: what it has given goes with it."""
    for proc in kernel.procs.values():
        for grant in proc.grants:
            if grant.by == giver.pid and grant in proc.grants:
                gone(kernel, proc, grant, f"the end of {giver.name}")


def granted(kernel: Kernel, event: Granted) -> None:
    """Somebody outside gives a right."""
    proc = kernel.proc(event.pid)
    kernel.draft.about = proc.pid
    give(kernel, None, proc, event.right)


def revoked(kernel: Kernel, event: Revoked) -> None:
    """Somebody outside takes rights. Raises BadInput if the process holds none of them."""
    proc = kernel.proc(event.pid)
    kernel.draft.about = proc.pid
    if not take(kernel, proc, event.right):
        raise BadInput(f"{proc.name} holds nothing of {event.right}; it holds {some(g.right for g in proc.grants)}")


def check(proc: Process) -> None:
    """Assert that grants are bounded and each has a number of its own."""
    assert len(proc.grants) <= GRANTS_MAX
    assert len({grant.id for grant in proc.grants}) == len(proc.grants)
    assert len(proc.spec.taken) <= TAKEN_MAX
