"""Anthropic's protocol: what its client sends and reads, over the memory that OpenAI's has.

The requests are of the shapes that its Python client makes; docs/clients.md says how that was tried.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from kernel.spec import Spec
from tests.drivers.test_clients import heard, names
from tests.drivers.test_tools import WEATHER, obeys
from tests.drivers.web import Served, served
from tests.fakes import ONLY_SPEAK

TOOL = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": WEATHER["function"]["parameters"],
}


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path, obeys, encoding="prose", holds=True, token_s=0.002) as found:
        await found.machine.requests.spawn(Spec("main", ONLY_SPEAK))
        yield found


async def ask(door: Served, messages: list[Any], status: int = 200, **more: Any) -> httpx2.Response:
    headers = {"x-api-key": door.token, "anthropic-version": "2023-06-01"}
    async with httpx2.AsyncClient(base_url=door.url, headers=headers, trust_env=False, timeout=20) as client:
        body = {"model": "main", "max_tokens": 100, "messages": messages, **more}
        found = await client.post("/v1/messages", json=body)
        assert found.status_code == status, found.text
        return found


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


async def test_a_conversation_that_is_sent_again_is_remembered_once_and_usage_is_the_machines(door: Served) -> None:
    messages: list[Any] = []
    for number in range(3):
        messages.append(user(f"message {number}"))
        made = (await ask(door, messages, system="Be brief.")).json()
        assert (made["type"], made["role"], made["stop_reason"]) == ("message", "assistant", "end_turn")
        assert made["content"] == [{"type": "text", "text": f"message {number}"}]
        usage = made["usage"]
        assert usage["input_tokens"] > 0
        assert (usage["cache_read_input_tokens"] > 0) == (number > 0)
        messages.append({"role": "assistant", "content": made["content"]})
    said = heard(door.machine)
    assert said == ["[Instructions of the client: Be brief.]\n\nmessage 0", "message 1", "message 2"]
    assert names(door.machine) == ["main"]


async def test_a_tool_is_used_and_its_result_told(door: Served) -> None:
    messages = [user("how is the weather in Lyon?")]
    made = (await ask(door, messages, tools=[TOOL], tool_choice={"type": "any"})).json()
    (call,) = made["content"]
    assert (made["stop_reason"], call["type"], call["name"], call["input"]) == (
        "tool_use",
        "tool_use",
        "weather",
        {"city": "Lyon"},
    )
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": [{"type": "text", "text": "rain"}]}
    messages += [{"role": "assistant", "content": made["content"]}, user([result])]
    made = (await ask(door, messages, tools=[TOOL])).json()
    assert made["content"] == [{"type": "text", "text": "It is rain."}]
    assert names(door.machine) == ["main"]
    assert heard(door.machine)[1:] == ["[weather returned]\nrain"]


async def test_streams_come_as_events_of_text_and_of_calls(door: Served) -> None:
    found = await events(await ask(door, [user("tell me of the sea and of the sky")], stream=True))
    kinds = [kind for kind, _ in found]
    assert (kinds[0], kinds[1], kinds[-3:]) == (
        "message_start",
        "content_block_start",
        ["content_block_stop", "message_delta", "message_stop"],
    )
    assert all(kind == data["type"] for kind, data in found)
    text = [data["delta"]["text"] for kind, data in found if kind == "content_block_delta"]
    assert "".join(text) == "tell me of the sea and of the sky"
    assert len(text) > 3
    assert found[-2][1]["usage"]["output_tokens"] > 0
    found = await events(await ask(door, [user("the weather in Lyon?")], stream=True, tools=[TOOL]))
    pieces = [data["delta"]["partial_json"] for kind, data in found if kind == "content_block_delta"]
    assert json.loads("".join(pieces)) == {"city": "Lyon"}
    assert found[1][1]["content_block"]["name"] == "weather"
    assert found[-2][1]["delta"]["stop_reason"] == "tool_use"


async def events(response: httpx2.Response) -> list[tuple[str, Any]]:
    blocks = [block for block in response.text.split("\n\n") if block.startswith("event: ")]
    lines = [block.split("\n") for block in blocks]
    return [(head.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for head, data in lines]


async def test_a_stop_sequence_and_a_limit_cut_and_say_so(door: Served) -> None:
    made = (await ask(door, [user("red, white, blue")], stop_sequences=[", blue"])).json()
    assert (made["stop_reason"], made["stop_sequence"]) == ("stop_sequence", ", blue")
    assert made["content"][0]["text"] == "red, white"
    made = (await ask(door, [user("a longer one")], max_tokens=2)).json()
    assert (made["stop_reason"], made["content"][0]["text"]) == ("max_tokens", "a long")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"max_tokens": None}, "max_tokens: must be a number"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking is not known here"),
        ({"top_k": 5}, "top_k is not known here"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "can call functions, and no web_search"),
        ({"tools": "all"}, "tools: must be a list"),
        ({"tool_choice": {"type": "some"}}, "tool_choice: must be of type"),
        ({"messages": [{"role": "system", "content": "x"}]}, "must be a message of user or assistant"),
        ({"messages": [user([{"type": "image"}])]}, "a process reads text, and no image"),
        ({"messages": [user([])]}, "is empty"),
        ({"messages": []}, "messages: must be a list of messages"),
    ],
)
async def test_what_cannot_be_is_refused_by_its_name(door: Served, more: dict[str, Any], why: str) -> None:
    found = await ask(door, **{"messages": [user("hello")], "status": 400, **more})
    assert why in found.json()["error"]["message"]
    assert heard(door.machine) == []


async def test_another_key_is_no_token(door: Served) -> None:
    async with httpx2.AsyncClient(base_url=door.url, headers={"x-api-key": "no"}, trust_env=False) as client:
        assert (await client.post("/v1/messages", json={})).status_code == 401
