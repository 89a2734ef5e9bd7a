"""Servers of tools that speak MCP: programs over their standard input and output, and servers over HTTP.

One task owns a server: all that the SDK has of it lives there, and a use of a tool is a task below. A server that ends,
or does not begin, is started again after a pause that doubles; its uses under way are answered with why at once. A use
has a limit; one that nobody waits for is cancelled, and its server stays. What a program says on its standard error is
read and thrown away, but for the last line, which says why it ended. A server over HTTP has no end that could be seen:
where an answer breaks off it is asked whether it is there. What is secret of what is given (given.py `secrets`) is
taken out of all that a server says.
Not here: how messages come and go (program.py, web.py), its schemas as grammars take them (schema.py).
"""

from __future__ import annotations

import json
import logging
import math
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Final

import msgspec
import trio
from mcp import ClientSession, MCPError, types

from drivers.device import program, schema, web
from drivers.device.given import Given, ended, tool_name
from kernel import failpoint
from kernel.errors import LINE_CHARS_MAX, in_one_line
from kernel.event import Act, Offered, Tool
from kernel.limits import ANSWER_BYTES_MAX, TOOL_CHARS_MAX, TOOLS_MAX
from kernel.ports import Measured, Post, Server, Told
from kernel.text import one_line, printable

START_S: Final = 30.0  # a server that has not answered by then does not begin, or is over with a new list of its tools
LOOK_S: Final = 5.0  # one over HTTP that has not said by then that it is there is over
PAUSE_S: Final = 1.0  # before it is started again; each time twice as long
PAUSE_S_MAX: Final = 60.0
LIVED_S: Final = 30.0  # a server that was up for so long begins with the first pause
LISTS_MAX: Final = 100  # pages of a list of tools
UNDER_WAY_MAX: Final = 256  # uses of one server
LONG_CHARS: Final = 2_000  # a longer answer is measured in a thread
PURPOSE_CHARS: Final = 120
ERRORS_BYTES: Final = 4_096
WHY_CHARS: Final = 200
ENDED: Final = "it ended"

for name in ("mcp", "httpx2", "httpcore2"):  # what they have to say of a server is asked for with `llmos tools`
    logging.getLogger(name).setLevel(logging.CRITICAL)


class McpTools:
    """ports.Device over MCP."""

    def __init__(self, given: Mapping[str, Given]) -> None:
        self.names = tuple(given)
        self._servers = {name: _Server(name, one) for name, one in given.items()}

    def start(self, post: Post, measured: Measured) -> None:
        """Begin to answer."""
        self._post, self._measured = post, measured
        for one in self._servers.values():
            one.post, one.measured = post, measured

    async def run(self) -> None:
        """All servers, until the machine's nursery is cancelled."""
        async with trio.open_nursery() as nursery:
            for one in self._servers.values():
                nursery.start_soon(one.run)

    def act(self, what: Act) -> None:
        """Have the tool's server use it."""
        found = self._servers.get(what.tool.partition("/")[0])
        if found is None:
            self._post(self._measured(Told(what.pid, what.req, what.tool, error=f"no server of {what.tool} runs here")))
        else:
            found.act(what)

    def desist(self, pid: int, req: int) -> None:
        """Cancel a use."""
        for one in self._servers.values():
            one.desist(pid, req)

    def seen(self) -> tuple[Server, ...]:
        """Its servers as they stand."""
        return tuple(one.seen() for one in self._servers.values())


class _Reading:
    """A stream of the SDK's which says when it has ended."""

    def __init__(self, inner: Any, over: trio.Event) -> None:
        self._inner, self._over = inner, over

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def __aenter__(self) -> _Reading:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *exc: Any) -> Any:
        self._over.set()
        return await self._inner.__aexit__(*exc)

    def __aiter__(self) -> _Reading:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._inner.__anext__()
        except BaseException:
            self._over.set()
            raise


class _Said:
    """What a server, and the libraries, say of one life of it, fit to be shown."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self._secrets = secrets
        self._errors = bytearray()
        self._refusal = ""  # of a server over HTTP: what it put on the last request that it refused
        self.ended = ""  # and that it has ended the session

    def refused(self, why: str, over: bool) -> None:
        """A server over HTTP has refused a request, with which its session may be over."""
        self._refusal = why
        if over:
            self.ended = why

    def erred(self, piece: bytes) -> None:
        """Keep the last of what a program says on its standard error."""
        self._errors += piece
        del self._errors[:-ERRORS_BYTES]

    def last(self) -> str:
        """The last line of it."""
        said = self.shown(self._errors.decode("utf-8", "replace"))
        return one_line(said.strip().rpartition("\n")[2]).strip()[:WHY_CHARS]

    def shown(self, text: str) -> str:
        """A text without what is secret of what the server was given."""
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        return text

    def why(self, exc: BaseException, most: int = WHY_CHARS) -> str:
        """What went wrong, in a line of so many characters, with what a server over HTTP has put on it."""
        while isinstance(exc, BaseExceptionGroup):
            exc = exc.exceptions[0]
        match exc:
            case trio.TooSlowError():
                said = f"it has not answered in {START_S:.0f} s"
            case FileNotFoundError():
                said = f"no program {exc.filename or ''}"
            case MCPError(code=types.PARSE_ERROR):
                said = str(exc).partition("\n")[0]  # the rest quotes what it could not read, in part
            case _:
                said = str(exc)
        refusal, self._refusal = self._refusal, ""
        line = one_line(in_one_line(Exception(self.shown(said)), most)) or type(exc).__name__
        return f"{line} ({refusal})" if refusal else line


class _Server:
    """One server; `run` is its task."""

    def __init__(self, name: str, given: Given) -> None:
        self.name, self._given = name, given
        self.post: Post
        self.measured: Measured
        self._state, self._why, self._again = "starting", "", math.inf
        self._tools = self._left_out = 0
        self._waiting: deque[Act] = deque()
        self._under_way: dict[tuple[int, int], tuple[Act, trio.CancelScope]] = {}
        self._more, self._over = trio.Event(), trio.Event()
        self._changed = self._doubted = False
        self._said = _Said(())

    # What the machine asks; nothing here waits.

    def act(self, what: Act) -> None:
        """Use a tool as soon as the server is up; one that is down answers so at once."""
        if self._state == "down":
            left = max(0.0, self._again - trio.current_time())
            self._refuse(what, f"the server {self.name} is down ({self._why}); it is started again in {left:.0f} s")
        elif len(self._waiting) + len(self._under_way) >= UNDER_WAY_MAX:
            self._refuse(what, f"the server {self.name} has {UNDER_WAY_MAX} uses under way; try again later")
        else:
            self._waiting.append(what)
            self._more.set()

    def desist(self, pid: int, req: int) -> None:
        """Forget a use, or cancel it."""
        self._waiting = deque(one for one in self._waiting if (one.pid, one.req) != (pid, req))
        if (pid, req) in self._under_way:
            self._under_way.pop((pid, req))[1].cancel()

    def seen(self) -> Server:
        """How it stands."""
        left = 0.0 if self._state != "down" else max(0.0, self._again - trio.current_time())
        calls = len(self._waiting) + len(self._under_way)
        return Server(self.name, self._state, self._why, left, self._tools, self._left_out, calls)

    def _refuse(self, what: Act, why: str) -> None:
        self.post(self.measured(Told(what.pid, what.req, what.tool, error=why)))

    # Its life.

    async def run(self) -> None:
        """Start it, again and again, until the machine stops."""
        pause_s = PAUSE_S
        while True:  # until cancelled
            began = trio.current_time()
            self._state, self._said = "starting", _Said(self._given.secrets())
            try:
                await self._live()
                why = self._said.ended or ENDED
            except Exception as exc:  # whatever a server, or the SDK, does: it is that server that is down
                why = self._said.why(exc)
            self._down(why)
            pause_s = PAUSE_S if trio.current_time() - began > LIVED_S else pause_s
            self._again = trio.current_time() + pause_s
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_S_MAX)

    def _down(self, why: str) -> None:
        """It is not up: who waits for it is told."""
        last = self._said.last()
        self._state, self._why = "down", f"{why}: {last}" if last else why
        lost = [what for what, _ in self._under_way.values()]
        waiting, self._waiting = self._waiting, deque()
        self._under_way.clear()
        for what in lost:
            self._refuse(what, ended(what.tool, "" if why == ENDED else why))
        for what in waiting:
            self._refuse(what, f"the server {self.name} is down ({self._why})")

    async def _live(self) -> None:
        """One life of the server, from its start to its end."""
        self._over, self._doubted = trio.Event(), False
        async with (
            self._talking() as (read, write),
            ClientSession(
                _Reading(read, self._over),
                write,
                message_handler=self._heard,
                client_info=types.Implementation(name="llmos", version="1"),
            ) as session,
            trio.open_nursery() as nursery,
        ):
            with trio.fail_after(START_S):
                await session.initialize()
                await self._list(session)
            self._state, self._why = "up", ""
            nursery.start_soon(self._serve, session, nursery)
            await self._over.wait()
            nursery.cancel_scope.cancel()

    def _talking(self) -> AbstractAsyncContextManager[tuple[Any, Any]]:
        """The server's streams."""
        if self._given.url:
            return web.talking(self._given, UNDER_WAY_MAX, self._said.refused)
        return program.talking(self._given, self._said.erred)

    async def _heard(self, message: Any) -> None:
        """What a server says unasked: that its tools are others."""
        if isinstance(message, types.ToolListChangedNotification):
            self._changed = True
            self._more.set()

    async def _list(self, session: ClientSession) -> None:
        """Ask which tools there are, and offer them."""
        found: dict[str, Tool] = {}
        left_out, cursor = 0, None
        for _ in range(LISTS_MAX):
            page = await session.list_tools(params=types.PaginatedRequestParams(cursor=cursor) if cursor else None)
            for tool in page.tools:
                name = tool_name(self.name, tool.name)
                if name and name not in found and len(found) < TOOLS_MAX:
                    found[name] = self._tool(name, tool)
                else:
                    left_out += 1
            cursor = page.next_cursor
            if cursor is None:
                break
        self._tools, self._left_out = len(found), left_out
        self.post(Offered(source="device", server=self.name, tools=tuple(found.values())))

    def _tool(self, name: str, tool: types.Tool) -> Tool:
        about = printable(self._said.shown(tool.description or tool.title or "")[:TOOL_CHARS_MAX])
        hints = tool.annotations
        reads = bool(hints and hints.read_only_hint)
        again = tool.name in self._given.idempotent or bool(hints and hints.idempotent_hint)
        purpose = one_line(about.partition("\n")[0])
        first = purpose.partition(". ")[0].removesuffix(".")[:PURPOSE_CHARS]
        return Tool(name, first, about, self._said.shown(schema.taken(tool.input_schema)), reads, again)

    async def _serve(self, session: ClientSession, nursery: trio.Nursery) -> None:
        """Carry out uses as they come, side by side."""
        while True:  # until the server ends
            self._more = trio.Event()
            if self._doubted:
                self._doubted = False
                await self._look(session)
            if self._changed:
                self._changed = False
                with trio.fail_after(START_S):
                    await self._list(session)
            while self._waiting:
                what = self._waiting.popleft()
                scope = trio.CancelScope()
                self._under_way[what.pid, what.req] = what, scope
                nursery.start_soon(self._use, session, what, scope)
            if not self._waiting and not self._changed and not self._doubted:
                await self._more.wait()

    async def _look(self, session: ClientSession) -> None:
        """Whether a server over HTTP is there, an answer of which broke off; else this life of it is over."""
        with trio.move_on_after(LOOK_S):
            try:
                await session.send_ping()
                return
            except MCPError as exc:
                if exc.code != types.CONNECTION_CLOSED and not self._said.ended:
                    return  # it knows no ping, and said so
        self._over.set()

    async def _use(self, session: ClientSession, what: Act, scope: trio.CancelScope) -> None:
        """Use a tool; the answer, whatever it is, is posted once, unless nobody waits for it any more."""
        told = Told(what.pid, what.req, what.tool)
        late = f"{what.tool} has not answered for {self._given.limit_s:g} s; it was done, or it was not"
        found = Told(what.pid, what.req, what.tool, error=late)
        scope.deadline = trio.current_time() + self._given.limit_s
        with scope:
            found = await self._asked(session, what, told)
        failpoint.passing("act.after")
        if self._under_way.get((what.pid, what.req)) != (what, scope):
            return  # it was desisted from, or answered as the server ended
        with trio.CancelScope(shield=True):
            if len(found.text) > LONG_CHARS:
                event = await trio.to_thread.run_sync(self.measured, found)
            else:
                event = self.measured(found)
        if self._under_way.pop((what.pid, what.req), None) is not None:
            failpoint.passing("acted.before")
            self.post(event)

    async def _asked(self, session: ClientSession, what: Act, told: Told) -> Told:
        request = types.CallToolRequest(
            params=types.CallToolRequestParams(name=what.tool.partition("/")[2], arguments=_arguments(what))
        )
        say = partial(Told, told.pid, told.req, told.tool)
        try:
            result = await session.send_request(request, types.CallToolResult)
        except MCPError as exc:
            if self._said.ended:
                self._over.set()
                return say(error=f"the server {self.name} is down ({self._said.ended}); {what.tool} was not used")
            if exc.code == types.CONNECTION_CLOSED:
                self._doubted = bool(self._given.url)
                self._more.set()
                return say(error=ended(what.tool))
            return say(text=self._said.why(exc, LINE_CHARS_MAX), failed=True)
        except (ValueError, RuntimeError) as exc:
            return say(text=self._said.why(exc, LINE_CHARS_MAX), failed=True)
        return say(text=self._said.shown(_text(result)), failed=bool(result.is_error))


def _arguments(what: Act) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(what.arguments)
    return found


def _text(result: types.CallToolResult) -> str:
    """What a result says, as text; of what is none, what it is."""
    found: list[str] = []
    size = 0
    for one in result.content:
        match one:
            case types.TextContent(text=text):
                found.append(text)
            case types.EmbeddedResource(resource=types.TextResourceContents(text=text)):
                found.append(text)
            case types.ResourceLink(uri=uri):
                found.append(f"[resource {uri}]")
            case _:
                found.append(f"[{one.type}, which is no text]")
        size += len(found[-1])
        if size > ANSWER_BYTES_MAX:
            break
    if not found and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(found)
