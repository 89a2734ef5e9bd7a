"""Requests of clients' protocols with anything at all in them: each is read, or refused for what is wrong."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from drivers.door.http.anthropic import as_chat
from drivers.door.http.errors import Refusal
from drivers.door.http.openai import shapes
from drivers.door.http.openai.shapes import Wanted

SCHEMA = {"type": "object", "properties": {"city": {"$ref": "#/$defs/city"}}, "$defs": {"city": {"type": "string"}}}
FUNCTION = {"name": "f", "description": "Finds.", "parameters": SCHEMA}
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2.5, 1e308, 10**30, "", " ", "x", "\u202e\x1b[31m", "auto", "required", "a" * 300),
    *([], {}, [[]], [{}], {"type": "x"}, {"type": []}, {"name": "f"}, {"function": "x"}, {"function": {"name": 5}}),
    *({"function": {}}, {"id": 5}, {"json_schema": 5}, {"schema": {"$ref": 5}}, {"$ref": "#/x"}, {"format": []}),
)
"""What may stand in the place of anything."""
CHAT = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "hello"}], "name": "ana"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "found"},
    ],
    "stop": ["a"],
    "tools": [{"type": "function", "function": FUNCTION}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
    "stream_options": {"include_usage": True},
    **{"stream": True, "max_tokens": 4, "seed": 1, "temperature": 1, "top_p": 0.5, "n": 1, "logit_bias": {}},
}
RESPONSE = {
    "model": "m",
    "input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "found"},
    ],
    "tools": [{"type": "function", **FUNCTION}],
    "text": {"format": {"type": "json_schema", "schema": SCHEMA}, "verbosity": "medium"},
    **{"instructions": "Be brief.", "tool_choice": "auto", "store": False, "reasoning": {"effort": "none"}},
}
MESSAGES = {
    "model": "m",
    "max_tokens": 5,
    "system": [{"type": "text", "text": "Be brief."}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "hello"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "found"}]},
    ],
    "tools": [{"name": "f", "input_schema": SCHEMA}],
    "tool_choice": {"type": "tool", "name": "f"},
    "stop_sequences": ["a"],
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all that stands in a body."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield (*path, key)
        yield from places(one, (*path, key))


def broken(draw: random.Random, body: Mapping[str, Any]) -> Any:
    """The body with one to three things taken away, put in, or put in the place of others."""
    found: Any = copy.deepcopy(body)
    for _ in range(draw.randint(1, 3)):
        *above, last = draw.choice([*places(found), ("model",)])
        place = found
        for key in above:
            place = place[key]
        odd = copy.deepcopy(draw.choice(ODD))
        match draw.randrange(6):
            case 0 if last in (place if isinstance(place, dict) else range(len(place))):
                del place[last]
            case 1 if isinstance(place, list):
                place.insert(last, odd)
            case 2 if isinstance(place, dict):
                place[draw.choice(("type", "role", "id", "name", "zz"))] = odd
            case _:
                place[last] = odd
    return found


@pytest.mark.parametrize(
    ("body", "read"),
    [
        (CHAT, lambda body: shapes.chat(body, {})),
        (RESPONSE, lambda body: shapes.response(body, {})),
        (MESSAGES, lambda body: shapes.chat(as_chat(body), {})),
    ],
)
def test_any_request_is_read_or_refused_in_a_line(body: dict[str, Any], read: Callable[[Any], Wanted]) -> None:
    read(body)
    draw, told = random.Random(7), set[tuple[int, str]]()
    for _ in range(3_000):
        try:
            read(broken(draw, body))
        except Refusal as refusal:
            told.add((refusal.status, str(refusal)))
    assert len(told) > 40
    assert [line for status, line in told if status != 400 or "\n" in line] == []
