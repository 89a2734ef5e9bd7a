"""A scenario as TOML: what reading.py reads again, and finds the same in it.

Fields that say nothing else than their defaults are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from llmos.scenario.format import UNITS, Scenario

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def toml(scenario: Scenario) -> str:
    """The text of a file."""
    return "\n".join(_lines(scenario)) + "\n"


def duration(length: int) -> str:
    """A length in ns, at least 0, as a file has it: 1h30m, 250ms; what is less than a microsecond is left out."""
    parts = []
    for unit, size in sorted(UNITS.items(), key=lambda one: -one[1]):
        if unit == "ms":
            break
        n, length = divmod(length, size)
        parts += [f"{n}{unit}"] if n else []
    thousandths = length // 1_000
    if thousandths:
        parts.append(f"{thousandths // 1_000}{f'.{thousandths % 1_000:03}' if thousandths % 1_000 else ''}ms")
    return "".join(parts) or "0s"


def _lines(scenario: Scenario) -> Iterator[str]:
    said = _said(scenario)
    for key in ("title", "teaches", "until", "start", "seed"):
        if key in said:
            yield f"{key} = {_value(said[key])}"
    for key in ("events", "expect"):
        if not said.get(key):
            yield f"{key} = []"
    for key in ("machine", "fuzz"):
        if key in said:
            yield from _table(f"[{key}]", said[key])
    if not scenario.processes:
        yield "processes = {}"
    for name, process in said.get("processes", {}).items():
        reactions = process.pop("on", [])
        yield from _table(f"[processes.{_key(name)}]", process)
        for one in reactions:
            yield from _table(f"[[processes.{_key(name)}.on]]", one)
    for name, tool in said.get("tools", {}).items():
        yield from _table(f"[tools.{_key(name)}]", tool)
    for key in ("events", "expect"):
        for one in said.get(key, []):
            yield from _table(f"[[{key}]]", one)


def _table(head: str, fields: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield head
    for key, value in fields.items():
        if key == "plays" and len(value) > 1:
            yield f"{key} = ["
            yield from (f"  {_value(one)}," for one in value)
            yield "]"
        else:
            yield f"{_key(key)} = {_value(value)}"


def _said(struct: msgspec.Struct) -> dict[str, Any]:
    """What a struct says beyond its defaults, structs within it likewise."""
    found = {}
    for field in msgspec.structs.fields(type(struct)):
        value = getattr(struct, field.name)
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if field.required or value != default:
            found[field.encode_name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return _said(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return {key: _plain(one) for key, one in value.items()} if isinstance(value, dict) else value


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items() if one is not None) + " }"
    return repr(value)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _value(key)
