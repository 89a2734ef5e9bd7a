"""A machine for programs, over HTTP: processes that are spoken to, followed and looked at.

    with connect("http://127.0.0.1:8484", token) as machine:
        tutor = machine.spawn("tutor", system="You teach chess.")
        print(tutor.send("I play the Caro-Kann."))
        for piece in tutor.stream("What do I play?"):
            print(piece, end="")

Guarantees: a message is applied once, however often the connection breaks while it is sent: it keeps its id. A
subscription goes on after the last number it saw. Everything that the control socket can be asked, `ask` asks.
Blocking; one thread a machine, but for `events`, which has a connection of its own.
Not here: the routes (drivers/door/http/native.py), the structs (drivers/door/wire.py), `connect` (`llmos`).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator, Iterator, Mapping
from typing import Any, Final, TypeVar

import httpx2
import msgspec

from drivers.door import wire
from kernel.errors import BadInput
from kernel.event import Message
from kernel.machine.held import Asking, question
from kernel.machine.replies import Standing
from kernel.spec import Spec
from llmos.ask import RETRY_S, WAIT_S, Disconnected, Refused, new_mid
from syscalls.spoken import spoken

CONNECT_S: Final = 10.0
ANSWER_S: Final = 120.0  # a daemon that takes longer to answer is stuck
PATIENCE_S: Final = 60.0  # how long a daemon that is away is looked for
READS: Final = frozenset(map(wire.op, wire.READS))
"""What is asked with GET."""

A = TypeVar("A", bound=wire.AnyAnswer)


class Machine:
    """A machine that is served over HTTP; made by `llmos.connect`. A context manager, which closes its connections."""

    def __init__(self, url: str, token: str = "", patience_s: float = PATIENCE_S) -> None:
        """`patience_s`: how long one that is away is looked for, and one that is busy is asked again."""
        self.url, self.patience_s = url.rstrip("/"), patience_s
        bearer = {"authorization": f"Bearer {token or os.environ.get('LLMOS_TOKEN', '')}"}
        self._http = httpx2.Client(
            base_url=self.url, headers=bearer, timeout=httpx2.Timeout(ANSWER_S, connect=CONNECT_S), trust_env=False
        )

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def ask(self, request: wire.AnyCommand, answer: type[A]) -> A:
        """Any request of the protocol, and its whole answer.

        Raises Refused if the machine says no, Disconnected if it is not there for `patience_s`.
        """
        found = self._ask(request, answer)
        while (rest := wire.onward(request, found)) is not None:  # an answer in parts, of which each goes further
            joined = wire.joined(found, self._ask(rest, answer))
            assert isinstance(joined, answer)
            found = joined
        return found

    def spawn(self, name: str, *, system: str = "", blocks: Mapping[str, str] | None = None, **more: Any) -> Process:
        """A process of that name: a new one, or a dead one started again; one that lives is taken as it is.

        `more`: what else a process is made of (kernel/spec.py).
        """
        spec = Spec(name, system=system, blocks=dict(blocks or {}), **more)
        try:
            self.ask(wire.Spawn(id=0, spec=spec), wire.Ok)
        except Refused as exc:
            if exc.code != "exists":
                raise
        return Process(self, name)

    def process(self, name: str | int) -> Process:
        """A process that is there. Raises Refused if it is not."""
        self.ask(wire.Ps(id=0, proc=name), wire.Processes)
        return Process(self, name)

    def processes(self) -> list[str]:
        """The names of all processes."""
        return [view.name for view in self.ask(wire.Ps(id=0), wire.Processes).processes]

    def events(
        self, proc: str | int | None = None, *, since: int | None = None, log: bool = False
    ) -> Generator[wire.Ok | wire.AnyPush, None, None]:
        """What happens, as it happens, until the machine stops: first an Ok, when nothing can be missed any more.

        After `since`, from the journal; a connection that breaks is taken up again by number, and then messages that
        nobody has acknowledged come once more. Close the iterator to end it.
        """
        query = {"log": str(log).lower(), **({} if proc is None else {"proc": str(proc)})}
        until = time.monotonic() + self.patience_s
        while True:  # until the machine stops, or is away for too long
            again = {} if since is None else {"since": str(since)}
            try:
                with self._http.stream("GET", "/api/events", params={**query, **again}, timeout=_LONG) as response:
                    if response.status_code != 200:
                        response.read()
                        raise refused(response)
                    for number, data in _events(response.iter_lines()):
                        until = time.monotonic() + self.patience_s
                        since = since if number is None else number
                        push = wire.decode_reply(data)
                        assert isinstance(push, wire.Ok | wire.Logged | wire.Said | wire.Token | wire.Ended)
                        yield push
                        if isinstance(push, wire.Ended) and push.stopping:
                            return
            except Refused as exc:
                if exc.retry_after_s is None:
                    raise
            except (httpx2.TransportError, OSError) as exc:
                if time.monotonic() > until:
                    raise Disconnected(f"{self.url}: {exc}") from exc
            time.sleep(RETRY_S)

    def _ask(self, request: wire.AnyCommand, answer: type[A]) -> A:
        op = wire.op(type(request))
        given = msgspec.to_builtins(request)
        given = {name: value for name, value in given.items() if name not in ("op", "id") and value is not None}
        until = time.monotonic() + self.patience_s
        while True:  # until answered, refused for good, or out of patience
            try:
                if op in READS:
                    query = {
                        name: str(value).lower() if value in (True, False) else value for name, value in given.items()
                    }
                    response = self._http.get(f"/api/{op}", params=query)
                else:
                    response = self._http.post(f"/api/{op}", content=msgspec.json.encode(given))
                if response.status_code == 200:
                    found = wire.decode_reply(response.content)
                    if not isinstance(found, answer):
                        raise BadInput(f"{self.url} answered {type(found).__name__} to {op}")
                    return found
                raise refused(response)
            except Refused as exc:
                wait_s = exc.retry_after_s
                if wait_s is None or time.monotonic() + wait_s > until:
                    raise
            except (httpx2.TransportError, OSError) as exc:
                wait_s = RETRY_S
                if time.monotonic() > until:
                    raise Disconnected(f"{self.url}: {exc}") from exc
            time.sleep(wait_s)


class Asks(Refused):
    """There is no reply yet: somebody has to allow a call first, or refuse it; `mid` is the message that waits."""

    def __init__(self, asked: Asking, mid: str) -> None:
        super().__init__(question(asked), None)
        self.asked, self.mid = asked, mid


class Process:
    """A process of a machine's, by name."""

    def __init__(self, machine: Machine, name: str | int) -> None:
        self.machine, self.name = machine, name

    def send(self, text: str, mid: str = "") -> str:
        """Send a message and wait for all that is said in answer to it; "" where the turn ended without a word.

        `mid`: of a message that was sent before, and whose reply is wanted. Raises Refused where the process died, and
        Asks where its user is to decide something first: then `allow`, and send it again with that `mid`.
        """
        mid = mid or new_mid()
        self.machine.ask(wire.Send(id=0, proc=self.name, mid=mid, text=text), wire.Ok)
        return "\n\n".join(message.text for message in self._replied(mid))

    def stream(self, text: str) -> Iterator[str]:
        """Send a message, and give what is said in answer piece by piece, as it comes.

        What a restart of the machine took back is not unsaid: the pieces then end with what had come.
        """
        mid, before, given, raw, attempt = new_mid(), "", "", "", (0, 0)
        view = self.machine.ask(wire.Ps(id=0, proc=self.name), wire.Processes).processes[0]
        encoding = self.machine.ask(wire.Strace(id=0, proc=self.name, limit=1), wire.Traced).encoding
        only = view.calls == ("send_message",)
        with contextlib.closing(self.machine.events(self.name)) as events:
            for push in events:
                said = given
                match push:
                    case wire.Ok():
                        self.machine.ask(wire.Send(id=0, proc=self.name, mid=mid, text=text), wire.Ok)
                    case wire.Token(streamed=streamed) if not streamed.thought:
                        begun = (streamed.tag.instr, streamed.tag.attempt)
                        raw = streamed.text if begun != attempt or streamed.offset == 0 else raw + streamed.text
                        attempt = begun
                        said = before + spoken(raw, encoding, only_speaks=only)
                    case wire.Said(message=message) if mid in message.answers and message.asks:
                        self._replied(mid)
                    case wire.Said(message=message) if mid in message.answers and not message.ends:
                        before, raw = f"{before}{message.text}\n\n", ""
                        said = before
                    case wire.Said() | wire.Logged() if self._over(mid):
                        break
                if said.startswith(given) and said != given:
                    yield said[len(given) :]
                    given = said
        said = "\n\n".join(message.text for message in self._replied(mid))
        if said.startswith(given) and said != given:
            yield said[len(given) :]

    def allow(self, asked: Asking, *, yes: bool = True) -> None:
        """Let the call be made that somebody asks about, or refuse it. Raises Refused if nobody does any more."""
        self.machine.ask(wire.Allow(id=0, proc=asked.pid, req=asked.req, yes=yes), wire.Ok)

    def memory(self) -> wire.Mapped:
        """What the process has in view, page by page, with the beginnings of their texts."""
        return self.machine.ask(wire.Pmap(id=0, proc=self.name, texts=True), wire.Mapped)

    def _over(self, mid: str) -> bool:
        """Whether no more is going to be said in answer to a message."""
        try:
            found = self.machine.ask(wire.Wait(id=0, mid=mid), wire.Replied).reply
        except Refused:  # it is not there yet
            return False
        return found.standing is not Standing.OPEN

    def _replied(self, mid: str) -> tuple[Message, ...]:
        while True:  # until there is a reply, or none can come
            found = self.machine.ask(wire.Wait(id=0, mid=mid, within_s=WAIT_S, asked=0), wire.Replied)
            if found.asks is not None:
                raise Asks(found.asks, mid)
            if found.reply.standing is Standing.OPEN:
                continue
            said = tuple(message for message in found.reply.messages if not message.asks)
            if said and found.reply.messages[0].seq == found.acked + 1:
                self.machine.ask(wire.Ack(id=0, pid=found.pid, upto=said[-1].seq), wire.Ok)
            if not said and found.reply.standing is Standing.DIED:
                raise Refused(f"process {self.name} is dead ({found.reply.why})", None)
            return said


_LONG: Final = httpx2.Timeout(CONNECT_S, read=60.0)  # a stream says at least that it is there


def refused(response: httpx2.Response) -> Refused:
    """What a machine said no with."""
    try:
        told = msgspec.json.decode(response.content)["error"]
        message, code = str(told["message"]), str(told["code"] or "")
    except (msgspec.DecodeError, KeyError, TypeError):
        message, code = f"status {response.status_code}", ""
    after = response.headers.get("retry-after")
    return Refused(message, float(after) if after and after.isdigit() else None, code)


def _events(lines: Iterator[str]) -> Iterator[tuple[int | None, bytes]]:
    """Events of a stream: number, if it has one, and data."""
    number: int | None = None
    data = ""
    for line in lines:
        field, _, value = line.partition(": ")
        if not line and data:
            yield number, data.encode()
            number, data = None, ""
        elif field == "id":
            number = int(value)
        elif field == "data":
            data += value
