"""Blocks that several processes read and write: each has an owner, a version, and those who are told when it changes.

A write names the version that its writer saw; where that is another by now, it is an error that says which, so nobody
undoes what he has not read. What others have written is shown as theirs: quoted, and of origin peer.
Not here: who may (capabilities.py: `read:NAME`, `write:NAME`; the owner may), core memory, which is one process's own.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from kernel import records
from kernel.errors import SyscallError, some
from kernel.interrupts import Line
from kernel.limits import PENDING_MAX, SHARED_MAPPED_MAX, SHARED_MAX
from kernel.memory.page import Origin
from kernel.paging import alloc, transcript
from kernel.process import Process, State
from kernel.records import Shared
from kernel.state import Kernel


def named(kernel: Kernel, proc: Process, name: str) -> str:
    """The whole name of a block: one of the process's own is called by the end of it, too."""
    own = f"{proc.name}/{name}"
    return own if own in kernel.shared else name


def look(kernel: Kernel, proc: Process, name: str, *, follow: bool) -> None:
    """Show a block; `follow`: and tell the process of each write of others from now on."""
    block = kernel.shared.get(name)
    if block is None:
        raise SyscallError(f"no shared block {name[:80]}; there are {some(kernel.shared)}")
    if follow and proc.pid not in block.mapped:
        if len(block.mapped) >= SHARED_MAPPED_MAX:
            raise SyscallError(f"{SHARED_MAPPED_MAX} processes follow {name} already, as many as may")
        block = msgspec.structs.replace(block, mapped=(*block.mapped, proc.pid))
        _keep(kernel, block)
    said = kernel.iset.alert("shared", proc.spec.calls, name=name, version=block.version, text=block.text)
    theirs = block.low or block.writer != proc.pid
    transcript.answer(kernel, proc, said, origin=Origin.PEER if theirs else Origin.KERNEL)


def write(kernel: Kernel, proc: Process, name: str, text: str, version: int) -> list[Process]:
    """Write a block whose `version` was seen, or make one (version 0); an empty text removes it. Who is to be woken."""
    block = kernel.shared.get(name)
    if block is None:
        _new(kernel, proc, name, text, version)
        block = Shared(name, proc.pid, "", 0, 0, False, ())
    elif block.version != version:
        raise SyscallError(f"{name} has version {block.version} by now, not {version}; look at it again")
    low = bool(kernel.draft.low)
    block = msgspec.structs.replace(block, text=text, version=block.version + 1, writer=proc.pid, low=low)
    if text:
        _keep(kernel, block)
    else:
        _drop(kernel, name)
    transcript.answer(kernel, proc, f"ok: {name} " + (f"has version {block.version}" if text else "is gone"))
    readers = [kernel.procs[pid] for pid in block.mapped if pid != proc.pid]
    return [reader for reader in readers if _told(kernel, reader, block)]


def _new(kernel: Kernel, proc: Process, name: str, text: str, version: int) -> None:
    """Refuse a block that cannot be made."""
    if version or not text:
        raise SyscallError(f"no shared block {name[:80]}; version 0 and a text make one")
    if not name.startswith(f"{proc.name}/") or not name.isprintable():
        raise SyscallError(f"a block of yours is called {proc.name}/NAME, in printable characters")
    if len(kernel.shared) >= SHARED_MAX:
        raise SyscallError(f"{SHARED_MAX} shared blocks are there, as many as are allowed")


def _told(kernel: Kernel, reader: Process, block: Shared) -> bool:
    """Have a process that follows a block told what it says now; one whose mailbox is full finds out when it writes."""
    if reader.state is State.ZOMBIE or len(reader.pending) >= PENDING_MAX:
        return False
    kernel.dirty(reader)
    said = {"name": block.name, "version": block.version, "text": block.text}
    kernel.raise_(reader, Line.IPC, alloc.alert(kernel, reader, "shared", origin=Origin.PEER, **said))
    return True


def _keep(kernel: Kernel, block: Shared) -> None:
    kernel.shared[block.name] = block
    kernel.write("shared", block.name.encode(), records.encode(block))


def _drop(kernel: Kernel, name: str) -> None:
    del kernel.shared[name]
    kernel.write("shared", name.encode(), None)


def renamed(kernel: Kernel, names: Mapping[str, str]) -> None:
    """Blocks have other names, by those of now; nobody has one of the new ones."""
    for old, new in names.items():
        block = kernel.shared[old]
        _drop(kernel, old)
        _keep(kernel, msgspec.structs.replace(block, name=new))


def forgotten(kernel: Kernel, pid: int) -> None:
    """A process is no more: its blocks go with it, and it follows none."""
    for block in list(kernel.shared.values()):
        if block.owner == pid:
            _drop(kernel, block.name)
        elif pid in block.mapped:
            _keep(kernel, msgspec.structs.replace(block, mapped=tuple(one for one in block.mapped if one != pid)))


def check(kernel: Kernel) -> None:
    """Assert that blocks are somebody's, bounded, and on disk."""
    assert len(kernel.shared) <= SHARED_MAX
    assert kernel.shares.keys("shared") == {name.encode() for name in kernel.shared}
    for name, block in kernel.shared.items():
        assert block.name == name
        assert {block.owner, *block.mapped} <= kernel.procs.keys(), "of nobody, or followed by nobody"
        assert block.version > 0
        assert len(block.mapped) <= SHARED_MAPPED_MAX
