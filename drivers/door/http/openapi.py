"""The OpenAPI document of the native API: made of the structs that the routes read and give, so it cannot lag behind.

Not here: the routes (native.py); OpenAI's protocol, which others have described.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import msgspec

from drivers.door import wire
from drivers.door.http.native import CHANGES, Follow, Incoming
from drivers.door.wire import READS, op

REFUSED: Final = {
    400: "It cannot be: `error.message` says why.",
    401: "No token, or another one.",
    403: "Asked by a page of another origin.",
    404: "What is named is not there.",
    405: "Not with this method.",
    408: "The body did not come in time.",
    409: "What is to be made is there already.",
    413: "The body is too long.",
    421: "Asked by a name that is not this machine's.",
    429: "A queue is full: ask again after Retry-After.",
    431: "The head is too long.",
    500: "The kernel's own mistake; its log has the request's id.",
    503: "The kernel is stopping, or a device failed.",
}
REF: Final = "#/components/schemas/{name}"


class Told(msgspec.Struct, frozen=True):
    """What went wrong."""

    message: str
    type: str
    request_id: str
    code: str | None = None
    param: str | None = None


class Error(msgspec.Struct, frozen=True):
    """The body of every refusal."""

    error: Told


def document() -> dict[str, Any]:
    """The document, OpenAPI 3.1."""
    kinds: list[Any] = [*READS, *CHANGES, *READS.values(), wire.Ok, Error, Follow, Incoming]
    kinds += [wire.Logged, wire.Said, wire.Token, wire.Ended]
    _, schemas = msgspec.json.schema_components(kinds, ref_template=REF)
    paths: dict[str, Any] = {}
    for kind in READS:
        paths[f"/api/{op(kind)}"] = {"get": _route(kind, READS[kind], _query(schemas[kind.__name__]))}
    for kind in CHANGES:
        paths[f"/api/{op(kind)}"] = {"post": _route(kind, wire.Ok, **_body(kind, schemas))}
    paths["/api/events"] = {"get": _events(schemas)}
    for kind in (*READS, *CHANGES):
        if kind.__name__ != "Import":
            _without(schemas[kind.__name__])
    return {
        "openapi": "3.1.0",
        "info": {"title": "llmos", "version": _version(), "description": "The native API of an llmos machine."},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {str(status): _refused(says) for status, says in REFUSED.items()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _route(kind: Any, answer: Any, parameters: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    says = " ".join((kind.__doc__ or "").split())
    return {
        "operationId": op(kind),
        "summary": says,
        **({"parameters": parameters} if parameters else {}),
        **more,
        "responses": {
            "200": {"description": "Done.", "content": {"application/json": {"schema": _ref(answer.__name__)}}},
            **_refusals(),
        },
    }


def _events(schemas: dict[str, Any]) -> dict[str, Any]:
    header = {"name": "Last-Event-ID", "in": "header", "schema": {"type": "integer", "minimum": 0}}
    says = (
        "What happens, as server-sent events: `ok`, then `logged`, `said`, `token`, and `ended` when there will be no "
        "more. The id of an event is a log number; after it the next subscription goes on, and says again what nobody "
        "has acknowledged."
    )
    pushes = [_ref(kind.__name__) for kind in (wire.Ok, wire.Logged, wire.Said, wire.Token, wire.Ended)]
    return {
        "operationId": "events",
        "summary": says,
        "parameters": [*_query(schemas["Follow"]), header],
        "responses": {
            "200": {"description": "Events.", "content": {"text/event-stream": {"schema": {"anyOf": pushes}}}},
            **_refusals(),
        },
    }


def _body(kind: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    if kind is wire.Import:
        content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        return {
            "parameters": _query(schemas["Incoming"]),
            "requestBody": {"description": "A file of `llmos export`.", "required": True, "content": content},
        }
    schema = {"application/json": {"schema": _ref(kind.__name__)}}
    return {"requestBody": {"required": bool(set(schemas[kind.__name__]["required"]) - _OWN), "content": schema}}


def _query(schema: dict[str, Any]) -> list[dict[str, Any]]:
    wanted = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in wanted, "schema": one}
        for name, one in schema["properties"].items()
        if name not in _OWN
    ]


_OWN: Final = {"op", "id"}  # fields that the route has


def _without(schema: dict[str, Any]) -> None:
    """A request's schema as a body has it."""
    for name in _OWN:
        schema["properties"].pop(name, None)
    schema["required"] = [name for name in schema["required"] if name not in _OWN]


def _refusals() -> dict[str, Any]:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in REFUSED}


def _refused(says: str) -> dict[str, Any]:
    return {"description": says, "content": {"application/json": {"schema": _ref("Error")}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": REF.format(name=name)}


def _version() -> str:
    try:
        return version("llmos")
    except PackageNotFoundError:
        return "0"
