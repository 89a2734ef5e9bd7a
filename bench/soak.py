"""Does a machine level off? Users talk to a real daemon at a steady rate, and its file and its memory are looked at.

Each user says something to a process of its own, waits for the echo, acknowledges it, as a chat does, and rests. Of the
looks, the first tenth is the machine's youth; of the rest, growth is the median of the last fifth over that of the
first fifth. What was said is kept for good, so that the file grows by it; `kept_mib` is what the pages' own texts have.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from pathlib import Path
from random import Random
from statistics import median
from typing import Final

import msgspec

from bench.daemon import Daemon
from drivers.door import wire
from kernel.errors import BadInput, KernelError
from kernel.spec import Spec
from llmos import ask
from llmos.commands.output import show, tell

LOOKS: Final = 120  # over the whole time
WORDS: Final = ("harbour", "tide", "lantern", "moon", "ledger", "copper", "orchard", "signal", "winter", "letter")


class Look(msgspec.Struct, frozen=True):
    """One look: when, how much of the disk the file has, memory of the daemon and its index, messages so far.

    `resident_mib` has what both map of files, counted twice; `kernel_mib` and `index_mib` are without it.
    """

    at_s: float
    data_mib: float
    resident_mib: float
    messages: int
    kernel_mib: float = 0.0
    index_mib: float = 0.0


class Soak(msgspec.Struct):
    """What a run measured."""

    minutes: float
    users: int
    messages: int = 0
    failed: int = 0  # messages that had no echo
    kept_mib: float = 0.0
    data_growth: float = 1.0
    resident_growth: float = 1.0
    looks: list[Look] = []


class _Users:
    """All of them, each a thread with a connection of its own."""

    def __init__(self, path: Path, many: int, rate: float, seed: int) -> None:
        self.path, self.rest_s, self.seed = path, many / rate, seed
        self.over = threading.Event()
        self.said = self.failed = self.bytes = 0
        self.left: list[Exception] = []  # why users left before the end
        self._counting = threading.Lock()
        self._threads = [threading.Thread(target=self._live, args=(number,), daemon=True) for number in range(many)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()

    def _live(self, number: int) -> None:
        try:
            self._talk(number)
        except (KernelError, OSError) as exc:
            self.left.append(exc)

    def _talk(self, number: int) -> None:
        draw, name = Random(f"{self.seed}/{number}"), f"user{number}"
        ask.call(self.path, wire.Spawn(id=0, spec=Spec(name)), wire.Ok)
        self.over.wait(draw.uniform(0, self.rest_s))
        while not self.over.is_set():  # until the time is up
            began = time.monotonic()
            text = " ".join(draw.choices(WORDS, k=draw.randint(8, 40)))
            messages = ask.converse(self.path, name, text, ask.new_mid(), ask.ANSWER_S).messages
            with self._counting:
                self.said += 1
                self.bytes += len(text) + sum(len(message.text) for message in messages)
                self.failed += not messages
            self.over.wait(max(0.0, self.rest_s - (time.monotonic() - began)))


def soak(directory: Path, minutes: float, users: int, rate: float, changes: tuple[str, ...], seed: int) -> Soak:
    """`rate` messages a second of all users together, on a new machine in `directory`."""
    found = Soak(minutes, users)
    daemon = Daemon(directory, *changes)
    try:
        crowd = _Users(daemon.socket, users, rate, seed)
        began, every_s = time.monotonic(), 60 * minutes / LOOKS
        for look in range(1, LOOKS + 1):
            time.sleep(max(0.0, began + look * every_s - time.monotonic()))
            data = (directory / "data.mdb").stat().st_blocks * 512 / (1 << 20)
            at_s = round(time.monotonic() - began, 1)
            kernel, index = (round(one, 1) for one in daemon.own_mib())
            resident = round(daemon.resident_mib(), 1)
            found.looks.append(Look(at_s, round(data, 2), resident, crowd.said, kernel, index))
            if crowd.left:
                raise BadInput(f"a user left after {at_s:.0f} s: {crowd.left[0]}")
            tell(f"{at_s:.0f} of {60 * minutes:.0f} s, {crowd.said} messages, {data:.1f} MiB of data.mdb")
        crowd.end()
        if daemon.stop():
            raise BadInput(f"the daemon ended with status {daemon.process.returncode}")
    finally:
        daemon.kill()
    found.messages, found.failed, found.kept_mib = crowd.said, crowd.failed, round(crowd.bytes / (1 << 20), 2)
    old = found.looks[LOOKS // 10 :]
    fifth = len(old) // 5
    for what in ("data", "resident"):
        values = [getattr(look, f"{what}_mib") for look in old]
        setattr(found, f"{what}_growth", round(median(values[-fifth:]) / max(median(values[:fifth]), 0.01), 3))
    return found


def picture(found: Soak, file: Path) -> None:
    """File and memory over time, as the kind of picture that the file's name says. Raises BadInput if it cannot."""
    try:
        import matplotlib

        matplotlib.use("agg")
        from matplotlib import pyplot
    except ImportError as exc:
        raise BadInput("no pictures without matplotlib: pip install 'llmos[bench]'") from exc
    figure, axes = pyplot.subplots(figsize=(7, 4))
    minutes = [look.at_s / 60 for look in found.looks]
    axes.plot(minutes, [look.data_mib for look in found.looks], label="data.mdb")
    axes.plot(minutes, [look.resident_mib for look in found.looks], label="resident memory, with mapped files")
    axes.plot(minutes, [look.kernel_mib for look in found.looks], label="memory of the kernel's own")
    axes.plot(minutes, [look.index_mib for look in found.looks], label="memory of the index's own")
    axes.set(xlabel="minutes", ylabel="MiB", ylim=(0, None), title=f"{found.messages} messages of {found.users} users")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    try:
        figure.savefig(file)
    except (OSError, ValueError) as exc:
        raise BadInput(f"--picture {file}: {exc}") from exc
    finally:
        pyplot.close(figure)


def run(
    minutes: float, users: int, rate: float, changes: tuple[str, ...], seed: int, file: Path | None, as_json: bool
) -> None:
    """`llmos bench soak`."""
    if file is not None and not file.parent.is_dir():
        raise BadInput(f"--picture {file}: there is no folder {file.parent}")
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        found = soak(Path(folder) / "machine", minutes, users, rate, changes, seed)
    if as_json:
        show(json.dumps(msgspec.to_builtins(found)))
    else:
        for name in found.__struct_fields__[:-1]:
            show(f"{name:16} {getattr(found, name)}")
    if file is not None:
        picture(found, file)
