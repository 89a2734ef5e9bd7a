"""What changes the world: an intent is committed, then a tool acts, then what came of it is told, once.

The process waits meanwhile, as for any request; its deadline is the device's. What it may not be told is that nothing
was done when nobody knows: where the machine went down between intent and completion, the outcome is unknown, and the
process is told so, unless the tool may be used once more (Tool.safe): then it is. Who is killed, or stopped, waits no
more: its intent goes, and the device is told, which keeps the server. What may not be done twice is not done again by
the same call of a turn that has heard nothing since (tried.py).
What a tool answers is not the user's: pages of origin TOOL, quoted where they were measured (machine/answers.py); of
more than fits the first are in view.
Not here: which tools there are (tools.py), who performs it (drivers/device/).
"""

from __future__ import annotations

import hashlib

from kernel import quota, records, tools, tried, waiting
from kernel.event import Act, Acted, Desist, Tool, What
from kernel.limits import TURN_SYSCALLS_MAX
from kernel.memory.page import Area, Kind, Origin, Role
from kernel.paging import alloc, head, queue, transcript
from kernel.process import Process
from kernel.state import Kernel


def begin(kernel: Kernel, proc: Process, tool: Tool, arguments: str) -> None:
    """Let a process use a tool: commit to it, and wait. Raises SyscallError, then nothing has changed."""
    used = kernel.used.get(proc.pid, 0)
    quota.need(kernel, proc, "uses of tools in this turn", used, proc.spec.limits.tools, TURN_SYSCALLS_MAX)
    tried.news(proc)
    transcript.emitted(kernel, proc)
    kernel.used[proc.pid] = used + 1
    kernel.write("used", records.key(proc.pid), records.encode(used + 1))
    act = Act(pid=proc.pid, req=proc.req + 1, tool=tool.name, arguments=arguments)
    waiting.block(kernel, proc, act)
    digest = hashlib.blake2b(arguments.encode(), digest_size=8).hexdigest()
    kernel.write("intent", _key(act), records.encode(records.Intent(tool.name, digest, kernel.wall)))
    kernel.note(What.TOOL, proc, text=f"{tool.name} is used")


def _key(act: Act) -> bytes:
    return records.key(act.pid, act.req)


def closed(kernel: Kernel, proc: Process) -> None:
    """A turn is over: the uses of the next are counted anew."""
    if kernel.used.pop(proc.pid, 0):
        kernel.write("used", records.key(proc.pid), None)


def acted(kernel: Kernel, event: Acted) -> Process | None:
    """A tool has answered, or could not: what it says is in view, or its beginning. The process that waited."""
    act = kernel.procs[event.pid].wait if event.pid in kernel.procs else None
    proc = waiting.completed(kernel, event)
    if proc is None:
        return None
    assert isinstance(act, Act)
    kernel.write("intent", _key(act), None)
    kernel.note(What.TOOL, proc, text=f"{act.tool} {'failed' if event.error or event.failed else 'answered'}")
    if event.error:
        _failed(kernel, proc, f"error: {event.error}", Origin.TOOL)  # it may quote what a server has said
        return proc
    room = proc.spec.limits.pages - proc.seq if proc.spec.limits.pages else len(event.parts)
    parts = event.parts[: max(1, room)]
    group = proc.space.group
    entries = [
        alloc.page(kernel, proc.pid, part, Kind.RESULT, Origin.TOOL, Role.USER, area=Area.RECALL, group=group)
        for part in parts
    ]
    if sum(entry.tokens for entry in entries) > kernel.budgets(proc).queue // 2:
        head.enter(kernel, proc, entries, "result")
    else:
        for entry in entries:
            queue.append(kernel, proc, entry)
    if event.cut or len(parts) < len(event.parts):
        transcript.tell(kernel, proc, kernel.iset.alert("cut", proc.spec.calls, pages=len(parts)))
    tool = tools.known(kernel, act.tool)
    if event.failed:
        tried.failed(kernel, proc, f"{act.tool} could not do it")
    elif tool is None or not tool.safe:
        tried.done(kernel, proc)
    return proc


def answer(proc: Process) -> int:
    """The page with which a tool answered last in this turn, if it is in view; 0: it is not."""
    turn = proc.space.queue[proc.space.turn :]
    found = [one for one in turn if one.kind is Kind.RESULT and one.role is Role.USER]
    return next((one.page for one in found if one.group == found[-1].group), 0)


def _failed(kernel: Kernel, proc: Process, why: str, origin: Origin = Origin.KERNEL) -> None:
    transcript.tell(kernel, proc, why, Kind.RESULT, proc.space.group, origin=origin)
    tried.failed(kernel, proc, why.removeprefix("error: "))


def cancel(kernel: Kernel, proc: Process) -> None:
    """A process waits no more for what a tool does, if it does so; the caller ends the wait."""
    if isinstance(proc.wait, Act):
        kernel.write("intent", _key(proc.wait), None)
        kernel.effect(Desist(proc.pid, proc.wait.req))


def resumed(kernel: Kernel, proc: Process) -> bool:
    """After a boot: have done again what may be, and tell of what may not that its outcome is unknown.

    Whether the process goes on by that; else it waits on, or waited for nothing of the kind.
    """
    act = proc.wait
    if not isinstance(act, Act):
        return False
    tool = tools.known(kernel, act.tool)
    if tool is not None and tool.safe:
        waiting.ask(kernel, proc)
        return False
    kernel.write("intent", _key(act), None)
    kernel.note(What.TOOL, proc, text=f"{act.tool}: outcome unknown")
    waiting.over(kernel, proc)
    proc.req += 1  # what may still come is an old number's
    _failed(kernel, proc, kernel.iset.alert("unknown", proc.spec.calls, tool=act.tool))
    return True


def check(kernel: Kernel) -> None:
    """Assert that there is an intent for each process that waits for a tool, and no other."""
    open_ = {records.key(pid, proc.req) for pid, proc in kernel.procs.items() if isinstance(proc.wait, Act)}
    assert all(kernel.procs[pid].in_turn for pid in kernel.used), "counted in a turn that is over"
    assert open_ == kernel.shares.keys("intent"), "an intent that nobody has, or none"
