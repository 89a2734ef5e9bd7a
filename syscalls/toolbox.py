"""What a model reads of tools: the first in a line each, the names of all, the page of one; what is wrong with a use.

The manual names a dozen at most, and takes a bounded part of the window whatever servers offer; the rest is asked for
with `help`. A schema is told in short: the names of its fields, their types, which are needed.
Not here: which tools a process may use (kernel/tools.py), the grammar (grammar.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from kernel.event import Tool
from syscalls.abi import TRAP_MARK

PURPOSE_CHARS: Final = 80  # of a purpose in the manual
FIELDS: Final = 6  # of one tool, in the manual and in an error
FIELD_CHARS: Final = 24  # of a value that is shown
ABOUT_CHARS: Final = 800  # of what a server says of a tool, on its page
FIELDS_MAX: Final = 32  # on its page
NAMES_MAX: Final = 100  # in the list of all

_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}


def listed(tools: tuple[Tool, ...], most: int, encoding: str) -> str:
    """The first tools, a line each: as a use of it is written, and its purpose as the server says it."""
    lines = ["If the user asks for what one of these tools does, use it; help with its name as call shows more of it:"]
    for tool in tools[:most]:
        purpose = f"  {json.dumps(tool.purpose[:PURPOSE_CHARS], ensure_ascii=False)}" if tool.purpose else ""
        lines.append(f"{_written(tool, encoding)}{purpose}")
    if len(tools) > most:
        lines.append(f"and {len(tools) - most} more; help with use as call names all")
    return "\n".join(lines)


def names(tools: tuple[Tool, ...]) -> str:
    """The names of all tools of a process."""
    if not tools:
        return "You may use no tool."
    more = f" and {len(tools) - NAMES_MAX} more" if len(tools) > NAMES_MAX else ""
    return f"You may use: {', '.join(tool.name for tool in tools[:NAMES_MAX])}{more}."


def page(tool: Tool, encoding: str) -> str:
    """What a tool does, as its server says, quoted, and how it is written."""
    example = {"op": "use", "tool": tool.name, "arguments": dict(_example(tool))}
    lines = [
        (TRAP_MARK if encoding == "prose" else "") + json.dumps(example, ensure_ascii=False, separators=(",", ":"))
    ]
    needed = _needed(tool)
    for name, spec in list(_fields(tool).items())[:FIELDS_MAX]:
        what = _said(spec)
        lines.append(f"{json.dumps(name, ensure_ascii=False)}: {what}{'' if name in needed else ', may be left out'}")
    lines.append("It changes nothing." if tool.reads else "It may change something.")
    if tool.about:
        lines += ["Its server says:", *(f"> {line}" for line in tool.about[:ABOUT_CHARS].splitlines())]
    return "\n".join(lines)


def takes(tool: Tool) -> str:
    """Which arguments a tool takes, in a line."""
    fields, needed = _fields(tool), _needed(tool)
    said = [f"{name} ({_said(spec)}){'' if name in needed else '?'}" for name, spec in list(fields.items())[:FIELDS]]
    return f"it takes {', '.join(said)}{', ...' if len(fields) > FIELDS else ''}" if said else "it takes no arguments"


def wrong(tool: Tool, arguments: Mapping[str, Any]) -> str:
    """What is wrong with the arguments of a use, as far as the schema says it plainly; "" if nothing is.

    The server has the last word.
    """
    fields = _fields(tool)
    missing = [name for name in _needed(tool) if name not in arguments]
    if missing:
        return f"{', '.join(missing)} is missing"
    if _schema(tool).get("additionalProperties") is False and (
        extra := [one for one in arguments if one not in fields]
    ):
        return f"{', '.join(extra)[:80]} is no argument of it"
    for name, value in arguments.items():
        kind = fields.get(name, {}).get("type")
        wanted = _TYPES.get(kind) if isinstance(kind, str) else None
        if wanted is not None and (not isinstance(value, wanted) or (isinstance(value, bool) and kind != "boolean")):
            return f"{name} is to be of type {kind}"
    return ""


def _schema(tool: Tool) -> dict[str, Any]:
    found = msgspec.json.decode(tool.schema)
    return found if isinstance(found, dict) else {}


def _fields(tool: Tool) -> dict[str, dict[str, Any]]:
    fields = _schema(tool).get("properties")
    if not isinstance(fields, dict):
        return {}
    return {name: spec if isinstance(spec, dict) else {} for name, spec in fields.items()}


def _needed(tool: Tool) -> list[str]:
    needed = _schema(tool).get("required")
    return [name for name in needed if isinstance(name, str)] if isinstance(needed, list) else []


def _said(spec: Mapping[str, Any]) -> str:
    """The type of a field, in short."""
    if isinstance(spec.get("enum"), list):
        return " or ".join(json.dumps(one, ensure_ascii=False)[:FIELD_CHARS] for one in spec["enum"][:FIELDS])
    kind = spec.get("type")
    return kind if isinstance(kind, str) and kind in _TYPES else "any"


def _written(tool: Tool, encoding: str) -> str:
    """A use of a tool, as a process has to write it."""
    example = {"op": "use", "tool": tool.name, "arguments": dict(_example(tool))}
    written = json.dumps(example, ensure_ascii=False, separators=(",", ":"))
    return f"{TRAP_MARK}{written}" if encoding == "prose" else written


def _example(tool: Tool) -> Iterator[tuple[str, Any]]:
    """Needed arguments with values that show their type."""
    values = {"string": "...", "integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}}
    fields = _fields(tool)
    for name in _needed(tool)[:FIELDS]:
        spec = fields.get(name, {})
        enum, kind = spec.get("enum"), str(spec.get("type"))
        first = enum[0] if isinstance(enum, list) and enum else values.get(kind, "...")
        yield name, first[:FIELD_CHARS] if isinstance(first, str) else first
