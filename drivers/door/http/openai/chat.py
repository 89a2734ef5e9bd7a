"""/v1/chat/completions: a message, and what the process answers, whole or as chunks.

Not here: what a request says (shapes.py), what becomes of it (asking.py).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import trio
from starlette.requests import Request
from starlette.responses import Response

from drivers.door.http import errors
from drivers.door.http.events import GOODBYE_S, Stream, Writer, while_there
from drivers.door.http.native import fields
from drivers.door.http.openai import shapes
from drivers.door.http.openai.asking import Asking
from drivers.door.http.openai.deltas import Delta, Deltas
from drivers.door.http.openai.shapes import Wanted
from drivers.door.http.openai.talking import Answered, Talk, Tell, Usage
from drivers.door.http.openai.tools import Call, call_id
from drivers.door.http.server import Gone
from kernel.errors import KernelError, Stopped


class Chat:
    """The route."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    async def create(self, request: Request) -> Response:
        """Answer a request."""
        body = fields(await errors.read(request))
        wanted = shapes.chat(body, request.headers)
        if wanted.stream:
            return Stream(lambda writer: self._stream(request, wanted, writer))
        return await while_there(request, self._whole(request, wanted))

    async def _whole(self, request: Request, wanted: Wanted) -> Response:
        async with self._asking.talk(wanted) as talk:
            found = await talk.follow()
            message: dict[str, Any] = {"role": "assistant", "content": found.text, "refusal": None}
            if found.call is not None:
                message |= {"content": None, "tool_calls": [_called(found.call)]}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(found)}
            head = _head(request, "chat.completion", wanted)
            made = errors.json({**head, "choices": [choice], "usage": usage(found.usage)}, headers=told(talk.name))
            return self._asking.answered(talk, made)

    async def _stream(self, request: Request, wanted: Wanted, writer: Writer) -> None:
        head = _head(request, "chat.completion.chunk", wanted)
        last = {"usage": None} if wanted.usage else {}

        async def chunk(delta: dict[str, Any], reason: str | None = None) -> None:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
            await writer.event({**head, "choices": [choice], **last})

        async def grown(deltas: list[Delta], mid: str) -> None:
            for one in deltas:
                call = {"index": 0, "function": {"arguments": one.arguments}}
                if one.name:
                    call = {"index": 0, **_called(Call(one.name, "", call_id(one.name, mid)))}
                await chunk({"content": one.text} if one.text else {"tool_calls": [call]})

        async def think(piece: str) -> None:
            await chunk({"reasoning_content": piece})

        async with self._asking.talk(wanted) as talk:
            deltas = Deltas(calls=bool(wanted.tools), held=talk.held)

            async def tell(piece: str) -> None:
                await grown(deltas.feed(piece), talk.place.mid)

            writer.headers.update(told(talk.name))
            await chunk({"role": "assistant", "content": None if wanted.tools else ""})
            found = await followed(request, writer, talk, tell, think)
            if found is None:
                return
            await grown(deltas.end(found), talk.place.mid)
            await chunk({}, _reason(found))
            if wanted.usage:
                await writer.event({**head, "choices": [], "usage": usage(found.usage)})
            await writer.event("[DONE]")
            await self._asking.delivered(talk)


async def followed(
    request: Request,
    writer: Writer,
    talk: Talk,
    tell: Tell,
    think: Tell | None = None,
    *,
    name: str = "",
    also: Mapping[str, str] = {},
) -> Answered | None:
    """A whole answer, told piece by piece; None where the stream was told that there will be none.

    By an event called `name`, which says `also` that.
    """

    async def failed(exc: Exception) -> None:
        """Say in a stream that it ends before its end; clients take it for an error."""
        why = errors.refusal(exc)
        error = errors.told(why.status, why.message, errors.ident(request), code=why.code, param=why.param)
        await writer.event({**also, "error": error}, name=name)

    try:
        return await talk.follow(tell, think)
    except (errors.Refusal, KernelError) as exc:
        await failed(exc)
    except trio.Cancelled:
        if talk.stopping:  # the server is cancelled when the machine has come to rest
            with trio.move_on_after(GOODBYE_S, shield=True), suppress(Gone):
                await failed(Stopped("the kernel is stopping; ask again when it is up"))
        raise
    return None


def usage(found: Usage) -> dict[str, Any]:
    """What an answer cost, as chat completions say it."""
    return {
        "prompt_tokens": found.prompt,
        "completion_tokens": found.emitted,
        "total_tokens": found.prompt + found.emitted,
        "prompt_tokens_details": {"cached_tokens": found.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _head(request: Request, kind: str, wanted: Wanted) -> dict[str, Any]:
    ident = f"chatcmpl-{errors.ident(request).removeprefix('req_')}"
    return {"id": ident, "object": kind, "created": int(time.time()), "model": wanted.model}


def told(process: str) -> dict[str, str]:
    """Which process answered: another one than was named, where the past was edited."""
    return {"x-llmos-process": process.encode("ascii", "backslashreplace").decode()}


def _called(call: Call) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _reason(found: Answered) -> str:
    return "length" if found.length else "stop" if found.call is None else "tool_calls"
