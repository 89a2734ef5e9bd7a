"""Audit: does a disk hold a machine's state as the kernel would have written it?

Every reference resolves, counts agree, nothing stands where nobody looks for it, and the hashes of the records add up
to the state hash of the last step. Reads a piece at a time, of a disk that nobody writes to meanwhile.
Not here: the file under the records (drivers/disk/walk.py), the indexes (drivers/index/fused.py).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from kernel import checkpoint
from kernel.event import Act, Message
from kernel.formats import entry, of
from kernel.memory.page import Page, gone
from kernel.ports import Reads, Record
from kernel.process import Await, Process, State, Timer
from kernel.records import FORMAT_ROW, HASHED, MASK, TABLES, Counters, Intent, Said, digest, encode, rows, unkey

FINDINGS_MAX: Final = 100


class Audit(msgspec.Struct):
    """What was looked at, and what was found wrong with it, in one line each."""

    lsn: int = 0
    hash: str = ""
    processes: int = 0
    pages: int = 0
    messages: int = 0
    timers: int = 0
    mids: int = 0
    journal: int = 0
    findings: list[str] = []


def audit(disk: Reads) -> Audit:
    """Look through all tables. O(all), about 10 us a record. Raises DeviceError where a record is damaged."""
    return _Auditor(disk).run()


def logical(disk: Reads) -> str:
    """A hash of the state without what records.TABLES sets outside: equal for confluent runs, whatever befell them."""
    total = 0
    for name in HASHED:
        table = TABLES[name]
        for row, value in rows(disk, name):
            if (name, row) != FORMAT_ROW:
                seen = (
                    value
                    if table.value is None
                    else encode(_logical(msgspec.msgpack.decode(value, type=table.value), name))
                )
                total += digest(Record(name, row, seen))
    return (total & MASK).to_bytes(16, "little").hex()


def _logical(one: Any, name: str) -> Any:
    table = TABLES[name]
    for field, outside in table.nested.items():
        setattr(one, field, [msgspec.structs.replace(each, **outside) for each in getattr(one, field)])
    return msgspec.structs.replace(one, **table.outside)


class _Auditor:
    def __init__(self, disk: Reads) -> None:
        self.disk = disk
        self.found = Audit(findings=[])
        self.total = 0
        self.owner: list[int] = [0]  # by page number
        self.procs: dict[int, Process] = {}

    def run(self) -> Audit:
        """The parts, in an order in which each knows what it refers to."""
        raw = self.disk.get("meta", b"kernel")
        self.counters = msgspec.msgpack.decode(raw, type=Counters) if raw is not None else Counters()
        if raw is not None:
            self._counted("meta", b"kernel", raw)
        self._journal()
        self._pages()
        self._processes()
        self._timers()
        self._outbox()
        self._tools()
        self._mids()
        self._said()
        self._ids()
        want = checkpoint.state_hash(self.disk)
        have = (self.total & MASK).to_bytes(16, "little")
        self.found.lsn, self.found.hash = self.counters.lsn, have.hex()
        if want != have:
            self._wrong(f"the records add up to state {have.hex()}, and the last step left {want.hex()}")
        return self.found

    def _wrong(self, what: str) -> None:
        if len(self.found.findings) < FINDINGS_MAX:
            self.found.findings.append(what)

    def _counted(self, table: str, row: bytes, value: bytes) -> None:
        self.total += digest(Record(table, row, value))

    def _journal(self) -> None:
        head = checkpoint.base(self.disk)
        expected = 1 if head is None else head.lsn + 1
        for row, value in rows(self.disk, "journal"):
            (lsn,) = unkey(row)
            if head is not None and lsn <= head.lsn:
                continue  # the cut of a compaction has not come to it yet
            if lsn != expected or entry(value).lsn != lsn:
                self._wrong(f"journal: entry {lsn} stands where {expected} should")
            expected = lsn + 1
            self.found.journal += 1
        if expected != self.counters.lsn + 1:
            self._wrong(f"journal: it ends at {expected - 1}, and {self.counters.lsn} steps were taken")

    def _pages(self) -> None:
        decoder = msgspec.msgpack.Decoder(Page)
        self.seqs: dict[int, int] = {}
        living = {unkey(row)[0] for row, _ in rows(self.disk, "proc")}
        left: set[int] = set()  # of processes that were removed
        shown: set[int] = set()
        missing = 0  # pages between those that are there
        for row, value in rows(self.disk, "page"):
            page = decoder.decode(value)
            self._counted("page", row, value)
            if unkey(row) != (page.id,) or page.id < len(self.owner):
                self._wrong(f"page: {page.id} stands where {len(self.owner)} should")
            missing += max(0, page.id - len(self.owner))
            missing -= (gone(page) or (0, 0))[1]
            while len(self.owner) <= page.id:
                self.owner.append(-1)
            self.owner[page.id] = page.pid
            if page.of >= page.id:
                self._wrong(f"page {page.id}: it shows page {page.of}, which is not older")
            shown.add(page.of)
            if page.pid and page.pid not in living:
                left.add(page.id)
            elif page.pid:
                if page.seq != self.seqs.get(page.pid, 0) + 1:
                    self._wrong(f"page {page.id}: it is number {page.seq} of process {page.pid}, out of order")
                self.seqs[page.pid] = page.seq
            self.found.pages += 1
        for number in sorted(left - shown):
            self._wrong(f"page {number}: process {self.owner[number]} is no more, and nobody shows it")
        if missing:
            self._wrong(f"page: {missing} are missing, beside those that were removed")
        if len(self.owner) != self.counters.page + 1:
            self._wrong(f"page: the last is {len(self.owner) - 1}, and {self.counters.page} were made")

    def _processes(self) -> None:
        form = of(self.disk)
        for row, value in rows(self.disk, "proc"):
            proc = form.proc(value)
            self._counted("proc", row, value)
            self.procs[proc.pid] = proc
            self.found.processes += 1
            name = f"process {proc.pid}"
            if unkey(row) != (proc.pid,) or proc.pid > self.counters.pid:
                self._wrong(f"{name}: its number was never given")
            if proc.seq != self.seqs.get(proc.pid, 0):
                self._wrong(f"{name}: it counts {proc.seq} pages and has {self.seqs.get(proc.pid, 0)}")
            space = proc.space
            own = [entry.page for entry in space.queue]
            seen = [entry.page for entry in space.recall]
            seen_of = proc.work.owner if proc.work is not None else proc.pid
            own += [entry.page for entry in (space.data,) if entry is not None]
            own += [page for one in proc.pending for page, _ in one.pages]
            for page, owner in [*((page, proc.pid) for page in own), *((page, seen_of) for page in seen)]:
                if self._owner(page) != owner:
                    self._wrong(f"{name}: page {page} of its page table is missing or another's")
            if space.text is not None and self._owner(space.text.page) != 0:
                self._wrong(f"{name}: its text, page {space.text.page}, is missing or another's")
            if (proc.wait is not None) != (proc.state is State.BLOCKED):
                self._wrong(f"{name}: it is {proc.state} and waits for {proc.wait}")
            if not 0 <= proc.acked <= proc.said:
                self._wrong(f"{name}: {proc.acked} of {proc.said} messages are acknowledged")
        names = [proc.name for proc in self.procs.values()]
        if len(set(names)) != len(names):
            self._wrong("process: two have one name")

    def _owner(self, page: int) -> int:
        return self.owner[page] if 0 < page < len(self.owner) else -1

    def _timers(self) -> None:
        owned = {timer: proc.pid for proc in self.procs.values() for timer in proc.timers}
        owned |= {proc.unmask: proc.pid for proc in self.procs.values() if proc.unmask}
        waits = [proc.wait for proc in self.procs.values()]
        owned |= {wait.timer: wait.pid for wait in waits if isinstance(wait, Await) and wait.timer}
        for row, value in rows(self.disk, "timer"):
            timer = msgspec.msgpack.decode(value, type=Timer)
            self._counted("timer", row, value)
            self.found.timers += 1
            if unkey(row) != (timer.id,) or owned.pop(timer.id, None) != timer.pid:
                self._wrong(f"timer {timer.id}: process {timer.pid} does not know it")
        for number, pid in owned.items():
            self._wrong(f"process {pid}: its timer {number} is missing")

    def _tools(self) -> None:
        """Of each intent the process waits for that tool; and tables whose rows name nothing else."""
        waits = {(pid, one.wait.req): one.wait.tool for pid, one in self.procs.items() if isinstance(one.wait, Act)}
        for row, value in rows(self.disk, "intent"):
            self._counted("intent", row, value)
            pid, req = unkey(row)
            if waits.pop((pid, req), None) != msgspec.msgpack.decode(value, type=Intent).tool:
                self._wrong(f"intent: process {pid} waits for no tool as its request {req}")
        for pid, req in waits:
            self._wrong(f"intent: process {pid} waits for a tool as its request {req}, and none is here")
        for table in ("used", "tool", "shared"):
            for row, value in rows(self.disk, table):
                self._counted(table, row, value)

    def _outbox(self) -> None:
        expected = {proc.pid: proc.acked for proc in self.procs.values()}
        for row, value in rows(self.disk, "outbox"):
            message = msgspec.msgpack.decode(value, type=Message)
            self._counted("outbox", row, value)
            self.found.messages += 1
            last = expected.get(message.pid, -2)
            if unkey(row) != (message.pid, message.seq) or message.seq != last + 1:
                self._wrong(f"outbox: message {message.seq} of process {message.pid} follows {last}")
            expected[message.pid] = message.seq
        for pid, last in expected.items():
            if pid in self.procs and last != self.procs[pid].said:
                self._wrong(f"outbox: process {pid} said {self.procs[pid].said} messages, and {last} is the last here")

    def _mids(self) -> None:
        for row, value in rows(self.disk, "mid"):
            self._counted("mid", row, value)
            self.found.mids += 1
            pid, page = unkey(value)
            if self._owner(page) != pid:
                self._wrong(f"message id {row.decode(errors='replace')}: page {page} is missing or another's")

    def _said(self) -> None:
        for row, value in rows(self.disk, "said"):
            self._counted("said", row, value)
            pid, number = unkey(row)
            if self._owner(msgspec.msgpack.decode(value, type=Said).page) != pid:
                self._wrong(f"said: message {number} of process {pid} has no page, or another's")

    def _ids(self) -> None:
        for row, _ in rows(self.disk, "ids"):
            (page,) = unkey(row[-8:])
            if self._owner(page) < 0:
                self._wrong(f"ids: page {page} is missing")
