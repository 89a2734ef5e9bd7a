"""What tools there are, and which of them a process may use: what servers offered last, kept as records.

So nobody has to ask a server what there is: manual, grammar and decoding are the same while it is down, and in a
replay. A tool is SERVER/TOOL; a process may use it that holds the right `tool:SERVER/TOOL`, and the syscall for it.
Not here: using one (external.py), the servers (drivers/device/), the words (the instruction set).
"""

from __future__ import annotations

import hashlib

from kernel import capabilities, records
from kernel.errors import SyscallError, some
from kernel.event import Offered, Tool, What
from kernel.limits import SERVERS_MAX, TOOLS_MAX
from kernel.process import Process
from kernel.state import Kernel


def offered(kernel: Kernel, event: Offered) -> None:
    """Keep what a server offers, in place of what it offered before; nothing: it is forgotten."""
    assert len(event.tools) <= TOOLS_MAX, "more than a driver may offer"
    if event.tools == kernel.offers.get(event.server, ()):
        return
    kernel.note(What.TOOL, text=f"{event.server} offers {len(event.tools)} tools")
    if event.tools:
        kernel.offers[event.server] = event.tools
        row: bytes | None = records.encode(records.Offer(event.server, event.tools))
    else:
        del kernel.offers[event.server]
        row = None
    kernel.write("tool", _key(event.server), row)


def _key(server: str) -> bytes:
    """Where a server's row stands: keys of a table have one length."""
    return hashlib.blake2b(server.encode(), digest_size=8).digest()


def held(kernel: Kernel, proc: Process) -> tuple[Tool, ...]:
    """The tools that a process may use now, by their servers' names."""
    if kernel.iset.acting not in proc.spec.calls:
        return ()
    return tuple(
        tool
        for _, tools in sorted(kernel.offers.items())
        for tool in tools
        if capabilities.held(kernel, proc, f"tool:{tool.name}") is not None
    )


def known(kernel: Kernel, name: str) -> Tool | None:
    """A tool by its name; None if no server offers it."""
    return next((tool for tool in kernel.offers.get(name.partition("/")[0], ()) if tool.name == name), None)


def named(kernel: Kernel, proc: Process, name: str) -> Tool:
    """A tool that a process may use, by name. Raises SyscallError, with those that it may, for any other."""
    mine = held(kernel, proc)
    found = next((tool for tool in mine if tool.name == name), None)
    if found is None:
        raise SyscallError(f"no tool {name[:80]}; you may use {some(tool.name for tool in mine)}")
    return found


def check(kernel: Kernel) -> None:
    """Assert that what is kept is bounded, and each tool is its server's."""
    assert len(kernel.offers) <= SERVERS_MAX
    for server, tools in kernel.offers.items():
        assert 0 < len(tools) <= TOOLS_MAX
        assert all(tool.name.startswith(f"{server}/") for tool in tools)
