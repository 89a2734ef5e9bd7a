"""Ten thousand requests that are no HTTP, and a thousand that do not end, while other clients are served."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

import pytest
import trio

from drivers.door.http import server
from drivers.door.http.given import Http
from kernel.spec import Spec
from tests.drivers.web import Served, served

MALFORMED, SLOW, AT_ONCE = 10_000, 1_000, 8
STATUS: Final = re.compile(rb"HTTP/1\.1 (4\d\d|501|505) ")
IDENT: Final = re.compile(rb'"request_id":"req_[0-9a-f]{16}"')
HEAD: Final = b"GET /api/info HTTP/1.1\r\nHost: 127.0.0.1\r\n"
POST: Final = b"POST /api/send HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def junk(draw: Random, most: int = 60) -> bytes:
    """Bytes of any kind."""
    return draw.randbytes(draw.randint(1, most))


def letters(draw: Random) -> bytes:
    return bytes(draw.choice(b"abcdefghijklmnopqrstuvwxyz") for _ in range(draw.randint(1, 12)))


KINDS: Final[tuple[Callable[[Random], bytes], ...]] = (
    lambda draw: b"\x16\x03\x01" + junk(draw) + b"\r\n\r\n",  # TLS
    lambda draw: b"\x00" + junk(draw) + b"\r\n\r\n",
    lambda draw: letters(draw) + b"\r\n\r\n",  # no target
    lambda draw: b"GET " + letters(draw) + b" HTTP/1.1\r\nHost: x\r\n\r\n",  # a target that is no path
    lambda draw: b"GET /%s HTTP/%d.%d\r\nHost: x\r\n\r\n" % (letters(draw), draw.randint(2, 9), draw.randint(0, 9)),
    lambda draw: b"GET /%s HTTP/1.1\r\n\r\n" % letters(draw),  # no Host
    lambda draw: HEAD + b"Host: %s\r\n\r\n" % letters(draw),  # two of them
    lambda draw: HEAD + letters(draw) + b"\r\n\r\n",  # a header without a colon
    lambda draw: HEAD + letters(draw) + b" : x\r\n\r\n",  # white space in front of it
    lambda draw: HEAD + b"x: a\x00" + letters(draw) + b"\r\n\r\n",
    lambda draw: HEAD + b"x: " + b"y" * server.HEAD_BYTES_MAX + b"\r\n\r\n",
    lambda draw: POST + b"Content-Length: %s\r\n\r\n" % letters(draw),
    lambda draw: POST + b"Content-Length: -%d\r\n\r\n" % draw.randint(1, 99),
    lambda draw: POST + b"Content-Length: 1\r\nContent-Length: %d\r\n\r\nx" % draw.randint(2, 99),
    lambda draw: POST + b"Transfer-Encoding: %s\r\n\r\n" % letters(draw),
)


async def sent(door: Served, raw: bytes) -> bytes:
    """What comes back for bytes, until the server hangs up."""
    got = b""
    async with await trio.open_tcp_stream("127.0.0.1", door.port) as stream:
        try:
            await stream.send_all(raw)
            await stream.send_eof()
            async for chunk in stream:
                got += chunk
        except trio.BrokenResourceError:  # it hung up before it had read everything
            pass
    return got


@pytest.mark.slow
async def test_ten_thousand_malformed_requests_and_a_thousand_slow_ones_keep_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LINGER_S", 0.05)
    answered: Counter[str] = Counter()
    others: Counter[bool] = Counter()
    slow: list[trio.SocketStream] = []
    async with served(tmp_path, given=Http("127.0.0.1:0", log="none")) as door:
        await door.machine.requests.spawn(Spec("main"))

        async def attack(number: int) -> None:
            draw = Random(number)
            for at in range(number, MALFORMED, AT_ONCE):
                got = await sent(door, KINDS[at % len(KINDS)](draw))
                assert not got or (STATUS.match(got) and IDENT.search(got)), (at % len(KINDS), got[:300])
                answered["refused" if got else "closed"] += 1

        async def linger() -> None:
            for number in range(SLOW):
                stream = await trio.open_tcp_stream("127.0.0.1", door.port)
                slow.append(stream)
                await stream.send_all((HEAD, POST + b"Content-Length: 9\r\n\r\n")[number % 2][: 20 + number % 60])

        async def others_ask(scope: trio.CancelScope) -> None:
            with scope:
                async with door.client() as client:
                    for number in itertools.count():
                        body = {"model": "main", "messages": [{"role": "user", "content": f"message {number}"}]}
                        found = await client.post("/v1/chat/completions", json=body)
                        text = found.json()["choices"][0]["message"]["content"]
                        others[found.status_code == 200 and text == f"you said: message {number}"] += 1

        scope = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(others_ask, scope)
            async with trio.open_nursery() as attackers:
                attackers.start_soon(linger)
                for number in range(AT_ONCE):
                    attackers.start_soon(attack, number)
            scope.cancel()
        assert sum(answered.values()) == MALFORMED
        assert answered["refused"] > 0.9 * MALFORMED
        assert len(slow) == SLOW
        assert others[False] == 0
        assert others[True] > 50
        for stream in slow:
            await trio.aclose_forcefully(stream)
