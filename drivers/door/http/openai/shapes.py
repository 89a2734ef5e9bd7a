"""What a request of OpenAI's protocol says, as far as this machine can do it; what it cannot is refused by its name.

Guarantee: no parameter is dropped in silence. Each is done, is one that changes no text (HARMLESS), or stands at the
value that asks for nothing (NEUTRAL); anything else is a 400 with `param`.
Not here: what a history is to the machine (past.py), what is answered (chat.py, responses.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from drivers.door.http.errors import Refusal
from drivers.door.http.openai import tools
from drivers.door.http.openai.past import BETWEEN, Turn
from drivers.door.http.openai.tools import Tool
from kernel.ports import Form

MESSAGES_MAX: Final = 20_000  # of one request
STOPS_MAX: Final = 4
STOP_CHARS_MAX: Final = 256
KEY_CHARS_MAX: Final = 512
NAMES_CHARS: Final = 200  # of the tools that there are, where none of them is named
TOP_P_MIN: Final = 1e-9  # nothing at all cannot be drawn from
NEW: Final = "new:"
"""What a model is called that is a process yet to be made."""

HARMLESS: Final = frozenset(
    (
        *("metadata", "user", "store", "service_tier", "safety_identifier", "parallel_tool_calls"),
        *("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "include", "truncation"),
        *("max_tool_calls", "stream_options", "function_call"),
    )
)
"""What a reply does not depend on here."""
NEUTRAL: Final[Mapping[str, tuple[Any, ...]]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "modalities": (["text"],),
    "reasoning_effort": ("none",),
    "background": (False,),
    "functions": ([],),
    "reasoning": ({}, {"effort": "none"}),
    "verbosity": ("medium",),
}
WHY: Final[Mapping[str, str]] = {
    "functions": "functions of a client's are said as tools",
    "n": "a process says one thing; ask again for another, which becomes a fork",
}
CHAT: Final = frozenset(
    (
        *("messages", "model", "stream", "max_tokens", "max_completion_tokens", "stop", "seed", "temperature", "top_p"),
        *("tools", "tool_choice", "response_format"),
    )
)
RESPONSES: Final = frozenset(
    (
        *("input", "instructions", "model", "stream", "max_output_tokens", "temperature", "top_p"),
        *("previous_response_id", "conversation", "tools", "tool_choice", "text"),
    )
)

_SIDES: Final = (
    re.compile(r"\A### Task:\s.*(<chat_history>|### Chat History|<type>)", re.S),
    re.compile(r"\A(Generate|Provide|Write) a (short|concise)\W.{0,40}\btitle\b.{0,20}\bconversation\b"),
    re.compile(r"\bplease reply with a title for the chat\b"),
)
"""How the side requests of known clients look: Open WebUI's tasks; titles of Zed, LibreChat and Continue."""
SIDE: Final = "x-llmos-side"
"""The header by which any client says that it is one."""
CHAT_IDS: Final = ("x-llmos-conversation", "x-openwebui-chat-id")
"""Headers by which clients tell two conversations apart that begin alike."""


class Wanted(msgspec.Struct, frozen=True):
    """What a client asks."""

    model: str
    turns: tuple[Turn, ...]  # before the message, as the client has them
    text: str  # the message
    system: str = ""
    stops: tuple[str, ...] = ()
    limit: int | None = None  # tokens of the reply that the client wants at most
    stream: bool = False
    usage: bool = False  # of a stream, in a last chunk
    key: str = ""  # what the client calls the conversation
    side: bool = False  # it is not to be remembered
    again: bool = False  # the client says that it repeats itself because the answer was lost
    previous: str = ""  # the response that this one follows
    conversation: str = ""  # the process that it is of
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    tools: tuple[Tool, ...] = ()  # of the client's, which the process may call
    form: Form | None = None  # what its message is to be
    held: bool = False  # it must be; else it may, where something can hold it
    json: bool = False  # a message that calls no tool is to be JSON


def chat(body: Mapping[str, Any], headers: Mapping[str, str]) -> Wanted:
    """A chat completion. Raises Refusal."""
    _known(body, CHAT)
    limit = _number(body, "max_completion_tokens", _number(body, "max_tokens", None))
    options = body.get("stream_options") or {}
    turns, text, system = _said(_list(body, "messages"), "messages")
    form = body.get("response_format") or {}
    own = form.get("json_schema") if isinstance(form, dict) else None
    held = _formed(body, "response_format", form, own)
    return Wanted(
        _model(body),
        turns,
        text,
        held.told(system),
        _stops(body.get("stop")),
        limit,
        stream=_flag(body, "stream"),
        usage=isinstance(options, dict) and options.get("include_usage") is True,
        key=_key(headers),
        side=_is_side(text, headers),
        again=headers.get("x-stainless-retry-count", "0") != "0",
        temperature=_drawn(body, "temperature", 0.0, 2.0),
        top_p=_drawn(body, "top_p", TOP_P_MIN, 1.0),
        seed=_seed(body),
        tools=held.tools,
        form=held.form,
        held=held.held,
        json=held.json,
    )


def response(body: Mapping[str, Any], headers: Mapping[str, str]) -> Wanted:
    """A response. Raises Refusal."""
    _known(body, RESPONSES)
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else _list(body, "input")
    turns, text, system = _said([_as_message(one) for one in items if not _ours(one)], "input")
    instructions = _text(body.get("instructions"), "instructions")
    talk = body.get("conversation")
    talk = talk.get("id") if isinstance(talk, dict) else talk
    previous = body.get("previous_response_id")
    for name, value in (("conversation", talk), ("previous_response_id", previous)):
        if value is not None and not isinstance(value, str):
            raise _wrong(name, "must be an id")
    if talk and previous:
        raise _wrong("conversation", "cannot go with previous_response_id")
    if turns and (talk or previous):
        raise _wrong("input", "has answers in it: what came before is known by the id; send what is new")
    told = body.get("text") or {}
    if (
        not isinstance(told, dict)
        or told.keys() - {"format", "verbosity"}
        or told.get("verbosity", "medium") != "medium"
    ):
        raise _wrong("text", "only its format can be chosen here")
    form = told.get("format") or {}
    held = _formed(body, "text", form, form)
    return Wanted(
        _model(body),
        turns,
        text,
        held.told(BETWEEN.join(one for one in (instructions, system) if one)),
        (),
        _number(body, "max_output_tokens", None),
        stream=_flag(body, "stream"),
        usage=True,
        key=_key(headers),
        side=_is_side(text, headers) or body.get("store") is False,
        again=headers.get("x-stainless-retry-count", "0") != "0",
        previous=previous or "",
        conversation=talk or "",
        temperature=_drawn(body, "temperature", 0.0, 2.0),
        top_p=_drawn(body, "top_p", TOP_P_MIN, 1.0),
        tools=held.tools,
        form=held.form,
        held=held.held,
        json=held.json,
    )


class _Held(msgspec.Struct, frozen=True):
    """What a message is to be: a call of a tool's, JSON, text, or one of them."""

    tools: tuple[Tool, ...]
    form: Form | None
    held: bool
    json: bool

    def told(self, system: str) -> str:
        """The client's instructions, with what its process is to know of the tools."""
        return BETWEEN.join(one for one in (system, tools.manual(self.tools)) if one)


def _formed(body: Mapping[str, Any], param: str, form: Any, own: Any) -> _Held:
    """What a message is to be; `own`: where the schema of its form stands. Raises Refusal."""
    found = tools.read(body.get("tools") or [], "tools")
    there = ", ".join(tool.name for tool in found)[:NAMES_CHARS]
    choice = body.get("tool_choice") or "auto"
    function = (choice.get("function") or choice) if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if choice == "none":
        found = ()
    elif name is not None:
        found = tuple(tool for tool in found if tool.name == name)
    elif choice not in ("auto", "required"):
        raise _wrong("tool_choice", "must be none, auto, required, or a function of the tools'")
    must = choice != "auto" and choice != "none"
    if must and not found:
        raise _wrong("tool_choice", f"names no function of the tools'; there {f'are {there}' if there else 'is none'}")
    wanted = _schema(param, form, own)
    if wanted is None or must:
        return _Held(found, tools.form(found, prose=not must) if found else None, held=must, json=False)
    calls = tools.form(found, prose=False).schemas
    return _Held(found, Form((*calls, wanted)), held=True, json=True)


def _schema(param: str, form: Any, own: Any) -> str | None:
    """The schema that a message is to keep to; None: it is text. Raises Refusal."""
    kind = form.get("type", "text") if isinstance(form, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return '{"type":"object"}'
    schema = own.get("schema") if isinstance(own, dict) else None
    if kind != "json_schema" or not isinstance(schema, dict):
        raise _wrong(param, "must be of type text, json_object, or json_schema with a schema")
    found = tools.schema(schema, "f")
    if len(found) > tools.SCHEMA_BYTES_MAX:
        raise _wrong(param, f"has a schema of {len(found)} bytes; at most {tools.SCHEMA_BYTES_MAX} are allowed")
    return found


def _as_message(item: Any) -> Any:
    """An item of a response's input that is a call or its result, as chat completions have it; any other as it is."""
    match item:
        case {"type": "function_call"}:
            return {"role": "assistant", "tool_calls": [item]}
        case {"type": "function_call_output", "call_id": ident, "output": output}:
            return {"role": "tool", "tool_call_id": ident, "content": output}
        case _:
            return item


def _drawn(body: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    """How words are to be drawn, if the client says it."""
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise _wrong(name, f"must be a number from {low:g} to {high:g}")
    return float(value)


def _seed(body: Mapping[str, Any]) -> int | None:
    value = body.get("seed")
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise _wrong("seed", "must be a whole number")


def _known(body: Mapping[str, Any], done: frozenset[str]) -> None:
    for name, value in body.items():
        if name in done or value is None:
            continue
        if name in HARMLESS:
            if name == "function_call" and value not in ("none", "auto"):
                raise _wrong(name, WHY["functions"])
            continue
        if name not in NEUTRAL:
            raise Refusal(400, f"{name[:80]} is not known here", code="unknown_parameter", param=name[:80])
        if value not in NEUTRAL[name]:
            raise _wrong(name, WHY.get(name, "cannot be chosen here; leave it out"), "unsupported_parameter")


def _said(messages: Sequence[Any], param: str) -> tuple[tuple[Turn, ...], str, str]:
    """Turns, the message that is to be answered, and the client's instructions."""
    if len(messages) > MESSAGES_MAX:
        raise _wrong(param, f"has {len(messages)} messages; at most {MESSAGES_MAX} are allowed")
    turns: list[Turn] = []
    system: list[str] = []
    names: dict[str, str] = {}  # of tools that were called
    waiting: str | None = None
    results = False  # what waits is what tools returned
    for at, one in enumerate(messages):
        where = f"{param}[{at}]"
        if not isinstance(one, dict) or one.get("type", "message") != "message":
            raise _wrong(where, "must be a message of system, developer, user, assistant or tool")
        if one.get("function_call"):
            raise _wrong(where, WHY["functions"])
        text = _content(one.get("content"), where)
        if one.get("tool_calls"):
            calls, own = tools.called(one["tool_calls"], where)
            names |= own
            text = "\n".join(part for part in (text, calls) if part)
        match one.get("role"):
            case "system" | "developer":
                system.append(text)
            case "tool":
                told = tools.returned(one.get("tool_call_id"), text, names)
                if waiting is not None and not results:
                    turns.append(Turn(waiting, ""))
                waiting, results = f"{waiting}{BETWEEN}{told}" if waiting is not None and results else told, True
            case "user":
                if waiting is not None:
                    turns.append(Turn(waiting, ""))
                name = one.get("name")
                waiting, results = f"{name}: {text}" if isinstance(name, str) and name else text, False
            case "assistant" if waiting is not None or not turns:
                turns.append(Turn(waiting or "", text))
                waiting = None
            case "assistant":
                turns[-1] = Turn(turns[-1].user, f"{turns[-1].assistant}{BETWEEN}{text}")
            case _:
                raise _wrong(where, "must be a message of system, developer, user, assistant or tool")
    if waiting is None:
        raise _wrong(param, "must end with a message of the user's, or of a tool's")
    return tuple(turns), waiting, BETWEEN.join(one for one in system if one.strip())


def _content(content: Any, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise _wrong(where, "its content must be text")
    texts: list[str] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in ("text", "input_text", "output_text", "refusal"):
            raise _wrong(where, f"a process reads text, and no {str(kind)[:40]}", "unsupported_content")
        texts.append(_text(part.get("refusal" if kind == "refusal" else "text"), where))
    return "\n".join(texts)


def _ours(item: Any) -> bool:
    """Whether an item is one that this machine gave: calls that a process made itself, which it knows."""
    return isinstance(item, dict) and item.get("type") == "mcp_call" and item.get("server_label") == "llmos"


def _is_side(text: str, headers: Mapping[str, str]) -> bool:
    return headers.get(SIDE, "").lower() in ("1", "true") or any(mark.search(text) for mark in _SIDES)


def _key(headers: Mapping[str, str]) -> str:
    return next((headers[name][:KEY_CHARS_MAX] for name in CHAT_IDS if headers.get(name)), "")


def _model(body: Mapping[str, Any]) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise _wrong("model", "must name a process, or new:PERSONA; GET /v1/models lists them")
    return model


def _list(body: Mapping[str, Any], name: str) -> list[Any]:
    value = body.get(name)
    if not isinstance(value, list) or not value:
        raise _wrong(name, "must be a list of messages")
    return value


def _text(value: Any, name: str) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    raise _wrong(name, "must be text")


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise _wrong(name, "must be true or false")


def _number(body: Mapping[str, Any], name: str, otherwise: int | None) -> int | None:
    value = body.get(name)
    if value is None:
        return otherwise
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _wrong(name, "must be a number of tokens, 1 at least")
    return value


def _stops(value: Any) -> tuple[str, ...]:
    found = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(found, list) or len(found) > STOPS_MAX:
        raise _wrong("stop", f"must be a text, or at most {STOPS_MAX}")
    for one in found:
        if not isinstance(one, str) or not 0 < len(one) <= STOP_CHARS_MAX:
            raise _wrong("stop", f"must be texts of 1 to {STOP_CHARS_MAX} characters")
    return tuple(found)


def _wrong(name: str, why: str, code: str = "invalid_value") -> Refusal:
    return Refusal(400, f"{name}: {why}", code=code, param=name)
