"""What core memory was, and which facts were found when, out of the journal.

A journal is read forwards, from its beginning or, where that was cut, from the checkpoint that stands for it, so the
core memory of every process is known at each step: a fork begins with its parent's. Which call writes a block, and
with which text, the instruction set says (state.InstructionSet `written`). Nothing here changes anything.
The caller's duty: one piece at a time, each some milliseconds; any thread.
Not here: how a block is written (kernel/change.py, kernel/paging/segments.py), how it is told (llmos/mem.py).
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from kernel import checkpoint, formats, records
from kernel.errors import BadInput, SyscallError
from kernel.event import Consented, CoreWritten, Fetched, Imported, Outcome, Spawned, Trapped, What
from kernel.limits import BLOCKS_MAX
from kernel.machine.views import LOG_BYTES, LOG_PIECE, REMEMBERED_MAX, By, Remembered
from kernel.ports import Reads

if TYPE_CHECKING:
    from kernel.state import InstructionSet


class Chronicle:
    """The journal up to step `upto` (0: all of it), as far as it was read, and what it says of process `pid`."""

    def __init__(self, disk: Reads, iset: InstructionSet, pid: int, upto: int = 0) -> None:
        """Where the journal begins. Raises BadInput for a step before that."""
        self._disk, self._iset, self._pid, self._upto = disk, iset, pid, upto
        tags = [kind.__name__ for kind in (Spawned, Imported, CoreWritten, Fetched, Consented)]
        self._concerns = re.compile("|".join((*tags, What.FACT, What.FORK, *iset.writers)).encode())
        self._begin()

    def _begin(self) -> None:
        self._blocks: dict[int, dict[str, str]] = {}
        self._owners: dict[int, int] = {}  # by thread of the kernel's: for whom it works
        self._asked: dict[int, str] = {}  # by process, a call that waits for consent
        self.changes: deque[Remembered] = deque(maxlen=REMEMBERED_MAX + BLOCKS_MAX)
        first = self._disk.scan("journal", limit=1)
        self.whole, self._last = False, 0
        cut = not first or records.unkey(first[0][0]) != (1,)
        if cut and (head := checkpoint.base(self._disk)) is not None:
            self._last, form = head.lsn, formats.at(self._disk, head.lsn)
            for row in checkpoint.kept(self._disk, head, ("proc",)):
                assert row.value is not None
                proc = form.proc(row.value)
                self._blocks[proc.pid] = dict(proc.spec.blocks)
            self._all(self._pid, head.lsn, 0, By.BEFORE)
        if self._upto and self._upto < self._last:
            raise BadInput(f"what was at {self._upto} is in no journal any more, which begins at {self._last}")

    @property
    def blocks(self) -> dict[str, str]:
        """Core memory of the process after the last step that was read."""
        return dict(self._blocks.get(self._pid, {}))

    def piece(self) -> bool:
        """Read on; whether there is more. A journal that is cut meanwhile is begun with again."""
        size = 0
        rows = self._disk.scan("journal", records.key(self._last + 1), limit=LOG_PIECE)
        for at, row in rows:
            (lsn,) = records.unkey(at)
            if lsn != self._last + 1 and (head := checkpoint.base(self._disk)) is not None and head.lsn > self._last:
                self._begin()
                return True
            if self._upto and lsn > self._upto:
                return False
            self._last, size = lsn, size + len(row)
            if self._concerns.search(row):
                self._take(formats.entry(row))
            if size > LOG_BYTES:
                return True
        return len(rows) == LOG_PIECE

    def _take(self, entry: records.JournalEntry) -> None:
        event, at = entry.event, entry.event.at + entry.event.ahead
        match event:
            case Spawned(spec=spec) | Imported(spec=spec):
                made = next((note.pid for note in entry.notes if note.what is What.SPAWN), 0)
                if made and made not in self._blocks:
                    self._blocks[made] = dict(spec.blocks)
                    self._all(made, entry.lsn, at, By.BEGUN)
            case CoreWritten(pid=pid, block=block, text=text):
                self._write(Remembered(entry.lsn, at, By.OUTSIDE, block, text), pid)
            case Fetched(pid=thread, pages=pages) if pages:
                row = self._disk.get("page", records.key(pages[0].page))
                self._owners[thread] = records.page_of(row, self._disk.get).pid if row is not None else 0
            case Trapped(outcome=Outcome.SYSCALL, pid=pid, text=text):
                self._instruction(entry, pid, text)
            case Consented(pid=pid, yes=yes):
                text = self._asked.pop(pid, "")
                if yes and text:
                    self._carried_out(entry, pid, text)
            case _:
                pass
        for note in entry.notes:
            if note.what is What.FACT and note.pid == self._pid:
                self._fact(entry.lsn, at, note.pages[0])
            elif note.what is What.FORK:
                self._blocks[note.pid] = dict(self._blocks.get(getattr(event, "pid", 0), {}))
                self._all(note.pid, entry.lsn, at, By.FORK)

    def _instruction(self, entry: records.JournalEntry, pid: int, text: str) -> None:
        """What an instruction wrote: the line of its run names the call."""
        own = [note for note in entry.notes if note.pid == pid]
        called = next((note.text.partition(",")[0] for note in own if note.what is What.RUN), "")
        if called not in self._iset.writers:
            return
        if any(note.what is What.CALL and note.text.startswith("asked") for note in own):
            self._asked[pid] = text  # it is carried out when somebody has allowed it
        else:
            self._carried_out(entry, pid, text)

    def _carried_out(self, entry: records.JournalEntry, pid: int, text: str) -> None:
        """An instruction that writes core memory was carried out, unless its step has an error."""
        if any(note.what is What.ERROR and note.pid == pid for note in entry.notes):
            return
        owner, at = self._owners.get(pid, pid), entry.event.at + entry.event.ahead
        by = By.PROCESS if owner == pid else By.REFLECTION
        try:
            block, said = self._iset.written(text, self._blocks.get(owner, {}))
        except SyscallError:  # what it wrote on is not known here
            self.whole = False
            return
        self._write(Remembered(entry.lsn, at, by, block, said), owner)

    def _write(self, change: Remembered, pid: int) -> None:
        blocks = self._blocks.setdefault(pid, {})
        if change.text:
            blocks[change.block] = change.text
        else:
            blocks.pop(change.block, None)
        if pid == self._pid:
            self.changes.append(change)

    def _all(self, pid: int, lsn: int, at: int, by: By) -> None:
        if pid == self._pid:
            self.whole = by is not By.BEFORE
            self.changes += [Remembered(lsn, at, by, *one) for one in self._blocks.get(pid, {}).items()]

    def _fact(self, lsn: int, at: int, number: int) -> None:
        row = self._disk.get("page", records.key(number))
        page = records.fact_of(row) if row is not None else None
        if page is not None and page.fact is not None:
            fact = page.fact
            found = Remembered(lsn, at, By.REFLECTION, "", fact.text, number, fact.subject, fact.corrects)
            self.changes.append(found)


def newest(changes: deque[Remembered], limit: int, bytes_max: int) -> tuple[tuple[Remembered, ...], bool]:
    """The last of them, as many as a line holds, whole steps; and whether there are older ones.

    One step alone is given however much it has.
    """
    kept: list[Remembered] = []
    size = 0
    for one in reversed(changes):
        size += len(msgspec.json.encode(one))
        if kept and one.lsn != kept[-1].lsn and (len(kept) >= limit or size > bytes_max):
            return tuple(kept[::-1]), True
        kept.append(one)
    return tuple(kept[::-1]), len(changes) == changes.maxlen
