"""The JSON schema of a tool's arguments, as a grammar can take it: what it knows is kept, the rest says less.

A schema comes from a server and may be anything: of what cannot be followed, any object is left. What is left out is
still the server's to refuse. References are followed to a depth, and only within the schema.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from kernel.limits import TOOL_CHARS_MAX

ANY: Final = '{"type":"object"}'
DEPTH_MAX: Final = 8
FIELDS_MAX: Final = 64
TYPES: Final = ("string", "integer", "number", "boolean", "array", "object", "null")
NUMBERS: Final = ("minLength", "maxLength", "minItems", "maxItems")  # counts: no less than 0
BOUNDS: Final = ("minimum", "maximum")


def taken(schema: Any) -> str:
    """What of a schema is kept, as JSON; ANY where nothing of it can be."""
    try:
        found = _kept(schema, schema, DEPTH_MAX)
        said = msgspec.json.encode(found).decode()
    except (TypeError, ValueError, OverflowError, RecursionError, UnicodeError):
        return ANY
    if found.get("type") != "object" or len(said) > TOOL_CHARS_MAX or not _compiles(said):
        return ANY
    return said


def _kept(node: Any, root: Any, depth: int) -> dict[str, Any]:
    """A schema without what a grammar may not know; {} says that anything may stand there."""
    if not isinstance(node, dict) or depth <= 0:
        return {}
    if isinstance(node.get("$ref"), str):
        return _kept(_found(root, node["$ref"]), root, depth - 1)
    for several in ("anyOf", "oneOf"):
        if isinstance(node.get(several), list) and node[several]:
            return {"anyOf": [_kept(one, root, depth - 1) for one in node[several][:FIELDS_MAX]]}
    if isinstance(node.get("enum"), list) and node["enum"]:
        return {"enum": node["enum"][:FIELDS_MAX]}
    if "const" in node:
        return {"enum": [node["const"]]}
    kind = node.get("type")
    if isinstance(kind, list):
        return {"anyOf": [_kept({**node, "type": one}, root, depth - 1) for one in kind[:FIELDS_MAX]]}
    if kind not in TYPES:
        return {}
    found: dict[str, Any] = {"type": kind}
    for name in NUMBERS:
        if isinstance(node.get(name), int) and not isinstance(node[name], bool) and node[name] >= 0:
            found[name] = node[name]
    for name in BOUNDS:
        if kind in ("integer", "number") and isinstance(node.get(name), int) and not isinstance(node[name], bool):
            found[name] = node[name]
    if kind == "array":
        found["items"] = _kept(node.get("items"), root, depth - 1)
    if kind == "object" and isinstance(node.get("properties"), dict):
        fields = {
            name: _kept(one, root, depth - 1)
            for name, one in list(node["properties"].items())[:FIELDS_MAX]
            if isinstance(name, str) and name.isprintable()
        }
        found["properties"] = fields
        if isinstance(node.get("required"), list):
            found["required"] = [name for name in node["required"] if name in fields]
        if node.get("additionalProperties", False) is False and len(fields) == len(node["properties"]):
            found["additionalProperties"] = False
    return found


def _found(root: Any, reference: str) -> Any:
    """What a reference within a schema names."""
    node = root
    for step in reference.removeprefix("#/").split("/") if reference.startswith("#/") else ():
        node = node.get(step) if isinstance(node, dict) else None
    return node if reference.startswith("#/") else None


def _compiles(schema: str) -> bool:
    """Whether llguidance takes it, where that is installed; without it nothing is held to a grammar here."""
    try:
        from llguidance import LLMatcher
    except ImportError:
        return True
    error: str = LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(schema))
    return not error
