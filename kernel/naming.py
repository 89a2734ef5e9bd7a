"""What goes by the name of a process, and stays with that process: when it is renamed it follows, when it ends it ends.

Rights over it, entries of policies about it, maps of its archive, its shared blocks, the names of its children, and
questions that wait for consent: who was given `send:ann` never holds it over another process that is called ann later.
A pattern that no process's name begins (`send:*`, `send:an*`) is of names, whoever has them; so is a right over a name
that nobody has, until somebody has it.
Not here: who holds what (capabilities.py), which names there may be (life.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from kernel import capabilities, rights, shared
from kernel.errors import BadInput
from kernel.event import What
from kernel.limits import NAME_TEXT_MAX
from kernel.process import Consent, Process
from kernel.rights import VERDICTS, Grant, Verdict
from kernel.spec import Spec, within
from kernel.state import Kernel

TOOLS: Final = "tool"  # whose objects are called as a configuration has them


def over(kernel: Kernel, right: str) -> Process | None:
    """The process that a right, or a call, is over: the one it names, or under whose name what it names stands."""
    verb, _, thing = right.partition(":")
    if verb == TOOLS:
        return None
    block = kernel.shared.get(thing) if verb in capabilities.OWNED else None
    if block is not None:
        return kernel.procs[block.owner]
    name = thing.rpartition("/")[0] if verb in capabilities.OWNED or thing.endswith("*") else thing
    while name and name not in kernel.names:  # ends: it gets shorter
        name = name.rpartition("/")[0]
    return kernel.procs[kernel.names[name]] if name else None


def moving(kernel: Kernel, proc: Process, name: str) -> dict[int, str]:
    """What a process and those that it has made under its name are called, once it is called `name`."""
    found, at = {proc.pid: name}, [proc]
    while at:  # ends: a child is younger
        parent = at.pop()
        for pid in sorted(kernel.children.get(parent.pid, ())):
            child = kernel.procs[pid]
            if _under(child.name, parent.name):
                found[pid] = found[parent.pid] + child.name[len(parent.name) :]
                at.append(child)
    return found


def renamed(kernel: Kernel, names: Mapping[int, str]) -> None:
    """Give processes the names that `moving` found, and all that goes by them. Raises BadInput before any change."""
    changed = [(proc, *_followed(kernel, proc, names)) for proc in kernel.procs.values()]
    blocks = {name: _moved(kernel, f"read:{name}", names).partition(":")[2] for name in kernel.shared}
    taken = next((new for old, new in blocks.items() if new != old and new in kernel.shared), "")
    if taken:
        raise BadInput(f"a shared block is called {taken} already")
    if long := next((new for new in blocks.values() if len(new) > NAME_TEXT_MAX), ""):
        raise BadInput(f"shared block {long[:80]!r} would have {len(long)} characters; {NAME_TEXT_MAX} are allowed")
    # Every check is above this line.
    for proc, grants, spec in changed:
        if (grants, spec) != (proc.grants, proc.spec):
            kernel.dirty(proc)
            proc.grants, proc.spec = grants, spec
    for proc in kernel.procs.values():
        _asked(kernel, proc, names)
    shared.renamed(kernel, {old: new for old, new in blocks.items() if new != old})
    for pid in names:
        del kernel.names[kernel.procs[pid].name]
    for pid, name in names.items():
        proc = kernel.procs[pid]
        kernel.dirty(proc)
        kernel.note(What.CHANGE, proc, text=f"{proc.name} is {name}")
        proc.spec = msgspec.structs.replace(proc.spec, name=name)
        kernel.names[name] = pid


def _under(name: str, above: str) -> bool:
    return name.startswith(f"{above}/")


def _moved(kernel: Kernel, right: str, names: Mapping[int, str]) -> str:
    """A right, or a call, as it is called when processes have other names."""
    owner = over(kernel, right)
    if owner is None or owner.pid not in names:
        return right
    verb, _, thing = right.partition(":")
    if thing != owner.name and not _under(thing, owner.name):
        return right  # a block that bears a name of before
    return f"{verb}:{names[owner.pid]}{thing[len(owner.name) :]}"


def _followed(kernel: Kernel, proc: Process, names: Mapping[int, str]) -> tuple[tuple[Grant, ...], Spec]:
    """Rights and choices of a process, as others are called then. Raises BadInput for what would be too long."""
    grants = tuple(_regranted(grant, _moved(kernel, grant.right, names)) for grant in proc.grants)
    tainted: dict[str, Verdict] = {}
    for key, verdict in proc.spec.tainted.items():
        new = _moved(kernel, key, names)
        tainted[new] = max(verdict, tainted.get(new, verdict), key=VERDICTS.index)
    called = {kernel.procs[pid].name: name for pid, name in names.items()}
    archives = tuple(called.get(name, name) for name in proc.spec.archives)
    spec = proc.spec
    if (tainted, archives) != (spec.tainted, spec.archives):
        spec = msgspec.structs.replace(spec, tainted=tainted, archives=archives)
        within(spec)
    return grants, spec


def _regranted(grant: Grant, right: str) -> Grant:
    if right == grant.right:
        return grant
    rights.check(right)
    return msgspec.structs.replace(grant, right=right)


def _asked(kernel: Kernel, proc: Process, names: Mapping[int, str]) -> None:
    """Have a question say which call it is by the name of now, so that no other is allowed (guard.py `consented`)."""
    wait = proc.wait
    if isinstance(wait, Consent) and (name := _moved(kernel, wait.name, names)) != wait.name:
        kernel.dirty(proc)
        proc.wait = msgspec.structs.replace(wait, name=name)


def ended(kernel: Kernel, dead: Process) -> None:
    """A process is no more: what was given over it, what it has given, and its blocks are neither.

    The caller's duty: what becomes of its PCB, which is not dirty by this.
    """
    who = f"the end of {dead.name}"
    dead.grants = ()  # so that none of them goes by that of another
    for proc in [one for one in kernel.procs.values() if one is not dead]:
        for grant in proc.grants:
            if grant in proc.grants and over(kernel, grant.right) is dead:
                capabilities.gone(kernel, proc, grant, who)
        _asked(kernel, proc, {dead.pid: f"[ended {dead.pid}]"})
        if (spec := _forgetful(kernel, proc, dead)) != proc.spec:
            kernel.dirty(proc)
            proc.spec = spec
    capabilities.forgotten(kernel, dead)
    shared.forgotten(kernel, dead.pid)


def _forgetful(kernel: Kernel, proc: Process, dead: Process) -> Spec:
    """Choices without a map of a dead process's archive, and without exceptions for it; what is stricter stays."""
    spec, policy = proc.spec, dict(proc.spec.tainted)
    for key in [key for key in policy if ":" in key and over(kernel, key) is dead]:
        rest = {one: verdict for one, verdict in policy.items() if one != key}
        if VERDICTS.index(policy[key]) < VERDICTS.index(rights.verdict(rest, key)):
            policy = rest
    archives = tuple(name for name in spec.archives if name != dead.name)
    if (policy, archives) == (spec.tainted, spec.archives):
        return spec
    return msgspec.structs.replace(spec, tainted=policy, archives=archives)
