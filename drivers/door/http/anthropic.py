"""Anthropic's /v1/messages, over the same memory as OpenAI's protocol: a request is read as one of those.

So what is true there is true here: only what is new of a history is delivered, a client's tools are called by what a
process says, and what cannot be done is refused by its name. Content is text, calls of tools, and their results.
Errors have OpenAI's form, within which both clients find type and message.
Not here: what becomes of a message (openai/asking.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from drivers.door.http import errors
from drivers.door.http.errors import Refusal
from drivers.door.http.events import Stream, Writer, while_there
from drivers.door.http.native import fields
from drivers.door.http.openai import shapes
from drivers.door.http.openai.asking import Asking
from drivers.door.http.openai.chat import followed, told
from drivers.door.http.openai.deltas import Delta, Deltas
from drivers.door.http.openai.shapes import Wanted
from drivers.door.http.openai.talking import Answered, Usage
from drivers.door.http.openai.tools import call_id

SAME: Final = {
    "model": "model",
    "stream": "stream",
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_completion_tokens",
    "stop_sequences": "stop",
}
"""Parameters that are OpenAI's under another name, or the same."""
READ: Final = frozenset((*SAME, "messages", "system", "tools", "tool_choice", "metadata", "service_tier"))
CHOICES: Final = {"auto": "auto", "any": "required", "none": "none"}
ERROR: Final = {"type": "error"}


class Messages:
    """The route."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    async def create(self, request: Request) -> Response:
        """Answer a request."""
        wanted = shapes.chat(as_chat(fields(await errors.read(request))), request.headers)
        if wanted.stream:
            return Stream(lambda writer: self._stream(request, wanted, writer))
        return await while_there(request, self._whole(request, wanted))

    async def _whole(self, request: Request, wanted: Wanted) -> Response:
        async with self._asking.talk(wanted) as talk:
            found = await talk.follow()
            content = [{"type": "text", "text": found.text}] if found.text else []
            if found.call is not None:
                call = found.call
                content = [_call(call.id, call.name, msgspec.json.decode(call.arguments))]
            made = {**_message(request, wanted, content), **_ended(found), "usage": _usage(found.usage)}
            return self._asking.answered(talk, errors.json(made, headers=told(talk.name)))

    async def _stream(self, request: Request, wanted: Wanted, writer: Writer) -> None:
        async def event(kind: str, **more: Any) -> None:
            await writer.event({"type": kind, **more}, name=kind)

        async with self._asking.talk(wanted) as talk:
            deltas, begun = Deltas(calls=bool(wanted.tools), held=talk.held), False

            async def grown(found: list[Delta]) -> None:
                nonlocal begun
                for one in found:
                    if not begun:
                        begun = True
                        block = {"type": "text", "text": ""}
                        if one.name:
                            block = _call(call_id(one.name, talk.place.mid), one.name, {})
                        await event("content_block_start", index=0, content_block=block)
                    if one.text or one.arguments:
                        text = {"type": "text_delta", "text": one.text}
                        delta = text if one.text else {"type": "input_json_delta", "partial_json": one.arguments}
                        await event("content_block_delta", index=0, delta=delta)

            async def tell(piece: str) -> None:
                await grown(deltas.feed(piece))

            writer.headers.update(told(talk.name))
            head = {**_message(request, wanted, []), "stop_reason": None, "stop_sequence": None}
            await event("message_start", message={**head, "usage": _usage(Usage(0, 0, 0))})
            found = await followed(request, writer, talk, tell, name="error", also=ERROR)
            if found is None:
                return
            await grown(deltas.end(found))
            if begun:
                await event("content_block_stop", index=0)
            await event("message_delta", delta=_ended(found), usage=_usage(found.usage))
            await event("message_stop")
            await self._asking.delivered(talk)


def as_chat(body: Mapping[str, Any]) -> dict[str, Any]:
    """A request as OpenAI's chat completions have it. Raises Refusal for what has no such form."""
    for name, value in body.items():
        if name not in READ and value is not None and (name, value) != ("thinking", {"type": "disabled"}):
            raise Refusal(400, f"{name[:80]} is not known here", code="unknown_parameter", param=name[:80])
    if body.get("max_tokens") is None:
        raise _wrong("max_tokens", "must be a number of tokens, 1 at least")
    found: dict[str, Any] = {ours: body[theirs] for theirs, ours in SAME.items() if theirs in body}
    given, messages = body.get("messages"), list[dict[str, Any]]()
    if body.get("system"):
        messages.append({"role": "system", "content": body["system"]})
    for at, one in enumerate(given if isinstance(given, list) else []):
        if not isinstance(one, dict) or one.get("role") not in ("user", "assistant"):
            raise _wrong(f"messages[{at}]", "must be a message of user or assistant")
        messages += _said(one["role"], one.get("content"), f"messages[{at}]")
    tools = body.get("tools") or []
    if not isinstance(tools, list):
        raise _wrong("tools", "must be a list")
    return {**found, "messages": messages, "tools": [_tool(one) for one in tools], **_choice(body.get("tool_choice"))}


def _said(role: str, content: Any, where: str) -> list[dict[str, Any]]:
    """A message, with the calls in it, or behind the results in it."""
    if not isinstance(content, list):
        return [{"role": role, "content": content}]
    calls: list[dict[str, Any]] = []
    before: list[dict[str, Any]] = []
    rest: list[Any] = []
    for part in content:
        match part:
            case {"type": "tool_use", "id": ident, "name": name, "input": given} if role == "assistant":
                arguments = msgspec.json.encode(given).decode()
                calls.append({"id": ident, "function": {"name": name, "arguments": arguments}})
            case {"type": "tool_result", "tool_use_id": ident} if role == "user":
                text = part.get("content") or ""
                before.append({"role": "tool", "tool_call_id": ident, "content": text})
            case _:
                rest.append(part)
    said = {"role": role, "content": rest, **({"tool_calls": calls} if calls else {})}
    if not content:
        raise _wrong(where, "is empty")
    return [*before, *([said] if rest or calls else [])]


def _tool(given: Any) -> Any:
    """A tool; one that is none of a client's own stays what it is, and is refused by its type."""
    if not isinstance(given, dict) or given.get("type", "custom") != "custom":
        return given
    own = {"name": given.get("name"), "description": given.get("description"), "parameters": given.get("input_schema")}
    return {"type": "function", "function": own}


def _choice(given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    kind = given.get("type") if isinstance(given, dict) else None
    if kind == "tool":
        return {"tool_choice": {"type": "function", "function": {"name": given.get("name")}}}
    if not isinstance(kind, str) or kind not in CHOICES:
        raise _wrong("tool_choice", "must be of type auto, any, tool or none")
    return {"tool_choice": CHOICES[kind]}


def _message(request: Request, wanted: Wanted, content: list[Any]) -> dict[str, Any]:
    ident = f"msg_{errors.ident(request).removeprefix('req_')}"
    return {"id": ident, "type": "message", "role": "assistant", "model": wanted.model, "content": content}


def _call(ident: str, name: str, given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": ident, "name": name, "input": given}


def _ended(found: Answered) -> dict[str, str | None]:
    reason = (
        "max_tokens" if found.length else "tool_use" if found.call else "stop_sequence" if found.stop else "end_turn"
    )
    return {"stop_reason": reason, "stop_sequence": found.stop or None}


def _usage(found: Usage) -> dict[str, int]:
    """What an answer cost; what was not evaluated is told apart."""
    return {
        "input_tokens": found.prompt - found.cached,
        "cache_read_input_tokens": found.cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": found.emitted,
    }


def _wrong(name: str, why: str) -> Refusal:
    return Refusal(400, f"{name}: {why}", code="invalid_value", param=name)
