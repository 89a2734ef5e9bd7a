"""The HTTP door over a real machine: who may come in, the native API, events, and what no client can do to another."""

from __future__ import annotations

import gzip
import json
import random
import re
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import httpx2
import msgspec
import pytest
import trio
import trio.testing
from prometheus_client.parser import text_string_to_metric_families

from drivers.door import wire
from drivers.door.http import native, openapi, server, token
from drivers.door.http.access import Access
from drivers.door.http.errors import Refusal
from drivers.door.http.given import Http, Live, address
from kernel import records
from kernel.errors import BadInput
from kernel.text import UNSEEN
from llmos import connect
from llmos.ask import Refused
from llmos.remote import READS, Machine
from tests.drivers.web import Served, served

OTHER = Http("127.0.0.1:0", hosts=("box.lan",), origins=("https://friend.example",))


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Served]:
    """A door; process `main` exists and echoes."""
    async with served(tmp_path, given=OTHER) as found:
        async with found.client() as client:
            assert (await client.post("/api/spawn", json={"spec": {"name": "main"}})).status_code == 200
        yield found


async def told(client: httpx2.AsyncClient, text: str, mid: str) -> str:
    """What `main` answers."""
    assert (await client.post("/api/send", json={"proc": "main", "mid": mid, "text": text})).status_code == 200
    reply = (await client.get("/api/wait", params={"mid": mid, "within_s": 10})).json()["reply"]
    return str(reply["messages"][0]["text"])


async def raw(door: Served, sent: bytes, patience_s: float = 5.0) -> bytes:
    """All that comes back for bytes as they are, until the server hangs up."""
    stream = await trio.open_tcp_stream("127.0.0.1", door.port)
    got = b""
    async with stream:
        with trio.move_on_after(patience_s):
            try:
                await stream.send_all(sent)
                await stream.send_eof()
                async for chunk in stream:
                    got += chunk
            except trio.BrokenResourceError:
                pass
    return got


ROUTES = [("get", f"/api/{wire.op(kind)}") for kind in wire.READS]
ROUTES += [("post", f"/api/{wire.op(kind)}") for kind in native.CHANGES]
ROUTES += [("get", path) for path in ("/api/events", "/openapi.json", "/metrics", "/nowhere", "/login")]
ROUTES += [("delete", "/"), ("get", "/"), ("get", "/page/main.js"), ("get", "/page/scenarios.json"), ("post", "/login")]


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "token"),
        ({"authorization": "Bearer wrong"}, 401, "token"),
        ({"authorization": "Basic eDp5"}, 401, "token"),
        ({"cookie": "llmos_80=wrong; ="}, 401, "token"),
        ({"origin": "https://evil.example"}, 403, "origin"),
        ({"origin": "null"}, 403, "origin"),
        ({"sec-fetch-site": "cross-site"}, 403, "origin"),
        ({"host": "evil.example"}, 421, "host"),
        ({"host": "localhost.evil.example:80"}, 421, "host"),
    ],
)
async def test_without_a_token_every_route_but_health_is_401_from_another_origin_403_by_another_host_421(
    door: Served, headers: dict[str, str], status: int, code: str
) -> None:
    bearer = {} if status == 401 else {"authorization": f"Bearer {door.token}"}
    async with httpx2.AsyncClient(base_url=door.url, trust_env=False) as client:
        for method, path in ROUTES:
            response = await client.request(method, path, headers={**bearer, **headers})
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (status, code), (method, path)
            assert error["request_id"] == response.headers["x-request-id"]
        health = await client.get("/healthz", headers=headers)
        assert health.status_code == (200 if status == 401 else status)


async def test_the_token_is_made_once_in_a_file_of_its_owners_and_a_new_one_shuts_the_others_out(
    door: Served, tmp_path: Path
) -> None:
    file = tmp_path / token.FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert token.made(file) == door.token
    async with door.client() as client:
        assert (await client.get("/api/info")).status_code == 200
        token.renew(file)
        assert (await client.get("/api/info")).status_code == 401
        client.headers["authorization"] = f"Bearer {token.read(file)}"
        assert (await client.get("/api/info")).status_code == 200
        file.chmod(0o644)
        file.touch()
        assert (await client.get("/api/info")).status_code == 401  # others may have read it
    with pytest.raises(BadInput, match="others may read it"):
        token.read(file)


async def test_a_browser_comes_in_with_a_cookie_that_is_not_the_token(door: Served) -> None:
    async with httpx2.AsyncClient(base_url=door.url, trust_env=False) as client:
        assert (await client.get("/login", params={"token": "x" * 43})).status_code == 401
        entered = await client.get("/login", params={"token": door.token})
        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        cookie = entered.headers["set-cookie"]
        assert door.token not in cookie
        assert {"HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))
        assert (await client.get("/api/info")).status_code == 200
        own = {"origin": door.url}
        assert (await client.post("/api/send", headers=own, json={})).status_code == 400  # let in, and badly asked
        client.cookies.clear()
        assert (await client.get("/api/info")).status_code == 401


async def test_hosts_and_origins_that_the_owner_named_are_let_in(door: Served) -> None:
    async with door.client(host="box.lan:80", origin="https://friend.example") as client:
        found = await client.get("/api/info")
        assert (found.status_code, found.headers["access-control-allow-origin"]) == (200, "https://friend.example")
        del client.headers["authorization"]
        asked = await client.request("OPTIONS", "/api/send")
        assert (asked.status_code, asked.headers["vary"]) == (204, "origin")
        assert (await client.get("/api/info")).status_code == 401


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("127.0.0.1:8484", ("127.0.0.1", 8484)),
        ("8484", ("127.0.0.1", 8484)),
        (":0", ("127.0.0.1", 0)),
        ("[::1]:80", ("::1", 80)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
    ],
)
def test_an_address_is_this_machine_alone_unless_told(given: str, found: tuple[str, int]) -> None:
    assert address(given) == found


@pytest.mark.parametrize("given", ["", "host", "host:", "host:70000", "host:x", "\u0663"])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(BadInput, match="HOST:PORT is wanted"):
        address(given)


def test_everything_that_the_socket_can_be_asked_has_a_route() -> None:
    assert {*wire.READS, *native.CHANGES} == set(get_args(wire.AnyCommand))
    assert {wire.op(kind) for kind in wire.READS} == READS
    assert set(openapi.document()["paths"]) == {*(path for _, path in ROUTES if path.startswith("/api/"))}


async def test_a_document_is_put_and_listed_over_http_and_a_part_that_cannot_be_is_refused(door: Served) -> None:
    piece = {"text": "It weighs 41 kg.", "first": 3, "last": 3, "headings": ["The pump"]}
    part = {"proc": "main", "path": "manual.md", "digest": "a1" * 8, "pieces": [piece]}
    async with door.client() as client:
        first, again = [(await client.post("/api/put", json=part)).json() for _ in range(2)]
        assert (first["duplicate"], again["duplicate"]) == (False, True)
        changed = (await client.post("/api/put", json={**part, "digest": "b2" * 8})).json()
        assert changed["duplicate"] is False
        listed = (await client.get("/api/documents", params={"proc": "main"})).json()["documents"]
        assert [(one["path"], one["version"], one["newest"]) for one in listed] == [
            ("manual.md", 1, False),
            ("manual.md", 2, True),
        ]
        for wrong in ({"path": "a\nb"}, {"pieces": []}, {"part": 3}, {"digest": "x"}, {"proc": "nobody"}):
            refused = await client.post("/api/put", json={**part, **wrong})
            assert refused.status_code >= 400, wrong
            assert "\n" not in refused.json()["error"]["message"]


async def test_a_message_is_sent_answered_and_looked_at_over_http(door: Served) -> None:
    async with door.client() as client:
        assert await told(client, "hello", "m1") == "you said: hello"
        again = await client.post("/api/send", json={"proc": "main", "mid": "m1", "text": "hello"})
        assert again.json()["duplicate"] is True
        asked: dict[str, dict[str, Any]] = {
            "describe": {"proc": "main"},
            "ps": {"proc": 1},
            "irqs": {},
            "pmap": {"proc": "main", "texts": "true"},
            "strace": {"proc": "main", "limit": 5},
            "cat": {"proc": "main", "page": 2},
            "explain": {"proc": "main", "page": 2},
            "dmesg": {"since": 0},
            "past": {"proc": "main", "limit": 5},
            "grep": {"text": "Hello said", "proc": "main"},
            "outbox": {"proc": "main"},
            "wait": {"mid": "m1"},
            "history": {"proc": "main"},
            "facts": {"proc": "main"},
            "mem": {"proc": "main", "upto": 2, "limit": 5},
            "caps": {"proc": "main"},
            "graph": {},
            "audit": {"proc": "main"},
            "documents": {"proc": "main"},
            "tools": {},
            "info": {},
        }
        assert set(asked) == READS
        for name, query in asked.items():
            response = await client.get(f"/api/{name}", params=query)
            answer = wire.READS[next(kind for kind in wire.READS if wire.op(kind) == name)]
            assert isinstance(wire.decode_reply(response.content), answer)
        unread = (await client.get("/api/outbox", params={"proc": "main"})).json()["messages"]
        await client.post("/api/ack", json={"pid": 1, "upto": unread[-1]["seq"]})
        assert (await client.get("/api/outbox", params={"proc": "main"})).json()["messages"] == []


async def test_pages_are_found_pinned_and_evicted_and_the_past_tells_it_over_http(door: Served) -> None:
    async with door.client() as client:
        for number in range(3):
            await told(client, f"boat number {number}", f"m{number}")
        found = (await client.get("/api/grep", params={"text": "BOAT 1", "limit": 1})).json()
        assert (found["matches"][0]["text"], found["matches"][0]["origin"]) == ("you said: boat number 1", "process")
        more = (await client.get("/api/grep", params={"text": "boat 1", "before": found["before"]})).json()
        assert [match["text"] for match in more["matches"]] == ["boat number 1"]
        assert more["before"] == 0
        page = more["matches"][0]["page"]
        mapped = (await client.get("/api/pmap", params={"proc": "main", "texts": "true"})).json()
        assert mapped["about"][str(page)]["origin"] == "user"
        for how in ("pin", "unpin", "evict"):
            body = {"proc": "main", "page": page, "how": how}
            assert (await client.post("/api/keep", json=body)).status_code == 200, how
        refused = await client.post("/api/keep", json={"proc": "main", "page": page, "how": "pin"})
        assert (refused.status_code, "is not resident" in refused.text) == (400, True)
        past = (await client.get("/api/past", params={"proc": "main", "limit": 4})).json()
        assert [note["what"] for entry in past["entries"] for note in entry["notes"]][-4:] == [
            *("change", "change"),
            *("evict", "change"),
        ]
        older = (await client.get("/api/past", params={"proc": "main", "before": past["before"]})).json()
        entries = older["entries"] + past["entries"]
        lsns = [entry["lsn"] for entry in entries]
        assert lsns == sorted(set(lsns))
        assert [entry["ran"]["prompt"] > 0 for entry in entries if "ran" in entry] == [True] * 3
        for query in ({"text": " "}, {"text": "x", "proc": "nobody"}, {"text": "x", "limit": 0}):
            assert (await client.get("/api/grep", params=query)).status_code in (400, 404)
        forked = {"proc": "main", "name": "fork", "before": page + 1}
        assert (await client.post("/api/fork", json=forked)).status_code == 200
        seen = (await client.get("/api/history", params={"proc": "fork"})).json()["pages"]
        assert "boat number 2" not in [row[8] for row in seen]


async def test_a_process_is_made_changed_forked_and_removed_over_http(door: Served) -> None:
    async with door.client() as client:
        spec = {"name": "p", "system": "Be brief.", "blocks": {"human": "Ana"}}
        for op, body in [
            ("spawn", {"spec": spec}),
            ("set", {"proc": "p", "nice": 3}),
            ("core", {"proc": "p", "block": "mood", "text": "calm", "seen": "cae66941d9efbd404e4d88758ea67670"}),
            ("revert", {"proc": "p", "block": "human", "lsn": 3}),
            ("rename", {"proc": "p", "name": "q"}),
            ("fork", {"proc": "q", "name": "r"}),
            ("kill", {"proc": "q"}),
            ("remove", {"proc": "q"}),
            ("remove", {"proc": "r", "kill": True}),
            ("compact", {}),
        ]:
            response = await client.post(f"/api/{op}", json=body)
            assert response.status_code == 200, (op, response.text)
        names = [one["name"] for one in (await client.get("/api/ps")).json()["processes"]]
        assert names == ["main"]


REFUSALS: list[tuple[str, str, Any, int]] = [
    ("get", "/api/ps?proc=nobody", None, 404),
    ("get", "/api/cat?proc=main&page=99", None, 404),
    ("get", "/api/wait?mid=never", None, 404),
    ("get", "/api/wait?mid=", None, 404),
    ("get", f"/api/wait?mid={'x' * 256}", None, 404),
    ("get", f"/v1/responses/resp_{'v1.' * 400}", None, 404),
    ("get", "/api/cat?proc=main", None, 400),
    ("get", "/api/cat?proc=main&page=-1", None, 400),
    ("get", "/api/ps?what=1", None, 400),
    ("get", "/api/ps?after=1&after=2", None, 400),
    ("get", "/api/ps?op=info", None, 400),
    ("post", "/api/ps", b"", 405),
    ("get", "/api/send", None, 405),
    ("get", "/api", None, 404),
    ("get", "/api/%00", None, 404),
    ("post", "/api/send", b"{", 400),
    ("post", "/api/send", b"[]", 400),
    ("post", "/api/send", b"[" * 100_000, 400),
    ("post", "/api/send", b"\xff\xfe", 400),
    ("post", "/api/send", b'{"op":"stop","id":1}', 400),
    ("post", "/api/send", b'{"proc":"main","mid":"m","text":""}', 400),
    ("post", "/api/send", b'{"proc":"main","mid":"m","text":1}', 400),
    ("post", "/api/spawn", b'{"spec":{"name":"main"}}', 409),
    ("post", "/api/import", b"\x1f\x8bnonsense", 400),
    ("post", "/api/import", b"nonsense", 400),
    ("post", "/api/send", b"x" * (server.BODY_BYTES_MAX + 1), 413),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), REFUSALS)
async def test_what_cannot_be_is_refused_in_one_line_with_its_request(
    door: Served, method: str, path: str, body: bytes | None, status: int
) -> None:
    async with door.client() as client:
        response = await client.request(method, path, content=body)
        error = response.json()["error"]
        assert (response.status_code, error["request_id"]) == (status, response.headers["x-request-id"])
        assert error["message"]
        assert "\n" not in error["message"]
        assert (await client.get("/healthz")).json() == {"status": "ok"}


async def test_a_field_that_is_wrong_is_named_with_what_it_may_be(door: Served) -> None:
    asked: list[tuple[str, str, Any, str]] = [
        ("get", "/api/ps?what=1", None, "there is no field 'what'; there are proc, after"),
        ("get", "/api/info?what=1", None, "there is no field 'what'; there is none"),
        ("get", "/api/events?since=-5", None, "since: Expected `int` >= 0"),
        ("get", "/api/cat?proc=main", None, "Object missing required field `page`"),
        ("post", "/api/spawn", {"spec": {"name": 5}}, "spec.name: Expected `str`, got `int`"),
        ("post", "/api/spawn", {"spec": {"name": "x", "what": 1}}, "spec: Object contains unknown field `what`"),
    ]
    async with door.client() as client:
        for method, path, body, said in asked:
            response = await client.request(method, path, json=body)
            assert (response.status_code, response.json()["error"]["message"]) == (400, said), path


async def test_an_export_is_taken_in_over_http_packed_or_plain(door: Served, tmp_path: Path) -> None:
    from drivers.disk.parcel import write

    async with door.client() as client:
        await told(client, "remember the boat", "m1")
        write(door.machine.disk, 1, tmp_path / "main.jsonl", 0)
        plain = (tmp_path / "main.jsonl").read_bytes()
        for name, sent in (("one", plain), ("two", gzip.compress(plain))):
            response = await client.post("/api/import", params={"name": name}, content=sent)
            assert response.status_code == 200, response.text
            shown = wire.decode_reply((await client.get("/api/history", params={"proc": name})).content)
            assert isinstance(shown, wire.Pages)
            assert shown.pages[0].text == "remember the boat"
        assert (await client.post("/api/import", content=plain)).status_code == 409


async def test_events_are_resumed_after_the_last_number_and_unread_messages_come_again(door: Served) -> None:
    def follow(machine: Machine, since: int, text: str) -> tuple[list[int], list[str]]:
        """Numbers and messages after `since`, to the reply to a message that is sent meanwhile."""
        numbers, said = [], []
        with closing(machine.events("main", since=since)) as found:
            for push in found:
                if isinstance(push, wire.Ok):
                    machine.ask(wire.Send(id=0, proc="main", mid=text, text=text), wire.Ok)
                if isinstance(push, wire.Logged):
                    numbers.append(push.entry.lsn)
                if isinstance(push, wire.Said):
                    said.append(push.message.text)
                    if push.message.answers == (text,):
                        break
        return numbers, said

    def both() -> None:
        with connect(door.url, door.token) as machine:
            numbers, said = follow(machine, 0, "hello")
            assert said == ["you said: hello"]
            again, more = follow(machine, numbers[-1], "hello again")
            assert more == ["you said: hello", "you said: hello again"]
            assert numbers == sorted({*numbers})
            assert min(again) > max(numbers)

    await trio.to_thread.run_sync(both)


async def test_a_subscription_goes_on_by_last_event_id(door: Served) -> None:
    def first(last: int) -> int:
        """The log number of the first entry that is told after `last`, whatever the query says."""
        with (
            httpx2.Client(base_url=door.url, headers={"authorization": f"Bearer {door.token}"}) as client,
            client.stream("GET", "/api/events?since=0", headers={"last-event-id": str(last)}) as response,
        ):
            lines = iter(response.iter_lines())
            assert next(lines) == f"id: {last}"
            return next(int(line.removeprefix("id: ")) for line in lines if line.startswith("id: "))

    async with door.client() as client:
        await told(client, "hello", "m1")
        assert await trio.to_thread.run_sync(first, 1) == 2
        assert (await client.get("/api/events", headers={"last-event-id": "x"})).status_code == 400


async def test_a_number_that_is_gone_or_has_not_come_is_told_as_where_the_events_go_on(door: Served) -> None:
    def begins(since: int) -> tuple[int, str]:
        """Where they go on, and what is told first of what happens then."""
        with connect(door.url, door.token) as machine, closing(machine.events("main", since=since)) as found:
            ok = next(found)
            assert isinstance(ok, wire.Ok)
            machine.ask(wire.Send(id=0, proc="main", mid=f"after {since}", text="hello"), wire.Ok)
            logged = next(one for one in found if isinstance(one, wire.Logged))
            assert logged.entry.lsn > ok.lsn
            return ok.lsn, logged.entry.notes[0].what

    async with door.client() as client:
        for number in range(3):
            await told(client, "hello", f"m{number}")
        cut = (await client.post("/api/compact", json={})).json()["lsn"]
        while door.machine.disk.scan("journal", limit=1):
            await trio.sleep(0.01)
        assert await trio.to_thread.run_sync(begins, 1) == (cut, "interrupt")
        await told(client, "hello", "m3")
        (first,) = records.unkey(door.machine.disk.scan("journal", limit=1)[0][0])
        assert (await trio.to_thread.run_sync(begins, 1))[0] == first - 1
        last = door.machine.kernel.counters.lsn
        assert (await trio.to_thread.run_sync(begins, 1 << 40))[0] >= last


async def test_who_follows_is_followed_on_though_no_body_comes(door: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GET has none, and whether that was read before its answer began is chance."""
    told_of: list[bytes] = []

    async def follow(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", door.port) as stream:
            head = (
                f"GET /api/events?log=true HTTP/1.1\r\nHost: {door.host}\r\nAuthorization: Bearer {door.token}\r\n\r\n"
            )
            await stream.send_all(head.encode())
            seen = b""
            while b"event: logged" not in seen:
                chunk = await stream.receive_some()
                assert chunk, "it was hung up on"
                begun, seen = b"event: ok" in seen, seen + chunk
                if not begun and b"event: ok" in seen:
                    task_status.started()
            told_of.append(seen)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery, door.client() as client:
            with monkeypatch.context() as patch:
                patch.setattr(server, "BODY_S", 0.1)  # of those who follow alone
                for _ in range(16):
                    await nursery.start(follow)
            await trio.sleep(0.3)
            await told(client, "hello", "m1")
    assert len(told_of) == 16


async def test_events_tell_that_the_kernel_stops(tmp_path: Path) -> None:
    def follow(url: str, token: str) -> list[wire.Ok | wire.AnyPush]:
        found = []
        with connect(url, token) as machine:
            for push in machine.events():
                found.append(push)
                if isinstance(push, wire.Ok):
                    machine.ask(wire.Stop(id=0), wire.Ok)
        return found

    async with served(tmp_path) as door:
        last = (await trio.to_thread.run_sync(follow, door.url, door.token))[-1]
        assert isinstance(last, wire.Ended)
        assert last.stopping


async def test_the_python_client_connects_spawns_sends_streams_and_shows_memory(door: Served) -> None:
    def talk() -> None:
        with connect(door.url, door.token) as machine:
            tutor = machine.spawn("tutor", system="You teach chess.", blocks={"human": "Ana"})
            assert tutor.send("hello") == "you said: hello"
            assert "".join(tutor.stream("and again")) == "you said: and again"
            assert machine.spawn("tutor").name == "tutor"  # it lives, and is taken as it is
            assert machine.processes() == ["main", "tutor"]
            texts = tutor.memory().texts.values()
            assert {"hello", "and again"} <= {text.strip() for text in texts}
            assert machine.ask(wire.Outbox(id=0, proc="tutor"), wire.Messages).messages == ()
            with pytest.raises(Refused, match="no process 'nobody'"):
                machine.process("nobody")
        with pytest.raises(Refused, match="a token is needed"), connect(door.url, "x") as machine:
            machine.processes()

    await trio.to_thread.run_sync(talk)


async def test_a_slow_reader_is_dropped_and_hurts_nobody(door: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "WRITE_S", 0.3)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
    sock.connect(("127.0.0.1", door.port))
    head = f"GET /api/events HTTP/1.1\r\nHost: {door.host}\r\nAuthorization: Bearer {door.token}\r\n\r\n"
    sock.sendall(head.encode())
    async with door.client() as client:
        with trio.fail_after(60):
            while not door.machine.feed.subscribers:
                await trio.sleep(0.01)
            number = 0
            while door.machine.feed.subscribers:  # until it is dropped
                number += 1
                assert await told(client, "x" * 30_000, f"m{number}")
    sock.close()


async def test_slow_heads_and_bodies_are_cut_and_others_are_served(
    door: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 20)
    bearer = f"Host: {door.host}\r\nAuthorization: Bearer {door.token}\r\n"
    halves = [b"", b"GET /healthz HT", f"POST /api/send HTTP/1.1\r\n{bearer}Content-Length: 9\r\n\r\n{{".encode()]
    with monkeypatch.context() as patch:
        for name in ("HEAD_S", "BODY_S"):
            patch.setattr(server, name, 0.3)  # of those who are slow alone
        slow = [await trio.open_tcp_stream("127.0.0.1", door.port) for _ in range(45)]
        for number, stream in enumerate(slow):
            with trio.move_on_after(1):
                await stream.send_all(halves[number % 3] or b" ")
        await trio.testing.wait_all_tasks_blocked(0.05)
    async with door.client() as client:
        assert await told(client, "hello", "m1") == "you said: hello"  # while they are at it
    for stream in slow:
        with trio.fail_after(10):
            got = b""
            try:
                async for chunk in stream:
                    got += chunk
            except trio.BrokenResourceError:
                pass
            assert got[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 408", b"HTTP/1.1 503")
        await stream.aclose()


def malformed(rng: random.Random, host: str) -> bytes:
    """A request that is broken somewhere."""
    head = bytearray(f"POST /api/send HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nhello".encode())
    match rng.randrange(5):
        case 0:
            for _ in range(rng.randrange(1, 8)):
                head[rng.randrange(len(head))] = rng.randrange(256)
        case 1:
            del head[rng.randrange(len(head)) :]
        case 2:
            at = rng.randrange(len(head))
            head[at:at] = rng.randbytes(rng.randrange(1, 40))
        case 3:
            lines = bytes(head).split(b"\r\n")
            extra = (b"Content-Length: 7", b"Transfer-Encoding: chunked", b"Host: b", b"Expect: 100-continue", b" x: y")
            lines.insert(rng.randrange(1, 4), rng.choice(extra))
            head = bytearray(b"\r\n".join(lines))
        case _:
            head = bytearray(rng.randbytes(rng.randrange(1, 400)))
    return bytes(head)


STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


async def test_malformed_requests_are_answered_or_dropped_and_others_are_served(door: Served) -> None:
    rng = random.Random(7)
    seen: set[int] = set()
    for number in range(400):
        got = await raw(door, malformed(rng, door.host))
        seen |= {int(status) for status in STATUS.findall(got)}
        if number % 100 == 0:
            async with door.client() as client:
                assert await told(client, "hello", f"m{number}") == "you said: hello"
    assert {400, 401} <= seen <= {100, 400, 401, 403, 404, 405, 413, 421, 431, 501, 505}


async def test_what_is_no_http_is_refused_with_a_request_id(door: Served) -> None:
    long = b"GET / HTTP/1.1\r\nX: " + b"x" * (2 * server.HEAD_BYTES_MAX)
    for sent, status in ((b"nonsense\r\n\r\n", 400), (long, 431), (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505)):
        got = await raw(door, sent)
        head, _, body = got.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status), got
        ident = msgspec.json.decode(body)["error"]["request_id"]
        assert f"x-request-id: {ident}".encode() in head


async def test_requests_that_come_ahead_are_answered_in_order(door: Served) -> None:
    one = f"GET /api/wait?mid=nobody HTTP/1.1\r\nHost: {door.host}\r\nAuthorization: Bearer {door.token}\r\n\r\n"
    two = f"GET /healthz HTTP/1.1\r\nHost: {door.host}\r\n\r\n"
    got = await raw(door, (one + two).encode())
    assert STATUS.findall(got) == [b"404", b"200"]


async def test_an_error_that_nobody_foresaw_is_500_and_the_machine_goes_on(
    door: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fails(*_: object) -> wire.AnyAnswer:
        raise RuntimeError("by chance")

    async with door.client() as client:
        with monkeypatch.context() as patch:
            patch.setattr("drivers.door.desk.carry_out", fails)
            response = await client.get("/api/info")
        error = response.json()["error"]
        assert (response.status_code, error["type"]) == (500, "server_error")
        assert error["request_id"] in capsys.readouterr().err
        assert (await client.get("/api/info")).status_code == 200


async def test_metrics_are_what_prometheus_reads_and_count_what_was_done(door: Served) -> None:
    async with door.client() as client:
        await told(client, "hello", "m1")
        await client.get("/nowhere")
        response = await client.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {family.name: family for family in text_string_to_metric_families(response.text)}
    assert all(family.documentation for family in found.values())

    def value(name: str, family: str = "", **labels: str) -> float:
        samples = found[family or name.removesuffix("_total")].samples
        return next(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())

    accounts = door.machine.kernel.procs[1].accounts
    assert value("llmos_processes", state="idle") == 1
    assert value("llmos_tokens_total", kind="prefill") == accounts.prefill > 0
    assert value("llmos_tokens_total", kind="generated") == accounts.emitted > 0
    assert (value("llmos_turns_total"), value("llmos_messages_total")) == (1, 1)
    assert value("llmos_http_requests_total", status="404") == 1
    assert value("llmos_interrupts_total", line="user") == 1
    for name in ("llmos_interrupt_to_delivery_seconds", "llmos_interrupt_to_token_seconds"):
        buckets = [one for one in found[name].samples if one.name.endswith("_bucket") and one.labels["line"] == "user"]
        counts = [one.value for one in buckets]
        assert counts == sorted(counts)
        assert (buckets[-1].labels["le"], counts[-1]) == ("+Inf", 1)
        assert value(f"{name}_count", name, line="user") == 1


@pytest.mark.parametrize(("which", "paths"), [("all", 3), ("errors", 2), ("none", 0)])
async def test_each_line_of_the_log_names_its_request_and_none_has_a_query(
    tmp_path: Path, which: Any, paths: int, capfd: pytest.CaptureFixture[str]
) -> None:
    async with served(tmp_path, given=Http("127.0.0.1:0", log=which)) as door, door.client() as client:
        asked = [
            await client.get("/api/info"),
            await client.get("/api/%1b[2Jevil?token=secret"),
            await client.get("/api/ps", headers={"authorization": "Bearer no"}),
        ]
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    shown = [(one["request_id"], one["status"]) for one in lines]
    assert shown == [(one.headers["x-request-id"], one.status_code) for one in asked[3 - paths :]]
    for one in lines:
        assert one["event"] == "request"
        assert "secret" not in str(one)
        assert not UNSEEN.search(one["path"])


async def test_hosts_and_origins_are_as_they_are_now(door: Served, tmp_path: Path) -> None:
    live = Live(Http("127.0.0.1:0"))
    access = Access(tmp_path / token.FILE, live)
    bearer = {"authorization": f"Bearer {door.token}", "host": "late.lan"}
    with pytest.raises(Refusal, match="this is not 'late.lan'"):
        access.check("GET", "/api/ps", bearer)
    live.now = Http("127.0.0.1:0", hosts=("Late.lan",), origins=("https://late.example",))
    access.check("GET", "/api/ps", {**bearer, "origin": "https://late.example"})
