"""Settings: what `--set` is given, on a machine that then boots with it, works, and boots again from what it recorded.

Wrong in one place is a value that the type of its key does not admit, or a key that is none; it must be refused. What
is admitted and what boots takes a message and is checked after every step. One in ten trials damages the record itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from random import Random
from typing import Final

import msgspec
from msgspec import inspect

from bench.attack import values
from bench.attack.machines import checked
from bench.attack.mutate import mutated
from bench.attack.surface import Guard, Surface, Trial, Wrong, instead
from drivers.cpu.scripted import echo
from drivers.cpu.virtual import VirtualCpu
from drivers.disk.memory import MemoryDisk
from drivers.index.words import WordIndex
from kernel import settings as module
from kernel.errors import BadInput
from kernel.event import Spawned
from kernel.limits import NS
from kernel.machine.virtual import VirtualMachine
from kernel.ports import Record
from kernel.process import State
from kernel.settings import Settings, apply, keys
from kernel.spec import Spec
from llmos.init import recorded
from syscalls.table import Table

KEYS: Final = keys()
UNKNOWN: Final = (
    "",
    "=",
    "window",
    "Window=1",
    "memory=1",
    "memory.=1",
    "memory.low.x=1",
    "cpu..seed=1",
    ".=.",
    "models.=x",
)
NAMES: Final = ("small", "", "ü", "a" * 65, "a.b", "../x", "\0", "a b")


def _types(kind: inspect.Type, prefix: str = "") -> Iterator[tuple[str, inspect.Type]]:
    """Each key with its type."""
    assert isinstance(kind, inspect.StructType)
    for field in kind.fields:
        if isinstance(field.type, inspect.StructType):
            yield from _types(field.type, f"{prefix}{field.name}.")
        elif not isinstance(field.type, inspect.DictType):
            yield prefix + field.name, field.type


TYPES: Final = dict(_types(inspect.type_info(Settings)))


def _change(draw: Random) -> tuple[str, bool]:
    """A `key=value`, and whether it must be refused."""
    if draw.random() < 0.1:
        return draw.choice([*UNKNOWN, f"{draw.choice(KEYS)}x=1", draw.choice(values.TEXTS) + "=1"]), True
    if draw.random() < 0.1:
        return f"models.{draw.choice(NAMES)}={draw.choice(values.TEXTS)}", False
    key, kind = draw.choice(list(TYPES.items()))
    numbers = [one for one in values.members(kind) if isinstance(one, inspect.IntType | inspect.FloatType)]
    if not numbers:
        value = draw.choice(values.literals(kind) or ("true", "false", "fifo", "lru", "rr", *values.TEXTS))
        return f"{key}={value}", False
    if draw.random() < 0.3:  # at its edge, within
        near = [edge for edge in (*values.EDGES, *values.bounds(numbers[0])) if values.admits(numbers[0], edge)]
        return f"{key}={draw.choice(near)}", False
    edge = draw.choice((*values.EDGES, *values.bounds(numbers[0]), *values.FLOATS, "NaN", "inf", "-inf", "1_0", "0x10"))
    if isinstance(edge, int):
        return f"{key}={edge}", not values.admits(numbers[0], edge)
    return f"{key}={edge}", edge in ("0x10", "NaN")


def _boot(disk: MemoryDisk, settings: Settings) -> VirtualMachine:
    machine = VirtualMachine(start=1_700_000_000 * NS)
    machine.boot(Table(), VirtualCpu(echo, machine, token_ns=NS // 50, slots=2), disk, WordIndex(disk), settings)
    return machine


class _Attack:
    def __init__(self, found: list[str]) -> None:
        self.found = found

    def trial(self, draw: Random) -> None:
        if draw.random() < 0.1:
            self._record(draw)
            return
        changes = [_change(draw) for _ in range(draw.choice([1, 1, 1, 2, 3]))]
        try:
            settings = module.apply(Settings(), [change for change, _ in changes])
        except BadInput as exc:
            _one_line(exc)
            return
        refused = [change for change, wrong in changes if wrong]
        if refused:
            raise Wrong(f"accepted: --set {refused[0][:80]!r}")
        self._live(settings)

    def _live(self, settings: Settings) -> None:
        disk = MemoryDisk()
        try:
            machine = _boot(disk, settings)
            machine.do(Spawned(source="user", spec=Spec("main", calls=("send_message", "yield"), blocks={"notes": ""})))
        except BadInput as exc:
            _one_line(exc)
            return
        for text in ("Good morning. " * 40, "And then? " * 20):
            if machine.kernel.procs[1].state is not State.ZOMBIE:  # of replies that no syscall fits, it dies
                machine.do(machine.say(1, text))
            machine.run(machine.now + 30 * NS)
        if self.found:
            raise Wrong(f"{self.found.pop()}, with {settings}")
        if not machine.kernel.procs[1].said and machine.kernel.procs[1].state is not State.ZOMBIE:
            raise Wrong(f"nothing was said, with {settings}")
        again = recorded(disk)[0]
        if again != settings:
            raise Wrong(f"recorded as {again}, set were {settings}")
        _boot(disk, again)

    def _record(self, draw: Random) -> None:
        """A record that is damaged in a way that no checksum saw, or was written by somebody else."""
        disk = MemoryDisk()
        disk.commit([Record("set", b"settings", mutated(draw, msgspec.msgpack.encode(Settings())))])
        try:
            settings = recorded(disk)[0]
            _boot(disk, settings)
        except BadInput as exc:
            _one_line(exc)


def _one_line(exc: BadInput) -> None:
    if not str(exc):
        raise Wrong("refused without a word")


@contextmanager
def _opened(folder: Path) -> Iterator[Trial]:
    with checked() as found:
        yield _Attack(found).trial


def _no_bounds() -> AbstractContextManager[None]:
    """What a key's type says of its least and most is not looked at."""

    def unbound(settings: Settings, changes: list[str]) -> Settings:
        try:
            return apply(settings, changes)
        except BadInput as exc:
            if "Expected `int` >=" in str(exc) or "Expected `int` <=" in str(exc):
                return settings
            raise

    return instead(module, "apply", unbound)


GUARDS: Final[dict[str, Guard]] = {"settings-bounds": _no_bounds}
SURFACE: Final = Surface(_opened, guards=GUARDS)
