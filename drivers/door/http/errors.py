"""What a client over HTTP is told when it is refused: a status, and a body in the form that OpenAI's clients read.

    {"error": {"message": ..., "type": ..., "code": ..., "param": ..., "request_id": ...}}

Guarantee: whatever the kernel refuses has one status, by the error's class, and every body names its request.
Not here: what is refused (the kernel, access.py, and the routes).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from drivers.door import wire
from drivers.door.http import server
from kernel.errors import BadInput, Busy, DeviceError, Exists, InUse, KernelError, Stopped, Unknown, in_one_line

TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    421: "permission_error",
    429: "rate_limit_error",
}
"""What OpenAI's clients call a refusal of a status; others below 500 are requests that cannot be, above it is ours."""
STATUSES: Final[tuple[tuple[type[KernelError], int], ...]] = (
    (Busy, 429),
    (Stopped, 503),
    (Unknown, 404),
    (Exists, 409),
    (InUse, 409),
    (BadInput, 400),
    (DeviceError, 503),
)
STOPPED_S: Final = 1  # a kernel that stops is asked again after so long: another may be up by then


class Refusal(Exception):
    """A request is refused with a status; `code` is for programs, `param` the field that is wrong."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None, after_s: float = 0.0
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.after_s = status, message, code, param, after_s


def refusal(exc: Exception) -> Refusal:
    """What an error is to a client. An error that nobody foresaw is none of these: it is raised again."""
    match exc:
        case Refusal():
            return exc
        case server.TooMuch():
            return Refusal(413, f"the body is longer than {exc.most} bytes", code="too_large")
        case server.TooSlow():
            return Refusal(408, str(exc), code="too_slow")
        case server.Malformed():
            return Refusal(400, str(exc), code="malformed")
        case KernelError():
            status = next((status for kind, status in STATUSES if isinstance(exc, kind)), 500)
            code = next((code for code, kind in wire.CODES.items() if isinstance(exc, kind)), None)
            after_s = exc.retry_after_s if isinstance(exc, Busy) else STOPPED_S if status == 503 else 0.0
            return Refusal(status, in_one_line(exc), code=code, after_s=after_s)
        case _:
            raise exc


def body(status: int, message: str, ident: str, *, code: str | None = None, param: str | None = None) -> bytes:
    """The body of a refusal."""
    return msgspec.json.encode({"error": told(status, message, ident, code=code, param=param)})


def told(
    status: int, message: str, ident: str, *, code: str | None = None, param: str | None = None
) -> dict[str, str | None]:
    """What stands in it."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"message": message, "type": kind, "code": code, "param": param, "request_id": ident}


def answer(found: Refusal, ident: str, headers: Mapping[str, str] | None = None) -> Response:
    """A refusal as a response."""
    raw = body(found.status, found.message, ident, code=found.code, param=found.param)
    more = {"retry-after": str(max(1, round(found.after_s)))} if found.after_s else {}
    return Response(raw, found.status, {**more, **(headers or {})}, "application/json")


def before(status: int, why: str, ident: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The answer to what never became a request; see server.Refuse."""
    return [(b"content-type", b"application/json")], body(status, why, ident, code="malformed")


async def read(request: Request) -> bytes:
    """A request's whole body. Raises Refusal if it does not come in time and in bounds, Gone if its client hangs up."""
    try:
        return await request.body()
    except ClientDisconnect as exc:
        raise server.Gone("the client hung up") from exc
    except (server.TooMuch, server.TooSlow, server.Malformed) as exc:
        raise refusal(exc) from exc


def ident(request: Request) -> str:
    """The name of a request."""
    return str(request.state.id)


def json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON, of structs or builtins."""
    return Response(msgspec.json.encode(value), status, headers, "application/json")
