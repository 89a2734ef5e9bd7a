"""What becomes of a call: by the rights of the process, and by whose words are in view when it is made.

A call made while pages are in view that are not the user's is tainted: what it says may be theirs. The process's policy
(`Spec.tainted`) has it carried out, denied, or asks: then the process waits, across restarts too, until somebody
decides (event Consented), and the call is carried out or answered with a refusal. The audit keeps every tainted call,
and every one beyond mask or rights, with the pages that were in view, whatever was added to another's archive, and
what was to be done twice in a turn.
Not here: how a call is decoded and carried out (the table of syscalls), where pages come from (machine/accessed.py).
"""

from __future__ import annotations

from kernel import capabilities, external, manner, outbox, records, rights, tried, waiting
from kernel.errors import BadInput, SyscallError
from kernel.event import Consented, What
from kernel.limits import AUDITS_MAX
from kernel.memory.page import Kind
from kernel.paging import transcript
from kernel.process import Consent, Process, State
from kernel.records import Audited
from kernel.state import Kernel


def entered(kernel: Kernel, proc: Process, name: str, text: str, *, inward: bool) -> bool:
    """Whether a call known as `name`, emitted as `text`, is to be carried out now; else it is answered, or waits for
    consent.

    `inward`: it changes nothing but what is in view, and says nothing to anybody but the user. Raises SyscallError for
    one that the process has no right to, or that is denied.
    """
    by: tuple[str, ...] = ()
    if ":" in name:
        try:
            by = capabilities.demand(kernel, proc, name)
        except SyscallError as exc:
            refused(kernel, proc, str(exc))
            raise
    if tried.is_done(kernel, proc):
        _repeated(kernel, proc, by)
        return False
    if inward or not kernel.draft.low:
        return True
    verdict = rights.verdict(proc.spec.tainted, name)
    if verdict == "deny":
        why = f"{name} is denied while text that is not the user's is in view"
        _keep(kernel, proc, "denied", why, by)
        raise SyscallError(why)
    if verdict == "ask":
        _ask(kernel, proc, name, text, by)
        return False
    _keep(kernel, proc, "allowed", "", by)
    return True


def _repeated(kernel: Kernel, proc: Process, by: tuple[str, ...]) -> None:
    """Answer a call that was done just now, which is not done again; again and again, it ends the turn."""
    page = external.answer(proc)
    why = f"done already, page {page} is the answer" if page else "done already"
    _keep(kernel, proc, "repeated", why, by)
    tried.begun(kernel, proc)
    tried.failed(kernel, proc, why)
    transcript.answer(kernel, proc, kernel.iset.alert("repeated", proc.spec.calls))


def refused(kernel: Kernel, proc: Process, why: str) -> None:
    """A call was made that mask or rights do not allow."""
    _keep(kernel, proc, "forbidden", why)


def stored(kernel: Kernel, proc: Process, owner: Process, page: int) -> None:
    """A process has added a page to another's archive: the audits of both say so."""
    by = capabilities.held(kernel, proc, f"remember:{owner.name}") or ()
    for one in (proc, owner):
        _keep(
            kernel, one, "allowed", f"page {page} by {proc.name}; it is of {owner.name}, for whose limits it counts", by
        )


def _keep(kernel: Kernel, proc: Process, verdict: str, why: str = "", by: tuple[str, ...] = ()) -> None:
    """Have the audit of a process say what became of a call; the newest of them are kept."""
    if proc.thread:
        return
    kernel.dirty(proc)
    proc.audits += 1
    kept = Audited(kernel.wall, kernel.counters.lsn + 1, kernel.draft.call, kernel.draft.low, verdict, why, by)
    kernel.write("audit", records.key(proc.pid, proc.audits), records.encode(kept))
    if proc.audits > AUDITS_MAX:
        kernel.write("audit", records.key(proc.pid, proc.audits - AUDITS_MAX), None)
    if verdict != "allowed":
        kernel.note(What.CALL, proc, pages=kernel.draft.low, text=f"{verdict}: {kernel.draft.call}")


def _ask(kernel: Kernel, proc: Process, name: str, text: str, by: tuple[str, ...]) -> None:
    """Let a process wait until somebody has decided about its call, and tell whoever listens."""
    low = kernel.draft.low
    _keep(kernel, proc, "asked", "", by)
    transcript.emitted(kernel, proc)
    waiting.block(kernel, proc, Consent(proc.pid, proc.req + 1, text, name, low))
    asked = kernel.iset.alert("asks", proc.spec.calls, name=proc.name, call=kernel.draft.call)
    outbox.tell(kernel, proc, asked, asks=True)


def consented(kernel: Kernel, event: Consented) -> Process:
    """Somebody has decided: the call is carried out, or refused. The process, which then goes on if its turn does."""
    proc = kernel.proc(event.pid)
    what = proc.wait
    if not isinstance(what, Consent) or what.req != event.req:
        raise BadInput(f"process {proc.name} asks for nothing that could be allowed; `llmos audit` shows what it asked")
    kernel.draft.about = proc.pid
    kernel.draft.call, kernel.draft.low = what.name, what.low
    waiting.over(kernel, proc)
    _keep(kernel, proc, "granted" if event.yes else "denied", "" if event.yes else "by whoever was asked")
    try:
        if not event.yes:
            raise SyscallError("the user does not allow this")
        kernel.iset.carry_out(kernel, proc, what.text, manner.writes(kernel, proc), what.name)
    except SyscallError as exc:
        kernel.note(What.ERROR, proc, text=str(exc))
        tried.failed(kernel, proc, str(exc))
        transcript.tell(kernel, proc, f"error: {exc}", Kind.RESULT, proc.space.group)
    return proc


def check(proc: Process) -> None:
    """Assert that who waits for consent can be told from all others, and that the audit is numbered."""
    assert proc.audits >= 0
    assert not isinstance(proc.wait, Consent) or proc.state is State.BLOCKED
