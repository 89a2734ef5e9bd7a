"""Trials of one surface in a process of their own, which may die of them, hang, or take all memory, and is watched.

The child notes which trial it is at in memory that both share, and writes what it finds to a file; so nothing is lost
with it. After a death the next child goes on behind the trial that did it.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random
from typing import Final, Literal, NoReturn

import msgspec

from bench.attack.surface import MIB_MAX, Died, Surface, Wrong
from kernel.limits import NS

Kind = Literal["died", "tracebacks", "hung", "wrong"]
LOOK_S: Final = 0.02
OPEN_S: Final = 120.0  # for a surface to be opened, and closed
DUMP_S: Final = 0.5  # for a child that hangs to say where
LOST_MAX: Final = 20  # children that may be lost before a surface is given up
TRACE: Final = "Traceback (most recent call last)"
PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Finding(msgspec.Struct, frozen=True):
    """What went wrong, in which trial."""

    trial: int
    kind: Kind
    what: str


class Tally(msgspec.Struct):
    """What came of a surface's trials."""

    trials: int = 0
    died: int = 0
    tracebacks: int = 0
    hung: int = 0
    wrong: int = 0

    @property
    def bad(self) -> int:
        """All that was found."""
        return self.died + self.tracebacks + self.hung + self.wrong

    def add(self, finding: Finding) -> None:
        """Count a finding."""
        setattr(self, finding.kind, getattr(self, finding.kind) + 1)


def attack(name: str, surface: Surface, trials: range, seed: int, sabotage: str = "") -> tuple[Tally, list[Finding]]:
    """Make the trials; what came of them. `sabotage`: a guard that is taken away first."""
    tally, findings = Tally(), list[Finding]()
    at, lost = trials.start, 0
    while at < trials.stop and lost < LOST_MAX:  # a round a child
        folder = Path(tempfile.mkdtemp(prefix=f"attack-{name}-"))
        try:
            ended, found = _child_of(name, surface, range(at, trials.stop), seed, sabotage, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        for finding in found:
            tally.add(finding)
        findings += found
        lost += ended < trials.stop
        tally.trials += min(ended + 1, trials.stop) - at
        at = ended + 1
    return tally, findings


def _child_of(
    name: str, surface: Surface, trials: range, seed: int, sabotage: str, folder: Path
) -> tuple[int, list[Finding]]:
    """One child, to its end; the trial that was its last, or `trials.stop` if it came through all."""
    shared = memoryview(mmap.mmap(-1, 16)).cast("q")  # the trial, and when it began, ns
    shared[0], shared[1] = trials.start - 1, time.monotonic_ns()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        _child(name, surface, trials, seed, sabotage, folder, shared)
    end: Finding | None = None
    try:
        status = None
        while status is None:  # until the child has ended
            time.sleep(LOOK_S)
            done, raw = os.waitpid(pid, os.WNOHANG)
            status = raw if done else None
            at, began = shared
            limit_s = surface.hang_s if at in trials else OPEN_S
            mib = 0 if done else _resident_mib(pid)
            if not done and (time.monotonic_ns() - began > limit_s * NS or mib > MIB_MAX):
                os.kill(pid, signal.SIGUSR1)
                time.sleep(DUMP_S)
                end = Finding(
                    at, "died" if mib > MIB_MAX else "hung", f"{mib} MiB" if mib > MIB_MAX else f"{limit_s} s"
                )
                os.kill(pid, signal.SIGKILL)
                _, status = os.waitpid(pid, 0)
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        raise
    with suppress(ProcessLookupError):  # what it started and left
        os.killpg(pid, signal.SIGKILL)
    findings = [msgspec.json.decode(line, type=Finding) for line in _read(folder / "found").splitlines()]
    at = shared[0]
    said = _read(folder / "err").decode(errors="replace")
    if end is not None:
        where = " ".join(said.rpartition("most recent call first")[2].split())[:400]
        return at, [*findings, Finding(end.trial, end.kind, f"{end.what}: {where}")]
    if status:
        return at, [*findings, Finding(at, "died", f"status {status}: {' '.join(said.split())[-400:]}")]
    return trials.stop, findings


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _resident_mib(pid: int) -> int:
    with suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * PAGE >> 20
    return 0


def _child(
    name: str, surface: Surface, trials: range, seed: int, sabotage: str, folder: Path, shared: memoryview[int]
) -> NoReturn:
    """Make the trials and leave, with status 0 if it came through."""
    status = 1
    try:
        os.setpgid(0, 0)
        out = os.open(folder / "out", os.O_WRONLY | os.O_CREAT)
        err = os.open(folder / "err", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", 1, closefd=False)
        faulthandler.register(signal.SIGUSR1, file=err, all_threads=True)
        _trials(name, surface, trials, seed, sabotage, folder, shared)
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _trials(
    name: str, surface: Surface, trials: range, seed: int, sabotage: str, folder: Path, shared: memoryview[int]
) -> None:
    found = os.open(folder / "found", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    heard = 0

    def tell(trial: int, kind: Kind, what: str) -> None:
        os.write(found, msgspec.json.encode(Finding(trial, kind, _printable(what))) + b"\n")

    def listen(trial: int) -> None:
        """A traceback that was printed and not raised counts too."""
        nonlocal heard
        size = os.stat(folder / "err").st_size
        if size > heard:
            said = _read(folder / "err")[heard:].decode(errors="replace")
            heard = size
            if TRACE in said:
                tell(trial, "tracebacks", "printed: " + said[said.index(TRACE) :][-300:])

    at = trials.start - 1
    try:
        with ExitStack() as stack:
            if sabotage:
                stack.enter_context(surface.guards[sabotage]())
            trial = stack.enter_context(surface.opened(folder))
            for at in trials:
                shared[1], shared[0] = time.monotonic_ns(), at
                try:
                    trial(Random(f"{name}/{seed}/{at}"))
                except Wrong as exc:
                    tell(at, "wrong", str(exc))
                except Died as exc:
                    tell(at, "died", str(exc))
                except Exception as exc:
                    tell(at, "tracebacks", _short(exc))
                listen(at)
            shared[1], shared[0] = time.monotonic_ns(), trials.stop
    except (Wrong, Died) as exc:
        tell(at, "wrong" if isinstance(exc, Wrong) else "died", f"at the end: {exc}")
    listen(at)


def _short(exc: BaseException) -> str:
    """An exception in a line, with where it was raised."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    frames = traceback.extract_tb(exc.__traceback__)[-3:]
    where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(exc).__name__}: {str(exc)[:200]} ({where})"


def _printable(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
