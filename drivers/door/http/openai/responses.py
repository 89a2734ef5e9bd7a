"""/v1/responses and /v1/conversations: a conversation is a process, and its memory is what came before.

A response's id is that of the message which it answers, so `previous_response_id` finds it on the disk, after whatever
restart; one that was gone on from already is gone on from in a fork. A conversation is a process by number. What a
process called itself stands among the output as items that are done (`mcp_call` of the server `llmos`).
Not here: what a request says (shapes.py), what becomes of it (asking.py).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from drivers.door.http import errors
from drivers.door.http.errors import Refusal
from drivers.door.http.events import Stream, Writer, while_there
from drivers.door.http.native import fields
from drivers.door.http.openai import shapes
from drivers.door.http.openai.asking import Asking
from drivers.door.http.openai.chat import followed
from drivers.door.http.openai.deltas import Delta, Deltas
from drivers.door.http.openai.past import said
from drivers.door.http.openai.shapes import NEW, Wanted
from drivers.door.http.openai.talking import Answered, Talk, Usage
from drivers.door.http.openai.tools import Call, call_id
from kernel.machine import views
from kernel.machine.replies import Standing
from kernel.memory.page import OWN
from kernel.process import Process

ITEMS: Final = 100  # of a conversation's, in one list


class Responses:
    """The routes."""

    def __init__(self, asking: Asking) -> None:
        self._asking, self._machine = asking, asking.machine

    async def create(self, request: Request) -> Response:
        """Answer a message."""
        body = fields(await errors.read(request))
        wanted = shapes.response(body, request.headers)
        if wanted.stream:
            return Stream(lambda writer: self._stream(request, body, wanted, writer))
        return await while_there(request, self._whole(body, wanted))

    async def get(self, request: Request) -> Response:
        """A response that was given, as the disk has it."""
        known = await self._asking.placing.previous(request.path_params["id"])
        sent, reply = await self._asking.placing.past.looked(known)
        status = {Standing.OPEN: "in_progress", Standing.DIED: "failed"}.get(reply.standing, "completed")
        text = said(reply)
        output = [_message(f"msg_{known.mid}", text, "completed")] if text else []
        cost = Usage(0, 0, 0)
        proc = self._machine.kernel.procs[sent.pid]
        return errors.json(_response(f"resp_{known.mid}", {"model": proc.name}, proc, status, output, cost))

    async def begin(self, request: Request) -> Response:
        """Make a conversation: a process of the persona that `metadata.persona` names."""
        body = fields(await errors.read(request))
        wrong = body.keys() - {"metadata", "items"}
        if wrong or body.get("items"):
            raise Refusal(400, f"{sorted(wrong or {'items'})[0][:80]} cannot be given here", code="unknown_parameter")
        metadata = body.get("metadata") or {}
        persona = str(metadata.get("persona", "default")) if isinstance(metadata, dict) else "default"
        pid = await self._asking.making.begun(persona)
        return errors.json(_conversation(self._machine.kernel.procs[pid]))

    async def conversation(self, request: Request) -> Response:
        """A conversation."""
        return errors.json(_conversation(self._named(request)))

    async def items(self, request: Request) -> Response:
        """The last messages of a conversation, newest first."""
        proc = self._named(request)
        pages = await self._machine.readers(views.history, self._machine.disk, proc.pid, ITEMS)
        found = [
            _message(f"msg_{page.id}", page.searched, "completed")
            if page.origin in OWN
            else {
                "id": f"msg_{page.id}",
                "type": "message",
                "role": "user",
                "status": "completed",
                "content": [{"type": "input_text", "text": page.searched}],
            }
            for page in reversed(pages)
        ]
        first, last = (found[0]["id"], found[-1]["id"]) if found else (None, None)
        return errors.json({"object": "list", "data": found, "first_id": first, "last_id": last, "has_more": False})

    def _named(self, request: Request) -> Process:
        return self._asking.making.process(str(request.path_params["id"]).removeprefix("conv_"))

    async def _whole(self, body: Mapping[str, Any], wanted: Wanted) -> Response:
        async with self._asking.talk(wanted) as talk:
            found = await talk.follow()
            done = await self._done(body, talk, found)
            return self._asking.answered(talk, errors.json(done))

    async def _stream(self, request: Request, body: Mapping[str, Any], wanted: Wanted, writer: Writer) -> None:
        number = 0

        async def event(kind: str, **more: Any) -> None:
            nonlocal number
            await writer.event({"type": kind, "sequence_number": number, **more}, name=kind)
            number += 1

        async with self._asking.talk(wanted) as talk:
            proc = self._machine.kernel.procs[talk.place.pid]
            begun = _response(f"resp_{talk.place.mid}", body, proc, "in_progress", [], None)
            await event("response.created", response=begun)
            await event("response.in_progress", response=begun)
            item = _Growing(event, f"msg_{talk.place.mid}", f"fc_{talk.place.mid}", talk.place.mid)
            deltas = Deltas(calls=bool(wanted.tools), held=talk.held)

            async def tell(piece: str) -> None:
                await item.told(deltas.feed(piece))

            found = await followed(request, writer, talk, tell)
            if found is None:
                return
            await item.told(deltas.end(found))
            done = await self._done(body, talk, found)
            await item.done(found, done["output"][0])
            for at, one in enumerate(done["output"][1:], 1):
                await event("response.output_item.added", output_index=at, item=one)
                await event("response.output_item.done", output_index=at, item=one)
            await event(f"response.{done['status']}", response=done)
            await self._asking.delivered(talk)

    async def _done(self, body: Mapping[str, Any], talk: Talk, found: Answered) -> dict[str, Any]:
        status = "incomplete" if found.length else "completed"
        proc = self._machine.kernel.procs[talk.place.pid]
        said = _message(f"msg_{talk.place.mid}", found.text, status)
        if found.call is not None:
            said = _called(f"fc_{talk.place.mid}", found.call, "completed")
        output = [said, *await self._calls(talk)]
        return _response(f"resp_{talk.place.mid}", body, proc, status, output, found.usage)

    async def _calls(self, talk: Talk) -> list[dict[str, Any]]:
        """What the process called in the turn, with what came of it."""
        return [
            {
                "id": f"mcp_{call.page}",
                "type": "mcp_call",
                "server_label": "llmos",
                "name": name,
                "arguments": call.text,
                "output": call.result,
                "error": None,
                "status": "completed",
            }
            for call, name in await talk.calls()
        ]


class _Growing:
    """The first item of a stream's output, as it grows: a message, or the call of a tool of the client's."""

    def __init__(self, event: Callable[..., Awaitable[None]], message: str, call: str, mid: str) -> None:
        self._event, self._ids, self._mid = event, (message, call), mid
        self._begun: str | None = None  # the id of which item it is

    async def told(self, deltas: list[Delta]) -> None:
        """Tell of what was added."""
        for one in deltas:
            if one.name:
                self._begun = self._ids[1]
                begun = _called(self._begun, Call(one.name, "", call_id(one.name, self._mid)), "in_progress")
                await self._event("response.output_item.added", output_index=0, item=begun)
            elif one.arguments:
                await self._event(
                    "response.function_call_arguments.delta",
                    item_id=self._begun,
                    output_index=0,
                    delta=one.arguments,
                )
            else:
                await self._as_message()
                place = {"item_id": self._begun, "output_index": 0, "content_index": 0}
                await self._event("response.output_text.delta", **place, delta=one.text, logprobs=[])

    async def done(self, found: Answered, item: dict[str, Any]) -> None:
        """Tell that it is whole."""
        if found.call is None:
            await self._as_message()
            place = {"item_id": self._begun, "output_index": 0, "content_index": 0}
            await self._event("response.output_text.done", **place, text=found.text, logprobs=[])
            await self._event("response.content_part.done", **place, part=_text(found.text))
        else:
            place = {"item_id": self._begun, "output_index": 0}
            arguments = {"name": found.call.name, "arguments": found.call.arguments}
            await self._event("response.function_call_arguments.done", **place, **arguments)
        await self._event("response.output_item.done", output_index=0, item=item)

    async def _as_message(self) -> None:
        if self._begun is not None:
            return
        self._begun = self._ids[0]
        place = {"item_id": self._begun, "output_index": 0, "content_index": 0}
        begun = _message(self._begun, None, "in_progress")
        await self._event("response.output_item.added", output_index=0, item=begun)
        await self._event("response.content_part.added", **place, part=_text(""))


def _response(
    ident: str, body: Mapping[str, Any], proc: Process, status: str, output: list[Any], cost: Usage | None
) -> dict[str, Any]:
    model = str(body.get("model") or proc.name)
    return {
        "id": ident,
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": body.get("instructions"),
        "model": model if model.startswith(NEW) else proc.name,
        "output": output,
        "conversation": {"id": f"conv_{proc.pid}"},
        "previous_response_id": body.get("previous_response_id"),
        "max_output_tokens": body.get("max_output_tokens"),
        "metadata": body.get("metadata") or {},
        "parallel_tool_calls": True,
        "temperature": body.get("temperature"),
        "top_p": body.get("top_p"),
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": body.get("tools") or [],
        "text": body.get("text") or {"format": {"type": "text"}},
        "truncation": "disabled",
        "store": body.get("store") is not False,
        "usage": None if cost is None else _usage(cost),
    }


def _usage(found: Usage) -> dict[str, Any]:
    return {
        "input_tokens": found.prompt,
        "input_tokens_details": {"cached_tokens": found.cached, "cache_write_tokens": 0},
        "output_tokens": found.emitted,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": found.prompt + found.emitted,
    }


def _message(ident: str, text: str | None, status: str) -> dict[str, Any]:
    content = [] if text is None else [_text(text)]
    return {"id": ident, "type": "message", "role": "assistant", "status": status, "content": content}


def _called(ident: str, call: Call, status: str) -> dict[str, Any]:
    own = {"call_id": call.id, "name": call.name, "arguments": call.arguments}
    return {"id": ident, "type": "function_call", "status": status, **own}


def _text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _conversation(proc: Process) -> dict[str, Any]:
    return {"id": f"conv_{proc.pid}", "object": "conversation", "created_at": 0, "metadata": {"process": proc.name}}
