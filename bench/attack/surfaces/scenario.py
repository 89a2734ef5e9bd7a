"""Scenarios: files as the types have them, at their edges, wrong in one place, or damaged; what is taken is played.

Played is in virtual time what is short enough for a trial; the kernel is checked after each step.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from random import Random
from typing import Any, Final

from bench.attack import values
from bench.attack.machines import checked
from bench.attack.mutate import mutated
from bench.attack.surface import Guard, Surface, Trial, Wrong, instead
from kernel.errors import BadInput
from kernel.event import What
from llmos.scenario import mistakes, reading
from llmos.scenario.format import UNITS, Scenario, ns
from llmos.scenario.virtual import play

NAMES: Final = ("a", "b", "main", "x y", "ü")
DURATIONS: Final = (
    "0s",
    "1ms",
    "20ms",
    "1s",
    "2s",
    "1.5s",
    "1m",
    "0.0000001ms",
    "1h30m",
    "366d",
    "367d",
    "9" * 400 + "d",
)
HOSTILE: Final = ("", "s", "1", "-1s", "1s ", "1s\n", "1e9s", "²s", "٣s", "1S", "1s1", "nan", "1..5s")
CALLS: Final[tuple[dict[str, Any], ...]] = (
    {"op": "send_message", "text": "hello"},
    {"op": "yield"},
    {"op": "sleep", "seconds": 1},
    {"op": "set_timer", "seconds": 2, "text": "tea"},
    {"op": "search", "query": "tea"},
    {"op": "remember", "text": "tea at four"},
    {"op": "nothing"},
    {"op": "read", "pages": [1, 1 << 70, -1]},
    {"op": "mask", "lines": ["user"], "seconds": 5},
    {"op": "exit"},
)
WHATS: Final = tuple(str(what) for what in What)
HINTS: Final[values.Hints] = {
    "until": lambda draw: draw.choice(["1s", "3s", "10s"]),
    "token": lambda draw: draw.choice(["5ms", "20ms", "1s"]),
    "at": lambda draw: draw.choice(["0s", "100ms", "1s", "1.5s", "2026-10-25 02:30", "dst"]),
    "start": lambda draw: draw.choice(["2026-10-25 02:29:59 Europe/Berlin", "2026-10-25 02:30", "0001-01-01 00:00"]),
    "clock": lambda draw: draw.choice(["+1h", "-2m", "+366d", "-0s"]),
    "jump": lambda draw: draw.choice(["2026-10-25 02:30", "9999-12-31 23:59", "dst"]),
    "every": lambda draw: draw.choice(["500ms", "1s"]),
    "times": lambda draw: draw.randint(1, 5),
    "to": lambda draw: [draw.choice(NAMES[:3]) for _ in range(draw.randint(1, 2))],
    "what": lambda draw: draw.choice(WHATS),
    "mask": lambda draw: draw.sample(["send_message", "yield", "read", "search", "sleep"], 2),
    "plays": lambda draw: [draw.choice(CALLS) for _ in range(draw.randint(0, 4))],
    "set": lambda draw: draw.sample(["window=1024", "sched.policy=fair", "memory.policy=lru", "x=1", "cpu.reply=9"], 1),
    "nice": lambda draw: draw.randint(-20, 19),
    "seed": lambda draw: draw.randrange(100),
    "process": lambda draw: draw.choice(NAMES[:3]),
    "say": lambda draw: draw.choice(values.TEXTS),
}
TRIAL_NS: Final = 20 * UNITS["s"]  # of virtual time
TRIAL_TOKENS: Final = 20_000  # that one slot could emit in it
TRIAL_EVENTS: Final = 200


def toml(value: Any) -> str:
    """A value inline, as TOML has it; what TOML cannot say is left out, or said as JSON would."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(key)} = {toml(one)}" for key, one in value.items() if one is not None) + "}"
    if isinstance(value, list | tuple) and not isinstance(value, values.Deep):
        return "[" + ", ".join(toml(one) for one in value if one is not None) + "]"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, bool) or value is None:
        return str(bool(value)).lower()
    if isinstance(value, float):
        return repr(value)
    return values.raw(value).decode()


def _quoted(text: str) -> str:
    escaped = re.sub(r'[\\"\x00-\x1f\x7f]', lambda found: f"\\u{ord(found[0]):04x}", text)
    return f'"{escaped}"'


def _written(draw: Random, value: dict[str, Any]) -> bytes:
    """A file: tables inline, or processes and events under heads of their own."""
    lines = []
    heads = draw.random() < 0.5
    for key, one in value.items():
        if heads and key == "processes" and isinstance(one, dict):
            continue
        if one is not None:
            lines.append(f"{_quoted(key)} = {toml(one)}")
    if heads and isinstance(value.get("processes"), dict):
        for name, one in value["processes"].items():
            lines.append(f"[processes.{_quoted(name)}]")
            lines += (
                [f"{key} = {toml(what)}" for key, what in one.items() if what is not None]
                if isinstance(one, dict)
                else []
            )
    return "\n".join(lines).encode("utf-8", "surrogatepass")


class _Attack:
    def __init__(self, folder: Path, found: list[str]) -> None:
        self.file, self.found = folder / "a.toml", found
        self.shape = values.Shape(Scenario, HINTS)
        self.seen: list[bytes] = [path.read_bytes() for path in sorted(BUILTIN.glob("*.toml"))]

    def trial(self, draw: Random) -> None:
        raw, wrong = self._file(draw)
        self.file.write_bytes(raw)
        try:
            scenario = reading.read(self.file)
        except BadInput:
            return
        if wrong:
            raise Wrong(f"accepted: {wrong}")
        if not _short(scenario):
            return
        try:
            play(scenario)
        except BadInput:
            return
        finally:
            if self.found:
                raise Wrong(self.found.pop())

    def _file(self, draw: Random) -> tuple[bytes, str]:
        choice = draw.random()
        if choice < 0.5:
            value = self._good(draw)
            raw = _written(draw, value)
            self.seen = [*self.seen[-40:], raw[:4_000]]
            return raw, ""
        if choice < 0.75:
            value, wrong = self.shape.bad(draw)
            if isinstance(value, dict) and None not in value.values() and "None" not in wrong:
                return toml_file(value), wrong
            return toml_file(value) if isinstance(value, dict) else b"", ""
        return mutated(draw, draw.choice(self.seen), self.seen), ""

    def _good(self, draw: Random) -> dict[str, Any]:
        """One that holds together more often than what the types alone say."""
        value: dict[str, Any] = self.shape.good(draw)
        if draw.random() < 0.8:
            value["processes"] = {
                name: {"does": draw.choice(["echo", "talk", "yield"])}
                if draw.random() < 0.6
                else {"plays": HINTS["plays"](draw) or [{"op": "yield"}], "loop": draw.random() < 0.3, "garbage": True}
                for name in NAMES[:3]
            }
            verbs: list[dict[str, Any]] = [
                {"to": ["a"], "say": draw.choice(values.TEXTS)},
                {"to": ["b", "main"], "raise": draw.choice(["ipc", "child", "device"]), "text": "come"},
                {"kill": draw.choice(["a", "a", "a", "nobody"])},
                {"start": draw.choice(["a", "a", "nobody"])},
                {"fails": draw.choice([1, 4, 1_000])},
                {"stall": draw.choice(DURATIONS[:6])},
                {"silence": draw.choice(DURATIONS[:6])},
                {"slow": draw.choice(DURATIONS[:4]), "lasts": "1s"},
                {"cut": draw.choice(DURATIONS[:6])},
            ]
            value["events"] = [
                draw.choice(verbs) | {"at": draw.choice(DURATIONS[:6])} for _ in range(draw.randint(0, 6))
            ]
            value["expect"] = value.get("expect", []) if draw.random() < 0.2 else []
        if draw.random() < 0.1:
            value["until"] = draw.choice([*DURATIONS, *HOSTILE])
        return value


def toml_file(value: dict[str, Any]) -> bytes:
    """A file of inline values."""
    return "\n".join(f"{_quoted(key)} = {toml(one)}" for key, one in value.items()).encode("utf-8", "surrogatepass")


def _short(scenario: Scenario) -> bool:
    """Whether a trial has time for it; what is asked to take long may."""
    until = ns(scenario.until)
    many = sum(event.times * max(1, len(event.to)) for event in scenario.events)
    return until <= TRIAL_NS and until // ns(scenario.machine.token) <= TRIAL_TOKENS and many <= TRIAL_EVENTS


BUILTIN: Final = Path(reading.__file__).parents[1] / "scenarios"


@contextmanager
def _opened(folder: Path) -> Iterator[Trial]:
    with checked() as found:
        yield _Attack(folder, found).trial


def _no_mistakes() -> AbstractContextManager[None]:
    """What the types admit is taken, though it does not hold together."""
    return instead(mistakes, "mistakes", lambda scenario: iter(()))


def _no_types() -> AbstractContextManager[None]:
    """A number's bounds are not looked at."""
    parse = reading.parse

    def unbound(text: str, name: str = "") -> Scenario:
        try:
            return parse(text, name)
        except BadInput as exc:
            if "`int` >=" in str(exc) or "`int` <=" in str(exc):
                return Scenario(title="t", teaches="t", until="1s", processes={}, events=(), expect=())
            raise

    return instead(reading, "parse", unbound)


GUARDS: Final[dict[str, Guard]] = {"scenario-checks": _no_mistakes, "scenario-bounds": _no_types}
SURFACE: Final = Surface(_opened, guards=GUARDS)
