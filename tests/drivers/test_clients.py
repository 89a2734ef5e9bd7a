"""OpenAI's own Python client over a machine: one memory however often it sends everything, forks for other pasts."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import openai
import pytest
import trio

from drivers.cpu.scripted import echo
from drivers.disk.memory import MemoryDisk
from drivers.door.http.given import Http, Live
from drivers.door.http.openai import past
from drivers.door.http.openai.asking import Asking
from drivers.door.http.openai.consent import Questions
from drivers.door.http.openai.making import Making
from drivers.door.http.openai.shapes import Wanted
from drivers.door.http.openai.talking import Talk
from kernel.machine import views
from kernel.machine.loop import Machine
from kernel.memory.page import Origin
from kernel.ports import Job
from kernel.spec import Spec
from tests.drivers.web import Served, served

T = TypeVar("T")
Messages = list[dict[str, str]]
TUTOR = Http("127.0.0.1:0", personas={"tutor": Spec("tutor", system="You teach chess.", blocks={"human": "Ana"})})


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Served]:
    """A door; process `main` exists and echoes."""
    async with served(tmp_path, given=TUTOR) as found:
        await found.machine.requests.spawn(Spec("main"))
        yield found


async def with_openai(door: Served, work: Callable[[openai.OpenAI], T], retries: int = 0) -> T:
    """What `work` gives, with OpenAI's client, which blocks."""

    def run() -> T:
        with openai.OpenAI(
            base_url=f"{door.url}/v1",
            api_key=door.token,
            max_retries=retries,
            http_client=httpx2.Client(trust_env=False, timeout=30),
        ) as client:
            return work(client)

    return await trio.to_thread.run_sync(run)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def told(client: openai.OpenAI, messages: Messages, model: str = "main", **more: Any) -> str:
    """What is answered to messages."""
    made = client.chat.completions.create(model=model, messages=messages, **more)  # type: ignore[call-overload]
    return str(made.choices[0].message.content)


def heard(machine: Machine, name: str = "main") -> list[str]:
    """What users said to a process, or to the one that it was forked from."""
    pid = machine.kernel.names[name]
    pages = views.history(machine.disk, pid, 1_000)
    return [page.searched for page in pages if page.origin is Origin.USER]


def seen(machine: Machine, name: str) -> list[str]:
    """The messages that a process has in view."""
    pid = machine.kernel.names[name]
    pages = [entry.page for entry in machine.kernel.procs[pid].space.queue]
    return [text.strip() for text in views.heads(machine.disk, pages).values()]


def names(machine: Machine) -> list[str]:
    return sorted(machine.kernel.names)


async def test_openais_client_over_50_turns_with_history_resent_has_one_copy_in_memory_and_evaluates_what_is_new(
    tmp_path: Path,
) -> None:
    async with served(tmp_path, settings=("window=8192",)) as door:
        await door.machine.requests.spawn(Spec("main"))
        evaluated: list[int] = []

        def talk(client: openai.OpenAI) -> None:
            messages: Messages = []
            for number in range(50):
                messages.append(user(f"fact {number}: the boat is in harbour {number}"))
                made = client.chat.completions.create(model="main", messages=messages)  # type: ignore[arg-type]
                content, usage = made.choices[0].message.content, made.usage
                assert content is not None
                assert usage is not None
                assert usage.prompt_tokens_details is not None
                assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
                assert made.choices[0].finish_reason == "stop"
                evaluated.append(usage.prompt_tokens - (usage.prompt_tokens_details.cached_tokens or 0))
                messages.append(assistant(content))

        await with_openai(door, talk)
        assert heard(door.machine) == [f"fact {number}: the boat is in harbour {number}" for number in range(50)]
        assert names(door.machine) == ["main"]
        accounts = door.machine.kernel.procs[1].accounts
        assert sum(evaluated) == accounts.prefill  # what vmstat says
        assert max(evaluated[1:]) < 2 * min(evaluated[1:]) < 200 < door.machine.prompts[1]


async def test_models_are_the_processes_and_what_is_yet_to_be_made_with_context_length(door: Served) -> None:
    def look(client: openai.OpenAI) -> None:
        found = {model.id: model for model in client.models.list()}
        assert list(found) == ["main", "new:default", "new:tutor", "embedder"]
        assert found["main"].model_dump()["context_length"] == 2048
        assert client.models.retrieve("new:tutor").id == "new:tutor"
        with pytest.raises(openai.NotFoundError, match="no process 'nobody'"):
            client.models.retrieve("nobody")

    await with_openai(door, look)


async def test_a_stream_comes_in_pieces_and_its_last_chunk_has_the_usage_and_no_choices(tmp_path: Path) -> None:
    async with served(tmp_path, token_s=0.002) as door:
        await door.machine.requests.spawn(Spec("main"))

        def stream(client: openai.OpenAI) -> tuple[list[Any], list[Any]]:
            options: Any = {"include_usage": True}
            asked: Any = {"model": "main", "messages": [user("tell me of the sea")], "stream": True}
            return list(client.chat.completions.create(**asked, stream_options=options)), list(
                client.chat.completions.create(**{**asked, "messages": [user("and of the sky")]})
            )

        with_usage, without = await with_openai(door, stream)
        pieces = [chunk.choices[0].delta.content or "" for chunk in with_usage[:-1]]
        assert "".join(pieces) == "you said: tell me of the sea"
        assert len([piece for piece in pieces if piece]) > 3
        assert with_usage[-1].choices == []
        assert with_usage[-1].usage.prompt_tokens > 0
        assert with_usage[-2].choices[0].finish_reason == "stop"
        assert all(chunk.usage is None for chunk in [*with_usage[:-1], *without])


async def test_an_edited_past_becomes_a_fork_and_both_pasts_go_on(door: Served) -> None:
    def talk(client: openai.OpenAI) -> None:
        first = [user("one"), assistant(told(client, [user("one")]))]
        second = [*first, user("two")]
        second.append(assistant(told(client, second)))
        edited = [*first, user("two, otherwise")]
        edited.append(assistant(told(client, edited)))
        told(client, [*second, user("three")])
        told(client, [*edited, user("three, otherwise")])

    await with_openai(door, talk)
    assert names(door.machine) == ["main", "main~1"]
    assert heard(door.machine) == ["one", "two", "three"]
    assert heard(door.machine, "main~1") == ["one", "two, otherwise", "three, otherwise"]
    assert seen(door.machine, "main~1")[:2] == ["one", '{"op":"send_message","text":"you said: one"}']
    assert "two" not in seen(door.machine, "main~1")


async def test_a_regenerated_answer_is_a_forks_and_is_what_goes_on_if_it_is_taken(tmp_path: Path) -> None:
    said = iter(range(100))

    def program(job: Job) -> str:
        return f'{{"op":"send_message","text":"answer {next(said)}"}}'

    async with served(tmp_path, program) as door:
        await door.machine.requests.spawn(Spec("main"))

        def talk(client: openai.OpenAI) -> None:
            past = [user("one"), assistant(told(client, [user("one")]))]
            answers = [told(client, [*past, user("two")]) for _ in range(3)]
            assert answers == ["answer 1", "answer 2", "answer 3"]
            told(client, [*past, user("two"), assistant(answers[1]), user("three")])

        await with_openai(door, talk)
        assert heard(door.machine) == ["one", "two"]
        assert heard(door.machine, "main~1") == ["one", "two", "three"]
        assert heard(door.machine, "main~2") == ["one", "two"]


async def test_a_past_that_nobody_knows_is_taken_over_into_a_process_of_its_own(door: Served) -> None:
    def talk(client: openai.OpenAI) -> None:
        messages = [user("my boat is red"), assistant("A fine colour."), user("and my house is blue")]
        messages.append(assistant(told(client, messages)))
        told(client, [*messages, user("goodbye")])
        edited = [user("my boat is red"), assistant("Green would be better."), user("no")]
        told(client, edited)

    await with_openai(door, talk)
    assert names(door.machine) == ["main", "main~1", "main~2"]
    assert heard(door.machine) == []
    assert heard(door.machine, "main~1") == ["my boat is red", "and my house is blue", "goodbye"]
    assert seen(door.machine, "main~1")[:2] == ["my boat is red", "A fine colour."]
    assert seen(door.machine, "main~2")[1] == "Green would be better."


async def test_conversations_that_begin_alike_are_told_to_the_same_process(door: Served) -> None:
    def talk(client: openai.OpenAI) -> None:
        for _ in range(3):
            assert told(client, [user("hello")]) == "you said: hello"
        told(client, [user("hello"), assistant("you said: hello"), user("are you there?")])

    await with_openai(door, talk)
    assert heard(door.machine) == ["hello", "hello", "hello", "are you there?"]
    assert names(door.machine) == ["main"]


TITLES = [
    "### Task:\nGenerate a title.\n### Chat History:\n<chat_history>\nUSER: hi\n</chat_history>",
    "Generate a concise 3-7 word title for this conversation, please",
    "Provide a concise, 5-word title for the conversation: hi",
]


@pytest.mark.parametrize("text", TITLES)
async def test_side_requests_are_answered_from_a_fork_that_is_removed_and_never_memory(door: Served, text: str) -> None:
    def talk(client: openai.OpenAI) -> None:
        first = told(client, [user("hello")])
        assert told(client, [user(text)]).startswith("you said: ")
        assert told(client, [user("hello"), assistant(first), user(text)]).startswith("you said: ")
        assert told(client, [user("any")], extra_headers={"x-llmos-side": "1"}) == "you said: any"
        assert told(client, [user(text)], model="new:tutor").startswith("you said: ")

    await with_openai(door, talk)
    assert names(door.machine) == ["main"]
    assert heard(door.machine) == ["hello"]


async def test_a_crash_leaves_no_fork_of_a_side_request(tmp_path: Path) -> None:
    async with served(tmp_path) as door:
        await door.machine.requests.spawn(Spec("main"))
        await door.machine.requests.fork("main", "~0123456789abcdef")
        await Making(door.machine, Live(Http()), Questions(door.machine, lambda: door.token)).swept()
        assert names(door.machine) == ["main"]


async def test_new_makes_a_process_of_a_persona_for_each_conversation(door: Served) -> None:
    def talk(client: openai.OpenAI) -> None:
        messages: Messages = [{"role": "system", "content": "Be brief."}, user("hello")]
        messages.append(assistant(told(client, messages, "new:tutor")))
        told(client, [*messages, user("my move")], "new:tutor")
        told(client, [user("hello")], "new:tutor")
        with pytest.raises(openai.NotFoundError, match="no persona 'nobody'; there are default, tutor"):
            told(client, [user("hello")], "new:nobody")

    await with_openai(door, talk)
    one, other = (name for name in names(door.machine) if name.startswith("tutor-"))
    found = {tuple(heard(door.machine, one)), tuple(heard(door.machine, other))}
    assert found == {("hello", "my move"), ("hello",)}
    specs = [door.machine.kernel.procs[door.machine.kernel.names[name]].spec for name in (one, other)]
    assert sorted(spec.system for spec in specs) == ["You teach chess.", "You teach chess.\n\nBe brief."]
    assert all(spec.blocks == {"human": "Ana"} for spec in specs)


async def test_a_clients_instructions_are_told_once_to_a_process_that_has_others(door: Served) -> None:
    def talk(client: openai.OpenAI) -> None:
        messages: Messages = [{"role": "system", "content": "Speak French."}, user("hello")]
        messages.append(assistant(told(client, messages)))
        told(client, [*messages, user("again")])

    await with_openai(door, talk)
    assert heard(door.machine) == ["[Instructions of the client: Speak French.]\n\nhello", "again"]


async def test_a_lost_answer_is_given_again_and_said_once(door: Served) -> None:
    def ask(client: openai.OpenAI) -> str:
        return told(client, [user("hello")], extra_headers={"x-stainless-retry-count": "1"})

    answers = [await with_openai(door, ask) for _ in range(3)]
    assert answers == ["you said: hello"] * 3
    assert heard(door.machine) == ["hello"]


async def test_two_that_ask_the_same_at_once_are_one(tmp_path: Path) -> None:
    asked = threading.Event()

    def program(job: Job) -> str:
        assert asked.wait(20)
        return echo(job)

    async with served(tmp_path, program, token_s=0.001) as door:
        await door.machine.requests.spawn(Spec("main"))
        answers: list[str] = []

        async def ask() -> None:
            answers.append(await with_openai(door, lambda client: told(client, [user("hello")])))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
            with trio.fail_after(20):
                while door.machine.feed.subscribers < 3:  # each follows what comes of it
                    await trio.sleep(0.01)
            asked.set()
        assert answers == ["you said: hello"] * 3
        assert heard(door.machine) == ["hello"]


async def test_a_client_that_hangs_up_stops_the_generation(tmp_path: Path) -> None:
    async with served(tmp_path, lambda job: echo(job).replace("you said", "word " * 400), token_s=0.01) as door:
        await door.machine.requests.spawn(Spec("main"))
        proc = door.machine.kernel.procs[1]

        def hang_up(client: openai.OpenAI) -> None:
            asked: Any = {"model": "main", "messages": [user("hello")], "stream": True}
            with client.chat.completions.create(**asked) as stream:
                for chunk in stream:
                    if chunk.choices[0].delta.content:
                        return

        await with_openai(door, hang_up)
        with trio.fail_after(10):
            while proc.in_turn or not proc.accounts.emitted:
                await trio.sleep(0.01)
        assert proc.said == 0
        assert 0 < proc.accounts.emitted < 300


async def test_stop_and_max_tokens_cut_what_the_client_gets_and_the_conversation_goes_on(door: Served) -> None:
    def talk(client: openai.OpenAI) -> None:
        asked: Any = {"model": "main", "messages": [user("red, white, blue")]}
        made = client.chat.completions.create(**asked, stop=[", blue", "never"])
        assert (made.choices[0].message.content, made.choices[0].finish_reason) == ("you said: red, white", "stop")
        messages = [*asked["messages"], assistant("you said: red, white"), user("and more of the colours")]
        made = client.chat.completions.create(model="main", messages=messages, max_completion_tokens=3)
        content = made.choices[0].message.content
        assert content == "you said:"  # three tokens of three bytes
        assert made.choices[0].finish_reason == "length"
        messages += [assistant(content), user("goodbye")]
        pieces = client.chat.completions.create(model="main", messages=messages, stop=" goodbye", stream=True)  # type: ignore[call-overload]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in pieces) == "you said:"

    await with_openai(door, talk)
    assert heard(door.machine) == ["red, white, blue", "and more of the colours", "goodbye"]
    assert names(door.machine) == ["main"]


FUNCTION = {"type": "function", "function": {"name": "f"}}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"functions": [{"name": "f"}]}, "functions: functions of a client's are said as tools"),
    ({"tool_choice": "required"}, "tool_choice: names no function of the tools'; there is none"),
    ({"tools": [FUNCTION], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tools'; there are f"),
    ({"tools": [FUNCTION], "tool_choice": {"function": "f"}}, "tool_choice: must be none, auto, required, or a"),
    ({"response_format": {"type": "json_object"}}, "response_format: nothing holds the scripted CPU"),
    ({"n": 2}, "n: a process says one thing"),
    ({"logprobs": True}, "logprobs: cannot be chosen here"),
    ({"frequency_penalty": 0.5}, "frequency_penalty: cannot be chosen here"),
    ({"extra_body": {"mirostat": 2}}, "mirostat is not known here"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop: must be a text, or at most 4"),
    ({"max_tokens": 0}, "max_tokens: must be a number of tokens"),
    ({"messages": []}, "messages: must be a list of messages"),
    ({"messages": [assistant("hi")]}, "messages: must end with a message of the user's"),
    ({"messages": [{"role": "function", "content": "x", "name": "f"}]}, r"messages\[0\]: must be a message of"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, r"messages\[0\]: a process reads text"),
    ({"messages": [user("  ")]}, "the message is empty"),
    ({"messages": [user("word " * 3_000)]}, r"the message has 5000 tokens; at most \d+ are allowed with window 2048"),
    ({"messages": [user("x" * 300_000)]}, "tokens; at most"),
]


@pytest.mark.parametrize(("more", "why"), REFUSED)
async def test_what_cannot_be_done_is_refused_by_its_name_and_nothing_is_cut_in_silence(
    door: Served, more: dict[str, Any], why: str
) -> None:
    def talk(client: openai.OpenAI) -> None:
        asked: Any = {"model": "main", "messages": [user("hello")], **more}
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError, match=why):
                client.chat.completions.create(**asked, stream=stream)

    await with_openai(door, talk)
    assert heard(door.machine) == []
    assert names(door.machine) == ["main"]


async def test_what_is_refused_leaves_no_process_that_was_made_for_it(door: Served) -> None:
    def talk(client: openai.OpenAI) -> None:
        past = [user("one"), assistant(told(client, [user("one")]))]
        told(client, [*past, user("two")])
        long = user("word " * 3_000)
        asked = [("main", [*past, long]), ("new:tutor", [long]), ("main", [user("a"), assistant("b"), long])]
        for model, messages in asked:
            with pytest.raises(openai.BadRequestError, match="tokens; at most"):
                told(client, messages, model)

    await with_openai(door, talk)
    assert names(door.machine) == ["main"]


async def test_what_changes_no_text_is_accepted(door: Served) -> None:
    def talk(client: openai.OpenAI) -> None:
        more: dict[str, Any] = {
            "user": "ana",
            "metadata": {"a": "b"},
            "store": True,
            "tools": [FUNCTION],
            "tool_choice": "none",
            "n": 1,
            "presence_penalty": 0,
            "response_format": {"type": "text"},
        }
        parts: Any = [{"role": "user", "content": [{"type": "text", "text": "hello"}, {"type": "text", "text": "you"}]}]
        assert told(client, parts, **more) == "you said: hello\nyou"

    await with_openai(door, talk)


async def test_responses_are_stateful_and_an_earlier_one_is_gone_on_from_in_a_fork(door: Served) -> None:
    def talk(client: openai.OpenAI) -> None:
        one = client.responses.create(model="main", input="one")
        assert (one.output_text, one.status) == ("you said: one", "completed")
        assert one.usage is not None
        assert one.usage.input_tokens > 0
        two = client.responses.create(model="main", input="two", previous_response_id=one.id)
        three = client.responses.create(model="main", input="three", previous_response_id=two.id)
        assert three.previous_response_id == two.id
        other = client.responses.create(model="main", input="two, otherwise", previous_response_id=one.id)
        assert other.model == "main~1"
        assert client.responses.retrieve(two.id).output_text == "you said: two"
        sent_again: Any = [user("one"), assistant("you said: one"), user("two"), assistant("you said: two")]
        sent_again += [user("three"), assistant("you said: three"), user("four")]
        client.responses.create(model="main", input=sent_again)
        with pytest.raises(openai.NotFoundError, match="no response 'resp_never'"):
            client.responses.create(model="main", input="x", previous_response_id="resp_never")

    await with_openai(door, talk)
    assert heard(door.machine) == ["one", "two", "three", "four"]
    assert heard(door.machine, "main~1") == ["one", "two, otherwise"]


async def test_responses_over_50_turns_with_the_history_resent_have_one_copy_in_memory(tmp_path: Path) -> None:
    async with served(tmp_path, settings=("window=8192",)) as door:
        await door.machine.requests.spawn(Spec("main"))

        def talk(client: openai.OpenAI) -> None:
            items: Any = []
            for number in range(50):
                items.append(user(f"fact {number}"))
                made = client.responses.create(model="main", input=items)
                items += [item.model_dump() for item in made.output]

        await with_openai(door, talk)
        assert heard(door.machine) == [f"fact {number}" for number in range(50)]
        assert names(door.machine) == ["main"]


async def test_a_response_streams_its_events_in_order(door: Served) -> None:
    def talk(client: openai.OpenAI) -> None:
        with client.responses.stream(model="main", input="tell me") as stream:
            kinds = [event.type for event in stream]
            done = stream.get_final_response()
        assert kinds[:2] == ["response.created", "response.in_progress"]
        assert kinds[-1] == "response.completed"
        assert done.output_text == "you said: tell me"

    await with_openai(door, talk)


async def test_a_conversation_is_a_process(door: Served) -> None:
    def talk(client: openai.OpenAI) -> None:
        made = client.conversations.create(metadata={"persona": "tutor"})
        for text in ("one", "two", "two"):
            assert client.responses.create(model="new:tutor", input=text, conversation=made.id).output_text
        assert client.conversations.retrieve(made.id).id == made.id
        items = client.conversations.items.list(made.id).data
        assert [item.content[0].text for item in items][-1] == "one"  # type: ignore[union-attr]

    await with_openai(door, talk)
    assert [heard(door.machine, name) for name in names(door.machine) if name != "main"] == [["one", "two", "two"]]


async def test_calls_of_a_process_stand_in_a_responses_output(tmp_path: Path) -> None:
    def program(job: Job) -> str:
        if job.instr == 1:
            return '{"op":"remember","text":"Ana likes tea"}'
        return '{"op":"send_message","text":"noted"}'

    async with served(tmp_path, program) as door:
        await door.machine.requests.spawn(Spec("main"))

        def talk(client: openai.OpenAI) -> None:
            made = client.responses.create(model="main", input="I like tea")
            assert made.output_text == "noted"
            call = made.output[1]
            assert call.type == "mcp_call"
            assert (call.name, json.loads(call.arguments)["text"]) == ("remember", "Ana likes tea")
            items: Any = [user("I like tea"), *(item.model_dump() for item in made.output), user("thanks")]
            client.responses.create(model="main", input=items)

        await with_openai(door, talk)
        assert heard(door.machine) == ["I like tea", "thanks"]


async def test_embeddings_are_the_indexs(door: Served) -> None:
    def embed(client: openai.OpenAI) -> None:
        found = client.embeddings.create(model="embedder", input=["a boat", "a ship", "a tax return"])
        boat, ship, tax = (one.embedding for one in found.data)
        assert len(boat) == 256
        near, far = (sum(x * y for x, y in zip(boat, other, strict=True)) for other in (ship, tax))
        assert near > far
        plain = client.embeddings.create(model="embedder", input="a boat", encoding_format="float")
        assert plain.data[0].embedding == pytest.approx(boat)
        assert plain.usage.prompt_tokens > 0
        with pytest.raises(openai.NotFoundError, match="no embedder 'ada'"):
            client.embeddings.create(model="ada", input="x")
        with pytest.raises(openai.BadRequestError, match="this embedder has 256"):
            client.embeddings.create(model="embedder", input="x", dimensions=8)

    await with_openai(door, embed)


async def test_a_dead_process_is_started_again_by_a_message(door: Served) -> None:
    await door.machine.requests.kill("main")
    assert await with_openai(door, lambda client: told(client, [user("hello")])) == "you said: hello"


async def test_replies_are_acknowledged_and_those_of_others_are_left_to_them(door: Served) -> None:
    proc = door.machine.kernel.procs[1]
    await with_openai(door, lambda client: told(client, [user("hello")]))
    with trio.fail_after(5):
        while proc.acked < proc.said:
            await trio.sleep(0.01)
    await door.machine.requests.message("main", "of-a-chat", "from a terminal")
    await with_openai(door, lambda client: told(client, [user("bye")]))
    await trio.sleep(0.05)
    assert (proc.acked, proc.said) == (1, 3)


async def test_a_kernel_that_stops_says_so_to_those_who_wait_and_gives_the_answer_when_it_is_up(tmp_path: Path) -> None:
    disk, slow, failures = MemoryDisk(), lambda job: echo(job).replace("you said", "word " * 200), []

    def ask(client: openai.OpenAI, *, stream: bool) -> None:
        asked: Any = {"model": ("main", "other")[stream], "messages": [user(f"stream {stream}")], "stream": stream}
        try:
            found = client.chat.completions.create(**asked)
            pieces = list(found) if stream else []
            failures.append((stream, pieces))
        except openai.APIError as exc:
            failures.append((stream, getattr(exc, "status_code", None), str(exc)))

    async with served(tmp_path, slow, disk=disk, token_s=0.01, slots=2) as door:
        await door.machine.requests.spawn(Spec("main"))
        await door.machine.requests.spawn(Spec("other"))
        async with trio.open_nursery() as nursery:
            for stream in (False, True):
                nursery.start_soon(with_openai, door, partial(ask, stream=stream))
            with trio.fail_after(10):
                while sum(proc.accounts.turns for proc in door.machine.kernel.procs.values()) < 2:
                    await trio.sleep(0.01)
            await trio.sleep(0.3)
            door.machine.stop()
    assert len(failures) == 2
    assert all("the kernel is stopping" in str(failure) for failure in failures), failures
    async with served(tmp_path, echo, disk=disk) as door:
        assert "stream False" in await with_openai(door, lambda client: told(client, [user("stream False")]))
        assert (heard(door.machine), heard(door.machine, "other")) == (["stream False"], ["stream True"])


async def test_a_kernel_that_stops_says_so_to_those_whose_turn_had_not_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[str] = []
    came: list[str] = []
    talk = Asking.talk

    def noted(asking: Asking, wanted: Wanted) -> AbstractAsyncContextManager[Talk]:
        came.append(wanted.text)
        return talk(asking, wanted)

    monkeypatch.setattr(Asking, "talk", noted)
    async with served(tmp_path, lambda job: echo(job).replace("you said", "word " * 200), token_s=0.01) as door:
        await door.machine.requests.spawn(Spec("main"))

        async def ask(number: int) -> None:
            with pytest.raises(openai.APIStatusError) as failed:
                await with_openai(door, lambda client: told(client, [user(f"message {number}")]))
            failures.append(str(failed.value))

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(ask, number)
            with trio.fail_after(20):
                while not (door.machine.kernel.procs[1].accounts.turns and len(came) == 3):
                    await trio.sleep(0.01)
            assert len(heard(door.machine)) == 1  # the others are told that theirs did not come
            door.machine.stop()
    assert len(failures) == 3
    assert all("the kernel is stopping" in failure for failure in failures), failures


def test_a_past_is_a_digest_of_what_the_client_says() -> None:
    start = past.beginning("main")
    assert past.after(start, "a", "b") == past.after(start, " a\n", "b ") != past.after(start, "a", "c")
    mid = past.message_id(start, "a", 3)
    assert (past.past_of(mid), past.following(mid, "b")) == (start, past.after(start, "a", "b"))
    assert len(mid) <= 64
    assert past.beginning("main", "x") != start != past.beginning("other")


async def test_thirty_that_hang_up_at_any_time_leave_a_door_that_serves(tmp_path: Path) -> None:
    async with served(tmp_path, token_s=0.001, slots=2) as door:
        for name in ("main", "other"):
            await door.machine.requests.spawn(Spec(name))

        async def ask(number: int) -> None:
            body = {"model": ("main", "other")[number % 2], "messages": [user(f"message {number}")], "stream": True}
            async with door.client() as client:
                with trio.move_on_after(number % 10 * 0.01):
                    await client.post("/v1/chat/completions", json=body)

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(ask, number)
        assert await with_openai(door, lambda client: told(client, [user("hello")])) == "you said: hello"


async def test_a_chat_of_open_webuis_is_remembered_once_and_its_side_requests_never(door: Served) -> None:
    asked = json.loads((Path(__file__).parents[1] / "fixtures" / "openwebui.json").read_text())
    answer = ""
    async with door.client(**asked["headers"]) as client:
        for one in asked["requests"]:
            if "get" in one:
                assert "main" in [model["id"] for model in (await client.get(one["get"])).json()["data"]]
                continue
            body = json.dumps(one["body"]).replace("{answer}", answer).replace("{said}", "Where is the boat?")
            found = await client.post("/v1/chat/completions", content=body)
            assert found.status_code == 200, (one["what"], found.text)
            if not one["body"]["stream"]:
                assert found.json()["choices"][0]["message"]["content"], one["what"]
                continue
            lines = [line.removeprefix("data: ") for line in found.text.splitlines() if line.startswith("data: ")]
            assert lines[-1] == "[DONE]"
            chunks = [json.loads(line) for line in lines[:-1]]
            assert (chunks[-1]["choices"], chunks[-1]["usage"]["completion_tokens"] > 0) == ([], True)
            answer = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks[:-1])
    assert heard(door.machine) == ["Where is the boat?", "And whose is it?"]
    assert answer == "you said: And whose is it?"
    assert names(door.machine) == ["main"]
