"""A client's tools, as a process knows them: what it is told of them, what it says to call one, what that returned.

A call is a message: nothing but an object {"name", "arguments"}. It ends the turn, so a client that never brings the
result holds nobody up, and what it brings is the next message. Both stand in the process's memory as they were said.
Guarantees: what a client sends again of a call is the text that the process said, so its past is known; an id names
the tool, so a result is told by its name wherever the client goes on.
Not here: what of a request says so (shapes.py), how the process is held to it (kernel/machine/wishes.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec

from drivers.door.http.errors import Refusal
from kernel.ports import Form

TOOLS_MAX: Final = 128  # of one request
SCHEMA_BYTES_MAX: Final = 64 << 10  # of all schemas of one request
NAME: Final = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_ID: Final = re.compile(r"call_[0-9a-f]{12}_(.{1,64})\Z", re.S)
_DEFINED: Final = ("$defs", "definitions")
RETURNED: Final = "[{name} returned]\n{text}"
MANUAL: Final = (
    "You may call these tools of the user's. To call one, answer with nothing but an object of its name and its "
    'arguments, as {{"name": "{name}", "arguments": {{}}}}; you are then told what it returned.\n{tools}'
)


class Tool(msgspec.Struct, frozen=True):
    """One of them; `parameters`: a JSON schema."""

    name: str
    says: str
    parameters: dict[str, Any]


class Call(msgspec.Struct, frozen=True):
    """A call as it was said; `arguments` as JSON."""

    name: str
    arguments: str
    id: str = ""

    @property
    def text(self) -> str:
        """What the process said."""
        return f'{{"name":{msgspec.json.encode(self.name).decode()},"arguments":{self.arguments}}}'


class _Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    arguments: msgspec.Raw


_said: Final = msgspec.json.Decoder(_Said)


def read(given: Any, param: str) -> tuple[Tool, ...]:
    """The tools of a request, in the form of either protocol. Raises Refusal."""
    if not isinstance(given, list) or len(given) > TOOLS_MAX:
        raise _wrong(param, f"must be a list of at most {TOOLS_MAX} functions")
    found: list[Tool] = []
    for at, one in enumerate(given):
        where = f"{param}[{at}]"
        kind = one.get("type") if isinstance(one, dict) else None
        if kind != "function":
            raise _wrong(where, f"of a client's tools a process can call functions, and no {str(kind)[:40]}")
        function = one.get("function", one)
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise _wrong(where, "must have a name of 1 to 64 letters, digits, or _ . -")
        parameters, says = function.get("parameters"), function.get("description")
        if not isinstance(parameters or {}, dict) or not isinstance(says or "", str):
            raise _wrong(where, "must have its parameters as a JSON schema, and its description as text")
        found.append(Tool(name, says or "", parameters or {"type": "object"}))
    if len({tool.name for tool in found}) < len(found):
        raise _wrong(param, "has two of one name")
    size = len(msgspec.json.encode([tool.parameters for tool in found]))
    if size > SCHEMA_BYTES_MAX:
        raise _wrong(param, f"has {size} bytes of schemas; at most {SCHEMA_BYTES_MAX} are allowed")
    return tuple(found)


def manual(tools: Sequence[Tool]) -> str:
    """What a process is told of tools; "" of none."""
    if not tools:
        return ""
    lines = [
        f"- {tool.name}: {' '.join(tool.says.split())} Arguments: {msgspec.json.encode(tool.parameters).decode()}"
        for tool in tools
    ]
    return MANUAL.format(name=tools[0].name, tools="\n".join(lines))


def form(tools: Sequence[Tool], *, prose: bool) -> Form:
    """What holds a message to a call of one of them, or with `prose` to text."""
    return Form(tuple(schema(_call(tool), f"t{at}") for at, tool in enumerate(tools)), prose=prose)


def _call(tool: Tool) -> dict[str, Any]:
    arguments = {**tool.parameters, "type": "object"}
    named: dict[str, Any] = {name: arguments.pop(name) for name in _DEFINED if name in arguments}
    fields = {"name": {"const": tool.name}, "arguments": arguments}
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
        **named,
    }


def schema(given: dict[str, Any], mark: str) -> str:
    """A client's schema as one that may stand inside others: what it refers to has names of its own, by `mark`."""
    named: dict[str, Any] = {}

    def moved(node: Any) -> Any:
        if isinstance(node, list):
            return [moved(one) for one in node]
        if not isinstance(node, dict):
            return node
        found = {key: moved(value) for key, value in node.items()}
        place = node.get("$ref")
        if isinstance(place, str):
            where, _, name = place.rpartition("/")
            if where not in [f"#/{one}" for one in _DEFINED]:
                raise _wrong("schema", f"refers to {place[:80]}; only what stands in its $defs can be referred to")
            found["$ref"] = f"#/$defs/{mark}.{name}"
        return found

    try:
        found = moved(given)
    except RecursionError as exc:
        raise _wrong("schema", "is nested too deeply") from exc
    for one in _DEFINED:
        held = found.pop(one, {})
        named |= {f"{mark}.{name}": spec for name, spec in held.items()} if isinstance(held, dict) else {}
    return msgspec.json.encode({**found, **({"$defs": named} if named else {})}).decode()


def said(text: str, tools: Sequence[Tool], mid: str) -> Call | None:
    """The call that a message is, with an id of its own; None: it is text."""
    call = _read(text)
    if call is None or call.name not in [tool.name for tool in tools]:
        return None
    return Call(call.name, call.arguments, call_id(call.name, mid))


def call_id(name: str, mid: str) -> str:
    """The id of the call that a message is answered with: it says the tool, too."""
    return f"call_{blake2b(mid.encode('utf-8', 'surrogatepass'), digest_size=6).hexdigest()}_{name}"


def plain(text: str) -> str:
    """A message as its client sends it again, if it was one that calls a tool."""
    call = _read(text)
    return text if call is None else call.text


def _read(text: str) -> Call | None:
    try:
        call = _said.decode(text.strip())
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return Call(call.name, bytes(call.arguments).decode())


def called(given: Any, where: str) -> tuple[str, dict[str, str]]:
    """The calls of an assistant's message in a history: their text, and their names by id. Raises Refusal."""
    texts: list[str] = []
    names: dict[str, str] = {}
    for one in given if isinstance(given, list) else [None]:
        call = one if isinstance(one, dict) else {}
        function = call.get("function", call)
        own = function if isinstance(function, dict) else {}
        name, arguments = own.get("name"), own.get("arguments")
        if not isinstance(name, str) or not isinstance(arguments, str):
            raise _wrong(where, "has calls of tools without a name or arguments")
        texts.append(Call(name, arguments).text)
        names[str(call.get("call_id") or call.get("id"))] = name
    return "\n".join(texts), names


def returned(ident: Any, text: str, names: Mapping[str, str]) -> str:
    """What a process is told of a result. `names`: of the calls that stand in the history."""
    own = _ID.match(ident) if isinstance(ident, str) else None
    name = own[1] if own is not None else names.get(str(ident), "the tool")
    return RETURNED.format(name=name, text=text)


def _wrong(name: str, why: str) -> Refusal:
    return Refusal(400, f"{name}: {why}", code="invalid_value", param=name)
