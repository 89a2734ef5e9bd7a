"""What a request wishes of its answer, with OpenAI's own client: tools, JSON, a seed; and a turn of its own.

The scripted CPU obeys no grammar, so its program does what a held model would; that models are held is
tests/e2e/test_web_model.py's.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import trio

from drivers.cpu.openai import asking
from drivers.cpu.openai.asking import Constraint
from drivers.cpu.scripted import echo
from drivers.door.http.errors import Refusal
from drivers.door.http.openai import tools
from kernel.event import Tag
from kernel.memory.page import Role
from kernel.ports import Form, Job
from kernel.sampling import Sampling
from kernel.settings import Settings
from kernel.spec import Spec
from syscalls.grammar import grammar, plain
from tests.drivers.test_clients import assistant, heard, names, seen, told, user, with_openai
from tests.drivers.web import Served, served
from tests.fakes import ONLY_SPEAK, op

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = '{"name":"weather","arguments":{"city":"Lyon"}}'
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"colour": {"$ref": "#/$defs/Colour"}},
    "required": ["colour"],
    "$defs": {"Colour": {"enum": ["red", "blue"]}},
}
JSON: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "boat", "schema": SCHEMA}}


def said(job: Job) -> str:
    """The user's last message."""
    return next(page.page.text for page in reversed(job.pages) if page.role is Role.USER and not page.recalled)


def obeys(job: Job) -> str:
    """As a model that is held would: calls the tool once, says JSON where it must."""
    text, prose = said(job), job.grammar is None or not job.grammar.startswith("start: send_message")
    if "[weather returned]" in text:
        answer: Any = f"It is {text.splitlines()[-1]}."
    elif job.grammar is not None and "colour" in job.grammar:
        answer = {"colour": "red"}
    elif job.grammar is not None and "weather" in job.grammar and "weather" in text.split("\n\n")[-1]:
        answer = json.loads(CALL)
    else:
        return text.split("\n\n")[-1] if prose else echo(job)
    if prose:
        return answer if isinstance(answer, str) else json.dumps(answer, separators=(",", ":"))
    return op("send_message", text=answer)


@pytest.fixture(params=["json", "prose"])
async def held(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A door whose CPU holds what is said to a form, in either encoding; process `main` may only speak."""
    async with served(tmp_path, obeys, encoding=request.param, holds=True, token_s=0.002) as found:
        await found.machine.requests.spawn(Spec("main", ONLY_SPEAK))
        yield found


async def test_a_clients_tool_is_called_and_its_result_is_the_next_message_and_both_are_remembered(
    held: Served,
) -> None:
    def talk(client: openai.OpenAI) -> None:
        messages: list[Any] = [user("how is the weather in Lyon?")]
        asked: dict[str, Any] = {"model": "main", "tools": [WEATHER]}
        made = client.chat.completions.create(**asked, messages=messages)
        choice = made.choices[0]
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
        (call,) = choice.message.tool_calls or []
        assert call.type == "function"
        assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Lyon"})
        messages += [
            choice.message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "sunny, 21 degrees"},
        ]
        made = client.chat.completions.create(**asked, messages=messages)
        assert made.choices[0].message.content == "It is sunny, 21 degrees."
        assert made.choices[0].finish_reason == "stop"
        messages += [assistant(str(made.choices[0].message.content)), user("thank you")]
        assert "thank you" in told(client, messages, tools=[WEATHER])

    await with_openai(held, talk)
    assert names(held.machine) == ["main"]
    first, result, thanks = heard(held.machine)
    assert first.startswith("[Instructions of the client: You may call these tools of the user's.")
    assert '- weather: The weather of a city. Arguments: {"type":"object"' in first
    assert first.endswith("how is the weather in Lyon?")
    assert (result, thanks) == ("[weather returned]\nsunny, 21 degrees", "thank you")
    assert any('"weather"' in text or '\\"weather\\"' in text for text in seen(held.machine, "main")[1:2])


async def test_fifty_turns_with_tools_and_responses_with_all_sent_again_have_one_copy_in_memory(tmp_path: Path) -> None:
    async with served(tmp_path, obeys, encoding="prose", holds=True, settings=("window=8192",)) as door:
        await door.machine.requests.spawn(Spec("main", ONLY_SPEAK))

        def talk(client: openai.OpenAI) -> None:
            messages: list[Any] = []
            for number in range(25):
                messages.append(user(f"how is the weather in Lyon on day {number}?"))
                made = client.chat.completions.create(model="main", messages=messages, tools=[WEATHER])  # type: ignore[list-item]
                (call,) = made.choices[0].message.tool_calls or []
                messages.append(made.choices[0].message.model_dump(exclude_none=True))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": f"rain {number}"})
                messages.append(assistant(told(client, messages, tools=[WEATHER])))
            last = None
            for number in range(25):
                made = client.responses.create(model="main", input=f"item {number}", previous_response_id=last)  # type: ignore[assignment]
                last = made.id

        await with_openai(door, talk)
        assert names(door.machine) == ["main"]
        said = heard(door.machine)
        assert len(said) == 75
        assert said[1:50:2] == [f"[weather returned]\nrain {number}" for number in range(25)]
        assert said[50:] == [f"item {number}" for number in range(25)]
        assert sum("You may call these tools" in text for text in said) == 1


async def test_a_stream_tells_a_call_by_and_by_and_text_at_once(held: Served) -> None:
    def talk(client: openai.OpenAI) -> tuple[list[Any], list[Any]]:
        asked: Any = {"model": "main", "tools": [WEATHER], "stream": True}
        called = list(client.chat.completions.create(**asked, messages=[user("how is the weather in Lyon?")]))
        spoken = list(client.chat.completions.create(**asked, messages=[user("tell me of the sea and of the sky")]))
        return called, spoken

    called, spoken = await with_openai(held, talk)
    deltas = [call for chunk in called for call in chunk.choices[0].delta.tool_calls or []]
    assert deltas[0].function.name == "weather"
    assert deltas[0].id.endswith("_weather")
    assert json.loads("".join(one.function.arguments or "" for one in deltas)) == {"city": "Lyon"}
    assert not any(chunk.choices[0].delta.content for chunk in called)
    assert called[-1].choices[0].finish_reason == "tool_calls"
    if held.cpu.encoding == "prose":
        assert len(deltas) > 2  # in JSON the call is part of an instruction, and comes with it
    pieces = [chunk.choices[0].delta.content for chunk in spoken if chunk.choices[0].delta.content]
    assert "".join(pieces).endswith("the sea and of the sky")
    assert len(pieces) > 3


async def test_a_tool_may_be_required_or_forbidden(held: Served) -> None:
    def talk(client: openai.OpenAI) -> None:
        asked: Any = {"model": "main", "tools": [WEATHER]}
        for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
            made = client.chat.completions.create(
                **asked, messages=[user(f"the weather, {choice}")], tool_choice=choice
            )
            assert made.choices[0].finish_reason == "tool_calls"
        made = client.chat.completions.create(**asked, messages=[user("the weather")], tool_choice="none")
        assert made.choices[0].finish_reason == "stop"
        with pytest.raises(openai.BadRequestError, match="names no function"):
            client.chat.completions.create(
                **asked, messages=[user("x")], tool_choice={"type": "function", "function": {"name": "f"}}
            )

    await with_openai(held, talk)


async def test_a_reply_is_held_to_a_schema_of_the_clients_in_chat_and_responses(held: Served) -> None:
    def talk(client: openai.OpenAI) -> None:
        made = told(client, [user("which colour has the boat?")], response_format=JSON)
        assert json.loads(made) == {"colour": "red"}
        asked: Any = {"model": "main", "messages": [user("again, please")], "response_format": JSON, "stream": True}
        pieces = [chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**asked)]
        assert json.loads("".join(pieces)) == {"colour": "red"}
        form: Any = {"format": {"type": "json_schema", **JSON["json_schema"]}}
        response = client.responses.create(model="main", input="and in a response?", text=form)
        assert json.loads(response.output_text) == {"colour": "red"}

    await with_openai(held, talk)


async def test_responses_call_tools_and_take_their_results_whole_and_in_streams(held: Served) -> None:
    tool = {"type": "function", **WEATHER["function"]}

    def talk(client: openai.OpenAI) -> None:
        asked: Any = {"model": "main", "tools": [tool]}
        one = client.responses.create(**asked, input="how is the weather in Lyon?")
        call = one.output[0]
        assert call.type == "function_call"
        assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Lyon"})
        result: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
        two = client.responses.create(**asked, input=result, previous_response_id=one.id)
        assert two.output_text == "It is rain."
        events = list(client.responses.create(**asked, input="and the weather in Lyon now?", stream=True))
        kinds = [event.type for event in events]
        assert kinds[:3] == ["response.created", "response.in_progress", "response.output_item.added"]
        assert kinds[-3:] == [
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.completed",
        ]
        deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
        assert json.loads("".join(deltas)) == {"city": "Lyon"}
        resent: Any = [
            {"role": "user", "content": "how is the weather in Lyon?"},
            {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments},
            *result,
        ]
        assert client.responses.create(**asked, input=resent).output_text == "It is rain."

    await with_openai(held, talk)


async def test_what_nothing_can_hold_is_refused_and_a_call_that_comes_anyway_is_one(tmp_path: Path) -> None:
    def talk(client: openai.OpenAI) -> None:
        asked: Any = {"model": "main", "messages": [user("the weather?")]}
        for more, why in (
            ({"response_format": JSON}, "response_format: nothing holds the scripted CPU"),
            ({"response_format": {"type": "json_object"}}, "response_format: nothing holds"),
            ({"tools": [WEATHER], "tool_choice": "required"}, "tool_choice: nothing holds"),
        ):
            for stream in (False, True):
                with pytest.raises(openai.BadRequestError, match=why):
                    client.chat.completions.create(**asked, **more, stream=stream)
        made = client.chat.completions.create(**asked, tools=[WEATHER])
        assert made.choices[0].finish_reason == "tool_calls"
        pieces = list(client.chat.completions.create(**{**asked, "stream": True, "tools": [WEATHER]}))
        assert [chunk.choices[0].delta.tool_calls is not None for chunk in pieces].count(True) == 2
        made = client.chat.completions.create(**asked)  # whose tools are not there: what it says is text
        assert made.choices[0].message.content == CALL

    async with served(tmp_path, lambda _: CALL, encoding="prose") as door:
        await door.machine.requests.spawn(Spec("main", ONLY_SPEAK))
        await with_openai(door, talk)
        assert names(door.machine) == ["main"]


async def test_a_reply_that_is_no_json_where_json_was_wanted_is_an_error_and_no_answer(tmp_path: Path) -> None:
    def talk(client: openai.OpenAI) -> None:
        with pytest.raises(openai.InternalServerError, match="not with JSON"):
            told(client, [user("hello")], response_format={"type": "json_object"})

    async with served(tmp_path, holds=True) as door:  # a program that does not obey
        await door.machine.requests.spawn(Spec("main", ONLY_SPEAK))
        await with_openai(door, talk)


async def test_how_an_answer_is_drawn_is_its_requests_and_not_the_processs(tmp_path: Path) -> None:
    jobs: list[Job] = []

    def program(job: Job) -> str:
        jobs.append(job)
        return echo(job)

    def talk(client: openai.OpenAI) -> None:
        told(client, [user("one")], temperature=0.7, top_p=0.9, seed=5)
        told(client, [user("two")])
        with pytest.raises(openai.BadRequestError, match="must be a number from 0 to 2"):
            told(client, [user("three")], temperature=3)

    async with served(tmp_path, program) as door:
        await door.machine.requests.spawn(Spec("main"))
        await with_openai(door, talk)
        assert door.machine.kernel.procs[1].spec.sampling is None
    assert [(job.seed, job.sampling) for job in jobs] == [(5, Sampling(temperature=0.7, top_p=0.9)), (None, None)]


async def test_two_messages_at_once_each_have_a_turn_and_an_answer_of_their_own(tmp_path: Path) -> None:
    async with served(tmp_path, token_s=0.003) as door:
        await door.machine.requests.spawn(Spec("main"))
        answers: dict[str, str] = {}

        async def ask(text: str, *, stream: bool) -> None:
            def talk(client: openai.OpenAI) -> str:
                if not stream:
                    return told(client, [user(text)])
                asked: Any = {"model": "main", "messages": [user(text)], "stream": True}
                return "".join(
                    chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**asked)
                )

            answers[text] = await with_openai(door, talk)

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(lambda n=number: ask(f"message {n}", stream=bool(n % 2)))
        assert answers == {f"message {n}": f"you said: message {n}" for n in range(6)}
        assert door.machine.kernel.procs[1].accounts.turns == 6
        assert sorted(heard(door.machine)) == sorted(answers)


async def test_a_message_that_comes_into_somebody_elses_turn_is_answered_with_it(tmp_path: Path) -> None:
    begun = threading.Event()

    def program(job: Job) -> str:
        begun.set()
        return op("search", query="x") if job.instr == 1 else echo(job)

    async with served(tmp_path, program, token_s=0.01) as door:
        await door.machine.requests.spawn(Spec("main", abort=True))
        await door.machine.requests.message("main", "of-a-chat", "from a terminal")
        await trio.to_thread.run_sync(begun.wait)
        answer = await with_openai(door, lambda client: told(client, [user("from a client")]))
        assert answer == "you said: from a client"
        assert door.machine.kernel.procs[1].accounts.turns == 1


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"tools": [{"type": "web_search"}]}, "can call functions, and no web_search"),
        ({"tools": [{"type": "function", "function": {"name": "no name"}}]}, "must have a name"),
        ({"tools": [WEATHER, WEATHER]}, "two of one name"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}, None),
        ({"tools": "all"}, "must be a list"),
        ({"tool_choice": "some"}, "must be none, auto, required"),
        ({"response_format": {"type": "grammar"}}, "must be of type text, json_object, or json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "json_schema with a schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "http://x/y"}}}},
            "only what stands in its",
        ),
        ({"messages": [user("a"), {"role": "assistant", "tool_calls": [{"id": "1"}]}, user("b")]}, "without a name"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"x": "y" * 70_000}}}]}, "bytes of"),
    ],
)
async def test_what_is_wrong_with_tools_and_forms_is_said_by_name(tmp_path: Path, given: Any, why: str | None) -> None:
    async with served(tmp_path, holds=True) as door:
        await door.machine.requests.spawn(Spec("main"))
        async with door.client() as client:
            body = {"model": "main", "messages": [user("hello")], **given}
            found: httpx2.Response = await client.post("/v1/chat/completions", json=body)
        if why is None:
            assert found.status_code == 200
        else:
            assert found.status_code == 400, found.text
            assert why in found.json()["error"]["message"]


def test_a_form_stands_in_the_grammar_of_every_mask_and_no_schema_can_break_out_of_it() -> None:
    llguidance = pytest.importorskip("llguidance")
    evil = tools.schema({"type": "object", "properties": {'a"\n| %json {}': {"const": "%json\n\n start: x"}}}, "f")
    own = tools.form(tools.read([WEATHER], "tools"), prose=True)
    for form in (own, Form((evil,)), Form((*own.schemas, evil), prose=True)):
        for mask in (ONLY_SPEAK, ("send_message", "search", "yield")):
            for encoding in ("json", "prose"):
                lark = grammar(mask, encoding, form)
                assert lark is not None
                assert llguidance.LLMatcher.validate_grammar(lark) == ""
                assert lark.count("%json") == lark.count("%json {")
    with pytest.raises(Refusal, match="only what stands in its"):
        tools.schema({"$ref": "#/properties/x"}, "f")


def test_an_object_in_the_place_of_a_text_becomes_the_text_of_it() -> None:
    assert plain('{"op":"send_message","text":{"a": 1.50,"b":"\\u00e9"}}', "json") == op(
        "send_message", text='{"a": 1.50,"b":"\\u00e9"}'
    )
    for text in (op("send_message", text="{}"), op("search", query="x"), "no json", '{"op":"send_message"}', "[]"):
        assert plain(text, "json") == text
    assert plain(CALL, "prose") == CALL


def test_a_server_is_sent_the_schemas_and_the_seed_of_a_request() -> None:
    form = Form((*tools.form(tools.read([WEATHER], "tools"), prose=False).schemas, tools.schema(SCHEMA, "f")))
    spoken = asking.allowed(grammar(ONLY_SPEAK, "prose", form))
    sent = asking.constrained(spoken, Constraint.SCHEMA)["response_format"]["json_schema"]["schema"]
    assert [one["properties"].keys() for one in sent["anyOf"]] == [{"name", "arguments"}, {"colour"}]
    assert sent["$defs"] == {"f.Colour": {"enum": ["red", "blue"]}}
    assert asking.constrained(spoken, Constraint.TOOLS) == {}
    called = asking.constrained(asking.allowed(grammar(("send_message", "yield"), "json", form)), Constraint.SCHEMA)
    assert "f.Colour" in called["response_format"]["json_schema"]["schema"]["$defs"]
    job = Job(0, Tag(1, 1, 1), (), (), (), None, 9, 9, 9, sampling=Sampling(temperature=0.5), seed=7)
    assert asking.drawn(job, Settings().cpu, asking.Dialect(), prose=True)["seed"] == 7
