"""OpenAI's own client over a real model: what is new is evaluated, and what usage says is what the machine counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from drivers.door import wire
from drivers.door.http import token
from llmos import connect
from tests.e2e.test_web import boot, free_port

pytestmark = pytest.mark.gguf
SAID = ("My boat is called Aurora.", "It lies in Ghent.", "What is my boat called?", "Thank you.")


def test_a_real_model_evaluates_what_is_new_of_a_history_that_is_resent(tmp_path: Path) -> None:
    port = free_port()
    settings = ("cpu.threads=1", "cpu.reply=24", "memory.fault=false")
    daemon = boot(tmp_path, port, "llama", *(word for one in settings for word in ("--set", one)))
    url, key = f"http://127.0.0.1:{port}", token.read(tmp_path / token.FILE)
    prompts, evaluated = [], []
    with connect(url, key) as machine:
        machine.spawn("main")
        http = httpx2.Client(trust_env=False, timeout=120)
        with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, http_client=http) as client:
            messages: list[dict[str, str]] = []
            for text in SAID:
                messages.append({"role": "user", "content": text})
                made = client.chat.completions.create(model="main", messages=messages)  # type: ignore[arg-type]
                usage, content = made.usage, made.choices[0].message.content
                assert usage is not None
                assert usage.prompt_tokens_details is not None
                assert content
                assert usage.completion_tokens <= 24
                prompts.append(usage.prompt_tokens)
                evaluated.append(usage.prompt_tokens - (usage.prompt_tokens_details.cached_tokens or 0))
                messages.append({"role": "assistant", "content": content})
        (view,) = machine.ask(wire.Ps(id=0, proc="main"), wire.Processes).processes
        assert view.accounts.prefill == sum(evaluated)
        assert prompts == sorted(prompts)
        assert all(new < 40 < prompt for new, prompt in zip(evaluated[1:], prompts[1:], strict=True))
        machine.ask(wire.Stop(id=0), wire.Ok)
    assert daemon.wait(60) == 0


WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}},
    },
}
BOAT: Any = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}, "length": {"$ref": "#/$defs/Metres"}},
    "required": ["colour", "length"],
    "additionalProperties": False,
    "$defs": {"Metres": {"type": "integer", "minimum": 1, "maximum": 99}},
}


def test_a_real_model_is_held_to_a_schema_calls_a_tool_that_it_must_and_draws_by_a_seed(tmp_path: Path) -> None:
    port = free_port()
    settings = ("cpu.threads=1", "cpu.reply=48", "memory.fault=false")
    daemon = boot(tmp_path, port, "llama", *(word for one in settings for word in ("--set", one)))
    url, key = f"http://127.0.0.1:{port}", token.read(tmp_path / token.FILE)
    with connect(url, key) as machine:
        machine.spawn("main")
        http = httpx2.Client(trust_env=False, timeout=120)
        with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, http_client=http) as client:

            def ask(text: str, model: str = "main", **more: Any) -> Any:
                messages: Any = [{"role": "user", "content": text}]
                return client.chat.completions.create(model=model, messages=messages, **more).choices[0]

            form = {"type": "json_schema", "json_schema": {"name": "boat", "schema": BOAT}}
            boat = json.loads(ask("My boat is red, and 12 metres long.", response_format=form).message.content)
            assert boat.keys() == {"colour", "length"}
            assert boat["colour"] in ("red", "blue")
            assert 1 <= boat["length"] <= 99
            called = ask("How is the weather in Ghent?", tools=[WEATHER], tool_choice="required")
            (call,) = called.message.tool_calls
            assert (called.finish_reason, call.function.name) == ("tool_calls", "weather")
            assert isinstance(json.loads(call.function.arguments), dict)
            one, same, other = (
                ask(f"Tell me of the sea{dots}", "new:default", temperature=1.0, seed=seed, max_tokens=16)
                for dots, seed in ((".", 5), (".", 5), (".", 6))
            )
            assert one.message.content == same.message.content != other.message.content
            wrong: Any = {"type": "json_schema", "json_schema": {"schema": {"type": "objekt"}}}
            with pytest.raises(openai.BadRequestError, match="response_format: "):
                ask("x", response_format=wrong)
            assert ask("Are you there?").message.content
        machine.ask(wire.Stop(id=0), wire.Ok)
    assert daemon.wait(60) == 0
