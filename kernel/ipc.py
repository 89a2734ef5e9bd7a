"""Messages between processes: letters.

A letter is a page of its reader's before its writer is told that it was accepted, so none is lost and none is doubled:
it raises IPC there, and stands in the PCB of its writer, with its fate. To a process that is dead or full it is an
error. Its text stands quoted, line by line, under a label of the kernel's, so that it can pose as nobody.
Not here: who may write to whom (capabilities.py), waiting for an answer (awaiting.py).
"""

from __future__ import annotations

import msgspec

from kernel import quota
from kernel.errors import SyscallError, some
from kernel.event import What
from kernel.interrupts import Line, Pending
from kernel.limits import LETTERS_MAX, PENDING_MAX
from kernel.memory.measure import Part
from kernel.memory.page import Area, Kind, Origin, Role
from kernel.paging import alloc
from kernel.process import Fate, Letter, Process, State
from kernel.state import Kernel


def written(kernel: Kernel, sender: Process, model: str, text: str, reply_to: int = 0) -> Part:
    """The next page, with a letter as a reader of a model sees it. Raises SyscallError for one longer than a page."""
    number = kernel.counters.page + 1
    said = kernel.iset.alert("letter", (), letter=number, sender=sender.name, reply_to=reply_to, text=text)
    part = alloc.measured(kernel, model, said, 1 << 30)[0]
    allowed = alloc.unit_text(kernel)
    if len(part.ids) > allowed:
        raise SyscallError(f"the message has {len(part.ids)} tokens; {allowed} are allowed")
    return part


def send(kernel: Kernel, sender: Process, to: Process, text: str, reply_to: int = 0) -> Letter:
    """Put a letter into a process's mailbox. Raises SyscallError, before anything has changed, if it cannot be there.

    The caller wakes the reader.
    """
    if to.state is State.ZOMBIE:
        raise SyscallError(f"process {to.name} is dead; nothing was sent")
    room = quota.most(to.spec.limits.mailbox, PENDING_MAX)
    if len(to.pending) >= room:
        raise SyscallError(f"the mailbox of {to.name} is full ({room}); nothing was sent, try again later")
    if sum(letter.fate is Fate.ACCEPTED for letter in sender.letters) >= LETTERS_MAX:
        raise SyscallError(f"{LETTERS_MAX} of your messages are yet to be delivered; nothing was sent")
    quota.need_page(kernel, to)
    if reply_to:
        _letter(to, reply_to, sender.pid)
    part = written(kernel, sender, kernel.model_of(to.pid), text, reply_to)
    kernel.dirty(to)
    entry = alloc.page(kernel, to.pid, part, Kind.MESSAGE, Origin.PEER, Role.USER, area=Area.RECALL, gist=text)
    letter = Letter(entry.page, to.pid, kernel.wall, reply_to)
    kernel.dirty(sender)
    sender.letters = _newest((*sender.letters, letter))
    kernel.posted[letter.id] = sender.pid
    kernel.raise_(to, Line.IPC, [entry])
    kernel.note(What.LETTER, sender, pages=(letter.id,), text=f"to {to.name}")
    if reply_to:
        _decided(kernel, to, reply_to, Fate.ANSWERED)
    return letter


def _newest(letters: tuple[Letter, ...]) -> tuple[Letter, ...]:
    """As many letters as are remembered: those whose fate is yet open stay, of the others the oldest go."""
    surplus = len(letters) - LETTERS_MAX
    settled = [letter.id for letter in letters if letter.fate is not Fate.ACCEPTED][: max(0, surplus)]
    return tuple(letter for letter in letters if letter.id not in settled)


def _letter(writer: Process, number: int, reader: int) -> Letter:
    """A letter of a process to another one. Raises SyscallError if there is none of that number."""
    mine = [letter for letter in writer.letters if letter.to == reader]
    for letter in mine:
        if letter.id == number:
            return letter
    raise SyscallError(f"no message {number} of {writer.name} to you; there are {some(one.id for one in mine)}")


def _decided(kernel: Kernel, writer: Process, number: int, fate: Fate) -> None:
    """A letter has another fate now; of one that its writer has forgotten nothing is known."""
    kernel.dirty(writer)
    writer.letters = tuple(
        msgspec.structs.replace(one, fate=fate) if one.id == number else one for one in writer.letters
    )


def is_letter(kernel: Kernel, one: Pending) -> bool:
    """Whether a pending interrupt brings a letter; else it brings words of the kernel's, or a user's."""
    return one.line is Line.IPC and any(page in kernel.posted for page, _ in one.pages)


def delivered(kernel: Kernel, one: Pending) -> None:
    """A pending interrupt is being delivered: if it is a letter, its writer's account of it says so."""
    for page, _ in one.pages:
        writer = kernel.procs.get(kernel.posted.pop(page, 0))
        if writer is not None and any(mine.id == page and mine.fate is Fate.ACCEPTED for mine in writer.letters):
            _decided(kernel, writer, page, Fate.DELIVERED)


def undeliverable(kernel: Kernel, dead: Process) -> list[Process]:
    """A process has ended: letters that it was not given go, and who wrote them is told. Those, to be woken."""
    lost = [one for one in dead.pending if is_letter(kernel, one)]
    dead.pending = [one for one in dead.pending if one not in lost]
    told: list[Process] = []
    for one in lost:
        page = one.pages[0][0]
        writer = kernel.procs.get(kernel.posted.pop(page))
        if writer is None or writer is dead:
            continue
        _decided(kernel, writer, page, Fate.DEAD)
        if writer.state is not State.ZOMBIE and len(writer.pending) < PENDING_MAX:
            what = alloc.alert(kernel, writer, "undelivered", letter=page, to=dead.name)
            kernel.raise_(writer, Line.IPC, what)
            told.append(writer)
    return told


def known(kernel: Kernel) -> None:
    """Find, after a boot, who wrote the letters that are yet to be delivered. O(letters)."""
    pending = {page for proc in kernel.procs.values() for page in proc.undelivered()}
    kernel.posted = {
        letter.id: proc.pid for proc in kernel.procs.values() for letter in proc.letters if letter.id in pending
    }


def check(kernel: Kernel, proc: Process) -> None:
    """Assert that letters are remembered within bounds, and that one is pending if its fate says so, and no other."""
    assert len(proc.letters) <= LETTERS_MAX
    for letter in proc.letters:
        assert (letter.fate is Fate.ACCEPTED) <= (kernel.posted.get(letter.id) == proc.pid), f"{letter.id} is nowhere"
