"""The grammar of what a process may emit, in Lark for llguidance, derived from the ABI."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from syscalls.abi import SYSCALLS, TRAP_MARK


@functools.lru_cache(maxsize=256)
def grammar(mask: tuple[str, ...], encoding: str) -> str | None:
    """Lark of one instruction; None where any non-empty text is one (prose of a process that may only speak)."""
    prose = encoding == "prose"
    if prose and mask == ("send_message",):
        return None
    calls = [name for name in SYSCALLS if name in mask]
    rules = [f"{name}: {' | '.join(f'%json {schema}' for schema in _schemas(name))}" for name in calls]
    call = " | ".join(calls)
    if not prose:
        return "\n".join([f"start: {call}", *rules])
    if "send_message" not in mask:
        return "\n".join([f'start: "{TRAP_MARK}" call', f"call: {call}", *rules])
    return "\n".join(
        [f'start: prose | "{TRAP_MARK}" call', f"prose: /[^{TRAP_MARK}](.|\\n)*/", f"call: {call}", *rules]
    )


def _schemas(name: str) -> list[str]:
    """JSON schemas of one syscall, without references and without free whitespace: one for each of its `one_of`."""
    schema = msgspec.json.schema(SYSCALLS[name])
    flat = _inline(schema, schema.get("$defs", {}))
    flat.pop("$defs", None)
    flat["additionalProperties"] = False
    flat["x-guidance"] = {"whitespace_flexible": False}
    one_of = SYSCALLS[name].one_of
    return [msgspec.json.encode(_needing(flat, field, one_of)).decode() for field in one_of or ("",)]


def _needing(schema: dict[str, Any], field: str, one_of: tuple[str, ...]) -> dict[str, Any]:
    """A schema in which `field` says something, and the others of `one_of` do not stand; "": as it is."""
    if not field:
        return schema
    rows = {name: spec for name, spec in schema["properties"].items() if name == field or name not in one_of}
    least = "minLength" if rows[field]["type"] == "string" else "minimum"
    rows[field] = rows[field] | {least: max(1, rows[field].get(least, 0))}
    return schema | {"properties": rows, "required": [*schema["required"], field]}


def _inline(node: Any, defs: dict[str, Any]) -> Any:
    if isinstance(node, dict):
        if "$ref" in node:
            return _inline(defs[node["$ref"].rsplit("/", 1)[1]], defs)
        return {
            key: _inline(value, defs) for key, value in node.items() if key not in ("title", "description", "default")
        }
    if isinstance(node, list):
        return [_inline(value, defs) for value in node]
    return node
