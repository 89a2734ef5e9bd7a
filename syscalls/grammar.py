"""The grammar of what a process may emit, in Lark for llguidance, derived from the ABI."""

from __future__ import annotations

import functools
from typing import Any, Final

import msgspec

from kernel.event import Tool
from kernel.ports import Form
from syscalls.abi import SYSCALLS, TRAP_MARK

TOOLS_CHARS: Final = 32_768  # of the schemas of all tools in one grammar
_BEGINS: Final = "{\\s"  # what text does not begin with, where an object would
_TIGHT: Final = {"x-guidance": {"whitespace_flexible": False}}
_NOTHING: Final = msgspec.Raw(b'""')


@functools.lru_cache(maxsize=256)
def grammar(
    mask: tuple[str, ...],
    encoding: str,
    form: Form | None = None,
    tools: tuple[Tool, ...] = (),
    shared: tuple[str, ...] = (),
) -> str | None:
    """Lark of one instruction; None where any non-empty text is one (prose of a process that may only speak).

    `form`: what its message is to be; in JSON it stands in the place of the text (see `plain`). Of the call that uses
    tools there is a form for each tool, with the schema of its arguments. `shared`: verbs of the rights to others'
    archives that the process holds; a call names them, as `whose`, if its own is among them.
    """
    prose = encoding == "prose"
    only = mask == ("send_message",)
    if prose and only and form is None:
        return None
    calls = [name for name in SYSCALLS if name in mask]
    spoken = None if prose else form
    forms = {name: _uses(tools) if name == "use" and tools else _schemas(name, spoken, shared) for name in calls}
    rules = [f"{name}: {' | '.join(f'%json {schema}' for schema in forms[name])}" for name in calls]
    call = " | ".join(calls)
    if not prose:
        return "\n".join([f"start: {call}", *rules])
    said = []
    if "send_message" in mask:
        if form is not None:
            said.append(f"said: {' | '.join(f'%json {_compact(schema)}' for schema in form.schemas)}")
        if form is None or form.prose:
            said.append(f"prose: /[^{TRAP_MARK}{'' if form is None else _BEGINS}](.|\\n)*/")
    starts = [rule.partition(":")[0] for rule in said] + ([] if only else [f'"{TRAP_MARK}" call'])
    return "\n".join([f"start: {' | '.join(starts)}", *said, *([] if only else [f"call: {call}", *rules])])


def plain(text: str, encoding: str) -> str:
    """An instruction in which an object stands as what is said, as one that has it as text; any other as it is."""
    if encoding == "prose":
        return text
    try:
        call = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text
    said = bytes(call.get("text", _NOTHING))
    if bytes(call.get("op", _NOTHING)) != b'"send_message"' or said.startswith(b'"'):
        return text
    return msgspec.json.encode({**call, "text": said.decode()}).decode()


def _compact(schema: str) -> str:
    """A schema of a client's, without free whitespace."""
    return _json({**msgspec.json.decode(schema), **_TIGHT})


def _json(schema: dict[str, Any]) -> str:
    """A schema as it stands in Lark: no text of a client's in it reads as a term."""
    return msgspec.json.encode(schema).decode().replace("%", "\\u0025")


def _schemas(name: str, form: Form | None, shared: tuple[str, ...]) -> list[str]:
    """JSON schemas of one syscall, without references and without free whitespace: one for each of its `one_of`."""
    schema = msgspec.json.schema(SYSCALLS[name])
    flat = _inline(schema, schema.get("$defs", {}))
    flat.pop("$defs", None)
    flat["additionalProperties"] = False
    flat |= _TIGHT
    if SYSCALLS[name].shared not in shared:
        flat["properties"].pop("whose", None)
    if form is not None and name == "send_message":
        flat = _formed(flat, form)
    one_of = SYSCALLS[name].one_of
    return [_json(_needing(flat, field, one_of)) for field in one_of or ("",)]


def _formed(schema: dict[str, Any], form: Form) -> dict[str, Any]:
    """A schema of speech in which what is said is an object; what that refers to stands at the root."""
    named: dict[str, Any] = {}
    said: list[Any] = [schema["properties"]["text"]] if form.prose else []
    for one in form.schemas:
        wanted = msgspec.json.decode(one)
        named |= wanted.pop("$defs", {})
        said.append(wanted)
    fields = {**schema["properties"], "text": said[0] if len(said) == 1 else {"anyOf": said}}
    return {**schema, "properties": fields, **({"$defs": named} if named else {})}


def _uses(tools: tuple[Tool, ...]) -> list[str]:
    """JSON schemas of the use of each tool: of those whose arguments would make the grammar too large, any object."""
    found, left = [], TOOLS_CHARS
    for tool in tools:
        left -= len(tool.schema)
        schema = {
            "type": "object",
            "properties": {
                "op": {"enum": ["use"]},
                "tool": {"enum": [tool.name]},
                "arguments": msgspec.json.decode(tool.schema) if left >= 0 else {"type": "object"},
            },
            "required": ["op", "tool", "arguments"],
            "additionalProperties": False,
        }
        found.append(_json(schema | _TIGHT))
    return found


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
