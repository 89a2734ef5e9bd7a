"""The native API: everything that the control socket does, at /api/OP, and what happens at /api/events.

A request of drivers/door/wire.py is a route: what only reads is GET, its fields the query's; what changes something is
POST, its fields a JSON object. The answer is the socket's, without a number of its own. Guarantee: no request of the
socket's is without a route (ROUTES), so both doors say the same.
Not here: what a request does (drivers/door/desk.py), the document that describes it all (openapi.py).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import trio
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from drivers.door import desk, wire
from drivers.door.arriving import Arriving, Dock
from drivers.door.http import errors, server
from drivers.door.http.errors import STATUSES, Refusal
from drivers.door.http.events import GOODBYE_S, Stream, Writer, while_there
from drivers.door.http.server import Gone
from drivers.door.wire import READS, op
from kernel.errors import BadInput, Busy
from kernel.limits import IMPORT_BYTES_MAX, IMPORT_PART_BYTES_MAX
from kernel.machine import views
from kernel.machine.loop import Machine
from kernel.machine.views import Entry
from kernel.spec import Name

FOLLOWERS_MAX: Final = 768  # who follow what happens: connections are left for requests
IMPORT_S: Final = 600.0  # for the body of an import

CHANGES: Final[tuple[type[wire.AnyCommand], ...]] = (
    *(
        wire.Send,
        wire.Spawn,
        wire.Fork,
        wire.Set,
        wire.Core,
        wire.Revert,
        wire.Keep,
        wire.Rename,
        wire.Kill,
        wire.Remove,
        wire.Grant,
        wire.Revoke,
        wire.Allow,
    ),
    *(wire.Halt, wire.Ack, wire.Put, wire.Compact, wire.Import, wire.Stop),
)
"""Answered Ok. Import is not an object: its body is the export's file."""
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`\Z", re.S)


class Incoming(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The query of an import."""

    name: Name = ""  # of the process, if not as it was


class Follow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The query of /api/events; see wire.Subscribe. The header Last-Event-ID is a newer `since`."""

    since: wire.Number | None = None
    proc: wire.Proc | None = None
    log: bool = False


class Native:
    """The routes over one machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._dock = Dock()
        self._following = 0

    def routes(self) -> list[Route]:
        """All of them."""
        found = [Route(f"/api/{op(kind)}", self._reading(kind), methods=["GET"]) for kind in READS]
        found += [Route(f"/api/{op(kind)}", self._changing(kind), methods=["POST"]) for kind in CHANGES]
        return [*found, Route("/api/events", self.events, methods=["GET"])]

    def _reading(self, kind: type[wire.AnyCommand]) -> Any:
        async def route(request: Request) -> Response:
            asked = query(request, kind, op=op(kind), id=0)
            work = desk.carry_out(self._machine, asked, Arriving(self._dock))
            return _answer(await (while_there(request, work) if isinstance(asked, wire.Wait) else work))

        return route

    def _changing(self, kind: type[wire.AnyCommand]) -> Any:
        async def route(request: Request) -> Response:
            if kind is wire.Import:
                return await self._import(request)
            asked = convert({**fields(await errors.read(request)), "op": op(kind), "id": 0}, kind)
            answer = _answer(await desk.carry_out(self._machine, asked, Arriving(self._dock)))
            if isinstance(asked, wire.Stop):
                answer.background = BackgroundTask(self._stop)
            return answer

        return route

    async def _stop(self) -> None:
        self._machine.stop()

    async def _import(self, request: Request) -> Response:
        """An export's file, packed or plain, as the body."""
        given = query(request, Incoming)
        request.state.body_max, request.state.body_s = IMPORT_BYTES_MAX, IMPORT_S
        arriving = Arriving(self._dock)
        unpack, first = _Unpacker(), True
        try:
            more = True
            while more:  # until the body's end
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise Gone("the client hung up")
                more = message["more_body"]
                for part in unpack(message["body"]):
                    arriving.take(part, first=first)
                    first = False
            last = wire.Import(id=0, part=b"", first=first, last=True, name=given.name)
            return _answer(await desk.carry_out(self._machine, last, arriving))
        except (server.TooMuch, server.TooSlow, server.Malformed) as exc:
            raise errors.refusal(exc) from exc
        finally:
            arriving.drop()

    async def events(self, request: Request) -> Response:
        """What happens, as it happens, resumed after a log number."""
        follow = query(request, Follow)
        last = request.headers.get("last-event-id", "")
        if last:
            follow = msgspec.structs.replace(follow, since=convert({"since": last}, Follow, strict=False).since)
        pid = 0 if follow.proc is None else views.find(self._machine.kernel, follow.proc)
        if self._following >= FOLLOWERS_MAX:
            raise Busy(f"{FOLLOWERS_MAX} clients follow what happens", 5)

        async def tell(writer: Writer) -> None:
            self._following += 1
            try:
                await self._follow(writer, follow, pid)
            finally:
                self._following -= 1

        return Stream(tell)

    async def _follow(self, writer: Writer, follow: Follow, pid: int) -> None:
        machine = self._machine
        since = await machine.feed.after(follow.since)
        asked = wire.Subscribe(id=0, since=follow.since, proc=follow.proc, log=follow.log)
        try:
            async with machine.feed.subscribe(-1 if follow.since is None else since, pid) as published:
                await writer.event(wire.Ok(id=0, lsn=since), name="ok", number=since)
                if follow.since is not None and not follow.log:
                    await self._unread(writer, pid)
                async for item in published:
                    if isinstance(item, Entry):
                        since = item.lsn
                    push = desk.pushed(item, asked, pid)
                    if push is not None:
                        number = since if isinstance(push, wire.Logged) else None
                        await writer.event(push, name=op(type(push)), number=number)
            await self._ended(writer, since)
        except trio.Cancelled:
            if machine.stopping:  # the server is cancelled when the machine has come to rest
                with trio.move_on_after(GOODBYE_S, shield=True):
                    await self._ended(writer, since)
            raise

    async def _unread(self, writer: Writer, pid: int) -> None:
        """Say again what nobody has acknowledged: it may have been said while nobody listened."""
        kernel = self._machine.kernel
        for one in [pid] if pid else [one for one, proc in kernel.procs.items() if proc.said > proc.acked]:
            proc = kernel.procs.get(one)
            after, more = (proc.acked, proc.said > proc.acked) if proc is not None else (0, False)
            while more and proc is not None:  # ends with the last of them
                found, more = await self._machine.readers(views.outbox_piece, self._machine.disk, one, after, proc.said)
                for message in found:
                    after = message.seq
                    await writer.event(wire.Said(message=message), name="said")

    async def _ended(self, writer: Writer, since: int) -> None:
        stopping = self._machine.stopping
        reason = "the kernel is stopping" if stopping else "too slow: events were dropped"
        ended = wire.Ended(since=since, error=f"{reason}; subscribe again from {since}", stopping=stopping)
        await writer.event(ended, name="ended")


def fields(raw: bytes) -> dict[str, Any]:
    """A body's object; no body is an empty one. Raises Refusal for anything else."""
    if not raw:
        return {}
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise Refusal(400, f"the body is no JSON: {exc}", code="malformed") from exc
    if not isinstance(found, dict):
        raise Refusal(400, "the body must be a JSON object", code="malformed")
    own = {"op", "id"} & found.keys()
    if own:
        raise Refusal(400, f"the body has no field {own.pop()!r} here: the route says it", code="malformed")
    return found


def query(request: Request, kind: type[Any], **own: Any) -> Any:
    """A query as a struct. Raises Refusal for a field that is none, is given twice, or is of another type."""
    given = request.query_params.multi_items()
    names = [name for name, _ in given]
    wrong = next((name for name in names if names.count(name) > 1 or name in own), None)
    if wrong is not None:
        raise Refusal(400, f"{wrong[:80]!r} stands in the query more than once, or may not", param=wrong[:80])
    return convert({**dict(given), **own}, kind, strict=False)


def convert(found: dict[str, Any], kind: type[Any], *, strict: bool = True) -> Any:
    """Builtins as a struct. Raises Refusal in one line."""
    try:
        return msgspec.convert(found, kind, strict=strict)
    except msgspec.ValidationError as exc:
        raise Refusal(400, _told(" ".join(str(exc).split()), kind), code="malformed") from exc
    except RecursionError as exc:
        raise Refusal(400, "it nests too deep", code="malformed") from exc


def _told(wrong: str, kind: type[Any]) -> str:
    """What is wrong with a field, its name first, and which there are where it is none of them."""
    what, _, place = wrong.partition(" - at `$")
    unknown = _UNKNOWN.match(what)
    if unknown is None or place:
        return f"{place.strip('.`')}: {what}" if place else what
    there = [field.encode_name for field in msgspec.structs.fields(kind) if field.encode_name != "id"]
    return f"there is no field {unknown[1][:80]!r}; " + (f"there are {', '.join(there)}" if there else "there is none")


def _answer(answer: wire.AnyAnswer) -> Response:
    if isinstance(answer, wire.Failed):
        kind = wire.CODES.get(answer.code, BadInput)
        status = next(status for one, status in STATUSES if issubclass(kind, one))
        raise Refusal(status, answer.error, code=answer.code or None, after_s=answer.retry_after_s or 0.0)
    try:
        return errors.json(answer)
    except UnicodeEncodeError as exc:
        raise BadInput("the answer holds half a surrogate pair, which is no UTF-8") from exc


class _Unpacker:
    """A body, unpacked if it is gzip, in parts of at most IMPORT_PART_BYTES_MAX; who takes them bounds the whole."""

    def __init__(self) -> None:
        self._begun = False
        self._zip: Any = None

    def __call__(self, rest: bytes) -> Iterator[bytes]:
        """What a piece of the body holds. Raises BadInput if it cannot be unpacked."""
        if not self._begun and rest:
            self._begun = True
            self._zip = zlib.decompressobj(wbits=31) if rest.startswith(b"\x1f") else None
        try:
            while rest:  # each turn takes some of it, or gives some
                if self._zip is None:
                    part, rest = rest[:IMPORT_PART_BYTES_MAX], rest[IMPORT_PART_BYTES_MAX:]
                else:
                    part = self._zip.decompress(rest, IMPORT_PART_BYTES_MAX)
                    rest = b"" if self._zip.eof else self._zip.unconsumed_tail
                if part:
                    yield part
        except zlib.error as exc:
            raise BadInput(f"the export cannot be unpacked: {exc}") from exc
