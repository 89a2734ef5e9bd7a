"""What became of a run: is anything lost, or twice, or other than it should be?"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from bench.crash.life import Client
from bench.crash.workload import Workload
from drivers.disk.lmdb import LmdbDisk
from drivers.disk.walk import walk
from drivers.index.fused import verify
from kernel.audit import audit, logical
from kernel.errors import BadInput, KernelPanic
from kernel.memory.page import OWN, Kind, Origin, Page
from kernel.ports import Reads
from kernel.process import Process
from kernel.records import rows, unkey
from kernel.replay import Replay
from syscalls.table import Table

HEALS: Final = ("the next start builds it anew", "built again when it is wanted")  # damage that was noticed


class Verdict(msgspec.Struct):
    """Findings in one line each, by what they are."""

    lost: list[str] = []
    duplicated: list[str] = []
    hash_mismatch: list[str] = []
    unrecovered: list[str] = []
    logical: str = ""

    def clean(self) -> bool:
        """Nothing was found."""
        return not (self.lost or self.duplicated or self.hash_mismatch or self.unrecovered)


def judge(folder: Path, work: Workload, client: Client | None, reference: str = "") -> Verdict:
    """Look through the directory of a run that has ended. `client`: what it knows, None if it may have been lied to.

    `reference`: the logical hash of a run without faults, where this one must come to the same.
    """
    verdict = Verdict()
    disk = LmdbDisk(folder, walk=walk)
    try:
        verdict.hash_mismatch += audit(disk).findings
        verdict.hash_mismatch += _replayed(disk)
        verdict.lost += [f"index: {one}" for one in verify(folder, disk) if not one.endswith(HEALS)]
        verdict.logical = logical(disk)
        if client is not None:
            _inputs(disk, work, client, verdict)
            _messages(disk, client, verdict)
    finally:
        disk.close()
    if reference and verdict.logical != reference:
        verdict.hash_mismatch.append(f"logical state {verdict.logical}, and {reference} without faults")
    return verdict


def _replayed(disk: Reads) -> list[str]:
    """Where the journal does not lead to the state that it names, or cannot be followed at all."""
    try:
        return [f"{t.entry.lsn}: {t.why}" for t in Replay(disk, Table()).steps() if t.why]
    except (BadInput, KernelPanic) as exc:
        return [str(exc)]


def _pages(disk: Reads) -> list[Page]:
    return [msgspec.msgpack.decode(value, type=Page) for _, value in rows(disk, "page")]


def _inputs(disk: Reads, work: Workload, client: Client, verdict: Verdict) -> None:
    """Every input that was acknowledged is stored with its text, once."""
    pages = [page for page in _pages(disk) if page.origin in (Origin.USER, Origin.FILE)]
    for act in work.acts:
        mark = act.text.split(" ")[0] + " "
        firsts = [page for page in pages if page.text.startswith(mark)] if act.text else []
        if len(firsts) > 1:
            verdict.duplicated.append(f"{act.id} is stored as pages {[page.id for page in firsts]}")
        if act.id not in client.stored:
            continue
        row = disk.get("mid", act.id.encode())
        first = unkey(row)[1] if row is not None else 0
        text = "".join(page.text for page in pages if 0 < first <= page.id)
        if not first or not text.startswith(act.text):
            verdict.lost.append(f"{act.id} was acknowledged and is not stored as it was sent")


def _messages(disk: Reads, client: Client, verdict: Verdict) -> None:
    """Every final message was heard once, in order, with its text."""
    said: dict[int, list[str]] = {}
    for page in _pages(disk):
        if page.kind is Kind.MESSAGE and page.origin in OWN:
            said.setdefault(page.pid, []).append(page.searched)
    verdict.duplicated += client.wrong
    for _, value in rows(disk, "proc"):
        proc = msgspec.msgpack.decode(value, type=Process)
        heard, pages = client.heard.get(proc.pid, []), said.get(proc.pid, [])
        if len(heard) != proc.said or len(pages) != proc.said:
            verdict.lost.append(f"process {proc.pid} said {proc.said}, has {len(pages)}, and {len(heard)} were heard")
        elif heard != pages:
            verdict.lost.append(f"process {proc.pid}: what was heard is not what it said")
